//! One synchronizer of the simulation: a session and everything it has under way.

use std::sync::Arc;

use bytes::Bytes;
use etcd_sync_core::etcd::kv::{Event, KeyRange, Revision};
use etcd_sync_core::etcd::request::{Op, Page, ReadRange, Txn, TxnReply};
use etcd_sync_core::link::fence::Fence;
use etcd_sync_core::link::history::{Found, HistoryRecord, Observer, RaftMark};
use etcd_sync_core::link::question::{Acceptance, Question};
use etcd_sync_core::link::side::{Side, Sides};
use etcd_sync_core::link::state::{Checkpoint, Phase, StateKeys, cluster_id_text};
use etcd_sync_core::object::encryption::Keyring;
use etcd_sync_core::scope::Scope;
use etcd_sync_core::session::batch::BatchLimits;
use etcd_sync_core::session::{
    BACKLOG_LEAST, BUFFERED_BYTES_MAX, BrakeLimits, Carried, DeletionGuard, Effect, Ended, HistoryFacts, Input, Note,
    Now, RaftFacts, ReadFailure, Refusal, RequestId, Session, SessionConfig, Start, init_role,
};

use crate::model::Model;

/// From how many changes on a synchronizer considers a copy: few, or as many as nobody makes here.
pub const BACKLOGS: [u64; 4] = [4, 15, 60, BACKLOG_LEAST];

/// A read, before and after the cluster has answered it.
#[derive(Debug)]
pub enum Read {
    Pending(Side, ReadRange),
    Answered(Result<Page, ReadFailure>),
}

/// A transaction and the leadership it was sent under.
#[derive(Clone, Debug)]
pub struct Sent {
    pub txn: Txn,
    pub leader: (Bytes, Revision),
    /// Which life of the primary its session reads.
    pub generation: usize,
    /// The revision that the standby was consistent with when its session began.
    pub floor: Revision,
}

/// A commit, before and after the cluster has applied it.
#[derive(Debug)]
pub enum Commit {
    Pending(Sent),
    Answered(TxnReply),
}

/// What the driver finds out about a raft log: the contradiction is proved, because the log moves while it looks.
fn raft(model: &Model, mark: Option<RaftMark>) -> RaftFacts {
    let mut observer = Observer::new(mark);
    let reading = model.raft();
    observer.observe(&reading);
    let contradiction = observer.suspicion();
    let mark = if contradiction.is_some() { Some(RaftMark::of(&reading)) } else { observer.mark() };
    RaftFacts { reading: Some(reading), mark, contradiction, proved: contradiction.is_some() }
}

#[derive(Debug)]
pub struct Watch {
    pub range: KeyRange,
    pub next: Revision,
    pub opened: bool,
    /// The rest of a revision that is delivered in parts.
    pub rest: Vec<Event>,
}

pub struct Daemon {
    pub name: usize,
    pub keys: StateKeys,
    pub scope: Arc<Scope>,
    pub session: Option<Session>,
    pub leader: Option<(Bytes, Revision)>,
    pub force_copy: bool,
    pub reads: Vec<(RequestId, Read)>,
    pub commits: Vec<(RequestId, Commit)>,
    pub watches: Sides<Option<Watch>>,
    pub refused: Option<Refusal>,
    pub unknown_origin: u64,
    /// Which life of the primary its session reads.
    pub generation: usize,
    /// The revision that the standby was consistent with when it began.
    pub floor: Revision,
    terms: usize,
    pub carried: Carried,
    pub brake: BrakeLimits,
    pub backlog_least: u64,
    /// Comparisons of all keys beside live updates.
    pub audits: u64,
}

impl Daemon {
    pub fn new(name: usize, scope: Arc<Scope>) -> Self {
        Daemon {
            name,
            keys: StateKeys::new("sim"),
            scope,
            session: None,
            leader: None,
            force_copy: false,
            reads: Vec::new(),
            commits: Vec::new(),
            watches: Sides::default(),
            refused: None,
            unknown_origin: 0,
            generation: 0,
            floor: 0,
            terms: 0,
            carried: Carried::first(),
            brake: BrakeLimits::OFF,
            backlog_least: BACKLOG_LEAST,
            audits: 0,
        }
    }

    /// Wins the election when nobody holds it.
    pub fn campaign(&mut self, standby: &mut Model) -> bool {
        let range = KeyRange::prefix(&self.keys.leader_prefix);
        if !standby.state(&range, Revision::MAX).is_empty() {
            return false;
        }
        self.terms += 1;
        let key: Bytes =
            [&self.keys.leader_prefix[..], format!("{}-{}", self.name, self.terms).as_bytes()].concat().into();
        standby.write(vec![Op::Put { key: key.clone(), value: Bytes::new(), lease: 7 }]);
        self.leader = Some((key, standby.revision));
        // As the driver does: another one may have led meanwhile.
        self.carried = Carried::first();
        true
    }

    /// Reads the record and begins a session, as the driver does.
    pub fn begin(
        &mut self,
        primary: &Model,
        standby: &mut Model,
        now: Now,
        in_flight_max: usize,
    ) -> Option<&'static str> {
        let (leader_key, epoch) = self.leader.clone()?;
        let record = |key: &Bytes| standby.get(key).cloned();
        let marks = [record(&self.keys.checkpoint), record(&self.keys.copied)];
        let entries = |prefix: &Bytes| -> Vec<Bytes> {
            let all = standby.state(&KeyRange::prefix(prefix), Revision::MAX);
            all.keys().map(|entry| entry.slice(prefix.len()..)).collect()
        };
        let checkpoint = marks[0].as_ref().and_then(|kv| Checkpoint::decode(&kv.value).ok());
        let streamed = checkpoint.filter(|checkpoint| checkpoint.phase == Phase::Streaming);
        let behind = streamed.as_ref().map_or(0, |checkpoint| primary.revision - checkpoint.revision);
        let is_long = self.carried.catch_up.changes(behind) >= self.backlog_least;
        let count = || self.scope.ranges().iter().map(|range| standby.state(range, Revision::MAX).len() as u64).sum();
        let standby_keys = is_long.then(count);
        let start = Start {
            fence: Fence { keys: self.keys.clone(), leader_key, epoch },
            role: record(&self.keys.role).map(|kv| kv.value),
            checkpoint: marks[0].as_ref().map(|kv| kv.value.clone()),
            last_write: marks.iter().flatten().map(|kv| kv.mod_revision).max().unwrap_or(0),
            copied_revision: marks[1].as_ref().map_or(0, |kv| kv.mod_revision),
            local_keys: entries(&self.keys.local_prefix),
            standby_revision: standby.revision,
            standby_cluster: standby.cluster,
            primary_cluster: primary.cluster,
            same_identity: None,
            primary_revision: primary.revision,
            edited_keys: entries(&self.keys.edited_prefix),
            standby_keys,
            primary_is_empty: self.scope.ranges().iter().all(|range| primary.state(range, Revision::MAX).is_empty()),
            history: self.history(primary, standby),
            witness_recognized: self.ask_witness(primary, standby),
            primary_standby_links: vec![],
            promoted_over: None,
            promoted_unrecorded: false,
            served_links: vec![],
            carried: self.carried.clone(),
            force_copy: self.force_copy,
            now,
        };
        let would_resume = streamed.is_some() && start.witness_recognized == Some(true) && !start.force_copy;
        let config = SessionConfig {
            limits: BatchLimits { ops: 5, bytes: 200 },
            in_flight_max,
            // Some have limits.
            copy_bytes_per_second: if in_flight_max == 3 { 20_000 } else { 0 },
            copy_writes_per_second: if in_flight_max == 3 { 100 } else { 0 },
            // Some hold whole families, some have to let go of them and ask for their owners.
            buffered_bytes_max: if in_flight_max.is_multiple_of(2) { 700 } else { BUFFERED_BYTES_MAX },
            // Some find short backlogs long.
            backlog_least: self.backlog_least,
            checkpoint_interval_ms: 2_000,
            deletion_guard: DeletionGuard { count: 1_000, percent: 10 },
            brake: self.brake,
            keyring: Arc::new(Keyring::none()),
            accept_undecryptable: false,
            detail: false,
        };
        match Session::begin(config, Arc::clone(&self.scope), start) {
            Ok(session) => {
                standby.txn(&init_role(&self.keys));
                let resumes = session.checkpoint().phase == Phase::Streaming;
                let is_copied = !resumes && would_resume;
                self.session = Some(session);
                self.force_copy = false;
                self.drain();
                match (is_long, resumes) {
                    (true, true) => Some("backlog followed"),
                    (true, false) if is_copied => Some("backlog copied"),
                    _ => None,
                }
            }
            Err(refusal) => {
                self.refused = Some(refusal);
                None
            }
        }
    }

    /// What the driver finds out about both histories.
    fn history(&self, primary: &Model, standby: &Model) -> HistoryFacts {
        let decode = |key: &Bytes| standby.get(key).map(|kv| &kv.value);
        let record = decode(&self.keys.history).map(|value| HistoryRecord::decode(value).expect("it is readable"));
        let cluster = cluster_id_text(primary.cluster);
        let sightings = record.as_ref().filter(|record| record.primary == cluster).map(|record| {
            let now = |key: &str| (key.to_owned(), primary.get(key.as_bytes()).map(Found::of));
            record.keys().map(now).collect()
        });
        let saved = standby.state(&KeyRange::prefix(&self.keys.saved_prefix), Revision::MAX);
        let mark = |mark: Option<RaftMark>, at_least: Revision| {
            mark.map(|mark| RaftMark { revision: mark.revision.max(at_least), ..mark })
        };
        let of_primary = record.as_ref().filter(|record| record.primary == cluster);
        let checkpoint = decode(&self.keys.checkpoint).and_then(|value| Checkpoint::decode(value).ok());
        let at_least = checkpoint.map_or(0, |checkpoint| checkpoint.revision);
        HistoryFacts {
            primary: raft(primary, of_primary.and_then(|record| mark(record.primary_raft, at_least))),
            standby: raft(standby, record.as_ref().and_then(|record| record.standby_raft)),
            sightings: sightings.unwrap_or_default(),
            question: decode(&self.keys.question).map(|value| Question::decode(value).expect("it is readable")),
            acceptance: decode(&self.keys.acceptance).map(|value| Acceptance::decode(value).expect("it is readable")),
            saved: (saved.len() as u64, saved.values().map(|kv| kv.value.len() as u64).sum()),
            record,
        }
    }

    fn ask_witness(&self, primary: &Model, standby: &Model) -> Option<bool> {
        let witness = Checkpoint::decode(&standby.get(&self.keys.checkpoint)?.value).ok()?.witness?;
        let key = Bytes::from(witness.key.clone());
        let read = |revision: Revision| {
            let request = ReadRange::single(key.clone(), false, revision);
            primary.read(&request).map(|page| page.kvs.into_iter().next())
        };
        let at = read(witness.revision)?;
        let before = if at.is_none() && witness.deleted { read(witness.revision - 1)? } else { None };
        Some(witness.recognizes(at.as_ref(), before.as_ref()))
    }

    /// Takes over what the session asks for.
    fn drain(&mut self) {
        while let Some(effect) = self.session.as_mut().and_then(Session::poll) {
            match effect {
                Effect::Read { id, side, request } => self.reads.push((id, Read::Pending(side, request))),
                Effect::Commit { id, txn } => {
                    let leader = self.leader.clone().expect("only a leader has a session");
                    self.commits.push((
                        id,
                        Commit::Pending(Sent { txn, leader, generation: self.generation, floor: self.floor }),
                    ));
                }
                Effect::Watch { side, range, from } => {
                    *self.watches.get_mut(side) = Some(Watch { range, next: from, opened: false, rest: vec![] });
                }
                Effect::Note(Note::Audited { .. }) => self.audits += 1,
                Effect::Note(_) => {}
            }
        }
    }

    pub fn handle(&mut self, now: Now, input: Input) {
        let Some(session) = &mut self.session else { return };
        let before = session.stats().unknown_origin;
        let result = session.handle(now, input);
        self.unknown_origin += session.stats().unknown_origin - before;
        match result {
            Ok(()) => self.drain(),
            Err(ended) => {
                self.drop_session();
                match ended {
                    Ended::Fenced(_) => self.leader = None,
                    Ended::Refused(refusal) => self.refused = Some(refusal),
                    Ended::Again { force_copy, .. } => self.force_copy |= force_copy,
                    Ended::ShrinkTransactions => unreachable!("the model takes every size"),
                }
            }
        }
    }

    /// Forgets everything but what is on its way to the standby already: that may still arrive.
    pub fn drop_session(&mut self) -> Vec<Sent> {
        if let Some(session) = self.session.take() {
            self.carried = session.carried();
        }
        self.reads.clear();
        self.watches = Sides::default();
        let pending = |(_, commit)| match commit {
            Commit::Pending(sent) => Some(sent),
            Commit::Answered(_) => None,
        };
        self.commits.drain(..).filter_map(pending).collect()
    }
}
