//! Turns the ordered changes of the primary into transactions: whole revisions together while they fit, a revision that
//! does not fit in parts with an offset, and never a delete and a later create of one key in one transaction.

use std::collections::{HashMap, HashSet, VecDeque};

use bytes::Bytes;

use crate::etcd::kv::Revision;

/// One change to make on the standby.
#[derive(Clone, PartialEq, Eq)]
pub enum Write {
    /// Write the value, verbatim.
    Put {
        /// The key.
        key: Bytes,
        /// The value.
        value: Bytes,
    },
    /// Delete the key.
    Delete {
        /// The key.
        key: Bytes,
    },
}

impl Write {
    /// The key it changes.
    pub fn key(&self) -> &Bytes {
        match self {
            Write::Put { key, .. } | Write::Delete { key } => key,
        }
    }

    /// Bytes it takes in a request, nearly.
    pub fn size_bytes(&self) -> usize {
        const FRAMING_BYTES: usize = 24;
        self.data_bytes() + FRAMING_BYTES
    }

    /// Bytes of its key and its value.
    pub fn data_bytes(&self) -> usize {
        match self {
            Write::Put { key, value } => key.len() + value.len(),
            Write::Delete { key } => key.len(),
        }
    }
}

/// Values hold secrets: even a debug print shows only their length.
impl std::fmt::Debug for Write {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Write::Put { key, value } => write!(f, "Put({key:?}, {} bytes)", value.len()),
            Write::Delete { key } => write!(f, "Delete({key:?})"),
        }
    }
}

/// How large a transaction may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Most operations on data; etcd's limit of 128 less those the fence needs.
    pub ops: usize,
    /// Most bytes of keys and values; a single larger change goes alone.
    pub bytes: usize,
}

impl BatchLimits {
    /// etcd takes 128 operations and 1.5 MiB (1,536 KiB) in a request: 127 of data and the checkpoint, and ample room for
    /// the fence.
    pub const DEFAULT: BatchLimits = BatchLimits { ops: 127, bytes: 1_400 * 1024 };

    /// Most keys of a transaction that compares each of them: etcd counts compares as it counts operations, and the fence has two more
    /// of them than the one operation that is left for the checkpoint.
    pub fn keys_compared(&self) -> usize {
        self.ops.saturating_sub(2).max(1)
    }
}

/// The data of one transaction and the position the checkpoint takes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Changes, each key at most once.
    pub writes: Vec<Write>,
    /// The revision reached.
    pub revision: Revision,
    /// 0 when all of that revision is applied, else how many of its changes are.
    pub offset: u64,
    /// How many changes of the primary it covers, filtered ones included.
    pub changes: u64,
    /// The last change in it that is not filtered: its revision, and the write.
    pub last: Option<(Revision, Write)>,
}

/// A queue of changes, cut into [`Batch`]es.
#[derive(Debug)]
pub struct Batcher {
    queue: VecDeque<Queued>,
    queued_bytes: usize,
    revision: Revision,
    index: u64,
    skip: Option<(Revision, u64)>,
    /// The last batch taken ended inside a revision: its end is still owed.
    inside: bool,
}

#[derive(Debug)]
struct Queued {
    revision: Revision,
    /// Position inside its revision, counted from 1.
    index: u64,
    write: Option<Write>,
    /// No change of the same revision can follow.
    last: bool,
}

impl Batcher {
    /// A queue that goes on behind (`revision`, `offset`) of a checkpoint. With an offset the watch starts at `revision`
    /// itself, and its first `offset` changes are passed over.
    pub fn resume(revision: Revision, offset: u64) -> Self {
        let skip = (offset > 0).then_some((revision, offset));
        Batcher { queue: VecDeque::new(), queued_bytes: 0, revision, index: 0, skip, inside: offset > 0 }
    }

    /// Queues one change in the primary's order; `None` for a change that is filtered but still moves the position.
    pub fn push(&mut self, revision: Revision, write: Option<Write>) {
        if revision != self.revision {
            self.end_revision();
            self.revision = revision;
            self.index = 0;
        }
        self.index += 1;
        if self.skip.is_some_and(|(skipped, offset)| revision == skipped && self.index <= offset) {
            return;
        }
        self.queued_bytes += write.as_ref().map_or(0, Write::size_bytes);
        self.queue.push_back(Queued { revision, index: self.index, write, last: false });
    }

    /// Says that the revision pushed last is complete.
    pub fn end_revision(&mut self) {
        match self.queue.back_mut() {
            Some(last) => last.last = true,
            None if self.inside && self.index > 0 => {
                let (revision, index) = (self.revision, self.index);
                self.queue.push_back(Queued { revision, index, write: None, last: true });
            }
            None => {}
        }
    }

    /// The revision of the last change pushed, or that it goes on behind.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The keys that a waiting change writes.
    pub fn keys(&self) -> HashSet<Bytes> {
        self.queue.iter().filter_map(|queued| queued.write.as_ref()).map(|write| write.key().clone()).collect()
    }

    /// Whether a waiting change puts the key, and none after it deletes it.
    pub fn puts(&self, key: &[u8]) -> bool {
        let last = self.queue.iter().rev().filter_map(|queued| queued.write.as_ref()).find(|write| write.key() == key);
        matches!(last, Some(Write::Put { .. }))
    }

    /// Bytes waiting.
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Changes waiting.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether nothing waits and nothing is owed: the rest of a revision that is partly taken is.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && !self.inside
    }

    /// Takes the next transaction's worth, or `None` when there is none yet. `cost` is the number of operations a write
    /// takes (more than one when the ledger changes with it).
    pub fn next(&mut self, limits: BatchLimits, cost: impl Fn(&Write) -> usize) -> Option<Batch> {
        let (taken, whole) = self.fitting(limits, &cost);
        let count = match (whole, taken) {
            (0, 0) => return None,
            // The first revision alone is too large, or not complete and already full: a part of it.
            (0, taken) if taken < self.queue.len() || self.over(limits, &cost) => taken,
            (0, _) => return None,
            (whole, _) => whole,
        };
        Some(self.take(count))
    }

    /// (how many queued changes fit, how many of them end a complete revision)
    fn fitting(&self, limits: BatchLimits, cost: &impl Fn(&Write) -> usize) -> (usize, usize) {
        let mut kept: HashMap<&Bytes, &Write> = HashMap::new();
        let (mut ops, mut bytes, mut whole) = (0, 0, 0);
        for (position, queued) in self.queue.iter().enumerate() {
            if let Some(write) = &queued.write {
                let before = kept.get(write.key());
                if let (Some(Write::Delete { .. }), Write::Put { .. }) = (before, write) {
                    return (position, whole);
                }
                let (ops_before, bytes_before) = before.map_or((0, 0), |b| (cost(b), b.size_bytes()));
                ops = ops + cost(write) - ops_before;
                bytes = bytes + write.size_bytes() - bytes_before;
                if position > 0 && (ops > limits.ops || bytes > limits.bytes) {
                    return (position, whole);
                }
                kept.insert(write.key(), write);
            }
            if queued.last {
                whole = position + 1;
            }
        }
        (self.queue.len(), whole)
    }

    fn over(&self, limits: BatchLimits, cost: &impl Fn(&Write) -> usize) -> bool {
        let writes = || self.queue.iter().filter_map(|queued| queued.write.as_ref());
        writes().map(cost).sum::<usize>() >= limits.ops || self.queued_bytes >= limits.bytes
    }

    fn take(&mut self, count: usize) -> Batch {
        let mut batch = Batch { writes: Vec::new(), revision: 0, offset: 0, changes: count as u64, last: None };
        let mut place: HashMap<Bytes, usize> = HashMap::new();
        for queued in self.queue.drain(..count) {
            (batch.revision, batch.offset) = (queued.revision, if queued.last { 0 } else { queued.index });
            let Some(write) = queued.write else { continue };
            self.queued_bytes -= write.size_bytes();
            batch.last = Some((queued.revision, write.clone()));
            match place.get(write.key()) {
                Some(&index) => batch.writes[index] = write,
                None => {
                    place.insert(write.key().clone(), batch.writes.len());
                    batch.writes.push(write);
                }
            }
        }
        self.inside = batch.offset > 0;
        batch
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn key(name: u8) -> Bytes {
        Bytes::copy_from_slice(&[b'k', name])
    }

    fn put(name: u8, value: usize) -> Option<Write> {
        Some(Write::Put { key: key(name), value: value.to_string().into_bytes().into() })
    }

    fn delete(name: u8) -> Option<Write> {
        Some(Write::Delete { key: key(name) })
    }

    const SMALL: BatchLimits = BatchLimits { ops: 3, bytes: 10_000 };

    fn drain(batcher: &mut Batcher, limits: BatchLimits) -> Vec<Batch> {
        std::iter::from_fn(|| batcher.next(limits, |_| 1)).collect()
    }

    #[test]
    fn revisions_share_a_transaction_and_puts_fold() {
        let mut batcher = Batcher::resume(1, 0);
        batcher.push(2, put(1, 1));
        batcher.push(3, put(1, 2));
        batcher.push(4, delete(2));
        batcher.push(5, None);
        batcher.end_revision();
        let batches = drain(&mut batcher, SMALL);
        assert_eq!(batches.len(), 1);
        assert_eq!((batches[0].revision, batches[0].offset, batches[0].changes), (5, 0, 4));
        assert_eq!(batches[0].writes, vec![put(1, 2).unwrap(), delete(2).unwrap()]);
    }

    #[test]
    fn a_create_after_a_delete_goes_into_another_transaction() {
        let mut batcher = Batcher::resume(1, 0);
        batcher.push(2, put(1, 1));
        batcher.push(3, delete(1));
        batcher.push(4, put(1, 2));
        batcher.end_revision();
        let batches = drain(&mut batcher, SMALL);
        assert_eq!(batches.len(), 2);
        assert_eq!(batches[0].writes, vec![delete(1).unwrap()]);
        assert_eq!(batches[1].writes, vec![put(1, 2).unwrap()]);
    }

    #[test]
    fn an_incomplete_revision_waits_and_never_drags_the_checkpoint_into_it() {
        let mut batcher = Batcher::resume(1, 0);
        batcher.push(2, put(1, 1));
        assert_eq!(batcher.next(SMALL, |_| 1), None);
        batcher.push(3, put(2, 1));
        let batch = batcher.next(SMALL, |_| 1).unwrap();
        assert_eq!((batch.revision, batch.offset, batch.writes.len()), (2, 0, 1));
        assert_eq!(batcher.next(SMALL, |_| 1), None);
        batcher.end_revision();
        assert_eq!(batcher.next(SMALL, |_| 1).unwrap().revision, 3);
    }

    #[test]
    fn a_large_revision_is_cut_with_offsets_and_resumed() {
        let mut batcher = Batcher::resume(1, 0);
        batcher.push(2, put(0, 1));
        for name in 1..=7 {
            batcher.push(3, put(name, 1));
        }
        batcher.end_revision();
        let positions: Vec<_> = drain(&mut batcher, SMALL).iter().map(|b| (b.revision, b.offset)).collect();
        assert_eq!(positions, [(2, 0), (3, 3), (3, 6), (3, 0)]);

        let mut resumed = Batcher::resume(3, 6);
        for name in 1..=7 {
            resumed.push(3, put(name, 1));
        }
        resumed.end_revision();
        let rest = drain(&mut resumed, SMALL);
        assert_eq!((rest.len(), rest[0].offset), (1, 0));
        assert_eq!(rest[0].writes, vec![put(7, 1).unwrap()]);
    }

    #[test]
    fn a_part_that_ends_with_its_message_still_completes_the_revision() {
        let mut batcher = Batcher::resume(1, 0);
        for name in 1..=3 {
            batcher.push(2, put(name, 1));
        }
        assert_eq!(batcher.next(SMALL, |_| 1).map(|b| (b.revision, b.offset)), Some((2, 3)));
        assert!(!batcher.is_empty());
        batcher.end_revision();
        assert_eq!(batcher.next(SMALL, |_| 1).map(|b| (b.revision, b.offset)), Some((2, 0)));
        assert!(batcher.is_empty());
        batcher.end_revision();
        assert_eq!(batcher.next(SMALL, |_| 1), None);
    }

    #[test]
    fn a_change_larger_than_the_budget_goes_alone() {
        let mut batcher = Batcher::resume(1, 0);
        let large = Write::Put { key: key(9), value: vec![0; 500].into() };
        batcher.push(2, put(1, 1));
        batcher.push(3, Some(large.clone()));
        batcher.push(4, put(2, 1));
        batcher.end_revision();
        let batches = drain(&mut batcher, BatchLimits { ops: 10, bytes: 100 });
        assert_eq!(batches.len(), 3);
        assert_eq!(batches[1].writes, vec![large]);
    }

    proptest! {
        /// Whatever the changes and the limits, applying the batches in order gives the state the changes give, each key
        /// stands once in a transaction, and no recreation is hidden.
        #[test]
        fn batches_equal_the_changes(
            changes in prop::collection::vec((0u8..6, any::<bool>(), 0u8..3), 1..200),
            ops in 1usize..8,
            bytes in 1usize..300,
        ) {
            let (mut batcher, mut expected, mut revision) = (Batcher::resume(1, 0), BTreeMap::new(), 2);
            let mut in_revision = std::collections::HashSet::new();
            for (step, (name, is_put, gap)) in changes.iter().enumerate() {
                // etcd never changes a key twice in one revision
                if *gap > 0 || !in_revision.insert(*name) {
                    revision += 1;
                    in_revision = [*name].into();
                }
                if *is_put {
                    expected.insert(key(*name), Bytes::from(step.to_string()));
                    batcher.push(revision, put(*name, step));
                } else {
                    expected.remove(&key(*name));
                    batcher.push(revision, delete(*name));
                }
            }
            batcher.end_revision();
            let mut state = BTreeMap::new();
            let mut position = (1, 0);
            for batch in drain(&mut batcher, BatchLimits { ops, bytes }) {
                prop_assert!(batch.writes.len() <= ops);
                let mut seen = std::collections::HashSet::new();
                for write in &batch.writes {
                    prop_assert!(seen.insert(write.key().clone()));
                    match write {
                        Write::Put { key, value } => { state.insert(key.clone(), value.clone()); }
                        Write::Delete { key } => { state.remove(key); }
                    }
                }
                let reached = (batch.revision, if batch.offset == 0 { u64::MAX } else { batch.offset });
                prop_assert!(reached > position);
                position = reached;
            }
            prop_assert_eq!(state, expected);
            prop_assert_eq!(position, (revision, u64::MAX));
            prop_assert_eq!(batcher.queued_bytes(), 0);
        }
    }
}
