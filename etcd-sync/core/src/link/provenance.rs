//! Tells a local key of the standby from a mirrored one, without a record of every key: the few local ones are recorded.
//!
//! A creation on the standby is ours exactly when the transaction that made it also wrote one of our marks (see
//! [`StateKeys::marks_own_revision`]). Creations that are not ours are foreign, and their keys are local until we write them.

use std::collections::{BTreeMap, HashSet, VecDeque};

use bytes::Bytes;

use crate::etcd::kv::{Event, Revision};
use crate::link::state::StateKeys;
use crate::scope::Scope;

/// Most local keys in scope that a link keeps on record. A standby with more is no standby: it has a life of its own.
pub const LOCAL_KEYS_MAX: usize = 100_000;

/// Most mirrored keys on record that others have changed on the standby. With more, no key counts as untouched any more.
pub const EDITED_KEYS_MAX: usize = 20_000;

/// Where a key came from that only the standby has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Made on the standby by somebody else: never deleted.
    Local,
    /// Written by a synchronizer of this link: the primary must have deleted it.
    Mirrored,
    /// The answer lies in the standby's history, see [`Question`].
    AskHistory,
}

/// What to ask the standby's history about a key: whether one of these revisions was ours ([`revision_is_ours`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The key.
    pub key: Bytes,
    /// Its creation.
    pub create_revision: Revision,
    /// Its last change.
    pub mod_revision: Revision,
    /// Revisions still to ask about, the next one last.
    pub ask: Vec<Revision>,
    /// One of them was compacted already.
    pub compacted: bool,
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
    /// Judges a key that only the standby has by the revisions of its creation and its last change.
    pub fn origin(&self, in_ledger: bool, create_revision: Revision, mod_revision: Revision) -> Origin {
        if in_ledger || (self.is_foreign(create_revision) && self.is_foreign(mod_revision)) {
            Origin::Local
        } else if create_revision <= self.seen && !self.is_foreign(create_revision) {
            Origin::Mirrored
        } else {
            Origin::AskHistory
        }
    }

    /// What to query when [`Moments::origin`] is [`Origin::AskHistory`]: a key whose creation or last change is ours was mirrored.
    pub fn question(&self, key: Bytes, create_revision: Revision, mod_revision: Revision) -> Question {
        let mut ask = vec![create_revision, mod_revision];
        ask.dedup();
        ask.retain(|revision| !self.is_foreign(*revision));
        Question { key, create_revision, mod_revision, ask, compacted: false }
    }

    /// Whether no synchronizer of this link wrote anything at that revision, as far as the record shows.
    fn is_foreign(&self, revision: Revision) -> bool {
        revision <= self.base || (self.last_write < revision && revision <= self.began)
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
    /// What the revision being read did to keys that matter here.
    group: Vec<(Bytes, Action)>,
    group_is_ours: bool,
    /// Synchronized keys that another writer deleted.
    lost: Vec<Bytes>,
    revision: Revision,
    seen: Revision,
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Created,
    /// A local key was changed.
    Changed,
    /// A key that is not local was changed.
    Edited,
    /// A local key was deleted.
    Deleted,
    /// A key that is not local was deleted.
    Lost,
}

impl Tracker {
    /// Goes on behind `seen`.
    pub fn new(seen: Revision) -> Self {
        Tracker { group: Vec::new(), group_is_ours: false, lost: Vec::new(), revision: seen, seen }
    }

    /// Everything up to this revision has been read.
    pub fn seen(&self) -> Revision {
        self.seen
    }

    /// Takes the standby's changes in their order; `complete` is false when the last revision goes on in the next call.
    /// `committed` is the revision of our own last write. Mirrored keys that another writer changed go to the record of edited keys. Gives the
    /// synchronized keys that another writer deleted.
    pub fn observe(
        &mut self,
        events: &[Event],
        complete: bool,
        scope: &Scope,
        keys: &StateKeys,
        ledgers: &mut Ledgers<'_>,
        committed: Revision,
    ) -> Vec<Bytes> {
        for event in events {
            if event.revision() != self.revision {
                self.close(ledgers, committed);
                self.revision = event.revision();
            }
            if keys.marks_own_revision(event.key()) {
                self.group_is_ours = true;
                continue;
            }
            let action = match event {
                Event::Put(kv) if kv.create_revision == kv.mod_revision => {
                    // By its key alone: one made under a lease may lose it later.
                    scope.in_scope(&kv.key).then_some(Action::Created)
                }
                Event::Put(kv) if ledgers.local.holds(&kv.key) => Some(Action::Changed),
                Event::Put(kv) => scope.in_scope(&kv.key).then_some(Action::Edited),
                Event::Delete { key, .. } if ledgers.local.holds(key) => Some(Action::Deleted),
                Event::Delete { key, .. } => scope.in_scope(key).then_some(Action::Lost),
            };
            self.group.extend(action.map(|action| (event.key().clone(), action)));
        }
        if complete {
            self.close(ledgers, committed);
        }
        std::mem::take(&mut self.lost)
    }

    /// The standby's watch reports that nothing up to `revision` is outstanding.
    pub fn progress(&mut self, revision: Revision) {
        self.seen = self.seen.max(revision);
    }

    fn close(&mut self, ledgers: &mut Ledgers<'_>, committed: Revision) {
        let Ledgers { local: ledger, edited } = ledgers;
        let ours = std::mem::take(&mut self.group_is_ours);
        for (key, action) in self.group.drain(..) {
            match (action, ours) {
                (Action::Created, false) => ledger.add(key, self.revision, committed),
                (Action::Lost, false) => self.lost.push(key),
                (Action::Edited, false) => edited.add_edited(key, self.revision),
                (Action::Changed, false) | (Action::Lost | Action::Edited, true) => {}
                // Written by us it is mirrored, whatever it was before.
                (Action::Created | Action::Changed, true) | (Action::Deleted, _) => ledger.remove(key, self.revision),
            }
        }
        self.seen = self.seen.max(self.revision);
    }
}

/// Both records of keys of a link.
#[derive(Debug)]
pub struct Ledgers<'a> {
    /// Keys local to the standby.
    pub local: &'a mut Ledger,
    /// Mirrored keys that others have changed.
    pub edited: &'a mut Ledger,
}

/// The keys on record as local, and what of it is not written to the standby yet.
#[derive(Debug, Default)]
pub struct Ledger {
    local: HashSet<Bytes>,
    /// What the standby holds of it: runs behind `local` by what is unwritten.
    written: HashSet<Bytes>,
    unwritten: VecDeque<Entry>,
}

#[derive(Debug)]
struct Entry {
    key: Bytes,
    added: bool,
    /// The standby's revision that told of it.
    revision: Revision,
    /// Not to be written before the standby's history is known up to here: one of our own writes may have taken the key.
    settled_at: Revision,
}

/// Changes of the ledger for one transaction: `true` adds the key, `false` removes it.
pub type LedgerPatch = BTreeMap<Bytes, bool>;

impl Ledger {
    /// The ledger as the standby holds it.
    pub fn new(local: impl IntoIterator<Item = Bytes>) -> Self {
        let local: HashSet<Bytes> = local.into_iter().map(own).collect();
        Ledger { written: local.clone(), local, unwritten: VecDeque::new() }
    }

    /// Whether the key is on record as local.
    pub fn holds(&self, key: &Bytes) -> bool {
        self.local.contains(key)
    }

    /// Whether the standby's record has an entry for the key: whoever writes the key removes it in the same transaction.
    pub fn is_written(&self, key: &Bytes) -> bool {
        self.written.contains(key)
    }

    /// Operations that a put of the key takes: its own, and one for its entry.
    pub fn put_ops(&self, key: &Bytes) -> usize {
        if self.is_written(key) { 2 } else { 1 }
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

    /// Whether the next of them can be written with the standby's history known up to `seen`.
    pub fn is_settled(&self, seen: Revision) -> bool {
        self.unwritten.front().is_none_or(|entry| entry.settled_at <= seen)
    }

    /// Puts a key on record, learnt at `revision` of the standby, to be written once the history up to `settled_at` is known.
    pub fn add(&mut self, key: Bytes, revision: Revision, settled_at: Revision) {
        let key = own(key);
        if self.local.insert(key.clone()) {
            self.unwritten.push_back(Entry { key, added: true, revision, settled_at });
        }
    }

    /// Puts a mirrored key on the record of edited ones, or the mark that there are too many.
    pub fn add_edited(&mut self, key: Bytes, revision: Revision) {
        let key = if self.local.len() < EDITED_KEYS_MAX { key } else { Bytes::new() };
        self.add(key, revision, 0);
    }

    /// The same for a key that may be on record already: its entry is written again, with what is known of it now.
    pub fn add_edited_again(&mut self, key: Bytes) {
        if self.local.contains(&key) && self.unwritten.iter().all(|entry| entry.key != key) {
            self.unwritten.push_back(Entry { key: own(key), added: true, revision: 0, settled_at: 0 });
        } else {
            self.add_edited(key, 0);
        }
    }

    /// Whether a mirrored key was never changed by others, as far as this record of edited keys shows.
    pub fn is_untouched(&self, key: &Bytes) -> bool {
        !self.local.contains(key) && !self.local.contains(&b""[..])
    }

    /// Takes a key off the record.
    pub fn remove(&mut self, key: Bytes, revision: Revision) {
        if self.local.remove(&key) {
            self.unwritten.push_back(Entry { key, added: false, revision, settled_at: 0 });
        }
    }

    /// Takes all keys off the record that are not wanted on it any more.
    pub fn retain(&mut self, is_wanted: impl Fn(&Bytes) -> bool) {
        let mut gone: Vec<Bytes> =
            self.local.iter().filter(|key| !key.is_empty() && !is_wanted(key)).cloned().collect();
        gone.sort_unstable();
        gone.into_iter().for_each(|key| self.remove(key, 0));
    }

    /// Takes a key off the record because we write it; the caller removes its entry in the same transaction.
    /// `revision` is that of our write: what was learnt of a later one stands.
    pub fn overwrite(&mut self, key: &Bytes, revision: Revision) {
        self.written.remove(key);
        if self.unwritten.iter().any(|entry| entry.key == key && entry.revision > revision) {
            return;
        }
        if self.local.remove(key) {
            self.unwritten.retain(|entry| entry.key != key);
        }
    }

    /// Up to `most` changes to write with the next transaction, and the revision of the standby that the written record
    /// then covers; `seen` is how far the standby's history is known.
    pub fn take(&mut self, most: usize, seen: Revision) -> (LedgerPatch, Revision) {
        let settled = self.unwritten.iter().take(most).take_while(|entry| entry.settled_at <= seen);
        let count = settled.count();
        let patch: LedgerPatch = self.unwritten.drain(..count).map(|entry| (entry.key, entry.added)).collect();
        for (key, added) in &patch {
            if *added {
                self.written.insert(key.clone())
            } else {
                self.written.remove(key)
            };
        }
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
    use crate::etcd::kv::KeyValue;
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

    fn both<'a>(local: &'a mut Ledger, edited: &'a mut Ledger) -> Ledgers<'a> {
        Ledgers { local, edited }
    }

    const A: &str = "/registry/configmaps/apps/a";
    const B: &str = "/registry/configmaps/apps/b";

    #[test]
    fn only_creations_without_our_mark_are_local() {
        let (scope, keys) = (Scope::new(&ScopeConfig::default()).unwrap(), StateKeys::new("default"));
        let (mut ledger, mut tracker) = (Ledger::default(), Tracker::new(10));
        let mark = created("/etcd-sync/default/checkpoint", 11);
        let mut edited = Ledger::default();
        tracker.observe(&[created(A, 11)], false, &scope, &keys, &mut both(&mut ledger, &mut edited), 0);
        tracker.observe(&[mark, created(B, 12)], true, &scope, &keys, &mut both(&mut ledger, &mut edited), 0);
        assert!(!ledger.holds(&Bytes::from_static(A.as_bytes())));
        assert!(ledger.holds(&Bytes::from_static(B.as_bytes())));
        assert_eq!(tracker.seen(), 12);
        tracker.observe(
            &[Event::Delete { key: Bytes::from_static(B.as_bytes()), revision: 13 }],
            true,
            &scope,
            &keys,
            &mut both(&mut ledger, &mut edited),
            0,
        );
        assert!(ledger.is_empty() && edited.is_empty());
    }

    #[test]
    fn the_record_never_claims_more_than_is_written() {
        let mut ledger = Ledger::default();
        ledger.add(Bytes::from_static(b"a"), 11, 0);
        ledger.add(Bytes::from_static(b"b"), 15, 18);
        let (patch, covered) = ledger.take(1, 20);
        assert_eq!((patch.len(), covered), (1, 14));
        assert_eq!(ledger.take(1, 17).0.len(), 0);
        let (patch, covered) = ledger.take(1, 20);
        assert_eq!((patch.len(), covered), (1, 20));
    }

    #[test]
    fn origin_follows_the_moment_of_creation() {
        let moments = Moments { base: 0, seen: 50, last_write: 60, began: 70 };
        assert_eq!(moments.origin(false, 40, 40), Origin::Mirrored);
        assert_eq!(moments.origin(true, 40, 40), Origin::Local);
        assert_eq!(moments.origin(false, 55, 55), Origin::AskHistory);
        assert_eq!(moments.origin(false, 61, 61), Origin::Local);
        assert_eq!(moments.origin(false, 71, 71), Origin::AskHistory);
        let first_sync = Moments { base: 45, seen: 0, ..moments };
        assert_eq!(first_sync.origin(false, 40, 40), Origin::Local);
        // Older than the link, but written since: perhaps by us.
        assert_eq!(first_sync.origin(false, 40, 55), Origin::AskHistory);
        assert_eq!(first_sync.question(Bytes::new(), 40, 55).ask, [55]);
        assert_eq!(first_sync.question(Bytes::new(), 50, 55).ask, [50, 55]);
        assert_eq!(first_sync.question(Bytes::new(), 55, 55).ask, [55]);
    }
}
