//! Which histories these are, while a session runs: it records what they are recognized by, and ends when one of them turns out
//! to be another.

use bytes::Bytes;

use super::examine::value_of;
use super::shared::Shared;
use super::{Ended, HistoryFacts, Refusal, Trust};
use crate::etcd::kv::{Event, Revision};
use crate::etcd::request::Op;
use crate::link::history::{HistoryRecord, Observer, RaftMark, RaftReading, Recent, Witness, survivors};
use crate::link::question::Topic;
use crate::link::side::{Side, Sides};
use crate::link::state::{Checkpoint, Phase};

/// The record follows the lists so often, and what only the raft logs show so often, in milliseconds: a pair at rest must come
/// to rest.
const WRITE_INTERVAL_MS: u64 = 5_000;
const RAFT_INTERVAL_MS: u64 = 10 * 60_000;

/// What the two histories are recognized by.
#[derive(Debug, Default)]
pub(super) struct Identity {
    pub(super) recent: Recent,
    observers: Sides<Observer>,
    written: Option<Written>,
    /// The last change of a message of the primary's watch that ended with a whole revision, in scope or not.
    last_event: Option<Witness>,
}

#[derive(Debug)]
struct Written {
    at_ms: u64,
    version: u64,
    raft: Sides<Option<RaftMark>>,
}

impl Identity {
    /// `is_same`: the record is of the history that is followed now, and its lists go on.
    pub(super) fn new(facts: &HistoryFacts, is_same: bool, now_ms: u64) -> Self {
        let record = facts.record.as_ref().filter(|_| is_same);
        let recent = record.map_or_else(Recent::default, |record| {
            // The others may have changed after the record was written, and before the checkpoint.
            let (changed, created) = survivors(record, &facts.sightings);
            Recent::resume(changed, created, now_ms)
        });
        let observers =
            Sides { primary: Observer::new(facts.primary.mark), standby: Observer::new(facts.standby.mark) };
        let raft = record
            .map_or_else(Sides::default, |record| Sides { primary: record.primary_raft, standby: record.standby_raft });
        let written = record.map(|_| Written { at_ms: now_ms, version: recent.version(), raft });
        Identity { recent, observers, written, last_event: None }
    }

    /// A message of the primary's watch has come.
    pub(super) fn on_events(&mut self, events: &[Event], complete: bool) {
        let Some(last) = events.last().filter(|_| complete) else {
            self.last_event = None;
            return;
        };
        self.last_event = Witness::new(last.key(), last.revision(), value_of(last), true);
    }

    /// The witness of a checkpoint at `revision`, when the last change received is the last one up to there.
    pub(super) fn witness_at(&self, revision: Revision, received: Revision) -> Option<&Witness> {
        self.last_event.as_ref().filter(|last| last.revision == revision || received <= revision)
    }
}

impl Shared {
    /// A reading of a cluster's raft log has come.
    pub(super) fn on_raft(&mut self, side: Side, reading: &RaftReading) -> Result<(), Ended> {
        let Some(proof) = self.identity.observers.get_mut(side).observe(reading) else { return Ok(()) };
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
        let raft = self.raft_marks();
        let due = self.identity.written.as_ref().is_none_or(|written| {
            let since_ms = self.now_ms.saturating_sub(written.at_ms);
            let lists_moved = written.version != self.identity.recent.version() && since_ms >= WRITE_INTERVAL_MS;
            lists_moved || (written.raft != raft && since_ms >= RAFT_INTERVAL_MS)
        });
        let answer = self.acceptance.take_if(|answer| answer.topic != Topic::Brake);
        if !due && answer.is_none() {
            return false;
        }
        let mut ops = vec![self.history_op(&self.checkpoint.clone())];
        ops.extend(answer.map(|_| Op::Delete { key: self.fence.keys.acceptance.clone() }));
        self.commit_checkpoint(self.checkpoint.clone(), super::commit::Changes { ops, ..Default::default() });
        true
    }

    /// Writes the record as of a checkpoint: with the lists as they are, or without any while a copy is not complete.
    pub(super) fn history_op(&mut self, checkpoint: &Checkpoint) -> Op {
        let (changed, created) = self.identity.recent.lists(checkpoint.revision);
        let raft = self.raft_marks();
        let record = HistoryRecord {
            format: HistoryRecord::FORMAT,
            primary: checkpoint.primary.clone(),
            primary_raft: raft.primary,
            standby_raft: raft.standby,
            revision: checkpoint.revision,
            consistent: match checkpoint.phase {
                Phase::Streaming => checkpoint.revision - Revision::from(checkpoint.offset > 0),
                Phase::FirstSync | Phase::Resync if self.trust == Trust::NOTHING => 0,
                Phase::FirstSync | Phase::Resync => self.trust.floor,
            },
            changed,
            created,
            at_ms: self.unix_ms,
        };
        self.identity.written = Some(Written { at_ms: self.now_ms, version: self.identity.recent.version(), raft });
        Op::Put { key: self.fence.keys.history.clone(), value: record.encode(), lease: 0 }
    }

    fn raft_marks(&self) -> Sides<Option<RaftMark>> {
        let observers = &self.identity.observers;
        Sides { primary: observers.primary.mark(), standby: observers.standby.mark() }
    }

    /// A live change of a key in scope.
    pub(super) fn update_recent(&mut self, event: &Event, standby_revision: Revision) {
        let now_ms = self.now_ms;
        match event {
            Event::Put(kv) => self.identity.recent.update_put(kv, standby_revision, now_ms),
            Event::Delete { key, revision } => self.identity.recent.update_delete(key, *revision),
        }
    }
}

/// A copy is complete: the answer that it was made under is used up. The brake's goes on: live updates end it.
pub(super) fn drop_acceptance(shared: &Shared) -> Option<Op> {
    let used = shared.acceptance.as_ref().is_some_and(|answer| answer.topic != Topic::Brake);
    used.then(|| Op::Delete { key: Bytes::clone(&shared.fence.keys.acceptance) })
}
