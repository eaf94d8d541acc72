//! `etcd-sync preflight`: everything that must hold before the roles are switched; writes nothing.

use anyhow::Result;
use etcd_sync_operations::preflight::{Level, worst};
use etcd_sync_program::args::TableOutput;
use etcd_sync_program::config::{Config, PreflightConfig};

use crate::operations::dns::Dns;
use crate::operations::readiness::{Context, look};
use crate::output::{Outcome, print, print_json};

/// Looks and prints what was found. Exit code 1: warnings, 2: something fails.
pub async fn run(config: Config, options: PreflightConfig) -> Result<Outcome> {
    let dns = Dns::new(&options.dns)?;
    let context = Context { config: &config, readiness: &options.readiness, dns: dns.as_ref() };
    let readiness = look(&context, options.purpose).await?;
    match options.output {
        TableOutput::Table => print(&readiness.text()),
        TableOutput::Json => print_json(&readiness.json()),
    }
    Ok(match worst(&readiness.findings) {
        Level::Pass => Outcome::Success,
        Level::Warn => Outcome::Differences,
        Level::Fail => Outcome::Failed,
    })
}
