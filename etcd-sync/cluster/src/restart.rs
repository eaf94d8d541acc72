//! Restarts pods: planned by label, deleted by UID, waited for by owner.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use etcd_sync_operations::restart::{
    ClusterPlan, ClusterReport, FailedPod, OwnerReport, PlannedPod, Pod, Progress, RestartPlan, RestartReport,
    Selection, Wait,
};
use futures_util::future::join_all;
use k8s_openapi::api::core::v1::Pod as ApiPod;
use kube::Api;
use kube::api::{DeleteParams, Preconditions};
use tokio::time::{Instant, sleep};

use crate::{Cluster, Error};

/// How often the readiness of pods is checked.
const PACE: Duration = Duration::from_secs(1);

/// How often a deletion is tried that fails because the API server is busy or gone, and the pause in between.
const TRIES: usize = 5;

/// Where CoreDNS runs, under the label that every installer gives it.
const DNS_NAMESPACE: &str = "kube-system";
const DNS_SELECTOR: &str = "k8s-app=kube-dns";

/// Finds the pods with these labels in a cluster, in all namespaces. A cluster that does not answer is in the plan with its error.
pub async fn plan(work: &[(&Cluster, &[String])]) -> RestartPlan {
    let parts = work.iter().map(|(cluster, labels)| async move {
        let selections = labels.iter().map(|selector| Selection { selector: selector.clone(), namespace: None });
        plan_cluster(cluster, selections.collect()).await
    });
    RestartPlan { clusters: join_all(parts).await }
}

/// Finds CoreDNS.
pub async fn plan_coredns(cluster: &Cluster) -> RestartPlan {
    let selection = Selection { selector: DNS_SELECTOR.to_owned(), namespace: Some(DNS_NAMESPACE.to_owned()) };
    RestartPlan { clusters: vec![plan_cluster(cluster, vec![selection]).await] }
}

/// Deletes exactly the pods of a plan, each by its UID, and waits until their owners have as many ready pods again. The same
/// plan a second time deletes nothing that is not in it, and waits likewise. `progress` receives a text for every step.
///
/// # Errors
/// The plan names a cluster that is not given. What fails in a cluster is in the report.
pub async fn execute(
    clusters: &[&Cluster],
    plan: &RestartPlan,
    limit: Duration,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<RestartReport, Error> {
    let start = Instant::now();
    let mut waits: HashMap<usize, Vec<Wait>> = HashMap::new();
    for wait in plan.waits() {
        waits.entry(wait.cluster).or_default().push(wait);
    }
    let mut parts = Vec::new();
    for (at, part) in plan.clusters.iter().enumerate() {
        let Some(waits) = waits.remove(&at) else {
            parts.push((None, part, Vec::new()));
            continue;
        };
        let cluster = clusters.iter().find(|cluster| cluster.name() == part.cluster);
        let cluster = cluster.ok_or_else(|| Error::UnknownCluster(part.cluster.clone()))?;
        parts.push((Some(cluster), part, waits));
    }
    let done = parts.into_iter().map(|(cluster, part, waits)| async move {
        match cluster {
            Some(cluster) => restart(cluster, part, waits, limit, progress).await,
            None => ClusterReport { cluster: part.cluster.clone(), ..ClusterReport::default() },
        }
    });
    let clusters = join_all(done).await;
    Ok(RestartReport { clusters, limit_ms: milliseconds(limit), took_ms: milliseconds(start.elapsed()) })
}

/// Deletes CoreDNS's pods and waits until new ones are ready.
///
/// # Errors
/// See [`execute`].
pub async fn restart_coredns(
    cluster: &Cluster,
    limit: Duration,
    progress: &(dyn Fn(&str) + Sync),
) -> Result<(RestartPlan, RestartReport), Error> {
    let plan = plan_coredns(cluster).await;
    let report = execute(&[cluster], &plan, limit, progress).await?;
    Ok((plan, report))
}

async fn plan_cluster(cluster: &Cluster, selections: Vec<Selection>) -> ClusterPlan {
    let mut plan = ClusterPlan::new(cluster.name());
    for selection in selections {
        match cluster.pods(&selection).await {
            Ok(found) => plan.add(selection, found),
            Err(error) => return ClusterPlan::failed(cluster.name(), error.to_string()),
        }
    }
    plan
}

async fn restart(
    cluster: &Cluster,
    part: &ClusterPlan,
    waits: Vec<Wait>,
    limit: Duration,
    progress: &(dyn Fn(&str) + Sync),
) -> ClusterReport {
    let mut report = ClusterReport { cluster: part.cluster.clone(), ..ClusterReport::default() };
    for pod in part.services.iter().flat_map(|service| &service.pods) {
        let place = format!("{}/{}", pod.namespace, pod.name);
        match delete(cluster, pod).await {
            Ok(true) => {
                progress(&format!("{}: deleted pod {place}", cluster.name()));
                report.deleted += 1;
            }
            Ok(false) => report.gone += 1,
            Err(error) => {
                let (namespace, name, why) = (pod.namespace.clone(), pod.name.clone(), error.to_string());
                report.failed.push(FailedPod { namespace, name, why });
            }
        }
    }
    // What was not deleted will not be created again.
    let failed =
        |wait: &Wait| report.failed.iter().any(|pod| pod.namespace == wait.namespace && holds(part, wait, pod));
    let waits: Vec<Wait> = waits.into_iter().filter(|wait| !failed(wait)).collect();
    let (owners, error) = await_owners(cluster, waits, limit, progress).await;
    report.owners = owners;
    report.error = error;
    report
}

fn holds(part: &ClusterPlan, wait: &Wait, failed: &FailedPod) -> bool {
    let mut pods = part.services.iter().flat_map(|service| &service.pods);
    pods.any(|pod| pod.namespace == failed.namespace && pod.name == failed.name && wait.uids.contains(&pod.uid))
}

/// Deletes a pod if it is the one that was planned and still stays; whether it was.
async fn delete(cluster: &Cluster, pod: &PlannedPod) -> Result<bool, Error> {
    let api: Api<ApiPod> = Api::namespaced(cluster.client(), &pod.namespace);
    let what = format!("delete the pod {}/{}", pod.namespace, pod.name);
    let uid = Preconditions { uid: Some(pod.uid.clone()), resource_version: None };
    let params = DeleteParams::default().preconditions(uid);
    let mut tries = 1;
    loop {
        let outcome = async {
            // The API server takes a second deletion of a pod that is being deleted for another success.
            let found = cluster.ask(&what, api.get_opt(&pod.name)).await?;
            let stays = |found: &ApiPod| {
                found.metadata.uid.as_ref() == Some(&pod.uid) && found.metadata.deletion_timestamp.is_none()
            };
            if !found.as_ref().is_some_and(stays) {
                return Ok(false);
            }
            cluster.ask(&what, api.delete(&pod.name, &params)).await.map(|_| true)
        };
        match outcome.await {
            // Gone in between; or another one of this name has come.
            Err(error) if matches!(error.status(), Some(404 | 409)) => return Ok(false),
            Err(error) if error.is_transient() && tries < TRIES => tries += 1,
            outcome => return outcome,
        }
        sleep(PACE).await;
    }
}

/// Waits for all owners, or for the limit. Gives the last error when the API server did not answer at the end.
async fn await_owners(
    cluster: &Cluster,
    waits: Vec<Wait>,
    limit: Duration,
    progress: &(dyn Fn(&str) + Sync),
) -> (Vec<OwnerReport>, Option<String>) {
    let deadline = Instant::now() + limit;
    let mut owners: Vec<OwnerReport> = waits.iter().map(|wait| OwnerReport::new(wait, unknown(wait))).collect();
    loop {
        let mut failed = None;
        match look(cluster, &waits, &owners).await {
            Ok(now) => {
                for (owner, now) in owners.iter_mut().zip(now) {
                    if owner.progress != now {
                        owner.progress = now;
                        let state = owner.waiting().unwrap_or_else(|| "restarted".to_owned());
                        progress(&format!("{}: {}: {state}", cluster.name(), owner.title()));
                    }
                }
            }
            // A server that restarts, or is busy with all that starts, comes back.
            Err(error) if error.is_transient() => failed = Some(error.to_string()),
            Err(error) => return (owners, Some(error.to_string())),
        }
        if owners.iter().all(|owner| owner.progress.is_over()) {
            return (owners, None);
        }
        if Instant::now() >= deadline {
            return (owners, failed);
        }
        sleep(PACE.min(deadline - Instant::now())).await;
    }
}

/// How far every owner is; one that is done stays so.
async fn look(cluster: &Cluster, waits: &[Wait], owners: &[OwnerReport]) -> Result<Vec<Progress>, Error> {
    let mut lists: BTreeMap<&Selection, Vec<Pod>> = BTreeMap::new();
    let mut now = Vec::new();
    for (wait, owner) in waits.iter().zip(owners) {
        if owner.progress.is_over() {
            now.push(owner.progress.clone());
            continue;
        }
        if !lists.contains_key(&wait.selection) {
            lists.insert(&wait.selection, cluster.pods(&wait.selection).await?);
        }
        now.push(wait.judge(&lists[&wait.selection], cluster.wanted(wait).await?));
    }
    Ok(now)
}

/// Before the first check.
fn unknown(wait: &Wait) -> Progress {
    Progress::Waiting { ready: 0, needed: wait.ready, missing: wait.pods(), unready: Vec::new(), deleting: Vec::new() }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
