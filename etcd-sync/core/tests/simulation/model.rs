//! A model of one etcd, as far as a synchronizer can tell: revisions, history, compaction, transactions, range reads.

use std::collections::BTreeMap;

use bytes::Bytes;
use etcd_sync_core::etcd::kv::{Event, KeyRange, KeyValue, Revision};
use etcd_sync_core::etcd::request::{Compare, Op, Page, ReadRange, Txn, TxnReply};
use etcd_sync_core::link::history::{RaftReading, RaftStatus};

#[derive(Clone, Debug)]
pub struct Model {
    pub cluster: u64,
    pub revision: Revision,
    pub compacted: Revision,
    /// The last raft log entry applied: each revision costs one, and there are others.
    pub applied_index: u64,
    /// All lives of every key: (revision, state from then on).
    lives: BTreeMap<Bytes, Vec<(Revision, Option<KeyValue>)>>,
    /// What each revision changed, in order.
    log: BTreeMap<Revision, Vec<Event>>,
}

impl Model {
    pub fn new(cluster: u64) -> Self {
        Model { cluster, revision: 1, compacted: 0, applied_index: 4, lives: BTreeMap::new(), log: BTreeMap::new() }
    }

    pub fn get(&self, key: &[u8]) -> Option<&KeyValue> {
        self.at(key, Revision::MAX)
    }

    /// The key as it was at a revision.
    pub fn at(&self, key: &[u8], revision: Revision) -> Option<&KeyValue> {
        let lives = self.lives.get(key)?;
        let index = lives.partition_point(|(since, _)| *since <= revision);
        lives.get(index.checked_sub(1)?)?.1.as_ref()
    }

    /// Everything in a range at a revision.
    pub fn state(&self, range: &KeyRange, revision: Revision) -> BTreeMap<Bytes, KeyValue> {
        self.lives
            .keys()
            .filter(|key| range.contains(key))
            .filter_map(|key| self.at(key, revision).map(|kv| (key.clone(), kv.clone())))
            .collect()
    }

    /// `None` when the revision is compacted.
    pub fn read(&self, read: &ReadRange) -> Option<Page> {
        if read.revision != 0 && read.revision < self.compacted {
            return None;
        }
        let at = if read.revision == 0 { self.revision } else { read.revision };
        let all = self.state(&read.range, at);
        let count = all.len();
        let limit = if read.limit == 0 { count } else { read.limit as usize };
        let mut kvs: Vec<KeyValue> = all.into_values().take(limit).collect();
        if read.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
        }
        Some(Page { kvs, more: count > limit, count: count as i64, revision: self.revision })
    }

    pub fn txn(&mut self, txn: &Txn) -> TxnReply {
        assert!(txn.success.len().max(txn.compares.len()) <= 128, "etcd refuses more than 128 operations");
        let mut touched = std::collections::HashSet::new();
        for op in &txn.success {
            if let Op::Put { key, .. } | Op::Delete { key } = op {
                assert!(touched.insert(key.clone()), "etcd refuses a key twice in a transaction");
            }
        }
        let succeeded = txn.compares.iter().all(|compare| match compare {
            Compare::Value { key, value } => self.get(key).is_some_and(|kv| kv.value == value),
            Compare::CreateRevision { key, revision } => self.get(key).map_or(0, |kv| kv.create_revision) == *revision,
            Compare::ModRevision { key, revision } => self.get(key).map_or(0, |kv| kv.mod_revision) == *revision,
        });
        let mut gets = Vec::new();
        let mut events = Vec::new();
        for op in if succeeded { &txn.success } else { &txn.failure } {
            match op {
                Op::Get { key } => gets.push(self.get(key).cloned()),
                Op::Put { key, value, lease } => {
                    let revision = self.revision + 1;
                    let create_revision = self.get(key).map_or(revision, |kv| kv.create_revision);
                    let kv = KeyValue {
                        key: key.clone(),
                        value: value.clone(),
                        create_revision,
                        mod_revision: revision,
                        lease: *lease,
                    };
                    events.push(Event::Put(kv));
                }
                Op::Delete { key } if self.get(key).is_some() => {
                    events.push(Event::Delete { key: key.clone(), revision: self.revision + 1 });
                }
                Op::Delete { .. } => {}
            }
        }
        if !events.is_empty() {
            self.revision += 1;
            self.applied_index += 1;
            for event in &events {
                let life = match event {
                    Event::Put(kv) => Some(kv.clone()),
                    Event::Delete { .. } => None,
                };
                self.lives.entry(event.key().clone()).or_default().push((self.revision, life));
            }
            self.log.insert(self.revision, events);
        }
        TxnReply { succeeded, revision: self.revision, gets }
    }

    /// Whether the key was put at a revision between the two, both included.
    pub fn was_put(&self, key: &Bytes, from: Revision, to: Revision) -> bool {
        let lives = self.lives.get(key).into_iter().flatten();
        lives.filter(|(revision, _)| (from..=to).contains(revision)).any(|(_, life)| life.is_some())
    }

    pub fn write(&mut self, ops: Vec<Op>) {
        self.txn(&Txn { success: ops, ..Txn::default() });
    }

    /// What two statuses of a member show while nothing happens.
    pub fn raft(&self) -> RaftReading {
        let status = RaftStatus { revision: self.revision, applied_index: self.applied_index };
        RaftReading { member: 1, first: status, second: status }
    }

    pub fn compact(&mut self, revision: Revision) {
        self.compacted = self.compacted.max(revision.min(self.revision));
    }

    /// Every change since the beginning, in order.
    pub fn history(&self) -> impl Iterator<Item = &Event> {
        self.log.values().flatten()
    }

    /// The next revision from `from` on that changed something in the range.
    pub fn next_change(&self, from: Revision, range: &KeyRange) -> Option<(Revision, Vec<Event>)> {
        self.log.range(from..).find_map(|(revision, events)| {
            let inside: Vec<Event> = events.iter().filter(|event| range.contains(event.key())).cloned().collect();
            (!inside.is_empty()).then_some((*revision, inside))
        })
    }
}
