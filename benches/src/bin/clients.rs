//! Our store beside the crate `etcd-client`, which decision 0001 turned down: the same reading, the same copy, the same
//! watch, each in a process of its own. `cargo run --release -p etcd-sync-benches --bin clients` measures both;
//! `clients ours|etcd-client WORK` is one such process.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use clap::{Parser, ValueEnum};
use etcd_client::{GetOptions, TxnOp, WatchOptions};
use etcd_sync_benches::data;
use etcd_sync_benches::measure::{self, median, usage};
use etcd_sync_benches::table::{self, mib, ratio, thousands};
use etcd_sync_core::etcd::kv::{Event, KeyRange, KeyValue, Revision, successor};
use etcd_sync_core::etcd::request::{Op, ReadRange, Txn};
use etcd_sync_integration::etcd::{Cluster, ClusterOptions};
use etcd_sync_integration::load::load;
use etcd_sync_store::{Etcd, Options, Side, WatchMessage};
use tokio::task::JoinSet;

/// Everything that is read and followed.
const PREFIX: &[u8] = b"/registry/";
/// Keys of a page.
const PAGE_KEYS: i64 = 1_000;
/// Puts of a transaction of the copy.
const TXN_PUTS: usize = 125;
/// Changes that are made one by one, so many at once.
const WRITERS: usize = 64;

/// Compares the two clients.
#[derive(Clone, Debug, Parser)]
struct Args {
    /// Measure this one, once, in this process
    #[arg(requires = "work")]
    client: Option<Which>,
    /// What it does
    work: Option<Work>,
    /// Where it reads
    #[arg(long, default_value = "")]
    from: String,
    /// Where it writes
    #[arg(long, default_value = "")]
    to: String,
    /// The revision it reads at, or watches from
    #[arg(long, default_value_t = 0)]
    revision: Revision,
    /// Keys, and as many changes
    #[arg(long, default_value_t = 100_000)]
    keys: usize,
    /// Bytes of each value
    #[arg(long, default_value_t = 1_024)]
    value_bytes: usize,
    /// Rounds, interleaved
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Which {
    Ours,
    EtcdClient,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Work {
    /// Every page, one after the other, at one revision
    Read,
    /// Every page, and all of it written to an empty cluster
    Copy,
    /// The history of changes made one by one
    Watch,
    /// The history of transactions of a hundred changes
    WatchWide,
}

const WORKS: [Work; 4] = [Work::Read, Work::Copy, Work::Watch, Work::WatchWide];

/// One process: seconds, seconds of CPU, peak bytes of memory.
#[derive(Clone, Copy, Debug)]
struct Run {
    which: Which,
    work: Work,
    figures: [f64; 3],
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    match (args.client, args.work) {
        (Some(client), Some(work)) => one(client, work, &args).await,
        _ => both(&args).await,
    }
}

/// Does the work, and prints its figures.
async fn one(client: Which, work: Work, args: &Args) -> Result<()> {
    let since = Instant::now();
    let (seen, bytes) = match (client, work) {
        (Which::Ours, Work::Read) => ours::copy(args, false).await?,
        (Which::Ours, Work::Copy) => ours::copy(args, true).await?,
        (Which::Ours, Work::Watch | Work::WatchWide) => ours::watch(args).await?,
        (Which::EtcdClient, Work::Read) => theirs::copy(args, false).await?,
        (Which::EtcdClient, Work::Copy) => theirs::copy(args, true).await?,
        (Which::EtcdClient, Work::Watch | Work::WatchWide) => theirs::watch(args).await?,
    };
    let wall = since.elapsed();
    ensure!(seen == args.keys && bytes == args.keys * args.value_bytes, "{seen} keys, {bytes} bytes of values");
    let used = usage(std::process::id())?;
    println!("{} {} {}", wall.as_secs_f64(), used.cpu.as_secs_f64(), used.rss_bytes);
    Ok(())
}

mod ours {
    //! The work with `etcd-sync-store`.

    use super::*;

    fn etcd(side: Side, url: &str) -> Result<Etcd> {
        Ok(Etcd::new(Options::new(side, vec![url.to_owned()]))?)
    }

    pub async fn copy(args: &Args, write: bool) -> Result<(usize, usize)> {
        let from = etcd(Side::Primary, &args.from)?;
        let to = if write { Some(etcd(Side::Standby, &args.to)?) } else { None };
        let (mut seen, mut bytes) = (0, 0);
        let mut range = KeyRange::prefix(PREFIX);
        loop {
            let request =
                ReadRange { range: range.clone(), limit: PAGE_KEYS, keys_only: false, revision: args.revision };
            let page = from.read(request).await?;
            seen += page.kvs.len();
            bytes += page.kvs.iter().map(|kv| kv.value.len()).sum::<usize>();
            let last = page.kvs.last().context("an empty page")?.key.clone();
            if let Some(to) = &to {
                put(to, page.kvs).await?;
            }
            if !page.more {
                return Ok((seen, bytes));
            }
            range = range.from(successor(&last));
        }
    }

    async fn put(to: &Etcd, mut kvs: Vec<KeyValue>) -> Result<()> {
        let mut running = JoinSet::new();
        while !kvs.is_empty() {
            let some = kvs.drain(..TXN_PUTS.min(kvs.len()));
            let success = some.map(|kv| Op::Put { key: kv.key, value: kv.value, lease: 0 }).collect();
            let to = to.clone();
            running.spawn(async move { to.txn(Txn { success, ..Txn::default() }).await.map(drop) });
        }
        while let Some(ended) = running.join_next().await {
            ended??;
        }
        Ok(())
    }

    pub async fn watch(args: &Args) -> Result<(usize, usize)> {
        let from = etcd(Side::Primary, &args.from)?;
        let mut watch = from.watch(KeyRange::prefix(PREFIX), args.revision).await?;
        let (mut seen, mut bytes) = (0, 0);
        while seen < args.keys {
            let WatchMessage::Events { events, .. } = watch.next().await? else { continue };
            seen += events.len();
            for event in &events {
                let Event::Put(kv) = event else { bail!("nothing was deleted") };
                bytes += kv.value.len();
            }
        }
        Ok((seen, bytes))
    }
}

mod theirs {
    //! The work with `etcd-client`: as it is, but for its limit of 4 MiB a message.

    use super::*;

    async fn etcd(url: &str) -> Result<etcd_client::Client> {
        Ok(etcd_client::Client::connect([url], None).await?)
    }

    pub async fn copy(args: &Args, write: bool) -> Result<(usize, usize)> {
        let mut from = etcd(&args.from).await?.kv_client().max_decoding_message_size(usize::MAX);
        let to = if write { Some(etcd(&args.to).await?) } else { None };
        let (mut seen, mut bytes) = (0, 0);
        let (mut start, end) = (PREFIX.to_vec(), KeyRange::prefix(PREFIX).end.to_vec());
        loop {
            let options = GetOptions::new().with_range(end.clone()).with_limit(PAGE_KEYS).with_revision(args.revision);
            let mut page = from.get(start, Some(options)).await?;
            let kvs = page.take_kvs();
            seen += kvs.len();
            bytes += kvs.iter().map(|kv| kv.value().len()).sum::<usize>();
            start = successor(kvs.last().context("an empty page")?.key()).to_vec();
            if let Some(to) = &to {
                put(to, kvs).await?;
            }
            if !page.more() {
                return Ok((seen, bytes));
            }
        }
    }

    async fn put(to: &etcd_client::Client, mut kvs: Vec<etcd_client::KeyValue>) -> Result<()> {
        let mut running = JoinSet::new();
        while !kvs.is_empty() {
            let some = kvs.drain(..TXN_PUTS.min(kvs.len())).map(etcd_client::KeyValue::into_key_value);
            let puts: Vec<TxnOp> = some.map(|(key, value)| TxnOp::put(key, value, None)).collect();
            let mut to = to.clone();
            running.spawn(async move { to.txn(etcd_client::Txn::new().and_then(puts)).await.map(drop) });
        }
        while let Some(ended) = running.join_next().await {
            ended??;
        }
        Ok(())
    }

    pub async fn watch(args: &Args) -> Result<(usize, usize)> {
        let mut client = etcd(&args.from).await?.watch_client().max_decoding_message_size(usize::MAX);
        let options = WatchOptions::new().with_prefix().with_start_revision(args.revision);
        let mut watch = client.watch(PREFIX, Some(options)).await?;
        let (mut seen, mut bytes) = (0, 0);
        while seen < args.keys {
            let answer = watch.message().await?.context("the watch ended")?;
            seen += answer.events().len();
            bytes += answer.events().iter().filter_map(|event| event.kv()).map(|kv| kv.value().len()).sum::<usize>();
        }
        Ok((seen, bytes))
    }
}

/// Prepares two clusters with the same keys and two histories, runs every process, and prints the table.
async fn both(args: &Args) -> Result<()> {
    println!(
        "{} keys and as many changes, values of {} bytes, pages of {PAGE_KEYS} keys; {} rounds, interleaved",
        thousands(args.keys as f64),
        args.value_bytes,
        args.rounds
    );
    println!("{}", measure::machine()?);
    let options = || ClusterOptions { no_fsync: false, ..ClusterOptions::default() };
    let (wide, narrow) = tokio::try_join!(Cluster::start(options()), Cluster::start(options()))?;
    let items = data::items(args.keys, args.value_bytes);
    let all = items.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
    load(&wide.client(), all, 4).await?;
    change(&narrow, items).await?;
    let head = wide.revision().await?;

    let mut runs = Vec::new();
    for _ in 0..args.rounds {
        for work in WORKS {
            for which in [Which::Ours, Which::EtcdClient] {
                let to = if work == Work::Copy { Some(Cluster::start(options()).await?) } else { None };
                let (from, revision) = match work {
                    Work::Read | Work::Copy => (&wide, head),
                    Work::Watch => (&narrow, 1),
                    Work::WatchWide => (&wide, 1),
                };
                let figures = process(which, work, args, from, to.as_ref(), revision)?;
                runs.push(Run { which, work, figures });
            }
        }
    }
    report(&runs);
    Ok(())
}

/// Changes every key, each in a revision of its own.
async fn change(cluster: &Cluster, items: Vec<(Bytes, Bytes)>) -> Result<()> {
    let items = std::sync::Arc::new(std::sync::Mutex::new(items.into_iter()));
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let (client, items) = (cluster.client(), items.clone());
        writers.spawn(async move {
            loop {
                let next = items.lock().expect("no writer panics").next();
                let Some((key, value)) = next else { return anyhow::Ok(()) };
                client.txn(Txn { success: vec![Op::Put { key, value, lease: 0 }], ..Txn::default() }).await?;
            }
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended??;
    }
    Ok(())
}

/// Runs one process to its end.
fn process(
    which: Which,
    work: Work,
    args: &Args,
    from: &Cluster,
    to: Option<&Cluster>,
    revision: Revision,
) -> Result<[f64; 3]> {
    let mut command = Command::new(std::env::current_exe()?);
    for value in [which.to_possible_value(), work.to_possible_value()] {
        command.arg(value.context("every value has a name")?.get_name());
    }
    command.args([format!("--keys={}", args.keys), format!("--value-bytes={}", args.value_bytes)]);
    command.args([format!("--from={}", from.endpoint(0)), format!("--revision={revision}")]);
    command.args(to.map(|to| format!("--to={}", to.endpoint(0))));
    let output = command.output().context("start a process")?;
    ensure!(output.status.success(), "{which:?} {work:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let figures: Vec<f64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    figures.try_into().ok().context("a process prints three figures")
}

fn report(runs: &[Run]) {
    let head = ["", "ours", "etcd-client", "", "CPU", "etcd-client", "", "peak RSS", "etcd-client", ""];
    let mut rows = vec![head.map(String::from)];
    let units: [fn(f64) -> String; 3] =
        [|wall| format!("{wall:.2} s"), |cpu| format!("{cpu:.2} s"), |rss| format!("{} MiB", mib(rss))];
    for work in WORKS {
        let mut row = vec![format!("{work:?}")];
        for (figure, unit) in units.iter().enumerate() {
            let of = |which| {
                let of = runs.iter().filter(|run| (run.which, run.work) == (which, work));
                median(of.map(|run| run.figures[figure]))
            };
            let (ours, theirs) = (of(Which::Ours), of(Which::EtcdClient));
            row.extend([ours, theirs].map(|value| value.map_or("-".into(), unit)));
            row.push(ratio(theirs, ours));
        }
        rows.extend(row.try_into().ok());
    }
    table::print(&rows);
    println!("Medians; after each pair, how many times ours etcd-client is. Beside that, etcd does its own work.");
}
