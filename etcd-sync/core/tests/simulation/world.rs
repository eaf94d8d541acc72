//! The world around the synchronizers: a seeded scheduler that picks what happens next, and the checks after each commit.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use etcd_sync_core::etcd::kv::{Event, KeyRange, KeyValue, Revision};
use etcd_sync_core::etcd::request::{Op, TxnReply};
use etcd_sync_core::link::rejoining::{Rejoining, take_role};
use etcd_sync_core::link::side::Side;
use etcd_sync_core::link::state::{Checkpoint, Phase, cluster_id_text};
use etcd_sync_core::scope::{Scope, ScopeConfig};
use etcd_sync_core::session::{Carried, Input, Now, ReadFailure};

use crate::daemon::{BACKLOGS, Commit, Daemon, Read, Sent};
use crate::digest;
use crate::mass::{self, Mass};
use crate::model::Model;
use crate::objects;
use crate::random::Random;

/// Names of keys the primary writes, local names only the standby uses, and how long the chaos lasts.
const NAMES: u64 = 40;
const LOCAL_NAMES: u64 = 6;
const COLD_NAMES: u64 = 12;
const STEPS: u64 = 3_000;

/// By so much the wall clock is set back now and then.
const HOUR_MS: u64 = 3_600_000;

/// How often each kind of trouble happened, over all seeds, and what came out.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    hits: BTreeMap<&'static str, u64>,
    /// The sum of the seeds' digests: two versions of the code that show the same one did the same in every seed.
    pub digest: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        for (name, count) in other.hits {
            *self.hits.entry(name).or_default() += count;
        }
        self.digest = self.digest.wrapping_add(other.digest);
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "digest {:016x}, {:?}", self.digest, self.hits)
    }
}

impl Counts {
    pub fn hit(&mut self, name: &'static str) {
        *self.hits.entry(name).or_default() += 1;
    }

    /// A simulation that no longer reaches its faults proves nothing.
    pub fn must_have_tried(&self, names: &[&str]) {
        for name in names {
            assert!(self.hits.get(name).is_some_and(|count| *count > 0), "no seed tried: {name}");
        }
    }

    pub fn must_have_tried_everything(&self) {
        self.must_have_tried(&[
            "crash",
            "unknown commit",
            "answer lost",
            "commit late",
            "commit refused for now",
            "stale commit",
            "stale commit refused",
            "two leaders",
            "compaction",
            "standby compaction",
            "broken watch",
            "backlog copied",
            "backlog followed",
            "reordered replies",
            "local key",
            "local key overwritten",
            "large revision",
            "commit while streaming",
            "commit while copying",
            "swept",
            "several lanes",
            "slow page",
            "clock set back",
            "namespace first",
            "family",
            "adopted by a pod",
            "deleted by hand",
            "made again by hand",
            "collected",
            "put back",
            "rejoin",
            "resource deleted",
            "namespace marked",
            "CRD marked",
            "objects marked",
            "stopped by the brake",
            "accepted",
            "accepted loss",
        ]);
    }
}

pub struct World {
    pub random: Random,
    pub now: Now,
    pub primary: Model,
    pub standby: Model,
    pub daemons: Vec<Daemon>,
    /// Commits whose senders are gone: they may arrive at any time, or never.
    stale: Vec<Sent>,
    scope: Arc<Scope>,
    local: BTreeSet<Bytes>,
    /// Keys both sides held before the link was made: one that the primary gives up before the first sync is complete counts
    /// as local, every other one as mirrored.
    on_both: BTreeSet<Bytes>,
    /// Synchronized keys that somebody else deleted on the standby, or made again after that, and that are not back yet.
    pub lost: BTreeSet<Bytes>,
    /// Every (key, value) a synchronizer has written: values are unique, so none may come twice.
    written: HashSet<(Bytes, Bytes)>,
    /// Those of them that were in a transaction of a copy whose answer was lost.
    may_repeat: HashSet<(Bytes, Bytes)>,
    /// Those of these that were written since.
    repeated: HashSet<(Bytes, Bytes)>,
    in_flight_max: usize,
    /// One step in so many is trouble: some seeds are quiet enough to stream for long, others never finish a copy in peace.
    trouble_in: u64,
    pub serial: u64,
    calm: bool,
    pub counts: Counts,
    pub mass: Mass,
}

/// What a transaction puts.
fn pairs(sent: &Sent) -> impl Iterator<Item = (Bytes, Bytes)> {
    sent.txn.success.iter().filter_map(|op| match op {
        Op::Put { key, value, .. } => Some((key.clone(), value.clone())),
        _ => None,
    })
}

fn data_key(name: u64) -> Bytes {
    // Some names lie outside the scope.
    match name % 8 {
        0 => format!("/registry/configmaps/kube-system/{name:02}"),
        1 => format!("/registry/leases/apps/{name:02}"),
        _ => format!("/registry/configmaps/apps/{name:02}"),
    }
    .into()
}

/// Written once, before the link is made, and deleted one day.
fn cold_key(name: u64) -> Bytes {
    format!("/registry/secrets/apps/{name:02}").into()
}

fn local_key(name: u64) -> Bytes {
    format!("/registry/configmaps/apps/{}-local", name * 7).into()
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let scope = Arc::new(Scope::new(&ScopeConfig::default()).expect("the default scope is valid"));
        let mut world = World {
            in_flight_max: 1 + random.below(4) as usize,
            trouble_in: random.pick(&[25, 100, 400, 3_000]),
            random,
            now: Now { ms: 1_000, unix_ms: 1_700_000_000_000 },
            primary: Model::new(1),
            standby: Model::new(2),
            daemons: (0..2).map(|name| Daemon::new(name, Arc::clone(&scope))).collect(),
            stale: vec![],
            scope,
            local: BTreeSet::new(),
            on_both: BTreeSet::new(),
            lost: BTreeSet::new(),
            written: HashSet::new(),
            may_repeat: HashSet::new(),
            repeated: HashSet::new(),
            serial: 0,
            calm: false,
            counts: Counts::default(),
            mass: Mass::default(),
        };
        let backlog_least = world.random.pick(&BACKLOGS);
        for daemon in &mut world.daemons {
            (daemon.brake, daemon.backlog_least) = (mass::LIMITS, backlog_least);
        }
        for (key, value) in objects::owned_namespace() {
            world.primary.write(vec![Op::Put { key, value, lease: 0 }]);
        }
        for _ in 0..world.random.below(NAMES) {
            world.primary_writes();
        }
        for name in 0..COLD_NAMES {
            let value = format!("cold {name}").into();
            world.primary.write(vec![Op::Put { key: cold_key(name), value, lease: 0 }]);
        }
        let mirrored = world.in_scope(&world.primary, Revision::MAX);
        for (key, value) in mirrored {
            if world.random.below(4) == 0 {
                world.standby.write(vec![Op::Put { key: key.clone(), value, lease: 0 }]);
                world.on_both.insert(key);
            }
        }
        for _ in 0..world.random.below(4) {
            world.standby_writes();
        }
        for _ in 0..world.random.below(12) {
            world.family_changes();
        }
        if world.random.below(4) == 0 {
            world.rejoin();
        }
        world.choose_mass();
        world
    }

    /// The standby was the primary before: whatever is older than the look at it is as if mirrored.
    fn rejoin(&mut self) {
        self.counts.hit("rejoin");
        let from = self.standby.revision;
        self.local.clear();
        self.on_both.clear();
        // Somebody still uses it. What is made now stays.
        for _ in 0..self.random.below(3) {
            self.standby_writes();
        }
        let rejoining = Rejoining {
            format: Rejoining::FORMAT,
            primary: cluster_id_text(self.primary.cluster),
            from,
            file: String::new(),
            saved: 0,
            at_ms: self.now.unix_ms,
            done: false,
        };
        let keys = &self.daemons[0].keys;
        let txn = take_role(keys, None, &rejoining, &self.scope.fingerprint(), 0, 1_000);
        assert!(self.standby.txn(&txn).succeeded);
    }

    pub fn run(mut self) -> Counts {
        for _ in 0..STEPS {
            self.step();
        }
        self.settle();
        self.counts.digest = digest::of(&self.standby, &self.daemons[0].keys);
        self.counts
    }

    fn step(&mut self) {
        let passed = self.random.below(100);
        self.pass(passed);
        if self.random.below(2_000) == 0 {
            self.counts.hit("clock set back");
            self.now.unix_ms -= HOUR_MS;
        }
        if self.random.below(self.trouble_in) == 0 {
            match self.random.below(5) {
                0 => self.compact(),
                1 => self.crash(),
                2 => self.lose_leadership(),
                3 => self.break_watch(),
                _ => self.stale_commit(),
            }
            return;
        }
        match self.random.below(60) {
            0..4 => self.primary_writes(),
            4 => self.standby_writes(),
            5 => self.stale_commit(),
            6 | 7 => self.family_changes(),
            8 if self.random.below(6) == 0 => self.standby_loses(),
            9 | 10 => self.collect(),
            11 => self.mass_deletion(),
            _ => self.work(),
        }
        self.operator();
    }

    pub fn pass(&mut self, ms: u64) {
        self.now.ms += ms;
        self.now.unix_ms += ms;
    }

    /// Something a synchronizer does.
    fn work(&mut self) {
        let index = self.random.below(self.daemons.len() as u64) as usize;
        if self.daemons[index].leader.is_none() && !self.daemons[index].campaign(&mut self.standby) {
            return;
        }
        if self.daemons[index].session.is_none() {
            let daemon = &mut self.daemons[index];
            let began = daemon.begin(&self.primary, &mut self.standby, self.now, self.in_flight_max);
            began.into_iter().for_each(|how| self.counts.hit(how));
            self.on_refused(index);
            return;
        }
        match self.random.below(6) {
            0 | 1 => self.read(index),
            2 | 3 => self.commit(index),
            4 => self.watch(index, Side::Primary),
            _ if self.random.below(4) == 0 => self.daemons[index].handle(self.now, Input::Tick),
            _ => self.watch(index, Side::Standby),
        }
    }

    fn read(&mut self, index: usize) {
        let daemon = &mut self.daemons[index];
        if daemon.reads.is_empty() {
            return;
        }
        let is_page = |range: &KeyRange| *range != KeyRange::single(range.start.clone());
        let lanes = daemon
            .reads
            .iter()
            .filter(|(_, read)| matches!(read, Read::Pending(Side::Primary, request) if is_page(&request.range)));
        if lanes.count() > 1 {
            self.counts.hit("several lanes");
        }
        let at = self.random.below(daemon.reads.len() as u64) as usize;
        if let Read::Pending(side, request) = &daemon.reads[at].1 {
            let model = if *side == Side::Primary { &self.primary } else { &self.standby };
            // Small pages, so that a copy has many.
            let mut request = request.clone();
            request.limit = if request.limit == 0 { 0 } else { request.limit.min(1 + self.random.below(25) as i64) };
            // One value always fits an answer.
            let pinned = request.revision != 0;
            let answer = match self.random.below(50) {
                0 if is_page(&request.range) => Err(ReadFailure::TooLarge),
                1 if is_page(&request.range) && !pinned => {
                    self.counts.hit("slow page");
                    Err(ReadFailure::TimedOut)
                }
                _ => Ok(model.read(&request)),
            };
            daemon.reads[at].1 = Read::Answered(match answer {
                Ok(Some(page)) => Ok(page),
                Err(failure) if !pinned => Err(failure),
                _ => model.read(&request).ok_or(ReadFailure::Compacted),
            });
            return;
        }
        let (id, read) = daemon.reads.remove(at);
        let Read::Answered(result) = read else { unreachable!("looked at just now") };
        daemon.handle(self.now, Input::Read { id, result });
    }

    fn commit(&mut self, index: usize) {
        if self.daemons[index].commits.is_empty() {
            return;
        }
        let at = self.random.below(self.daemons[index].commits.len() as u64) as usize;
        if at > 0 {
            self.counts.hit("reordered replies");
        }
        if let Commit::Pending(sent) = &self.daemons[index].commits[at].1 {
            let sent = sent.clone();
            if !self.calm && self.random.below(2 * self.trouble_in) == 0 {
                return self.lose_answer(index, at, &sent, false);
            }
            let reply = self.apply(&sent);
            self.daemons[index].commits[at].1 = Commit::Answered(reply);
            if !self.calm && self.random.below(2 * self.trouble_in) == 0 {
                self.lose_answer(index, at, &sent, true);
            }
            return;
        }
        let (id, commit) = self.daemons[index].commits.remove(at);
        let Commit::Answered(reply) = commit else { unreachable!("looked at just now") };
        self.daemons[index].handle(self.now, Input::Committed { id, reply });
    }

    /// The answer to a commit never comes, and one that was not applied may still arrive. The driver begins again, or lets the
    /// session find out what became of it.
    fn lose_answer(&mut self, index: usize, at: usize, sent: &Sent, applied: bool) {
        self.counts.hit("unknown commit");
        let kind = self.random.below(3);
        if kind == 0 {
            let lost = self.daemons[index].drop_session();
            return self.stale.extend(lost);
        }
        let (id, _) = self.daemons[index].commits.remove(at);
        let unknown = applied || kind == 1;
        self.counts.hit(match (unknown, applied) {
            (true, true) => "answer lost",
            (true, false) => "commit late",
            (false, _) => "commit refused for now",
        });
        if unknown {
            // What a copy writes may be written again, before the record moves. Everything else is written once.
            let checkpoint = self.daemons[0].keys.checkpoint.clone();
            if pairs(sent).all(|(key, _)| key != checkpoint) {
                self.may_repeat.extend(pairs(sent));
            }
        }
        if unknown && !applied {
            self.stale.push(sent.clone());
        }
        self.daemons[index].handle(self.now, Input::CommitFailed { id, unknown });
    }

    fn watch(&mut self, index: usize, side: Side) {
        let model = if side == Side::Primary { &self.primary } else { &self.standby };
        let daemon = &mut self.daemons[index];
        let Some(watch) = daemon.watches.get_mut(side) else { return };
        if !watch.opened {
            watch.opened = true;
            let input = if watch.next <= model.compacted {
                let compact_revision = model.compacted;
                *daemon.watches.get_mut(side) = None;
                Input::WatchCompacted { side, compact_revision }
            } else {
                Input::Opened { side }
            };
            return daemon.handle(self.now, input);
        }
        if !daemon.session.as_ref().is_some_and(|session| session.wants(side)) {
            return;
        }
        if !watch.rest.is_empty() {
            let take = 1 + self.random.below(watch.rest.len() as u64) as usize;
            let events: Vec<Event> = watch.rest.drain(..take).collect();
            let complete = watch.rest.is_empty();
            return daemon.handle(self.now, Input::Events { side, events, complete });
        }
        match model.next_change(watch.next, &watch.range) {
            Some((revision, mut events)) => {
                watch.next = revision + 1;
                if events.len() > 1 && self.random.below(2) == 0 {
                    watch.rest = events.split_off(1);
                }
                let complete = watch.rest.is_empty();
                daemon.handle(self.now, Input::Events { side, events, complete });
            }
            None => {
                let revision = model.revision;
                watch.next = revision + 1;
                daemon.handle(self.now, Input::Progress { side, revision });
            }
        }
    }

    fn apply(&mut self, sent: &Sent) -> TxnReply {
        let txn = &sent.txn;
        let leads = self.standby.get(&sent.leader.0).is_some_and(|kv| kv.create_revision == sent.leader.1);
        let before = self.record();
        let reply = self.standby.txn(txn);
        self.trace(&txn.success, || {
            let record = self.record().map(|record| (record.phase, record.revision, record.offset, record.seen));
            format!("standby {}: applied {}, {record:?}", reply.revision, reply.succeeded)
        });
        if !reply.succeeded {
            return reply;
        }
        assert!(leads, "a synchronizer that no longer leads has written");
        let after = self.record().expect("a commit leaves a checkpoint");
        // Inside a revision, the rest of it is still to come.
        let since = before.as_ref().map_or(0, |before| before.revision - i64::from(before.offset > 0));
        for op in &txn.success {
            self.must_be_accepted(op, before.as_ref().map(|before| before.phase), after.phase);
            match op {
                Op::Put { key, value, .. } if self.scope.in_scope(key) => {
                    self.must_find_its_owner(key, value);
                    self.must_find_its_namespace(key);
                    if self.lost.remove(key) {
                        self.counts.hit("put back");
                    }
                    let pair = (key.clone(), value.clone());
                    let again = self.may_repeat.contains(&pair);
                    if again {
                        self.repeated.insert(pair.clone());
                    }
                    assert!(self.written.insert(pair) || again, "{key:?} was written twice");
                    if self.local.remove(key) {
                        self.counts.hit("local key overwritten");
                    }
                }
                Op::Delete { key } if self.local.contains(key) => {
                    // The primary claimed the name and gave it up again, both in this transaction.
                    let claimed = self.primary.was_put(key, since + 1, after.revision);
                    assert!(claimed && after.revision > since, "the local key {key:?} was deleted");
                    self.local.remove(key);
                }
                // One made again by hand is deleted before the primary's is put back.
                Op::Delete { key } if self.primary.at(key, after.revision).is_none() => drop(self.lost.remove(key)),
                _ => {}
            }
        }
        if let Some(before) = &before
            && before.phase == Phase::Streaming
            && after.phase == Phase::Streaming
        {
            assert!((before.revision, before.offset.wrapping_sub(1)) <= (after.revision, after.offset.wrapping_sub(1)));
        }
        self.counts.hit(match after.phase {
            Phase::Streaming => "commit while streaming",
            _ => "commit while copying",
        });
        if txn.compares.len() > 3 {
            self.counts.hit("swept");
        }
        if after.phase == Phase::Streaming && before.is_none_or(|before| before.phase == Phase::FirstSync) {
            let on_both = std::mem::take(&mut self.on_both);
            self.on_both = on_both.into_iter().filter(|key| self.on_record(key)).collect();
        }
        self.must_be_exact(&after);
        reply
    }

    pub fn is_streaming(&self) -> bool {
        self.record().is_some_and(|record| record.phase == Phase::Streaming)
    }

    fn on_record(&self, key: &Bytes) -> bool {
        self.standby.get(&self.daemons[0].keys.local_entry(key)).is_some()
    }

    fn record(&self) -> Option<Checkpoint> {
        let value = &self.standby.get(&self.daemons[0].keys.checkpoint)?.value;
        Some(Checkpoint::decode(value).expect("the checkpoint is readable"))
    }

    /// The claim of invariants 1, 3 and 10: at any moment the standby is the primary's scope at the checkpoint's revision.
    fn must_be_exact(&self, record: &Checkpoint) {
        if record.phase != Phase::Streaming || record.offset != 0 {
            return;
        }
        let expected = self.in_scope(&self.primary, record.revision);
        let mut found = self.in_scope(&self.standby, Revision::MAX);
        let is_local = |key: &Bytes| self.on_both.contains(key) && self.on_record(key) && !expected.contains_key(key);
        found.retain(|key, _| !(self.local.contains(key) || is_local(key) || self.is_filtered(key, record.revision)));
        // What somebody took away is missed until it is put back.
        found.retain(|key, _| !self.lost.contains(key));
        let expected: BTreeMap<_, _> = expected.into_iter().filter(|(key, _)| !self.lost.contains(key)).collect();
        if self.unknown_origin() == 0 {
            let keys: BTreeSet<&Bytes> = found.keys().chain(expected.keys()).collect();
            let different = |key: &&&Bytes| found.get(**key) != expected.get(**key);
            let shown = |key: &Bytes| (key.clone(), found.get(key).cloned(), expected.get(key).cloned());
            let differences: Vec<_> = keys.iter().filter(different).map(|key| shown(key)).collect();
            assert!(differences.is_empty(), "at revision {} (found, expected): {differences:?}", record.revision);
        } else {
            for (key, value) in &expected {
                assert_eq!(found.get(key), Some(value), "{key:?} at revision {}", record.revision);
            }
        }
    }

    fn unknown_origin(&self) -> u64 {
        self.daemons.iter().map(|daemon| daemon.unknown_origin).sum()
    }

    fn in_scope(&self, model: &Model, revision: Revision) -> BTreeMap<Bytes, Bytes> {
        let state = model.state(&self.scope.covering_range(), revision);
        let wanted = |(key, kv): &(Bytes, KeyValue)| {
            self.scope.in_scope(key) && kv.lease == 0 && !objects::is_filtered(&self.scope, kv)
        };
        state.into_iter().filter(wanted).map(|(key, kv)| (key, kv.value)).collect()
    }

    /// The primary's object of that key belongs to something out of scope: the standby's own matter.
    fn is_filtered(&self, key: &Bytes, revision: Revision) -> bool {
        self.primary.at(key, revision).is_some_and(|kv| objects::is_filtered(&self.scope, kv))
    }

    /// The claim of invariant 4: no dependent is on the standby before its owner, if the primary has that owner.
    fn must_find_its_owner(&self, key: &Bytes, value: &Bytes) {
        let Some((_, owners)) = objects::ties(value) else { return };
        let (here, mut there) = (objects::uids(&self.standby), objects::uids(&self.primary));
        // An owner that was taken away is put back at its time.
        for taken in self.lost.iter().filter_map(|key| objects::ties(&self.primary.get(key)?.value)) {
            there.remove(&taken.0);
        }
        for owner in owners {
            assert!(here.contains(&owner) || !there.contains(&owner), "{key:?} was written before its owner {owner}");
        }
    }

    /// Nothing is on the standby before the namespace it lies in, also where something else owns that.
    fn must_find_its_namespace(&mut self, key: &Bytes) {
        let namespace = objects::NAMESPACE.as_bytes();
        if !key.windows(6).any(|part| part == b"/apps/")
            || self.lost.contains(namespace)
            || self.lost.contains(objects::TENANT.as_bytes())
        {
            return;
        }
        assert!(self.standby.get(namespace).is_some(), "{key:?} was written before its namespace");
        self.counts.hit("namespace first");
    }

    /// A family of the primary grows, changes, or goes; like a real one, not all at once.
    fn family_changes(&mut self) {
        self.counts.hit("family");
        self.serial += 1;
        let (family, child, serial) =
            (self.random.below(objects::FAMILIES), self.random.below(objects::CHILDREN), self.serial);
        let owner_key = objects::owner_key(family);
        let uid_of = |key: &Bytes| Some(objects::ties(&self.primary.get(key)?.value)?.0);
        let (owner, name) = (uid_of(&owner_key), family.to_string());
        let fresh = |what: &str| format!("{what}-{serial}");
        let child_key = objects::child_key(family, child);
        let kind = objects::child_kind(child);
        let child_name = format!("of-{family}-{child}");
        let op = match (self.random.below(8), owner) {
            (_, None) => {
                let value = objects::value("Widget", &name, &fresh("widget"), None, serial);
                Op::Put { key: owner_key, value, lease: 0 }
            }
            (0, Some(_)) => Op::Delete { key: owner_key },
            (1, Some(uid)) => {
                Op::Put { key: owner_key, value: objects::value("Widget", &name, &uid, None, serial), lease: 0 }
            }
            // Such a child has no children of its own: a whole line below something out of scope cannot stay on the standby.
            (2, Some(_)) if child == 2 => {
                self.counts.hit("adopted by a pod");
                let uid = uid_of(&child_key).unwrap_or_else(|| fresh("child"));
                let value = objects::value(kind, &child_name, &uid, Some(("Pod", "p", "pod")), serial);
                Op::Put { key: child_key, value, lease: 0 }
            }
            (3..6, Some(owner)) => {
                let uid = uid_of(&child_key).unwrap_or_else(|| fresh("child"));
                let value = objects::value(kind, &child_name, &uid, Some(("Widget", &name, &owner)), serial);
                Op::Put { key: child_key, value, lease: 0 }
            }
            (_, Some(_)) => match uid_of(&child_key) {
                Some(parent) if child != 2 => {
                    let key = objects::grandchild_key(family, child);
                    let uid = uid_of(&key).unwrap_or_else(|| fresh("bolt"));
                    let value = objects::value("Bolt", &child_name, &uid, Some((kind, &child_name, &parent)), serial);
                    Op::Put { key, value, lease: 0 }
                }
                _ => return,
            },
        };
        self.trace(std::slice::from_ref(&op), || format!("primary {}", self.primary.revision + 1));
        self.primary.write(vec![op]);
    }

    /// Somebody deletes a synchronized key on the standby, and perhaps makes one of the same name.
    fn standby_loses(&mut self) {
        let mirrored = self.in_scope(&self.standby, Revision::MAX);
        let keys: Vec<&Bytes> =
            mirrored.keys().filter(|key| !key.ends_with(b"-local") && !self.on_both.contains(*key)).collect();
        if keys.is_empty() || self.record().is_none() {
            return;
        }
        let key = keys[self.random.below(keys.len() as u64) as usize].clone();
        let object = objects::ties(&mirrored[&key]).is_some();
        self.counts.hit("deleted by hand");
        self.take_away(&key);
        if object && self.random.below(3) == 0 {
            self.counts.hit("made again by hand");
            self.serial += 1;
            let value = objects::value("Part", "mine", &format!("mine-{}", self.serial), None, self.serial);
            let op = Op::Put { key, value, lease: 0 };
            self.trace(std::slice::from_ref(&op), || format!("standby {}: foreign", self.standby.revision + 1));
            self.standby.write(vec![op]);
        }
    }

    /// The garbage collectors of both clusters do their work.
    fn collect(&mut self) {
        for key in objects::orphans(&self.primary) {
            // Pods are not modelled.
            if !self.is_filtered(&key, Revision::MAX) {
                self.primary.write(vec![Op::Delete { key }]);
            }
        }
        let orphans = objects::orphans(&self.standby);
        if let Some(key) = orphans.into_iter().next() {
            self.counts.hit("collected");
            self.take_away(&key);
        }
    }

    fn take_away(&mut self, key: &Bytes) {
        let op = Op::Delete { key: key.clone() };
        self.trace(std::slice::from_ref(&op), || format!("standby {}: foreign", self.standby.revision + 1));
        self.written.retain(|(written, _)| written != key);
        self.standby.write(vec![op]);
        self.local.remove(key);
        self.lost.insert(key.clone());
    }

    fn primary_writes(&mut self) {
        let large = self.random.below(12) == 0;
        let count = if large { 6 + self.random.below(8) } else { 1 + self.random.below(2) };
        if large {
            self.counts.hit("large revision");
        }
        let mut ops: BTreeMap<Bytes, Op> = BTreeMap::new();
        for _ in 0..count {
            // Now and then both sides claim the same name.
            let key = match self.random.below(20) {
                0 => local_key(self.random.below(LOCAL_NAMES)),
                _ => data_key(self.random.below(NAMES)),
            };
            if self.random.below(30) == 0 {
                let key = cold_key(self.random.below(COLD_NAMES));
                ops.insert(key.clone(), Op::Delete { key });
            }
            self.serial += 1;
            let value = Bytes::from(format!("{:0width$}", self.serial, width = 8 + self.random.below(60) as usize));
            let op = match self.random.below(10) {
                0..6 => Op::Put { key: key.clone(), value, lease: 0 },
                // Not for names both sides claim: a deletion does not tell that its key hung on a lease, and while copying
                // the record of local keys is not complete.
                6 if !key.ends_with(b"-local") => Op::Put { key: key.clone(), value, lease: 9 },
                _ => Op::Delete { key: key.clone() },
            };
            ops.insert(key, op);
        }
        let ops: Vec<Op> = ops.into_values().collect();
        self.trace(&ops, || format!("primary {}", self.primary.revision + 1));
        self.primary.write(ops);
    }

    fn standby_writes(&mut self) {
        let key = local_key(self.random.below(LOCAL_NAMES));
        self.serial += 1;
        let local = self.local.contains(&key);
        if self.standby.get(&key).is_some() && !local {
            return;
        }
        let delete = local && self.random.below(2) == 0;
        let op = if delete {
            self.local.remove(&key);
            Op::Delete { key }
        } else {
            self.counts.hit("local key");
            self.local.insert(key.clone());
            Op::Put { key, value: self.serial.to_string().into(), lease: 0 }
        };
        self.trace(std::slice::from_ref(&op), || format!("standby {}: foreign", self.standby.revision + 1));
        self.standby.write(vec![op]);
    }

    fn compact(&mut self) {
        if self.random.below(12) == 0 {
            self.counts.hit("standby compaction");
            self.standby.compact(self.standby.revision - self.random.below(10) as i64);
        } else {
            self.counts.hit("compaction");
            self.primary.compact(self.primary.revision - self.random.below(10) as i64);
        }
    }

    fn crash(&mut self) {
        let index = self.random.below(self.daemons.len() as u64) as usize;
        self.counts.hit("crash");
        let lost = self.daemons[index].drop_session();
        self.stale.extend(lost);
        // Another process begins: it knows nothing.
        self.daemons[index].carried = Carried::first();
        self.daemons[index].force_copy = false;
        self.expire(index);
    }

    /// The lease of a leader runs out; it does not notice, and goes on as before.
    fn lose_leadership(&mut self) {
        let index = self.random.below(self.daemons.len() as u64) as usize;
        let Some((key, _)) = self.daemons[index].leader.clone() else { return };
        if self.daemons[index].session.is_some() {
            self.counts.hit("two leaders");
        }
        self.standby.write(vec![Op::Delete { key }]);
    }

    fn expire(&mut self, index: usize) {
        if let Some((key, _)) = self.daemons[index].leader.take() {
            self.standby.write(vec![Op::Delete { key }]);
        }
    }

    fn break_watch(&mut self) {
        let index = self.random.below(self.daemons.len() as u64) as usize;
        let side = if self.random.below(2) == 0 { Side::Primary } else { Side::Standby };
        if self.daemons[index].watches.get_mut(side).take().is_some() {
            self.counts.hit("broken watch");
            self.daemons[index].handle(self.now, Input::WatchClosed { side });
        }
    }

    fn stale_commit(&mut self) {
        if self.stale.is_empty() {
            return;
        }
        let sent = self.stale.swap_remove(self.random.below(self.stale.len() as u64) as usize);
        let is_repeated = pairs(&sent).any(|pair| self.repeated.contains(&pair));
        let reply = self.apply(&sent);
        // Newer values of its keys may be written by then.
        assert!(!(is_repeated && reply.succeeded), "what was sent again was applied a second time: {sent:?}");
        self.counts.hit(if reply.succeeded { "stale commit" } else { "stale commit refused" });
    }

    /// No more trouble: one synchronizer works until the standby is what the primary is.
    fn settle(&mut self) {
        self.calm = true;
        self.stale.clear();
        let last = self.daemons.len() - 1;
        for index in 0..last {
            self.daemons[index].drop_session();
            self.expire(index);
        }
        let gone: u64 = self.daemons.drain(..last).map(|daemon| daemon.unknown_origin).sum();
        self.daemons[0].unknown_origin += gone;
        for _ in 0..40_000 {
            self.pass(50);
            if self.random.below(5) == 0 {
                self.daemons[0].handle(self.now, Input::Tick);
            }
            if self.random.below(12) == 0 {
                self.mass_deletion();
            }
            // Leaders change also while something is to be answered.
            if self.must_crash_in_mass() {
                self.crash();
            }
            self.work();
            self.operator();
            let record = self.record();
            if record.is_some_and(|record| {
                record.phase == Phase::Streaming && (record.revision, record.offset) == (self.primary.revision, 0)
            }) && self.is_healed()
                && self.is_mass_done()
            {
                self.must_be_exact(&self.record().expect("looked at just now"));
                return;
            }
        }
        let lost: Vec<_> = self.lost.iter().filter(|key| self.primary.get(key).is_some()).collect();
        let record = self.record();
        panic!("the standby did not catch up: {record:?}, primary at {}, lost {lost:?}", self.primary.revision);
    }

    /// Whatever was taken away is back, as far as the primary has it.
    fn is_healed(&self) -> bool {
        let expected = self.in_scope(&self.primary, Revision::MAX);
        self.lost.iter().all(|key| !expected.contains_key(key))
    }

    /// `SIM_TRACE=text` shows every write of keys whose name holds the text.
    pub fn trace(&self, ops: &[Op], what: impl FnOnce() -> String) {
        if let Ok(text) = std::env::var("SIM_TRACE")
            && text.split(",").any(|text| ops.iter().any(|op| format!("{op:?}").contains(text)))
        {
            println!("{} {ops:?}", what());
        }
    }
}
