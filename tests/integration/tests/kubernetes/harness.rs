//! The control planes themselves: they start, serve, break and come back, on either release.

use anyhow::{Context, Result, ensure};
use etcd_sync_integration::compare::{await_true, await_until};
use etcd_sync_integration::etcd::{Cluster, ClusterOptions};
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::kube::{ControlPlane, PlaneOptions, path};
use etcd_sync_integration::tools::{EtcdVersion, KubernetesVersion};
use serde_json::json;

#[tokio::test]
async fn a_control_plane_serves_collects_and_comes_back() -> Result<()> {
    serves(KubernetesVersion::V1_36, EtcdVersion::V3_6).await
}

#[tokio::test]
async fn a_control_plane_serves_collects_and_comes_back_1_34() -> Result<()> {
    serves(KubernetesVersion::V1_34, EtcdVersion::V3_5).await
}

async fn serves(version: KubernetesVersion, etcd: EtcdVersion) -> Result<()> {
    let etcd = Cluster::start(ClusterOptions { version: etcd, ..ClusterOptions::default() }).await?;
    let plane = ControlPlane::start("lone", &etcd, PlaneOptions { version, ..PlaneOptions::default() }).await?;
    let api = plane.api();
    let served = api.need("/version").await?;
    ensure!(served["gitVersion"].as_str().is_some_and(|text| text.contains(version.line())), "{served}");

    api.create(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "apps"}})).await?;
    let owner = config_map("owner", &json!([]));
    let uid = api.create(&owner).await?["metadata"]["uid"].clone();
    let reference = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}]);
    let dependent = config_map("dependent", &reference);
    api.create(&dependent).await?;
    // What the comparisons of tests rest on: the key names the object.
    let identities = api.identities().await?;
    ensure!(identities.get("/registry/configmaps/apps/owner").map(String::as_str) == uid.as_str());
    for key in identities.keys().filter(|key| !key.contains("/events/")) {
        ensure!(etcd.get(key).await?.is_some(), "there is no key {key}");
    }

    plane.kill_controllers()?;
    plane.kill_apiserver()?;
    plane.start_apiserver().await?;
    plane.start_controllers()?;
    api.delete(&path(&owner)?).await?;
    let gone = path(&dependent)?;
    await_true("the dependent is collected", PATIENCE, || async { Ok(api.get(&gone).await?.is_none()) }).await?;
    // Written when the request is over, a moment after everybody sees what it did.
    await_until("the audit log tells", PATIENCE, || async {
        let events = plane.audit()?;
        let event = events.iter().find(|event| event.is_collected()).context("nothing is collected")?;
        let named = (event.resource.as_str(), event.name.as_str()) == ("configmaps", "dependent");
        Ok((!named).then(|| format!("{event:?}")))
    })
    .await?;
    // A controller makes this one, in its own time.
    await_until("only the cluster's own authorities are left", PATIENCE, || async {
        let names = plane.kubectl(&["get", "configmaps", "-n", "apps", "-o", "name"]).await?;
        Ok((names.trim() != "configmap/kube-root-ca.crt").then_some(names))
    })
    .await?;
    Ok(())
}

fn config_map(name: &str, owners: &serde_json::Value) -> serde_json::Value {
    let metadata = json!({"name": name, "namespace": "apps", "ownerReferences": owners});
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"key": "value"}})
}
