//! What to do about a difference.

use std::borrow::Cow;

use serde::Serialize;

use super::{Difference, Finding, SurplusReason};
use crate::compare::drift::Drift;
use crate::link::too_large::remedy;
use crate::object::object_key::ObjectKey;

/// Who could repair a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Situation {
    /// A synchronizer runs.
    Running,
    /// None runs.
    Stopped,
    /// The standby was promoted: no synchronizer can write any more.
    Promoted,
}

/// What to do about a difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// In words.
    pub hint: Cow<'static, str>,
    /// A command that does it, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

/// The gesture operators know: whatever runs the synchronizer's pods starts new ones, and the new leader compares all.
const RESTART: &str = "kubectl delete pod --all-namespaces --selector app=etcd-sync";

const LOOK: &str = "kubectl get pods --all-namespaces --selector app=etcd-sync";

const PRUNE: &str = "etcd-sync prune";

impl Advice {
    pub(super) fn new(finding: &Finding, object: Option<ObjectKey<'_>>, situation: Situation) -> Advice {
        let key = &finding.key;
        if let (Some(bytes), Situation::Running | Situation::Stopped) = (finding.too_large, situation) {
            let hint = format!("its value has {bytes} bytes: {}", remedy(bytes));
            return Advice { hint: hint.into(), command: None };
        }
        let (hint, command) = match (finding.difference, situation) {
            (Difference::Mismatched(Drift::Status), _) => {
                ("nothing: the standby's controllers see other nodes and pods", None)
            }
            (Difference::Missed, Situation::Running) => {
                ("comes by itself within seconds; if it stays, restart the synchronizer", Some(RESTART.into()))
            }
            (Difference::Missed, Situation::Stopped) => {
                ("no synchronizer is running: start it, and it puts this back", Some(LOOK.into()))
            }
            (_, Situation::Promoted) => {
                ("it was so when the standby was promoted: compare it with the old primary's by hand", None)
            }
            (Difference::Surplus(SurplusReason::Local), _) => {
                ("keep it if it is meant to be here; else remove it, with a backup", Some(prune(key)))
            }
            (Difference::Surplus(SurplusReason::Leftover), _) => (
                "the primary no longer has it, or never had it; after a failover it would be active: remove it, with a backup",
                Some(prune(key)),
            ),
            (Difference::Mismatched(_), _) => {
                ("touch it on the primary: its next change there overwrites the standby's", object.map(touch))
            }
        };
        Advice { hint: hint.into(), command }
    }

    /// What to do about all keys of a kind: words and a command, under their heading.
    pub(super) fn under_heading(heading: &str, situation: Situation) -> Option<(&'static str, Option<&'static str>)> {
        Some(match (heading, situation) {
            (_, Situation::Promoted) => {
                ("It was so when this cluster was promoted. Compare with the old primary by hand.", None)
            }
            ("missed keys", Situation::Running) => (
                "The synchronizer puts them back within seconds. If they stay, read its log and restart it:",
                Some(RESTART),
            ),
            ("missed keys", Situation::Stopped) => {
                ("No synchronizer is running. Start it, and it puts them back:", Some(LOOK))
            }
            ("surplus keys", _) => {
                ("Only this side has them. Keep what is meant to be here; remove the rest, with a backup:", Some(PRUNE))
            }
            ("mismatched keys", _) => {
                ("Changed on the standby, or not applied. The primary's next change of each overwrites it.", None)
            }
            _ => return None,
        })
    }
}

fn prune(key: &str) -> String {
    format!("{PRUNE} --key {}", quoted(key))
}

/// A change that means nothing, but is one.
fn touch(object: ObjectKey<'_>) -> String {
    let namespace = object.namespace.map(|namespace| format!(" --namespace {}", quoted(namespace))).unwrap_or_default();
    let (resource, name) = (quoted(&object.resource_name()), quoted(object.name));
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
