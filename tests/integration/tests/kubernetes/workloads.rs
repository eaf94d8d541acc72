//! Workloads whose controllers run on both sides: nothing missed or surplus, the same UIDs, and the standby comes to rest.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use etcd_sync_integration::compare::await_until;
use etcd_sync_integration::exact::{PATIENCE, default_scope};
use etcd_sync_integration::kube::objects::{APPS, namespace};
use etcd_sync_integration::kube::{KubePair, PairOptions};
use serde_json::{Value, json};

use crate::settle;

/// Nothing in scope may be written to the standby for this long once the primary is quiet.
const QUIET: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_workloads_stay_the_same() -> Result<()> {
    let pair = KubePair::start(PairOptions::new()).await?;
    pair.primary.api().create(&namespace(APPS)).await?;
    create(&pair).await?;
    made_by_controllers(&pair).await?;

    let daemon = pair.sync(&["--checkpoint-interval=200ms"]).await?;
    let outcome = async {
        // Both sides' controllers see the change, and both sides' CronJobs come due.
        change(&pair).await?;
        tokio::time::sleep(settle()?).await;
        pair.await_same(PATIENCE).await?;
        pair.nothing_collected(&[APPS])?;
        suspend(&pair).await?;
        run_one_pod(&pair).await?;
        pair.caught_up().await?;
        pair.await_quiet(&default_scope()?, QUIET, PATIENCE).await?;
        pair.await_same(PATIENCE).await?;
        let changed = only_status_differs(&pair, true).await?;
        ensure!(changed.iter().any(|key| key.ends_with("/statefulsets/apps/stateful")), "its pod runs here only");
        Ok(())
    };
    pair.explain(Some(&daemon), outcome.await)
}

/// Creates one of each kind that has a controller, on the primary.
pub async fn create(pair: &KubePair) -> Result<()> {
    let workload = |version: &str, kind: &str, name: &str, spec: Value| {
        let metadata = json!({"name": name, "namespace": APPS, "labels": {"app": name}});
        json!({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec})
    };
    let replicated = |name: &str| json!({"replicas": 3, "selector": {"matchLabels": {"app": name}}, "template": template(name, "Always")});
    let mut stateful = replicated("stateful");
    stateful["serviceName"] = json!("stateful");
    let daemon = json!({"selector": {"matchLabels": {"app": "daemon"}}, "template": template("daemon", "Always")});
    let job = json!({"template": template("job", "Never")});
    let port = json!({"port": 80, "targetPort": 8080});
    let objects = [
        workload("apps/v1", "Deployment", "web", replicated("web")),
        workload("apps/v1", "Deployment", "worker", replicated("worker")),
        workload("apps/v1", "StatefulSet", "stateful", stateful),
        workload("apps/v1", "DaemonSet", "daemon", daemon),
        workload("batch/v1", "Job", "job", job.clone()),
        workload("batch/v1", "CronJob", "cron", json!({"schedule": "* * * * *", "jobTemplate": {"spec": job}})),
        workload("v1", "Service", "web", json!({"selector": {"app": "web"}, "ports": [port]})),
        workload(
            "v1",
            "PersistentVolumeClaim",
            "data",
            json!({
                "accessModes": ["ReadWriteOnce"], "storageClassName": "none", "resources": {"requests": {"storage": "1Gi"}},
            }),
        ),
        workload("v1", "ResourceQuota", "quota", json!({"hard": {"pods": "100", "configmaps": "1000"}})),
        workload(
            "policy/v1",
            "PodDisruptionBudget",
            "web",
            json!({
                "minAvailable": 1, "selector": {"matchLabels": {"app": "web"}},
            }),
        ),
        workload(
            "autoscaling/v2",
            "HorizontalPodAutoscaler",
            "worker",
            json!({
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "worker"}, "maxReplicas": 5,
                "metrics": [{"type": "Resource", "resource": {
                    "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80},
                }}],
            }),
        ),
    ];
    pair.primary.api().create_all(&objects).await.map(drop)
}

fn template(app: &str, restart: &str) -> Value {
    let container = json!({"name": "main", "image": "registry.example.com/app:1"});
    json!({"metadata": {"labels": {"app": app}}, "spec": {"containers": [container], "restartPolicy": restart}})
}

/// Waits until the primary's controllers have made the dependents.
pub async fn made_by_controllers(pair: &KubePair) -> Result<()> {
    let api = pair.primary.api();
    await_until("the primary's controllers have made their objects", PATIENCE, || async {
        for (plural, least) in [("replicasets", 2), ("controllerrevisions", 2)] {
            let found = api.need(&format!("/apis/apps/v1/namespaces/{APPS}/{plural}")).await?;
            let count = found["items"].as_array().map_or(0, Vec::len);
            if count < least {
                return Ok(Some(format!("{count} {plural}")));
            }
        }
        Ok(None)
    })
    .await
}

/// A new template and another size, so that controllers make and scale objects; and a Job of the CronJob by hand.
pub async fn change(pair: &KubePair) -> Result<()> {
    let api = pair.primary.api();
    let template = json!({"spec": {"template": {"metadata": {"annotations": {"rolled": "once"}}}}});
    for workload in ["deployments/web", "deployments/worker", "statefulsets/stateful", "daemonsets/daemon"] {
        api.patch(&format!("/apis/apps/v1/namespaces/{APPS}/{workload}"), &template).await?;
    }
    api.patch(&format!("/apis/apps/v1/namespaces/{APPS}/deployments/web"), &json!({"spec": {"replicas": 5}})).await?;
    pair.primary.kubectl(&["create", "job", "by-hand", "--from=cronjob/cron", "-n", APPS]).await.map(drop)
}

async fn suspend(pair: &KubePair) -> Result<()> {
    let cron = format!("/apis/batch/v1/namespaces/{APPS}/cronjobs/cron");
    pair.primary.api().patch(&cron, &json!({"spec": {"suspend": true}})).await.map(drop)
}

/// A pod of the standby runs, as far as its controllers can tell.
async fn run_one_pod(pair: &KubePair) -> Result<()> {
    let api = pair.standby.api();
    let running = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
    api.patch(&format!("/api/v1/namespaces/{APPS}/pods/stateful-0/status"), &json!({"status": running})).await?;
    await_until("the standby's StatefulSet counts its pod", PATIENCE, || async {
        let set = api.need(&format!("/apis/apps/v1/namespaces/{APPS}/statefulsets/stateful")).await?;
        Ok((set["status"]["readyReplicas"] != 1).then(|| set["status"].to_string()))
    })
    .await
}

/// The check calls nothing mismatched, and what it says to have another status differs in nothing but what controllers
/// write; returns these keys. Of two releases the check may call more mismatched: each writes an object in bytes of its own
/// (an empty creationTimestamp in a template is one), which the API does not show.
pub async fn only_status_differs(pair: &KubePair, one_release: bool) -> Result<Vec<String>> {
    let report = pair.check(&["--deep"]).await?;
    ensure!(!one_release || report["mismatched"] == 0, "mismatched: {}", report["details"]);
    let lists = ["mismatchedKeys", "ownStatusKeys"].map(|list| report[list].as_array());
    let mismatched: Vec<&str> = lists.into_iter().flatten().flatten().filter_map(Value::as_str).collect();
    println!("values that the standby's controllers changed: {mismatched:#?}");
    let (primary, standby) = tokio::try_join!(pair.primary.api().objects(), pair.standby.api().objects())?;
    for key in &mismatched {
        let served = |objects: &BTreeMap<String, Value>| {
            objects.get(*key).cloned().with_context(|| format!("{key} is compared, but nothing synchronizes it"))
        };
        let (one, other) = (served(&primary)?, served(&standby)?);
        let (one, other) = (without_status(&one), without_status(&other));
        ensure!(one == other, "{key} differs in more than its status:\n{one:#}\n{other:#}");
    }
    Ok(mismatched.into_iter().map(str::to_owned).collect())
}

/// Without what the controllers of workloads write: the status, a Deployment's count of its rollouts, and the sizes it
/// gives its ReplicaSets.
fn without_status(object: &Value) -> Value {
    let mut object = object.clone();
    object["status"].take();
    for field in ["resourceVersion", "managedFields", "generation"] {
        object["metadata"][field].take();
    }
    if let Some(annotations) = object["metadata"]["annotations"].as_object_mut() {
        annotations.retain(|name, _| !name.starts_with("deployment.kubernetes.io/"));
    }
    let owned = object["metadata"]["ownerReferences"][0]["kind"] == "Deployment";
    if owned {
        object["spec"]["replicas"].take();
    }
    object
}
