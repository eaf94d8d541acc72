//! What a comparison of many keys costs the monitor, beside reading all keys of both sides once.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use etcd_sync_core::etcd::kv::{KeyRange, successor};
use etcd_sync_core::etcd::request::{Op, Page, ReadRange, Txn};
use etcd_sync_core::link::state::StateKeys;
use etcd_sync_integration::client::Client;
use etcd_sync_integration::daemon::Daemon;
use etcd_sync_integration::etcd::Cluster;
use etcd_sync_integration::link::{Link, await_ready};
use serde_json::Value;

use crate::first_sync::{ingest, transactions};
use crate::measure::{median, most, usage};
use crate::table::{self, mib, ratio, thousands};
use crate::{Args, data, real};

/// Longest run of anything.
const WAIT: Duration = Duration::from_secs(600);

const VALUE_BYTES: usize = 64;

/// Keys of a page when everything is read once.
const PAGE_KEYS: i64 = 10_000;

/// The bars.
const BAR_TIME: f64 = 1.3;
const BAR_RSS_MIB: f64 = 64.0;

/// Measures and prints.
pub async fn measure(args: &Args) -> Result<()> {
    let keys = args.check_keys;
    println!("\n{} keys a side, values of {VALUE_BYTES} bytes, compared by the monitor", thousands(keys as f64));
    let (primary, standby) = tokio::try_join!(Cluster::start(real()), Cluster::start(real()))?;
    let all = transactions(data::items(keys, VALUE_BYTES));
    tokio::try_join!(ingest(&primary, &all, 4), ingest(&standby, &all, 4))?;
    drop(all);
    let link = Link { primary, standby, keys: StateKeys::new("default") };
    // Both hold the same already: this only writes the record.
    let daemon = link.daemon(&[])?;
    daemon.wait_line("Start Sync update", WAIT).await?;
    ensure!(daemon.terminate(Duration::from_secs(20)).await?.success(), "etcd-sync did not stop cleanly");
    let unlimited = ["--check-keys-per-second=0", "--check-bytes-per-second=0", "--check-timeout=10m"];
    let monitor = link.monitor(&[&unlimited[..], &["--check-interval=1d", "--deep-check-interval=0"]].concat())?;
    await_ready(&monitor, 200, "answering", WAIT).await?;
    check(&monitor, "", 0).await?;

    let (mut reads, mut checks) = (Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        reads.push(read_both(&link).await?.as_secs_f64());
        checks.push(check(&monitor, "", 0).await?.as_secs_f64());
    }
    let peak = || Ok::<f64, anyhow::Error>(usage(monitor.id())?.rss_bytes as f64);
    let rss = peak()?;
    let deep = (check(&monitor, "&deep=1", 0).await?.as_secs_f64(), peak()?);
    let lost = keys / 10;
    delete_some(&link, lost).await?;
    let differing = (check(&monitor, "", lost as u64).await?.as_secs_f64(), peak()?);

    let (read, compare) = (median(reads.into_iter()), median(checks.into_iter()));
    let row = |name: &str, seconds: Option<f64>, rss: Option<f64>| {
        let text = seconds.map_or("-".into(), |seconds| format!("{seconds:.2} s"));
        [name.to_owned(), text, ratio(seconds, read), rss.map_or("-".into(), |rss| format!("{} MiB", mib(rss)))]
    };
    table::print(&[
        ["Comparison", "time", "of the reading", "peak RSS"].map(String::from),
        row("reading all keys of both sides", read, None),
        row("/check", compare, Some(rss)),
        row("/check?deep=1", Some(deep.0), Some(deep.1)),
        row(&format!("/check with {} missed keys", thousands(lost as f64)), Some(differing.0), Some(differing.1)),
    ]);
    println!("Medians of {} rounds, interleaved; the last two once. RSS is the monitor's highest so far.", args.rounds);
    let times = compare.zip(read).map(|(compare, read)| compare / read).context("nothing was measured")?;
    crate::verdict(&format!("at most {BAR_TIME} times the reading"), times <= BAR_TIME, &format!("{times:.2} x"));
    let most = most([rss, deep.1, differing.1].into_iter()).unwrap_or(0.0);
    let bar = format!("RSS under {BAR_RSS_MIB} MiB");
    crate::verdict(&bar, most < BAR_RSS_MIB * 1_048_576.0, &format!("{} MiB", mib(most)));
    Ok(())
}

/// Every key of both sides, side by side, page after page.
async fn read_both(link: &Link) -> Result<Duration> {
    let (primary, standby) = (link.primary.client(), link.standby.client());
    let since = Instant::now();
    let (one, other) = tokio::try_join!(read_all(&primary), read_all(&standby))?;
    ensure!(one == other, "the two sides hold {one} and {other} keys");
    Ok(since.elapsed())
}

/// Directory by directory: etcd counts all that is left of a range at every page, so one large range would cost more.
async fn read_all(client: &Client) -> Result<usize> {
    let mut keys = 0;
    for directory in data::directories() {
        let mut range = KeyRange::prefix(directory.as_bytes());
        loop {
            let request = ReadRange { range: range.clone(), limit: PAGE_KEYS, keys_only: true, revision: 0 };
            let Page { kvs, more, .. } = client.read(request).await?;
            keys += kvs.len();
            match kvs.last() {
                Some(last) if more => range = range.from(successor(&last.key)),
                _ => break,
            }
        }
    }
    Ok(keys)
}

/// One comparison; it must find so many missed keys.
async fn check(monitor: &Daemon, parameters: &str, missed: u64) -> Result<Duration> {
    let since = Instant::now();
    let path = format!("/check?format=json&limit=1{parameters}");
    let (status, body) = monitor.http_with(&path, &[], WAIT).await?;
    let elapsed = since.elapsed();
    ensure!(status == 200, "{status}: {body}");
    let report: Value = serde_json::from_str(&body)?;
    ensure!(report["missed"] == missed && report["surplus"] == 0, "{report:#}");
    Ok(elapsed)
}

/// Deletes so many keys of the standby, from the first one on.
async fn delete_some(link: &Link, keys: usize) -> Result<()> {
    let client = link.standby.client();
    let range = KeyRange::prefix(b"/registry/");
    let page = client.read(ReadRange { range, limit: keys as i64, keys_only: true, revision: 0 }).await?;
    for some in page.kvs.chunks(100) {
        let success = some.iter().map(|kv| Op::Delete { key: kv.key.clone() }).collect();
        client.txn(Txn { success, ..Txn::default() }).await?;
    }
    Ok(())
}
