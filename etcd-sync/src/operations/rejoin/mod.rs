//! The steps of `etcd-sync rejoin`: [`Rejoin::know`] and [`Rejoin::look`] before anything is asked, then [`RejoinSteps`], which the
//! executor of journaled runs takes. The journal lies in the old primary.
//!
//! `pair.primary` is the new primary, `pair.standby` the old one.

mod converge;
mod follow;
mod know;
mod look;
mod role;
mod steps;

pub use converge::Synchronizer;
pub use follow::Follower;
pub use know::Known;
pub use look::Saved;
pub use steps::{From, RejoinSteps};

use anyhow::{Context, Result};
use etcd_sync_core::etcd::kv::Revision;
use etcd_sync_kms::Encryption;
use etcd_sync_operations::procedure::Command;
use etcd_sync_program::config::{Config, RejoinConfig};
use etcd_sync_program::now_ms;
use etcd_sync_store::link::pair::Pair;

use crate::operations::procedure::Executor;

/// What every step works with.
pub struct Rejoin<'a> {
    config: &'a Config,
    options: &'a RejoinConfig,
    pair: Pair,
    encryption: Encryption,
    /// When the command was called, in Unix milliseconds.
    called_ms: u64,
}

impl<'a> Rejoin<'a> {
    /// Makes the clients; nothing is sent yet.
    pub fn new(config: &'a Config, options: &'a RejoinConfig) -> Result<Self> {
        let called_ms = now_ms();
        Ok(Rejoin { config, options, pair: config.pair()?, encryption: config.encryption()?, called_ms })
    }

    /// Both clusters.
    pub fn pair(&self) -> &Pair {
        &self.pair
    }

    /// What carries out its steps.
    pub fn executor(&self) -> Executor<'_> {
        Executor {
            command: Command::Rejoin,
            link: &self.config.link,
            pair: &self.pair,
            by: &self.options.by,
            called_ms: self.called_ms,
            journal_folder: self.options.journal_folder.as_deref(),
            output: self.options.output,
        }
    }

    /// The newest revision of the cluster that rejoins.
    pub async fn standby_revision(&self) -> Result<Revision> {
        Ok(self.pair.standby.identity().await.context("the old primary cannot be read")?.revision)
    }
}
