//! Connections to real etcds on bad days: long backlogs, dead addresses, replaced members, proxies, odd certificates.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bytes::Bytes;
use etcd_sync_core::etcd::kv::{KeyRange, Revision};
use etcd_sync_core::etcd::request::{Op, Txn};
use etcd_sync_integration::etcd::{Cluster, ClusterOptions};
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_store::{Etcd, Side, WatchMessage};
use futures_util::{StreamExt, TryStreamExt, stream};

/// Changes few keys very often; returns the revision before the first change.
async fn change_often(cluster: &Cluster, keys: usize, changes: usize) -> Result<Revision> {
    const AT_ONCE: usize = 125;
    let before = cluster.put(b"/registry/first", b"").await?;
    let client = cluster.client();
    let txns = (0..changes / AT_ONCE).map(|number| {
        let keys = (0..AT_ONCE).map(move |i| (number * AT_ONCE + i) % keys);
        let put = |key| Op::Put {
            key: format!("/registry/busy/{key:04}").into(),
            value: Bytes::from(vec![b'x'; 1_000]),
            lease: 0,
        };
        let txn = Txn { success: keys.map(put).collect(), ..Txn::default() };
        let client = client.clone();
        async move { client.txn(txn).await.map(drop) }
    });
    stream::iter(txns).buffer_unordered(16).try_collect::<()>().await?;
    Ok(before)
}

/// etcd reads the whole backlog of a watch before it sends anything.
#[tokio::test]
async fn a_watch_with_a_long_backlog_is_waited_for() -> Result<()> {
    let cluster = Cluster::start(ClusterOptions::default()).await?;
    let start = change_often(&cluster, 500, 200_000).await? + 1;
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
