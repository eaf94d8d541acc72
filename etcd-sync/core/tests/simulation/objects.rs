//! Objects with owners, and the standby's garbage collector: it deletes whatever names only owners that it does not find.

use std::collections::HashSet;

use bytes::Bytes;
use etcd_sync_core::etcd::kv::{KeyRange, KeyValue, Revision};
use etcd_sync_core::object::{self, Header};
use etcd_sync_core::scope::content::{self, Kinds};
use etcd_sync_core::scope::{Decision, Scope};

use crate::model::Model;

/// Owners, dependents that sort before and behind them, and dependents of those.
pub const FAMILIES: u64 = 6;
pub const CHILDREN: u64 = 3;

pub fn owner_key(family: u64) -> Bytes {
    format!("/registry/acme.io/widgets/apps/{family}").into()
}

/// What nearly all keys lie in, and what owns it: both are on the primary from the beginning, and stay.
pub const NAMESPACE: &str = "/registry/namespaces/apps";
pub const TENANT: &str = "/registry/zoo.io/tenants/t";

/// The namespace and its owner, as keys and values.
pub fn owned_namespace() -> [(Bytes, Bytes); 2] {
    let tenant = serde_json::json!({ "apiVersion": "zoo.io/v1", "kind": "Tenant", "metadata": { "name": "t", "uid": "tenant" } });
    let owner = serde_json::json!([{ "apiVersion": "zoo.io/v1", "kind": "Tenant", "name": "t", "uid": "tenant" }]);
    let metadata = serde_json::json!({ "name": "apps", "uid": "apps", "ownerReferences": owner });
    let namespace = serde_json::json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": metadata });
    [(TENANT, tenant), (NAMESPACE, namespace)].map(|(key, value)| (key.into(), value.to_string().into()))
}

/// Some sort before their owner, some behind it.
pub fn child_key(family: u64, child: u64) -> Bytes {
    match child % 2 {
        0 => format!("/registry/configmaps/apps/of-{family}-{child}"),
        _ => format!("/registry/zoo.io/parts/apps/of-{family}-{child}"),
    }
    .into()
}

pub fn grandchild_key(family: u64, child: u64) -> Bytes {
    format!("/registry/acme.io/bolts/apps/of-{family}-{child}").into()
}

/// A value in JSON; `serial` makes it unlike any other. `owner` is (kind, name, uid).
pub fn value(kind: &str, name: &str, uid: &str, owner: Option<(&str, &str, &str)>, serial: u64) -> Bytes {
    let owners = owner.map(|(kind, name, uid)| {
        serde_json::json!([{ "apiVersion": api_version(kind), "kind": kind, "name": name, "uid": uid }])
    });
    let metadata = serde_json::json!({ "name": name, "namespace": "apps", "uid": uid, "ownerReferences": owners });
    serde_json::json!({ "apiVersion": api_version(kind), "kind": kind, "metadata": metadata, "serial": serial })
        .to_string()
        .into()
}

pub fn child_kind(child: u64) -> &'static str {
    if child.is_multiple_of(2) { "ConfigMap" } else { "Part" }
}

/// As in the keys above.
fn api_version(kind: &str) -> &'static str {
    match kind {
        "Part" => "zoo.io/v1",
        "Widget" | "Bolt" => "acme.io/v1",
        _ => "v1",
    }
}

/// Most values of the simulation are no objects.
fn header(value: &[u8]) -> Option<Header> {
    if value.starts_with(b"{") { object::header(value).ok() } else { None }
}

/// UID and owners' UIDs of a value; `None` for values that are no objects.
pub fn ties(value: &[u8]) -> Option<(String, Vec<String>)> {
    let header = header(value)?;
    Some((header.uid, header.owners.into_iter().map(|owner| owner.uid).collect()))
}

/// Whether a value's content takes it out of scope.
pub fn is_filtered(scope: &Scope, kv: &KeyValue) -> bool {
    let Some(header) = header(&kv.value) else { return false };
    content::decide(scope, &Kinds::default(), &kv.key, &header) != Decision::InScope
}

/// All UIDs in a cluster.
pub fn uids(model: &Model) -> HashSet<String> {
    let all = KeyRange::prefix(b"/registry/");
    model.state(&all, Revision::MAX).values().filter_map(|kv| Some(ties(&kv.value)?.0)).collect()
}

/// What a garbage collector would delete.
pub fn orphans(model: &Model) -> Vec<Bytes> {
    let present = uids(model);
    let all = KeyRange::prefix(b"/registry/");
    let is_orphan = |kv: &KeyValue| {
        ties(&kv.value)
            .is_some_and(|(_, owners)| !owners.is_empty() && !owners.iter().any(|owner| present.contains(owner)))
    };
    model.state(&all, Revision::MAX).into_values().filter(is_orphan).map(|kv| kv.key).collect()
}
