//! Pods by label, and what they belong to.

use std::collections::HashMap;

use etcd_sync_operations::restart::{Owner, Pod, Selection, Wait, Wanted};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod as ApiPod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Api;

use crate::{Cluster, Error, next, page};

/// The annotation of a static pod's mirror.
const MIRROR: &str = "kubernetes.io/config.mirror";

impl Cluster {
    /// Every pod of a selection. A ReplicaSet stands for its Deployment, which may roll out while it is waited for.
    pub(crate) async fn pods(&self, selection: &Selection) -> Result<Vec<Pod>, Error> {
        let pods: Vec<Pod> = self.api_pods(selection).await?.into_iter().map(seen).collect();
        let of_set = |pod: &Pod| pod.owner.as_ref().is_some_and(|owner| owner.kind == "ReplicaSet" && in_apps(owner));
        if !pods.iter().any(of_set) {
            return Ok(pods);
        }
        let deployments = self.deployments(selection).await?;
        let lifted = pods.into_iter().map(|mut pod| {
            let deployment = pod.owner.as_ref().and_then(|owner| deployments.get(&owner.uid).cloned());
            pod.owner = deployment.or(pod.owner);
            pod
        });
        Ok(lifted.collect())
    }

    pub(crate) async fn api_pods(&self, selection: &Selection) -> Result<Vec<ApiPod>, Error> {
        let api: Api<ApiPod> = match &selection.namespace {
            Some(namespace) => Api::namespaced(self.client(), namespace),
            None => Api::all(self.client()),
        };
        let (mut all, mut token) = (Vec::new(), None);
        loop {
            let params = page(token).labels(&selection.selector);
            let mut list = self.ask(&format!("list pods with {}", selection.selector), api.list(&params)).await?;
            all.append(&mut list.items);
            token = next(list.metadata.continue_.take());
            if token.is_none() {
                return Ok(all);
            }
        }
    }

    /// The controllers of ReplicaSets by their UIDs. A Deployment gives its ReplicaSets the labels of its pods.
    async fn deployments(&self, selection: &Selection) -> Result<HashMap<String, Owner>, Error> {
        let api: Api<ReplicaSet> = match &selection.namespace {
            Some(namespace) => Api::namespaced(self.client(), namespace),
            None => Api::all(self.client()),
        };
        let (mut found, mut token) = (HashMap::new(), None);
        loop {
            let params = page(token).labels(&selection.selector);
            let what = format!("list replicasets with {}", selection.selector);
            let mut list = self.ask(&what, api.list_metadata(&params)).await?;
            let owners =
                list.items.into_iter().filter_map(|set| Some((set.metadata.uid.clone()?, controller(&set.metadata)?)));
            found.extend(owners);
            token = next(list.metadata.continue_.take());
            if token.is_none() {
                return Ok(found);
            }
        }
    }

    /// How many pods an owner wants now.
    pub(crate) async fn wanted(&self, wait: &Wait) -> Result<Wanted, Error> {
        let (owner, client, namespace) = (&wait.owner, self.client(), &wait.namespace);
        if !in_apps(owner) {
            return Ok(Wanted::Unknown);
        }
        let (name, what) = (&owner.name, format!("read {} {namespace}/{}", owner.kind, owner.name));
        let (meta, wanted) = match owner.kind.as_str() {
            "Deployment" => {
                let found = self.ask(&what, Api::<Deployment>::namespaced(client, namespace).get_opt(name)).await?;
                found.map(|found| (found.metadata, found.spec.and_then(|spec| spec.replicas)))
            }
            "StatefulSet" => {
                let found = self.ask(&what, Api::<StatefulSet>::namespaced(client, namespace).get_opt(name)).await?;
                found.map(|found| (found.metadata, found.spec.and_then(|spec| spec.replicas)))
            }
            "ReplicaSet" => {
                let found = self.ask(&what, Api::<ReplicaSet>::namespaced(client, namespace).get_opt(name)).await?;
                found.map(|found| (found.metadata, found.spec.and_then(|spec| spec.replicas)))
            }
            "DaemonSet" => {
                let found = self.ask(&what, Api::<DaemonSet>::namespaced(client, namespace).get_opt(name)).await?;
                found.map(|found| (found.metadata, found.status.map(|status| status.desired_number_scheduled)))
            }
            _ => return Ok(Wanted::Unknown),
        }
        .unwrap_or_default();
        if meta.uid.as_ref() != Some(&owner.uid) {
            return Ok(Wanted::Gone);
        }
        Ok(wanted.and_then(|pods| u64::try_from(pods).ok()).map_or(Wanted::Unknown, Wanted::Pods))
    }
}

/// Whether a pod serves: it is ready and stays.
pub(crate) fn is_ready(pod: &ApiPod) -> bool {
    let ready = |status: &PodStatus| condition(status, "Ready").is_some_and(|(is, _)| is == "True");
    pod.metadata.deletion_timestamp.is_none() && pod.status.as_ref().is_some_and(ready)
}

fn in_apps(owner: &Owner) -> bool {
    owner.api_version.starts_with("apps/")
}

fn seen(pod: ApiPod) -> Pod {
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref()).unwrap_or_default();
    let (deleting, ready) = (pod.metadata.deletion_timestamp.is_some(), is_ready(&pod));
    Pod {
        owner: controller(&pod.metadata),
        ready,
        deleting,
        ended: matches!(phase, "Succeeded" | "Failed"),
        mirror: pod.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(MIRROR)),
        trouble: if ready { None } else { status.and_then(trouble) },
        namespace: pod.metadata.namespace.unwrap_or_default(),
        name: pod.metadata.name.unwrap_or_default(),
        uid: pod.metadata.uid.unwrap_or_default(),
    }
}

fn controller(meta: &ObjectMeta) -> Option<Owner> {
    let references = meta.owner_references.as_deref().unwrap_or_default();
    let reference = references.iter().find(|reference| reference.controller == Some(true))?;
    let OwnerReference { api_version, kind, name, uid, .. } = reference.clone();
    Some(Owner { api_version, kind, name, uid })
}

/// Why a pod is not ready: a container that waits or has ended, else a condition that is not met, else its phase.
fn trouble(status: &PodStatus) -> Option<String> {
    let containers = [&status.init_container_statuses, &status.container_statuses];
    let containers = containers.into_iter().flatten().flatten();
    let container = containers.filter(|container| !container.ready).find_map(|container: &ContainerStatus| {
        let state = container.state.as_ref()?;
        let waiting = state.waiting.as_ref().and_then(|waiting| waiting.reason.clone());
        let ended = || state.terminated.as_ref().filter(|ended| ended.exit_code != 0)?.reason.clone();
        Some(format!("container {}: {}", container.name, waiting.or_else(ended)?))
    });
    let unscheduled = || condition(status, "PodScheduled").filter(|(is, _)| *is == "False").map(|(_, why)| why);
    let unready = || condition(status, "Ready").filter(|(is, _)| *is == "False").map(|(_, why)| why);
    let named = |why: String| Some(why).filter(|why| !why.is_empty());
    container
        .or_else(|| unscheduled().and_then(named))
        .or_else(|| unready().and_then(named))
        .or_else(|| status.phase.clone().filter(|phase| phase != "Running"))
}

/// The status of a condition, and its reason.
fn condition<'a>(status: &'a PodStatus, kind: &str) -> Option<(&'a str, String)> {
    let condition = status.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind)?;
    Some((condition.status.as_str(), condition.reason.clone().unwrap_or_default()))
}
