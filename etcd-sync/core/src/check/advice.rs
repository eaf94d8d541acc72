//! What to do about a difference.

use serde::Serialize;

use super::Difference;
use crate::drift::Drift;
use crate::object_key::ObjectKey;

/// What to do about a difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// In words.
    pub hint: &'static str,
    /// A command that does it, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

/// The gesture operators know: whatever runs the synchronizer's pods starts new ones, and the new leader compares all.
const RESTART: &str = "kubectl delete pod --namespace cpaas-system --selector app=etcd-sync";

/// Under the heading of the missed keys.
pub(super) const MISSED: &str = "The synchronizer puts them back by itself within seconds. If they stay, look at its log, and restart it for a full comparison:";

/// Under the heading of the surplus keys.
pub(super) const SURPLUS: &str = "They exist on this side only and do no harm to a failover. Keep what is meant to be here; the rest goes, with a backup:";

/// Under the heading of the mismatched keys.
pub(super) const MISMATCHED: &str =
    "Somebody changed them on the standby. The next change on the primary overwrites them.";

impl Advice {
    pub(super) fn new(difference: Difference, key: &str, object: Option<ObjectKey<'_>>) -> Advice {
        match difference {
            Difference::Missed => Advice {
                hint: "comes by itself within seconds; if it stays, restart the synchronizer",
                command: Some(RESTART.into()),
            },
            Difference::Surplus(_) => Advice {
                hint: "keep it if it is meant to be here; else remove it, with a backup",
                command: Some(format!("etcd-sync prune --key {}", quoted(key))),
            },
            Difference::Mismatched(Drift::Status) => {
                Advice { hint: "nothing: the standby's controllers see other nodes and pods", command: None }
            }
            Difference::Mismatched(_) => Advice {
                hint: "touch it on the primary: its next change there overwrites the standby's",
                command: object.map(touch),
            },
        }
    }

    /// The command under a heading.
    pub(super) fn command_for(heading: &'static str) -> Option<&'static str> {
        match heading {
            MISSED => Some(RESTART),
            SURPLUS => Some("etcd-sync prune"),
            _ => None,
        }
    }
}

/// A change that means nothing, but is one.
fn touch(object: ObjectKey<'_>) -> String {
    let namespace = object.namespace.map(|namespace| format!(" --namespace {}", quoted(namespace))).unwrap_or_default();
    let (resource, name) = (object.resource_name(), quoted(object.name));
    format!(
        "kubectl --context PRIMARY annotate{namespace} {resource} {name} --overwrite etcd-sync/touched=\"$(date +%s)\""
    )
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@%+,".contains(&byte);
    match !word.is_empty() && word.bytes().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}
