//! A difference as programs and the dashboard read it.

use serde::Serialize;

use super::{Advice, Difference, Finding, Situation, SurplusReason};
use crate::link::too_large;
use crate::object::object_key::ObjectKey;
use crate::scope::Scope;

/// Everything that is known of a difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Described<'a> {
    /// `missed`, `surplus`, `mismatched` or `status`.
    pub difference: &'static str,
    /// The key, as [`printable`](crate::etcd::kv::printable) shows it.
    pub key: &'a str,
    /// `configmaps`, `widgets.example.com`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// `ConfigMap`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'a str>,
    /// Of a namespaced object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<&'a str>,
    /// Of the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<&'a str>,
    /// Who manages the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<&'a DescribedOwner>,
    /// Why it differs, as a word: `local`, `leftover`, `content`, `other-object`, `unknown`, `status`, `too-large`; none for other missed keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<&'static str>,
    /// Why it differs, in words.
    pub reason: &'static str,
    /// What to do about it.
    #[serde(flatten)]
    pub advice: Advice,
}

/// An owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DescribedOwner {
    /// `ReplicaSet`.
    pub kind: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// Its UID.
    pub uid: Box<str>,
}

impl Difference {
    /// The name of its kind.
    pub fn name(self) -> &'static str {
        use crate::compare::drift::Drift::Status;
        match self {
            Difference::Missed => "missed",
            Difference::Surplus(_) => "surplus",
            Difference::Mismatched(Status) => "status",
            Difference::Mismatched(_) => "mismatched",
        }
    }

    /// Why it differs, in a word; none for missed keys.
    pub fn why(self) -> Option<&'static str> {
        match self {
            Difference::Missed => None,
            Difference::Surplus(SurplusReason::Local) => Some("local"),
            Difference::Surplus(SurplusReason::Leftover) => Some("leftover"),
            Difference::Mismatched(drift) => Some(drift.name()),
        }
    }

    /// Why it differs, in words.
    pub fn reason(self) -> &'static str {
        match self {
            Difference::Missed => "not on the standby",
            Difference::Surplus(SurplusReason::Local) => "made on the standby",
            Difference::Surplus(SurplusReason::Leftover) => "mirrored once, or of unknown origin",
            Difference::Mismatched(drift) => drift.text(),
        }
    }
}

impl Finding {
    /// Why it differs, in words.
    pub fn reason(&self) -> &'static str {
        match self.undecryptable {
            _ if self.too_large.is_some() => too_large::REASON,
            true => "its value cannot be decrypted here: its content may put it out of scope",
            false => self.difference.reason(),
        }
    }

    /// What the scope's layout of keys, the object and the difference say.
    pub fn describe<'a>(&'a self, scope: &Scope, situation: Situation) -> Described<'a> {
        let object = scope.split(self.key.as_bytes()).and_then(|(_, relative)| ObjectKey::parse(relative));
        Described {
            difference: self.difference.name(),
            key: &self.key,
            resource: object.map(|object| object.resource_name()),
            kind: self.object.as_ref().map(|object| &*object.kind),
            namespace: object.and_then(|object| object.namespace),
            name: object.map(|object| object.name),
            owner: self.object.as_ref().and_then(|object| object.owner.as_ref()),
            why: self.too_large.map(|_| "too-large").or(self.difference.why()),
            reason: self.reason(),
            advice: Advice::new(self, object, situation),
        }
    }
}
