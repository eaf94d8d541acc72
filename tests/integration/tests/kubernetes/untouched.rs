//! What is the standby's own stays as it is, byte for byte.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use etcd_sync_core::etcd::kv::printable;
use etcd_sync_integration::compare::await_until;
use etcd_sync_integration::exact::{Keys, PATIENCE, default_scope};
use etcd_sync_integration::kube::objects::{APPS, config_map, namespace, secret};
use etcd_sync_integration::kube::{AuditEvent, ControlPlane, KubePair, PairOptions, etcd_key, path};
use serde_json::{Value, json};

use crate::workloads;

/// The standby's controllers may do what they do during this time; the leases are renewed many times.
const TIME: Duration = Duration::from_secs(15);
/// A namespace that only the standby has.
const LOCAL: &str = "local-team";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_standbys_own_objects_are_untouched() -> Result<()> {
    let mut options = PairOptions::new();
    // Both elect a leader: the same Lease on both sides, with another holder.
    for plane in [&mut options.primary, &mut options.standby] {
        plane.controller_args.push("--leader-elect=true".to_owned());
    }
    let pair = KubePair::start(options).await?;
    for plane in [&pair.primary, &pair.standby] {
        populate(plane).await?;
    }
    pair.standby.api().create(&namespace(LOCAL)).await?;
    pair.standby.api().create_all(&[config_map(LOCAL, "own", &[]), secret(LOCAL, "own", &[])]).await?;
    pair.primary.api().create(&namespace(APPS)).await?;
    workloads::create(&pair).await?;
    workloads::made_by_controllers(&pair).await?;

    let before = own(&pair).await?;
    let leases = holders(&pair).await?;
    ensure!(before.len() > 100, "the standby has only {} keys of its own", before.len());
    ensure!(leases.len() > 1 && leases.iter().any(|lease| lease.contains("kube-controller-manager")), "{leases:?}");
    let begun = pair.link.standby.revision().await? + 1;
    let daemon = pair.sync(&[]).await?;
    let outcome = async {
        // The same objects change and end on the primary.
        for object in populated().into_iter().rev() {
            pair.primary.api().delete(&path(&object)?).await?;
        }
        tokio::time::sleep(TIME).await;
        pair.caught_up().await?;
        unchanged(&pair, &before).await?;
        let scope = default_scope()?;
        for event in pair.synchronized(begun).await? {
            let key = event.key();
            ensure!(scope.in_scope(key) && !before.contains_key(key), "the daemon wrote {}", printable(key));
        }
        ensure!(holders(&pair).await? == leases, "the leases have other holders: {:?}", holders(&pair).await?);
        let report = pair.check(&[]).await?;
        ensure!(report["localMissedKeys"] == json!([]), "missed: {}", report["localMissedKeys"]);
        Ok(())
    };
    pair.explain(Some(&daemon), outcome.await)?;
    ensure!(daemon.exited()?.is_none(), "the daemon ended");
    Ok(())
}

/// Objects of these names are on both sides, and none of them is to be synchronized.
fn populated() -> Vec<Value> {
    let object = |version: &str, kind: &str, namespace: Option<&str>, name: &str, more: Value| {
        let mut object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}});
        if let Some(namespace) = namespace {
            object["metadata"]["namespace"] = json!(namespace);
        }
        for (field, value) in more.as_object().into_iter().flatten() {
            object[field] = value.clone();
        }
        object
    };
    let addresses = json!([{"addresses": [{"ip": "10.1.2.3"}], "ports": [{"port": 80}]}]);
    let slice = json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.1.2.3"]}], "ports": [{"port": 80}]});
    let kube_system = Some("kube-system");
    vec![
        object("v1", "Node", None, "node-1", json!({})),
        object("storage.k8s.io/v1", "CSINode", None, "node-1", json!({"spec": {"drivers": []}})),
        object("coordination.k8s.io/v1", "Lease", kube_system, "holder", json!({"spec": {"holderIdentity": "me"}})),
        object("v1", "Service", Some("default"), "web", json!({"spec": {"ports": [{"port": 80}]}})),
        object("v1", "Service", kube_system, "dns", json!({"spec": {"ports": [{"port": 53}]}})),
        object("v1", "Endpoints", Some("default"), "web", json!({"subsets": addresses})),
        object("discovery.k8s.io/v1", "EndpointSlice", kube_system, "dns-1", slice),
        object("v1", "ConfigMap", kube_system, "kubeadm-config", json!({"data": {"a": "b"}})),
        object("v1", "ServiceAccount", kube_system, "operator", json!({})),
        object(
            "apps/v1",
            "Deployment",
            kube_system,
            "dns",
            json!({"spec": {
                "replicas": 1, "selector": {"matchLabels": {"app": "dns"}},
                "template": {"metadata": {"labels": {"app": "dns"}}, "spec": {"containers": [{"name": "a", "image": "b"}]}},
            }}),
        ),
    ]
}

async fn populate(plane: &ControlPlane) -> Result<()> {
    plane.api().create_all(&populated()).await.map(drop)
}

/// All keys of the standby that are not to be synchronized, or are in its own namespace.
async fn own(pair: &KubePair) -> Result<Keys> {
    let mut own = pair.out_of_scope().await?;
    let mark = format!("/{LOCAL}");
    let in_local = |key: &Bytes| printable(key).contains(&mark);
    own.extend(pair.standby_keys().await?.into_iter().filter(|(key, _)| in_local(key)));
    // Those that hang on an etcd lease end and are renewed by themselves; the others that renew are looked at as objects.
    own.retain(|key, kv| kv.lease == 0 && !key.starts_with(b"/registry/leases/"));
    Ok(own)
}

/// Every key is there with its value, unless the standby's own API server was asked to change it; and no key is new
/// unless that API server made it. What the daemon writes goes past the API server, and so past its audit log.
async fn unchanged(pair: &KubePair, before: &Keys) -> Result<()> {
    let after = own(pair).await?;
    // The log's line is written when a request is over, a moment after its change is in etcd.
    await_until("every change is in the audit log", PATIENCE, || async { judge(pair, before, &after) }).await
}

fn judge(pair: &KubePair, before: &Keys, after: &Keys) -> Result<Option<String>> {
    let asked: BTreeSet<String> = pair.standby.audit()?.iter().filter(|event| event.status < 300).map(key).collect();
    let differs = |key: &&Bytes| match (before.get(*key), after.get(*key)) {
        (Some(old), Some(new)) => old.value != new.value || old.mod_revision != new.mod_revision,
        _ => true,
    };
    let by_api = |key: &String| {
        // A create that leaves the name to the API server is logged with the collection alone.
        let collection = key.rfind('/').map_or("", |end| &key[..=end]);
        asked.contains(key) || !before.contains_key(key.as_bytes()) && asked.contains(collection)
    };
    let keys: BTreeSet<&Bytes> = before.keys().chain(after.keys()).collect();
    let (by_itself, by_others): (Vec<String>, Vec<String>) =
        keys.into_iter().filter(differs).map(|key| printable(key)).partition(by_api);
    if !by_others.is_empty() {
        return Ok(Some(format!("changed behind the API server's back: {by_others:#?}")));
    }
    println!("{} own keys compared; the standby itself wrote {by_itself:#?}", before.len());
    Ok(None)
}

fn key(event: &AuditEvent) -> String {
    let plural = event.resource.split('/').next().unwrap_or_default();
    let namespace = (!event.namespace.is_empty()).then_some(event.namespace.as_str());
    etcd_key(&event.group, plural, namespace, &event.name)
}

/// Who holds which lease of the standby, and which object that is.
async fn holders(pair: &KubePair) -> Result<BTreeSet<String>> {
    let found = pair.standby.api().need("/apis/coordination.k8s.io/v1/leases").await?;
    let items = found["items"].as_array().context("a list has items")?;
    let told = items.iter().map(|lease| {
        let meta = &lease["metadata"];
        format!("{} {} {} {}", meta["namespace"], meta["name"], meta["uid"], lease["spec"]["holderIdentity"])
    });
    Ok(told.collect())
}
