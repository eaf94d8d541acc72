//! The verdict: what the record of a history and the primary as it is now prove together.

use std::collections::HashMap;

use super::record::{Changed, Created, HistoryRecord};
use super::witness::content_hash;
use crate::etcd::kv::{KeyValue, Revision};

/// A recorded key as the primary has it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Revision of its creation.
    pub create_revision: Revision,
    /// Revision of its last change.
    pub mod_revision: Revision,
    /// [`content_hash`] of its value.
    pub hash: String,
}

impl Found {
    /// What is to be known of a key.
    pub fn of(kv: &KeyValue) -> Self {
        Found { create_revision: kv.create_revision, mod_revision: kv.mod_revision, hash: content_hash(&kv.value) }
    }
}

/// A recorded key, read again: `None` when the primary does not have it any more.
pub type Sighting = Option<Found>;

/// The recorded keys, read again.
pub type Sightings = HashMap<String, Sighting>;

/// Which history the primary shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Another one, for this reason.
    Another(String),
    /// The one on record, proved up to a revision.
    Same {
        /// Proved up to this revision of the primary.
        revision: Revision,
        /// What was written to the standby up to this revision of the standby came from the proved part; 0: not known.
        standby_revision: Revision,
    },
    /// Nothing proves either.
    Neither,
}

/// Judges by the recorded keys.
pub fn judge(record: &HistoryRecord, sightings: &Sightings) -> Verdict {
    let found = |key: &str| sightings.get(key).and_then(Option::as_ref);
    let (mut revision, mut standby_revision) = (0, 0);
    let mut survivor = |entry_revision: Revision, entry_standby_revision: Revision| {
        revision = revision.max(entry_revision);
        standby_revision = standby_revision.max(entry_standby_revision);
    };
    for entry in &record.changed {
        let Some(now) = found(&entry.key) else { continue };
        if now.mod_revision == entry.revision && now.hash == entry.hash {
            survivor(entry.revision, entry.standby_revision);
        } else if now.mod_revision <= record.revision {
            return Verdict::Another(format!(
                "{} was changed at revision {}, which was followed up to {}, where it had another value",
                entry.key, now.mod_revision, record.revision
            ));
        }
    }
    for entry in &record.created {
        let Some(now) = found(&entry.key) else { continue };
        if now.create_revision == entry.revision {
            survivor(entry.revision, entry.standby_revision);
        } else if now.create_revision <= record.revision {
            return Verdict::Another(format!(
                "{} was created at revision {}, but the one that was followed created it at {}",
                entry.key, now.create_revision, entry.revision
            ));
        }
    }
    match revision {
        0 => Verdict::Neither,
        revision => Verdict::Same { revision, standby_revision },
    }
}

/// The recorded keys that still stand as they were recorded.
pub fn survivors(record: &HistoryRecord, sightings: &Sightings) -> (Vec<Changed>, Vec<Created>) {
    let found = |key: &str| sightings.get(key).and_then(Option::as_ref);
    let is_unchanged = |entry: &&Changed| {
        found(&entry.key).is_some_and(|now| now.mod_revision == entry.revision && now.hash == entry.hash)
    };
    let stands = |entry: &&Created| found(&entry.key).is_some_and(|now| now.create_revision == entry.revision);
    let changed = record.changed.iter().filter(is_unchanged).cloned().collect();
    (changed, record.created.iter().filter(stands).cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> HistoryRecord {
        let changed = |key: &str, revision, standby_revision| Changed {
            key: key.into(),
            revision,
            hash: content_hash(key.as_bytes()),
            standby_revision,
        };
        let created = |key: &str, revision, standby_revision| Created { key: key.into(), revision, standby_revision };
        HistoryRecord {
            format: HistoryRecord::FORMAT,
            primary: "c1".into(),
            primary_raft: None,
            standby_raft: None,
            revision: 100,
            consistent: 100,
            changed: vec![changed("a", 98, 500), changed("b", 70, 400)],
            created: vec![created("c", 90, 450)],
            at_ms: 0,
        }
    }

    fn sightings(all: &[(&str, Revision, Revision, &str)]) -> Sightings {
        let one = |&(key, create_revision, mod_revision, value): &(&str, Revision, Revision, &str)| {
            let found = Found { create_revision, mod_revision, hash: content_hash(value.as_bytes()) };
            (key.to_owned(), Some(found))
        };
        all.iter().map(one).collect()
    }

    #[test]
    fn the_newest_survivor_proves_up_to_its_revision() {
        let same = |revision, standby_revision| Verdict::Same { revision, standby_revision };
        let judge = |all: &[(&str, Revision, Revision, &str)]| judge(&record(), &sightings(all));
        assert_eq!(judge(&[("a", 1, 98, "a"), ("b", 1, 70, "b")]), same(98, 500));
        // Changed since, so only the older one stands.
        assert_eq!(judge(&[("a", 1, 140, "x"), ("b", 1, 70, "b")]), same(70, 400));
        // All values were encrypted again, which changed every key: its creation is left.
        assert_eq!(judge(&[("a", 1, 140, "x"), ("b", 1, 141, "y"), ("c", 90, 142, "z")]), same(90, 450));
        assert_eq!(judge(&[("a", 1, 140, "x"), ("c", 130, 142, "z")]), Verdict::Neither);
        assert_eq!(judge(&[]), Verdict::Neither, "what is absent proves nothing");
    }

    #[test]
    fn another_state_at_or_before_the_record_proves_another_history() {
        for other in [
            ("a", 1, 60, "older"),
            ("a", 1, 98, "other"),
            ("b", 1, 100, "b"),
            ("c", 89, 89, "created earlier"),
            ("c", 95, 95, "created later, before the record"),
        ] {
            let judged = judge(&record(), &sightings(&[("a", 1, 98, "a"), other]));
            let judged_alone = judge(&record(), &sightings(&[other]));
            assert!(matches!(judged_alone, Verdict::Another(_)), "{other:?}: {judged:?}");
        }
        assert!(!matches!(judge(&record(), &sightings(&[("a", 1, 101, "later")])), Verdict::Another(_)));
    }
}
