//! A standby that is far behind a primary whose history is whole: following every change is not always the best way.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use etcd_sync_core::etcd::kv::{KeyRange, Revision};
use etcd_sync_core::etcd::request::{Op, Txn};
use etcd_sync_core::session::BACKLOG_LEAST;
use etcd_sync_integration::etcd::{Cluster, ClusterOptions};
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::http;
use etcd_sync_integration::link::{Link, config_keys};
use etcd_sync_store::{Etcd, Side, WatchMessage};
use futures_util::{StreamExt, TryStreamExt, stream};

/// Operations in a transaction that etcd takes.
const MANY_AT_ONCE: usize = 125;

/// Changes few keys very often; returns the revision before the first change.
async fn change_often(cluster: &Cluster, keys: usize, changes: usize, at_once: usize, size: usize) -> Result<Revision> {
    let before = cluster.put(b"/registry/first", b"").await?;
    let client = cluster.client();
    let txns = (0..changes / at_once).map(|number| {
        let keys = (0..at_once).map(move |i| (number * at_once + i) % keys);
        let put = move |key| Op::Put {
            key: format!("/registry/busy/{key:04}").into(),
            value: Bytes::from(vec![b'x'; size]),
            lease: 0,
        };
        let txn = Txn { success: keys.map(put).collect(), ..Txn::default() };
        let client = client.clone();
        async move { client.txn(txn).await.map(drop) }
    });
    stream::iter(txns).buffer_unordered(64).try_collect::<()>().await?;
    Ok(before)
}

/// etcd reads the whole backlog of a watch before it sends anything.
#[tokio::test]
async fn a_watch_with_a_long_backlog_is_waited_for() -> Result<()> {
    let cluster = Cluster::start(ClusterOptions::default()).await?;
    let start = change_often(&cluster, 500, 200_000, MANY_AT_ONCE, 1_000).await? + 1;
    let head = cluster.revision().await?;
    let mut options = cluster.store_options(Side::Primary);
    options.watch_silence = Duration::from_millis(150);
    let client = Etcd::new(options)?;
    let began = Instant::now();
    let mut watch = client.watch(KeyRange::prefix(b"/registry/"), start).await?;
    let mut longest = Duration::ZERO;
    loop {
        let asked = Instant::now();
        let message = tokio::time::timeout(PATIENCE, watch.next()).await?;
        longest = longest.max(asked.elapsed());
        match message? {
            WatchMessage::Events { events, .. } if events.last().is_some_and(|event| event.revision() >= head) => break,
            WatchMessage::Events { .. } => {}
            WatchMessage::Progress { revision } => bail!("progress at {revision} before the last change at {head}"),
        }
    }
    eprintln!("longest silence {longest:?}, all after {:?}", began.elapsed());
    Ok(())
}

/// Changes that a cluster has sent to watches, or read for them.
async fn watched_events(cluster: &Cluster) -> Result<f64> {
    let port = cluster.endpoint(0).rsplit_once(':').context("a port")?.1.parse()?;
    let answer = http::get(port, "/metrics", &[], PATIENCE).await?;
    let value = answer.body.lines().find_map(|line| line.strip_prefix("etcd_debugging_mvcc_events_total "));
    Ok(value.context("etcd counts the changes that it sends")?.parse()?)
}

/// A link that has caught up and is stopped while few keys of its primary are changed very often.
async fn fall_behind(changes: usize, at_once: usize) -> Result<Link> {
    let link = Link::start(ClusterOptions::default(), ClusterOptions::default()).await?;
    for key in config_keys(50) {
        link.primary.put(&key, "first").await?;
    }
    let daemon = link.daemon(&[])?;
    link.await_equal(PATIENCE).await?;
    daemon.terminate(PATIENCE).await?;
    change_often(&link.primary, 500, changes, at_once, 50).await?;
    link.primary.delete(&config_keys(1)[0]).await?;
    Ok(link)
}

/// etcd would read every change since into memory, to send them one after the other.
#[tokio::test]
async fn what_has_few_keys_and_many_changes_is_copied() -> Result<()> {
    let link = fall_behind(BACKLOG_LEAST as usize + 1_000, 1).await?;
    let before = watched_events(&link.primary).await?;
    let daemon = link.daemon(&[])?;
    link.await_equal(PATIENCE).await?;
    daemon.wait_line("a copy is the shorter way", PATIENCE).await?;
    let sent = watched_events(&link.primary).await? - before;
    ensure!(sent < 1_000.0, "the primary sent {sent} changes:\n{}", daemon.tail());
    Ok(())
}

/// The same where one revision has many changes, as nothing in Kubernetes makes them: its last revisions tell.
#[tokio::test]
async fn what_was_changed_in_large_transactions_is_copied() -> Result<()> {
    let link = fall_behind(2 * BACKLOG_LEAST as usize, MANY_AT_ONCE).await?;
    change_often(&link.primary, 500, 10 * MANY_AT_ONCE, MANY_AT_ONCE, 50).await?;
    let before = watched_events(&link.primary).await?;
    let daemon = link.daemon(&[])?;
    link.await_equal(PATIENCE).await?;
    daemon.wait_line("a copy is the shorter way", PATIENCE).await?;
    let sent = watched_events(&link.primary).await? - before;
    ensure!(sent < 10_000.0, "the primary sent {sent} changes:\n{}", daemon.tail());
    Ok(())
}

/// They may not tell: then it shows on the way.
#[tokio::test]
async fn a_backlog_that_turns_out_longer_than_its_revisions_is_copied() -> Result<()> {
    let link = fall_behind(4 * BACKLOG_LEAST as usize, MANY_AT_ONCE).await?;
    change_often(&link.primary, 500, 10, 1, 50).await?;
    let daemon = link.daemon(&[])?;
    link.await_equal(PATIENCE).await?;
    daemon.wait_line("the backlog is much longer than its revisions told", PATIENCE).await?;
    daemon.wait_line("a copy is the shorter way", PATIENCE).await?;
    let state = daemon.lines();
    let begun = state.iter().filter(|line| line.contains("resync by difference begins")).count();
    assert_eq!(begun, 1, "{}", daemon.tail());
    Ok(())
}

/// An hour away, with the load of a usual cluster: nothing is copied.
#[tokio::test]
async fn a_short_backlog_is_followed() -> Result<()> {
    let link = fall_behind(5_000, 1).await?;
    let daemon = link.daemon(&[])?;
    link.await_equal(PATIENCE).await?;
    let copied = daemon.lines().iter().any(|line| line.contains("resync by difference begins"));
    ensure!(!copied, "{}", daemon.tail());
    Ok(())
}
