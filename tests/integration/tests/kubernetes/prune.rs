//! `prune` and `restore` on a live standby: the garbage collector takes part in the one, and must not undo the other.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use etcd_sync_integration::compare::await_true;
use etcd_sync_integration::daemon::{Output, run_command};
use etcd_sync_integration::exact::{PATIENCE, default_scope};
use etcd_sync_integration::kube::objects::{APPS, create_crds, create_families, key_of, namespace};
use etcd_sync_integration::kube::{KubePair, PairOptions, path as path_of};
use etcd_sync_integration::saved_keys::whole;
use serde_json::{Value, json};

use crate::owners::ready_to_collect;
use crate::settle;

const OWNERS: usize = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn families_come_back_and_stay() -> Result<()> {
    let pair = KubePair::start(PairOptions::new()).await?;
    create_crds(pair.primary.api()).await?;
    pair.primary.api().create(&namespace(APPS)).await?;
    ready_to_collect(&pair.standby).await?;
    let daemon = pair.sync(&["--checkpoint-interval=200ms"]).await?;
    let family = create_families(pair.standby.api(), 0..OWNERS).await?;
    let outcome = there_and_back(&pair, &family).await;
    pair.explain(Some(&daemon), outcome)
}

async fn there_and_back(pair: &KubePair, family: &[Value]) -> Result<()> {
    let keys: Vec<Bytes> = family.iter().map(key_of).collect::<Result<_>>()?;
    let before = values(pair, &keys).await?;
    let recorded = || async { Ok(pair.check(&[]).await?["surplus"] == family.len()) };
    await_true("the check names the families", PATIENCE, recorded).await?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("saved").display().to_string();
    let backup = format!("--backup={path}");

    let young = run(pair, "prune", &["--older-than=1h", "--dry-run"]).await?;
    ensure!(young.stdout.starts_with("0 of "), "{}", young.stdout);
    let plan = run(pair, "prune", &["--dry-run"]).await?;
    for part in ["Widget", "Apple", "ConfigMap", "Secret", "local", "owns 3 of the selected keys", APPS] {
        ensure!(plan.stdout.contains(part), "{part:?} is not in:\n{}", plan.stdout);
    }
    let pruned = run(pair, "prune", &["--yes", &backup]).await?;
    ensure!(pruned.code == Some(0), "{}{}", pruned.stdout, pruned.stderr);
    println!("{}", pruned.stdout.lines().filter(|line| line.contains(": ")).collect::<Vec<_>>().join("\n"));
    ensure!(values(pair, &keys).await?.is_empty(), "not everything is gone");
    let check = pair.check(&[]).await?;
    ensure!(check["consistent"] == json!(true), "{check:#}");

    // The collector shall know it.
    tokio::time::sleep(settle()? / 10).await;
    let restored = run(pair, "restore", &["--yes", &path, "-o", "json"]).await?;
    ensure!(restored.code == Some(0), "{}{}", restored.stdout, restored.stderr);
    print!("{}", restored.stderr);
    let (back, calm) = (Instant::now(), settle()? / 2);
    while back.elapsed() < calm {
        let after = values(pair, &keys).await?;
        let lost: Vec<&Bytes> = before.keys().filter(|key| after.get(*key) != before.get(*key)).collect();
        if !lost.is_empty() {
            let count = lost.len();
            let collected =
                pair.standby.audit()?.into_iter().filter(|event| event.is_collected() && event.namespace == APPS);
            let collected: Vec<String> = collected.map(|event| format!("{}/{}", event.resource, event.name)).collect();
            bail!("after {:?} {count} did not stay as they were: {lost:?}; collected: {collected:?}", back.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let served = pair.standby.api().identities().await?;
    for object in family {
        let key = String::from_utf8(key_of(object)?.to_vec())?;
        ensure!(served.get(&key).map(String::as_str) == object["metadata"]["uid"].as_str(), "{key} is another one");
    }
    Ok(())
}

/// Controllers take part too: what comes back without what it owns gets new ones made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_gets_its_own_replica_set_back() -> Result<()> {
    let pair = KubePair::start(PairOptions::new()).await?;
    pair.primary.api().create(&namespace(APPS)).await?;
    let daemon = pair.sync(&["--checkpoint-interval=200ms"]).await?;
    let outcome = deployment(&pair).await;
    pair.explain(Some(&daemon), outcome)
}

async fn deployment(pair: &KubePair) -> Result<()> {
    let (api, labels) = (pair.standby.api(), json!({"app": "web"}));
    let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "none"}]}});
    let made = api
        .create(&json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": APPS},
            "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template},
        }))
        .await?;
    let sets = async || {
        let found = api.need(&format!("/apis/apps/v1/namespaces/{APPS}/replicasets")).await?;
        let uids = found["items"].as_array().into_iter().flatten();
        anyhow::Ok(uids.map(|set| set["metadata"]["uid"].clone()).collect::<Vec<Value>>())
    };
    let pods = async || {
        let found = api.need(&format!("/api/v1/namespaces/{APPS}/pods")).await?;
        anyhow::Ok(found["items"].as_array().map_or(0, Vec::len))
    };
    await_true("the Deployment has its pod", PATIENCE, || async { Ok(pods().await? == 1) }).await?;
    let before = sets().await?;
    ensure!(before.len() == 1, "{before:?}");
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("saved").display().to_string();
    // The controllers write the status for a moment yet, and what is changed between plan and deletion stays.
    pair.await_quiet(&default_scope()?, Duration::from_secs(5), PATIENCE).await?;
    let pruned = run(pair, "prune", &["--yes", &format!("--backup={path}"), &format!("--namespace={APPS}")]).await?;
    ensure!(pruned.code == Some(0), "{}{}", pruned.stdout, pruned.stderr);
    // Whether the collector was at the ReplicaSet first or not.
    let saved: Vec<Bytes> = whole(Path::new(&path)).into_iter().map(|(key, _)| key).collect();
    ensure!(saved.len() == 2, "not the Deployment and its ReplicaSet are saved, but {saved:?}\n{}", pruned.stdout);
    let none = || async { Ok(pods().await? == 0 && sets().await?.is_empty()) };
    await_true("the collector has taken the pod", PATIENCE, none).await?;
    // One that remembers the Deployment as absent may take its ReplicaSet later than anybody waits, and there would be another.
    pair.standby.kill_controllers()?;
    pair.standby.start_controllers()?;
    let restored = run(pair, "restore", &["--yes", &path]).await?;
    ensure!(restored.code == Some(0), "{}{}", restored.stdout, restored.stderr);
    await_true("the Deployment has a pod again", PATIENCE, || async { Ok(pods().await? == 1) }).await?;
    tokio::time::sleep(settle()? / 6).await;
    let served = api.need(&path_of(&made)?).await?;
    assert_eq!(served["metadata"]["uid"], made["metadata"]["uid"]);
    assert_eq!((sets().await?, pods().await?), (before, 1));
    Ok(())
}

async fn values(pair: &KubePair, keys: &[Bytes]) -> Result<BTreeMap<Bytes, Bytes>> {
    let mut found = BTreeMap::new();
    for key in keys {
        found.extend(pair.link.standby.get(key).await?.map(|kv| (key.clone(), kv.value)));
    }
    Ok(found)
}

async fn run(pair: &KubePair, command: &str, more: &[&str]) -> Result<Output> {
    let mut args = vec![command.to_owned()];
    args.extend(pair.flags(more)?);
    run_command(&args).await.with_context(|| command.to_owned())
}
