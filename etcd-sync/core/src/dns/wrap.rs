//! Text for a terminal of 80 columns.

/// Columns of a line.
pub const WIDTH: usize = 80;

/// Breaks `text` at spaces into lines of at most [`WIDTH`] columns, each behind `indent` spaces. A longer word stands alone.
/// Ends with a line break.
pub fn wrap(indent: usize, text: &str) -> String {
    hanging(&" ".repeat(indent), indent, text)
}

/// As [`wrap`], the first line behind `head`, the others behind `indent` spaces.
pub fn hanging(head: &str, indent: usize, text: &str) -> String {
    let mut out = String::new();
    let mut line = head.to_owned();
    let mut empty = true;
    for word in text.split_whitespace() {
        let gap = usize::from(!empty);
        if !empty && line.chars().count() + gap + word.chars().count() > WIDTH {
            out.push_str(line.trim_end());
            out.push('\n');
            line = " ".repeat(indent);
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    out.push_str(line.trim_end());
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_end_before_the_edge() {
        let text = wrap(2, &"word ".repeat(40));
        assert!(text.lines().all(|line| line.len() <= WIDTH && line.starts_with("  word")), "{text}");
        assert_eq!(hanging("a: ", 3, "b c"), "a: b c\n");
        assert_eq!(hanging("a:  ", 4, ""), "a:\n");
    }

    proptest! {
        #[test]
        fn no_word_is_lost(words in proptest::collection::vec("[a-zä]{1,20}", 0..60), indent in 0..20usize) {
            let text = wrap(indent, &words.join(" "));
            prop_assert!(text.lines().all(|line| line.chars().count() <= WIDTH));
            prop_assert_eq!(text.split_whitespace().collect::<Vec<_>>(), words);
        }
    }
}
