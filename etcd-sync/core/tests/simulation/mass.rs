//! Mass deletions on the primary, and the operator who answers when the brake has stopped them.

use bytes::Bytes;
use etcd_sync_core::etcd::kv::{KeyRange, Revision};
use etcd_sync_core::etcd::request::Op;
use etcd_sync_core::link::question::{Acceptance, Question, Topic};
use etcd_sync_core::link::state::{Phase, cluster_id_text};
use etcd_sync_core::session::{BrakeLimits, Refusal};

use crate::world::World;

/// What the ordinary life of a seed never comes near to.
pub const LIMITS: BrakeLimits = BrakeLimits { keys: 100, percent: 0, resource_keys: 20, crd: true };

const NAMESPACE: &str = "/registry/namespaces/mass";
const CRD: &str = "/registry/apiextensions.k8s.io/customresourcedefinitions/things.mass.io";
const DEPLOYMENTS: (&str, u64) = ("/registry/deployments/mass/", 24);
const SECRETS: (&str, u64) = ("/registry/secrets/mass/", 80);
const THINGS: (&str, u64) = ("/registry/mass.io/things/mass/", 2);

/// What happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deletion {
    /// All of a resource, in one revision.
    Resource,
    /// A mark on the namespace; what it contains goes one by one.
    Namespace,
    /// A mark on a CRD that has objects.
    Crd,
    /// Fewer objects than the limit are marked, and deleted one by one: that passes.
    Marked,
}

/// The objects of a seed that are deleted one day.
#[derive(Debug, Default)]
pub struct Mass {
    /// They are on the primary.
    is_there: bool,
    deletion: Option<Deletion>,
    is_accepted: bool,
}

impl World {
    /// Some seeds have much to lose.
    pub fn fill_mass(&mut self) {
        if self.random.below(5) > 0 {
            return;
        }
        self.mass.is_there = true;
        for key in [NAMESPACE, CRD] {
            self.put_mass(key.to_owned(), false);
        }
        for (folder, count) in [DEPLOYMENTS, SECRETS, THINGS] {
            (0..count).for_each(|name| self.put_mass(format!("{folder}{name:02}"), false));
        }
    }

    fn put_mass(&mut self, key: String, deleting: bool) {
        self.serial += 1;
        let mark = deleting.then_some("2026-01-01T00:00:00Z");
        let metadata = serde_json::json!({ "name": "mass", "uid": key, "deletionTimestamp": mark });
        let value =
            serde_json::json!({ "apiVersion": "v1", "kind": "Any", "metadata": metadata, "serial": self.serial });
        self.write_mass(vec![Op::Put { key: key.into(), value: value.to_string().into(), lease: 0 }]);
    }

    fn write_mass(&mut self, ops: Vec<Op>) {
        self.trace(&ops, || format!("primary {}", self.primary.revision + 1));
        self.primary.write(ops);
    }

    fn mass_keys(&self, folder: &str) -> Vec<Bytes> {
        self.primary.state(&KeyRange::prefix(folder.as_bytes()), Revision::MAX).into_keys().collect()
    }

    /// The deletion begins, or goes on.
    pub fn mass_deletion(&mut self) {
        if !self.mass.is_there {
            return;
        }
        if let Some(deletion) = self.mass.deletion {
            return self.mass_goes_on(deletion);
        }
        if self.random.below(40) > 0 {
            return;
        }
        let all = [Deletion::Resource, Deletion::Namespace, Deletion::Crd, Deletion::Marked];
        let deletion = all[self.random.below(4) as usize];
        self.mass.deletion = Some(deletion);
        match deletion {
            Deletion::Resource => {
                self.counts.hit("resource deleted");
                let keys = self.mass_keys(DEPLOYMENTS.0);
                self.write_mass(keys.into_iter().map(|key| Op::Delete { key }).collect());
            }
            Deletion::Namespace => {
                self.counts.hit("namespace marked");
                self.put_mass(NAMESPACE.into(), true);
            }
            Deletion::Crd => {
                self.counts.hit("CRD marked");
                self.put_mass(CRD.into(), true);
            }
            Deletion::Marked => {
                self.counts.hit("objects marked");
                (0..60).for_each(|name| self.put_mass(format!("{}{name:02}", SECRETS.0), true));
            }
        }
    }

    /// What is marked goes one by one, in its own time.
    fn mass_goes_on(&mut self, deletion: Deletion) {
        let folders = match deletion {
            Deletion::Resource => return,
            Deletion::Namespace => vec![DEPLOYMENTS.0, SECRETS.0, THINGS.0],
            Deletion::Crd => vec![THINGS.0],
            Deletion::Marked => vec![SECRETS.0],
        };
        let mut keys: Vec<Bytes> = folders.into_iter().flat_map(|folder| self.mass_keys(folder)).collect();
        if deletion == Deletion::Marked {
            keys.retain(|key| &key[..] < format!("{}60", SECRETS.0).as_bytes());
        }
        keys.truncate(1 + self.random.below(4) as usize);
        for key in keys {
            self.write_mass(vec![Op::Delete { key }]);
        }
    }

    /// A session has refused to go on: only the brake may, and only when there is a reason. The daemon records its question.
    pub fn on_refused(&mut self, index: usize) {
        let Some(refusal) = self.daemons[index].refused.take() else { return };
        let Refusal::Brake { evidence, .. } = &refusal else { panic!("refused: {refusal}") };
        let is_due = self.mass.deletion.is_some_and(|deletion| deletion != Deletion::Marked);
        assert!(is_due, "stopped without a reason: {evidence}");
        self.counts.hit("stopped by the brake");
        let primary = cluster_id_text(self.primary.cluster);
        let question = refusal.question(&primary, self.now.unix_ms, "holder").expect("the brake asks");
        let daemon = &self.daemons[index];
        // Fenced, as everything is.
        let leads = daemon.leader.as_ref().is_some_and(|(key, _)| self.standby.get(key).is_some());
        if leads {
            let key = daemon.keys.question.clone();
            self.standby.write(vec![Op::Put { key, value: question.encode(), lease: 0 }]);
        }
    }

    /// The operator looks at what is asked, and accepts it at some time.
    pub fn operator(&mut self) {
        let keys = self.daemons[0].keys.clone();
        if !self.mass.is_there || self.standby.get(&keys.acceptance).is_some() {
            return;
        }
        let Some(asked) = self.standby.get(&keys.question) else { return };
        if self.random.below(30) > 0 {
            return;
        }
        let question = Question::decode(&asked.value).expect("it is readable");
        assert_eq!(question.topic, Topic::Brake);
        let groups = question.losses.expect("what would be lost").groups.into_keys().collect();
        let acceptance = Acceptance {
            format: Acceptance::FORMAT,
            topic: question.topic,
            evidence: question.evidence,
            primary: question.primary,
            primary_raft: None,
            groups,
            earlier: vec![],
            given_ms: self.now.unix_ms,
            by: "operator".into(),
        };
        self.counts.hit("accepted");
        self.mass.is_accepted = true;
        let answer = Op::Put { key: keys.acceptance, value: acceptance.encode(), lease: 0 };
        // The daemon does this when the next session goes on.
        self.standby.write(vec![answer, Op::Delete { key: keys.question }]);
    }

    /// No live update takes a mass of keys away before the operator has accepted it.
    pub fn must_be_accepted(&mut self, op: &Op, before: Option<Phase>, after: Phase) {
        let Some(deletion) = self.mass.deletion else { return };
        if (before, after) != (Some(Phase::Streaming), Phase::Streaming) {
            return;
        }
        let takes_away = match (deletion, op) {
            (Deletion::Resource, Op::Delete { key }) => key.starts_with(DEPLOYMENTS.0.as_bytes()),
            (Deletion::Namespace, Op::Put { key, value, .. }) => *key == NAMESPACE && is_marked(value),
            (Deletion::Crd, Op::Put { key, value, .. }) => *key == CRD && is_marked(value),
            _ => false,
        };
        if takes_away {
            assert!(self.mass.is_accepted, "{op:?} was written before the operator has accepted it");
            self.counts.hit("accepted loss");
        }
    }
}

fn is_marked(value: &[u8]) -> bool {
    value.windows(6).any(|text| text == b"\"2026-")
}
