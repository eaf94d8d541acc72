//! A control plane that knows the kinds of others, and stands in for the node that the bootstrap Job needs.

use std::path::Path;

use anyhow::Result;
use etcd_sync_integration::compare::await_until;
use etcd_sync_integration::etcd::{Cluster, ClusterOptions};
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::kube::{Api, ControlPlane, PlaneOptions};
use etcd_sync_integration::tools::{self, KubernetesVersion};
use serde_json::{Value, json};

use crate::file;

/// The control plane and its etcd.
pub struct Fixture {
    pub plane: ControlPlane,
    // The control plane goes first.
    _etcd: Cluster,
}

impl Fixture {
    /// Dual stack, with the definitions of Prometheus, cert-manager and the platform.
    pub async fn start(version: KubernetesVersion) -> Result<Fixture> {
        let etcd = Cluster::start(ClusterOptions::default()).await?;
        let service_cidr = "10.96.0.0/16,fd00:96::/112".to_owned();
        let options = PlaneOptions { version, service_cidr, ..PlaneOptions::default() };
        let plane = ControlPlane::start("standby", &etcd, options).await?;
        let fixture = Fixture { plane, _etcd: etcd };
        for folder in [tools::crds()?, file("tests/integration/testdata/acp-crds")] {
            fixture.apply(&folder, &[]).await?;
        }
        fixture.plane.kubectl(&["wait", "crd", "--all", "--for=condition=Established", "--timeout=30s"]).await?;
        Ok(fixture)
    }

    /// Server-side apply of a file or folder.
    pub async fn apply(&self, path: &Path, args: &[&str]) -> Result<String> {
        let path = path.to_string_lossy();
        self.plane.kubectl(&[&["apply", "--server-side", "-f", &path], args].concat()).await
    }

    /// Makes a namespace and waits for its service account.
    pub async fn namespace(&self, name: &str, labels: &Value) -> Result<()> {
        let metadata = json!({"name": name, "labels": labels});
        self.plane.api().create(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})).await?;
        let account = format!("/api/v1/namespaces/{name}/serviceaccounts/default");
        await_until("the namespace has its service account", PATIENCE, || async {
            Ok(self.plane.api().get(&account).await?.is_none().then(|| "there is none yet".to_owned()))
        })
        .await
    }

    /// Plays the node of the bootstrap Job's next pod: its program ends with `code`. Returns the pod.
    pub async fn end_bootstrap(&self, namespace: &str, code: i32) -> Result<Value> {
        let pod = bootstrap_pod(self.plane.api(), namespace).await?;
        end(self.plane.api(), &pod, code).await?;
        Ok(pod)
    }
}

/// The bootstrap Job's next pod, for whoever plays its node.
pub async fn bootstrap_pod(api: &Api, namespace: &str) -> Result<Value> {
    let pods = format!("/api/v1/namespaces/{namespace}/pods?labelSelector=app%3Detcd-sync-bootstrap");
    let found = std::sync::Mutex::new(Value::Null);
    await_until("the bootstrap Job has a pod", PATIENCE, || async {
        let list = api.need(&pods).await?;
        let waiting = list["items"].as_array().and_then(|items| {
            items
                .iter()
                .find(|pod| pod["status"]["phase"] == "Pending" && pod["metadata"]["deletionTimestamp"].is_null())
        });
        let Some(pod) = waiting else { return Ok(Some("there is none".to_owned())) };
        if let Ok(mut found) = found.lock() {
            found.clone_from(pod);
        }
        Ok(None)
    })
    .await?;
    Ok(found.into_inner().unwrap_or_default())
}

/// Says of a pod of that Job that its program has ended with `code`.
pub async fn end(api: &Api, pod: &Value, code: i32) -> Result<()> {
    let part = |name: &str| pod["metadata"][name].as_str().unwrap_or_default();
    let path = format!("/api/v1/namespaces/{}/pods/{}/status", part("namespace"), part("name"));
    let container = json!({
        "name": "bootstrap", "image": "played", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"terminated": {"exitCode": code}},
    });
    let phase = if code == 0 { "Succeeded" } else { "Failed" };
    let status = json!({"status": {"phase": phase, "containerStatuses": [container]}});
    api.patch(&path, &status).await.map(drop)
}
