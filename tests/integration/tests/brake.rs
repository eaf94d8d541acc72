//! A mass deletion on the primary stops before it reaches the standby, and goes on with the operator's answer.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use etcd_sync_core::etcd::kv::KeyRange;
use etcd_sync_core::etcd::request::{Op, Txn};
use etcd_sync_core::link::question::{Acceptance, Question, Topic};
use etcd_sync_core::link::state::Phase;
use etcd_sync_integration::compare::await_until;
use etcd_sync_integration::daemon::{Daemon, run_command};
use etcd_sync_integration::etcd::ClusterOptions;
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::link::{Link, await_ready};

const CRD: &str = "/registry/apiextensions.k8s.io/customresourcedefinitions/widgets.example.com";

/// A link that streams, with these objects on both sides.
async fn streaming(objects: &[String]) -> Result<(Link, Daemon)> {
    let link = Link::start(ClusterOptions::default(), ClusterOptions::default()).await?;
    put_all(&link, objects).await?;
    let daemon = link.daemon(&[])?;
    link.await_equal(PATIENCE).await.with_context(|| daemon.tail())?;
    Ok((link, daemon))
}

fn objects(resource: &str, namespace: &str, count: usize) -> Vec<String> {
    (0..count).map(|i| format!("/registry/{resource}/{namespace}/{i:04}")).collect()
}

async fn put_all(link: &Link, objects: &[String]) -> Result<()> {
    for keys in objects.chunks(100) {
        let put = |key: &String| Op::Put { key: key.clone().into(), value: object(key, false), lease: 0 };
        let success = keys.iter().map(put).collect();
        link.primary.client().txn(Txn { success, ..Txn::default() }).await?;
    }
    Ok(())
}

/// The value of an object, perhaps marked for deletion.
fn object(key: &str, deleting: bool) -> Bytes {
    let name = key.rsplit('/').next();
    let mark = deleting.then_some("2026-01-01T00:00:00Z");
    let metadata = serde_json::json!({ "name": name, "uid": key, "deletionTimestamp": mark });
    serde_json::json!({ "apiVersion": "v1", "kind": "Any", "metadata": metadata }).to_string().into()
}

async fn mark(link: &Link, key: &str) -> Result<()> {
    link.primary.put(key, object(key, true)).await?;
    Ok(())
}

async fn count(link: &Link, prefix: &str) -> Result<usize> {
    link.standby.client().count(&KeyRange::prefix(prefix.as_bytes())).await
}

/// Waits until the brake is on, in all places where people look; gives what is asked.
async fn await_brake(link: &Link, daemon: &Daemon, evidence: &str) -> Result<Question> {
    await_ready(daemon, 503, "the brake is on", PATIENCE).await.with_context(|| daemon.tail())?;
    let line = daemon.wait_line(evidence, PATIENCE).await?;
    assert!(line.contains("ERROR") && line.contains("reason=\"brake\"") && line.contains("etcd-sync accept"), "{line}");
    assert_eq!(daemon.metric("etcd_sync_paused").await, Some(1.0));
    await_until("the question is on record", PATIENCE, || async {
        Ok(link.standby.get(&link.keys.question).await?.is_none().then(|| "none".to_owned()))
    })
    .await?;
    let found = link.standby.get(&link.keys.question).await?.context("it was there")?;
    let question = Question::decode(&found.value)?;
    assert_eq!(question.topic, Topic::Brake);
    assert!(question.evidence.contains(evidence), "{question:?}");
    Ok(question)
}

/// What the operator answers.
async fn accept(link: &Link, question: &Question) -> Result<()> {
    let groups = question.losses.clone().context("what would be lost")?.groups.into_keys().collect();
    let acceptance = Acceptance {
        format: Acceptance::FORMAT,
        topic: question.topic,
        evidence: question.evidence.clone(),
        primary: question.primary.clone(),
        primary_raft: None,
        groups,
        earlier: vec![],
        given_ms: SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64,
        by: "operator".into(),
    };
    link.standby.put(&link.keys.acceptance, acceptance.encode()).await?;
    Ok(())
}

async fn await_goes_on(link: &Link) -> Result<()> {
    link.await_equal(PATIENCE).await?;
    assert!(link.standby.get(&link.keys.question).await?.is_none(), "the question outlived its answer");
    assert!(link.standby.get(&link.keys.condition).await?.is_none(), "the condition outlived its reason");
    Ok(())
}

#[tokio::test]
async fn a_resource_that_is_deleted_by_prefix_stays_until_it_is_accepted() -> Result<()> {
    let all =
        [objects("deployments", "a", 20), objects("deployments", "b", 10), objects("configmaps", "a", 50)].concat();
    let (link, daemon) = streaming(&all).await?;
    link.primary.etcdctl(&["del", "--prefix", "/registry/deployments/"]).await?;
    let evidence = "all 30 deployments that this standby has are deleted on the primary within 60 s";
    let question = await_brake(&link, &daemon, evidence).await?;
    let losses = question.losses.as_ref().context("what would be lost")?;
    assert_eq!((losses.deletions, losses.groups.len()), (30, 2));
    assert_eq!(count(&link, "/registry/deployments/").await?, 30);
    let mut status = vec!["status".to_owned()];
    status.extend(link.flags(&[]));
    let status = run_command(&status).await?;
    assert!(status.stdout.contains("the brake is on"), "{status:?}");

    // Neither another leader nor a primary that has compacted past the checkpoint takes it for answered.
    daemon.kill()?;
    link.expire_leader().await?;
    link.primary.compact(link.primary.revision().await?).await?;
    let daemon = link.daemon(&[])?;
    let question = await_brake(&link, &daemon, evidence).await?;
    assert_eq!(count(&link, "/registry/deployments/").await?, 30);
    accept(&link, &question).await?;
    await_goes_on(&link).await.with_context(|| daemon.tail())
}

#[tokio::test]
async fn a_namespace_that_is_marked_takes_nothing_with_it_until_it_is_accepted() -> Result<()> {
    let namespace = "/registry/namespaces/big";
    let inside = [objects("configmaps", "big", 900), objects("secrets", "big", 600)].concat();
    let others = [objects("configmaps", "a", 50), objects("secrets", "a", 50), objects("namespaces", "x", 1)].concat();
    let (link, mut daemon) = streaming(&[vec![namespace.to_owned()], inside.clone(), others].concat()).await?;
    mark(&link, namespace).await?;
    let question = await_brake(&link, &daemon, "1501 keys of this standby").await?;
    let losses = question.losses.as_ref().context("what would be lost")?;
    let groups: Vec<_> = losses.groups.iter().map(|(group, keys)| (group.to_string(), *keys)).collect();
    let expected = [("configmaps in big", 900), ("namespaces", 1), ("secrets in big", 600)];
    assert_eq!(groups, expected.map(|(group, keys)| (group.to_owned(), keys)));
    let there = link.standby.get(namespace).await?.context("it stays")?;
    assert!(there.value == object(namespace, false), "the mark was written");

    // The deletions go in batches, and the leader changes in between.
    accept(&link, &question).await?;
    await_goes_on(&link).await.with_context(|| daemon.tail())?;
    for (i, key) in inside.iter().enumerate() {
        link.primary.delete(key).await?;
        if i == 700 {
            daemon.kill()?;
            link.expire_leader().await?;
            daemon = link.daemon(&[])?;
        }
    }
    link.primary.delete(namespace).await?;
    await_goes_on(&link).await.with_context(|| daemon.tail())?;
    assert!(!daemon.lines().iter().any(|line| line.contains("paused")), "{}", daemon.tail());
    Ok(())
}

#[tokio::test]
async fn a_crd_with_objects_is_not_marked_until_it_is_accepted() -> Result<()> {
    let widgets = [objects("example.com/widgets", "a", 2), objects("example.com/widgets", "b", 1)].concat();
    let (link, daemon) = streaming(&[vec![CRD.to_owned()], widgets.clone()].concat()).await?;
    mark(&link, CRD).await?;
    let question = await_brake(&link, &daemon, "the CRD widgets.example.com is deleted on the primary").await?;
    assert!(question.evidence.ends_with("this standby has 3 objects of it"), "{question:?}");
    let there = link.standby.get(CRD).await?.context("it stays")?;
    assert!(there.value == object(CRD, false), "the mark was written");
    accept(&link, &question).await?;
    for key in &widgets {
        link.primary.delete(key).await?;
    }
    link.primary.delete(CRD).await?;
    await_goes_on(&link).await.with_context(|| daemon.tail())
}

#[tokio::test]
async fn ordinary_deletions_pass_at_once() -> Result<()> {
    let namespace = "/registry/namespaces/small";
    let inside = [objects("configmaps", "small", 30), objects("secrets", "small", 20)].concat();
    let others = [objects("configmaps", "a", 900), objects("secrets", "a", 600), objects("jobs", "a", 40)].concat();
    let (link, daemon) = streaming(&[vec![namespace.to_owned()], inside.clone(), others].concat()).await?;
    let begun = Instant::now();
    // An ordinary namespace; most ConfigMaps at once; all Jobs.
    mark(&link, namespace).await?;
    for key in &inside {
        link.primary.delete(key).await?;
    }
    link.primary.delete(namespace).await?;
    link.primary.etcdctl(&["del", "/registry/configmaps/a/0000", "/registry/configmaps/a/0800"]).await?;
    link.primary.etcdctl(&["del", "--prefix", "/registry/jobs/"]).await?;
    link.await_equal(PATIENCE).await.with_context(|| daemon.tail())?;
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(!daemon.lines().iter().any(|line| line.contains("paused")), "{}", daemon.tail());
    Ok(())
}

#[tokio::test]
async fn one_by_one_it_stops_at_the_limit_and_restarts_take_no_more() -> Result<()> {
    let all: Vec<String> = (0..30).flat_map(|i| objects("configmaps", &format!("team-{i}"), 50)).collect();
    let (link, mut daemon) = streaming(&all).await?;
    for key in &all[..1_200] {
        link.primary.delete(key).await?;
    }
    let question = await_brake(&link, &daemon, "keys of this standby are deleted on the primary within 60 s").await?;
    let left = count(&link, "/registry/configmaps/").await?;
    ensure!(left >= 500, "{left} are left");
    for _ in 0..2 {
        daemon.kill()?;
        link.expire_leader().await?;
        daemon = link.daemon(&[])?;
        await_brake(&link, &daemon, "keys of this standby are deleted on the primary within 60 s").await?;
    }
    assert_eq!(count(&link, "/registry/configmaps/").await?, left);
    let checkpoint = link.checkpoint().await?.context("it has streamed")?;
    assert_eq!(checkpoint.phase, Phase::Streaming);

    // The answer covers the kinds and namespaces that it was asked for, and what is left of the rest is below the limit.
    accept(&link, &question).await?;
    await_goes_on(&link).await.with_context(|| daemon.tail())
}

#[tokio::test]
async fn turned_off_everything_passes() -> Result<()> {
    let all = [objects("deployments", "a", 30), objects("configmaps", "a", 5)].concat();
    let (link, daemon) = streaming(&all).await?;
    link.primary.etcdctl(&["del", "--prefix", "/registry/deployments/"]).await?;
    await_brake(&link, &daemon, "all 30 deployments").await?;
    assert!(daemon.terminate(PATIENCE).await?.success());
    let daemon = link.daemon(&["--brake-keys=0", "--brake-resource-keys=0", "--brake-crd=false"])?;
    await_goes_on(&link).await.with_context(|| daemon.tail())
}
