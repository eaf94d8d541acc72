//! The comparisons: at their intervals, and for callers, who share them. A caller gets one that began after the call, so that
//! what was done before the call is seen by it; whoever calls while one is under way shares the next one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use etcd_sync_core::compare::check::Report;
use etcd_sync_program::config::{Config, MonitorConfig};
use etcd_sync_program::logging::DETAIL;
use etcd_sync_program::now_ms;
use etcd_sync_store::link::compare::CompareOptions;
use etcd_sync_store::link::pace::Pace;
use etcd_sync_store::link::pair::Pair;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{info, warn};

use crate::board::Board;
use crate::depth::ByDepth;
use crate::history::{Ended, History};
use crate::view::{CheckResult, Running, Verdict};

/// Callers that may wait for a comparison at once.
const WAITING_MAX: usize = 500;

/// How often open pages get the progress of a comparison.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);

/// Values that differ are compared again after so many intervals of the checks.
const CHECKS_BETWEEN_DEEP: u32 = 5;

/// Longest wait for a moment at which the two can be compared.
const PATIENCE_MAX: Duration = Duration::from_secs(30);

/// Keys named in the log when they are new.
const LOGGED_MAX: usize = 100;

/// What a caller gets.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Number of the result.
    pub id: u64,
    /// When it ended, in Unix milliseconds.
    pub ended_ms: u64,
    /// Or why there is no verdict.
    pub report: Result<Arc<Report>, String>,
}

/// Where comparisons are asked for. Cheap to clone.
#[derive(Clone)]
pub struct Checks {
    lanes: ByDepth<mpsc::Sender<oneshot::Sender<Checked>>>,
}

/// Compares for everybody who waits; keys and values have a lane each, and the pace lets keys pass.
struct Lane {
    deep: bool,
    config: Arc<Config<MonitorConfig>>,
    pair: Pair,
    board: Arc<Board>,
    pace: Arc<Pace>,
}

impl Checks {
    /// Begins to compare at the configured intervals.
    pub fn start(config: Arc<Config<MonitorConfig>>, pair: Pair, board: Arc<Board>) -> Checks {
        let pace = Arc::new(Pace::new(config.command.keys_per_second, config.command.bytes_per_second));
        let lane = |deep| {
            let (sender, callers) = mpsc::channel(WAITING_MAX);
            let lane = Lane {
                deep,
                config: Arc::clone(&config),
                pair: pair.clone(),
                board: Arc::clone(&board),
                pace: Arc::clone(&pace),
            };
            tokio::spawn(lane.work(callers));
            sender
        };
        let lanes = ByDepth { keys: lane(false), values: lane(true) };
        let checks = Checks { lanes };
        tokio::spawn(checks.clone().compare_keys(config.command.check_interval));
        tokio::spawn(checks.clone().compare_values(config, board));
        checks
    }

    /// Compares, or shares the next comparison. `None`: too many wait already.
    pub async fn check(&self, deep: bool) -> Option<Checked> {
        self.ask(deep)?.await.ok()
    }

    /// As [`Checks::check`], for whoever does not wait for the outcome. `false`: too many wait already.
    pub fn begin(&self, deep: bool) -> bool {
        self.ask(deep).is_some()
    }

    fn ask(&self, deep: bool) -> Option<oneshot::Receiver<Checked>> {
        let (sender, receiver) = oneshot::channel();
        self.lanes.of(deep).try_send(sender).ok()?;
        Some(receiver)
    }

    async fn compare_keys(self, every: Duration) {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.check(false).await;
        }
    }

    /// At their interval, and more often while some are known to differ: whether they still do must not stay unknown.
    async fn compare_values(self, config: Arc<Config<MonitorConfig>>, board: Arc<Board>) {
        let soon = config.command.check_interval * CHECKS_BETWEEN_DEEP;
        let every = config.command.deep_check_interval;
        let pause = every.map_or(soon, |every| every.min(soon));
        let mut looked: Option<Instant> = None;
        loop {
            let due = every.is_some_and(|every| looked.is_none_or(|looked| looked.elapsed() >= every));
            if due || board.history(History::values_differ) {
                looked = Some(Instant::now());
                self.check(true).await;
            }
            tokio::time::sleep(pause).await;
        }
    }
}

impl Lane {
    async fn work(self, mut callers: mpsc::Receiver<oneshot::Sender<Checked>>) {
        let mut verdict = None;
        while let Some(first) = callers.recv().await {
            let mut waiting = vec![first];
            while let Ok(another) = callers.try_recv() {
                waiting.push(another);
            }
            let (started_ms, began) = (now_ms(), Instant::now());
            let report = self.compare(started_ms).await.map(Arc::new);
            let took_ms = began.elapsed().as_millis() as u64;
            let deep = self.deep;
            let result = self.board.ended(Ended { began, started_ms, took_ms, deep, report: report.clone() });
            self.board.running(deep, None);
            log(&mut verdict, &result, report.as_deref().ok());
            for caller in waiting {
                // Who has gone away needs no answer.
                let _ = caller.send(Checked { id: result.id, ended_ms: started_ms + took_ms, report: report.clone() });
            }
        }
    }

    async fn compare(&self, started_ms: u64) -> Result<Report, String> {
        // The file may have a new key since the last time.
        let encryption = self.config.encryption().map_err(|error| error.to_string())?;
        let progress = (AtomicU64::new(0), AtomicU64::new(0));
        let limit = self.config.command.check_timeout;
        let options = CompareOptions {
            scope: &self.config.scope,
            encryption: &encryption,
            deep: self.deep,
            limit,
            patience: (limit / 2).min(PATIENCE_MAX),
            pace: &self.pace,
            progress: &|done, total| {
                progress.0.store(done, Ordering::Relaxed);
                progress.1.store(total, Ordering::Relaxed);
            },
        };
        let compared = timeout(limit, self.pair.compare(&options));
        tokio::pin!(compared);
        let mut ticks = interval(PROGRESS_INTERVAL);
        loop {
            tokio::select! {
                compared = &mut compared => return match compared {
                    Ok(compared) => compared.map_err(|error| error.to_string()),
                    Err(_) => Err(format!(
                        "the comparison did not end within {}: raise --check-timeout, --check-keys-per-second or --check-bytes-per-second",
                        humantime::format_duration(limit)
                    )),
                },
                _ = ticks.tick() => {
                    let (done, total) = (progress.0.load(Ordering::Relaxed), progress.1.load(Ordering::Relaxed));
                    self.board.running(self.deep, Some(Running { deep: self.deep, started_ms, done, total }));
                }
            }
        }
    }
}

/// Says what has changed since the last comparison of its kind.
fn log(before: &mut Option<(Verdict, u64, u64, u64)>, result: &CheckResult, report: Option<&Report>) {
    let mismatched = result.mismatched.unwrap_or(0);
    let now = (result.verdict, result.missed, result.surplus, mismatched);
    if before.replace(now) == Some(now) {
        return;
    }
    let (missed, surplus, deep) = (result.missed, result.surplus, result.deep);
    match (&result.error, result.verdict) {
        (Some(error), _) => warn!(deep, %error, "check: no verdict"),
        (None, Verdict::Consistent) => info!(deep, keys = result.keys_compared, "check: consistent"),
        (None, _) => warn!(deep, missed, surplus, mismatched, "check: the two clusters differ"),
    }
    for finding in report.into_iter().flat_map(Report::differences).take(LOGGED_MAX) {
        info!(target: DETAIL, difference = finding.difference.name(), key = %finding.key, "differs");
    }
}
