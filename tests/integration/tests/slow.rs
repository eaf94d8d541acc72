//! Slow links and outages: a copy over a narrow way ends, and goes on where it was when one of the clusters was away for a moment.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use etcd_sync_integration::compare::await_until;
use etcd_sync_integration::daemon::Daemon;
use etcd_sync_integration::data::Item;
use etcd_sync_integration::etcd::{Cluster, ClusterOptions};
use etcd_sync_integration::exact::{Keys, PATIENCE};
use etcd_sync_integration::link::Link;
use etcd_sync_integration::load::load;
use etcd_sync_integration::soak::rounds;
use etcd_sync_integration::toxiproxy::{NetworkProfile, Toxiproxy};
use etcd_sync_store::Side;

const SYNCED: &str = "Start Sync update";

/// Longest first sync over a slow way: several times what its bytes need.
const SLOW: Duration = Duration::from_secs(600);

/// `count` keys with values of `bytes`, all behind those of an earlier letter.
fn items(letter: char, count: usize, bytes: usize) -> Vec<Item> {
    let key = |i| format!("/registry/configmaps/team-{letter}/settings-{i:05}").into_bytes();
    (0..count).map(|i| (key(i), format!("{i:0bytes$}").into_bytes())).collect()
}

/// A way to the only member of a cluster.
async fn way(cluster: &Cluster, round_trip_ms: u64, bytes_per_second: u64) -> Result<Toxiproxy> {
    let round_trip = Duration::from_millis(round_trip_ms);
    Toxiproxy::before(cluster, NetworkProfile { round_trip, bytes_per_second }).await
}

/// Starts a daemon that reaches one side over a slow link.
fn daemon_over(link: &Link, side: Side, way: &Toxiproxy, more: &[&str]) -> Result<Daemon> {
    Daemon::start(&link.flags_over(&[(side, way)], more), &[])
}

/// How often a copy began.
fn copies(daemon: &Daemon) -> usize {
    daemon.lines().iter().filter(|line| line.contains("sync begins") || line.contains("difference begins")).count()
}

async fn first_sync_over(round_trip_ms: u64, bytes_per_second: u64, items: Vec<Item>) -> Result<()> {
    let link = Link::start(ClusterOptions::default(), ClusterOptions::default()).await?;
    let loaded = load(&link.primary.client(), items, 4).await?;
    let way = way(&link.primary, round_trip_ms, bytes_per_second).await?;
    let started = Instant::now();
    let daemon = daemon_over(&link, Side::Primary, &way, &[])?;
    daemon.wait_line(SYNCED, SLOW).await?;
    link.await_passed(link.primary.revision().await?, PATIENCE).await?;
    let at_least = loaded.bytes as u64 / bytes_per_second;
    println!("{} keys, {} bytes: {:?}, at least {at_least} s", loaded.keys, loaded.bytes, started.elapsed());
    link.verify(&Keys::new()).await?;
    ensure!(copies(&daemon) == 1, "it began again:\n{}", daemon.tail());
    Ok(())
}

/// Neither a page of two thousand small keys nor one of a hundred large ones comes over within the time of one request.
#[tokio::test]
async fn a_first_sync_over_1_mbit_and_300_ms_ends() -> Result<()> {
    let mut all = items('a', rounds(4_000, 30_000), 200);
    all.extend(items('b', 80, 20_000));
    first_sync_over(300, 125_000, all).await
}

/// The page that is the first with large values holds as many of them as one with small values.
#[tokio::test]
async fn a_first_sync_over_10_mbit_ends_where_large_values_follow_small_ones() -> Result<()> {
    let mut all = items('a', 5_000, 200);
    all.extend(items('b', rounds(900, 5_000), 20_000));
    first_sync_over(20, 1_250_000, all).await
}

/// A full transaction needs longer on its way than a small one may take.
#[tokio::test]
async fn a_first_sync_into_a_standby_over_1_mbit_ends() -> Result<()> {
    let link = Link::start(ClusterOptions::default(), ClusterOptions::default()).await?;
    load(&link.primary.client(), items('a', rounds(150, 1_000), 10_000), 4).await?;
    let way = way(&link.standby, 20, 1_250_000).await?;
    way.narrow(125_000).await?;
    let daemon = daemon_over(&link, Side::Standby, &way, &[])?;
    daemon.wait_line(SYNCED, SLOW).await?;
    link.verify(&Keys::new()).await?;
    ensure!(copies(&daemon) == 1, "it began again:\n{}", daemon.tail());
    Ok(())
}

/// Commits whose outcome nobody knows, three times: the copy goes on behind what is written.
#[tokio::test]
async fn a_copy_goes_on_after_outages_of_the_standby() -> Result<()> {
    const KEYS: usize = 20_000;
    let link = Link::start(ClusterOptions::default(), ClusterOptions::default()).await?;
    load(&link.primary.client(), items('a', KEYS, 500), 4).await?;
    let way = way(&link.standby, 60, 100_000_000).await?;
    let daemon = daemon_over(&link, Side::Standby, &way, &["--transactions-in-flight=4"])?;
    for part in 1..=3 {
        let done = (KEYS * part / 6) as f64;
        await_until("a part is copied", PATIENCE, || async {
            let copied = daemon.metric("etcd_sync_copy_keys_done").await;
            Ok((copied.unwrap_or(0.0) < done).then(|| format!("{copied:?} of {done}")))
        })
        .await?;
        way.close().await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let phase = link.checkpoint().await?.map(|checkpoint| checkpoint.phase.name());
        ensure!(phase == Some("first-sync"), "the copy was over too soon: {phase:?}");
        way.open().await?;
    }
    daemon.wait_line(SYNCED, PATIENCE).await?;
    link.verify(&Keys::new()).await?;
    ensure!(copies(&daemon) == 1, "it began again:\n{}", daemon.tail());
    ensure!(daemon.lines().iter().any(|line| line.contains("a commit failed")), "no commit failed:\n{}", daemon.tail());
    Ok(())
}

/// Beside users: no faster than the operator allows, in bytes of the primary and in keys of the standby.
#[tokio::test]
async fn a_copy_goes_no_faster_than_allowed() -> Result<()> {
    let link = Link::start(ClusterOptions::default(), ClusterOptions::default()).await?;
    let loaded = load(&link.primary.client(), items('a', 4_000, 1_000), 4).await?;
    for (flag, seconds) in
        [("--copy-bytes-per-second=800K", loaded.bytes as f64 / 819_200.0), ("--copy-writes-per-second=1000", 4.0)]
    {
        let daemon = link.daemon(&[flag])?;
        daemon.wait_line("first sync begins", PATIENCE).await?;
        let began = Instant::now();
        daemon.wait_line(SYNCED, PATIENCE).await?;
        let took = began.elapsed().as_secs_f64();
        println!("{flag}: {took:.1} s, at least {seconds:.1}");
        // Half a second's worth may be used at once.
        ensure!(took > seconds - 1.0, "{flag}: {} bytes in {took:.1} s", loaded.bytes);
        link.verify(&Keys::new()).await?;
        daemon.kill()?;
        link.standby.etcdctl(&["del", "--prefix", "/"]).await?;
    }
    Ok(())
}

/// The standby is compacted to what it was a second ago, all the time, and the check for surplus keys takes longer.
#[tokio::test]
async fn a_sweep_may_take_longer_than_the_standby_keeps_its_history() -> Result<()> {
    let link = Link::start(ClusterOptions::default(), ClusterOptions::default()).await?;
    load(&link.primary.client(), items('a', 30_000, 10), 4).await?;
    let compacting = async {
        let mut tick = tokio::time::interval(Duration::from_millis(200));
        let mut revisions = VecDeque::new();
        loop {
            tick.tick().await;
            link.standby.put("/elsewhere/key", "the standby's").await?;
            revisions.push_back(link.standby.revision().await?);
            if revisions.len() > 5
                && let Some(revision) = revisions.pop_front()
            {
                link.standby.compact(revision).await?;
            }
        }
    };
    let syncing = async {
        let daemon = link.daemon(&["--copy-bytes-per-second=300K"])?;
        daemon.wait_line("checking surplus keys", PATIENCE).await?;
        let began = Instant::now();
        daemon.wait_line(SYNCED, PATIENCE).await?;
        let took = began.elapsed();
        ensure!(took > Duration::from_millis(1_800), "the sweep took only {took:?}: this proves nothing");
        link.primary.put("/registry/configmaps/team-a/last", "the primary's").await?;
        link.await_passed(link.primary.revision().await?, PATIENCE).await?;
        link.verify(&Keys::new()).await?;
        ensure!(copies(&daemon) == 1, "it began again:\n{}", daemon.tail());
        Ok(())
    };
    tokio::select! {
        failed = compacting => failed,
        synced = syncing => synced,
    }
}
