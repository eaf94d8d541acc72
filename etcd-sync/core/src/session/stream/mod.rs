//! Steady state: the primary's changes in their order, one transaction under way, the checkpoint moving with each.

mod audit;
mod brake;

use std::sync::Arc;

use bytes::Bytes;

use self::audit::{Audit, Schedule};
use self::brake::Brake;
use crate::etcd::kv::{Event, Revision, printable};
use crate::link::fence::{Fenced, other_role};
use crate::link::history::Witness;
use crate::link::provenance::{Ledgers, Tracker};
use crate::link::question::Topic;
use crate::link::side::Side;
use crate::link::state::Checkpoint;
use crate::scope::Decision;
use crate::session::batch::{Batch, Write};
use crate::session::brake::{BrakeLimits, Counted};
use crate::session::catch_up::{Backlog, CatchUp};
use crate::session::commit::Changes;
use crate::session::examine::{Change, decide, is_key_in_scope};
use crate::session::replay::Replay;
use crate::session::shared::Shared;
use crate::session::{Ended, Note, QUEUED_EVENTS_MAX, Refusal, Start};

/// How often the record follows the standby's own life when the primary is quiet.
const SEEN_INTERVAL_MS: u64 = 60_000;

/// The stage of live updates. It follows both watches.
#[derive(Debug)]
pub(super) struct Streaming {
    tracker: Tracker,
    pub(super) replay: Replay,
    audit: Option<Audit>,
    audits: Schedule,
    pub(super) brake: Brake,
    /// Taken from the batcher, but not to be sent before the tracker has caught up.
    deferred: Option<Batch>,
    /// Changes up to here come again only to recognize the primary's history by.
    resumed_at: Revision,
    /// No change in scope lies between the witness and the record.
    witness_is_last: bool,
    /// Foreign creations up to here must be known before anything is deleted.
    known_from: Revision,
    is_after_copy: bool,
    /// What was to be followed when the session began; a copy leaves none.
    backlog: Option<Backlog>,
}

impl Streaming {
    fn new(shared: &Shared, counted: Counted) -> Self {
        Streaming {
            brake: Brake::new(shared, counted),
            tracker: Tracker::new(shared.checkpoint.seen),
            replay: Replay::default(),
            audit: None,
            audits: Schedule::default(),
            deferred: None,
            resumed_at: 0,
            witness_is_last: false,
            known_from: shared.last_commit_revision,
            is_after_copy: false,
            backlog: None,
        }
    }

    /// Goes on behind the record: opens both watches.
    pub(super) fn resume(shared: &mut Shared, witness_recognized: bool, counted: Counted, keys_counted: bool) -> Self {
        let mut streaming = Streaming::new(shared, counted);
        let (from, until, least) = (shared.checkpoint.revision, shared.primary_revision, shared.config.backlog_least);
        streaming.backlog = Some(Backlog::new(shared.catch_up, from, until, least, keys_counted));
        let (revision, offset) = (shared.checkpoint.revision, shared.checkpoint.offset);
        shared.stats.received_revision = if offset > 0 { revision - 1 } else { revision };
        let from = match (offset, &shared.checkpoint.witness) {
            (0, Some(witness)) if witness_recognized => {
                // From the witness on: what the primary delivers up to the checkpoint was never applied here.
                (streaming.resumed_at, streaming.witness_is_last) = (revision, witness.last);
                witness.revision + 1
            }
            (0, _) => revision + 1,
            _ => revision,
        };
        shared.watch(Side::Primary, from);
        shared.watch(Side::Standby, shared.checkpoint.seen + 1);
        streaming
    }

    /// The copy is complete and its record written; the primary's watch goes on as it is.
    pub(super) fn after_copy(shared: &mut Shared, audit_due: bool, watching: bool) -> Self {
        // Used up with the copy; the brake's goes on.
        shared.acceptance.take_if(|answer| answer.topic != Topic::Brake);
        shared.catch_up = CatchUp::default();
        let mut streaming = Streaming::new(shared, Counted::default());
        shared.kinds_known = true;
        if audit_due {
            streaming.begin_audit(shared);
        }
        if !watching {
            shared.watch(Side::Standby, shared.checkpoint.seen + 1);
        }
        streaming.is_after_copy = true;
        shared.note(Note::Streaming { revision: shared.checkpoint.revision });
        streaming
    }

    /// Whether an operator must answer before anything is written.
    pub(super) fn must_be_answered(limits: &BrakeLimits, start: &Start) -> Result<(), Refusal> {
        Brake::must_be_answered(limits, start)
    }

    /// What the brake has counted.
    pub(super) fn counted(&self, shared: &Shared) -> Counted {
        self.brake.counted(&shared.scope)
    }

    /// What was learnt about following a backlog.
    pub(super) fn catch_up(&self, shared: &Shared) -> CatchUp {
        self.backlog.as_ref().map_or(shared.catch_up, Backlog::known)
    }

    /// The primary's watch broke.
    pub(super) fn on_watch_broke(&mut self, shared: &Shared) {
        if let Some(backlog) = &mut self.backlog {
            backlog.on_watch_broke(shared.stats.received_revision);
        }
    }

    /// Whether more changes of the standby may be given now.
    pub(super) fn wants_standby_events(&self, shared: &Shared) -> bool {
        // What waits for more of the standby's history must not keep that history away.
        (shared.ledger.unwritten() < QUEUED_EVENTS_MAX && shared.edited.unwritten() < QUEUED_EVENTS_MAX)
            || !shared.ledger.is_settled(self.tracker.seen())
    }

    /// Nothing waits for the tracker.
    pub(super) fn is_idle(&self) -> bool {
        self.deferred.is_none()
    }

    /// The primary's watch stands: only now is it certain that the history behind the record is still there.
    pub(super) fn on_opened(&self, shared: &mut Shared) {
        shared.note(Note::Streaming { revision: shared.checkpoint.revision });
    }

    /// Changes of the primary have come.
    pub(super) fn on_events(&mut self, shared: &mut Shared, events: Vec<Event>, complete: bool) -> Result<(), Ended> {
        shared.update_received_from(&events, complete);
        if let Some(backlog) = &mut self.backlog {
            backlog.on_received(shared.stats.events, shared.stats.received_revision)?;
        }
        let scope = Arc::clone(&shared.scope);
        let committed = shared.last_commit_revision;
        self.brake.on_events_begin(shared);
        for event in events {
            let (revision, decision) = (event.revision(), decide(&scope, &event));
            if revision <= self.resumed_at {
                if decision == Decision::InScope {
                    self.judge_redelivered(&event)?;
                }
                continue;
            }
            if is_key_in_scope(decision) {
                shared.update_recent(&event, committed);
            }
            let write = match shared.judge(event, decision)? {
                Change::Put(kv, header) => {
                    self.brake.on_put(shared, &kv, header.as_deref());
                    Some(Write::Put { key: kv.key, value: kv.value })
                }
                Change::Delete(key) => Some(Write::Delete { key }),
                // Whether it is on record as local is checked when its turn comes.
                Change::LeavesScope(kv) if kv.lease != 0 => Some(Write::Delete { key: kv.key }),
                // What was mirrored of it stays as it is until the primary deletes it: a same-name object created
                // independently, which the standby's controllers make as often as the primary's, must never be taken for it.
                Change::LeavesScope(_) | Change::Filtered => None,
            };
            if decision == Decision::InScope && write.is_none() {
                shared.filtered_at = revision;
            }
            if let Some(Write::Delete { key }) = &write {
                self.brake.on_delete(shared, key, revision);
            }
            shared.batcher.push(revision, write);
        }
        if complete {
            shared.batcher.end_revision();
        }
        self.brake.on_events_end(shared)
    }

    /// Changes of the standby have come, our own among them.
    pub(super) fn on_standby_events(
        &mut self,
        shared: &mut Shared,
        events: &[Event],
        complete: bool,
    ) -> Result<(), Ended> {
        let keys = &shared.fence.keys;
        for event in events.iter().filter(|event| *event.key() == keys.role) {
            let role = match event {
                Event::Put(kv) => Some(&kv.value[..]),
                Event::Delete { .. } => None,
            };
            if let Some(found) = other_role(role) {
                return Err(Ended::Fenced(Fenced::Role { found }));
            }
        }
        let committed = shared.last_commit_revision;
        let mut ledgers = Ledgers { local: &mut shared.ledger, edited: &mut shared.edited };
        let lost = self.tracker.observe(events, complete, &shared.scope, keys, &mut ledgers, committed);
        for key in lost {
            self.replay.add_lost(&key, shared.now_ms)?;
        }
        // Another replica came up: who restarted it wants everything checked.
        let (prefix, own) = (&keys.leader_prefix, &shared.fence.leader_key);
        let joined = |event: &Event| matches!(event, Event::Put(kv) if kv.key.starts_with(prefix) && kv.create_revision == kv.mod_revision);
        if events.iter().any(|event| joined(event) && event.key() != own) {
            self.want_audit();
        }
        shared.guard_ledger()
    }

    /// The standby's watch is complete up to `revision`.
    pub(super) fn on_standby_progress(&mut self, revision: Revision) {
        self.tracker.progress(revision);
    }

    /// Sends what is due, one transaction at a time.
    pub(super) fn advance(&mut self, shared: &mut Shared) {
        if shared.kinds_known {
            self.replay.try_begin_round(shared);
        }
        self.advance_audit(shared);
        if shared.in_flight.is_empty()
            && !self.replay.try_commit(shared)
            && !self.try_commit_batch(shared)
            && !self.brake.try_drop_answer(shared)
        {
            self.try_move_checkpoint(shared);
        }
    }

    /// Sends the next transaction's worth of changes and ledger entries, if there is any.
    fn try_commit_batch(&mut self, shared: &mut Shared) -> bool {
        let Some(seen) = shared.try_commit_ledger(self.tracker.seen()) else { return true };
        if self.brake.holds(shared) {
            return false;
        }
        let next = self.deferred.take().or_else(|| shared.next_batch());
        let Some(mut batch) = next else { return false };
        if self.must_wait_for_tracker(shared, &batch) {
            self.deferred = Some(batch);
            return false;
        }
        batch.writes.iter().for_each(|write| self.replay.on_written(write.key()));
        let received = if shared.batcher.is_empty() { shared.stats.received_revision } else { Revision::MAX };
        let witness = match (batch.offset, shared.identity.witness_at(batch.revision, received), batch.last.take()) {
            (0, Some(last), _) => Some(last.clone()),
            (_, _, Some((revision, write))) => {
                let value = match &write {
                    Write::Put { value, .. } => Some(&value[..]),
                    Write::Delete { .. } => None,
                };
                Witness::new(write.key(), revision, value, true).or_else(|| weaker(&shared.checkpoint))
            }
            _ => shared.checkpoint.witness.clone(),
        };
        // Nothing of what its content has filtered is known when it comes again.
        let is_last = |witness: &Witness| witness.last && witness.revision >= shared.filtered_at;
        let witness = witness.map(|witness| Witness { last: is_last(&witness), ..witness });
        shared.commit_batch(batch, witness, seen);
        true
    }

    /// Moves the checkpoint without data, now and then.
    fn try_move_checkpoint(&mut self, shared: &mut Shared) {
        let idle_ms = shared.now_ms - shared.last_commit_ms.min(shared.now_ms);
        let (received, seen) = (shared.stats.received_revision, self.tracker.seen());
        let primary_moved = received > shared.checkpoint.revision && idle_ms >= shared.config.checkpoint_interval_ms;
        // Our own last write is no reason for another: a quiet pair must come to rest.
        let standby_moved = (seen > shared.last_commit_revision && idle_ms >= SEEN_INTERVAL_MS)
            || (self.is_record_behind(shared) && idle_ms >= shared.config.checkpoint_interval_ms);
        let unwritten = shared.ledger.unwritten() + shared.edited.unwritten();
        let is_idle = shared.is_idle() && self.is_idle() && unwritten == 0;
        if is_idle && (primary_moved || standby_moved) {
            let revision = received.max(shared.checkpoint.revision);
            let witness =
                shared.identity.witness_at(revision, received).or(shared.checkpoint.witness.as_ref()).cloned();
            let checkpoint = Checkpoint { revision, offset: 0, seen, witness, ..shared.checkpoint.clone() };
            shared.commit_checkpoint(checkpoint, Changes::default());
        } else if is_idle {
            shared.try_commit_history();
        }
    }

    /// Whether the record of a copy does not say yet how far the standby is known by now: a session that resumes from it would
    /// need history that may soon be gone.
    fn is_record_behind(&self, shared: &Shared) -> bool {
        self.is_after_copy && shared.checkpoint.seen < self.known_from && self.tracker.seen() >= self.known_from
    }

    /// Whether a deletion depends on the record of local keys while our own last writes are not seen in it yet.
    fn must_wait_for_tracker(&self, shared: &Shared, batch: &Batch) -> bool {
        let is_local = |write: &Write| matches!(write, Write::Delete { key } if shared.ledger.holds(key));
        let is_delete = |write: &Write| matches!(write, Write::Delete { .. });
        // What was made here while nobody followed the standby's history is not on record yet.
        (self.tracker.seen() < shared.last_commit_revision && batch.writes.iter().any(is_local))
            || (self.tracker.seen() < self.known_from && batch.writes.iter().any(is_delete))
    }

    /// A change in scope at or before the checkpoint, delivered again from the witness on. It was never applied here.
    fn judge_redelivered(&self, event: &Event) -> Result<(), Ended> {
        let (revision, key) = (event.revision(), printable(event.key()));
        match (self.witness_is_last, event) {
            (true, _) => {
                let evidence = format!("it changed {key} at revision {revision}, which was never applied here");
                Err(Ended::Refused(Refusal::OtherHistory { evidence }))
            }
            // A copy meets no deletions, and what its content has filtered is not told apart here.
            (false, Event::Delete { .. }) => Ok(()),
            (false, Event::Put(_)) => Err(Ended::Again {
                force_copy: true,
                why: "the primary delivered a change before the checkpoint that is not known here",
            }),
        }
    }

    /// Keys that are lost and not back yet.
    pub(super) fn lost(&self) -> Vec<Bytes> {
        self.replay.keys().cloned().collect()
    }
}

/// The last witness, when the last change cannot be one.
fn weaker(checkpoint: &Checkpoint) -> Option<Witness> {
    checkpoint.witness.clone().map(|witness| Witness { last: false, ..witness })
}
