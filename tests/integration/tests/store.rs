//! The store against real etcds, where only its own view of a cluster matters.

use std::time::Duration;

use anyhow::Result;
use etcd_sync_core::etcd::kv::{Event, KeyRange};
use etcd_sync_integration::compare::await_true;
use etcd_sync_integration::etcd::{Cluster, ClusterOptions};
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::tools::EtcdVersion;
use etcd_sync_store::{Etcd, Side, WatchMessage};

/// etcd lets a token of the former life wait for a log index that may never come again.
#[tokio::test]
async fn a_client_with_a_password_outlives_a_restore() -> Result<()> {
    let cluster = Cluster::start(ClusterOptions { auth: true, ..ClusterOptions::default() }).await?;
    let mut options = cluster.store_options(Side::Primary);
    options.request_timeout = Duration::from_secs(2);
    let client = Etcd::new(options)?;
    cluster.put(b"a", b"1").await?;
    let folder = tempfile::tempdir()?;
    let snapshot = folder.path().join("snapshot.db");
    cluster.snapshot_save(&snapshot).await?;
    for number in 0..20 {
        cluster.put(b"b", format!("{number}").as_bytes()).await?;
    }
    let has_read = || async { Ok(client.get(b"b").await?.0.is_some()) };
    await_true("the client has a token", PATIENCE, has_read).await?;
    cluster.restore_in_place(&snapshot).await?;
    await_true("the client reads the restored cluster", PATIENCE, || async {
        Ok(client.get(b"b").await.is_ok_and(|(found, _)| found.is_none()))
    })
    .await
}

/// etcd tells no progress to a watch that starts behind its newest revision; it must not look dead on a quiet cluster.
#[tokio::test]
async fn a_watch_on_a_quiet_cluster_is_told_progress_and_misses_nothing() -> Result<()> {
    for version in [EtcdVersion::V3_6, EtcdVersion::V3_5] {
        let cluster = Cluster::start(ClusterOptions { version, ..ClusterOptions::default() }).await?;
        let head = cluster.put(b"/registry/a", b"1").await?;
        cluster.compact(head).await?;
        let client = cluster.store(Side::Primary)?;
        let mut watch = client.watch(KeyRange::prefix(b"/registry/"), head + 1).await?;
        let told = tokio::time::timeout(PATIENCE, watch.next()).await??;
        assert_eq!(told, WatchMessage::Progress { revision: head });
        let next = cluster.put(b"/registry/a", b"2").await?;
        let told = loop {
            match tokio::time::timeout(PATIENCE, watch.next()).await?? {
                WatchMessage::Progress { revision } => assert_eq!(revision, head),
                WatchMessage::Events { events, .. } => break events,
            }
        };
        assert_eq!(told.iter().map(Event::revision).collect::<Vec<_>>(), [next]);
    }
    Ok(())
}
