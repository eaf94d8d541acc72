//! One leader's work on one link, as a state machine without I/O, clock or threads: feed it what happened with
//! [`Session::handle`], do what [`Session::poll`] asks for. The daemon and the simulation drive the same machine.
//!
//! A session is cheap to end: whenever something is unclear (an unknown outcome, a broken stream) the driver drops it,
//! reads the record from the standby again and begins another.

mod audit;
pub mod batch;
mod changes;
mod copy;
mod effect;
mod examine;
pub mod families;
mod replay;
mod start;
mod stream;
mod sweep;
pub mod walk;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

pub use copy::HELD_BYTES_MAX;
pub use effect::{Effect, Ended, Input, Note, ReadFailure, RequestId, Stats};
pub use start::{Carried, DeletionGuard, Opening, Parted, Refusal, SessionConfig, Start, init_role, open, role_allows};

use self::audit::Audit;
use self::copy::Copy;
use self::replay::Replay;
use self::sweep::{Plan, Sweep};
use crate::etcd::kv::{KeyRange, Revision};
use crate::etcd::request::{Compare, Op, ReadRange, Txn, TxnReply};
use crate::link::fence::{Fence, Fenced};
use crate::link::provenance::{Ledger, Moments, Tracker};
use crate::link::side::Side;
use crate::link::state::{Checkpoint, Phase, Witness};
use crate::scope::Scope;
use crate::scope::content::Kinds;
use crate::session::batch::{Batch, Batcher, Write};
use crate::session::walk::Ask;

/// Changes of the primary held in memory at most: by bytes, and by number.
const QUEUED_BYTES_MAX: usize = 4 * 1024 * 1024;
const QUEUED_EVENTS_MAX: usize = 20_000;

/// See the module.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    scope: Arc<Scope>,
    fence: Fence,
    /// The record as the standby holds it, and its value there.
    checkpoint: Checkpoint,
    checkpoint_value: Option<Bytes>,
    ledger: Ledger,
    moments: Moments,
    kinds: Kinds,
    replay: Replay,
    audit: Option<Audit>,
    primary_revision: Revision,
    witness_recognized: bool,
    /// The newest revision of a change that its key has in scope and its content has not.
    left_out_at: Revision,
    /// The primary's watch does not stand inside a revision.
    told_whole: bool,
    /// The newest change in scope that a copy has come across.
    newest_change: Option<Witness>,
    /// Changes up to here are told again only to recognize the primary's history by.
    resumed_at: Revision,
    batcher: Batcher,
    /// Taken from the batcher, but not to be sent before the tracker has caught up.
    deferred: Option<Batch>,
    stage: Stage,
    in_flight: HashMap<RequestId, Flight>,
    reads: HashMap<RequestId, ReadFor>,
    effects: VecDeque<Effect>,
    next_id: RequestId,
    now_ms: u64,
    last_commit_ms: u64,
    last_commit_revision: Revision,
    /// Revisions of the standby that this session wrote while copying: what else was made meanwhile is not ours.
    own_revisions: HashSet<Revision>,
    /// Foreign creations up to here must be known before anything is deleted.
    known_from: Revision,
    /// The copy has met keys that the replay must look at.
    audit_after_copy: bool,
    /// All CRDs of the primary were read.
    kinds_known: bool,
    stats: Stats,
}

#[derive(Debug)]
enum Stage {
    /// The first record of a copy is being written.
    Opening {
        virgin: bool,
    },
    /// Counting what a resync would delete, before anything is written.
    Planning(Plan),
    /// Copying values, the primary's watch running beside.
    Copying(Box<Copy>),
    /// Looking at what only the standby has.
    Sweeping(Sweep),
    Streaming(Tracker),
}

/// A commit under way.
#[derive(Debug)]
enum Flight {
    /// A part of a copy: does not move the checkpoint.
    Puts(Vec<Write>),
    /// Everything that moves the checkpoint.
    Batch { checkpoint: Box<Checkpoint>, value: Bytes, writes: Vec<Write>, purpose: Purpose },
}

/// What a commit that moves the checkpoint is for, as far as it matters when it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Changes,
    /// Judged keys that others may change.
    Sweep,
    Replay,
}

/// What a transaction does beside moving the checkpoint.
#[derive(Debug, Default)]
struct Changes {
    /// The data in it, for the counters.
    writes: Vec<Write>,
    /// The operations on data and on the ledger.
    ops: Vec<Op>,
    /// What must hold beside the fence.
    compares: Vec<Compare>,
    /// It puts back what was lost.
    replay: bool,
}

#[derive(Clone, Debug)]
enum ReadFor {
    Walk(Ask),
    Marks(Revision),
    Owner(Side, Bytes),
    Kinds(Vec<KeyRange>),
    Audit(Ask),
    Replay(Side, Bytes),
}

impl Session {
    /// Begins, or says why not.
    pub fn begin(config: SessionConfig, scope: Arc<Scope>, start: Start) -> Result<Session, Refusal> {
        let opening = open(&start, &config, &scope.fingerprint())?;
        let (checkpoint, stage) = match &opening {
            Opening::Resume(checkpoint) => (checkpoint.clone(), Stage::Streaming(Tracker::new(checkpoint.seen))),
            Opening::Copy { begin, virgin } => (begin.clone(), Stage::Opening { virgin: *virgin }),
        };
        let moments = Moments {
            base: checkpoint.base,
            seen: checkpoint.seen,
            last_write: start.last_write,
            began: start.standby_revision,
        };
        let (audit, lost) = (start.carried.audit, start.carried.lost);
        let mut session = Session {
            batcher: Batcher::resume(checkpoint.revision, checkpoint.offset),
            deferred: None,
            checkpoint_value: start.checkpoint,
            ledger: Ledger::new(start.local_keys),
            kinds: start.carried.kinds,
            replay: Replay::default(),
            audit: None,
            in_flight: HashMap::new(),
            reads: HashMap::new(),
            effects: VecDeque::new(),
            next_id: 0,
            now_ms: start.now_ms,
            last_commit_ms: 0,
            last_commit_revision: start.standby_revision,
            own_revisions: HashSet::new(),
            known_from: start.standby_revision,
            audit_after_copy: false,
            kinds_known: start.carried.kinds_known,
            stats: Stats::default(),
            primary_revision: start.primary_revision,
            witness_recognized: start.witness_recognized == Some(true),
            left_out_at: 0,
            told_whole: true,
            newest_change: None,
            resumed_at: 0,
            fence: start.fence,
            config,
            scope,
            checkpoint,
            moments,
            stage,
        };
        match opening {
            Opening::Resume(checkpoint) => {
                session.open_streams(&checkpoint);
                session.read_kinds();
                if audit {
                    session.begin_audit();
                }
                for key in lost {
                    // Fewer than the limit were carried over.
                    let _ = session.lost(&key);
                }
            }
            Opening::Copy { begin, .. } => {
                session.note(Note::CopyBegan { first: begin.phase == Phase::FirstSync });
                session.commit_checkpoint(begin, Changes::default());
            }
        }
        session.refresh_stats();
        Ok(session)
    }

    /// Takes what happened; `now_ms` in Unix milliseconds never goes back.
    pub fn handle(&mut self, now_ms: u64, input: Input) -> Result<(), Ended> {
        self.now_ms = self.now_ms.max(now_ms);
        match input {
            Input::Read { id, result } => match self.reads.remove(&id) {
                Some(ReadFor::Walk(ask)) => self.walked(ask, result)?,
                Some(ReadFor::Marks(revision)) => self.asked_history(revision, result),
                Some(ReadFor::Owner(side, key)) => self.owner_read(side, &key, result)?,
                Some(ReadFor::Kinds(ranges)) => self.kinds_read(ranges, result),
                Some(ReadFor::Audit(ask)) => self.audited(ask, result)?,
                Some(ReadFor::Replay(side, key)) => self.replay_read(side, key, result)?,
                None => {}
            },
            Input::Opened { side: Side::Primary } => self.primary_opened(),
            Input::Opened { side: Side::Standby } => {}
            Input::Tick => self.stats.vanishing = self.replay.vanishing(self.now_ms),
            Input::Events { side: Side::Primary, events, complete } => self.primary_changed(events, complete)?,
            Input::Events { side: Side::Standby, events, complete } => self.standby_changed(&events, complete)?,
            Input::Progress { side: Side::Primary, revision } => self.heard(revision),
            Input::Progress { side: Side::Standby, revision } => {
                if let Stage::Streaming(tracker) = &mut self.stage {
                    tracker.progress(revision);
                }
            }
            Input::WatchCompacted { side, compact_revision } => self.watch_compacted(side, compact_revision)?,
            Input::WatchClosed { side } => self.watch_closed(side)?,
            Input::Committed { id, reply } => self.committed(id, &reply)?,
            Input::CommitTooLarge { id } => self.commit_too_large(id)?,
        }
        self.advance()?;
        self.refresh_stats();
        Ok(())
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Whether changes of that side may be given now. While it says no, leave them in the stream.
    pub fn wants(&self, side: Side) -> bool {
        match (side, &self.stage) {
            // What waits for more of the standby's history must not keep that history away.
            (Side::Standby, Stage::Streaming(tracker)) => {
                self.ledger.unwritten() < QUEUED_EVENTS_MAX || !self.ledger.is_settled(tracker.seen())
            }
            (Side::Standby, _) => true,
            (Side::Primary, Stage::Copying(copy)) => copy.wants_events(),
            // Once everything is heard that the pages showed, the rest waits in the stream until the record is written.
            (Side::Primary, Stage::Sweeping(sweep)) if self.told_whole && sweep.is_ending(self.stats.heard) => false,
            (Side::Primary, _) => {
                self.batcher.queued_bytes() < QUEUED_BYTES_MAX && self.batcher.len() < QUEUED_EVENTS_MAX
            }
        }
    }

    /// The record as the standby holds it.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// What the next session should know of this one.
    pub fn carried(&self) -> Carried {
        let lost: Vec<Bytes> = self.replay.keys().cloned().collect();
        let audit = self.audit.is_some() || self.audit_after_copy;
        Carried { kinds: self.kinds.clone(), kinds_known: self.kinds_known, lost, audit }
    }

    /// Whether nothing that is looked at beforehand can refuse any more: keys are being written.
    pub fn is_under_way(&self) -> bool {
        !matches!(self.stage, Stage::Opening { .. } | Stage::Planning(_))
    }

    /// What is synchronized.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Counters and positions.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Everything heard of is applied and nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && self.batcher.is_empty() && self.deferred.is_none()
    }

    fn advance(&mut self) -> Result<(), Ended> {
        match self.stage {
            Stage::Opening { .. } => Ok(()),
            Stage::Planning(_) => self.advance_plan(),
            Stage::Copying(_) => self.advance_copy(),
            Stage::Sweeping(_) => self.advance_sweep(),
            Stage::Streaming(_) => {
                self.advance_stream();
                Ok(())
            }
        }
    }

    fn refresh_stats(&mut self) {
        self.stats.local_keys = self.ledger.len() as u64;
        self.stats.lost = self.replay.len() as u64;
    }

    fn note(&mut self, note: Note) {
        self.effects.push_back(Effect::Note(note));
    }

    fn read(&mut self, side: Side, request: ReadRange, purpose: ReadFor) {
        self.next_id += 1;
        self.reads.insert(self.next_id, purpose);
        self.effects.push_back(Effect::Read { id: self.next_id, side, request });
    }

    /// Reads one key with its value, the newest, on both sides.
    fn read_both(&mut self, key: &Bytes, purpose: impl Fn(Side, Bytes) -> ReadFor) {
        for side in [Side::Primary, Side::Standby] {
            let request = ReadRange::single(key.clone(), false, 0);
            self.read(side, request, purpose(side, key.clone()));
        }
    }

    fn watch(&mut self, side: Side, from: Revision) {
        let range = match side {
            Side::Primary => self.scope.covering_range(),
            // Our own marks tell our revisions from others', so the state directory must be in it.
            Side::Standby => {
                let covering = self.scope.covering_range();
                let root = KeyRange::prefix(&self.fence.keys.root);
                let end = if covering.end.is_empty() { covering.end } else { covering.end.max(root.end) };
                KeyRange { start: covering.start.min(root.start), end }
            }
        };
        self.effects.push_back(Effect::Watch { side, range, from });
    }

    fn send(&mut self, txn: Txn, flight: Flight) {
        self.next_id += 1;
        self.in_flight.insert(self.next_id, flight);
        self.last_commit_ms = self.now_ms;
        self.effects.push_back(Effect::Commit { id: self.next_id, txn });
    }

    /// Sends a transaction that moves the checkpoint.
    fn commit_checkpoint(&mut self, mut checkpoint: Checkpoint, changes: Changes) {
        debug_assert!(self.in_flight.is_empty(), "the checkpoint moves alone");
        checkpoint.epoch = self.fence.epoch;
        checkpoint.writes = self.checkpoint.writes + 1;
        checkpoint.at_ms = self.now_ms;
        let value = checkpoint.encode();
        let Changes { writes, mut ops, compares, replay } = changes;
        let purpose = match (replay, compares.is_empty()) {
            (true, _) => Purpose::Replay,
            (false, false) => Purpose::Sweep,
            (false, true) => Purpose::Changes,
        };
        ops.push(Op::Put { key: self.fence.keys.checkpoint.clone(), value: value.clone(), lease: 0 });
        let mut txn = self.fence.txn(self.checkpoint_value.as_ref(), ops);
        txn.compares.extend(compares);
        self.send(txn, Flight::Batch { checkpoint: Box::new(checkpoint), value, writes, purpose });
    }

    fn committed(&mut self, id: RequestId, reply: &TxnReply) -> Result<(), Ended> {
        let Some(flight) = self.in_flight.remove(&id) else { return Ok(()) };
        if !reply.succeeded {
            return match (self.fence.diagnose(reply), flight) {
                (Fenced::Checkpoint, Flight::Batch { purpose: Purpose::Sweep, .. }) => self.sweep_again(),
                (Fenced::Checkpoint, Flight::Batch { purpose: Purpose::Replay, .. }) => {
                    self.replay_again();
                    Ok(())
                }
                (Fenced::Checkpoint, _) => {
                    Err(Ended::Again { force_copy: false, why: "the checkpoint moved under us" })
                }
                (fenced, _) => Err(Ended::Fenced(fenced)),
            };
        }
        self.last_commit_revision = self.last_commit_revision.max(reply.revision);
        if !matches!(self.stage, Stage::Streaming(_)) {
            self.own_revisions.insert(reply.revision);
        }
        self.stats.transactions += 1;
        match flight {
            Flight::Puts(writes) => self.count(&writes, 0, reply.revision),
            Flight::Batch { checkpoint, value, writes, purpose } => {
                self.count(&writes, checkpoint.revision, reply.revision);
                if purpose == Purpose::Replay {
                    self.replayed(&writes);
                }
                (self.checkpoint, self.checkpoint_value) = (*checkpoint, Some(value));
                self.checkpoint_moved();
            }
        }
        Ok(())
    }

    /// The record was written: the stages that wait for that go on.
    fn checkpoint_moved(&mut self) {
        match (&self.stage, self.checkpoint.phase) {
            (Stage::Opening { virgin: true }, _) => self.start_copy(),
            (Stage::Opening { virgin: false }, _) => self.stage = Stage::Planning(Plan::new(self.scope.ranges())),
            (Stage::Sweeping(_), Phase::Streaming) => self.start_streaming(),
            _ => {}
        }
    }

    fn count(&mut self, writes: &[Write], revision: Revision, written_at: Revision) {
        for write in writes {
            let deleted = matches!(write, Write::Delete { .. });
            // Written by us, so no longer local; its entry went in the same transaction.
            self.ledger.overwrite(write.key(), written_at);
            if deleted {
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

    fn commit_too_large(&mut self, id: RequestId) -> Result<(), Ended> {
        let (writes, moved) = match self.in_flight.remove(&id) {
            Some(Flight::Puts(writes)) => (writes, None),
            Some(Flight::Batch { checkpoint, writes, .. }) => (writes, Some(checkpoint)),
            None => return Ok(()),
        };
        let [write] = &writes[..] else { return Err(Ended::ShrinkTransactions) };
        self.replay.written(write.key());
        self.stats.too_large += 1;
        self.note(Note::TooLarge { key: write.key().clone(), bytes: write.data_bytes() - write.key().len() });
        if let Some(checkpoint) = moved {
            self.commit_checkpoint(*checkpoint, Changes::default());
        }
        Ok(())
    }
}
