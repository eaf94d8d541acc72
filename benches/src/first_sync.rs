//! From an empty standby to one that holds everything, three ways.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use clap::ValueEnum;
use etcd_sync_core::etcd::kv::KeyRange;
use etcd_sync_core::etcd::request::{Op, Txn};
use etcd_sync_integration::client::Client;
use etcd_sync_integration::daemon::Daemon;
use etcd_sync_integration::etcd::Cluster;
use etcd_sync_integration::process::Process;
use etcd_sync_integration::tools::EtcdVersion;
use etcd_sync_store::Side;
use tokio::task::JoinSet;

use crate::measure::{Usage, usage};
use crate::{Args, real};

/// Longest run of anything.
const WAIT: Duration = Duration::from_secs(1_800);
/// How often a mirror that does not tell when it is done is looked at; a count costs etcd no read of values.
const LOOK_EVERY: Duration = Duration::from_millis(30);
/// Puts in a transaction of the loader: as many as etcd-sync uses.
const TXN_PUTS: usize = 127;
const TXN_BYTES: usize = 1 << 20;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Contender {
    MakeMirror,
    EtcdSync,
    Ingest1,
    Ingest4,
    Ingest8,
    Ingest16,
}

impl Contender {
    pub const ALL: [Contender; 6] = [
        Contender::MakeMirror,
        Contender::EtcdSync,
        Contender::Ingest1,
        Contender::Ingest4,
        Contender::Ingest8,
        Contender::Ingest16,
    ];
    pub const INGEST: [Contender; 4] =
        [Contender::Ingest1, Contender::Ingest4, Contender::Ingest8, Contender::Ingest16];

    pub fn name(self) -> &'static str {
        match self {
            Contender::MakeMirror => "etcdctl make-mirror",
            Contender::EtcdSync => "etcd-sync run",
            Contender::Ingest1 => "ingest, 1 at a time",
            Contender::Ingest4 => "ingest, 4 at once",
            Contender::Ingest8 => "ingest, 8 at once",
            Contender::Ingest16 => "ingest, 16 at once",
        }
    }
}

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    pub contender: Contender,
    pub elapsed: Duration,
    pub usage: Option<Usage>,
}

/// Measures once, with a standby of its own. `primary` is the URL that is read from.
pub async fn run(contender: Contender, args: &Args, primary: &str, transactions: &[Vec<Op>]) -> Result<Run> {
    let standby = Cluster::start(real()).await?;
    let keys = transactions.iter().map(Vec::len).sum();
    let (elapsed, usage) = match contender {
        Contender::MakeMirror => make_mirror(primary, &standby, keys).await?,
        Contender::EtcdSync => etcd_sync(primary, &standby, args).await?,
        Contender::Ingest1 => (ingest(&standby, transactions, 1).await?, None),
        Contender::Ingest4 => (ingest(&standby, transactions, 4).await?, None),
        Contender::Ingest8 => (ingest(&standby, transactions, 8).await?, None),
        Contender::Ingest16 => (ingest(&standby, transactions, 16).await?, None),
    };
    let held = count(&standby.client()).await?;
    ensure!(held == keys, "{} ended with {held} keys", contender.name());
    Ok(Run { contender, elapsed, usage })
}

/// The puts of all items in as large transactions as etcd takes.
pub fn transactions(items: Vec<(Bytes, Bytes)>) -> Vec<Vec<Op>> {
    let mut all = Vec::new();
    let (mut ops, mut bytes) = (Vec::new(), 0);
    for (key, value) in items {
        let size = key.len() + value.len();
        if ops.len() == TXN_PUTS || bytes + size > TXN_BYTES {
            all.push(std::mem::take(&mut ops));
            bytes = 0;
        }
        bytes += size;
        ops.push(Op::Put { key, value, lease: 0 });
    }
    all.push(ops);
    all
}

/// Writes prepared transactions, so many at once.
pub async fn ingest(cluster: &Cluster, transactions: &[Vec<Op>], concurrency: usize) -> Result<Duration> {
    let client = cluster.client();
    count(&client).await?;
    let transactions: std::sync::Arc<[Vec<Op>]> = transactions.into();
    let next = std::sync::Arc::new(AtomicUsize::new(0));
    let since = Instant::now();
    let mut writers = JoinSet::new();
    for _ in 0..concurrency {
        let (client, transactions, next) = (client.clone(), transactions.clone(), next.clone());
        writers.spawn(async move {
            while let Some(ops) = transactions.get(next.fetch_add(1, Ordering::Relaxed)) {
                client.txn(Txn { success: ops.clone(), ..Txn::default() }).await?;
            }
            Ok::<(), anyhow::Error>(())
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended.context("a writer panicked")??;
    }
    Ok(since.elapsed())
}

async fn count(client: &Client) -> Result<usize> {
    client.count(&KeyRange::prefix(b"/registry/")).await
}

async fn make_mirror(primary: &str, standby: &Cluster, keys: usize) -> Result<(Duration, Option<Usage>)> {
    let client = standby.client();
    count(&client).await?;
    let mut command = Command::new(EtcdVersion::V3_6.program("etcdctl")?);
    // Without a destination prefix it takes the source's, so that keys keep their names.
    command.env_clear().args(["make-mirror", "--prefix=/registry/"]).arg(format!("--endpoints={primary}"));
    command.arg(standby.endpoint(0)).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let since = Instant::now();
    let mut mirror = Process::spawn("etcdctl make-mirror", command)?;
    // It never ends by itself.
    while count(&client).await? < keys {
        ensure!(mirror.exited()?.is_none(), "make-mirror ended before it was done");
        ensure!(since.elapsed() < WAIT, "make-mirror is not done after {WAIT:?}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let elapsed = since.elapsed();
    let used = usage(mirror.id())?;
    mirror.kill()?;
    Ok((elapsed, Some(used)))
}

async fn etcd_sync(primary: &str, standby: &Cluster, args: &Args) -> Result<(Duration, Option<Usage>)> {
    let mut flags = vec![format!("--primary-endpoints={primary}")];
    flags.extend(standby.flags(Side::Standby));
    flags.extend(args.run_flags.split_whitespace().map(str::to_owned));
    let since = Instant::now();
    let daemon = Daemon::start(&flags, &[])?;
    let beside = beside(args, daemon.id())?;
    daemon.wait_line("Start Sync update", WAIT).await?;
    let elapsed = since.elapsed();
    let used = usage(daemon.id())?;
    ensure!(daemon.terminate(Duration::from_secs(20)).await?.success(), "etcd-sync did not stop cleanly");
    if let Some(mut beside) = beside {
        beside.wait(WAIT).await?;
    }
    Ok((elapsed, Some(used)))
}

/// Starts what somebody wants to run beside, a profiler for instance.
fn beside(args: &Args, id: u32) -> Result<Option<Process>> {
    let mut words = args.beside.split_whitespace();
    let Some(program) = words.next() else { return Ok(None) };
    let mut command = Command::new(program);
    command.args(words).arg(id.to_string());
    Process::spawn("the program beside", command).map(Some)
}
