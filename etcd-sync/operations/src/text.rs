//! Text for people at a terminal: at most [`WIDTH`] columns.

use std::error::Error;
use std::time::{Duration, UNIX_EPOCH};

use crate::saved::fingerprint;

/// Columns of a terminal that nobody has widened.
pub const WIDTH: usize = 80;

/// Breaks a text into lines: the first begins with `first`, the others with `rest`. A word that is longer than a line (a key,
/// a URL) stays whole. Ends with a line feed.
pub fn wrap(text: &str, first: &str, rest: &str) -> String {
    let mut whole = first.to_owned();
    let mut column = first.chars().count();
    let mut empty = true;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if !empty && column + 1 + length > WIDTH {
            whole.push('\n');
            whole.push_str(rest);
            (column, empty) = (rest.chars().count(), true);
        }
        if !empty {
            whole.push(' ');
            column += 1;
        }
        whole.push_str(word);
        (column, empty) = (column + length, false);
    }
    let end = whole.trim_end().len();
    whole.truncate(end);
    whole.push('\n');
    whole
}

/// A moment in Unix milliseconds: `2026-01-02T03:04:05Z`.
pub fn moment(at_ms: u64) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(at_ms)).to_string()
}

/// A time span, as exact as a person needs it: `0.3 s`, `12.5 s`, `3m 20s`.
pub fn span(ms: u64) -> String {
    match ms {
        0..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        _ => humantime::format_duration(Duration::from_secs(ms / 1_000)).to_string(),
    }
}

/// How long something lasts or is ago, as people say it, in two units at most: `0.3 s`, `3h 12m`, `34 days`.
pub fn age(ms: u64) -> String {
    let days = ms / 86_400_000;
    if days >= 2 {
        return format!("{days} days");
    }
    span(ms).split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// `1 key`, `2 keys`.
pub fn count(number: u64, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

/// An error with all that caused it, each part once: many say their cause's words themselves.
pub fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(&format!(": {words}"));
        }
        source = cause.source();
    }
    text
}

/// A command line as plans and journals show it: it may hold a secret, so only its first word, unless that sets a variable,
/// and a digest by which it is recognized.
pub fn redacted_command(command: &str) -> String {
    let digest: String = fingerprint(command.as_bytes())[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    match command.split_once(char::is_whitespace) {
        Some((first, _)) if first.contains('=') => format!("`…` ({digest})"),
        Some((first, _)) => format!("`{first} …` ({digest})"),
        None => format!("`{command}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot read a.yaml: {0}")]
        struct Repeats(#[source] std::io::Error);
        #[derive(Debug, thiserror::Error)]
        #[error("no plan")]
        struct Silent(#[source] Repeats);
        let error = Silent(Repeats(std::io::Error::other("no such file")));
        assert_eq!(causes(&error), "no plan: cannot read a.yaml: no such file");
    }

    #[test]
    fn lines_end_before_the_edge_and_long_words_stay_whole() {
        let text = "a rather long text that must be broken somewhere before the eightieth column is reached, and then once more";
        let wrapped = wrap(text, "  1 ", "    ");
        assert!(wrapped.lines().all(|line| line.len() <= WIDTH), "{wrapped}");
        assert!(wrapped.lines().skip(1).all(|line| line.starts_with("    ")), "{wrapped}");
        assert_eq!(wrapped.split_whitespace().skip(1).collect::<Vec<_>>().join(" "), text);
        let key = "k".repeat(100);
        assert_eq!(wrap(&format!("the key {key} stays"), "", "  "), format!("the key\n  {key}\n  stays\n"));
        assert_eq!(wrap("", "", ""), "\n");
    }

    #[test]
    fn spans_and_moments_read_well() {
        assert_eq!((span(0), span(12_345), span(200_000)), ("0.0 s".into(), "12.3 s".into(), "3m 20s".into()));
        assert_eq!(moment(1_767_323_045_678), "2026-01-02T03:04:05Z");
        assert_eq!((count(1, "key"), count(0, "key")), ("1 key".into(), "0 keys".into()));
    }
}
