//! The same over the link between two sites: as narrow, and as long, as those that the product is made for.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use etcd_sync_core::link::state::StateKeys;
use etcd_sync_integration::daemon::Daemon;
use etcd_sync_integration::etcd::Cluster;
use etcd_sync_integration::link::Link;
use etcd_sync_integration::toxiproxy::{NetworkProfile, Toxiproxy};
use etcd_sync_store::Side;

use crate::first_sync::{self, Contender, ingest, transactions};
use crate::measure::{median, percentile};
use crate::steady;
use crate::table::{self, ratio, thousands};
use crate::{Args, data, real};

/// Longest run of anything.
const WAIT: Duration = Duration::from_secs(300);
/// 100 Mbit/s.
const BYTES_PER_SECOND: u64 = 12_500_000;
/// From one site to the other and back.
const ROUND_TRIPS_MS: [u64; 3] = [0, 30, 100];
const CONTENDERS: [Contender; 2] = [Contender::MakeMirror, Contender::EtcdSync];

/// Measures and prints.
pub async fn measure(args: &Args) -> Result<()> {
    let items = data::items(args.distance_keys, args.value_bytes);
    let bytes: usize = items.iter().map(|(key, value)| key.len() + value.len()).sum();
    let keys = items.len() as f64;
    println!(
        "\n{} keys, values of {} bytes, over a link of 100 Mbit/s from the primary; {} rounds, interleaved",
        thousands(keys),
        args.value_bytes,
        args.rounds
    );
    let contenders = CONTENDERS.into_iter().filter(|one| args.only.is_empty() || args.only.contains(one));
    let contenders: Vec<Contender> = contenders.collect();
    let primary = Cluster::start(real()).await?;
    let all = transactions(items);
    ingest(&primary, &all, 4).await?;
    let mut runs = Vec::new();
    for round in 1..=args.rounds {
        for round_trip in ROUND_TRIPS_MS {
            for &contender in &contenders {
                let (_toxiproxy, endpoint) = network_path(&primary, round_trip).await?;
                let run = first_sync::run(contender, args, &endpoint, &all).await?;
                let speed = keys / run.elapsed.as_secs_f64();
                println!("  round {round}: {round_trip:>3} ms, {:<20}{:>9} keys/s", contender.name(), thousands(speed));
                runs.push((round_trip, contender, speed));
            }
        }
    }
    let speed = |round_trip, contender| {
        let of = runs.iter().filter(|(at, who, _)| (*at, *who) == (round_trip, contender));
        median(of.map(|(.., speed)| *speed))
    };
    let limit = BYTES_PER_SECOND as f64 / (bytes as f64 / keys);
    let mut rows = vec![
        ["First sync, and the round trip", "keys/s", "of make-mirror", "of what the way carries"].map(String::from),
    ];
    for round_trip in ROUND_TRIPS_MS {
        for &contender in &contenders {
            let figure = speed(round_trip, contender);
            rows.push([
                format!("{} at {round_trip} ms", contender.name()),
                thousands(figure.unwrap_or_default()),
                ratio(figure, speed(round_trip, Contender::MakeMirror)),
                ratio(figure, Some(limit)),
            ]);
        }
    }
    table::print(&rows);
    if args.seconds > 0 {
        steady_state(args).await?;
    }
    Ok(())
}

/// How late the standby is, behind the time that a change takes to come over.
async fn steady_state(args: &Args) -> Result<()> {
    let mut rows = vec![["Lag, and the round trip", "p50", "p99", "changes/s"].map(String::from)];
    for round_trip in ROUND_TRIPS_MS {
        let (primary, standby) = tokio::try_join!(Cluster::start(real()), Cluster::start(real()))?;
        let items = data::items(steady::KEYS, args.value_bytes);
        ingest(&primary, &transactions(items.clone()), 4).await?;
        let (_toxiproxy, endpoint) = network_path(&primary, round_trip).await?;
        let mut flags = vec![format!("--primary-endpoints={endpoint}")];
        flags.extend(standby.flags(Side::Standby));
        flags.extend(args.run_flags.split_whitespace().map(str::to_owned));
        let daemon = Daemon::start(&flags, &[])?;
        daemon.wait_line("Start Sync update", WAIT).await?;
        let link = Link { primary, standby, keys: StateKeys::new("default") };
        let client = link.primary.client();
        let time = Duration::from_secs(args.seconds);
        let (mut lags, pace) = steady::lag(&link, &client, &Arc::from(items), time).await?;
        let figure = |lags: &mut Vec<f64>, percent| format!("{:.1} ms", percentile(lags, percent));
        let name = format!("etcd-sync run at {round_trip} ms");
        rows.push([name, figure(&mut lags, 50.0), figure(&mut lags, 99.0), thousands(pace)]);
        ensure!(daemon.terminate(Duration::from_secs(20)).await?.success(), "etcd-sync did not stop cleanly");
    }
    table::print(&rows);
    println!("A change takes half of the round trip to come over.");
    Ok(())
}

/// A network path to the primary, and the URL at its end.
async fn network_path(primary: &Cluster, round_trip_ms: u64) -> Result<(Toxiproxy, String)> {
    let endpoint = primary.endpoint(0);
    let port = endpoint.rsplit(':').next().and_then(|port| port.parse().ok()).context("an endpoint has a port")?;
    let network =
        NetworkProfile { round_trip: Duration::from_millis(round_trip_ms), bytes_per_second: BYTES_PER_SECOND };
    let toxiproxy = Toxiproxy::start(port, network).await?;
    let url = format!("http://127.0.0.1:{}", toxiproxy.port());
    Ok((toxiproxy, url))
}
