//! What a session records of the two histories, and what it ends for: a cluster that turns out to be another one.

use super::commit::Changes;
use super::shared::Shared;
use super::{Ended, Refusal, Trust};
use crate::etcd::kv::{Event, Revision};
use crate::etcd::request::Op;
use crate::link::history::RaftReading;
use crate::link::question::Topic;
use crate::link::side::Side;
use crate::link::state::{Checkpoint, Phase};

impl Shared {
    /// A reading of a cluster's raft log has come.
    pub(super) fn on_raft(&mut self, side: Side, reading: &RaftReading) -> Result<(), Ended> {
        let Some(proof) = self.identity.observe(side, reading) else { return Ok(()) };
        let evidence = proof.to_string();
        Err(match side {
            Side::Primary => Ended::Refused(Refusal::OtherHistory { evidence }),
            // When the record is from is read again by the next session.
            Side::Standby => {
                Ended::Again { force_copy: false, why: "the standby's raft log is another one than before" }
            }
        })
    }

    /// Writes the record of the histories with the checkpoint as it is, when it is due: also when live updates go on by the
    /// operator's answer without a copy, which is used up then. The brake has its own use for its answer.
    pub(super) fn try_commit_history(&mut self) -> bool {
        let answer = self.acceptance.take_if(|answer| answer.topic != Topic::Brake);
        if !self.identity.is_due(self.now_ms) && answer.is_none() {
            return false;
        }
        let mut ops = vec![self.history_op(&self.checkpoint.clone())];
        ops.extend(answer.map(|_| self.drop_answer_op()));
        self.commit_checkpoint(self.checkpoint.clone(), Changes { ops, ..Changes::default() });
        true
    }

    /// Writes the record as of a checkpoint.
    pub(super) fn history_op(&mut self, checkpoint: &Checkpoint) -> Op {
        let consistent = match checkpoint.phase {
            Phase::Streaming => checkpoint.revision - Revision::from(checkpoint.offset > 0),
            Phase::FirstSync | Phase::Resync if self.trust == Trust::NOTHING => 0,
            Phase::FirstSync | Phase::Resync => self.trust.floor,
        };
        let (primary, revision) = (checkpoint.primary.clone(), checkpoint.revision);
        let record = self.identity.write(primary, revision, consistent, self.now_ms, self.unix_ms);
        Op::Put { key: self.fence.keys.history.clone(), value: record.encode(), lease: 0 }
    }

    /// A live change of a key in scope.
    pub(super) fn update_recent(&mut self, event: &Event, standby_revision: Revision) {
        let now_ms = self.now_ms;
        match event {
            Event::Put(kv) => self.identity.recent.update_put(kv, standby_revision, now_ms),
            Event::Delete { key, revision } => self.identity.recent.update_delete(key, *revision),
        }
    }

    /// A copy is complete: the answer that it was made under is used up. The brake's goes on: live updates end it.
    pub(super) fn drop_answer_after_copy(&self) -> Option<Op> {
        let used = self.acceptance.as_ref().is_some_and(|answer| answer.topic != Topic::Brake);
        used.then(|| self.drop_answer_op())
    }

    fn drop_answer_op(&self) -> Op {
        Op::Delete { key: self.fence.keys.acceptance.clone() }
    }
}
