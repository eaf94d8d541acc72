//! `etcd-sync check`

use etcd_sync_program::args::CheckOutput;
use etcd_sync_program::config::{CheckConfig, Config};
use std::time::Duration;

use anyhow::{Context, Result};

use etcd_sync_store::compare::CompareOptions;
use etcd_sync_store::pace::Pace;

use super::{Outcome, print};

/// Compares both clusters and prints the report.
pub async fn run(config: Config, check: CheckConfig) -> Result<Outcome> {
    let pair = config.pair()?;
    let encryption = config.encryption()?;
    let options = CompareOptions {
        scope: &config.scope,
        encryption: &encryption,
        deep: check.deep,
        limit: check.timeout,
        patience: patience(check.timeout),
        pace: &Pace::unlimited(),
        progress: &|_, _| {},
    };
    let comparison = pair.compare(&options);
    let compared = tokio::time::timeout(check.timeout, comparison)
        .await
        .with_context(|| format!("the check did not end within {:?}: give it more --timeout", check.timeout))?;
    let report = compared.context("could not tell whether anything is missed")?;
    let limit = check.limit.unwrap_or(usize::MAX);
    match check.output {
        CheckOutput::Text => print(&report.text(limit, "--limit 0 shows all")),
        CheckOutput::Json => {
            let mut document = Vec::new();
            report.write_json(&mut document, &config.scope, usize::MAX, |_| None)?;
            document.push(b'\n');
            print(&String::from_utf8_lossy(&document));
        }
    }
    Ok(if report.consistent() { Outcome::Success } else { Outcome::Differences })
}

/// Waiting for a comparable moment may take half of the time, so that a reason is told before the time is up.
fn patience(timeout: Duration) -> Duration {
    timeout / 2
}
