//! The commands, one file each. Data goes to stdout, the log to stderr.

pub mod bootstrap;
pub mod check;
pub mod confirm;
pub mod dns;
pub mod drill;
pub mod failover;
pub mod journal;
pub mod plan;
pub mod preflight;
mod primary;
pub mod prune;
pub mod rejoin;
pub mod restart_services;
pub mod restore;
pub mod run;
pub mod status;
pub mod switchover;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use etcd_sync_core::check::Report;
use etcd_sync_core::scope::Scope;
use etcd_sync_program::FAILED;
use etcd_sync_program::args::TableOutput;
use etcd_sync_store::compare::CompareOptions;
use etcd_sync_store::encryption::Encryption;
use etcd_sync_store::pace::Pace;
use etcd_sync_store::pair::Pair;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be.
    Success,
    /// Differences, or a refusal.
    Differences,
    /// What was looked at is not as it must be.
    Failed,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> ExitCode {
        match outcome {
            Outcome::Success => ExitCode::SUCCESS,
            Outcome::Differences => ExitCode::from(1),
            Outcome::Failed => ExitCode::from(FAILED),
        }
    }
}

/// Writes a command's data to stdout. A reader that went away early is no error.
pub fn print(data: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(data.as_bytes()).and_then(|()| stdout.flush());
}

/// One JSON document, as `-o json` prints it.
pub fn print_json(value: &serde_json::Value) {
    print(&format!("{value:#}\n"));
}

/// A refusal, told on stderr.
pub fn refused(reason: &str) -> Outcome {
    eprintln!("etcd-sync: {reason}");
    Outcome::Differences
}

/// [`refused`], and for programs a document that says so.
pub fn refused_as(output: TableOutput, reason: &str) -> Outcome {
    if output == TableOutput::Json {
        print_json(&serde_json::json!({ "refused": reason }));
    }
    refused(reason)
}

/// The exact comparison, within `timeout` and as fast as both clusters answer. `cannot` says what stays unknown without it.
pub async fn compare(
    pair: &Pair,
    scope: &Scope,
    encryption: &Encryption,
    deep: bool,
    timeout: Duration,
    cannot: &'static str,
) -> Result<Report> {
    let options = CompareOptions {
        scope,
        encryption,
        deep,
        limit: timeout,
        // So that a reason is told before the time is up.
        patience: timeout / 2,
        pace: &Pace::unlimited(),
        progress: &|_, _| {},
    };
    let compared = tokio::time::timeout(timeout, pair.compare(&options)).await;
    compared
        .with_context(|| format!("the comparison did not end within {timeout:?}: give it more --timeout"))?
        .context(cannot)
}
