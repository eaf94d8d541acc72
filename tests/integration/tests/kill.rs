//! SIGKILL at random moments: whenever the daemon comes back, the standby is exactly what its record says, and in the end
//! no change was applied twice or out of order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use etcd_sync_core::etcd::kv::{Event, KeyRange, successor};
use etcd_sync_core::etcd::request::{Op, Txn};
use etcd_sync_core::link::state::Phase;
use etcd_sync_integration::client::Client;
use etcd_sync_integration::data::{self, Random};
use etcd_sync_integration::exact::{Keys, PATIENCE, put_all, single};
use etcd_sync_integration::link::Link;
use etcd_sync_integration::load::{Writer, WriterOptions, load};
use etcd_sync_integration::soak::rounds;
use etcd_sync_integration::tools::EtcdVersion;

const COUNTER: &[u8] = b"/registry/configmaps/apps/counter";
const KEYS: usize = 6_000;
/// Kills of the daemon.
fn kills() -> usize {
    rounds(30, 200)
}
/// The rounds whose kill falls into the first sync.
const FIRST_SYNC_ROUNDS: usize = 6;

#[tokio::test]
async fn repeated_kills_leave_no_trace() -> Result<()> {
    survives_kills(EtcdVersion::V3_6).await
}

#[tokio::test]
async fn repeated_kills_leave_no_trace_3_5() -> Result<()> {
    survives_kills(EtcdVersion::V3_5).await
}

async fn survives_kills(version: EtcdVersion) -> Result<()> {
    let seed = match std::env::var("ETCD_SYNC_SEED") {
        Ok(seed) => seed.parse().context("ETCD_SYNC_SEED is not a number")?,
        Err(_) => u64::from(std::process::id()) << 32 | u64::from(std::time::UNIX_EPOCH.elapsed()?.subsec_nanos()),
    };
    println!("ETCD_SYNC_SEED={seed}");
    let mut random = Random::new(seed);
    let link = Link::start(single(version), single(version)).await?;
    let local = put_all(&link.standby, &["/registry/configmaps/apps/standby-own", "/registry/minions/standby"]).await?;

    let client = link.primary.client();
    let items: Vec<data::Item> = (0..KEYS)
        .map(|i| (format!("/registry/configmaps/apps/c-{i:04}").into_bytes(), random.text(500).into_bytes()))
        .collect();
    let keys: Vec<Bytes> = items.iter().map(|(key, _)| Bytes::copy_from_slice(key)).collect();
    load(&client, items, 4).await?;
    // Nearly 500 changes a second: 130 transactions of 1 to 6 changes.
    let options = WriterOptions {
        per_second: 130.0,
        changes_per_txn: 6,
        value_bytes: 100..800,
        seed,
        ..WriterOptions::new(keys)
    };
    let writer = Writer::start(client.clone(), options);
    let counter = Counter::start(client);

    let (mut killed_in_copy, mut resumed) = (0, 0);
    for round in 0..kills() {
        let context = || format!("round {round}, ETCD_SYNC_SEED={seed}");
        link.expire_leader().await?;
        let daemon = link.daemon(&["--transactions-in-flight=2"])?;
        if round < FIRST_SYNC_ROUNDS {
            kill_in_first_sync(&link, &daemon, random.range(1..9)).await.with_context(context)?;
            let copying = link.checkpoint().await?.is_none_or(|found| found.phase == Phase::FirstSync);
            killed_in_copy += usize::from(copying);
            continue;
        }
        // Some kills come while it is still starting or catching up.
        if random.one_in(3) {
            tokio::time::sleep(Duration::from_millis(random.range(0..400) as u64)).await;
            daemon.kill()?;
            continue;
        }
        let target = link.primary.revision().await?;
        link.await_passed(target, PATIENCE).await.with_context(context)?;
        tokio::time::sleep(Duration::from_millis(random.range(0..400) as u64)).await;
        daemon.kill()?;
        resumed += 1;
        verify(&link, &local).await.with_context(context)?;
    }
    ensure!(killed_in_copy >= 1, "no kill fell into the first sync: it is too fast for this test");
    ensure!(resumed >= 8, "only {resumed} rounds resumed");

    link.expire_leader().await?;
    let daemon = link.daemon(&[])?;
    let counted = counter.stop().await?;
    let written = writer.stop().await?;
    ensure!(written.errors == 0 && counted > 100, "{written:?}, counted to {counted}");
    link.await_passed(link.primary.revision().await?, PATIENCE).await?;
    let standby = link.verify(&local).await?;
    let last = &standby.keys[&Bytes::from_static(COUNTER)];
    assert_eq!(number(&last.value)?, counted);
    let log = daemon.lines().join("\n");
    assert!(!log.contains("ERROR"), "{log}");

    let numbers = counter_history(&link, last.mod_revision).await?;
    println!("{written:?}; {} of {counted} counter values seen on the standby", numbers.len());
    ensure!(numbers.len() > 15, "only {} values of the counter", numbers.len());
    ensure!(numbers.is_sorted_by(|a, b| a < b), "a change was applied twice or out of order, ETCD_SYNC_SEED={seed}");
    Ok(())
}

/// While no daemon runs the record may stand inside a revision; then there is nothing to compare.
async fn verify(link: &Link, local: &Keys) -> Result<()> {
    let checkpoint = link.checkpoint().await?.context("there is no checkpoint")?;
    if checkpoint.offset == 0 {
        link.verify(local).await?;
    }
    Ok(())
}

/// Kills the daemon once it has sent `transactions` of its copy, or when it is through sooner.
async fn kill_in_first_sync(
    link: &Link,
    daemon: &etcd_sync_integration::daemon::Daemon,
    transactions: usize,
) -> Result<()> {
    let client = link.standby.client();
    let from = link.standby.revision().await? + 1;
    let root = KeyRange { start: link.keys.checkpoint.clone(), end: successor(&link.keys.copied) };
    let mut watch = client.watch(root, from).await?;
    let mut seen = 0;
    let killing = async {
        while seen < transactions {
            let events = watch.next().await?;
            seen += events.len();
            let streams =
                |event: &Event| matches!(event, Event::Put(kv) if kv.value.windows(9).any(|w| w == b"streaming"));
            if events.iter().any(streams) {
                break;
            }
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, killing).await.context("the daemon writes nothing")??;
    daemon.kill()
}

/// Every value of the counter in the standby's history, oldest first.
async fn counter_history(link: &Link, last: i64) -> Result<Vec<u64>> {
    let client = link.standby.client();
    let key = Bytes::from_static(COUNTER);
    let mut watch = client.watch(KeyRange::single(key), 1).await?;
    let mut numbers = Vec::new();
    loop {
        let next = tokio::time::timeout(PATIENCE, watch.next()).await.context("the history does not end")??;
        for event in next {
            let revision = event.revision();
            let Event::Put(kv) = event else { anyhow::bail!("the counter was deleted on the standby at {revision}") };
            numbers.push(number(&kv.value)?);
            if revision == last {
                return Ok(numbers);
            }
        }
    }
}

fn number(value: &[u8]) -> Result<u64> {
    std::str::from_utf8(value)?.parse().context("the counter's value is not a number")
}

/// Puts 1, 2, 3, ... into one key.
struct Counter {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Result<u64>>,
}

impl Counter {
    fn start(client: Client) -> Counter {
        let stop = Arc::new(AtomicBool::new(false));
        let wanted = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let mut number = 0u64;
            let mut pace = tokio::time::interval(Duration::from_millis(20));
            while !wanted.load(Ordering::Relaxed) {
                pace.tick().await;
                number += 1;
                let put = Op::Put { key: Bytes::from_static(COUNTER), value: number.to_string().into(), lease: 0 };
                client.txn(Txn { success: vec![put], ..Txn::default() }).await?;
            }
            Ok(number)
        });
        Counter { stop, task }
    }

    async fn stop(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.context("the counter panicked")?
    }
}
