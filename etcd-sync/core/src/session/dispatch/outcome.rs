//! What became of a commit, and what follows from it for the stage that the session is in.

use super::{Session, Stage};
use crate::etcd::request::{Page, TxnReply};
use crate::link::fence::Fenced;
use crate::link::state::Phase;
use crate::link::too_large::TooLarge;
use crate::session::batch::Write;
use crate::session::commit::Changes;
use crate::session::flight::{Batch, Flight, Purpose, Sent};
use crate::session::trail::Next;
use crate::session::{Effect, Ended, Note, ReadFailure, RequestId};

impl Session {
    pub(super) fn on_committed(&mut self, id: RequestId, reply: &TxnReply) -> Result<(), Ended> {
        let shared = &mut self.shared;
        let Some(flight) = shared.in_flight.remove(&id) else {
            debug_assert!(false, "an answer comes once");
            return Ok(());
        };
        if !reply.succeeded {
            let fenced = shared.fence.diagnose(reply);
            return self.on_refused_commit(id, fenced, flight);
        }
        shared.last_commit_revision = shared.last_commit_revision.max(reply.revision);
        shared.stats.transactions += 1;
        match &mut self.stage {
            Stage::Copying(copying) => copying.on_committed(reply.revision),
            Stage::Sweeping(sweeping) => sweeping.on_committed(reply.revision),
            // Planning writes nothing, and the first record carries no data.
            Stage::Opening { .. } | Stage::Planning(_) | Stage::Streaming(_) => {}
        }
        match flight {
            Flight::Puts(puts) => {
                shared.window.on_answer(puts.sent_ms, shared.now_ms);
                shared.count(&puts.writes, 0, reply.revision);
            }
            Flight::Batch(batch) => {
                let Batch { checkpoint, value, writes, purpose, .. } = *batch;
                shared.count(&writes, checkpoint.revision, reply.revision);
                if let (Stage::Streaming(streaming), Purpose::Replay) = (&mut self.stage, purpose) {
                    streaming.replay.on_committed(shared, &writes);
                }
                (shared.checkpoint, shared.checkpoint_value) = (checkpoint, Some(value));
                self.on_checkpoint_moved();
            }
        }
        Ok(())
    }

    /// Nothing of it was applied: somebody else has changed what it compares, or it had been applied when it was sent before.
    fn on_refused_commit(&mut self, id: RequestId, why: Fenced, flight: Flight) -> Result<(), Ended> {
        let purpose = match flight {
            Flight::Batch(mut batch) if why == Fenced::Checkpoint && batch.sent == Sent::Again => {
                batch.sent = Sent::Refused;
                self.shared.in_flight.insert(id, Flight::Batch(batch));
                self.shared.read_record(id);
                return Ok(());
            }
            Flight::Batch(batch) => Some(batch.purpose),
            Flight::Puts(_) => None,
        };
        match (why, &mut self.stage, purpose) {
            (Fenced::Checkpoint, Stage::Sweeping(sweeping), Some(Purpose::Sweep)) => {
                sweeping.begin_again(&mut self.shared)
            }
            (Fenced::Checkpoint, Stage::Streaming(streaming), Some(Purpose::Replay)) => {
                streaming.replay.end_round();
                Ok(())
            }
            (Fenced::Checkpoint, _, _) => Err(Ended::CHECKPOINT_MOVED),
            (why, _, _) => Err(Ended::Fenced(why)),
        }
    }

    /// No answer to a commit that shows whether it was applied.
    pub(super) fn on_commit_failed(&mut self, id: RequestId, unknown: bool) {
        match (self.shared.in_flight.remove(&id), &mut self.stage) {
            (Some(Flight::Puts(puts)), Stage::Copying(copying)) => {
                copying.on_puts_failed(&mut self.shared, puts, unknown);
            }
            (Some(flight @ Flight::Batch(_)), _) => {
                self.shared.in_flight.insert(id, flight);
                self.shared.read_record(id);
            }
            (flight, stage) => debug_assert!(false, "{flight:?} failed while {}", stage.name()),
        }
    }

    /// The record, after a commit that moves it came to nothing as far as is known. No two commits write one value there.
    pub(super) fn on_record(&mut self, id: RequestId, result: Result<Page, ReadFailure>) -> Result<(), Ended> {
        let Some(Flight::Batch(batch)) = self.shared.in_flight.get_mut(&id) else {
            debug_assert!(false, "the record is read for a commit under way");
            return Ok(());
        };
        let Ok(page) = result else { return Err(Ended::CHECKPOINT_MOVED) };
        let found = page.kvs.into_iter().next();
        if let Some(kv) = found.as_ref().filter(|kv| kv.value == batch.value) {
            let applied = TxnReply { succeeded: true, revision: kv.mod_revision, gets: vec![] };
            return self.on_committed(id, &applied);
        }
        if found.map(|kv| kv.value) != self.shared.checkpoint_value {
            return Err(Ended::CHECKPOINT_MOVED);
        }
        if batch.sent == Sent::Refused {
            // It is another compare that does not hold.
            let flight = self.shared.in_flight.remove(&id);
            return flight.map_or(Ok(()), |flight| self.on_refused_commit(id, Fenced::Checkpoint, flight));
        }
        batch.sent = Sent::Again;
        let txn = batch.txn.clone();
        self.shared.push(Effect::Commit { id, txn });
        Ok(())
    }

    /// The record was written: the stages that wait for that go on.
    fn on_checkpoint_moved(&mut self) {
        let next = match (&self.stage, self.shared.checkpoint.phase) {
            (Stage::Opening { never_synchronized: true }, _) => Next::Copy,
            (Stage::Opening { never_synchronized: false }, _) => Next::Plan,
            (Stage::Sweeping(sweeping), Phase::Streaming) => {
                Next::Stream { audit_due: sweeping.is_audit_due(), watching: sweeping.watches_standby() }
            }
            _ => Next::Stay,
        };
        self.enter(next);
    }

    pub(super) fn on_commit_too_large(&mut self, id: RequestId) -> Result<(), Ended> {
        let shared = &mut self.shared;
        let (writes, moved): (Vec<Write>, _) = match shared.in_flight.remove(&id) {
            Some(Flight::Puts(puts)) => (puts.writes, None),
            Some(Flight::Batch(batch)) => (batch.writes, Some(batch.checkpoint)),
            None => {
                debug_assert!(false, "an answer comes once");
                return Ok(());
            }
        };
        let [write] = &writes[..] else { return Err(Ended::ShrinkTransactions) };
        if let Stage::Streaming(streaming) = &mut self.stage {
            streaming.replay.on_written(write.key());
        }
        // Its copy, if there is one, is older than the primary's from now on.
        let (key, bytes) = (write.key().clone(), write.data_bytes() - write.key().len());
        let too_large = TooLarge { value_bytes: bytes as u64 };
        if shared.too_large.insert(key.clone(), too_large) != Some(too_large) {
            shared.edited.add_edited_again(key.clone());
        }
        shared.stats.too_large += 1;
        shared.note(Note::TooLarge { key, bytes });
        if let Some(checkpoint) = moved {
            shared.commit_checkpoint(checkpoint, Changes::default());
        }
        Ok(())
    }
}
