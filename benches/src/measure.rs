//! What the system knows about a process, about its disk, and the statistics of a few runs.

use std::io::{Seek, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Kernel ticks per second in /proc: USER_HZ, 100 on every Linux that etcd runs on.
const TICKS_PER_SECOND: u64 = 100;

/// What a process has used so far.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// The most memory it ever held (VmHWM).
    pub rss_bytes: u64,
    /// User and system time.
    pub cpu: Duration,
}

/// Reads a living process.
pub fn usage(id: u32) -> Result<Usage> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).context("read a process's status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM: has it ended?")?;
    let kib: u64 = peak.trim().trim_end_matches(" kB").parse().context("VmHWM is no number")?;
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).context("read a process's times")?;
    // The name in brackets may hold spaces; what follows it begins with field 3, and the times are 14 and 15.
    let (_, fields) = stat.rsplit_once(") ").context("no name in the times")?;
    let ticks: u64 = fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Usage { rss_bytes: kib * 1024, cpu: Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND) })
}

/// Memory of a process that is no file, now, in bytes.
pub fn own_memory(id: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).context("read a process's status")?;
    let anonymous =
        status.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("no RssAnon: has it ended?")?;
    let kib: u64 = anonymous.trim().trim_end_matches(" kB").parse().context("RssAnon is no number")?;
    Ok(kib * 1024)
}

/// The most of it while something else is done, looked at twenty times a second.
pub async fn most_memory<T>(id: u32, work: impl Future<Output = Result<T>>) -> Result<(T, u64)> {
    let mut most = own_memory(id)?;
    let mut look = tokio::time::interval(Duration::from_millis(50));
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return Ok((done?, most.max(own_memory(id)?))),
            _ = look.tick() => most = most.max(own_memory(id)?),
        }
    }
}

/// The machine in a line: how many cores, and how long its disk takes to be sure of 2 KiB.
pub fn machine() -> Result<String> {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let mut file = tempfile::tempfile().context("make a file to measure the disk")?;
    let mut times = Vec::new();
    for _ in 0..200 {
        file.rewind()?;
        file.write_all(&[7; 2048])?;
        let since = Instant::now();
        file.sync_data()?;
        times.push(since.elapsed().as_secs_f64() * 1e3);
    }
    let (half, most) = (percentile(&mut times, 50.0), percentile(&mut times, 99.0));
    Ok(format!(
        "{cores} cores; the disk takes {half:.2} ms for fdatasync of 2 KiB (p99 {most:.2} ms); etcds sync as by default"
    ))
}

/// The middle one; the mean of the two in the middle.
pub fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[half]),
        _ => Some((values[half - 1] + values[half]) / 2.0),
    }
}

/// The largest.
pub fn most(values: impl Iterator<Item = f64>) -> Option<f64> {
    values.reduce(f64::max)
}

/// The value that so many percent do not exceed; 0 when there is none.
pub fn percentile(values: &mut [f64], percent: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() as f64 * percent / 100.0).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}
