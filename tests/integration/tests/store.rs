//! The store against real etcds, where only its own view of a cluster matters.

use anyhow::Result;
use etcd_sync_integration::compare::await_true;
use etcd_sync_integration::etcd::{Cluster, ClusterOptions};
use etcd_sync_store::{Etcd, Side};
use std::time::Duration;

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
    assert!(client.get(b"b").await?.0.is_some());
    cluster.restore_in_place(&snapshot).await?;
    await_true("the client reads the restored cluster", Duration::from_secs(30), || async {
        Ok(client.get(b"b").await.is_ok_and(|(found, _)| found.is_none()))
    })
    .await
}
