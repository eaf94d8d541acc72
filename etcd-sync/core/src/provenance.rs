//! Tells a local key of the standby from a mirrored one, without a record of every key: the few local ones are recorded.
//!
//! A creation on the standby is ours exactly when the transaction that made it also wrote one of our marks (see
//! [`StateKeys::marks_own_revision`]). Creations that are not ours are foreign, and their keys are local until we write them.

use std::collections::{BTreeMap, HashSet, VecDeque};

use bytes::Bytes;

use crate::kv::{Event, Revision};
use crate::scope::{Decision, Scope};
use crate::state::StateKeys;

/// Most local keys in scope that a link keeps on record. A standby with more is no standby: it has a life of its own.
pub const LOCAL_KEYS_MAX: usize = 100_000;

/// Where a key came from that only the standby has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Made on the standby by somebody else: never deleted.
    Local,
    /// Written by a synchronizer of this link: the primary must have deleted it.
    Mirrored,
    /// The answer lies in the standby's history at its creation revision, see [`revision_is_ours`].
    AskHistory,
}

/// The moments a link's record speaks of, all in revisions of the standby.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moments {
    /// Before the link wrote anything; 0 once the first sync is complete, because keys as old as this may be mirrored then.
    pub base: Revision,
    /// Foreign creations up to here are in the ledger.
    pub seen: Revision,
    /// Last write of any synchronizer of the link before this session began.
    pub last_write: Revision,
    /// When this session began: all its own writes are later.
    pub began: Revision,
}

impl Moments {
    /// Judges a key that only the standby has by the revision of its creation.
    pub fn origin(&self, in_ledger: bool, create_revision: Revision) -> Origin {
        let between = self.last_write < create_revision && create_revision <= self.began;
        if in_ledger || create_revision <= self.base || between {
            Origin::Local
        } else if create_revision <= self.seen {
            Origin::Mirrored
        } else {
            Origin::AskHistory
        }
    }
}

/// Whether a past revision of the standby was a transaction of ours: `marks` are the modification revisions our marks had
/// *at* that revision.
pub fn revision_is_ours(revision: Revision, marks: &[Revision]) -> bool {
    marks.contains(&revision)
}

/// Follows the standby's own history and finds the foreign creations in it.
#[derive(Debug)]
pub struct Tracker {
    /// Keys of the revision being looked at: created (`true`) or a local one deleted.
    group: Vec<(Bytes, bool)>,
    group_is_ours: bool,
    revision: Revision,
    seen: Revision,
}

impl Tracker {
    /// Goes on behind `seen`.
    pub fn new(seen: Revision) -> Self {
        Tracker { group: Vec::new(), group_is_ours: false, revision: seen, seen }
    }

    /// Everything up to this revision has been looked at.
    pub fn seen(&self) -> Revision {
        self.seen
    }

    /// Takes the standby's changes in their order; `complete` is false when the last revision goes on in the next call.
    pub fn observe(
        &mut self,
        events: &[Event],
        complete: bool,
        scope: &Scope,
        keys: &StateKeys,
        ledger: &mut Ledger,
    ) {
        for event in events {
            if event.revision() != self.revision {
                self.close(ledger);
                self.revision = event.revision();
            }
            if keys.marks_own_revision(event.key()) {
                self.group_is_ours = true;
                continue;
            }
            match event {
                Event::Put(kv) if kv.create_revision == kv.mod_revision && scope.decide_kv(kv) == Decision::InScope => {
                    self.group.push((kv.key.clone(), true));
                }
                Event::Delete { key, .. } if ledger.holds(key) => self.group.push((key.clone(), false)),
                _ => {}
            }
        }
        if complete {
            self.close(ledger);
        }
    }

    /// The standby's watch says that nothing up to `revision` is outstanding.
    pub fn progress(&mut self, revision: Revision) {
        self.seen = self.seen.max(revision);
    }

    fn close(&mut self, ledger: &mut Ledger) {
        let ours = std::mem::take(&mut self.group_is_ours);
        for (key, created) in self.group.drain(..) {
            match (created, ours) {
                (true, false) => ledger.add(key, self.revision),
                (true, true) => {}
                (false, _) => ledger.remove(key, self.revision),
            }
        }
        self.seen = self.seen.max(self.revision);
    }
}

/// The keys on record as local, and what of it is not written to the standby yet.
#[derive(Debug, Default)]
pub struct Ledger {
    local: HashSet<Bytes>,
    unwritten: VecDeque<Entry>,
}

#[derive(Debug)]
struct Entry {
    key: Bytes,
    /// The standby's revision that told of it.
    revision: Revision,
}

/// Changes of the ledger for one transaction: `true` adds the key, `false` removes it.
pub type LedgerPatch = BTreeMap<Bytes, bool>;

impl Ledger {
    /// The ledger as the standby holds it.
    pub fn new(local: impl IntoIterator<Item = Bytes>) -> Self {
        Ledger { local: local.into_iter().map(own).collect(), unwritten: VecDeque::new() }
    }

    /// Whether the key is on record as local.
    pub fn holds(&self, key: &Bytes) -> bool {
        self.local.contains(key)
    }

    /// How many keys are on record.
    pub fn len(&self) -> usize {
        self.local.len()
    }

    /// Whether no key is on record.
    pub fn is_empty(&self) -> bool {
        self.local.is_empty()
    }

    /// How many changes wait to be written.
    pub fn unwritten(&self) -> usize {
        self.unwritten.len()
    }

    /// Puts a key on record, learnt at `revision` of the standby.
    pub fn add(&mut self, key: Bytes, revision: Revision) {
        let key = own(key);
        if self.local.insert(key.clone()) {
            self.unwritten.push_back(Entry { key, revision });
        }
    }

    /// Takes a key off the record.
    pub fn remove(&mut self, key: Bytes, revision: Revision) {
        if self.local.remove(&key) {
            self.unwritten.push_back(Entry { key, revision });
        }
    }

    /// Takes a key off the record because we write it; the caller removes its entry in the same transaction.
    pub fn overwrite(&mut self, key: &Bytes) -> bool {
        self.local.remove(key)
    }

    /// Up to `most` changes to write with the next transaction, and the revision of the standby that the written record
    /// then covers, `seen` if nothing is left.
    pub fn take(&mut self, most: usize, seen: Revision) -> (LedgerPatch, Revision) {
        let count = most.min(self.unwritten.len());
        let taken: Vec<_> = self.unwritten.drain(..count).collect();
        let patch = taken.into_iter().map(|entry| (entry.key.clone(), self.local.contains(&entry.key))).collect();
        let covered = self.unwritten.front().map_or(seen, |next| seen.min(next.revision - 1));
        (patch, covered)
    }
}

/// A copy: a key from an answer is a slice that would keep the whole answer in memory.
fn own(key: Bytes) -> Bytes {
    Bytes::copy_from_slice(&key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::KeyValue;
    use crate::scope::ScopeConfig;

    fn created(key: &str, revision: Revision) -> Event {
        Event::Put(KeyValue {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::new(),
            create_revision: revision,
            mod_revision: revision,
            lease: 0,
        })
    }

    const A: &str = "/registry/configmaps/apps/a";
    const B: &str = "/registry/configmaps/apps/b";

    #[test]
    fn only_creations_without_our_mark_are_local() {
        let (scope, keys) = (Scope::new(&ScopeConfig::default()).unwrap(), StateKeys::new("default"));
        let (mut ledger, mut tracker) = (Ledger::default(), Tracker::new(10));
        let mark = created("/etcd-sync/default/checkpoint", 11);
        tracker.observe(&[created(A, 11)], false, &scope, &keys, &mut ledger);
        tracker.observe(&[mark, created(B, 12)], true, &scope, &keys, &mut ledger);
        assert!(!ledger.holds(&Bytes::from_static(A.as_bytes())));
        assert!(ledger.holds(&Bytes::from_static(B.as_bytes())));
        assert_eq!(tracker.seen(), 12);
        tracker.observe(
            &[Event::Delete { key: Bytes::from_static(B.as_bytes()), revision: 13 }],
            true,
            &scope,
            &keys,
            &mut ledger,
        );
        assert!(ledger.is_empty());
    }

    #[test]
    fn the_record_never_claims_more_than_is_written() {
        let mut ledger = Ledger::default();
        ledger.add(Bytes::from_static(b"a"), 11);
        ledger.add(Bytes::from_static(b"b"), 15);
        let (patch, covered) = ledger.take(1, 20);
        assert_eq!((patch.len(), covered), (1, 14));
        let (patch, covered) = ledger.take(1, 20);
        assert_eq!((patch.len(), covered), (1, 20));
    }

    #[test]
    fn origin_follows_the_moment_of_creation() {
        let moments = Moments { base: 0, seen: 50, last_write: 60, began: 70 };
        assert_eq!(moments.origin(false, 40), Origin::Mirrored);
        assert_eq!(moments.origin(true, 40), Origin::Local);
        assert_eq!(moments.origin(false, 55), Origin::AskHistory);
        assert_eq!(moments.origin(false, 61), Origin::Local);
        assert_eq!(moments.origin(false, 71), Origin::AskHistory);
        assert_eq!(Moments { base: 45, ..moments }.origin(false, 40), Origin::Local);
    }
}
