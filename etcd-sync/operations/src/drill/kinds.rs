//! Every synchronized kind, as its API server serves it and as its etcd holds it.

use crate::preflight::Level;
use crate::text::count;
use etcd_sync_core::scope::content::BUILT_IN_GROUPS;

use super::Trial;

/// One kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KindCount {
    /// As kubectl takes it: `configmaps`, `widgets.example.com`.
    pub resource: String,
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
        let KindCount { resource, api_version, found } = kind;
        let (level, what) = match found {
            KindFinding::Read { served, held } if served == held => {
                (Level::Pass, format!("{} served, as many as etcd holds ({api_version})", count(*served, "object")))
            }
            KindFinding::Read { served, held } => (
                Level::Fail,
                format!(
                    "the API server serves {} ({api_version}), and its etcd holds {held}: what it does not serve it cannot read; its \
                     log says which and why",
                    count(*served, "object")
                ),
            ),
            KindFinding::Failed(why) => (Level::Fail, format!("it cannot be read ({api_version}): {why}")),
            KindFinding::NotServed => (
                Level::Fail,
                "it is synchronized, and the standby's API server does not serve it. A custom resource: look for its CRD \
                 (kubectl get crd) and why it is missing or not established. A kind that no release serves any more: take what is \
                 left of it out of the scope (--cluster-local-add)"
                    .into(),
            ),
        };
        Trial { name: resource.clone(), level, what }
    }
}

/// A resource as reports name it: built-in ones without their group. The inverse of what keys tell.
pub fn resource_name(group: &str, plural: &str) -> String {
    if is_bare(group) { plural.to_owned() } else { format!("{plural}.{group}") }
}

/// Whether a name of a report is a resource's: keys of other kinds are counted below their prefix or together.
pub fn is_resource(name: &str) -> bool {
    !name.contains(['/', '('])
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
        _ if is_bare(group) => plural.into(),
        _ => format!("{group}/{plural}"),
    }
}

/// Whether keys omit the group.
fn is_bare(group: &str) -> bool {
    !group.contains('.') || BUILT_IN_GROUPS.contains(&group)
}
