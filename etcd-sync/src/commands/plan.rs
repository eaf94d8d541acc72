//! `etcd-sync plan`: what a synchronization would do with every key; writes nothing.

use anyhow::{Context, Result, bail};
use etcd_sync_core::plan::{Outcome as Fate, Plan};
use etcd_sync_core::provenance::Moments;
use etcd_sync_core::state::cluster_id_text;
use etcd_sync_core::walk::{Side, Walk, WalkOptions};
use etcd_sync_store::record::{Record, local_keys};
use serde_json::{Value, json};

use super::{Outcome, print, print_json};
use crate::args::TableOutput;
use crate::config::{Config, PlanConfig};

/// Reads both clusters and prints the plan.
pub async fn run(config: Config, options: PlanConfig) -> Result<Outcome> {
    let pair = config.pair()?;
    let (primary, standby) = tokio::try_join!(pair.primary.identity(), pair.standby.identity())?;
    if primary.cluster_id == standby.cluster_id {
        let cluster = cluster_id_text(primary.cluster_id);
        bail!(
            "primary and standby are the same etcd cluster (id {cluster}): check --primary-endpoints and --standby-endpoints"
        );
    }
    let record = Record::read(&pair.standby, &pair.keys).await?;
    let checkpoint = record.checkpoint()?;
    let moments = checkpoint.as_ref().map(|checkpoint| Moments {
        base: checkpoint.base,
        // As the resync itself will see it: of a wider scope nothing was looked at before.
        seen: if checkpoint.scope == config.scope.fingerprint() { checkpoint.seen } else { 0 },
        last_write: record.last_write(),
        began: record.revision,
    });
    let local = local_keys(&pair.standby, &pair.keys).await?;
    let mut plan = Plan::new(options.limit.unwrap_or(usize::MAX));
    // The standby is read after each page of the primary, at the newest revision: a plan is for people, not for fences.
    let reading =
        WalkOptions { lead: Side::Primary, keys_only: false, lead_revision: 0, follow_revision: 0, prefetch: true };
    let mut walk = Walk::new(config.scope.ranges(), reading);
    pair.walk(&mut walk, |chunk| plan.chunk(chunk, &config.scope, moments, |key| local.contains(key)))
        .await
        .context("the plan is incomplete")?;
    let phase = checkpoint.as_ref().map(|checkpoint| checkpoint.phase.name());
    match options.output {
        TableOutput::Json => print_json(&as_json(&plan, phase)),
        TableOutput::Table => print(&as_table(&plan, phase)),
    }
    Ok(Outcome::Success)
}

fn as_json(plan: &Plan, phase: Option<&str>) -> Value {
    let groups = plan.groups().map(
        |(fate, reason, group)| json!({ "outcome": fate, "reason": reason, "count": group.count, "keys": group.keys }),
    );
    json!({
        "phase": phase,
        "creates": plan.count(Fate::Create),
        "overwrites": plan.count(Fate::Overwrite),
        "deletes": plan.count(Fate::Delete),
        "groups": groups.collect::<Vec<_>>(),
    })
}

fn as_table(plan: &Plan, phase: Option<&str>) -> String {
    let mut text = match phase {
        None => "This link has never run: what follows is its first sync.\n".to_owned(),
        Some(phase) => format!("The link is {phase}: what follows is a resync from scratch at this moment.\n"),
    };
    for (fate, reason, group) in plan.groups() {
        let reason = if reason.is_empty() { String::new() } else { format!("  ({reason})") };
        text.push_str(&format!("{:>9}  {}{reason}\n", group.count, fate.name()));
        for key in &group.keys {
            text.push_str(&format!("             {key}\n"));
        }
        let more = group.count - group.keys.len() as u64;
        if more > 0 && !group.keys.is_empty() {
            text.push_str(&format!("             … and {more} more (--limit 0 shows all)\n"));
        }
    }
    text
}
