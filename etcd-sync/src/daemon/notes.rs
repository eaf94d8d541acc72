//! How many lines of one kind a session may log: a hundred thousand keys with the same trouble are one trouble.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use etcd_sync_core::session::Note;

/// Keys named in the log for each kind of note.
const NAMED: u64 = 10;

/// After so long they are named again.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3_600);

/// Counts notes of the process, by kind.
#[derive(Debug, Default)]
pub(super) struct NoteLimit(Mutex<HashMap<&'static str, Kind>>);

#[derive(Debug)]
struct Kind {
    since: Instant,
    count: u64,
}

/// What becomes of a note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// It is logged.
    Whole,
    /// Only how many there were lately, with the name of the kind.
    Count(&'static str, u64),
    /// Not at all; it is counted.
    No,
}

impl NoteLimit {
    /// Decides about one note. After the tenth of a kind only the hundredth, the thousandth and so on show.
    pub(super) fn admit(&self, note: &Note, now: Instant) -> Shown {
        let Some(name) = kind(note) else { return Shown::Whole };
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = kinds.entry(name).or_insert(Kind { since: now, count: 0 });
        if now.saturating_duration_since(kind.since) > FORGOTTEN_AFTER {
            *kind = Kind { since: now, count: 0 };
        }
        kind.count += 1;
        match kind.count {
            ..=NAMED => Shown::Whole,
            count if is_power_of_ten(count) => Shown::Count(name, count),
            _ => Shown::No,
        }
    }
}

/// Notes that come once for each key.
fn kind(note: &Note) -> Option<&'static str> {
    match note {
        Note::TooLarge { .. } => Some("values that do not fit a transaction of the standby"),
        Note::Undecodable { .. } => Some("values that cannot be decoded"),
        Note::KeptLocal { .. } => Some("keys deleted on the primary that are local here"),
        Note::UnknownOrigin { .. } => Some("surplus keys of unknown origin"),
        _ => None,
    }
}

fn is_power_of_ten(count: u64) -> bool {
    10_u64.checked_pow(count.ilog10()) == Some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_are_named_and_the_rest_is_counted() {
        let (limit, now) = (NoteLimit::default(), Instant::now());
        let note = Note::UnknownOrigin { key: "/registry/a".into() };
        let admit = |count: u64, now| (0..count).map(|_| limit.admit(&note, now)).collect::<Vec<_>>();
        let shown = admit(100_000, now);
        let whole = shown.iter().filter(|shown| **shown == Shown::Whole).count();
        let counts: Vec<u64> = shown
            .iter()
            .filter_map(|shown| match shown {
                Shown::Count(_, count) => Some(*count),
                _ => None,
            })
            .collect();
        assert_eq!((whole, counts), (10, vec![100, 1_000, 10_000, 100_000]));
        // Of another kind, and an hour later.
        assert_eq!(limit.admit(&Note::KeptLocal { key: "/registry/a".into() }, now), Shown::Whole);
        assert_eq!(admit(1, now + FORGOTTEN_AFTER * 2), [Shown::Whole]);
        assert_eq!(limit.admit(&Note::CopyBegan { first: true }, now), Shown::Whole);
    }
}
