//! `etcd-sync run`

use anyhow::Result;

use super::Outcome;
use crate::daemon;
use etcd_sync_program::config::{Config, RunConfig};

/// Synchronizes until stopped.
pub async fn run(config: Config, run: RunConfig) -> Result<Outcome> {
    daemon::run(config, run).await?;
    Ok(Outcome::Success)
}
