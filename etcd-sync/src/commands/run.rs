//! `etcd-sync run`

use anyhow::Result;

use crate::daemon;
use crate::output::Outcome;
use etcd_sync_program::config::{Config, RunConfig};

/// Synchronizes until stopped.
pub async fn run(config: Config, run: RunConfig) -> Result<Outcome> {
    daemon::run(config, run).await?;
    Ok(Outcome::Success)
}
