//! How times and lists are written.

use std::time::{Duration, SystemTime};

/// A length of time: `0.3 s`, `3h 12m`, `34 days`.
pub fn span(time: Duration) -> String {
    let days = time.as_secs() / 86_400;
    if days >= 2 {
        return format!("{days} days");
    }
    // Two units are enough for people.
    let text = crate::text::span(time.as_millis() as u64);
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// How long ago a moment is, both in Unix milliseconds.
pub fn ago(now_ms: u64, then_ms: u64) -> String {
    format!("{} ago", span(Duration::from_millis(now_ms.saturating_sub(then_ms))))
}

/// A moment in Unix seconds: `2026-12-01T10:00:00Z`.
pub fn date(seconds: i64) -> String {
    let since = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    // What the formatter cannot show (beyond the year 9999) is as good as forever.
    let most = Duration::from_secs(253_402_300_799);
    humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + since.min(most)).to_string()
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
