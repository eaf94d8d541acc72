//! A world in which clusters are restored from backups: the primary in every way that is known, the standby, and both again. The
//! records of the standby are checked against the life of the primary that they were made with, and nothing that only the
//! standby has may go without the operator's word, unless it was saved.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use etcd_sync_core::etcd::kv::{Event, KeyRange, Revision};
use etcd_sync_core::etcd::request::{Op, Txn};
use etcd_sync_core::link::fence::is_standby;
use etcd_sync_core::link::history::{HistoryRecord, RaftMark};
use etcd_sync_core::link::question::{Acceptance, Answered, Group, Question, Topic};
use etcd_sync_core::link::side::Side;
use etcd_sync_core::link::state::{Checkpoint, Phase, cluster_id_text};
use etcd_sync_core::scope::{Scope, ScopeConfig};
use etcd_sync_core::session::{Carried, Input, ReadFailure, Refusal, RequestId};

use crate::daemon::{BACKLOGS, Commit, Daemon, Read, Sent};
use crate::digest;
use crate::model::Model;
use crate::random::Random;
use crate::world::Counts;

const NAMES: u64 = 40;
const STEPS: u64 = 2_500;

/// The primary as it was at a moment, and which life that was.
#[derive(Clone)]
struct Backup {
    model: Model,
    generation: usize,
}

/// One life of the primary.
struct Generation {
    model: Model,
    /// The life it was restored from, and up to which revision it is the same.
    parent: Option<(usize, Revision)>,
}

/// The standby as it was at a moment, with what the world knows about it.
#[derive(Clone)]
struct StandbyBackup {
    model: Model,
    edited: BTreeSet<Bytes>,
    local: BTreeSet<Bytes>,
}

pub struct Histories {
    random: Random,
    now_ms: u64,
    generations: Vec<Generation>,
    standby: Model,
    daemon: Daemon,
    stale: Vec<Sent>,
    scope: Arc<Scope>,
    backups: Vec<Backup>,
    /// A member of the primary that lags.
    lagging: Option<Backup>,
    /// Without some keys; the one in use changes place with it.
    other_scope: Arc<Scope>,
    standby_backup: Option<StandbyBackup>,
    /// Mirrored keys that others have changed on the standby, and keys that only it has.
    edited: BTreeSet<Bytes>,
    local: BTreeSet<Bytes>,
    /// Where a value was written first: values are unique.
    origins: HashMap<Bytes, (usize, Revision)>,
    /// Keys and the revisions at which a life changed them.
    touched: HashSet<(Bytes, Revision)>,
    /// Lives that the operator has accepted.
    accepted: BTreeSet<usize>,
    cleared: bool,
    restore_in: u64,
    serial: u64,
    clusters: u64,
    counts: Counts,
}

/// A simulation that no longer reaches its faults proves nothing.
pub fn must_have_tried_everything(counts: &Counts) {
    counts.must_have_tried(&[
        "restored: same log",
        "restored: new log",
        "restored: another id",
        "restored: bumped",
        "restored: bumped and compacted",
        "restored: the same backup again",
        "restored: an older backup after a restore",
        "restored: nothing proves it",
        "restored: overtaken",
        "restored: overtaken by the keys on record",
        "restored while away",
        "restored: from a member that lagged",
        "standby restored",
        "standby rebuilt",
        "scope changed",
        "slow page",
        "encrypted again",
        "many deletions",
        "edited by others",
        "asked: OtherHistory",
        "asked: OtherPrimary",
        "asked: StandbyRestored",
        "evidence: a key changed in another way",
        "evidence: a key created in another way",
        "evidence: an untouched value",
        "evidence: the witness",
        "evidence: the raft log",
        "accepted",
        "answer used up",
        "saved before it went",
        "commit failed",
        "resumed",
        "copied",
        "crash",
        "compaction",
        "standby compaction",
    ]);
}

fn key(name: u64) -> Bytes {
    match name % 6 {
        0 => format!("/registry/leases/apps/{name:02}"),
        1 => format!("/registry/secrets/apps/{name:02}"),
        _ => format!("/registry/configmaps/apps/{name:02}"),
    }
    .into()
}

fn narrow_scope() -> Scope {
    let exclude_keys = (0..NAMES).step_by(3).map(|name| String::from_utf8_lossy(&key(name)).into_owned()).collect();
    Scope::new(&ScopeConfig { exclude_keys, ..ScopeConfig::default() }).expect("the scope is valid")
}

impl Histories {
    pub fn new(seed: u64) -> Self {
        let mut random = Random(seed ^ 0x5eed);
        let scope = Arc::new(Scope::new(&ScopeConfig::default()).expect("the default scope is valid"));
        let restore_in = random.pick(&[60, 200, 600]);
        let mut world = Histories {
            random,
            now_ms: 1_000,
            generations: vec![Generation { model: Model::new(1), parent: None }],
            standby: Model::new(2),
            daemon: Daemon::new(0, Arc::clone(&scope)),
            stale: vec![],
            scope,
            backups: vec![],
            lagging: None,
            other_scope: Arc::new(narrow_scope()),
            standby_backup: None,
            edited: BTreeSet::new(),
            local: BTreeSet::new(),
            origins: HashMap::new(),
            touched: HashSet::new(),
            accepted: BTreeSet::new(),
            cleared: false,
            restore_in,
            serial: 0,
            clusters: 2,
            counts: Counts::default(),
        };
        world.daemon.backlog_least = world.random.pick(&BACKLOGS);
        for _ in 0..20 {
            world.primary_writes();
        }
        world
    }

    pub fn run(mut self) -> Counts {
        for _ in 0..STEPS {
            self.step();
        }
        self.settle();
        self.counts.digest = digest::of(&self.standby, &self.daemon.keys);
        self.counts
    }

    fn primary(&mut self) -> &mut Model {
        &mut self.generations.last_mut().expect("there is one").model
    }

    fn step(&mut self) {
        self.now_ms += self.random.below(400);
        if self.random.below(self.restore_in) == 0 {
            return match self.random.below(8) {
                0 | 1 => self.restore_primary(),
                2 => self.restore_standby(),
                3 => self.back_up_standby(),
                4 => self.survive_on_a_lagging_member(),
                5 if self.random.below(3) == 0 => self.rebuild_standby(),
                5 => self.change_scope(),
                _ => self.back_up(),
            };
        }
        match self.random.below(120) {
            0..8 => self.primary_writes(),
            20 => self.lag(),
            // Entries of the raft log that make no revision.
            8 | 9 => self.primary().applied_index += 1 + self.serial % 4,
            10 => self.edit(),
            11 => self.make_local(),
            12 if self.random.below(4) == 0 => self.encrypt_again(),
            13 if self.random.below(4) == 0 => self.delete_many(),
            14 => self.compact(),
            15 if self.random.below(3) == 0 => self.crash(),
            16 | 17 => self.answer(),
            18 => self.raft(),
            19 => self.stale_commit(),
            _ => self.work(),
        }
    }

    fn value(&mut self) -> Bytes {
        self.serial += 1;
        format!("value {:05}", self.serial).into()
    }

    fn write(&mut self, ops: Vec<Op>) {
        let generation = self.generations.len() - 1;
        self.avoid_coincidence(&ops);
        let revision = self.primary().revision + 1;
        for op in &ops {
            if let Op::Put { value, .. } = op {
                self.origins.insert(value.clone(), (generation, revision));
            }
        }
        self.primary().write(ops);
    }

    /// Two lives that create or delete the same key at the very same revision cannot be told apart by that. Where there are a
    /// million keys this does not happen; here there are few.
    fn avoid_coincidence(&mut self, ops: &[Op]) {
        let key_of = |op: &Op| match op {
            Op::Put { key, .. } | Op::Delete { key } | Op::Get { key } => key.clone(),
        };
        let keys: Vec<Bytes> = ops.iter().map(key_of).collect();
        loop {
            let revision = self.primary().revision + 1;
            if keys.iter().all(|key| !self.touched.contains(&(key.clone(), revision))) {
                self.touched.extend(keys.into_iter().map(|key| (key, revision)));
                return;
            }
            self.beat();
        }
    }

    /// A write out of scope.
    fn beat(&mut self) {
        let value = self.value();
        self.primary().write(vec![Op::Put { key: key(0), value, lease: 0 }]);
    }

    fn primary_writes(&mut self) {
        let key = key(self.random.below(NAMES));
        let value = self.value();
        let op = match self.random.below(5) {
            0 => Op::Delete { key },
            _ => Op::Put { key, value, lease: 0 },
        };
        self.write(vec![op]);
    }

    /// Every value is written again, as after a change of the encryption key.
    fn encrypt_again(&mut self) {
        self.counts.hit("encrypted again");
        let range = self.scope.covering_range();
        let keys: Vec<Bytes> = self.primary().state(&range, Revision::MAX).into_keys().collect();
        for key in keys {
            let value = self.value();
            self.write(vec![Op::Put { key, value, lease: 0 }]);
        }
    }

    fn delete_many(&mut self) {
        self.counts.hit("many deletions");
        for name in 0..NAMES / 2 {
            self.write(vec![Op::Delete { key: key(name) }]);
        }
    }

    /// A controller of the standby changes a mirrored key.
    fn edit(&mut self) {
        let mirrored = self.standby.state(&self.scope.covering_range(), Revision::MAX);
        let keys: Vec<Bytes> =
            mirrored.into_keys().filter(|key| self.scope.in_scope(key) && !self.local.contains(key)).collect();
        if keys.is_empty() || self.record().is_none() {
            return;
        }
        self.counts.hit("edited by others");
        let key = keys[self.random.below(keys.len() as u64) as usize].clone();
        let value = self.value();
        self.edited.insert(key.clone());
        self.standby.write(vec![Op::Put { key, value, lease: 0 }]);
    }

    fn make_local(&mut self) {
        let key = Bytes::from(format!("/registry/configmaps/apps/local-{}", self.random.below(3)));
        if self.local.insert(key.clone()) {
            let value = self.value();
            self.standby.write(vec![Op::Put { key, value, lease: 0 }]);
        }
    }

    fn compact(&mut self) {
        let keep = self.random.below(12) as i64;
        if self.random.below(6) == 0 {
            self.counts.hit("standby compaction");
            self.standby.compact(self.standby.revision - keep);
        } else {
            self.counts.hit("compaction");
            let revision = self.primary().revision - keep;
            self.primary().compact(revision);
        }
    }

    fn crash(&mut self) {
        self.counts.hit("crash");
        self.drop_session();
        self.daemon.carried = Carried::first();
        self.daemon.force_copy = false;
        if let Some((key, _)) = self.daemon.leader.take() {
            self.standby.write(vec![Op::Delete { key }]);
        }
    }

    fn drop_session(&mut self) {
        let lost = self.daemon.drop_session();
        self.stale.extend(lost);
    }

    fn back_up(&mut self) {
        let generation = self.generations.len() - 1;
        let model = self.primary().clone();
        self.backups.push(Backup { model, generation });
    }

    /// One member is no farther than this.
    fn lag(&mut self) {
        let generation = self.generations.len() - 1;
        let model = self.primary().clone();
        self.lagging = Some(Backup { model, generation });
    }

    /// The others are lost, and `--force-new-cluster` makes a cluster of the one that lagged: the log is the same, but shorter.
    fn survive_on_a_lagging_member(&mut self) {
        let Some(Backup { model, generation }) = self.lagging.take() else { return };
        if generation + 1 != self.generations.len() {
            return;
        }
        self.counts.hit("restored: from a member that lagged");
        let revision = model.revision;
        self.generations.push(Generation { model, parent: Some((generation, revision)) });
        self.drop_session();
        self.beat();
    }

    /// All that the standby had is gone, the record with it.
    fn rebuild_standby(&mut self) {
        self.counts.hit("standby rebuilt");
        self.clusters += 1;
        self.standby = Model::new(self.clusters);
        (self.standby_backup, self.edited, self.local) = (None, BTreeSet::new(), BTreeSet::new());
        self.drop_session();
        self.stale.clear();
        self.daemon.leader = None;
        self.daemon.carried = Carried::first();
    }

    /// Somebody restarts it with other flags.
    fn change_scope(&mut self) {
        self.counts.hit("scope changed");
        std::mem::swap(&mut self.scope, &mut self.other_scope);
        self.daemon.scope = Arc::clone(&self.scope);
        self.crash();
    }

    /// The primary is put back to a backup. Its connections break, so no session goes on.
    fn restore_primary(&mut self) {
        if self.backups.is_empty() {
            return;
        }
        let at = self.random.below(self.backups.len() as u64) as usize;
        let Backup { mut model, generation } = self.backups[at].clone();
        let current = self.generations.len() - 1;
        if self.generations[current]
            .parent
            .is_some_and(|(parent, revision)| (parent, revision) == (generation, model.revision))
        {
            self.counts.hit("restored: the same backup again");
        } else if current > 0 && generation < current {
            self.counts.hit("restored: an older backup after a restore");
        }
        if self.daemon.session.is_none() {
            self.counts.hit("restored while away");
        }
        let revision = model.revision;
        model.revision += 100_000 * self.generations.len() as i64 * i64::from(self.random.below(3) == 0);
        match self.random.below(5) {
            0 => {
                // All disks rolled back.
                self.counts.hit("restored: same log");
                model.revision = revision;
            }
            1 => {
                self.counts.hit("restored: another id");
                self.clusters += 1;
                (model.cluster, model.applied_index) = (self.clusters, 3);
            }
            2 => {
                self.counts.hit("restored: bumped and compacted");
                (model.revision, model.applied_index) = (revision + 1_000_000, 3);
                model.compact(Revision::MAX);
            }
            _ => {
                self.counts.hit(if model.revision > revision { "restored: bumped" } else { "restored: new log" });
                model.applied_index = 3;
            }
        }
        let (is_same_log, head) = (model.revision == revision && model.applied_index > 3, self.primary().revision);
        self.generations.push(Generation { model, parent: Some((generation, revision)) });
        self.drop_session();
        self.beat();
        if is_same_log {
            match self.random.below(5) {
                0 => self.leave_no_proof(head),
                1 | 2 => self.overtake(head),
                3 => self.write_recorded_keys(head),
                _ => {}
            }
        }
    }

    /// The raft log and the revision are ahead of everything that was seen, and the history is compacted.
    fn overtake(&mut self, head: Revision) {
        self.counts.hit("restored: overtaken");
        // What is deleted meanwhile is no evidence any more: other keys must be.
        for name in 0..NAMES {
            if self.random.below(2) == 0 {
                self.write(vec![Op::Delete { key: key(name) }]);
            }
        }
        let model = self.primary();
        model.revision = model.revision.max(head) + 1;
        model.applied_index += 200;
        self.beat();
        let revision = self.primary().revision;
        self.primary().compact(revision);
    }

    /// Overtaken and compacted, and the keys that are changed most were made again: only the others tell.
    fn write_recorded_keys(&mut self, head: Revision) {
        self.counts.hit("restored: overtaken by the keys on record");
        let record = self.standby.get(&self.daemon.keys.history).map(|kv| HistoryRecord::decode(&kv.value));
        let record = record.and_then(Result::ok);
        let keys: Vec<Bytes> =
            record.iter().flat_map(|record| record.keys()).map(|key| key.to_owned().into()).collect();
        let model = self.primary();
        model.revision = model.revision.max(head) + 1;
        model.applied_index += 200;
        for key in keys {
            let value = self.value();
            self.write(vec![Op::Delete { key: key.clone() }]);
            self.write(vec![Op::Put { key, value, lease: 0 }]);
        }
        let revision = self.primary().revision;
        self.primary().compact(revision);
    }

    /// Overtaken, every value written again, and compacted.
    fn leave_no_proof(&mut self, head: Revision) {
        self.counts.hit("restored: nothing proves it");
        self.encrypt_again();
        let overtaken = self.primary().revision.max(head) + 1;
        self.primary().revision = overtaken;
        self.encrypt_again();
        self.primary().applied_index += 200;
        let revision = self.primary().revision;
        self.primary().compact(revision);
    }

    fn back_up_standby(&mut self) {
        self.standby_backup =
            Some(StandbyBackup { model: self.standby.clone(), edited: self.edited.clone(), local: self.local.clone() });
    }

    fn restore_standby(&mut self) {
        let Some(StandbyBackup { mut model, edited, local }) = self.standby_backup.clone() else { return };
        self.counts.hit("standby restored");
        model.applied_index = 3;
        (self.standby, self.edited, self.local) = (model, edited, local);
        self.drop_session();
        self.stale.clear();
        self.daemon.leader = None;
        self.daemon.carried = Carried::first();
        // The leader's lease is long over.
        let leaders = self.standby.state(&KeyRange::prefix(&self.daemon.keys.leader_prefix), Revision::MAX);
        for key in leaders.into_keys() {
            self.standby.write(vec![Op::Delete { key }]);
        }
    }

    fn record(&self) -> Option<Checkpoint> {
        let value = &self.standby.get(&self.daemon.keys.checkpoint)?.value;
        Some(Checkpoint::decode(value).expect("the checkpoint is readable"))
    }

    /// The revision of the last record that the standby was consistent with.
    fn consistent(&self) -> Revision {
        let events: Vec<&Event> = self.standby.history().collect();
        let record = events.iter().rev().find_map(|event| match event {
            Event::Put(kv) if kv.key == self.daemon.keys.checkpoint => {
                let record = Checkpoint::decode(&kv.value).expect("the checkpoint is readable");
                (record.phase == Phase::Streaming).then_some(record.revision - i64::from(record.offset > 0))
            }
            _ => None,
        });
        record.unwrap_or(0)
    }

    fn question(&self) -> Option<Question> {
        let value = &self.standby.get(&self.daemon.keys.question)?.value;
        Some(Question::decode(value).expect("the question is readable"))
    }

    /// The operator says yes, for what is asked and for the primary as it is now.
    fn answer(&mut self) {
        let Some(question) = self.question() else { return };
        let cluster = cluster_id_text(self.primary().cluster);
        if question.primary != cluster {
            return;
        }
        self.counts.hit("accepted");
        let mirrored = self.standby.state(&self.scope.covering_range(), Revision::MAX);
        let groups: BTreeSet<Group> = mirrored.keys().map(|key| Group::of(&self.scope, key)).collect();
        // As the command does it: an answer that is still good is kept.
        let before = self.standby.get(&self.daemon.keys.acceptance).map(|kv| Acceptance::decode(&kv.value));
        let before = before.and_then(Result::ok).filter(|before| before.is_good(&cluster, self.now_ms));
        let earlier = before.map_or_else(Vec::new, |before| {
            let last = Answered { topic: before.topic, evidence: before.evidence };
            before.earlier.into_iter().chain([last]).collect()
        });
        let acceptance = Acceptance {
            format: Acceptance::FORMAT,
            topic: question.topic,
            evidence: question.evidence,
            primary: cluster,
            primary_raft: Some(RaftMark::of(&self.primary().raft())),
            groups: groups.into_iter().collect(),
            earlier,
            given_ms: self.now_ms,
            by: "operator".into(),
        };
        self.accepted.insert(self.generations.len() - 1);
        let key = self.daemon.keys.acceptance.clone();
        self.standby.write(vec![Op::Put { key, value: acceptance.encode(), lease: 0 }]);
    }

    fn work(&mut self) {
        if self.daemon.leader.is_none() && !self.daemon.campaign(&mut self.standby) {
            return;
        }
        if self.daemon.session.is_none() {
            return self.begin();
        }
        if !self.cleared && self.daemon.session.as_ref().is_some_and(|session| session.is_under_way()) {
            self.cleared = true;
            let keys = &self.daemon.keys;
            let op = Op::Delete { key: keys.question.clone() };
            self.standby.write(vec![op]);
        }
        match self.random.below(6) {
            0 | 1 => self.read(),
            2 | 3 => self.commit(),
            4 => self.watch(Side::Primary),
            _ if self.random.below(4) == 0 => self.daemon.handle(self.now_ms.into(), Input::Tick),
            _ => self.watch(Side::Standby),
        }
        self.pause();
    }

    fn begin(&mut self) {
        self.daemon.floor = self.consistent();
        self.cleared = false;
        self.daemon.generation = self.generations.len() - 1;
        self.accept_what_looks_the_same();
        let primary = &self.generations.last().expect("there is one").model;
        self.daemon.begin(primary, &mut self.standby, self.now_ms.into(), 2);
        if std::env::var_os("SIM_TRACE").is_some() {
            let record = self.record();
            let raft = self.primary().raft();
            println!(
                "begin in life {} (same as {:?}): {record:?}, primary {:?}, refused {:?}, session {:?}",
                self.daemon.generation,
                self.generations[self.daemon.generation].parent,
                raft.first,
                self.daemon.refused,
                self.daemon.session.as_ref().map(|session| session.checkpoint().phase),
            );
            if let Some(kv) = self.standby.get(&self.daemon.keys.history) {
                println!("   {}", String::from_utf8_lossy(&kv.value));
            }
        }
        if let Some(session) = &self.daemon.session {
            let is_resumed = session.checkpoint().phase == Phase::Streaming && session.is_under_way();
            self.counts.hit(if is_resumed { "resumed" } else { "copied" });
        }
        self.pause();
    }

    /// A primary that was restored after the answer was given, to a state that the answer's own evidence does not tell from it.
    fn accept_what_looks_the_same(&mut self) {
        let reading = self.primary().raft();
        let Some(kv) = self.standby.get(&self.daemon.keys.acceptance) else { return };
        let answer = Acceptance::decode(&kv.value).expect("the answer is readable");
        if answer.primary_raft.is_none_or(|mark| mark.contradiction(&reading).is_none()) {
            self.accepted.insert(self.daemon.generation);
        }
    }

    /// The driver puts the question on record.
    fn pause(&mut self) {
        let Some(refusal) = self.daemon.refused.take() else { return };
        self.drop_session();
        let cluster = cluster_id_text(self.primary().cluster);
        let Some(question) = refusal.question(&cluster, self.now_ms, "sim") else {
            assert!(matches!(refusal, Refusal::HistoryInDoubt { .. }), "{refusal}");
            return;
        };
        // Each piece of evidence must be reached: without it the values would only be saved, not the operator asked.
        for (text, name) in [
            ("was changed at revision", "evidence: a key changed in another way"),
            ("was created at revision", "evidence: a key created in another way"),
            ("has another value at revision", "evidence: an untouched value"),
            ("is not the change of", "evidence: the witness"),
            ("raft log", "evidence: the raft log"),
        ] {
            if question.evidence.contains(text) {
                self.counts.hit(name);
            }
        }
        self.counts.hit(match question.topic {
            Topic::OtherHistory => "asked: OtherHistory",
            Topic::OtherPrimary => "asked: OtherPrimary",
            Topic::StandbyRestored => "asked: StandbyRestored",
            Topic::EmptyPrimary => "asked: EmptyPrimary",
            Topic::Deletions | Topic::Unproved | Topic::Brake => "asked: about losses",
        });
        let keys = &self.daemon.keys;
        let put = Op::Put { key: keys.question.clone(), value: question.encode(), lease: 0 };
        self.standby.txn(&Txn { compares: vec![is_standby(keys)], success: vec![put], failure: vec![] });
    }

    fn raft(&mut self) {
        if self.daemon.session.is_some() && self.daemon.generation == self.generations.len() - 1 {
            let reading = self.primary().raft();
            self.daemon.handle(self.now_ms.into(), Input::Raft { side: Side::Primary, reading });
            self.pause();
        }
    }

    fn read(&mut self) {
        if self.daemon.reads.is_empty() {
            return;
        }
        let at = self.random.below(self.daemon.reads.len() as u64) as usize;
        let (id, read) = self.daemon.reads.remove(at);
        let Read::Pending(side, mut request) = read else { unreachable!("answered at once") };
        let limit = 1 + self.random.below(25) as i64;
        request.limit = if request.limit == 0 { 0 } else { request.limit.min(limit) };
        let model = match side {
            Side::Primary => &self.generations[self.daemon.generation].model,
            Side::Standby => &self.standby,
        };
        let mut result = model.read(&request).ok_or(ReadFailure::Compacted);
        if request.limit > 1 && self.random.below(30) == 0 {
            self.counts.hit("slow page");
            result = Err(ReadFailure::TimedOut);
        }
        self.daemon.handle(self.now_ms.into(), Input::Read { id, result });
    }

    fn commit(&mut self) {
        if self.daemon.commits.is_empty() {
            return;
        }
        let at = self.random.below(self.daemon.commits.len() as u64) as usize;
        let (id, commit) = self.daemon.commits.remove(at);
        let Commit::Pending(sent) = commit else { unreachable!("answered at once") };
        match self.random.below(60) {
            0 => {
                self.stale.push(sent);
                self.drop_session();
            }
            kind @ 1..4 => self.lose_answer(id, sent, kind),
            _ => {
                let reply = self.apply(&sent);
                self.daemon.handle(self.now_ms.into(), Input::Committed { id, reply });
            }
        }
    }

    /// The session finds out what became of a commit: it may still arrive, was not applied, or was.
    fn lose_answer(&mut self, id: RequestId, sent: Sent, kind: u64) {
        self.counts.hit("commit failed");
        match kind {
            1 => self.stale.push(sent),
            2 => {}
            _ => drop(self.apply(&sent)),
        }
        self.daemon.handle(self.now_ms.into(), Input::CommitFailed { id, unknown: kind != 2 });
    }

    fn stale_commit(&mut self) {
        if !self.stale.is_empty() {
            let sent = self.stale.swap_remove(self.random.below(self.stale.len() as u64) as usize);
            self.apply(&sent);
        }
    }

    fn watch(&mut self, side: Side) {
        let model = match side {
            Side::Primary => &self.generations[self.daemon.generation].model,
            Side::Standby => &self.standby,
        };
        let Some(watch) = self.daemon.watches.get_mut(side) else { return };
        if !watch.opened {
            watch.opened = true;
            let input = if watch.next <= model.compacted {
                *self.daemon.watches.get_mut(side) = None;
                Input::WatchCompacted { side, compact_revision: model.compacted }
            } else {
                Input::Opened { side }
            };
            return self.daemon.handle(self.now_ms.into(), input);
        }
        if !self.daemon.session.as_ref().is_some_and(|session| session.wants(side)) {
            return;
        }
        let input = match model.next_change(watch.next, &watch.range) {
            Some((revision, events)) => {
                watch.next = revision + 1;
                Input::Events { side, events, complete: true }
            }
            None => {
                watch.next = model.revision + 1;
                Input::Progress { side, revision: model.revision }
            }
        };
        self.daemon.handle(self.now_ms.into(), input);
    }

    fn apply(&mut self, sent: &Sent) -> etcd_sync_core::etcd::request::TxnReply {
        let before = self.standby.clone();
        let reply = self.standby.txn(&sent.txn);
        if let Ok(text) = std::env::var("SIM_TRACE")
            && sent.txn.success.iter().any(|op| format!("{op:?}").contains(&text))
        {
            let record = self.record().map(|record| (record.phase, record.revision));
            println!("standby {}: {} {record:?} {:?}", reply.revision, reply.succeeded, sent.txn.success);
        }
        if !reply.succeeded {
            return reply;
        }
        let saves: BTreeMap<Bytes, Bytes> = sent.txn.success.iter().filter_map(|op| self.save_of(op)).collect();
        for op in &sent.txn.success {
            let (key, new) = match op {
                Op::Put { key, value, .. } => (key, Some(value)),
                Op::Delete { key } => (key, None),
                Op::Get { .. } => continue,
            };
            if *key == self.daemon.keys.acceptance {
                self.counts.hit("answer used up");
            }
            if !self.scope.in_scope(key) {
                continue;
            }
            if let Some(old) = before.get(key).map(|kv| kv.value.clone()) {
                self.must_not_be_lost(sent, key, &old, new, saves.get(key));
            }
            self.edited.remove(key);
            assert!(!self.local.contains(key), "the local key {key:?} was written");
        }
        let record = self.record().expect("a commit leaves a checkpoint");
        if record.phase == Phase::Streaming && record.offset == 0 {
            self.must_be_exact(&record, sent.generation);
        }
        reply
    }

    fn save_of(&self, op: &Op) -> Option<(Bytes, Bytes)> {
        let Op::Put { key, value, .. } = op else { return None };
        let prefix = &self.daemon.keys.saved_prefix;
        key.starts_with(prefix).then(|| (key.slice(prefix.len()..), value.clone()))
    }

    /// What only another life of the primary had may be deleted, or overwritten with older data, only when it was saved or the
    /// operator has accepted this life.
    fn must_not_be_lost(&mut self, sent: &Sent, key: &Bytes, old: &Bytes, new: Option<&Bytes>, saved: Option<&Bytes>) {
        let &Sent { generation, floor, .. } = sent;
        // A first sync that is not complete holds nothing that anybody was promised.
        if floor == 0 && self.record().is_some_and(|record| record.phase == Phase::FirstSync) {
            return;
        }
        let Some(&origin) = self.origins.get(old) else { return };
        if self.accepted.contains(&generation) || self.is_of(generation, origin) {
            return;
        }
        if saved == Some(old) {
            return self.counts.hit("saved before it went");
        }
        let model = &self.generations[generation].model;
        // A live change is newer than what was followed, also a deletion; one of the sweep only finds the key absent.
        let is_swept = sent.txn.compares.len() > 3;
        let changes = model.history().filter(|event| event.key() == key && event.revision() > floor);
        let newer = changes.into_iter().any(|event| match (event, new) {
            (Event::Put(kv), Some(new)) => kv.value == *new,
            (Event::Delete { .. }, None) => !is_swept,
            _ => false,
        });
        let record = self.record();
        assert!(
            newer,
            "{key:?}: {old:?} of life {origin:?} is lost for {new:?} of {:?} in life {generation}, floor {floor}, {record:?}",
            new.and_then(|new| self.origins.get(new)),
        );
    }

    /// Whether a value of that life and revision belongs to the past of this one.
    fn is_of(&self, generation: usize, (origin, revision): (usize, Revision)) -> bool {
        let (mut at, mut up_to) = (generation, Revision::MAX);
        while at != origin {
            let Some((parent, same_up_to)) = self.generations[at].parent else { return false };
            (at, up_to) = (parent, up_to.min(same_up_to));
        }
        revision <= up_to
    }

    fn must_be_exact(&mut self, record: &Checkpoint, generation: usize) {
        let of = |model: &Model, revision| {
            let mut state = model.state(&self.scope.covering_range(), revision);
            state.retain(|key, _| self.scope.in_scope(key) && !self.edited.contains(key) && !self.local.contains(key));
            state.into_iter().map(|(key, kv)| (key, kv.value)).collect::<BTreeMap<_, _>>()
        };
        let expected = of(&self.generations[generation].model, record.revision);
        let mut found = of(&self.standby, Revision::MAX);
        // Whose a key is may be in no history any more: then it stays, and `check` names it.
        found.retain(|key, _| self.daemon.unknown_origin == 0 || expected.contains_key(key));
        assert_eq!(found, expected, "at revision {} of life {generation}", record.revision);
    }

    /// No more trouble, and an operator who answers whatever is asked.
    fn settle(&mut self) {
        self.stale.clear();
        self.restore_in = u64::MAX;
        for round in 0..30_000 {
            self.now_ms += 100;
            if round % 50 == 0 {
                self.answer();
            }
            if self.random.below(5) == 0 {
                self.daemon.handle(self.now_ms.into(), Input::Tick);
                self.pause();
            }
            self.work();
            let head = self.primary().revision;
            let record = self.record();
            let session = self.daemon.session.as_ref();
            let is_current = session.is_some_and(|session| session.checkpoint().phase == Phase::Streaming);
            if record.as_ref().is_some_and(|record| {
                record.phase == Phase::Streaming && (record.revision, record.offset) == (head, 0) && is_current
            }) {
                let generation = self.generations.len() - 1;
                return self.must_be_exact(&record.expect("it is there"), generation);
            }
        }
        panic!("the standby did not catch up: {:?}, asked {:?}", self.record(), self.question());
    }
}
