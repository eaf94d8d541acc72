//! What a session wants people to know, and how many lines of one kind it may log: a hundred thousand keys with the same trouble are
//! one trouble.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use etcd_sync_core::etcd::kv::printable;
use etcd_sync_core::link::too_large;
use etcd_sync_core::session::Note;
use etcd_sync_program::logging::DETAIL;
use tracing::{error, info, warn};

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
enum Shown {
    /// It is logged.
    Whole,
    /// Only how many there were lately, with the name of the kind.
    Count(&'static str, u64),
    /// Not at all; it is counted.
    No,
}

impl NoteLimit {
    /// Logs a note, or counts it.
    pub(super) fn log(&self, note: &Note) {
        match self.admit(note, Instant::now()) {
            Shown::Whole => log(note),
            Shown::Count(what, count) => {
                warn!(count, "{what}: the first ten are named above, the others are only counted")
            }
            Shown::No => {}
        }
    }

    /// Decides about one note. After the tenth of a kind only the hundredth, the thousandth and so on show.
    fn admit(&self, note: &Note, now: Instant) -> Shown {
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

/// What the session wants people to know.
fn log(note: &Note) {
    match note {
        Note::LongBacklog { changes, keys } => info!(
            changes,
            keys,
            "a copy is the shorter way: the primary is so many changes ahead, and there are so many keys to compare"
        ),
        Note::CopyBegan { first: true } => info!("first sync begins"),
        Note::CopyBegan { first: false } => info!("resync by difference begins"),
        Note::Planned { deletions, overwrites, scope } => {
            info!(deletions, overwrites, scope, "counted what the resync would take away");
        }
        Note::Saved { key } => warn!(
            key = printable(key),
            "deleted after its value was saved on the standby: nothing proves that the primary has deleted it; see \
             `etcd-sync status`, `etcd-sync restore --saved`"
        ),
        Note::Copied { written, equal } => info!(written, equal, "all values are copied; checking surplus keys"),
        // Operators look for exactly these words.
        Note::Streaming { revision } => info!(revision, "Start Sync update"),
        Note::Wrote { key, deleted, revision } => {
            let what = if *deleted { "deleted" } else { "put" };
            info!(target: DETAIL, key = printable(key), revision, "{what}");
        }
        Note::TooLarge { key, bytes } => error!(
            key = printable(key),
            bytes,
            "the value does not fit a transaction of the standby: this key is missed; {}",
            too_large::remedy(*bytes as u64)
        ),
        Note::Undecodable { key, why } => warn!(
            key = printable(key),
            why, "the value cannot be decoded; it is synchronized as it is, but its owners are not known"
        ),
        Note::Replayed { first, keys } => {
            info!(keys, first = printable(first), "put back what was deleted on the standby");
        }
        Note::KeepsVanishing { key, times, cause } => {
            warn!(key = printable(key), times, cause, "this key keeps vanishing from the standby");
        }
        Note::Audited { compared, missed: 0 } => info!(compared, "compared all keys: nothing is missed"),
        Note::Audited { compared, missed } => info!(compared, missed, "compared all keys; what is missed is put back"),
        Note::KeptLocal { key } => warn!(key = printable(key), "deleted on the primary, but local here: it stays"),
        Note::UnknownOrigin { key } => warn!(
            key = printable(key),
            "only the standby has it, and its history is compacted: it may be local, so it stays; see `etcd-sync check`"
        ),
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
