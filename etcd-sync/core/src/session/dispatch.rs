//! The session itself: hands every input to the stage it is in, and moves from stage to stage. Nothing else knows which stage
//! that is.

mod outcome;

use std::sync::Arc;

use super::brake::Counted;
use super::clock::Now;
use super::commit::Changes;
use super::copy::Copying;
use super::planning::Planning;
use super::shared::{ReadFor, Shared};
use super::start::{Beginning, Carried, SessionConfig, Start, open};
use super::stream::Streaming;
use super::sweep::Sweeping;
use super::trail::Next;
use super::{Effect, Ended, Input, Note, ReadFailure, Refusal, RequestId, Stats};
use crate::etcd::kv::{Event, Revision};
use crate::etcd::request::{Compare, Page};
use crate::link::side::Side;
use crate::link::state::{Checkpoint, Phase};
use crate::scope::Scope;
use crate::session::walk::Ask;

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
        let copied_revision = start.copied_revision;
        let (keys, catch_up) = (start.standby_keys, start.carried.catch_up);
        let mut shared = Shared::new(config, Arc::clone(&scope), start, checkpoint, trust);
        // What is edited while it is out of scope is nobody's matter, and nobody knows of it when it comes back.
        shared.edited.retain(|key| scope.in_scope(key));
        let stage = match beginning {
            Beginning::Resume(_) => {
                let mut streaming = Streaming::resume(&mut shared, witness_recognized, counted, keys.is_some());
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
            Beginning::Copy { begin, never_synchronized, backlog, .. } => {
                if let Some(revisions) = backlog {
                    shared.note(Note::LongBacklog { changes: catch_up.changes(revisions), keys });
                }
                shared.note(Note::CopyBegan { first: begin.phase == Phase::FirstSync });
                // From now on this is the primary's history; the lists stay as they are until the copy is complete.
                let ops = vec![shared.history_op(&begin)];
                // What an abandoned copy wrote after the record was read would be taken for somebody else's.
                let copied = shared.fence.keys.copied.clone();
                let compares = vec![Compare::ModRevision { key: copied, revision: copied_revision }];
                shared.commit_checkpoint(begin, Changes { ops, compares, ..Changes::default() });
                Stage::Opening { never_synchronized }
            }
        };
        let mut session = Session { shared, stage };
        session.update_stats();
        Ok(session)
    }

    /// Takes what happened, and when.
    pub fn handle(&mut self, now: impl Into<Now>, input: Input) -> Result<(), Ended> {
        let now: Now = now.into();
        (self.shared.now_ms, self.shared.unix_ms) = (self.shared.now_ms.max(now.ms), now.unix_ms);
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
                (Stage::Sweeping(sweeping), Side::Standby) => sweeping.watch_standby(&mut self.shared),
                (Stage::Sweeping(_), Side::Primary) if self.shared.revision_complete => {
                    self.shared.watch(Side::Primary, self.shared.stats.received_revision + 1);
                }
                (Stage::Streaming(streaming), Side::Primary) => {
                    streaming.on_watch_broke(&self.shared);
                    return Err(Ended::WATCH_BROKE);
                }
                _ => return Err(Ended::WATCH_BROKE),
            },
            Input::Committed { id, reply } => self.on_committed(id, &reply)?,
            Input::CommitTooLarge { id } => self.on_commit_too_large(id)?,
            Input::Raft { side, reading } => self.shared.on_raft(side, &reading)?,
            Input::CommitFailed { id, unknown } => self.on_commit_failed(id, unknown),
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
            // It waits in the stream.
            (Side::Standby, _) => false,
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
                (streaming.lost(), streaming.is_audit_due(), streaming.counted(&self.shared))
            }
            Stage::Sweeping(sweeping) => (vec![], sweeping.is_audit_due(), Counted::default()),
            Stage::Opening { .. } | Stage::Planning(_) | Stage::Copying(_) => (vec![], false, Counted::default()),
        };
        let page_budget = match &self.stage {
            Stage::Copying(copying) => copying.page_budget(&self.shared),
            _ => self.shared.page_budget,
        };
        let catch_up = match &self.stage {
            Stage::Streaming(streaming) => streaming.catch_up(&self.shared),
            _ => self.shared.catch_up,
        };
        Carried {
            catch_up,
            kinds: self.shared.kinds.clone(),
            kinds_known: self.shared.kinds_known,
            lost,
            audit,
            page_budget,
            brake,
        }
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
        let Some((purpose, asked_ms)) = shared.reads.remove(&id) else {
            debug_assert!(false, "an answer comes once");
            return Ok(());
        };
        let purpose = purpose.answered_after(shared.now_ms.saturating_sub(asked_ms));
        if let (ReadFor::Walk(Ask { side: Side::Primary, .. }), Ok(page)) = (&purpose, &result) {
            shared.copy_reads.spend(page.size_bytes() as u64);
        }
        match (&mut self.stage, purpose) {
            (_, ReadFor::Record(commit)) => self.on_record(commit, result),
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
        if let (Stage::Copying(copying), Next::Sweep(_)) = (&self.stage, &next) {
            shared.page_budget = copying.page_budget(shared);
        }
        self.stage = match next {
            Next::Stay => return,
            Next::Plan => Stage::Planning(Box::new(Planning::new(shared))),
            Next::Copy => Stage::Copying(Box::new(Copying::begin(shared))),
            Next::Sweep(trail) => Stage::Sweeping(Box::new(Sweeping::new(shared.scope.ranges(), trail))),
            Next::Stream { audit_due, watching } => {
                Stage::Streaming(Box::new(Streaming::after_copy(shared, audit_due, watching)))
            }
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
