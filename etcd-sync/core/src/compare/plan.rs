//! What a first sync or a resync would do with every key, counted, with the first keys of each outcome, and the conflicts
//! that it would meet.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;

use crate::compare::conflicts::{Conflicts, Fate, Limits, Report, ServedVersions, View};
use crate::etcd::kv::{KeyValue, printable};
use crate::link::provenance::{Moments, Origin};
use crate::object::object_key::ObjectKey;
use crate::object::{self, Header};
use crate::scope::content::{self, CRDS, Kinds};
use crate::scope::{Decision, Reason, Scope};
use crate::session::walk::{Chunk, Joined, join};

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
    /// Not in scope on the primary: not copied.
    Filtered,
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
    kinds: Kinds,
    conflicts: Conflicts,
}

/// A decrypted value and its header.
struct Decoded {
    plain: Bytes,
    header: Header,
}

impl Plan {
    /// Keeps the first `keys_max` keys of each group.
    pub fn new(keys_max: usize) -> Self {
        let limits = Limits::default();
        let limits = Limits { examples: limits.examples.min(keys_max), ..limits };
        Plan { keys_max, groups: BTreeMap::new(), kinds: Kinds::default(), conflicts: Conflicts::new(limits) }
    }

    /// Learns the primary's CRDs from a chunk, before everything else: some custom resources come before them.
    pub fn learn(&mut self, chunk: &Chunk, scope: &Scope, decrypt: impl Fn(&KeyValue) -> Option<Bytes>) {
        for kv in &chunk.lead {
            let is_crd = scope.split(&kv.key).is_some_and(|(_, relative)| relative.starts_with(CRDS.as_bytes()));
            if let Some(plain) = decrypt(kv).filter(|_| is_crd) {
                self.kinds.learn(&plain);
            }
        }
    }

    /// Takes a chunk with values whose leading side is the primary. `moments` is `None` for a link that has never run: then
    /// everything that only the standby has is local. `decrypt` returns `None` for a value that cannot be decrypted.
    pub fn chunk(
        &mut self,
        chunk: Chunk,
        scope: &Scope,
        moments: Option<Moments>,
        is_local: impl Fn(&[u8]) -> bool,
        decrypt: impl Fn(&KeyValue) -> Option<Bytes>,
    ) {
        for joined in join(chunk) {
            let (primary, standby) = match joined {
                Joined::Lead(primary) => (Some(primary), None),
                Joined::Both(primary, standby) => (Some(primary), Some(standby)),
                Joined::Follow(standby) => (None, Some(standby)),
            };
            let in_scope = |kv: &&KeyValue| scope.decide_kv(kv) == Decision::InScope;
            let ours = primary.as_ref().filter(in_scope).and_then(|kv| self.read(scope, kv, &decrypt));
            let equal = matches!((&primary, &standby), (Some(a), Some(b)) if a.value == b.value && ours.is_some());
            let own = standby.as_ref().filter(|_| !equal).and_then(|kv| self.read(scope, kv, &decrypt));
            let fate = match (&primary, &standby) {
                (Some(kv), other) => self.on_primary(scope, kv, ours.as_ref(), other.as_ref().filter(in_scope)),
                (None, Some(kv)) => self.only_on_standby(scope, kv, moments, &is_local),
                (None, None) => continue,
            };
            let Some(KeyValue { key, .. }) = primary.as_ref().or(standby.as_ref()) else { continue };
            let theirs = if equal { ours.as_ref() } else { own.as_ref() };
            self.conflicts.see(scope, key, fate, ours.as_ref().map(Decoded::view), theirs.map(Decoded::view));
        }
    }

    /// The conflicts in what was taken; nothing is known any more afterwards. `served`: what the standby's API server reports
    /// it serves, if it was queried.
    pub fn take_conflicts(&mut self, scope: &Scope, served: Option<&ServedVersions>) -> Report {
        std::mem::replace(&mut self.conflicts, Conflicts::new(Limits::default())).finish(scope, served)
    }

    /// All groups, by outcome and reason.
    pub fn groups(&self) -> impl Iterator<Item = (Outcome, &str, &Group)> {
        self.groups.iter().map(|((outcome, reason), group)| (*outcome, reason.as_str(), group))
    }

    /// How many keys of one outcome.
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.groups().filter(|(found, ..)| *found == outcome).map(|(.., group)| group.count).sum()
    }

    fn on_primary(
        &mut self,
        scope: &Scope,
        kv: &KeyValue,
        decoded: Option<&Decoded>,
        standby: Option<&KeyValue>,
    ) -> Fate {
        let decision = match (scope.decide_kv(kv), decoded) {
            (Decision::InScope, Some(decoded)) => content::decide(scope, &self.kinds, &kv.key, &decoded.header),
            (decision, _) => decision,
        };
        if let Decision::Out(reason) = decision {
            self.add(Outcome::Filtered, &why(reason), kv);
            return Fate::Stays;
        }
        let outcome = match standby {
            None => Outcome::Create,
            Some(standby) if standby.value == kv.value => Outcome::Unchanged,
            Some(_) => Outcome::Overwrite,
        };
        self.add(outcome, "", kv);
        Fate::Written
    }

    fn only_on_standby(
        &mut self,
        scope: &Scope,
        kv: &KeyValue,
        moments: Option<Moments>,
        is_local: impl Fn(&[u8]) -> bool,
    ) -> Fate {
        if scope.decide_kv(kv) != Decision::InScope {
            return Fate::Stays;
        }
        let origin = moments
            .map_or(Origin::Local, |moments| moments.origin(is_local(&kv.key), kv.create_revision, kv.mod_revision));
        let (outcome, fate) = match origin {
            Origin::Local => (Outcome::KeepLocal, Fate::Stays),
            Origin::Mirrored => (Outcome::Delete, Fate::Goes),
            Origin::AskHistory => (Outcome::AskHistory, Fate::Stays),
        };
        self.add(outcome, "", kv);
        fate
    }

    /// Decrypts and decodes an object; anything else has nothing to conflict with.
    fn read(&mut self, scope: &Scope, kv: &KeyValue, decrypt: impl Fn(&KeyValue) -> Option<Bytes>) -> Option<Decoded> {
        let (_, relative) = scope.split(&kv.key)?;
        ObjectKey::parse(relative)?;
        let decoded = decrypt(kv).and_then(|plain| {
            let header = object::header(&plain).ok()?;
            Some(Decoded { plain, header })
        });
        if decoded.is_none() {
            self.conflicts.unreadable();
        }
        decoded
    }

    fn add(&mut self, outcome: Outcome, reason: &str, kv: &KeyValue) {
        let group = self.groups.entry((outcome, reason.to_owned())).or_default();
        group.count += 1;
        if group.keys.len() < self.keys_max {
            group.keys.push(printable(&kv.key));
        }
    }
}

impl Decoded {
    fn view(&self) -> View<'_> {
        View { plain: &self.plain, header: &self.header }
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
            Outcome::Filtered => "filtered",
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::etcd::kv::KeyRange;
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
        plan.chunk(chunk, &scope, Some(moments), |key| key.ends_with(b"/local"), |kv| Some(kv.value.clone()));
        let found: Vec<_> = plan.groups().map(|(outcome, _, group)| (outcome, group.count)).collect();
        let expected = [
            (Outcome::Create, 1),
            (Outcome::Overwrite, 1),
            (Outcome::Unchanged, 1),
            (Outcome::Delete, 1),
            (Outcome::KeepLocal, 1),
            (Outcome::Filtered, 1),
            (Outcome::Filtered, 1),
        ];
        assert_eq!(found, expected);
    }
}
