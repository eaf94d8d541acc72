//! `make bench`: the first sync beside `etcdctl make-mirror` and beside what the standby can take at all, on the same
//! data, interleaved; then how well the steady state follows; then both over a link between two sites; then a
//! long backlog; then what the monitor's comparison costs. See docs/benchmarks.md.

mod backlog;
mod check;
mod distance;
mod first_sync;
mod steady;

use anyhow::{Result, ensure};
use clap::Parser;
use etcd_sync_integration::etcd::{Cluster, ClusterOptions};

use etcd_sync_benches::table::{mib, ratio, thousands};
use etcd_sync_benches::{data, measure, table};
use first_sync::{Contender, Run};

/// The first bar: so many times make-mirror's speed.
const BAR_RATIO: f64 = 10.0;
/// The first bar: so much resident memory at most.
const BAR_RSS_MIB: f64 = 64.0;

/// Measures etcd-sync; never fails on a figure.
#[derive(Clone, Debug, Parser)]
pub struct Args {
    /// Keys on the primary; 0 leaves the first sync and the steady state out
    #[arg(long, env = "BENCH_KEYS", default_value_t = 100_000)]
    keys: usize,
    /// Bytes of each value
    #[arg(long, env = "BENCH_VALUE_BYTES", default_value_t = 1_024)]
    value_bytes: usize,
    /// Rounds of the first table; each measures everything once
    #[arg(long, env = "BENCH_ROUNDS", default_value_t = 3)]
    rounds: usize,
    /// Seconds of each part of the steady state; 0 omits it
    #[arg(long, env = "BENCH_SECONDS", default_value_t = 10)]
    seconds: u64,
    /// Keys on each side for the monitor's comparison; 0 omits it
    #[arg(long, env = "BENCH_CHECK_KEYS", default_value_t = 1_000_000)]
    check_keys: usize,
    /// Keys on the primary for the part with a link between two sites; 0 omits it
    #[arg(long, env = "BENCH_DISTANCE_KEYS", default_value_t = 30_000)]
    distance_keys: usize,
    /// Changes to 501 keys that were made while the daemon was away; 0 omits it
    #[arg(long, env = "BENCH_BACKLOG_CHANGES", default_value_t = 1_000_000)]
    backlog_changes: usize,
    /// What takes part in the first syncs, comma separated; default: everything
    #[arg(long, env = "BENCH_ONLY", value_delimiter = ',')]
    only: Vec<Contender>,
    /// More flags for `etcd-sync run`, separated by spaces
    #[arg(long, env = "BENCH_RUN_FLAGS", default_value = "", allow_hyphen_values = true)]
    run_flags: String,
    /// Wait for this program to end while a first sync runs: it gets the process id as its last argument
    #[arg(long, env = "BENCH_BESIDE", default_value = "")]
    beside: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    ensure!(args.rounds > 0, "there is nothing to measure");
    if args.keys > 0 {
        synchronize(&args).await?;
    }
    if args.distance_keys > 0 {
        distance::measure(&args).await?;
    }
    if args.backlog_changes > 0 {
        backlog::measure(&args).await?;
    }
    if args.check_keys > 0 {
        check::measure(&args).await?;
    }
    Ok(())
}

/// The first sync and the steady state.
async fn synchronize(args: &Args) -> Result<()> {
    let items = data::items(args.keys, args.value_bytes);
    let bytes: usize = items.iter().map(|(key, value)| key.len() + value.len()).sum();
    println!(
        "{} keys, values of {} bytes, {} MiB in all; {} rounds, interleaved; one etcd 3.6 on each side, each standby new",
        thousands(args.keys as f64),
        args.value_bytes,
        mib(bytes as f64),
        args.rounds
    );
    println!("{}", measure::machine()?);
    let primary = Cluster::start(real()).await?;
    let transactions = first_sync::transactions(items);
    first_sync::ingest(&primary, &transactions, 4).await?;

    let contenders = if args.only.is_empty() { Contender::ALL.to_vec() } else { args.only.clone() };
    let mut runs = Vec::new();
    for round in 1..=args.rounds {
        for &contender in &contenders {
            let run = first_sync::run(contender, args, &primary.endpoint(0), &transactions).await?;
            let speed = args.keys as f64 / run.elapsed.as_secs_f64();
            println!("  round {round}: {:<24}{:>9} keys/s", contender.name(), thousands(speed));
            runs.push(run);
        }
    }
    drop((primary, transactions));
    report(args, bytes, &runs);
    if args.seconds > 0 {
        steady::measure(args).await?;
    }
    Ok(())
}

/// One member that syncs its disk, as in production.
pub fn real() -> ClusterOptions {
    ClusterOptions { no_fsync: false, ..ClusterOptions::default() }
}

fn report(args: &Args, bytes: usize, runs: &[Run]) {
    let speed = |contender| {
        let of = runs.iter().filter(|run| run.contender == contender);
        measure::median(of.map(|run| args.keys as f64 / run.elapsed.as_secs_f64()))
    };
    let limit = Contender::INGEST.into_iter().filter_map(speed).reduce(f64::max);
    let (mirror, sync) = (speed(Contender::MakeMirror), speed(Contender::EtcdSync));
    let mut rows = vec![
        ["First sync", "keys/s", "MiB/s", "of make-mirror", "of the limit", "peak RSS", "CPU time"].map(String::from),
    ];
    for contender in Contender::ALL {
        let Some(median) = speed(contender) else { continue };
        let of = || runs.iter().filter(|run| run.contender == contender);
        let rss = measure::most(of().filter_map(|run| run.usage.map(|usage| usage.rss_bytes as f64)));
        let cpu = measure::median(of().filter_map(|run| run.usage.map(|usage| usage.cpu.as_secs_f64())));
        rows.push([
            contender.name().to_owned(),
            thousands(median),
            mib(median * bytes as f64 / args.keys as f64),
            ratio(Some(median), mirror),
            ratio(Some(median), limit),
            rss.map_or("-".into(), |rss| format!("{} MiB", mib(rss))),
            cpu.map_or("-".into(), |cpu| format!("{cpu:.2} s")),
        ]);
    }
    table::print(&rows);
    println!(
        "Medians of {} rounds; RSS is the highest of all rounds. \"The limit\" is the best of the ingest rows.",
        args.rounds
    );
    if let (Some(sync), Some(mirror)) = (sync, mirror) {
        verdict(
            &format!("at least {BAR_RATIO} times make-mirror"),
            sync / mirror >= BAR_RATIO,
            &ratio(Some(sync), Some(mirror)),
        );
    }
    let sync_rss = runs.iter().filter(|run| run.contender == Contender::EtcdSync).filter_map(|run| run.usage);
    if let Some(rss) = measure::most(sync_rss.map(|usage| usage.rss_bytes as f64)) {
        verdict(&format!("RSS under {BAR_RSS_MIB} MiB"), rss < BAR_RSS_MIB * 1_048_576.0, &format!("{} MiB", mib(rss)));
    }
}

fn verdict(bar: &str, met: bool, figure: &str) {
    println!("Bar: {bar}: {} ({figure})", if met { "met" } else { "NOT MET" });
}
