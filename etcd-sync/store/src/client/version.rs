//! Which etcd versions can be trusted with what.

/// A warning about a server version, with the reason; `None` when nothing is known against it.
///
/// `version` is what `Maintenance.Status` reports, such as `3.5.21`. Below 3.4 the text says that the version is
/// refused: progress requests and fragments do not exist there. Sources: etcd's changelogs for 3.4 to 3.6.
pub fn version_warning(version: &str) -> Option<String> {
    let Some(have) = parse(version) else {
        return Some(format!("etcd reports the version {version:?}, which cannot be read: check it by hand"));
    };
    if have < (3, 4, 0) {
        return Some(format!(
            "etcd {version} is refused: before 3.4 a watch can neither be asked for its progress nor split large \
             revisions; upgrade to {FLOOR} or later"
        ));
    }
    let reasons: Vec<&str> =
        KNOWN_BUGS.iter().filter(|(_, fixed)| lacks(have, fixed)).map(|&(reason, _)| reason).collect();
    if reasons.is_empty() {
        return None;
    }
    Some(format!("etcd {version} has known bugs that matter here: {}; upgrade to {FLOOR} or later", reasons.join(", ")))
}

type Version = (u64, u64, u64);

const FLOOR: &str = "3.5.28 / 3.6.9";

/// What goes wrong, and the versions that fixed it, one per minor release, ascending. Minors above the last are fine.
const KNOWN_BUGS: &[(&str, &[Version])] = &[
    ("a watch can report progress ahead of its events", &[(3, 4, 25), (3, 5, 8)]),
    ("a watch can lose events", &[(3, 5, 13)]),
    ("a compaction can lose deletes from a watch", &[(3, 5, 18)]),
    ("linearizable reads can be stale", &[(3, 5, 28), (3, 6, 9)]),
];

/// Whether `have` lacks a fix. A minor release older than the first fixed one never got it.
fn lacks(have: Version, fixed: &[Version]) -> bool {
    match fixed.iter().find(|fix| (fix.0, fix.1) == (have.0, have.1)) {
        Some(&fix) => have < fix,
        None => fixed.first().is_some_and(|&first| have < first),
    }
}

/// `3.5.21`, `3.6.0-rc.1` (read as 3.6.0), `v3.5.1+vendor`.
fn parse(version: &str) -> Option<Version> {
    let plain = version.trim().trim_start_matches('v').split(['-', '+']).next()?;
    let mut parts = plain.split('.').map(|part| part.parse().ok());
    let parsed = (parts.next()??, parts.next()??, parts.next().unwrap_or(Some(0))?);
    parts.next().is_none().then_some(parsed)
}

#[cfg(test)]
mod tests {
    use super::version_warning;

    #[test]
    fn fixed_versions_pass() {
        for version in ["3.5.28", "3.5.35", "3.6.9", "3.6.16", "3.7.0", "v3.6.10+vendor", "4.0.0"] {
            assert_eq!(version_warning(version), None, "{version}");
        }
    }

    #[test]
    fn old_versions_say_why() {
        let reasons = |version| version_warning(version).unwrap();
        assert!(reasons("3.5.27").contains("stale") && !reasons("3.5.27").contains("lose"));
        assert!(reasons("3.6.8").contains("stale") && !reasons("3.6.8").contains("lose"));
        assert!(reasons("3.6.0-rc.1").contains("stale"));
        assert!(reasons("3.5.17").contains("lose deletes") && !reasons("3.5.17").contains("lose events"));
        assert!(reasons("3.5.7").contains("progress ahead"));
        assert!(reasons("3.4.24").contains("progress ahead") && reasons("3.4.30").contains("stale"));
        assert!(!reasons("3.4.30").contains("progress ahead"));
        assert!(reasons("3.3.27").contains("refused"));
        assert!(reasons("nonsense").contains("by hand"));
    }
}
