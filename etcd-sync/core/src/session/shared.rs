//! What every stage of a session needs: the decisions of the operator, the record as the standby holds it, and the ways to
//! have something done.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::catch_up::CatchUp;
use super::flight::Flight;
use super::identity::Identity;
use super::{
    Effect, Ended, Note, QUEUED_BYTES_MAX, QUEUED_EVENTS_MAX, Refusal, RequestId, SessionConfig, Start, Stats, Trust,
};
use crate::etcd::kv::{Event, KeyRange, Revision};
use crate::etcd::request::ReadRange;
use crate::link::fence::Fence;
use crate::link::provenance::{LOCAL_KEYS_MAX, Ledger, Moments};
use crate::link::question::{Acceptance, Losses};
use crate::link::side::Side;
use crate::link::state::Checkpoint;
use crate::link::too_large::TooLarge;
use crate::scope::Scope;
use crate::scope::content::Kinds;
use crate::session::batch::Batcher;
use crate::session::brake::Query;
use crate::session::throttle::{Throttle, Window};
use crate::session::walk::{Ask, PageBudget};

/// State that outlives a stage. Stages borrow it; nothing in it depends on which stage that is.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: SessionConfig,
    pub(super) scope: Arc<Scope>,
    pub(super) fence: Fence,
    /// The record as the standby holds it, and its value there.
    pub(super) checkpoint: Checkpoint,
    pub(super) checkpoint_value: Option<Bytes>,
    pub(super) ledger: Ledger,
    /// Mirrored keys that others have changed on the standby.
    pub(super) edited: Ledger,
    /// Values that the standby refused in this session: what [`Shared::edited`] tells of them.
    pub(super) too_large: BTreeMap<Bytes, TooLarge>,
    pub(super) moments: Moments,
    pub(super) kinds: Kinds,
    /// All CRDs of the primary were read.
    pub(super) kinds_known: bool,
    /// The primary's newest revision before a copy begins: its watch starts behind it.
    pub(super) primary_revision: Revision,
    /// The primary's watch does not stand inside a revision.
    pub(super) revision_complete: bool,
    /// The newest revision of a change that its key has in scope and its content has not.
    pub(super) filtered_at: Revision,
    /// What the two histories are recognized by.
    pub(super) identity: Identity,
    /// How far the primary's history is proved, for a copy.
    pub(super) trust: Trust,
    /// The operator's answer that this session goes on under.
    pub(super) acceptance: Option<Acceptance>,
    /// What this copy takes away beside what the answer covers.
    pub(super) losses: Losses,
    /// Mirrored keys that the sweep has met.
    pub(super) mirrored: u64,
    /// Values saved on the standby: keys, and bytes.
    pub(super) saved: (u64, u64),
    /// Values to be saved in the transaction that overwrites them.
    pub(super) saves: HashMap<Bytes, Bytes>,
    /// Changes of the primary on their way into transactions.
    pub(super) batcher: Batcher,
    pub(super) now_ms: u64,
    /// For people.
    pub(super) unix_ms: u64,
    pub(super) last_commit_ms: u64,
    pub(super) last_commit_revision: Revision,
    pub(super) stats: Stats,
    pub(super) in_flight: HashMap<RequestId, Flight>,
    /// What the answers under way are for, and since when.
    pub(super) reads: HashMap<RequestId, (ReadFor, u64)>,
    /// What the copy's pages of the session before came to.
    pub(super) page_budget: PageBudget,
    /// How a backlog is followed.
    pub(super) catch_up: CatchUp,
    /// Bytes that a copy reads of the primary, and keys that it writes.
    pub(super) copy_reads: Throttle,
    pub(super) copy_writes: Throttle,
    /// Transactions that a copy may have under way.
    pub(super) window: Window,
    effects: VecDeque<Effect>,
    next_id: RequestId,
}

/// What a read is for, so that its answer reaches whoever wanted it.
#[derive(Clone, Debug)]
pub(super) enum ReadFor {
    /// A page for the walk of a plan, a copy or a sweep.
    Walk(Ask),
    /// Our marks at a past revision of the standby, for a sweep.
    Marks(Revision),
    /// An owner that a copy needs ahead of its page.
    Owner(Side, Bytes),
    /// CRDs, while streaming; the ranges that are left.
    Kinds(Vec<KeyRange>),
    /// A page of the audit.
    Audit(Ask),
    /// A lost key.
    Replay(Side, Bytes),
    /// A value to be saved before its key is deleted.
    Save(Bytes),
    /// What the brake must know of the standby.
    Brake(Query),
    /// The record, which this commit moves.
    Record(RequestId),
}

impl ReadFor {
    /// The answer has come after so long.
    pub(super) fn answered_after(self, took_ms: u64) -> Self {
        match self {
            ReadFor::Walk(ask) => ReadFor::Walk(ask.took(took_ms)),
            ReadFor::Audit(ask) => ReadFor::Audit(ask.took(took_ms)),
            other => other,
        }
    }
}

impl Shared {
    pub(super) fn new(
        config: SessionConfig,
        scope: Arc<Scope>,
        start: Start,
        checkpoint: Checkpoint,
        trust: Option<Trust>,
    ) -> Self {
        let moments = Moments {
            base: checkpoint.base,
            seen: checkpoint.seen,
            last_write: start.last_write,
            began: start.standby_revision,
        };
        // Resumed, or the lists on record are of the same history.
        let is_same_history = start.history.record.as_ref().is_some_and(|record| record.primary == checkpoint.primary)
            && checkpoint.revision > 0;
        let identity = Identity::new(&start.history, is_same_history, start.now.ms);
        let saved = start.history.saved;
        let answer = start.history.answer(&checkpoint.primary, start.now.unix_ms).cloned();
        Shared {
            copy_reads: Throttle::new(config.copy_bytes_per_second, start.now.ms),
            copy_writes: Throttle::new(config.copy_writes_per_second, start.now.ms),
            window: Window::new(config.in_flight_max),
            config,
            scope,
            edited: Ledger::new(start.edited_keys),
            too_large: BTreeMap::new(),
            identity,
            trust: trust.unwrap_or(Trust::WHOLE),
            acceptance: answer,
            losses: Losses::default(),
            mirrored: 0,
            saved,
            saves: HashMap::new(),
            fence: start.fence,
            batcher: Batcher::resume(checkpoint.revision, checkpoint.offset),
            checkpoint,
            checkpoint_value: start.checkpoint,
            ledger: Ledger::new(start.local_keys),
            moments,
            kinds: start.carried.kinds,
            kinds_known: start.carried.kinds_known,
            primary_revision: start.primary_revision,
            revision_complete: true,
            filtered_at: 0,
            now_ms: start.now.ms,
            unix_ms: start.now.unix_ms,
            last_commit_ms: 0,
            last_commit_revision: start.standby_revision,
            stats: Stats::default(),
            in_flight: HashMap::new(),
            reads: HashMap::new(),
            page_budget: start.carried.page_budget,
            catch_up: start.carried.catch_up,
            effects: VecDeque::new(),
            next_id: 0,
        }
    }

    pub(super) fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    pub(super) fn next_id(&mut self) -> RequestId {
        self.next_id += 1;
        self.next_id
    }

    pub(super) fn push(&mut self, effect: Effect) {
        self.effects.push_back(effect);
    }

    pub(super) fn note(&mut self, note: Note) {
        self.push(Effect::Note(note));
    }

    pub(super) fn read(&mut self, side: Side, request: ReadRange, purpose: ReadFor) {
        let id = self.next_id();
        self.reads.insert(id, (purpose, self.now_ms));
        self.push(Effect::Read { id, side, request });
    }

    /// Whether the copy may read another page now, as far as the operator's limit goes.
    pub(super) fn may_read_page(&mut self) -> bool {
        self.copy_reads.allows(self.now_ms)
    }

    /// Reads one key with its value, the newest, on both sides.
    pub(super) fn read_both(&mut self, key: &Bytes, purpose: impl Fn(Side, Bytes) -> ReadFor) {
        for side in Side::BOTH {
            let request = ReadRange::single(key.clone(), false, 0);
            self.read(side, request, purpose(side, key.clone()));
        }
    }

    pub(super) fn watch(&mut self, side: Side, from: Revision) {
        let range = match side {
            Side::Primary => self.scope.covering_range(),
            // Our own marks distinguish our revisions from others', so the state directory must be in it.
            Side::Standby => {
                let covering = self.scope.covering_range();
                let root = KeyRange::prefix(&self.fence.keys.root);
                let end = if covering.end.is_empty() { covering.end } else { covering.end.max(root.end) };
                KeyRange { start: covering.start.min(root.start), end }
            }
        };
        self.push(Effect::Watch { side, range, from });
    }

    /// The primary's watch is complete up to `revision`.
    pub(super) fn update_received(&mut self, revision: Revision) {
        self.stats.received_revision = self.stats.received_revision.max(revision);
    }

    /// Changes of the primary have come: how far its watch is now.
    pub(super) fn update_received_from(&mut self, events: &[Event], complete: bool) {
        self.stats.events += events.len() as u64;
        self.identity.on_events(events, complete);
        self.revision_complete = complete;
        if let Some(last) = events.last() {
            self.update_received(if complete { last.revision() } else { last.revision() - 1 });
        }
    }

    /// Whether more changes of the primary may come into memory.
    pub(super) fn has_room(&self) -> bool {
        self.batcher.queued_bytes() < QUEUED_BYTES_MAX && self.batcher.len() < QUEUED_EVENTS_MAX
    }

    /// Everything received is sent and nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && self.batcher.is_empty()
    }

    /// Refuses to go on when the standby has more keys of its own than a standby may have.
    pub(super) fn guard_ledger(&self) -> Result<(), Ended> {
        if self.ledger.len() > LOCAL_KEYS_MAX {
            return Err(Ended::Refused(Refusal::TooManyLocalKeys { limit: LOCAL_KEYS_MAX }));
        }
        Ok(())
    }
}
