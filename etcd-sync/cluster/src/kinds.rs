//! Reads every object that an API server serves: what cannot be decoded or decrypted shows.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{APIResource, ListMeta};
use kube::core::Request;
use serde::{Deserialize, Serialize};

use crate::{Cluster, Error, next, page};

/// How often a list is started again that took longer than the API server keeps its beginning.
const STARTS: usize = 3;

/// What came of reading all objects of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KindRead {
    /// Such as `v1` or `apps/v1`.
    pub api_version: String,
    /// The plural, as in paths; empty when the error is about the whole version of a group.
    pub resource: String,
    /// Objects read, in all namespaces.
    pub count: u64,
    /// The revision of etcd they were all read at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// Why not all could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A kind that can be listed, in the version the API server prefers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Empty for the core.
    pub group: String,
    /// Such as `v1` or `apps/v1`.
    pub api_version: String,
    /// The plural, as in paths.
    pub resource: String,
}

/// What an API server serves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// In the order of discovery, the core first.
    pub kinds: Vec<Kind>,
    /// Versions of groups (`metrics.k8s.io/v1beta1`) of which the served resources are not known, and why: mostly those whose
    /// own API server is down.
    pub silent: Vec<(String, String)>,
}

/// Lists every kind that `wanted` wants, given its group (empty for the core) and plural, each in the version the API server
/// prefers. Only metadata is sent back, and yet the API server has to decrypt and decode every object for that; a page at a
/// time is kept. A kind that fails is an entry with its error, not the end.
///
/// # Errors
/// The API server does not report what it serves.
pub async fn read_every_kind(
    cluster: &Cluster,
    wanted: &(dyn Fn(&str, &str) -> bool + Sync),
    progress: &(dyn Fn(&KindRead) + Sync),
) -> Result<Vec<KindRead>, Error> {
    let served = served(cluster).await?;
    let mut reads = Vec::new();
    for (api_version, error) in served.silent {
        let (resource, count, revision) = (String::new(), 0, None);
        reads.push(KindRead { api_version, resource, count, revision, error: Some(error) });
    }
    for kind in served.kinds.iter().filter(|kind| wanted(&kind.group, &kind.resource)) {
        let read = read_kind(cluster, kind).await;
        progress(&read);
        reads.push(read);
    }
    Ok(reads)
}

/// Reads what can be listed. A group that does not answer is not the end.
///
/// # Errors
/// The API server does not report which groups there are.
pub async fn served(cluster: &Cluster) -> Result<Served, Error> {
    let mut all = Served::default();
    for (group, versions) in groups(cluster).await? {
        let mut seen = BTreeSet::new();
        for api_version in versions {
            match resources(cluster, &group, &api_version).await {
                Ok(resources) => {
                    let new = resources.into_iter().filter(|resource| seen.insert(resource.clone()));
                    let (group, api_version) = (&group, &api_version);
                    all.kinds.extend(new.map(|resource| Kind {
                        group: group.clone(),
                        api_version: api_version.clone(),
                        resource,
                    }));
                }
                Err(error) => all.silent.push((api_version, error.to_string())),
            }
        }
    }
    Ok(all)
}

/// Lists all objects of one kind, as [`read_every_kind`] does.
pub async fn read_kind(cluster: &Cluster, kind: &Kind) -> KindRead {
    let Kind { group, api_version, resource } = kind;
    let root = if group.is_empty() { "/api" } else { "/apis" };
    let request = Request::new(format!("{root}/{api_version}/{resource}"));
    let what = format!("list {resource} ({api_version})");
    let (mut count, mut token, mut starts, mut revision) = (0, None, 1, None);
    let error = loop {
        let page = async {
            let request = request.list_metadata(&page(token.take())).map_err(kube::Error::BuildRequest)?;
            cluster.client().request::<Page>(request).await
        };
        match cluster.ask(&what, page).await {
            Ok(page) => {
                count += page.items.map_or(0, |items| items.len() as u64);
                revision = page.metadata.resource_version.and_then(|version| version.parse().ok());
                token = next(page.metadata.continue_);
                if token.is_none() {
                    break None;
                }
            }
            // The first page's revision is compacted.
            Err(error) if error.status() == Some(410) && starts < STARTS => {
                starts += 1;
                count = 0;
            }
            Err(error) => break Some(error.to_string()),
        }
    };
    KindRead { api_version: api_version.clone(), resource: resource.clone(), count, revision, error }
}

/// Every group with its versions as `apiVersion`s, the preferred one first; the core first.
async fn groups(cluster: &Cluster) -> Result<Vec<(String, Vec<String>)>, Error> {
    let client = cluster.client();
    let what = "read what the API server serves";
    let core = cluster.ask(what, client.list_core_api_versions()).await?.versions;
    let mut all = vec![(String::new(), core)];
    for group in cluster.ask(what, client.list_api_groups()).await?.groups {
        let preferred = group.preferred_version.map(|version| version.group_version);
        let mut versions: Vec<String> = preferred.iter().cloned().collect();
        let others = group.versions.into_iter().map(|version| version.group_version);
        versions.extend(others.filter(|version| Some(version) != preferred.as_ref()));
        all.push((group.name, versions));
    }
    Ok(all)
}

/// The plurals of what can be listed, in this version of a group.
async fn resources(cluster: &Cluster, group: &str, api_version: &str) -> Result<Vec<String>, Error> {
    let (client, what) = (cluster.client(), format!("read what {api_version} serves"));
    let found = match group {
        "" => cluster.ask(&what, client.list_core_api_resources(api_version)).await?,
        _ => cluster.ask(&what, client.list_api_group_resources(api_version)).await?,
    };
    // Component statuses are a view of other things, not objects.
    let listable = |resource: &APIResource| {
        let lists = resource.verbs.iter().any(|verb| verb == "list");
        lists && !resource.name.contains('/') && !(group.is_empty() && resource.name == "componentstatuses")
    };
    Ok(found.resources.into_iter().filter(listable).map(|resource| resource.name).collect())
}

/// A page of any list: the objects are counted and not kept.
#[derive(Debug, Deserialize)]
struct Page {
    #[serde(default)]
    metadata: ListMeta,
    /// Null when there are none.
    items: Option<Vec<serde::de::IgnoredAny>>,
}
