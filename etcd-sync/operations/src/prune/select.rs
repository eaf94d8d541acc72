//! Which surplus keys are meant.

use std::collections::HashSet;

use bytes::Bytes;

use super::Candidate;
use etcd_sync_core::compare::check::SurplusReason;
use etcd_sync_core::etcd::kv::printable;
use etcd_sync_core::object::object_key::namespace_of;
use etcd_sync_core::scope::Scope;

/// What an operator asks for. Within a list one entry must fit; every list that is not empty must.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Below one of these prefixes.
    pub below: Vec<Bytes>,
    /// In one of these namespaces, the namespace's own object included.
    pub namespaces: Vec<String>,
    /// One of these keys.
    pub keys: Vec<Bytes>,
    /// Made at least so many seconds ago.
    pub older_than_s: Option<u64>,
    /// Where it comes from.
    pub origin: Origin,
}

/// Where a surplus key comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// Anywhere.
    #[default]
    All,
    /// Made on the standby.
    Local,
    /// Mirrored once, or unknown.
    Leftover,
}

impl Selection {
    /// Whether a key fits, but for its age.
    pub(super) fn takes(&self, scope: &Scope, candidate: &Candidate) -> bool {
        let Candidate { key, reason, .. } = candidate;
        let origin = match self.origin {
            Origin::All => true,
            Origin::Local => *reason == SurplusReason::Local,
            Origin::Leftover => *reason == SurplusReason::Leftover,
        };
        let namespace = || scope.split(key).and_then(|(_, relative)| namespace_of(relative));
        let in_namespace = || {
            let namespace = namespace();
            self.namespaces.iter().any(|wanted| namespace == Some(wanted.as_bytes()))
        };
        origin
            && (self.below.is_empty() || self.below.iter().any(|prefix| key.starts_with(prefix)))
            && (self.namespaces.is_empty() || in_namespace())
            && (self.keys.is_empty() || self.keys.contains(key))
    }

    /// Whether a key is old enough; `None`: that cannot be told.
    pub(super) fn is_old(&self, candidate: &Candidate, now_s: i64) -> Option<bool> {
        match self.older_than_s {
            None => Some(true),
            Some(least) => candidate.age_s(now_s).map(|age| age >= least),
        }
    }

    /// The keys asked for by name that are not among these.
    pub(super) fn named_but_not_in(&self, candidates: &[Candidate]) -> Vec<String> {
        let found: HashSet<&Bytes> = match self.keys.is_empty() {
            true => HashSet::new(),
            false => candidates.iter().map(|candidate| &candidate.key).collect(),
        };
        self.keys.iter().filter(|key| !found.contains(key)).map(|key| printable(key)).collect()
    }
}
