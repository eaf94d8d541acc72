//! A primary and a standby, both modelled, and a synchronizer between them that does what is due until nothing is.

use std::sync::Arc;

use bytes::Bytes;
use etcd_sync_core::etcd::kv::{KeyRange, Revision};
use etcd_sync_core::etcd::request::{Op, Page};
use etcd_sync_core::link::question::{Acceptance, Losses, Question, Topic};
use etcd_sync_core::link::side::Side;
use etcd_sync_core::link::state::{StateKeys, cluster_id_text};
use etcd_sync_core::scope::{Scope, ScopeConfig};
use etcd_sync_core::session::{BrakeLimits, Carried, Input, ReadFailure, Refusal, RequestId};

use crate::daemon::{Commit, Daemon, Read, Watch};
use crate::model::Model;

pub struct Pair {
    pub primary: Model,
    pub standby: Model,
    pub daemon: Daemon,
    pub now_ms: u64,
    /// A message of the primary's watch has so many changes at most: a revision may come in parts.
    pub part_max: usize,
}

impl Pair {
    /// A standby that has caught up with a primary that holds these objects.
    pub fn with(limits: BrakeLimits, objects: impl IntoIterator<Item = String>) -> Pair {
        let scope = Arc::new(Scope::new(&ScopeConfig::default()).expect("the default scope is valid"));
        let mut daemon = Daemon::new(0, scope);
        daemon.brake = limits;
        let mut pair =
            Pair { primary: Model::new(1), standby: Model::new(2), daemon, now_ms: 1_000, part_max: usize::MAX };
        for key in objects {
            pair.put(&key, false);
        }
        pair.run();
        assert_eq!(pair.daemon.refused, None);
        // The deletions of a test belong to no window of the fill.
        pair.wait(61_000);
        pair
    }

    /// Puts an object on the primary, perhaps marked for deletion.
    pub fn put(&mut self, key: &str, deleting: bool) {
        self.primary.write(vec![put(key, deleting)]);
    }

    pub fn delete(&mut self, key: &str) {
        self.primary.write(vec![delete(key)]);
    }

    /// Deletes everything below a prefix on the primary, a hundred in one revision.
    pub fn delete_below(&mut self, prefix: &str) {
        let keys = self.primary.state(&KeyRange::prefix(prefix.as_bytes()), Revision::MAX);
        let ops: Vec<Op> = keys.into_keys().map(|key| Op::Delete { key }).collect();
        ops.chunks(100).for_each(|ops| self.primary.write(ops.to_vec()));
    }

    /// How many keys the standby has below a prefix.
    pub fn count(&self, prefix: &str) -> usize {
        self.standby.state(&KeyRange::prefix(prefix.as_bytes()), Revision::MAX).len()
    }

    pub fn keys(&self) -> StateKeys {
        StateKeys::new("sim")
    }

    /// Does what is due, lets time pass, and does what is due then.
    pub fn wait(&mut self, ms: u64) {
        self.run();
        self.now_ms += ms;
        self.run();
    }

    /// Works until nothing is left to do, or the session refuses to go on; the question is on record then.
    pub fn run(&mut self) {
        let mut quiet = 0;
        for _ in 0..200_000 {
            if self.daemon.refused.is_some() {
                return self.record_question();
            }
            if self.daemon.session.is_none() {
                if self.daemon.leader.is_none() {
                    assert!(self.daemon.campaign(&mut self.standby), "nobody else leads");
                }
                self.daemon.begin(&self.primary, &mut self.standby, self.now_ms.into(), 1);
                continue;
            }
            quiet = if self.step() { 0 } else { quiet + 1 };
            if quiet > 3 {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    fn step(&mut self) -> bool {
        if let Some(read) = self.daemon.reads.pop() {
            self.answer(read);
            return true;
        }
        if self.commit() || self.watch(Side::Standby) || self.watch(Side::Primary) {
            return true;
        }
        self.tick();
        !(self.daemon.reads.is_empty() && self.daemon.commits.is_empty())
    }

    pub fn tick(&mut self) {
        self.now_ms += 100;
        self.daemon.handle(self.now_ms.into(), Input::Tick);
    }

    pub fn answer(&mut self, (id, read): (RequestId, Read)) {
        let result = self.read(&read);
        self.daemon.handle(self.now_ms.into(), Input::Read { id, result });
    }

    /// What a read would find now.
    pub fn read(&self, read: &Read) -> Result<Page, ReadFailure> {
        let Read::Pending(side, request) = read else { unreachable!("answered at once here") };
        let model = if *side == Side::Primary { &self.primary } else { &self.standby };
        model.read(request).ok_or(ReadFailure::Compacted)
    }

    /// Applies a transaction; false when none is under way.
    pub fn commit(&mut self) -> bool {
        let Some((id, commit)) = self.daemon.commits.pop() else { return false };
        let Commit::Pending(sent) = commit else { unreachable!("answered at once here") };
        let reply = self.standby.txn(&sent.txn);
        self.daemon.handle(self.now_ms.into(), Input::Committed { id, reply });
        true
    }

    /// Delivers what is next on that watch; false when there is nothing.
    pub fn watch(&mut self, side: Side) -> bool {
        let model = if side == Side::Primary { &self.primary } else { &self.standby };
        let wants = self.daemon.session.as_ref().is_some_and(|session| session.wants(side));
        let Some(Watch { range, next, opened, rest }) = self.daemon.watches.get_mut(side) else { return false };
        let input = if !*opened {
            *opened = true;
            match *next <= model.compacted {
                true => Input::WatchCompacted { side, compact_revision: model.compacted },
                false => Input::Opened { side },
            }
        } else if !wants {
            return false;
        } else if !rest.is_empty() {
            let events = rest.drain(..self.part_max.min(rest.len())).collect();
            Input::Events { side, events, complete: rest.is_empty() }
        } else if let Some((revision, mut events)) = model.next_change(*next, range) {
            *next = revision + 1;
            *rest = events.split_off(self.part_max.min(events.len()));
            Input::Events { side, events, complete: rest.is_empty() }
        } else if *next <= model.revision {
            *next = model.revision + 1;
            Input::Progress { side, revision: model.revision }
        } else {
            return false;
        };
        self.daemon.handle(self.now_ms.into(), input);
        true
    }

    /// As the daemon does when a session refuses to go on.
    fn record_question(&mut self) {
        let refusal = self.daemon.refused.as_ref().expect("it was refused");
        let primary = cluster_id_text(self.primary.cluster);
        if let Some(question) = refusal.question(&primary, self.now_ms, "holder") {
            let key = self.keys().question;
            self.standby.write(vec![Op::Put { key, value: question.encode(), lease: 0 }]);
        }
    }

    /// Why it was refused: evidence and losses of the brake.
    pub fn stopped(&self) -> (String, Losses) {
        match &self.daemon.refused {
            Some(Refusal::Brake { evidence, losses }) => (evidence.clone(), (**losses).clone()),
            other => panic!("the brake did not stop it: {other:?}"),
        }
    }

    /// The next session of the same process, after a pause.
    pub fn again(&mut self) {
        self.daemon.refused = None;
        self.wait(5_000);
    }

    /// Another process takes over: it knows only what is on record.
    pub fn take_over(&mut self) {
        self.daemon.drop_session();
        self.daemon.carried = Carried::first();
        let (key, _) = self.daemon.leader.take().expect("somebody leads");
        self.standby.write(vec![Op::Delete { key }]);
        self.again();
    }

    /// The operator answers the question on record.
    pub fn accept(&mut self) {
        let asked = self.standby.get(&self.keys().question).expect("a question is on record");
        let question = Question::decode(&asked.value).expect("it is readable");
        assert_eq!(question.topic, Topic::Brake);
        let answer = Acceptance {
            format: Acceptance::FORMAT,
            topic: question.topic,
            evidence: question.evidence,
            primary: question.primary,
            primary_raft: None,
            groups: question.losses.expect("what would be lost").groups.into_keys().collect(),
            earlier: vec![],
            given_ms: self.now_ms,
            by: "operator".into(),
        };
        let keys = self.keys();
        let written = Op::Put { key: keys.acceptance, value: answer.encode(), lease: 0 };
        self.standby.write(vec![written]);
    }

    /// Whether the answer is still on record.
    pub fn is_answered(&self) -> bool {
        self.standby.get(&self.keys().acceptance).is_some()
    }

    /// The standby has what the primary has.
    pub fn must_be_equal(&self) {
        let range = KeyRange::prefix(b"/registry/");
        let values = |model: &Model| -> Vec<(Bytes, Bytes)> {
            model.state(&range, Revision::MAX).into_values().map(|kv| (kv.key, kv.value)).collect()
        };
        assert_eq!(self.daemon.refused, None);
        let (expected, found) = (values(&self.primary), values(&self.standby));
        let keys = |values: &[(Bytes, Bytes)]| values.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>();
        assert_eq!(keys(&expected), keys(&found));
        assert!(expected == found, "a value differs");
    }
}

pub fn put(key: &str, deleting: bool) -> Op {
    let relative = key.strip_prefix("/registry/").expect("a key of Kubernetes");
    let name = relative.rsplit('/').next().expect("a name");
    let mark = deleting.then_some("2026-01-01T00:00:00Z");
    let metadata = serde_json::json!({ "name": name, "uid": key, "deletionTimestamp": mark });
    let value = serde_json::json!({ "apiVersion": "v1", "kind": "Any", "metadata": metadata }).to_string();
    Op::Put { key: Bytes::from(key.to_owned()), value: value.into(), lease: 0 }
}

pub fn delete(key: &str) -> Op {
    Op::Delete { key: Bytes::from(key.to_owned()) }
}
