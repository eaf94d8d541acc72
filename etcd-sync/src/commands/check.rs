//! `etcd-sync check`

use anyhow::Result;
use etcd_sync_program::args::CheckOutput;
use etcd_sync_program::config::{CheckConfig, Config};

use crate::facts::comparison::compare;
use crate::output::{Outcome, print};

/// Compares both clusters and prints the report.
pub async fn run(config: Config, check: CheckConfig) -> Result<Outcome> {
    let pair = config.pair()?;
    let encryption = config.encryption()?;
    let cannot = "could not tell whether anything is missed";
    let report = compare(&pair, &config.scope, &encryption, check.deep, check.timeout, cannot).await?;
    let limit = check.limit.unwrap_or(usize::MAX);
    match check.output {
        CheckOutput::Text => print(&report.text(limit, "--limit 0 shows all")),
        CheckOutput::Json => {
            let mut document = Vec::new();
            report.write_json(&mut document, &config.scope, usize::MAX, None, |_| None)?;
            document.push(b'\n');
            print(&String::from_utf8_lossy(&document));
        }
    }
    Ok(if report.consistent() { Outcome::Success } else { Outcome::Differences })
}
