//! A daemon that was away while few keys were changed very often: how long until it has caught up, and what that costs the primary's
//! etcd in memory.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use etcd_sync_core::etcd::request::{Op, Txn};
use etcd_sync_integration::etcd::{Cluster, ClusterOptions};
use etcd_sync_integration::link::{Link, config_keys};
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::measure::{most_memory, own_memory};
use crate::table::{self, mib, thousands};
use crate::{Args, real};

const WAIT: Duration = Duration::from_secs(600);
const KEYS: usize = 500;
/// Values as small objects have them.
const VALUE_BYTES: usize = 300;
const WRITERS: usize = 64;
/// Room for a history that nobody compacts.
const QUOTA_BYTES: u64 = 16 << 30;
/// Operations in a transaction that etcd takes.
const MANY_AT_ONCE: usize = 125;

/// Runs both shapes of a backlog and prints their table.
pub async fn measure(args: &Args) -> Result<()> {
    let heads = ["Backlog of 501 keys", "changes", "revisions", "caught up after", "the primary's memory grew by"];
    let mut rows = vec![heads.map(String::from)];
    for (name, at_once) in [("one change a revision, as API servers make them", 1), ("125 a revision", MANY_AT_ONCE)] {
        rows.push(shape(args, name, at_once).await?);
    }
    table::print(&rows);
    Ok(())
}

async fn shape(args: &Args, name: &str, at_once: usize) -> Result<[String; 5]> {
    let primary = ClusterOptions { quota_bytes: Some(QUOTA_BYTES), ..real() };
    let link = Link::start(primary, real()).await?;
    link.primary.put(&config_keys(1)[0], "first").await?;
    let flags: Vec<&str> = args.run_flags.split_whitespace().collect();
    let daemon = link.daemon(&flags)?;
    link.await_equal(WAIT).await?;
    ensure!(daemon.terminate(Duration::from_secs(20)).await?.success(), "etcd-sync did not stop cleanly");
    let before = link.primary.revision().await?;
    change(&link.primary, args.backlog_changes, at_once).await?;
    let revisions = link.primary.revision().await? - before;
    let primary = link.primary.process_id(0)?;
    let (memory, since) = (own_memory(primary)?, Instant::now());
    let catch_up = async {
        let daemon = link.daemon(&flags)?;
        link.await_caught_up(WAIT).await?;
        Ok((daemon, since.elapsed()))
    };
    let ((daemon, took), most) = most_memory(primary, catch_up).await?;
    let difference = link.difference().await?;
    ensure!(difference.is_empty(), "the standby differs after the backlog:\n{difference}");
    ensure!(daemon.terminate(Duration::from_secs(20)).await?.success(), "etcd-sync did not stop cleanly");
    Ok([
        name.to_owned(),
        thousands(args.backlog_changes as f64),
        thousands(revisions as f64),
        format!("{:.1} s", took.as_secs_f64()),
        format!("{} MiB", mib(most.saturating_sub(memory) as f64)),
    ])
}

async fn change(primary: &Cluster, changes: usize, at_once: usize) -> Result<()> {
    let client = primary.client();
    let txns = (0..changes / at_once).map(|number| {
        let put = move |i: usize| Op::Put {
            key: format!("/registry/configmaps/busy/{:03}", (number * at_once + i) % KEYS).into(),
            value: Bytes::from(format!("{:0VALUE_BYTES$}", number * at_once + i)),
            lease: 0,
        };
        let txn = Txn { success: (0..at_once).map(put).collect(), ..Txn::default() };
        let client = client.clone();
        async move { client.txn(txn).await.map(drop) }
    });
    stream::iter(txns).buffer_unordered(WRITERS).try_collect::<()>().await.context("change keys")
}
