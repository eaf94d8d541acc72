//! The standby has everything.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use etcd_sync_core::link::state::Phase;
use etcd_sync_operations::procedure::Outcome;
use etcd_sync_operations::text::span;

use crate::operations::procedure::Context;

/// Nobody leads for a moment when a leader hands over.
const NOBODY_LEADS_MAX: Duration = Duration::from_secs(30);

const SLICE: Duration = Duration::from_secs(2);

/// Waits until the checkpoint has reached the primary's last revision.
pub async fn drain(context: &Context<'_>, limit: Duration) -> Result<Outcome> {
    let pair = context.pair;
    let (began, deadline) = (Instant::now(), Instant::now() + limit);
    let head = pair.primary.identity().await.context("the primary cannot be read")?.revision;
    let mut led = Instant::now();
    loop {
        let record = context.record().await?;
        let checkpoint = record.checkpoint()?.context("nothing was ever synchronized into this standby")?;
        if checkpoint.phase == Phase::Streaming && checkpoint.offset == 0 && checkpoint.revision >= head {
            let took = span(began.elapsed());
            return Ok(Outcome::Done(format!("the standby has the primary's revision {head}, after {took}")));
        }
        if let Some(condition) = &record.condition {
            return Ok(Outcome::Failed(format!("replication is paused: {}", condition.paused)));
        }
        match record.candidates.is_empty() {
            false => led = Instant::now(),
            true if led.elapsed() > NOBODY_LEADS_MAX => {
                return Ok(Outcome::Failed("no synchronizer is running: start `etcd-sync run`".into()));
            }
            true => {}
        }
        let (phase, revision) = (checkpoint.phase.name(), checkpoint.revision);
        // In slices: who leads, and whether replication is paused, must be seen meanwhile.
        pair.checkpoint_moves(record.revision + 1, deadline.min(Instant::now() + SLICE)).await?;
        if Instant::now() >= deadline {
            return Ok(Outcome::Failed(format!(
                "the standby is at revision {revision} of {head} ({phase}) after {}: look at `etcd-sync status` and the \
                 synchronizer's log, or give it more --drain-timeout",
                span(limit)
            )));
        }
    }
}
