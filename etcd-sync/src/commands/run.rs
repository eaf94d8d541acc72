//! `etcd-sync run`

use anyhow::Result;

use super::Outcome;
use crate::config::{Config, RunConfig};
use crate::daemon;

/// Synchronizes until stopped.
pub async fn run(config: Config, run: RunConfig) -> Result<Outcome> {
    daemon::run(config, run).await?;
    Ok(Outcome::Success)
}
