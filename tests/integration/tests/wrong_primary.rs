//! A primary that is not the right one, or no longer what it was, is refused and destroys nothing; the way out that the
//! refusal names works.

use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use etcd_sync_core::link::question::{Question, Topic};
use etcd_sync_core::link::state::{Condition, StateKeys};
use etcd_sync_core::scope::STATE_ROOT;
use etcd_sync_integration::compare::await_until;
use etcd_sync_integration::daemon::{Daemon, run_command};
use etcd_sync_integration::etcd::{Cluster, ClusterOptions};
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::link::{Link, await_ready, config_keys, history};
use etcd_sync_integration::saved_keys;
use etcd_sync_store::Side;

const LOCAL: &str = "/registry/configmaps/team-b/made-on-the-standby";

/// A primary with these keys, and an empty standby.
async fn link_with(keys: &[Bytes]) -> Result<Link> {
    let link = Link::start(ClusterOptions::default(), ClusterOptions::default()).await?;
    fill(&link.primary, keys, "first").await?;
    Ok(link)
}

async fn fill(cluster: &Cluster, keys: &[Bytes], value: &str) -> Result<()> {
    for key in keys {
        cluster.put(key, value).await?;
    }
    Ok(())
}

/// Runs a daemon until the standby has caught up.
async fn synchronize(link: &Link) -> Result<()> {
    let daemon = link.daemon(&[])?;
    link.await_equal(PATIENCE).await?;
    assert!(daemon.terminate(PATIENCE).await?.success(), "{}", daemon.tail());
    Ok(())
}

/// Takes the way out that the refusal names: with the operator's answer the standby follows the primary it has now, and what it loses
/// is in the file.
async fn accept(link: &Link, daemon: &Daemon, topic: Topic) -> Result<Vec<(Bytes, Bytes)>> {
    let question = link.standby.get(&link.keys.question).await?.context("nothing is asked")?;
    assert_eq!(Question::decode(&question.value)?.topic, topic);
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("saved.jsonl");
    let output = link.run("accept", &[&format!("--backup={}", file.display()), "--yes"]).await?;
    assert_eq!(output.code, Some(0), "{output:?}\n{}", daemon.tail());
    Ok(saved_keys::whole(&file))
}

/// [`accept`], then the standby is like the primary.
async fn follow(link: &Link, daemon: &Daemon, topic: Topic) -> Result<Vec<(Bytes, Bytes)>> {
    let saved = accept(link, daemon, topic).await?;
    daemon.wait_line("Start Sync update", PATIENCE).await?;
    link.await_equal(PATIENCE).await.with_context(|| daemon.tail())?;
    for key in [&link.keys.condition, &link.keys.question, &link.keys.acceptance] {
        assert!(link.standby.get(key).await?.is_none(), "{key:?} outlived its reason");
    }
    Ok(saved)
}

/// Waits for a refusal in all its places: `/readyz`, the log, the metric, and the standby's condition for `status`.
async fn await_refusal(link: &Link, daemon: &Daemon, label: &str, text: &str) -> Result<String> {
    await_ready(daemon, 503, text, PATIENCE).await?;
    let line = daemon.wait_line(text, PATIENCE).await?;
    assert!(line.contains("ERROR") && line.contains(&format!("reason=\"{label}\"")), "{line}");
    assert_eq!(daemon.metric("etcd_sync_paused").await, Some(1.0));
    await_until("the condition says so", PATIENCE, || async {
        let Some(found) = link.standby.get(&link.keys.condition).await? else { return Ok(Some("none".to_owned())) };
        let condition: Condition = serde_json::from_slice(&found.value)?;
        Ok((!condition.paused.contains(text)).then_some(condition.paused))
    })
    .await?;
    let mut status = vec!["status".to_owned(), "--output=json".to_owned()];
    status.extend(link.flags(&[]));
    let status = run_command(&status).await?;
    assert!(status.stdout.contains(text), "{status:?}");
    Ok(line)
}

/// The refusal is a state, not a moment: after another look of the daemon everything is as it was.
async fn await_second_look(daemon: &Daemon, label: &str) -> Result<()> {
    // The log tells once; a look at the primary's revision goes on all the time, so time is all there is to wait for.
    tokio::time::sleep(Duration::from_millis(5500)).await;
    let told = daemon.lines().iter().filter(|line| line.contains(&format!("reason=\"{label}\""))).count();
    assert_eq!(told, 1, "the same refusal is logged once: {}", daemon.tail());
    assert!(daemon.exited()?.is_none());
    Ok(())
}

#[tokio::test]
async fn the_same_cluster_on_both_sides() -> Result<()> {
    let cluster = Cluster::start(ClusterOptions::default()).await?;
    fill(&cluster, &config_keys(20), "first").await?;
    let from = cluster.revision().await? + 1;
    let flags = [cluster.flags(Side::Primary), cluster.flags(Side::Standby)].concat();
    let daemon = Daemon::start(&flags, &[])?;
    await_ready(&daemon, 503, "primary and standby are the same etcd cluster", PATIENCE).await?;
    let line = daemon.wait_line("the same etcd cluster", PATIENCE).await?;
    assert!(line.contains("--standby-endpoints") && line.contains("reason=\"same_cluster\""), "{line}");
    await_second_look(&daemon, "same_cluster").await?;
    assert!(daemon.terminate(PATIENCE).await?.success());
    let changes = history(&cluster.client(), from).await?;
    assert!(changes.iter().all(|event| event.key().starts_with(STATE_ROOT)), "something else was written");

    // The way out: with the right standby the link works, although the wrong one was tried first.
    let link = Link {
        primary: cluster,
        standby: Cluster::start(ClusterOptions::default()).await?,
        keys: StateKeys::new("default"),
    };
    let daemon = link.daemon(&[])?;
    link.await_equal(PATIENCE).await.with_context(|| daemon.tail())
}

#[tokio::test]
async fn the_sides_swapped_at_first() -> Result<()> {
    let link = link_with(&config_keys(20)).await?;
    let before = history(&link.primary.client(), 1).await?.len();
    let swapped = [link.standby.flags(Side::Primary), link.primary.flags(Side::Standby)].concat();
    let daemon = Daemon::start(&swapped, &[])?;
    await_ready(&daemon, 503, "the primary holds no key below the synchronized prefixes", PATIENCE).await?;
    assert!(daemon.terminate(PATIENCE).await?.success());
    let changes = history(&link.primary.client(), 1).await?;
    assert!(changes[before..].iter().all(|event| event.key().starts_with(STATE_ROOT)), "something else was written");
    let daemon = link.daemon(&[])?;
    link.await_equal(PATIENCE).await.with_context(|| daemon.tail())
}

#[tokio::test]
async fn an_empty_primary_at_the_first_sync() -> Result<()> {
    let link = link_with(&[]).await?;
    link.standby.put(LOCAL, "local").await?;
    let before = link.synchronized_state().await?;
    let daemon = link.daemon(&[])?;
    let line = await_refusal(&link, &daemon, "empty_primary", "the primary holds no key below").await?;
    await_second_look(&daemon, "empty_primary").await?;
    assert_eq!(link.synchronized_state().await?, before);
    assert!(line.contains("run `etcd-sync accept`"), "{line}");

    let saved = accept(&link, &daemon, Topic::EmptyPrimary).await?;
    assert!(saved.is_empty(), "a link that has mirrored nothing loses nothing");
    daemon.wait_line("Start Sync update", PATIENCE).await?;
    fill(&link.primary, &config_keys(5), "later").await?;
    link.await_caught_up(PATIENCE).await?;
    assert!(link.standby.get(LOCAL).await?.is_some(), "a local key was deleted");
    assert_eq!(link.difference().await?.surplus, [Bytes::from_static(LOCAL.as_bytes())]);
    assert!(link.standby.get(&link.keys.condition).await?.is_none(), "the condition outlived its reason");
    Ok(())
}

/// The primary was emptied, and compacted, while nobody looked.
#[tokio::test]
async fn an_empty_primary_of_a_standby_that_was_in_sync() -> Result<()> {
    let keys = config_keys(50);
    let link = link_with(&keys).await?;
    synchronize(&link).await?;
    link.standby.put(LOCAL, "local").await?;
    link.primary.etcdctl(&["del", "--prefix", "/registry/"]).await?;
    link.primary.put("elsewhere", "1").await?;
    link.primary.compact(link.primary.revision().await?).await?;
    // The daemon resumes before it sees the compaction, and may put the local key on record meanwhile: the record is
    // written, with the same revision.
    let position = async || {
        let record = link.checkpoint().await?.context("there is a checkpoint")?;
        let mut all = link.synchronized_state().await?;
        all.remove(&link.keys.checkpoint);
        anyhow::Ok((all, record.primary, record.phase, record.revision))
    };
    let before = position().await?;
    assert_eq!(before.0.len(), keys.len() + 2);

    let daemon = link.daemon(&[])?;
    await_refusal(&link, &daemon, "empty_primary", "the primary holds no key below").await?;
    await_second_look(&daemon, "empty_primary").await?;
    assert_eq!(position().await?, before);

    let saved = accept(&link, &daemon, Topic::EmptyPrimary).await?;
    assert_eq!(saved.len(), keys.len());
    daemon.wait_line("Start Sync update", PATIENCE).await?;
    link.await_caught_up(PATIENCE).await?;
    assert_eq!(link.difference().await?.surplus, [Bytes::from_static(LOCAL.as_bytes())]);
    Ok(())
}

#[tokio::test]
async fn another_cluster() -> Result<()> {
    let keys = config_keys(300);
    let mut link = link_with(&keys).await?;
    synchronize(&link).await?;
    // Another one, further on than the first, and with most of the keys missing.
    let other = Cluster::start(ClusterOptions::default()).await?;
    for round in 0..20 {
        fill(&other, &keys[..20], &format!("other {round}")).await?;
    }
    link.primary = other;
    let before = link.synchronized_state().await?;
    let daemon = link.daemon(&[])?;
    let line = await_refusal(&link, &daemon, "other_primary", "but this link was made with cluster").await?;
    await_second_look(&daemon, "other_primary").await?;
    assert_eq!(link.synchronized_state().await?, before);
    assert!(line.contains("run `etcd-sync accept`"), "{line}");

    // What it would delete was shown and is accepted with it.
    let saved = follow(&link, &daemon, Topic::OtherPrimary).await?;
    assert_eq!(saved.len(), 300);
    assert!(saved.iter().all(|(_, value)| value == "first"));
    Ok(())
}

#[tokio::test]
async fn accepting_one_cluster_does_not_admit_a_third() -> Result<()> {
    let mut link = link_with(&config_keys(5)).await?;
    synchronize(&link).await?;
    let first = Cluster::start(ClusterOptions::default()).await?;
    fill(&first, &config_keys(5), "other").await?;
    link.primary = first;
    let daemon = link.daemon(&[])?;
    await_refusal(&link, &daemon, "other_primary", "but this link was made with cluster").await?;
    assert!(daemon.terminate(PATIENCE).await?.success());
    let saved = accept(&link, &daemon, Topic::OtherPrimary).await?;
    assert_eq!(saved.len(), 5);

    link.primary = Cluster::start(ClusterOptions::default()).await?;
    fill(&link.primary, &config_keys(5), "third").await?;
    let before = link.synchronized_state().await?;
    let daemon = link.daemon(&[])?;
    await_refusal(&link, &daemon, "other_primary", "but this link was made with cluster").await?;
    assert_eq!(link.synchronized_state().await?, before);
    Ok(())
}

/// A snapshot of a link that has caught up, and then more changes, also copied.
async fn link_with_snapshot(folder: &std::path::Path) -> Result<Link> {
    let keys = config_keys(60);
    let link = link_with(&keys[..40]).await?;
    link.primary.snapshot_save(&folder.join("snapshot.db")).await?;
    fill(&link.primary, &keys[20..], "after the snapshot").await?;
    Ok(link)
}

#[tokio::test]
async fn a_primary_restored_under_another_id() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut link = link_with_snapshot(folder.path()).await?;
    synchronize(&link).await?;
    link.primary = Cluster::restore(&folder.path().join("snapshot.db"), ClusterOptions::default()).await?;
    let before = link.synchronized_state().await?;
    let daemon = link.daemon(&[])?;
    await_refusal(&link, &daemon, "other_primary", "or the primary was rebuilt").await?;
    await_second_look(&daemon, "other_primary").await?;
    assert_eq!(link.synchronized_state().await?, before);
    let saved = follow(&link, &daemon, Topic::OtherPrimary).await?;
    assert_eq!(saved.len(), 40, "20 keys are replaced, 20 deleted");
    assert_eq!(link.standby.get(&config_keys(1)[0]).await?.context("key 0 is there")?.value, "first");
    Ok(())
}

/// The hardest to see: same addresses, same id, and the daemon runs on.
#[tokio::test]
async fn a_primary_put_back_under_the_same_id_while_the_daemon_runs() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let link = link_with_snapshot(folder.path()).await?;
    let daemon = link.daemon(&[])?;
    link.await_equal(PATIENCE).await?;
    let before = link.synchronized_state().await?;
    link.primary.restore_in_place(&folder.path().join("snapshot.db")).await?;
    await_refusal(&link, &daemon, "other_history", "history is not the one").await?;
    await_second_look(&daemon, "other_history").await?;
    assert_eq!(link.synchronized_state().await?, before);
    let saved = follow(&link, &daemon, Topic::OtherHistory).await?;
    assert_eq!(saved.len(), 40, "20 keys are replaced, 20 deleted");
    Ok(())
}

/// The same with the daemon started afterwards.
#[tokio::test]
async fn a_primary_put_back_under_the_same_id_before_the_daemon_starts() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let link = link_with_snapshot(folder.path()).await?;
    synchronize(&link).await?;
    link.primary.restore_in_place(&folder.path().join("snapshot.db")).await?;
    let before = link.synchronized_state().await?;
    let daemon = link.daemon(&[])?;
    await_refusal(&link, &daemon, "other_history", "history is not the one").await?;
    assert_eq!(link.synchronized_state().await?, before);
    Ok(())
}

/// Restored, and written to until its revision is beyond the checkpoint: only its history tells.
#[tokio::test]
async fn a_primary_put_back_that_overtook_the_checkpoint() -> Result<()> {
    for streamed in [false, true] {
        let folder = tempfile::tempdir()?;
        let link = link_with_snapshot(folder.path()).await?;
        let daemon = link.daemon(&[])?;
        link.await_equal(PATIENCE).await?;
        if streamed {
            fill(&link.primary, &config_keys(50)[45..], "streamed").await?;
            link.await_equal(PATIENCE).await?;
        }
        assert!(daemon.terminate(PATIENCE).await?.success(), "{}", daemon.tail());
        let head = link.primary.revision().await?;
        link.primary.restore_in_place(&folder.path().join("snapshot.db")).await?;
        while link.primary.revision().await? <= head + 5 {
            fill(&link.primary, &config_keys(30), "another history").await?;
        }
        let before = link.synchronized_state().await?;
        let daemon = link.daemon(&[])?;
        await_refusal(&link, &daemon, "other_history", "history is not the one").await?;
        assert_eq!(link.synchronized_state().await?, before);
        follow(&link, &daemon, Topic::OtherHistory).await?;
    }
    Ok(())
}

/// Somebody restores the standby's backup for a look, with other initial members, frees it from its role, and names it as the primary.
#[tokio::test]
async fn a_copy_of_the_standby_itself() -> Result<()> {
    let mut link = link_with(&config_keys(20)).await?;
    synchronize(&link).await?;
    let folder = tempfile::tempdir()?;
    let snapshot = folder.path().join("standby.db");
    link.standby.snapshot_save(&snapshot).await?;
    fill(&link.primary, &config_keys(20), "after the backup").await?;
    synchronize(&link).await?;
    let before = link.synchronized_state().await?;
    link.primary = Cluster::restore(&snapshot, ClusterOptions::default()).await?;
    link.primary.etcdctl(&["del", "--prefix", "/etcd-sync/default/"]).await?;
    let daemon = link.daemon(&[])?;
    let line = await_refusal(&link, &daemon, "copy_of_standby", "the primary is a copy of this standby").await?;
    assert!(line.contains("--primary-endpoints") && line.contains("/etcd-sync/identity"), "{line}");
    await_second_look(&daemon, "copy_of_standby").await?;
    assert!(link.standby.get(&link.keys.question).await?.is_none(), "no answer helps");
    assert_eq!(link.synchronized_state().await?, before);
    let plan = link.run("plan", &[]).await?;
    assert!(plan.code == Some(2) && plan.stderr.contains("a copy of this standby"), "{plan:?}");
    // The way out, if it is meant: then it is another primary, and that is asked.
    link.primary.delete("/etcd-sync/identity").await?;
    await_refusal(&link, &daemon, "other_primary", "but this link was made with cluster").await?;
    Ok(())
}
