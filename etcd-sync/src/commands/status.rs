//! `etcd-sync status`: from the record in the standby, so it works while no daemon does.

use std::time::Duration;

use anyhow::{Context, Result};
use etcd_sync_core::etcd::kv::printable;
use etcd_sync_core::link::role::Role;
use etcd_sync_core::link::state::{Checkpoint, cluster_id_text};
use etcd_sync_operations::status;
use etcd_sync_operations::text::{age, ago};
use etcd_sync_program::args::TableOutput;
use etcd_sync_program::config::{Config, StatusConfig};
use etcd_sync_program::now_ms;
use etcd_sync_store::link::record::Record;
use serde_json::{Value, json};

use crate::output::{Outcome, print, print_json};

/// A primary that is away must not keep the operator from the rest.
const PRIMARY_TIMEOUT: Duration = Duration::from_secs(3);

/// Prints how far the link is. Exit code 1: replication is paused, the standby is promoted, or there is no leader.
pub async fn run(config: Config, options: StatusConfig) -> Result<Outcome> {
    let pair = config.pair()?;
    let record = Record::read(&pair.standby, &pair.keys).await.context("the standby's record cannot be read")?;
    let checkpoint = record.checkpoint()?;
    let primary = tokio::time::timeout(PRIMARY_TIMEOUT, pair.primary.identity()).await;
    let primary = match primary {
        Ok(identity) => identity.map_err(|error| error.to_string()),
        Err(_) => Err(format!("the primary did not answer within {PRIMARY_TIMEOUT:?}")),
    };
    let role = record.role.as_ref().map(|kv| printable(&kv.value));
    let of = Role::of_key(record.role.as_ref());
    let lag = checkpoint.as_ref().zip(primary.as_ref().ok()).and_then(|(checkpoint, head)| {
        status::ahead(checkpoint, &of, &cluster_id_text(head.cluster_id), head.revision)
    });
    let copied: Option<Value> = record.copied.as_ref().and_then(|kv| serde_json::from_slice(&kv.value).ok());
    let view =
        View { config: &config, record: &record, checkpoint: checkpoint.as_ref(), role, of, lag, copied, primary };
    match options.output {
        TableOutput::Json => print_json(&view.json()),
        TableOutput::Table => print(&view.table()),
    }
    let moving = record.condition.is_none() && !record.candidates.is_empty() && view.of == Role::Standby;
    Ok(if moving { Outcome::Success } else { Outcome::Differences })
}

struct View<'a> {
    config: &'a Config,
    record: &'a Record,
    checkpoint: Option<&'a Checkpoint>,
    role: Option<String>,
    of: Role,
    lag: Option<i64>,
    copied: Option<Value>,
    primary: Result<etcd_sync_store::Identity, String>,
}

impl View<'_> {
    fn json(&self) -> Value {
        let leader = self.record.candidates.first();
        json!({
            "link": self.config.link,
            "role": self.role,
            "phase": self.checkpoint.map(|checkpoint| checkpoint.phase),
            "leader": leader.map(|leader| &leader.holder),
            "epoch": leader.map(|leader| leader.epoch),
            "candidates": self.record.candidates.iter().skip(1).map(|other| &other.holder).collect::<Vec<_>>(),
            "paused": self.record.condition,
            "checkpoint": self.checkpoint,
            "copied": self.copied,
            "lagRevisions": self.lag,
            "primary": match &self.primary {
                Ok(identity) => json!({
                    "cluster": cluster_id_text(identity.cluster_id),
                    "revision": identity.revision,
                }),
                Err(error) => json!({ "error": error }),
            },
            "standbyRevision": self.record.revision,
        })
    }

    fn table(&self) -> String {
        let mut rows = vec![
            ("Link", self.config.link.clone()),
            ("Role of the standby", self.role.clone().unwrap_or_else(|| "none yet: nothing has run".into())),
        ];
        match self.record.candidates.split_first() {
            None => rows.push(("Leader", "none: no synchronizer is running".into())),
            Some((leader, others)) => {
                rows.push(("Leader", format!("{} (epoch {})", leader.holder, leader.epoch)));
                let others: Vec<&str> = others.iter().map(|other| other.holder.as_str()).collect();
                rows.push(("Standing by", if others.is_empty() { "none".into() } else { others.join(", ") }));
            }
        }
        if let Some(condition) = &self.record.condition {
            rows.push((
                "PAUSED",
                format!(
                    "{} (for {}, reported by {})",
                    condition.paused,
                    age(Duration::from_millis(now_ms().saturating_sub(condition.since_ms))),
                    condition.holder
                ),
            ));
        }
        match self.checkpoint {
            None => rows.push(("Phase", "nothing was ever synchronized".into())),
            Some(checkpoint) => {
                rows.push(("Phase", self.phase(checkpoint)));
                let inside = if checkpoint.offset > 0 {
                    format!(", {} changes into it", checkpoint.offset)
                } else {
                    String::new()
                };
                rows.push(("Checkpoint", format!("primary revision {}{inside}", checkpoint.revision)));
                rows.push(("Last written", ago(now_ms(), checkpoint.at_ms)));
                rows.push(("Primary cluster", checkpoint.primary.clone()));
            }
        }
        rows.push((
            "Primary now",
            match &self.primary {
                Ok(identity) => {
                    let cluster = cluster_id_text(identity.cluster_id);
                    status::primary_now(self.checkpoint, &self.of, &cluster, identity.revision)
                }
                Err(error) => format!("not known: {error}"),
            },
        ));
        let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        rows.iter().map(|(name, value)| format!("{name:width$}  {value}\n")).collect()
    }

    fn phase(&self, checkpoint: &Checkpoint) -> String {
        let promotion = self.record.promotion().ok().flatten();
        if let Some(ended) = status::ended(&self.of, promotion.as_ref()) {
            return ended;
        }
        let name = checkpoint.phase.name();
        let part = |field: &str| self.copied.as_ref().and_then(|copied| copied[field].as_u64());
        match (checkpoint.phase, part("done"), part("total")) {
            (etcd_sync_core::link::state::Phase::Streaming, ..) => name.into(),
            (_, Some(done), Some(total)) => format!("{name} ({done} of {total} keys)"),
            _ => name.into(),
        }
    }
}
