//! Who carries a run out: one command at a time.
//!
//! The journal's compares already stop the slower of two commands, but only at its next entry: both may have called the operator's
//! hook, or deleted a pod, by then. A key under a lease keeps the second one from beginning.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use etcd_sync_core::etcd::kv::{KeyRange, printable};
use etcd_sync_core::etcd::request::ReadRange;
use etcd_sync_core::link::state::StateKeys;
use etcd_sync_store::Etcd;
use etcd_sync_store::client::election::{Leadership, campaign};
use tokio::time::sleep;
use tracing::{info, warn};

/// How long a command that was killed blocks the next one.
const TTL: Duration = Duration::from_secs(5);

/// Longer than that it is certainly alive.
const WAIT: Duration = Duration::from_secs(12);

/// The right to carry out a run of the link. It ends with the process, [`TTL`] later.
#[derive(Debug)]
pub struct Runner(Leadership);

impl Runner {
    /// Waits until no other command carries a run out. `who` is shown to others.
    ///
    /// # Errors
    /// Another command goes on and on, or the cluster cannot be written.
    pub async fn take(etcd: &Etcd, keys: &StateKeys, who: &str) -> Result<Runner> {
        let waiting = || info!("another command is at it, or was until a moment ago: waiting for at most {WAIT:?}");
        let led = campaign(etcd, &keys.runner_prefix, who.as_bytes(), TTL, waiting, sleep(WAIT)).await;
        match led.context("the journal cannot be written")? {
            Some(leadership) => Ok(Runner(leadership)),
            None => {
                let who = Runner::holder(etcd, keys).await?.unwrap_or_else(|| "another command".to_owned());
                bail!("{who} carries a run of this link out at this moment: leave it to that command, or stop it first")
            }
        }
    }

    /// Who carries a run out at this moment.
    ///
    /// # Errors
    /// The cluster cannot be read.
    pub async fn holder(etcd: &Etcd, keys: &StateKeys) -> Result<Option<String>> {
        let range = KeyRange::prefix(&keys.runner_prefix);
        let page = etcd.read(ReadRange { range, limit: 0, keys_only: false, revision: 0 }).await?;
        Ok(page.kvs.iter().min_by_key(|kv| kv.create_revision).map(|kv| printable(&kv.value)))
    }

    /// Does what only its holder may do.
    ///
    /// # Errors
    /// The right was lost meanwhile, and the work dropped; or its own.
    pub async fn during<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            done = work => done,
            () = self.0.lost() => bail!(
                "this command was stopped or did not reach the journal for {TTL:?}, so another one may have taken over the run: see \
                 `etcd-sync journal`, and give the same command again to go on"
            ),
        }
    }

    /// Makes way for the next one at once.
    pub async fn done(self) {
        if let Err(error) = self.0.resign().await {
            warn!(%error, "the next command has to wait for {TTL:?}");
        }
    }
}
