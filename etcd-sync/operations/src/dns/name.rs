//! Names of hosts and zones.

/// A text that is no name of a host or zone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a domain name of letters, digits, dashes and dots, like global.example.com")]
pub struct BadName;

/// The name in the form used here: lower case, no dot at its end. At most 253 characters in labels of 1 to 63 (RFC 1035); no
/// wildcard, no escapes.
pub fn name(text: &str) -> Result<String, BadName> {
    let bare = text.strip_suffix('.').unwrap_or(text);
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let good = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(allowed) && !label.starts_with('-');
    if bare.len() > 253 || !bare.split('.').all(good) {
        return Err(BadName);
    }
    Ok(bare.to_ascii_lowercase())
}

/// Whether `name` is `zone` or lies below it. Both as [`name`] gives them.
pub fn below(name: &str, zone: &str) -> bool {
    name == zone || name.strip_suffix(zone).is_some_and(|rest| rest.ends_with('.'))
}

/// The name itself and every name above it, the longest first, without the root.
pub fn parents(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(name), |name| name.split_once('.').map(|(_, above)| above))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_come_out_in_one_form() {
        assert_eq!(name("Global.Example.COM.").unwrap(), "global.example.com");
        assert_eq!(name("corp").unwrap(), "corp");
        for bad in ["", ".", "a..b", "*.example.com", "a b", "a/b", "-a.b", "10.0.0.1:53", &"a".repeat(64), "ü.de"] {
            assert_eq!(name(bad), Err(BadName), "{bad}");
        }
        assert_eq!(name(&vec!["a".repeat(63); 4].join(".")), Err(BadName));
    }

    #[test]
    fn below_stops_at_a_label() {
        assert!(below("a.b.c", "b.c") && below("b.c", "b.c"));
        assert!(!below("ab.c", "b.c") && !below("c", "b.c"));
        assert_eq!(parents("a.b.c").collect::<Vec<_>>(), ["a.b.c", "b.c", "c"]);
    }

    proptest! {
        #[test]
        fn every_parent_is_above(text in "[a-z]{1,5}(\\.[a-z]{1,5}){0,5}") {
            let made = name(&text).unwrap();
            prop_assert!(parents(&made).all(|above| below(&made, above)));
            prop_assert_eq!(parents(&made).count(), made.split('.').count());
        }

        #[test]
        fn any_text_is_taken_or_refused(text in ".*") {
            if let Ok(made) = name(&text) {
                prop_assert_eq!(name(&made), Ok(made));
            }
        }
    }
}
