//! Text for people at a terminal: at most [`WIDTH`] columns; how times, counts and lists are written.

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
    rfc3339(Duration::from_millis(at_ms))
}

/// A moment in Unix seconds, as certificates have it: `2026-12-01T10:00:00Z`.
pub fn date(seconds: i64) -> String {
    rfc3339(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

fn rfc3339(since: Duration) -> String {
    // What the formatter cannot show (beyond the year 9999) is as good as forever.
    let most = Duration::from_secs(253_402_300_799);
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since.min(most)).to_string()
}

/// A time span, as exact as a person needs it: `0.3 s`, `12.5 s`, `3m 20s`.
pub fn span(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds}.{} s", time.subsec_millis() / 100),
        seconds => humantime::format_duration(Duration::from_secs(seconds)).to_string(),
    }
}

/// How long something lasts or is ago, as people say it, in two units at most: `0.3 s`, `3h 12m`, `34 days`.
pub fn age(time: Duration) -> String {
    let days = time.as_secs() / 86_400;
    if days >= 2 {
        return format!("{days} days");
    }
    span(time).split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// How long ago a moment is, both in Unix milliseconds: `3h 12m ago`.
pub fn ago(now_ms: u64, then_ms: u64) -> String {
    format!("{} ago", age(Duration::from_millis(now_ms.saturating_sub(then_ms))))
}

/// An age for a column of a table, in its largest unit, as kubectl shows it: `90s`, `12m`, `3d`.
pub fn short_age(time: Duration) -> String {
    match time.as_secs() {
        s @ 0..120 => format!("{s}s"),
        s @ 120..7_200 => format!("{}m", s / 60),
        s @ 7_200..172_800 => format!("{}h", s / 3_600),
        s => format!("{}d", s / 86_400),
    }
}

/// `1 key`, `2 keys`.
pub fn count(number: u64, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

/// The first few of a list, and how many more there are; `count` is all of them.
pub fn first<T: AsRef<str>>(names: &[T], count: u64, most: usize) -> String {
    let shown: Vec<&str> = names.iter().take(most).map(AsRef::as_ref).collect();
    let more = count.saturating_sub(shown.len() as u64);
    let mut text = shown.join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
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
        let ms = Duration::from_millis;
        assert_eq!([0, 12_345, 59_999, 200_000].map(|time| span(ms(time))), ["0.0 s", "12.3 s", "59.9 s", "3m 20s"]);
        let ages = [300, 11_525_000, 172_799_999, 172_800_000].map(|time| age(ms(time)));
        assert_eq!(ages, ["0.3 s", "3h 12m", "1day 23h", "2 days"]);
        assert_eq!((ago(62_000, 1_000), ago(0, 9)), ("1m 1s ago".into(), "0.0 s ago".into()));
        let short = [0, 119, 120, 7_199, 7_200, 172_799, 172_800].map(|s| short_age(Duration::from_secs(s)));
        assert_eq!(short, ["0s", "119s", "2m", "119m", "2h", "47h", "2d"]);
        assert_eq!(
            (moment(1_767_323_045_678), date(1_767_323_045)),
            ("2026-01-02T03:04:05Z".into(), moment(1_767_323_045_000))
        );
        assert_eq!((date(-1), date(i64::MAX)), ("1970-01-01T00:00:00Z".into(), "9999-12-31T23:59:59Z".into()));
        assert_eq!((first(&["a", "b"], 5, 1), first(&["a", "b"], 2, 9)), ("a and 4 more".into(), "a, b".into()));
        assert_eq!((count(1, "key"), count(0, "key")), ("1 key".into(), "0 keys".into()));
    }
}
