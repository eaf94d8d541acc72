//! What a first sync or a resync would do with every key, counted, with the first keys of each outcome.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::kv::{KeyValue, printable};
use crate::provenance::{Moments, Origin};
use crate::scope::{Decision, Reason, Scope};
use crate::walk::{Chunk, Joined, join};

/// What becomes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The standby gets it.
    Create,
    /// The standby's value is replaced.
    Overwrite,
    /// Equal on both sides.
    Unchanged,
    /// Mirrored once, gone from the primary: deleted.
    Delete,
    /// Only the standby has it, and it stays.
    KeepLocal,
    /// Only the standby has it, and its origin is looked up in the standby's history when the resync comes to it.
    AskHistory,
    /// Out of scope on the primary: not taken.
    LeaveOut,
}

/// Keys of one outcome and reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Group {
    /// How many.
    pub count: u64,
    /// The first of them, as [`printable`] shows them.
    pub keys: Vec<String>,
}

/// The plan so far.
#[derive(Debug)]
pub struct Plan {
    keys_max: usize,
    groups: BTreeMap<(Outcome, String), Group>,
}

impl Plan {
    /// Keeps the first `keys_max` keys of each group.
    pub fn new(keys_max: usize) -> Self {
        Plan { keys_max, groups: BTreeMap::new() }
    }

    /// Takes a chunk with values whose leading side is the primary. `moments` is `None` for a link that has never run: then
    /// everything that only the standby has is local.
    pub fn chunk(
        &mut self,
        mut chunk: Chunk,
        scope: &Scope,
        moments: Option<Moments>,
        is_local: impl Fn(&[u8]) -> bool,
    ) {
        chunk.lead.retain(|kv| match scope.decide_kv(kv) {
            Decision::InScope => true,
            Decision::Out(reason) => {
                self.add(Outcome::LeaveOut, &why(reason), kv);
                false
            }
        });
        chunk.follow.retain(|kv| scope.decide_kv(kv) == Decision::InScope);
        for joined in join(chunk) {
            match joined {
                Joined::Lead(kv) => self.add(Outcome::Create, "", &kv),
                Joined::Both(primary, standby) if primary.value == standby.value => {
                    self.add(Outcome::Unchanged, "", &primary);
                }
                Joined::Both(primary, _) => self.add(Outcome::Overwrite, "", &primary),
                Joined::Follow(kv) => {
                    let origin = moments.map_or(Origin::Local, |moments| {
                        moments.origin(is_local(&kv.key), kv.create_revision, kv.mod_revision)
                    });
                    let outcome = match origin {
                        Origin::Local => Outcome::KeepLocal,
                        Origin::Mirrored => Outcome::Delete,
                        Origin::AskHistory => Outcome::AskHistory,
                    };
                    self.add(outcome, "", &kv);
                }
            }
        }
    }

    /// All groups, by outcome and reason.
    pub fn groups(&self) -> impl Iterator<Item = (Outcome, &str, &Group)> {
        self.groups.iter().map(|((outcome, reason), group)| (*outcome, reason.as_str(), group))
    }

    /// How many keys of one outcome.
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.groups().filter(|(found, ..)| *found == outcome).map(|(.., group)| group.count).sum()
    }

    fn add(&mut self, outcome: Outcome, reason: &str, kv: &KeyValue) {
        let group = self.groups.entry((outcome, reason.to_owned())).or_default();
        group.count += 1;
        if group.keys.len() < self.keys_max {
            group.keys.push(printable(&kv.key));
        }
    }
}

fn why(reason: Reason<'_>) -> String {
    match reason {
        Reason::ExcludedNamespace(namespace) => format!("excluded namespace {namespace}"),
        Reason::ClusterLocal { reason, .. } => format!("cluster-local: {reason}"),
        _ => reason.label().replace('_', " "),
    }
}

impl Outcome {
    /// What people read.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Create => "create",
            Outcome::Overwrite => "overwrite",
            Outcome::Unchanged => "unchanged",
            Outcome::Delete => "delete",
            Outcome::KeepLocal => "keep (local)",
            Outcome::AskHistory => "delete or keep (by the standby's history)",
            Outcome::LeaveOut => "leave out",
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::kv::KeyRange;
    use crate::scope::ScopeConfig;

    fn kv(name: &str, value: &str, create_revision: i64) -> KeyValue {
        let key = Bytes::from(format!("/registry/{name}"));
        KeyValue { key, value: Bytes::from(value.to_owned()), create_revision, mod_revision: create_revision, lease: 0 }
    }

    #[test]
    fn every_key_has_one_outcome() {
        let scope = Scope::new(&ScopeConfig::default()).unwrap();
        let chunk = Chunk {
            range: KeyRange::prefix(b"/registry/"),
            lead: vec![
                kv("configmaps/apps/a", "1", 1),
                kv("configmaps/apps/b", "1", 1),
                kv("configmaps/apps/c", "1", 1),
                kv("configmaps/kube-system/d", "1", 1),
                kv("pods/apps/e", "1", 1),
            ],
            follow: vec![
                kv("configmaps/apps/b", "2", 5),
                kv("configmaps/apps/c", "1", 5),
                kv("configmaps/apps/gone", "1", 5),
                kv("configmaps/apps/local", "1", 5),
                kv("configmaps/kube-system/own", "1", 5),
            ],
            lead_revision: 1,
            follow_revision: 9,
        };
        let mut plan = Plan::new(10);
        let moments = Moments { base: 0, seen: 7, last_write: 7, began: 9 };
        plan.chunk(chunk, &scope, Some(moments), |key| key.ends_with(b"/local"));
        let found: Vec<_> = plan.groups().map(|(outcome, _, group)| (outcome, group.count)).collect();
        let expected = [
            (Outcome::Create, 1),
            (Outcome::Overwrite, 1),
            (Outcome::Unchanged, 1),
            (Outcome::Delete, 1),
            (Outcome::KeepLocal, 1),
            (Outcome::LeaveOut, 1),
            (Outcome::LeaveOut, 1),
        ];
        assert_eq!(found, expected);
    }
}
