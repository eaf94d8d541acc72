//! Transactions of a session: what is sent, what is under way, and what its outcome means for the record.

use bytes::Bytes;

use super::flight::{self, Flight, Purpose, Sent};
use super::shared::{ReadFor, Shared};
use super::{Effect, Note, RequestId};
use crate::etcd::kv::Revision;
use crate::etcd::request::{Compare, Op, ReadRange, Txn};
use crate::link::history::Witness;
use crate::link::side::Side;
use crate::link::state::{Checkpoint, Phase};
use crate::session::batch::{Batch, Write};

/// Ledger changes written with one transaction at most.
const LEDGER_OPS_MAX: usize = 32;

/// What a transaction does beside moving the checkpoint.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// The data in it, for the counters.
    pub(super) writes: Vec<Write>,
    /// The operations on data and on the ledger.
    pub(super) ops: Vec<Op>,
    /// What must hold beside the fence.
    pub(super) compares: Vec<Compare>,
    pub(super) purpose: Purpose,
}

impl Shared {
    /// Sends a transaction.
    pub(super) fn send(&mut self, txn: Txn, flight: Flight) {
        let id = self.next_id();
        if self.checkpoint.phase != Phase::Streaming {
            self.copy_writes.spend(flight.writes().len() as u64);
        }
        self.in_flight.insert(id, flight);
        self.last_commit_ms = self.now_ms;
        self.push(Effect::Commit { id, txn });
    }

    /// Sends a transaction that moves the checkpoint.
    pub(super) fn commit_checkpoint(&mut self, mut checkpoint: Checkpoint, changes: Changes) {
        debug_assert!(self.in_flight.is_empty(), "the checkpoint moves alone");
        checkpoint.epoch = self.fence.epoch;
        checkpoint.writes = self.checkpoint.writes + 1;
        checkpoint.at_ms = self.unix_ms;
        let value = checkpoint.encode();
        let Changes { writes, mut ops, compares, purpose } = changes;
        ops.push(Op::Put { key: self.fence.keys.checkpoint.clone(), value: value.clone(), lease: 0 });
        let mut txn = self.fence.txn(self.checkpoint_value.as_ref(), ops);
        txn.compares.extend(compares);
        let batch = flight::Batch { checkpoint, value, writes, purpose, txn: txn.clone(), sent: Sent::Once };
        self.send(txn, Flight::Batch(Box::new(batch)));
    }

    /// Reads the record: it shows whether the commit that moves it was applied.
    pub(super) fn read_record(&mut self, id: RequestId) {
        let request = ReadRange::single(self.fence.keys.checkpoint.clone(), false, 0);
        self.read(Side::Standby, request, ReadFor::Record(id));
    }

    /// Whether a commit that moves the checkpoint is under way. Nothing else may be sent then.
    pub(super) fn moves_checkpoint(&self) -> bool {
        self.in_flight.values().any(|flight| matches!(flight, Flight::Batch(_)))
    }

    /// Sends the next transaction's worth of changes and ledger entries while a copy is not complete, if there is any. Only
    /// while nothing is under way.
    pub(super) fn try_commit_batch(&mut self) -> bool {
        // The record's own claim stands until the sweep has checked everything.
        let Some(seen) = self.try_commit_ledger(self.checkpoint.seen) else { return true };
        let Some(batch) = self.next_batch() else { return false };
        // Changes that pages already hold are passed over, so the last one here is no witness.
        self.commit_batch(batch, None, seen);
        true
    }

    /// Sends entries of the ledger, if some wait: `None`. Otherwise gives how far the record then covers the standby's
    /// history, of which everything up to `known` was seen.
    pub(super) fn try_commit_ledger(&mut self, known: Revision) -> Option<Revision> {
        let ops_max = LEDGER_OPS_MAX.min(self.config.limits.ops);
        let (patch, covered) = self.ledger.take(ops_max, known);
        let (edits, covered_edits) = self.edited.take(ops_max - patch.len(), known);
        let seen = covered.min(covered_edits).max(self.checkpoint.seen);
        if patch.is_empty() && edits.is_empty() {
            return Some(seen);
        }
        // On its own, so that a large change of the primary still has the whole transaction for itself.
        let local = patch.into_iter().map(|(key, added)| self.ledger_op(&key, added));
        let ops = local.chain(edits.into_iter().map(|(key, added)| self.edited_op(&key, added))).collect();
        self.commit_checkpoint(Checkpoint { seen, ..self.checkpoint.clone() }, Changes { ops, ..Changes::default() });
        None
    }

    /// The next transaction's worth of the primary's changes.
    pub(super) fn next_batch(&mut self) -> Option<Batch> {
        let (ledger, edited) = (&self.ledger, &self.edited);
        let cost = |write: &Write| match write {
            Write::Put { key, .. } => ledger.put_ops(key),
            Write::Delete { key } => edited.put_ops(key),
        };
        self.batcher.next(self.config.limits, cost)
    }

    /// Sends changes of the primary, and the position that the checkpoint takes with them.
    pub(super) fn commit_batch(&mut self, batch: Batch, witness: Option<Witness>, seen: Revision) {
        let (mut writes, mut ops) = (Vec::new(), Vec::new());
        for write in batch.writes {
            match &write {
                Write::Delete { key } if self.ledger.holds(key) => {
                    self.stats.kept_local += 1;
                    self.note(Note::KeptLocal { key: key.clone() });
                    continue;
                }
                Write::Put { key, .. } if self.ledger.is_written(key) => ops.push(self.ledger_op(key, false)),
                // Gone is gone: the next key of that name is another one.
                Write::Delete { key } if self.edited.is_written(key) => ops.push(self.edited_op(key, false)),
                Write::Put { .. } | Write::Delete { .. } => {}
            }
            ops.push(op(&write));
            writes.push(write);
        }
        let (revision, offset) = (batch.revision, batch.offset);
        let checkpoint = Checkpoint { revision, offset, seen, witness, ..self.checkpoint.clone() };
        self.commit_checkpoint(checkpoint, Changes { writes, ops, ..Changes::default() });
    }

    /// The operation that puts a key on the written record of local keys, or takes it off.
    pub(super) fn ledger_op(&self, key: &Bytes, local: bool) -> Op {
        let key = self.fence.keys.local_entry(key);
        if local { Op::Put { key, value: Bytes::new(), lease: 0 } } else { Op::Delete { key } }
    }

    /// The operation that puts a mirrored key on the record of edited ones, or takes it off.
    fn edited_op(&self, key: &Bytes, edited: bool) -> Op {
        let entry = self.fence.keys.edited_entry(key);
        match edited {
            true => Op::Put {
                key: entry,
                value: self.too_large.get(key).map(|one| one.encode()).unwrap_or_default(),
                lease: 0,
            },
            false => Op::Delete { key: entry },
        }
    }

    /// A transaction was applied at `written_at` of the standby: its writes are ours now.
    pub(super) fn count(&mut self, writes: &[Write], revision: Revision, written_at: Revision) {
        for write in writes {
            let deleted = matches!(write, Write::Delete { .. });
            // Written by us, so no longer local; its entry went in the same transaction.
            self.ledger.overwrite(write.key(), written_at);
            self.too_large.remove(write.key());
            if deleted {
                self.edited.overwrite(write.key(), written_at);
                self.stats.deletes += 1;
            } else {
                self.stats.puts += 1;
            }
            self.stats.bytes += write.data_bytes() as u64;
            if self.config.detail {
                self.note(Note::Wrote { key: write.key().clone(), deleted, revision });
            }
        }
    }
}

/// The operation that makes a write.
pub(super) fn op(write: &Write) -> Op {
    match write {
        Write::Put { key, value } => Op::Put { key: key.clone(), value: value.clone(), lease: 0 },
        Write::Delete { key } => Op::Delete { key: key.clone() },
    }
}
