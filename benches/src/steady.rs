//! Steady state: how fast the daemon follows, and how late it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use etcd_sync_core::etcd::kv::{Event, KeyRange, Revision, successor};
use etcd_sync_core::etcd::request::{Op, Txn};
use etcd_sync_integration::client::Client;
use etcd_sync_integration::link::Link;
use tokio::task::JoinSet;

use crate::first_sync::{ingest, transactions};
use crate::measure::{percentile, usage};
use crate::table::{self, mib, thousands};
use crate::{Args, data, real};

const WAIT: Duration = Duration::from_secs(300);
/// Keys that are changed again and again.
pub const KEYS: usize = 10_000;
/// Writers at full speed; each change is a transaction of its own, as an API server makes it.
const WRITERS: usize = 64;
/// The pace for the lag, and how often the probe is written.
const PACE_PER_SECOND: usize = 1_000;
const TICKS_PER_SECOND: usize = 100;
const PROBE: &[u8] = b"/registry/configmaps/probe/lag";

/// Runs all parts and prints their table.
pub async fn measure(args: &Args) -> Result<()> {
    let link = Link::start(real(), real()).await?;
    let items = data::items(KEYS, args.value_bytes);
    let keys: Arc<[(Bytes, Bytes)]> = items.clone().into();
    ingest(&link.primary, &transactions(items), 4).await?;
    // A daemon that is stopped for a while must not lose its lease.
    let mut flags = vec!["--leader-ttl=60s"];
    flags.extend(args.run_flags.split_whitespace());
    let daemon = link.daemon(&flags)?;
    daemon.wait_line("Start Sync update", WAIT).await?;
    link.await_caught_up(WAIT).await?;

    let primary = link.primary.client();
    let time = Duration::from_secs(args.seconds);
    let since = Instant::now();
    let written = full_speed(&primary, &keys, time).await?;
    let wrote = since.elapsed();
    let late = level(&link).await?;
    let mut rows = vec![["Steady state", "figure"].map(String::from)];
    let per_second = |count: u64, time: Duration| format!("{} /s", thousands(count as f64 / time.as_secs_f64()));
    rows.push(row("primary at full speed: changes written", per_second(written, wrote)));
    rows.push(row("  followed, to the last one", per_second(written, wrote + late)));
    rows.push(row("  level after the last change", format!("{:.0} ms", late.as_secs_f64() * 1e3)));

    daemon.pause()?;
    let written = full_speed(&primary, &keys, time / 2).await?;
    daemon.resume()?;
    let late = level(&link).await?;
    rows.push(row("backlog of a paused daemon: changes", thousands(written as f64)));
    rows.push(row("  worked off", per_second(written, late)));

    let (mut lags, pace) = lag(&link, &primary, &keys, time).await?;
    rows.push(row("lag while the primary is written at", format!("{} /s", thousands(pace))));
    rows.push(row("  p50", format!("{:.1} ms", percentile(&mut lags, 50.0))));
    rows.push(row("  p99", format!("{:.1} ms", percentile(&mut lags, 99.0))));
    rows.push(row("  probes", thousands(lags.len() as f64)));
    let used = usage(daemon.id())?;
    rows.push(row("peak RSS of etcd-sync over all of it", format!("{} MiB", mib(used.rss_bytes as f64))));
    level(&link).await?;
    let difference = link.difference().await?;
    ensure!(difference.is_empty(), "the standby differs after the steady state:\n{difference}");
    ensure!(daemon.terminate(Duration::from_secs(20)).await?.success(), "etcd-sync did not stop cleanly");
    table::print(&rows);
    println!("Afterwards both sides hold the same keys and values.");
    Ok(())
}

fn row(name: &str, figure: String) -> [String; 2] {
    [name.to_owned(), figure]
}

/// Puts as fast as the primary takes them; returns how many.
async fn full_speed(primary: &Client, keys: &Arc<[(Bytes, Bytes)]>, time: Duration) -> Result<u64> {
    let (done, next) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicUsize::new(0)));
    let deadline = Instant::now() + time;
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let (primary, keys, done, next) = (primary.clone(), keys.clone(), done.clone(), next.clone());
        writers.spawn(async move {
            while Instant::now() < deadline {
                put(&primary, &keys, next.fetch_add(1, Ordering::Relaxed)).await?;
                done.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<(), anyhow::Error>(())
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended.context("a writer panicked")??;
    }
    Ok(done.load(Ordering::Relaxed))
}

/// Gives a key another key's value: as large, and different each time around.
async fn put(primary: &Client, keys: &[(Bytes, Bytes)], number: usize) -> Result<()> {
    let around = number / keys.len();
    let (key, value) = (keys[number % keys.len()].0.clone(), keys[(number + around + 1) % keys.len()].1.clone());
    primary.txn(Txn { success: vec![Op::Put { key, value, lease: 0 }], ..Txn::default() }).await.map(drop)
}

/// How long it takes from now until the standby is consistent with the primary's present revision.
async fn level(link: &Link) -> Result<Duration> {
    let since = Instant::now();
    let head = link.primary.revision().await?;
    while link.checkpoint().await?.is_none_or(|checkpoint| checkpoint.revision < head) {
        ensure!(since.elapsed() < WAIT, "the standby is not level after {WAIT:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(since.elapsed())
}

/// Lags of the probe in milliseconds, and the pace that was really kept.
pub async fn lag(
    link: &Link,
    primary: &Client,
    keys: &Arc<[(Bytes, Bytes)]>,
    time: Duration,
) -> Result<(Vec<f64>, f64)> {
    let standby = link.standby.client();
    let count = TICKS_PER_SECOND * time.as_secs() as usize;
    let (from, to) = tokio::try_join!(link.primary.revision(), link.standby.revision())?;
    let seen = tokio::spawn(see(primary.clone(), from + 1, count));
    let arrived = tokio::spawn(see(standby, to + 1, count));
    let failed = Arc::new(AtomicBool::new(false));
    let mut tick = tokio::time::interval(Duration::from_secs(1) / TICKS_PER_SECOND as u32);
    let mut puts = JoinSet::new();
    let since = Instant::now();
    for probe in 1..=count {
        tick.tick().await;
        let primary = primary.clone();
        let (key, value) = (Bytes::from_static(PROBE), Bytes::from(probe.to_string()));
        primary.txn(Txn { success: vec![Op::Put { key, value, lease: 0 }], ..Txn::default() }).await?;
        // Spread over what is left of the tick by the primary itself, one after the other.
        let (keys, failed) = (keys.clone(), failed.clone());
        puts.spawn(async move {
            let others = PACE_PER_SECOND / TICKS_PER_SECOND - 1;
            for number in 0..others {
                if put(&primary, &keys, probe * others + number).await.is_err() {
                    failed.store(true, Ordering::Relaxed);
                }
            }
        });
        while puts.try_join_next().is_some() {}
    }
    puts.join_all().await;
    let pace = PACE_PER_SECOND as f64 / TICKS_PER_SECOND as f64 * count as f64 / since.elapsed().as_secs_f64();
    ensure!(!failed.load(Ordering::Relaxed), "a write on the primary failed");
    let (seen, arrived) = tokio::try_join!(seen, arrived)?;
    let lags = seen?.into_iter().zip(arrived?).map(|(seen, arrived)| (arrived - seen).as_secs_f64() * 1e3);
    Ok((lags.collect(), pace))
}

/// When each probe became visible through a watch. A probe that was overwritten before it could be seen counts as seen
/// with the one that overwrote it.
async fn see(client: Client, from: Revision, count: usize) -> Result<Vec<Instant>> {
    let range = KeyRange { start: Bytes::from_static(PROBE), end: successor(PROBE) };
    let mut watch = client.watch(range, from).await?;
    let mut times = Vec::with_capacity(count);
    while times.len() < count {
        let events = tokio::time::timeout(WAIT, watch.next()).await.context("a probe never came")??;
        let now = Instant::now();
        for event in events {
            let Event::Put(kv) = event else { continue };
            let number: usize = std::str::from_utf8(&kv.value)?.parse().context("not a probe")?;
            times.resize(number.max(times.len()), now);
        }
    }
    Ok(times)
}
