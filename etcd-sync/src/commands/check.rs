//! `etcd-sync check`

use etcd_sync_program::args::CheckOutput;
use etcd_sync_program::config::{CheckConfig, Config};
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Outcome, print, print_json};

/// Compares both clusters and prints the report.
pub async fn run(config: Config, check: CheckConfig) -> Result<Outcome> {
    let pair = config.pair()?;
    let encryption = config.encryption()?;
    let comparison = pair.compare(&config.scope, &encryption, check.deep, patience(check.timeout));
    let compared = tokio::time::timeout(check.timeout, comparison)
        .await
        .with_context(|| format!("the check did not end within {:?}: give it more --timeout", check.timeout))?;
    let report = compared.context("could not tell whether anything is missed")?;
    match check.output {
        CheckOutput::Text => print(&report.text(check.limit.unwrap_or(usize::MAX))),
        CheckOutput::Json => print_json(&report.json()),
    }
    Ok(if report.consistent() { Outcome::Success } else { Outcome::Differences })
}

/// Waiting for a comparable moment may take half of the time, so that a reason is told before the time is up.
fn patience(timeout: Duration) -> Duration {
    timeout / 2
}
