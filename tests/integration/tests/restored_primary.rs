//! A cluster that was restored from a backup, in every way that etcd's documentation advises, and the same backup twice: nothing of
//! what only the standby has is lost without the operator's word. An ordinary long outage asks nothing.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use etcd_sync_core::etcd::kv::{KeyRange, KeyValue};
use etcd_sync_core::etcd::request::{Compare, Op, Txn};
use etcd_sync_core::link::history::HistoryRecord;
use etcd_sync_core::link::question::{Question, Topic};
use etcd_sync_integration::compare::{await_until, dump};
use etcd_sync_integration::daemon::Daemon;
use etcd_sync_integration::etcd::{Cluster, ClusterOptions};
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::link::{Link, await_ready, config_keys, registry};
use tempfile::TempDir;

const PAUSED: &str = "history is not the one this standby was synchronized from";

/// A pair in sync, a backup of the primary, and what was written after the backup and mirrored.
struct Fixture {
    link: Link,
    folder: TempDir,
}

impl Fixture {
    async fn start() -> Result<Fixture> {
        let link = Link::start(ClusterOptions::default(), ClusterOptions::default()).await?;
        let folder = tempfile::tempdir()?;
        fill(&link.primary, 0..40, "before the backup").await?;
        beat(&link.primary, 3).await?;
        link.primary.snapshot_save(&folder.path().join("snapshot.db")).await?;
        Ok(Fixture { link, folder })
    }

    fn snapshot(&self) -> std::path::PathBuf {
        self.folder.path().join("snapshot.db")
    }

    /// Mirrors what is written after the backup; gives the running daemon.
    async fn mirror_more(&self) -> Result<Daemon> {
        let daemon = self.link.daemon(&[])?;
        daemon.wait_line("Start Sync update", PATIENCE).await?;
        // Streamed, and the newest of them a creation.
        fill(&self.link.primary, 20..60, "after the backup").await?;
        self.link.await_equal(PATIENCE).await?;
        Ok(daemon)
    }

    async fn mirrored(&self) -> Result<BTreeMap<Bytes, KeyValue>> {
        dump(&self.link.standby.client(), &registry(), 0).await
    }

    async fn question(&self) -> Result<Option<Question>> {
        let found = self.link.standby.get(&self.link.keys.question).await?;
        Ok(found.map(|kv| Question::decode(&kv.value)).transpose()?)
    }

    /// Paused for the true reason, on record, and nothing mirrored was touched.
    async fn await_paused(&self, daemon: &Daemon, before: &BTreeMap<Bytes, KeyValue>) -> Result<()> {
        await_ready(daemon, 503, PAUSED, PATIENCE).await.with_context(|| daemon.tail())?;
        await_until("the question is on record", PATIENCE, || async {
            let question = self.question().await?;
            let asked = question.as_ref().is_some_and(|question| question.topic == Topic::OtherHistory);
            Ok((!asked).then(|| format!("{question:?}")))
        })
        .await?;
        ensure!(self.mirrored().await? == *before, "something mirrored was changed");
        Ok(())
    }
}

async fn fill(cluster: &Cluster, range: std::ops::Range<usize>, value: &str) -> Result<()> {
    for key in &config_keys(range.end)[range] {
        cluster.put(key, value).await?;
    }
    Ok(())
}

/// What every API server writes all the time, out of scope.
async fn beat(cluster: &Cluster, times: usize) -> Result<()> {
    for time in 0..times {
        cluster.put("/registry/leases/kube-node-lease/node-1", time.to_string()).await?;
    }
    Ok(())
}

/// Writes out of scope until the revision has passed what it was before, then compacts everything.
async fn overtake_and_compact(cluster: &Cluster, head: i64) -> Result<()> {
    while cluster.revision().await? <= head + 20 {
        beat(cluster, 5).await?;
    }
    cluster.compact(cluster.revision().await?).await
}

/// The schedule of the worst fault: the pause must outlast overtaking, compaction, and a restart of the daemon.
#[tokio::test]
async fn paused_for_good_although_it_is_overtaken_and_compacted_meanwhile() -> Result<()> {
    let fixture = Fixture::start().await?;
    let link = &fixture.link;
    let daemon = fixture.mirror_more().await?;
    let (before, head) = (fixture.mirrored().await?, link.primary.revision().await?);
    link.primary.restore_in_place(&fixture.snapshot()).await?;
    fixture.await_paused(&daemon, &before).await?;
    overtake_and_compact(&link.primary, head).await?;
    // The proof of the revision is gone; each further look finds the standing question.
    let first = fixture.question().await?;
    let attempts = daemon.metric("etcd_sync_paused").await;
    ensure!(attempts == Some(1.0), "{attempts:?}");
    ensure!(daemon.terminate(PATIENCE).await?.success());
    let daemon = link.daemon(&[])?;
    fixture.await_paused(&daemon, &before).await?;
    ensure!(fixture.question().await?.map(|question| question.evidence) == first.map(|question| question.evidence));
    Ok(())
}

/// As etcd's and Kubernetes' documentation advise it: revisions far ahead, nothing of the past readable.
#[tokio::test]
async fn restored_with_a_bumped_revision_under_the_running_daemon() -> Result<()> {
    let fixture = Fixture::start().await?;
    let daemon = fixture.mirror_more().await?;
    let before = fixture.mirrored().await?;
    restore_bumped(&fixture.link.primary, &fixture.snapshot()).await?;
    await_paused_while_beating(&fixture.link.primary, &daemon).await?;
    fixture.await_paused(&daemon, &before).await
}

/// The same before the daemon starts.
#[tokio::test]
async fn restored_with_a_bumped_revision_while_the_daemon_is_away() -> Result<()> {
    let fixture = Fixture::start().await?;
    ensure!(fixture.mirror_more().await?.terminate(PATIENCE).await?.success());
    let before = fixture.mirrored().await?;
    restore_bumped(&fixture.link.primary, &fixture.snapshot()).await?;
    let daemon = fixture.link.daemon(&[])?;
    await_paused_while_beating(&fixture.link.primary, &daemon).await?;
    fixture.await_paused(&daemon, &before).await
}

/// The next entry of the raft log proves what the first reading makes likely.
async fn await_paused_while_beating(primary: &Cluster, daemon: &Daemon) -> Result<()> {
    await_until("paused", PATIENCE, || async {
        beat(primary, 1).await?;
        let (status, body) = daemon.http("/readyz").await?;
        Ok((status != 503 || !body.contains(PAUSED)).then_some(body))
    })
    .await
    .with_context(|| daemon.tail())
}

async fn restore_bumped(cluster: &Cluster, snapshot: &Path) -> Result<()> {
    cluster.restore_in_place_with(snapshot, &["--bump-revision=1000000000", "--mark-compacted"]).await
}

#[tokio::test]
async fn restored_overtaken_and_compacted_while_the_daemon_is_away() -> Result<()> {
    let fixture = Fixture::start().await?;
    ensure!(fixture.mirror_more().await?.terminate(PATIENCE).await?.success());
    let (before, head) = (fixture.mirrored().await?, fixture.link.primary.revision().await?);
    fixture.link.primary.restore_in_place(&fixture.snapshot()).await?;
    fill(&fixture.link.primary, 0..10, "another history").await?;
    overtake_and_compact(&fixture.link.primary, head).await?;
    let daemon = fixture.link.daemon(&[])?;
    await_paused_while_beating(&fixture.link.primary, &daemon).await?;
    fixture.await_paused(&daemon, &before).await
}

/// The last change that was followed is a deletion, and the restored primary deletes that key at the very same revision: by its
/// witness alone it looks the same.
#[tokio::test]
async fn a_deletion_at_the_same_revision_proves_nothing() -> Result<()> {
    let fixture = Fixture::start().await?;
    let primary = &fixture.link.primary;
    let (doomed, restored_at) = (&config_keys(1)[0], primary.revision().await?);
    let daemon = fixture.mirror_more().await?;
    let deleted_at = primary.delete(doomed).await?;
    fixture.link.await_equal(PATIENCE).await?;
    await_until("the last keys are on record", PATIENCE, || async {
        let found = fixture.link.standby.get(&fixture.link.keys.history).await?;
        let record = found.map(|kv| HistoryRecord::decode(&kv.value)).transpose()?;
        Ok(record.is_none_or(|record| record.revision < deleted_at).then(|| "older ones".to_owned()))
    })
    .await?;
    ensure!(daemon.terminate(PATIENCE).await?.success());
    let before = fixture.mirrored().await?;
    primary.restore_in_place(&fixture.snapshot()).await?;
    let others = usize::try_from(deleted_at - restored_at - 1)?;
    fill(primary, 20..20 + others, "another history").await?;
    assert_eq!(primary.delete(doomed).await?, deleted_at);
    // More log entries without revisions than in the first life: the raft log is no proof.
    let never = Compare::ModRevision { key: Bytes::from_static(b"/"), revision: 1 };
    let put = Op::Put { key: Bytes::from_static(b"/"), value: Bytes::new(), lease: 0 };
    for _ in 0..2 * deleted_at {
        let (compares, success) = (vec![never.clone()], vec![put.clone()]);
        ensure!(!primary.client().txn(Txn { compares, success, failure: vec![] }).await?.succeeded);
    }
    let daemon = fixture.link.daemon(&[])?;
    fixture.await_paused(&daemon, &before).await
}

/// Restored twice from the same backup: the raft log proves nothing the second time, once it has as many entries again. What was
/// written between the restores is on the standby only.
#[tokio::test]
async fn the_same_backup_restored_twice() -> Result<()> {
    let fixture = Fixture::start().await?;
    let link = &fixture.link;
    // The link has only ever seen the history after the first restore.
    link.primary.restore_in_place(&fixture.snapshot()).await?;
    let daemon = fixture.mirror_more().await?;
    ensure!(daemon.terminate(PATIENCE).await?.success());
    let (before, head) = (fixture.mirrored().await?, link.primary.revision().await?);
    link.primary.restore_in_place(&fixture.snapshot()).await?;
    // More log entries without revisions than in the first life: D is no proof.
    for _ in 0..200 {
        link.primary.etcdctl(&["lease", "grant", "600"]).await?;
        if link
            .primary
            .store(etcd_sync_store::Side::Primary)?
            .raft_reading()
            .await?
            .is_some_and(|reading| reading.lower() > 0)
        {
            break;
        }
    }
    overtake_and_compact(&link.primary, head).await?;
    let daemon = link.daemon(&[])?;
    // Either it is proved by a value that differs, or what goes is saved before.
    await_until("paused, or synchronized with everything saved", PATIENCE, || async {
        let (status, body) = daemon.http("/readyz").await?;
        Ok((!(status == 200 || body.contains(PAUSED))).then_some(body))
    })
    .await
    .with_context(|| daemon.tail())?;
    let now = fixture.mirrored().await?;
    let saved = dump(&link.standby.client(), &KeyRange::prefix(&link.keys.saved_prefix), 0).await?;
    for (key, kv) in &before {
        let entry = link.keys.saved_entry(key);
        let is_kept = now.get(key).is_some_and(|now| now.value == kv.value);
        let is_saved = saved.get(&entry).is_some_and(|saved| saved.value == kv.value);
        ensure!(is_kept || is_saved, "{key:?} is lost:\n{}", daemon.tail());
    }
    Ok(())
}

/// Two hours away under ordinary load: history compacted, all values encrypted again with a new key, Jobs come and gone, some
/// objects edited by the standby's own controllers.
#[tokio::test]
async fn an_ordinary_long_outage_asks_nothing() -> Result<()> {
    let link = Link::start(ClusterOptions::default(), ClusterOptions::default()).await?;
    let count = 1_000;
    fill(&link.primary, 0..count, "first").await?;
    let daemon = link.daemon(&[])?;
    daemon.wait_line("Start Sync update", PATIENCE).await?;
    for number in 0..5 {
        link.primary.put(format!("/registry/configmaps/team-a/settings-{number:04}"), "live").await?;
    }
    link.await_equal(PATIENCE).await?;
    for key in &config_keys(60)[40..] {
        link.standby.put(key, "status of the standby's controllers").await?;
    }
    await_until("the edits are on record", PATIENCE, || async {
        let edits = dump(&link.standby.client(), &KeyRange::prefix(&link.keys.edited_prefix), 0).await?;
        Ok((edits.len() < 20).then(|| format!("{} edits", edits.len())))
    })
    .await?;
    // The lists of the history are written now and then.
    let number = std::cell::Cell::new(0);
    await_until("the history is on record", PATIENCE, || async {
        number.set(number.get() + 1);
        link.primary.put(format!("/registry/configmaps/team-a/streamed-{:04}", number.get()), "created").await?;
        let Some(found) = link.standby.get(&link.keys.history).await? else { return Ok(Some("none".to_owned())) };
        let record = etcd_sync_core::link::history::HistoryRecord::decode(&found.value)?;
        let newest = record.created.iter().any(|entry| entry.key.contains("streamed"));
        Ok((!newest).then(|| format!("{record:?}")))
    })
    .await?;
    link.await_passed(link.primary.revision().await?, PATIENCE).await?;
    ensure!(daemon.terminate(PATIENCE).await?.success());

    // A new encryption key: every value is written again.
    fill(&link.primary, 0..count, "encrypted again").await?;
    for key in &config_keys(count)[count - 90..] {
        link.primary.delete(key).await?;
    }
    for number in 1..=number.get() {
        link.primary.put(format!("/registry/configmaps/team-a/streamed-{number:04}"), "encrypted again").await?;
    }
    beat(&link.primary, 20).await?;
    link.primary.compact(link.primary.revision().await?).await?;
    let daemon = link.daemon(&[])?;
    daemon.wait_line("Start Sync update", PATIENCE).await.with_context(|| daemon.tail())?;
    link.await_equal(PATIENCE).await.with_context(|| daemon.tail())?;
    ensure!(!daemon.lines().iter().any(|line| line.contains("paused")), "{}", daemon.tail());
    let saved = dump(&link.standby.client(), &KeyRange::prefix(&link.keys.saved_prefix), 0).await?;
    ensure!(saved.is_empty(), "{} values were saved although the history is proved", saved.len());
    Ok(())
}

/// The standby's own etcd is put back to a backup: its role and its record go back with it.
#[tokio::test]
async fn a_restored_standby_pauses_and_says_from_when_its_record_is() -> Result<()> {
    let link = Link::start(ClusterOptions::default(), ClusterOptions::default()).await?;
    let folder = tempfile::tempdir()?;
    fill(&link.primary, 0..30, "first").await?;
    let daemon = link.daemon(&[])?;
    link.await_equal(PATIENCE).await?;
    let snapshot = folder.path().join("snapshot.db");
    link.standby.snapshot_save(&snapshot).await?;
    fill(&link.primary, 30..40, "later").await?;
    link.await_equal(PATIENCE).await?;
    ensure!(daemon.terminate(PATIENCE).await?.success());
    link.standby.restore_in_place(&snapshot).await?;
    let daemon = link.daemon(&[])?;
    await_ready(&daemon, 503, "the standby's etcd was restored from a backup", PATIENCE)
        .await
        .with_context(|| daemon.tail())?;
    await_ready(&daemon, 503, "If this cluster was promoted since then, do not stream into it", PATIENCE).await?;
    ensure!(link.difference().await?.missed.len() == 10, "it streamed into it");
    Ok(())
}

/// What flags make of a cluster at the same endpoints that begins from nothing: etcd's cluster id is a hash of members and token.
const OTHER_ID: &[&str] = &["--initial-cluster-token=rebuilt"];
const SAME_ID: &[&str] = &[];

/// A pair in sync with a running daemon, and a snapshot of the standby when it was empty.
async fn before_a_rebuild() -> Result<(Link, Daemon, TempDir)> {
    let link = Link::start(ClusterOptions::default(), ClusterOptions::default()).await?;
    let folder = tempfile::tempdir()?;
    link.standby.snapshot_save(&folder.path().join("snapshot.db")).await?;
    fill(&link.primary, 0..30, "first").await?;
    let daemon = link.daemon(&["--leader-ttl=10s"])?;
    link.await_equal(PATIENCE).await?;
    Ok((link, daemon, folder))
}

/// The process ends with the reason, so that its pod starts again; what starts then judges the new cluster from the beginning.
async fn await_end(daemon: &Daemon, side: &str) -> Result<()> {
    let status = daemon.wait(PATIENCE).await.with_context(|| daemon.tail())?;
    ensure!(status.code() == Some(2), "{status:?}: {}", daemon.tail());
    let text = format!("the {side}'s endpoints lead to another cluster now");
    ensure!(daemon.lines().iter().any(|line| line.contains(&text)), "{}", daemon.tail());
    Ok(())
}

#[tokio::test]
async fn a_standby_rebuilt_under_the_running_daemon_is_filled_again() -> Result<()> {
    let (link, daemon, folder) = before_a_rebuild().await?;
    let waits = link.daemon(&["--leader-ttl=10s"])?;
    waits.wait_line("waiting behind another leader", PATIENCE).await?;
    link.standby.restore_in_place_with(&folder.path().join("snapshot.db"), OTHER_ID).await?;
    await_end(&daemon, "standby").await?;
    await_end(&waits, "standby").await?;
    ensure!(link.difference().await?.missed.len() == 30, "it was written by a process that knew the old one");
    let daemon = link.daemon(&[])?;
    link.await_equal(PATIENCE).await.with_context(|| daemon.tail())
}

#[tokio::test]
async fn a_standby_rebuilt_with_the_same_cluster_id_is_filled_again() -> Result<()> {
    let (link, daemon, folder) = before_a_rebuild().await?;
    link.standby.restore_in_place_with(&folder.path().join("snapshot.db"), SAME_ID).await?;
    link.await_equal(PATIENCE).await.with_context(|| daemon.tail())?;
    ensure!(daemon.exited()?.is_none());
    Ok(())
}

/// Restored with other initial members or another token the standby is the same one: it asks, as with the same cluster id.
#[tokio::test]
async fn a_standby_restored_with_another_cluster_id_under_the_running_daemon_asks() -> Result<()> {
    let (link, daemon, folder) = before_a_rebuild().await?;
    let snapshot = folder.path().join("later.db");
    link.standby.snapshot_save(&snapshot).await?;
    fill(&link.primary, 30..40, "later").await?;
    link.await_equal(PATIENCE).await?;
    link.standby.restore_in_place_with(&snapshot, OTHER_ID).await?;
    await_end(&daemon, "standby").await?;
    let daemon = link.daemon(&[])?;
    await_ready(&daemon, 503, "the standby's etcd was restored from a backup", PATIENCE)
        .await
        .with_context(|| daemon.tail())?;
    ensure!(link.difference().await?.missed.len() == 10, "it streamed into it");
    Ok(())
}

#[tokio::test]
async fn a_monitor_whose_cluster_is_rebuilt_ends_and_then_sees_the_new_one() -> Result<()> {
    let (link, daemon, folder) = before_a_rebuild().await?;
    let monitor = link.monitor(&[])?;
    await_ready(&monitor, 200, "", PATIENCE).await?;
    let snapshot = folder.path().join("primary.db");
    link.primary.snapshot_save(&snapshot).await?;
    link.primary.restore_in_place_with(&snapshot, OTHER_ID).await?;
    await_end(&monitor, "primary").await?;
    // The daemon asks, and goes on with the new primary once it is accepted; so does a monitor that has started meanwhile.
    await_ready(&daemon, 503, "but this link was made with cluster", PATIENCE).await?;
    let monitor = link.monitor(&[])?;
    let file = folder.path().join("saved.jsonl");
    let output = link.run("accept", &[&format!("--backup={}", file.display()), "--yes"]).await?;
    ensure!(output.code == Some(0), "{output:?}");
    link.await_equal(PATIENCE).await?;
    await_until("the monitor has a verdict", PATIENCE, || async {
        let (_, body) = monitor.http("/check").await?;
        Ok((!body.contains("LOCAL ETCD missed keys: 0")).then_some(body))
    })
    .await?;
    ensure!(monitor.exited()?.is_none());

    link.standby.restore_in_place_with(&folder.path().join("snapshot.db"), OTHER_ID).await?;
    await_end(&monitor, "standby").await
}
