//! Every synchronized kind, as its API server serves it and as its etcd holds it.

use crate::content::BUILT_IN_GROUPS;
use crate::preflight::Level;

use super::Trial;

/// One kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KindCount {
    /// Where etcd keeps it: `configmaps`, `example.com/widgets`.
    pub directory: String,
    /// `v1`, `example.com/v1`; empty when no API server serves it.
    pub api_version: String,
    /// What was found.
    pub found: KindFinding,
}

/// What was found of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KindFinding {
    /// It was read to its end.
    Read {
        /// Objects that the API server served.
        served: u64,
        /// Keys that etcd held at the same revision.
        held: u64,
    },
    /// It could not be read, and why.
    Failed(String),
    /// It is synchronized, and nobody serves it.
    NotServed,
}

impl From<&KindCount> for Trial {
    fn from(kind: &KindCount) -> Trial {
        let KindCount { directory, api_version, found } = kind;
        let (level, what) = match found {
            KindFinding::Read { served, held } if served == held => (Level::Pass, format!("{served} objects ({api_version})")),
            KindFinding::Read { served, held } => (
                Level::Fail,
                format!("the API server serves {served} objects ({api_version}), and its etcd holds {held}: see its log"),
            ),
            KindFinding::Failed(why) => (Level::Fail, format!("the API server cannot serve it ({api_version}): {why}")),
            KindFinding::NotServed => (
                Level::Fail,
                "it is synchronized, and the standby's API server does not serve it: its definition is missing or broken".into(),
            ),
        };
        Trial { name: directory.clone(), level, what }
    }
}

/// Where the API server keeps a resource, below its prefix, by group (empty for the core) and plural.
/// Source: the irregular ones are in kubernetes/pkg/kubeapiserver/default_storage_factory_builder.go, SpecialDefaultResourcePrefixes.
pub fn directory_of(group: &str, plural: &str) -> String {
    match (group, plural) {
        ("", "replicationcontrollers") => "controllers".into(),
        ("", "endpoints") => "services/endpoints".into(),
        ("", "nodes") => "minions".into(),
        ("", "services") => "services/specs".into(),
        ("networking.k8s.io" | "extensions", "ingresses") => "ingress".into(),
        _ if !group.contains('.') || BUILT_IN_GROUPS.contains(&group) => plural.into(),
        _ => format!("{group}/{plural}"),
    }
}
