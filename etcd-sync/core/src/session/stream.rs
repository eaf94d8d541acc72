//! Steady state: the primary's changes in their order, one transaction under way, the checkpoint moving with each.

use std::collections::HashSet;

use bytes::Bytes;

use super::copy::op;
use super::{Changes, Ended, Note, Refusal, Session, Stage};
use crate::etcd::kv::{Event, Revision, printable};
use crate::etcd::request::Op;
use crate::link::provenance::Tracker;
use crate::link::side::Side;
use crate::link::state::{Checkpoint, Phase, Witness};
use crate::session::batch::{Batch, Write};

/// Ledger changes written with one transaction at most.
const LEDGER_OPS_MAX: usize = 32;

/// How often the record follows the standby's own life when the primary is quiet.
const SEEN_INTERVAL_MS: u64 = 60_000;

impl Session {
    /// Opens both watches behind a record.
    pub(super) fn open_streams(&mut self, checkpoint: &Checkpoint) {
        let (revision, offset) = (checkpoint.revision, checkpoint.offset);
        self.stats.heard = if offset > 0 { revision - 1 } else { revision };
        let from = match (offset, &checkpoint.witness) {
            (0, Some(witness)) if self.witness_recognized && witness.last => {
                // From the last change on: whatever the primary tells up to the checkpoint was never applied here.
                self.resumed_at = revision;
                witness.revision + 1
            }
            (0, _) => revision + 1,
            _ => revision,
        };
        self.watch(Side::Primary, from);
        self.watch(Side::Standby, checkpoint.seen + 1);
    }

    /// The copy is complete and its record written; the primary's watch goes on as it is.
    pub(super) fn start_streaming(&mut self) {
        let (seen, revision) = (self.checkpoint.seen, self.checkpoint.revision);
        self.own_revisions = HashSet::new();
        self.known_from = self.last_commit_revision;
        self.kinds_known = true;
        if std::mem::take(&mut self.audit_after_copy) {
            self.begin_audit();
        }
        self.stage = Stage::Streaming(Tracker::new(seen));
        self.watch(Side::Standby, seen + 1);
        self.note(Note::Streaming { revision });
    }

    pub(super) fn advance_stream(&mut self) {
        if self.kinds_known {
            self.begin_round();
        }
        self.advance_audit();
        if !self.in_flight.is_empty() || self.commit_replay() || self.commit_batch() {
            return;
        }
        let Stage::Streaming(tracker) = &self.stage else { return };
        let idle_ms = self.now_ms - self.last_commit_ms.min(self.now_ms);
        let primary_moved =
            self.stats.heard > self.checkpoint.revision && idle_ms >= self.config.checkpoint_interval_ms;
        // Our own last write is no reason for another: a quiet pair must come to rest.
        let standby_moved = tracker.seen() > self.last_commit_revision && idle_ms >= SEEN_INTERVAL_MS;
        if self.is_idle() && self.ledger.unwritten() == 0 && (primary_moved || standby_moved) {
            let (revision, seen) = (self.stats.heard.max(self.checkpoint.revision), tracker.seen());
            let checkpoint = Checkpoint { revision, offset: 0, seen, ..self.checkpoint.clone() };
            self.commit_checkpoint(checkpoint, Changes::default());
        }
    }

    /// Sends the next transaction's worth of changes and ledger entries, if there is any. Only while nothing is under way.
    pub(super) fn commit_batch(&mut self) -> bool {
        let seen = match &self.stage {
            Stage::Streaming(tracker) => tracker.seen(),
            // While copying, the record's own claim stands until the sweep has looked at everything.
            _ => self.checkpoint.seen,
        };
        let (patch, covered) = self.ledger.take(LEDGER_OPS_MAX, seen);
        let seen = covered.max(self.checkpoint.seen);
        if !patch.is_empty() {
            // On its own, so that a large change of the primary still has the whole transaction for itself.
            let entry = |(key, added): (Bytes, bool)| self.ledger_op(&key, added);
            let ops = patch.into_iter().map(entry).collect();
            self.commit_checkpoint(
                Checkpoint { seen, ..self.checkpoint.clone() },
                Changes { ops, ..Changes::default() },
            );
            return true;
        }
        let ledger = &self.ledger;
        let cost = |write: &Write| match write {
            Write::Put { key, .. } => ledger.put_ops(key),
            Write::Delete { .. } => 1,
        };
        let next = self.deferred.take().or_else(|| self.batcher.next(self.config.limits, cost));
        let Some(batch) = next else { return false };
        if self.must_wait_for_tracker(&batch) {
            self.deferred = Some(batch);
            return false;
        }
        let (revision, offset) = (batch.revision, batch.offset);
        let (mut writes, mut ops) = (Vec::new(), Vec::new());
        for write in batch.writes {
            self.replay.written(write.key());
            match &write {
                Write::Delete { key } if self.ledger.holds(key) => {
                    self.stats.kept_local += 1;
                    self.note(Note::KeptLocal { key: key.clone() });
                    continue;
                }
                Write::Put { key, .. } if self.ledger.is_written(key) => ops.push(self.ledger_op(key, false)),
                _ => {}
            }
            ops.push(op(&write));
            writes.push(write);
        }
        let witness = match (&self.stage, batch.last) {
            (Stage::Streaming(_), Some((revision, key, deleted))) => Witness::new(&key, revision, deleted, true),
            (Stage::Streaming(_), None) => self.checkpoint.witness.clone(),
            // While copying, changes that pages already hold are passed over.
            _ => None,
        };
        // Nothing of what its content has left out is known when it is told again.
        let is_last = |witness: &Witness| witness.last && witness.revision >= self.left_out_at;
        let witness = witness.map(|witness| Witness { last: is_last(&witness), ..witness });
        let checkpoint = Checkpoint { revision, offset, seen, witness, ..self.checkpoint.clone() };
        self.commit_checkpoint(checkpoint, Changes { writes, ops, ..Changes::default() });
        true
    }

    /// A change at or before the checkpoint, told again from the witness on: one in scope proves another history.
    pub(super) fn told_again(&self, event: &Event) -> Result<(), Ended> {
        if !self.is_in_scope(event) {
            return Ok(());
        }
        let cluster = self.checkpoint.primary.clone();
        if self.config.accept_new_primary.as_ref() == Some(&cluster) {
            return Err(Ended::Again { force_copy: true, why: "the primary's other history is accepted" });
        }
        let (revision, key) = (event.revision(), printable(event.key()));
        let evidence = format!("it changed {key} at revision {revision}, which was never applied here");
        Err(Ended::Refused(Refusal::HistoryDiffers { evidence, cluster }))
    }

    /// Whether a deletion hangs on the record of local keys while our own last writes are not seen in it yet.
    fn must_wait_for_tracker(&self, batch: &Batch) -> bool {
        let Stage::Streaming(tracker) = &self.stage else { return false };
        let held = |write: &Write| matches!(write, Write::Delete { key } if self.ledger.holds(key));
        let is_delete = |write: &Write| matches!(write, Write::Delete { .. });
        // What was made here while nobody followed the standby's history is not on record yet.
        (tracker.seen() < self.last_commit_revision && batch.writes.iter().any(held))
            || (tracker.seen() < self.known_from && batch.writes.iter().any(is_delete))
    }

    /// The operation that puts a key on the written record of local keys, or takes it off.
    pub(super) fn ledger_op(&self, key: &Bytes, local: bool) -> Op {
        let key = self.fence.keys.local_entry(key);
        if local { Op::Put { key, value: Bytes::new(), lease: 0 } } else { Op::Delete { key } }
    }

    /// The record that ends a copy.
    pub(super) fn streaming_checkpoint(&self, seen: Revision) -> Checkpoint {
        Checkpoint {
            phase: Phase::Streaming,
            revision: self.stats.heard,
            offset: 0,
            seen,
            witness: self.newest_change.clone(),
            base: 0,
            accepted_deletions: None,
            ..self.checkpoint.clone()
        }
    }
}
