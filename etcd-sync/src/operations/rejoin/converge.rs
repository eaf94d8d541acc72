//! The copy by difference, by the daemon's own machinery, and the last comparison.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use etcd_sync_core::etcd::kv::Revision;
use etcd_sync_core::link::state::Phase;
use etcd_sync_core::session::BrakeLimits;
use etcd_sync_operations::rejoin::Proof;
use etcd_sync_program::config::{DeletionLimits, RunConfig};
use etcd_sync_program::{Stop, Switch};
use etcd_sync_store::link::record::Record;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tracing::info;

use super::Rejoin;
use crate::daemon::{self, Health};
use crate::facts::comparison::compare;

const LOOK: Duration = Duration::from_millis(200);

/// A link that is paused for so long waits for the operator.
const PAUSED: Duration = Duration::from_secs(20);

/// What differs after the copy may be on its way: the standby's controllers delete, and the synchronizer puts back.
const PROOFS: u32 = 6;
const BETWEEN_PROOFS: Duration = Duration::from_secs(5);

/// A synchronizer inside of this process: one more candidate beside those that run there.
#[derive(Debug)]
pub struct Synchronizer {
    task: JoinHandle<Result<()>>,
    switch: Switch,
    holder: String,
}

impl Synchronizer {
    /// Starts it.
    pub fn start(rejoin: &Rejoin, stop: &Stop) -> Result<Synchronizer> {
        let holder = rejoin.options.holder.clone();
        let run = RunConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            holder: holder.clone(),
            lease: None,
            leader_ttl: Duration::from_secs(10),
            transactions_in_flight: 8,
            copy_bytes_per_second: 0,
            copy_writes_per_second: 0,
            checkpoint_interval: Duration::from_millis(500),
            ready_lag: Duration::from_secs(30),
            deletions: DeletionLimits { percent: 10, count: 100 },
            brake: BrakeLimits::DEFAULT,
            // A command that somebody watches goes as far as etcd lets it.
            standby_quota_reserve: 0,
            allow_unproved_encryption: rejoin.options.allow_unproved_encryption,
        };
        let (switch, stop) = stop.part();
        let health = Arc::new(Health::new(run.ready_lag));
        let task = tokio::spawn(daemon::inside(rejoin.config, run, health, stop)?);
        Ok(Synchronizer { task, switch, holder })
    }

    /// Ends it, and hands the leadership over.
    pub async fn stop(self) -> Result<()> {
        drop(self.switch);
        match self.task.await {
            Ok(ended) => ended,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }
}

impl Rejoin<'_> {
    /// Waits until the old primary has all that the new one has now. Gives the revision of the new one, and whether another
    /// synchronizer runs.
    pub async fn converge(&self, synchronizer: &Synchronizer) -> Result<(Revision, bool)> {
        let target = self.pair.primary.identity().await.context("the new primary cannot be read")?.revision;
        let deadline = Instant::now() + self.options.timeout;
        let mut paused: Option<(String, Instant)> = None;
        loop {
            if synchronizer.task.is_finished() {
                bail!("the synchronizer inside of this command has ended: run it again to go on");
            }
            let record = match Record::read(&self.pair.standby, &self.pair.keys).await {
                Ok(record) => record,
                Err(error) if error.is_transient() && Instant::now() < deadline => {
                    info!(%error, "the standby does not answer just now");
                    sleep(LOOK).await;
                    continue;
                }
                Err(error) => return Err(error).context("the standby cannot be read: run it again to go on"),
            };
            let others = record.candidates.iter().any(|candidate| candidate.holder != synchronizer.holder);
            if let Some(checkpoint) = record.checkpoint()?
                && checkpoint.phase == Phase::Streaming
                && checkpoint.revision >= target
                && checkpoint.offset == 0
            {
                return Ok((checkpoint.revision, others));
            }
            paused = match (record.condition, paused) {
                (None, _) => None,
                (Some(now), Some((why, since))) if now.paused == why => Some((why, since)),
                (Some(now), _) => Some((now.paused, Instant::now())),
            };
            if let Some((why, since)) = &paused
                && since.elapsed() > PAUSED
            {
                bail!("the copy is paused; fix the reason, then run this command again to go on: {why}");
            }
            if Instant::now() > deadline {
                bail!("the copy took longer than --timeout {:?}: run it again to go on", self.options.timeout);
            }
            sleep(LOOK).await;
        }
    }

    /// Who else takes part in the election.
    pub async fn others(&self, synchronizer: &Synchronizer) -> Result<Vec<String>> {
        let record =
            Record::read(&self.pair.standby, &self.pair.keys).await.context("it is not known who else synchronizes")?;
        let holders = record.candidates.into_iter().map(|candidate| candidate.holder);
        Ok(holders.filter(|holder| *holder != synchronizer.holder).collect())
    }

    /// Compares everything, values included, while the synchronizer runs.
    pub async fn prove(&self) -> Result<Proof> {
        let mut tries = 0;
        loop {
            tries += 1;
            let cannot = "could not tell whether everything is here";
            let report =
                compare(&self.pair, &self.config.scope, &self.encryption, true, self.options.timeout, cannot).await?;
            let revision = report.at.primary_revision;
            if report.complete() {
                return Ok(Proof::Complete { revision, compared: report.compared });
            }
            let (missed, mismatched) = (report.missed.count, report.mismatched.count + report.unproved);
            if tries == PROOFS {
                return Ok(Proof::Differs { revision, missed, mismatched });
            }
            info!(missed, mismatched, "not everything is equal yet; looking again");
            sleep(BETWEEN_PROOFS).await;
        }
    }
}
