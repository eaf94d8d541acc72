//! Random load on the primary, with the daemon killed now and then: at the end both sides are the same.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use etcd_sync_core::etcd::kv::printable;
use etcd_sync_integration::daemon::Daemon;
use etcd_sync_integration::data::Random;
use etcd_sync_integration::exact::{PATIENCE, default_scope};
use etcd_sync_integration::kube::load::Load;
use etcd_sync_integration::kube::objects::create_crds;
use etcd_sync_integration::kube::{KubePair, PairOptions};

use crate::owners::ready_to_collect;
use crate::seconds;

const PER_SECOND: f64 = 40.0;
/// A daemon lives this long, in seconds.
const LIFE: std::ops::Range<usize> = 4..12;
const FLAGS: [&str; 1] = ["--checkpoint-interval=500ms"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_load_ends_the_same() -> Result<()> {
    let time = seconds("ETCD_SYNC_TEST_LOAD", 60)?;
    let seed = match std::env::var("ETCD_SYNC_TEST_SEED") {
        Ok(text) => text.parse().context("ETCD_SYNC_TEST_SEED must be a number")?,
        Err(_) => SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
    };
    println!("ETCD_SYNC_TEST_SEED={seed}");
    let pair = KubePair::start(PairOptions::new()).await?;
    create_crds(pair.primary.api()).await?;
    ready_to_collect(&pair.standby).await?;
    let daemon = pair.sync(&FLAGS).await?;
    let load = Load::new(pair.primary.api(), seed).run(time, PER_SECOND);
    let (done, daemon) = tokio::try_join!(load, kill_now_and_then(&pair, daemon, seed, time))?;
    println!("{done:?}");
    let outcome = async {
        pair.caught_up().await?;
        pair.await_same(PATIENCE * 2).await?;
        done.expect(20, (time.as_secs_f64() * PER_SECOND / 20.0) as usize)
    };
    pair.explain(Some(&daemon), outcome.await)
}

/// Ends a daemon and starts another, until the time is up; returns the last one. Looks at all that each one wrote.
async fn kill_now_and_then(pair: &KubePair, mut daemon: Daemon, seed: u64, time: Duration) -> Result<Daemon> {
    let (begun, mut random, mut lives) = (Instant::now(), Random::new(seed ^ 1), 1);
    let (scope, mut seen) = (default_scope()?, pair.link.standby.revision().await?);
    loop {
        let life = Duration::from_secs(random.range(LIFE) as u64).min(time.saturating_sub(begun.elapsed()));
        tokio::time::sleep(life).await;
        // The whole history bit by bit, before the API server compacts it.
        let until = pair.link.standby.revision().await?;
        for event in pair.synchronized(seen + 1).await? {
            ensure!(scope.in_scope(event.key()), "the daemon wrote {}", printable(event.key()));
        }
        seen = until;
        if begun.elapsed() >= time {
            println!("{lives} daemons lived");
            return Ok(daemon);
        }
        if random.one_in(3) {
            daemon.terminate(PATIENCE).await?;
        } else {
            daemon.kill()?;
            pair.link.expire_leader().await?;
        }
        tokio::time::sleep(Duration::from_millis(random.range(0..2000) as u64)).await;
        daemon = pair.daemon(&FLAGS)?;
        lives += 1;
    }
}
