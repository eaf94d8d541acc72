//! `etcd-sync status`: from the record in the standby, so it works while no daemon does.

use std::time::Duration;

use anyhow::{Context, Result};
use etcd_sync_core::etcd::kv::printable;
use etcd_sync_core::link::role::Role;
use etcd_sync_core::link::state::cluster_id_text;
use etcd_sync_operations::status::{Candidate, Head, Status};
use etcd_sync_program::args::TableOutput;
use etcd_sync_program::config::{Config, StatusConfig};
use etcd_sync_program::now_ms;
use etcd_sync_store::link::record::{Record, saved_keys};

use crate::output::{Outcome, print, print_json};

/// A primary that is away must not keep the operator from the rest.
const PRIMARY_TIMEOUT: Duration = Duration::from_secs(3);

/// Prints how far the link is. Exit code 1: replication is paused, the standby is promoted, or there is no leader.
pub async fn run(config: Config, options: StatusConfig) -> Result<Outcome> {
    let pair = config.pair()?;
    let record = Record::read(&pair.standby, &pair.keys).await.context("the standby's record cannot be read")?;
    let checkpoint = record.checkpoint()?;
    let saved = saved_keys(&pair.standby, &pair.keys).await.context("the saved values cannot be read")?;
    let primary = tokio::time::timeout(PRIMARY_TIMEOUT, pair.primary.identity()).await;
    let primary = match primary {
        Ok(Ok(head)) => Ok(Head { cluster: cluster_id_text(head.cluster_id), revision: head.revision }),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("the primary did not answer within {PRIMARY_TIMEOUT:?}")),
    };
    let status = Status {
        link: config.link,
        role: Role::of_key(record.role.as_ref()),
        role_text: record.role.as_ref().map(|kv| printable(&kv.value)),
        checkpoint,
        promotion: record.promotion().ok().flatten(),
        copied: record.copied.as_ref().and_then(|kv| serde_json::from_slice(&kv.value).ok()),
        question: record.question().ok().flatten(),
        acceptance: record.acceptance().ok().flatten(),
        saved: saved.len() as u64,
        candidates: record.candidates.into_iter().map(candidate).collect(),
        condition: record.condition,
        primary,
        standby_revision: record.revision,
        now_ms: now_ms(),
    };
    match options.output {
        TableOutput::Json => print_json(&status.json()),
        TableOutput::Table => print(&status.table()),
    }
    Ok(if status.is_replicating() { Outcome::Success } else { Outcome::Differences })
}

fn candidate(found: etcd_sync_store::link::record::Candidate) -> Candidate {
    Candidate { holder: found.holder, epoch: found.epoch }
}
