//! Everything an API server serves: its kinds by discovery, and who is who by UID.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use serde_json::Value;

use super::api::Api;

/// Both lists of groups with all their resources in one answer each.
const DISCOVERY: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
/// Names, UIDs and labels, whatever the kind.
const METADATA: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
/// What the aggregator and its controllers make and rewrite for themselves.
const AUTOMANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";

/// A kind that can be listed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    /// The API group; empty for the core.
    pub group: String,
    /// The version the API server prefers.
    pub version: String,
    /// The plural, as in paths.
    pub plural: String,
}

/// The UIDs of objects by their etcd keys.
pub type Identity = BTreeMap<String, String>;

impl Kind {
    /// Lists all objects, in all namespaces.
    pub fn path(&self) -> String {
        let Kind { group, version, plural } = self;
        if group.is_empty() { format!("/api/{version}/{plural}") } else { format!("/apis/{group}/{version}/{plural}") }
    }
}

impl Api {
    /// Every kind that can be listed and is kept in etcd, each in one version.
    pub async fn kinds(&self) -> Result<Vec<Kind>> {
        let mut kinds = BTreeMap::new();
        for root in ["/api", "/apis"] {
            let found = self.get_as(root, DISCOVERY).await?;
            for group in list(&found, "items") {
                let name = group["metadata"]["name"].as_str().unwrap_or_default();
                for version in list(group, "versions") {
                    for resource in list(version, "resources") {
                        let listable = list(resource, "verbs").iter().any(|verb| verb == "list");
                        let plural = resource["resource"].as_str().context("a resource without a name")?;
                        // A view of other things, not an object.
                        if !listable || plural == "componentstatuses" {
                            continue;
                        }
                        let version = version["version"].as_str().context("a version without a name")?;
                        // The first version is the preferred one.
                        kinds.entry((name.to_owned(), plural.to_owned())).or_insert(version.to_owned());
                    }
                }
            }
        }
        let kind = |((group, plural), version)| Kind { group, version, plural };
        Ok(kinds.into_iter().map(kind).collect())
    }

    /// Every object there is by its UID, apart from those that the aggregator makes for itself.
    pub async fn identities(&self) -> Result<Identity> {
        let uid = |object: Value| Some(object["metadata"]["uid"].as_str()?.to_owned());
        let all = self.list_all(METADATA).await?;
        all.into_iter().map(|(key, object)| Ok((key, uid(object).context("an object without a UID")?))).collect()
    }

    /// Every object there is, whole, by its etcd key.
    pub async fn objects(&self) -> Result<BTreeMap<String, Value>> {
        self.list_all("application/json").await
    }

    async fn list_all(&self, accept: &str) -> Result<BTreeMap<String, Value>> {
        let kinds = self.kinds().await?;
        let mut all = BTreeMap::new();
        for kinds in kinds.chunks(16) {
            let lists =
                kinds.iter().map(|kind| async move { anyhow::Ok((kind, self.get_as(&kind.path(), accept).await?)) });
            for (kind, mut found) in try_join_all(lists).await? {
                for object in found["items"].as_array_mut().map(std::mem::take).unwrap_or_default() {
                    let meta = &object["metadata"];
                    if meta["labels"].get(AUTOMANAGED).is_some() {
                        continue;
                    }
                    let name = meta["name"].as_str().context("an object without a name")?;
                    let key = etcd_key(&kind.group, &kind.plural, meta["namespace"].as_str(), name);
                    all.insert(key, object);
                }
            }
        }
        Ok(all)
    }
}

/// The key of an object under `/registry`. The order of the irregular names is that of pkg/registry in Kubernetes.
pub fn etcd_key(group: &str, plural: &str, namespace: Option<&str>, name: &str) -> String {
    let own_group = group.contains('.') && !group.ends_with(".k8s.io");
    let place = match (group, plural) {
        ("apiextensions.k8s.io" | "apiregistration.k8s.io", _) => format!("{group}/{plural}"),
        _ if own_group => format!("{group}/{plural}"),
        ("", "services") => "services/specs".to_owned(),
        ("", "endpoints") => "services/endpoints".to_owned(),
        ("", "nodes") => "minions".to_owned(),
        ("", "replicationcontrollers") => "controllers".to_owned(),
        (_, "ingresses") => "ingress".to_owned(),
        _ => plural.to_owned(),
    };
    match namespace {
        Some(namespace) => format!("/registry/{place}/{namespace}/{name}"),
        None => format!("/registry/{place}/{name}"),
    }
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().map_or(&[], Vec::as_slice)
}
