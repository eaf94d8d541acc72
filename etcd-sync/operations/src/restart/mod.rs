//! Which pods a restart deletes, and when what owns them works again.
//!
//! A plan is kept and carried out again after a kill: it names pods by UID, so nothing is deleted twice, and what it waits for
//! follows from the plan alone.

mod report;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

pub use report::{ClusterReport, FailedPod, OwnerReport, RestartReport};

/// Elasticsearch, restarted before the switch (step 1 of the runbook) and after it.
pub const ELASTICSEARCH: &str = "service_name=cpaas-elasticsearch";

/// What holds old state on the cluster that takes over (step 8 of the runbook).
pub const SERVICES: [&str; 3] =
    [ELASTICSEARCH, "service_name in (alertmanager,vmselect,vminsert)", "service_name=cluster-transformer"];

/// What holds old state in workload clusters (step 8 of the runbook).
pub const WORKLOAD_SERVICES: [&str; 1] = ["service_name=warlock"];

/// Which pods of a cluster are meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Selection {
    /// A label selector as kubectl's `-l` takes it.
    pub selector: String,
    /// The namespace; `None`: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// A pod, as far as a restart cares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// What would bring it back: its controlling owner, or that one's Deployment.
    pub owner: Option<Owner>,
    /// Its condition `Ready` is true.
    pub ready: bool,
    /// It is being deleted.
    pub deleting: bool,
    /// Its phase is `Succeeded` or `Failed`.
    pub ended: bool,
    /// A static pod of a kubelet: the API server holds its mirror only.
    pub mirror: bool,
    /// Why it is not ready, in the words of its status.
    pub trouble: Option<String>,
}

/// What controls a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    /// Such as `apps/v1`.
    pub api_version: String,
    /// Such as `StatefulSet`.
    pub kind: String,
    /// Its name, in the pod's namespace.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// Which pods are to be deleted, in every cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartPlan {
    /// In the order given.
    pub clusters: Vec<ClusterPlan>,
}

/// The part of one cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterPlan {
    /// Its name, unique in the plan.
    pub cluster: String,
    /// Why it could not be asked; nothing is planned there then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Everything that was looked for.
    pub services: Vec<ServicePlan>,
}

/// The pods of one selection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePlan {
    /// What was looked for.
    #[serde(flatten)]
    pub selection: Selection,
    /// The pods to delete.
    pub pods: Vec<PlannedPod>,
    /// The pods that fit and stay.
    pub left: Vec<LeftPod>,
}

/// A pod to delete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedPod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID: no other pod of this name is deleted.
    pub uid: String,
    /// What brings it back.
    pub owner: Owner,
    /// It was ready when the plan was made.
    pub ready: bool,
}

/// A pod that fits and stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftPod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: Left,
}

/// Why a pod stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Left {
    /// Nothing controls it: nobody would bring it back.
    NoOwner,
    /// The API server holds its mirror only; the kubelet runs it from a file.
    Static,
    /// A Job would count it as failed.
    Job,
    /// It runs no longer.
    Ended,
    /// It is being deleted already.
    Deleting,
    /// Another selection of this plan has it.
    PlannedAbove,
}

impl Left {
    /// Whether somebody has to do by hand what was meant.
    pub fn needs_a_hand(self) -> bool {
        matches!(self, Left::NoOwner | Left::Static | Left::Job)
    }
}

/// What must be there again before an owner counts as restarted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Index of the cluster in the plan.
    pub cluster: usize,
    /// What finds its pods.
    pub selection: Selection,
    /// Its namespace.
    pub namespace: String,
    /// The owner.
    pub owner: Owner,
    /// The pods to delete; they never count.
    pub uids: BTreeSet<String>,
    /// How many of them were ready: so many others must become so.
    pub ready: u64,
}

/// How many pods an owner wants now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Its kind does not tell.
    Unknown,
    /// So many.
    Pods(u64),
    /// It is gone, or another one has its name.
    Gone,
}

/// How far an owner is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Progress {
    /// It has as many new pods as were deleted, or as it wants now, and as many ready ones as before.
    Restarted {
        /// New ready pods.
        ready: u64,
        /// New pods.
        pods: u64,
    },
    /// It has not.
    Waiting {
        /// New ready pods.
        ready: u64,
        /// Ready pods needed.
        needed: u64,
        /// New pods that are still to be made.
        missing: u64,
        /// New pods that are not ready: the name, and why as far as their status tells.
        unready: Vec<(String, Option<String>)>,
        /// Pods of the plan that are still there.
        deleting: Vec<String>,
    },
    /// It is gone since the plan was made: nothing is waited for.
    Gone,
}

impl ClusterPlan {
    /// A cluster in which nothing was looked for yet.
    pub fn new(cluster: impl Into<String>) -> ClusterPlan {
        ClusterPlan { cluster: cluster.into(), ..ClusterPlan::default() }
    }

    /// A cluster that could not be asked.
    pub fn failed(cluster: impl Into<String>, error: impl Into<String>) -> ClusterPlan {
        ClusterPlan { error: Some(error.into()), ..ClusterPlan::new(cluster) }
    }

    /// Adds what a selection has found.
    pub fn add(&mut self, selection: Selection, mut found: Vec<Pod>) {
        found.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        let above: BTreeSet<&str> =
            self.services.iter().flat_map(|service| &service.pods).map(|pod| pod.uid.as_str()).collect();
        let (mut pods, mut left) = (Vec::new(), Vec::new());
        for pod in found {
            match fate(&pod, &above) {
                Ok(owner) => {
                    let Pod { namespace, name, uid, ready, .. } = pod;
                    pods.push(PlannedPod { namespace, name, uid, owner, ready });
                }
                Err(reason) => left.push(LeftPod { namespace: pod.namespace, name: pod.name, reason }),
            }
        }
        self.services.push(ServicePlan { selection, pods, left });
    }
}

/// What brings a pod back, or why it stays.
fn fate(pod: &Pod, above: &BTreeSet<&str>) -> Result<Owner, Left> {
    if above.contains(pod.uid.as_str()) {
        return Err(Left::PlannedAbove);
    }
    if pod.deleting {
        return Err(Left::Deleting);
    }
    if pod.ended {
        return Err(Left::Ended);
    }
    match &pod.owner {
        _ if pod.mirror => Err(Left::Static),
        None => Err(Left::NoOwner),
        Some(owner) if owner.kind == "Job" => Err(Left::Job),
        Some(owner) => Ok(owner.clone()),
    }
}

impl RestartPlan {
    /// Every pod to delete, with the index of its cluster.
    pub fn pods(&self) -> impl Iterator<Item = (usize, &PlannedPod)> {
        let services =
            self.clusters.iter().enumerate().flat_map(|(at, cluster)| cluster.services.iter().map(move |s| (at, s)));
        services.flat_map(|(at, service)| service.pods.iter().map(move |pod| (at, pod)))
    }

    /// How many pods are to be deleted.
    pub fn count(&self) -> u64 {
        self.pods().count() as u64
    }

    /// Whether nothing that was looked for is anywhere, and every cluster could be asked.
    pub fn finds_nothing(&self) -> bool {
        let nothing = |service: &ServicePlan| service.pods.is_empty() && service.left.is_empty();
        self.clusters.iter().all(|cluster| cluster.error.is_none() && cluster.services.iter().all(nothing))
    }

    /// Whether a pod that was meant is not in the plan, because nobody would bring it back.
    pub fn needs_a_hand(&self) -> bool {
        let mut services = self.clusters.iter().flat_map(|cluster| &cluster.services);
        services.any(|service| service.left.iter().any(|pod| pod.reason.needs_a_hand()))
    }

    /// The names of the clusters that could not be asked.
    pub fn unasked(&self) -> Vec<&str> {
        let failed = self.clusters.iter().filter(|cluster| cluster.error.is_some());
        failed.map(|cluster| cluster.cluster.as_str()).collect()
    }

    /// Whether a cluster was asked. One that was must not be asked again once the plan is carried out: it would name the new pods.
    pub fn knows(&self, cluster: &str) -> bool {
        self.clusters.iter().any(|part| part.cluster == cluster && part.error.is_none())
    }

    /// Takes over what clusters were found to have that this plan does not know.
    pub fn complete(&mut self, found: RestartPlan) {
        let new = found.clusters.into_iter().filter(|part| !self.knows(&part.cluster)).collect::<Vec<_>>();
        self.clusters.retain(|part| new.iter().all(|new| new.cluster != part.cluster));
        self.clusters.extend(new);
    }

    /// What must be there again, one entry for each owner, in the order of the plan.
    pub fn waits(&self) -> Vec<Wait> {
        let mut waits: Vec<Wait> = Vec::new();
        for (cluster, plan) in self.clusters.iter().enumerate() {
            for ServicePlan { selection, pods, .. } in &plan.services {
                for PlannedPod { namespace, uid, owner, ready, .. } in pods {
                    let same = |wait: &Wait| {
                        (wait.cluster, &wait.selection, &wait.namespace, &wait.owner)
                            == (cluster, selection, namespace, owner)
                    };
                    let at = waits.iter().position(same).unwrap_or_else(|| {
                        waits.push(Wait {
                            cluster,
                            selection: selection.clone(),
                            namespace: namespace.clone(),
                            owner: owner.clone(),
                            uids: BTreeSet::new(),
                            ready: 0,
                        });
                        waits.len() - 1
                    });
                    waits[at].uids.insert(uid.clone());
                    waits[at].ready += u64::from(*ready);
                }
            }
        }
        waits
    }
}

impl Wait {
    /// How many pods are to be deleted.
    pub fn pods(&self) -> u64 {
        self.uids.len() as u64
    }

    /// Judges what its selection finds now; pods of others are passed over.
    ///
    /// As many other pods as were deleted must be there, and as many of them ready as were before: a pod that was broken
    /// before may stay so. An owner that wants fewer now (it was scaled, or rolled out meanwhile) needs no more than it wants.
    pub fn judge(&self, now: &[Pod], wanted: Wanted) -> Progress {
        let most = match wanted {
            Wanted::Gone => return Progress::Gone,
            Wanted::Pods(pods) => pods,
            Wanted::Unknown => u64::MAX,
        };
        let deleted = |pod: &&Pod| pod.namespace == self.namespace && self.uids.contains(&pod.uid);
        let owned = |pod: &&Pod| pod.owner.as_ref().is_some_and(|owner| owner.uid == self.owner.uid);
        let others: Vec<&Pod> =
            now.iter().filter(owned).filter(|pod| !deleted(pod) && !pod.deleting && !pod.ended).collect();
        let (pods, ready) = (others.len() as u64, others.iter().filter(|pod| pod.ready).count() as u64);
        let needed = self.ready.min(most);
        let missing = self.pods().min(most).saturating_sub(pods);
        if ready >= needed && missing == 0 {
            return Progress::Restarted { ready, pods };
        }
        let unready =
            others.iter().filter(|pod| !pod.ready).map(|pod| (pod.name.clone(), pod.trouble.clone())).collect();
        let deleting = now.iter().filter(deleted).map(|pod| pod.name.clone()).collect();
        Progress::Waiting { ready, needed, missing, unready, deleting }
    }
}

impl Progress {
    /// Whether there is nothing more to wait for.
    pub fn is_over(&self) -> bool {
        !matches!(self, Progress::Waiting { .. })
    }
}
