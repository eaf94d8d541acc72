//! The session itself: hands every input to the stage it is in, and moves from stage to stage. Nothing else knows which stage
//! that is.

use std::sync::Arc;

use super::brake::Counted;
use super::commit::Changes;
use super::copy::Copying;
use super::flight::{Flight, Purpose};
use super::planning::Planning;
use super::shared::{ReadFor, Shared};
use super::start::{Beginning, Carried, SessionConfig, Start, open};
use super::stream::Streaming;
use super::sweep::Sweeping;
use super::trail::Next;
use super::{Effect, Ended, Input, Note, ReadFailure, Refusal, RequestId, Stats};
use crate::etcd::kv::{Event, Revision};
use crate::etcd::request::{Page, TxnReply};
use crate::link::fence::Fenced;
use crate::link::side::Side;
use crate::link::state::{Checkpoint, Phase};
use crate::scope::Scope;
use crate::session::batch::Write;

/// One leader's work on one link, from the record it found to the moment when something is unclear.
#[derive(Debug)]
pub struct Session {
    shared: Shared,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The first record of a copy is being written.
    Opening {
        never_synchronized: bool,
    },
    Planning(Box<Planning>),
    Copying(Box<Copying>),
    Sweeping(Box<Sweeping>),
    Streaming(Box<Streaming>),
}

impl Session {
    /// Begins, or gives the reason why not.
    pub fn begin(config: SessionConfig, scope: Arc<Scope>, mut start: Start) -> Result<Session, Refusal> {
        let beginning = open(&start, &scope.fingerprint())?;
        Streaming::must_be_answered(&config.brake, &start)?;
        let checkpoint = match &beginning {
            Beginning::Resume(checkpoint) | Beginning::Copy { begin: checkpoint, .. } => checkpoint.clone(),
        };
        let witness_recognized = start.witness_recognized == Some(true);
        let (audit, lost) = (start.carried.audit, std::mem::take(&mut start.carried.lost));
        let counted = std::mem::take(&mut start.carried.brake);
        let trust = match &beginning {
            Beginning::Resume(_) => None,
            Beginning::Copy { trust, .. } => Some(*trust),
        };
        let mut shared = Shared::new(config, scope, start, checkpoint, trust);
        let stage = match beginning {
            Beginning::Resume(_) => {
                let mut streaming = Streaming::resume(&mut shared, witness_recognized, counted);
                shared.read_kinds();
                if audit {
                    streaming.begin_audit(&shared);
                }
                for key in lost {
                    // Fewer than the limit were carried over.
                    let _ = streaming.replay.add_lost(&key, shared.now_ms);
                }
                Stage::Streaming(Box::new(streaming))
            }
            Beginning::Copy { begin, never_synchronized, .. } => {
                shared.note(Note::CopyBegan { first: begin.phase == Phase::FirstSync });
                // From now on this is the primary's history; the lists stay as they are until the copy is complete.
                let ops = vec![shared.history_op(&begin)];
                shared.commit_checkpoint(begin, Changes { ops, ..Changes::default() });
                Stage::Opening { never_synchronized }
            }
        };
        let mut session = Session { shared, stage };
        session.update_stats();
        Ok(session)
    }

    /// Takes what happened; `now_ms` in Unix milliseconds never goes back.
    pub fn handle(&mut self, now_ms: u64, input: Input) -> Result<(), Ended> {
        self.shared.now_ms = self.shared.now_ms.max(now_ms);
        match input {
            Input::Read { id, result } => self.on_read(id, result)?,
            Input::Opened { side: Side::Primary } => self.on_primary_opened(),
            Input::Opened { side: Side::Standby } => {}
            Input::Tick => self.on_tick(),
            Input::Events { side: Side::Primary, events, complete } => self.on_primary_events(events, complete)?,
            Input::Events { side: Side::Standby, events, complete } => match &mut self.stage {
                Stage::Streaming(streaming) => streaming.on_standby_events(&mut self.shared, &events, complete)?,
                stage => debug_assert!(false, "the standby is not watched while {}", stage.name()),
            },
            Input::Progress { side: Side::Primary, revision } => self.shared.update_received(revision),
            Input::Progress { side: Side::Standby, revision } => match &mut self.stage {
                Stage::Streaming(streaming) => streaming.on_standby_progress(revision),
                stage => debug_assert!(false, "the standby is not watched while {}", stage.name()),
            },
            Input::WatchCompacted { side, compact_revision } => self.on_watch_compacted(side, compact_revision)?,
            Input::WatchClosed { side } => match (&mut self.stage, side) {
                (Stage::Copying(copying), Side::Primary) => copying.on_watch_closed(&mut self.shared)?,
                _ => return Err(Ended::WATCH_BROKE),
            },
            Input::Committed { id, reply } => self.on_committed(id, &reply)?,
            Input::CommitTooLarge { id } => self.on_commit_too_large(id)?,
            Input::Raft { side, reading } => self.shared.on_raft(side, &reading)?,
        }
        self.advance()?;
        self.update_stats();
        Ok(())
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Effect> {
        self.shared.next_effect()
    }

    /// Whether changes of that side may be given now. While not, leave them in the stream.
    pub fn wants(&self, side: Side) -> bool {
        match (side, &self.stage) {
            (Side::Standby, Stage::Streaming(streaming)) => streaming.wants_standby_events(&self.shared),
            (Side::Standby, _) => true,
            (Side::Primary, Stage::Copying(copying)) => copying.wants_events(),
            (Side::Primary, Stage::Sweeping(sweeping)) => sweeping.wants_events(&self.shared),
            (Side::Primary, _) => self.shared.has_room(),
        }
    }

    /// The record as the standby holds it.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.shared.checkpoint
    }

    /// What the next session should know of this one.
    pub fn carried(&self) -> Carried {
        let (lost, audit, brake) = match &self.stage {
            Stage::Streaming(streaming) => {
                (streaming.lost(), streaming.audit.is_some(), streaming.counted(&self.shared))
            }
            Stage::Sweeping(sweeping) => (vec![], sweeping.is_audit_due(), Counted::default()),
            Stage::Opening { .. } | Stage::Planning(_) | Stage::Copying(_) => (vec![], false, Counted::default()),
        };
        Carried { kinds: self.shared.kinds.clone(), kinds_known: self.shared.kinds_known, lost, audit, brake }
    }

    /// Whether nothing that is checked beforehand can refuse any more: keys are being written.
    pub fn is_under_way(&self) -> bool {
        !matches!(self.stage, Stage::Opening { .. } | Stage::Planning(_))
    }

    /// What is synchronized.
    pub fn scope(&self) -> &Scope {
        &self.shared.scope
    }

    /// Counters and positions.
    pub fn stats(&self) -> &Stats {
        &self.shared.stats
    }

    /// Everything received is applied and nothing is under way.
    pub fn is_idle(&self) -> bool {
        let waits = matches!(&self.stage, Stage::Streaming(streaming) if !streaming.is_idle());
        self.shared.is_idle() && !waits
    }

    fn on_read(&mut self, id: RequestId, result: Result<Page, ReadFailure>) -> Result<(), Ended> {
        let shared = &mut self.shared;
        let Some(purpose) = shared.reads.remove(&id) else {
            debug_assert!(false, "an answer comes once");
            return Ok(());
        };
        match (&mut self.stage, purpose) {
            (Stage::Planning(planning), ReadFor::Walk(ask)) => planning.on_page(shared, ask, result),
            (Stage::Copying(copying), ReadFor::Walk(ask)) => copying.on_page(shared, ask, result),
            (Stage::Copying(copying), ReadFor::Owner(side, key)) => copying.on_owner(shared, side, &key, result),
            (Stage::Sweeping(sweeping), ReadFor::Walk(ask)) => sweeping.on_page(shared, ask, result),
            (Stage::Sweeping(sweeping), ReadFor::Marks(revision)) => {
                sweeping.on_marks(shared, revision, result);
                Ok(())
            }
            (Stage::Sweeping(sweeping), ReadFor::Save(key)) => sweeping.on_save(&key, result),
            (Stage::Streaming(_), ReadFor::Kinds(ranges)) => {
                shared.on_kinds(ranges, result);
                Ok(())
            }
            (Stage::Streaming(streaming), ReadFor::Audit(ask)) => streaming.on_audit_page(shared, ask, result),
            (Stage::Streaming(streaming), ReadFor::Replay(side, key)) => {
                streaming.replay.on_read(shared, side, key, result)
            }
            (Stage::Streaming(streaming), ReadFor::Brake(query)) => streaming.brake.on_read(shared, query, result),
            (stage, purpose) => {
                debug_assert!(false, "{purpose:?} while {}", stage.name());
                Ok(())
            }
        }
    }

    /// What only time changes.
    fn on_tick(&mut self) {
        if let Stage::Streaming(streaming) = &self.stage {
            self.shared.stats.vanishing = streaming.replay.vanishing(self.shared.now_ms);
        }
    }

    fn on_primary_opened(&mut self) {
        match &mut self.stage {
            Stage::Copying(copying) => copying.on_opened(&self.shared),
            Stage::Streaming(streaming) => streaming.on_opened(&mut self.shared),
            // The copy's watch broke, and stands again after the copy has ended.
            Stage::Sweeping(_) => {}
            stage => debug_assert!(false, "the primary is not watched while {}", stage.name()),
        }
    }

    fn on_primary_events(&mut self, events: Vec<Event>, complete: bool) -> Result<(), Ended> {
        let shared = &mut self.shared;
        match &mut self.stage {
            Stage::Copying(copying) => copying.on_events(shared, events, complete),
            Stage::Sweeping(sweeping) => sweeping.on_events(shared, events, complete)?,
            Stage::Streaming(streaming) => streaming.on_events(shared, events, complete)?,
            stage => debug_assert!(false, "the primary is not watched while {}", stage.name()),
        }
        Ok(())
    }

    fn on_watch_compacted(&mut self, side: Side, compact_revision: Revision) -> Result<(), Ended> {
        let next = match (&self.stage, side) {
            (Stage::Copying(copying), Side::Primary) => copying.on_compacted(&mut self.shared, compact_revision)?,
            (_, Side::Primary) => return Err(Ended::PRIMARY_COMPACTED),
            (_, Side::Standby) => return Err(Ended::STANDBY_COMPACTED),
        };
        self.enter(next);
        Ok(())
    }

    fn on_committed(&mut self, id: RequestId, reply: &TxnReply) -> Result<(), Ended> {
        let shared = &mut self.shared;
        let Some(flight) = shared.in_flight.remove(&id) else {
            debug_assert!(false, "an answer comes once");
            return Ok(());
        };
        if !reply.succeeded {
            return self.on_refused_commit(reply, &flight);
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
            Flight::Puts(writes) => shared.count(&writes, 0, reply.revision),
            Flight::Batch { checkpoint, value, writes, purpose } => {
                shared.count(&writes, checkpoint.revision, reply.revision);
                if let (Stage::Streaming(streaming), Purpose::Replay) = (&mut self.stage, purpose) {
                    streaming.replay.on_committed(shared, &writes);
                }
                (shared.checkpoint, shared.checkpoint_value) = (*checkpoint, Some(value));
                self.on_checkpoint_moved();
            }
        }
        Ok(())
    }

    /// Nothing of the transaction was applied: somebody else has changed what it compares.
    fn on_refused_commit(&mut self, reply: &TxnReply, flight: &Flight) -> Result<(), Ended> {
        match (self.shared.fence.diagnose(reply), &mut self.stage, flight) {
            (Fenced::Checkpoint, Stage::Sweeping(sweeping), Flight::Batch { purpose: Purpose::Sweep, .. }) => {
                sweeping.begin_again(&mut self.shared)
            }
            (Fenced::Checkpoint, Stage::Streaming(streaming), Flight::Batch { purpose: Purpose::Replay, .. }) => {
                streaming.replay.end_round();
                Ok(())
            }
            (Fenced::Checkpoint, _, _) => Err(Ended::Again { force_copy: false, why: "the checkpoint moved under us" }),
            (fenced, _, _) => Err(Ended::Fenced(fenced)),
        }
    }

    /// The record was written: the stages that wait for that go on.
    fn on_checkpoint_moved(&mut self) {
        let next = match (&self.stage, self.shared.checkpoint.phase) {
            (Stage::Opening { never_synchronized: true }, _) => Next::Copy,
            (Stage::Opening { never_synchronized: false }, _) => Next::Plan,
            (Stage::Sweeping(sweeping), Phase::Streaming) => Next::Stream { audit_due: sweeping.is_audit_due() },
            _ => Next::Stay,
        };
        self.enter(next);
    }

    fn on_commit_too_large(&mut self, id: RequestId) -> Result<(), Ended> {
        let shared = &mut self.shared;
        let (writes, moved): (Vec<Write>, _) = match shared.in_flight.remove(&id) {
            Some(Flight::Puts(writes)) => (writes, None),
            Some(Flight::Batch { checkpoint, writes, .. }) => (writes, Some(checkpoint)),
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
        shared.edited.add_edited(write.key().clone(), 0);
        shared.stats.too_large += 1;
        shared.note(Note::TooLarge { key: write.key().clone(), bytes: write.data_bytes() - write.key().len() });
        if let Some(checkpoint) = moved {
            shared.commit_checkpoint(*checkpoint, Changes::default());
        }
        Ok(())
    }

    fn advance(&mut self) -> Result<(), Ended> {
        let shared = &mut self.shared;
        let next = match &mut self.stage {
            Stage::Opening { .. } => Next::Stay,
            Stage::Planning(planning) => planning.advance(shared)?,
            Stage::Copying(copying) => copying.advance(shared)?,
            Stage::Sweeping(sweeping) => {
                sweeping.advance(shared)?;
                Next::Stay
            }
            Stage::Streaming(streaming) => {
                streaming.advance(shared);
                Next::Stay
            }
        };
        self.enter(next);
        Ok(())
    }

    fn enter(&mut self, next: Next) {
        let shared = &mut self.shared;
        self.stage = match next {
            Next::Stay => return,
            Next::Plan => Stage::Planning(Box::new(Planning::new(shared))),
            Next::Copy => Stage::Copying(Box::new(Copying::begin(shared))),
            Next::Sweep(trail) => Stage::Sweeping(Box::new(Sweeping::new(shared.scope.ranges(), trail))),
            Next::Stream { audit_due } => Stage::Streaming(Box::new(Streaming::after_copy(shared, audit_due))),
        };
    }

    fn update_stats(&mut self) {
        let shared = &mut self.shared;
        shared.stats.local_keys = shared.ledger.len() as u64;
        if let Stage::Streaming(streaming) = &self.stage {
            shared.stats.lost = streaming.replay.len() as u64;
        }
    }
}

impl Stage {
    fn name(&self) -> &'static str {
        match self {
            Stage::Opening { .. } => "opening",
            Stage::Planning(_) => "planning",
            Stage::Copying(_) => "copying",
            Stage::Sweeping(_) => "sweeping",
            Stage::Streaming(_) => "streaming",
        }
    }
}
