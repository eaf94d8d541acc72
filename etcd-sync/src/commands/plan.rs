//! `etcd-sync plan`: what a synchronization would do with every key, and the conflicts it would meet; writes nothing.

use anyhow::{Context, Result, bail};
use etcd_sync_core::compare::conflicts::Report;
use etcd_sync_core::compare::plan::{Outcome as Fate, Plan};
use etcd_sync_core::etcd::kv::KeyValue;
use etcd_sync_core::link::provenance::Moments;
use etcd_sync_core::link::role::Role;
use etcd_sync_core::link::side::Side;
use etcd_sync_core::link::state::cluster_id_text;
use etcd_sync_core::scope::content::CRDS;
use etcd_sync_core::session::role_allows;
use etcd_sync_core::session::walk::{Walk, WalkOptions};
use etcd_sync_operations::preflight::{ApiFact, Finding, Level, judge};
use etcd_sync_operations::status;
use etcd_sync_program::args::TableOutput;
use etcd_sync_program::config::{Config, PlanConfig};
use etcd_sync_store::link::pace::Pace;
use etcd_sync_store::link::record::{Record, local_keys};
use serde_json::{Value, json};

use crate::facts::preflight;
use crate::facts::start::diverged;
use crate::output::{Outcome, print, print_json};

/// Reads both clusters and prints the plan. Exit code 1: the preflight fails or the role forbids it, so nothing of it would be
/// done.
pub async fn run(config: Config, options: PlanConfig) -> Result<Outcome> {
    let pair = config.pair()?;
    let encryption = config.encryption()?;
    let (primary, standby) = tokio::try_join!(pair.primary.identity(), pair.standby.identity())?;
    if primary.cluster_id == standby.cluster_id {
        let cluster = cluster_id_text(primary.cluster_id);
        bail!(
            "primary and standby are the same etcd cluster (id {cluster}): check --primary-endpoints and --standby-endpoints"
        );
    }
    let record = Record::read(&pair.standby, &pair.keys).await?;
    let checkpoint = record.checkpoint()?;
    let (role, promotion) = (Role::of_key(record.role.as_ref()), record.promotion().ok().flatten());
    let diverged = diverged(&pair.primary, &pair.keys).await?;
    let found = record.role.as_ref().map(|kv| &kv.value[..]);
    let paused = role_allows(&pair.keys, found, checkpoint.is_some(), &diverged, standby.cluster_id)
        .err()
        .map(|refusal| status::paused(&refusal, &role, promotion.as_ref()));
    if let (Some(paused), TableOutput::Table) = (&paused, options.output) {
        print(&format!("{paused}\n"));
    }
    let looked_at = preflight::Pair::new(&config, &pair, &encryption, checkpoint.is_none());
    let facts = preflight::facts(looked_at, false).await.context("the preflight is incomplete")?;
    let findings = judge(&facts);
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
    let reading = WalkOptions { prefetch: true, ..WalkOptions::new(Side::Primary) };
    let scope = &config.scope;
    // What a KMS holds was asked for when the preflight looked at samples.
    let open = |kv: &KeyValue| encryption.keyring.decrypt(&kv.key, &kv.value).ok();
    let pace = Pace::unlimited();
    let mut walk = Walk::new(&scope.ranges_below(CRDS), reading);
    pair.walk(&mut walk, &pace, true, |chunk, _| plan.learn(&chunk, scope, open))
        .await
        .context("the plan is incomplete")?;
    let mut walk = Walk::new(scope.ranges(), reading);
    pair.walk(&mut walk, &pace, true, |chunk, _| plan.chunk(chunk, scope, moments, |key| local.contains(key), open))
        .await
        .context("the plan is incomplete")?;
    let served = match &facts.standby_api {
        ApiFact::Answered { serves, .. } => serves.as_ref(),
        _ => None,
    };
    let conflicts = plan.take_conflicts(scope, served);
    let phase = checkpoint.as_ref().map(|checkpoint| checkpoint.phase.name());
    match options.output {
        TableOutput::Json => print_json(&as_json(&plan, &conflicts, paused.as_deref(), phase, &findings)),
        TableOutput::Table => {
            let first = first_line(paused.is_some(), phase);
            print(&(preflight_table(&findings) + &first + &as_table(&plan, &conflicts)));
        }
    }
    let failed = paused.is_some() || findings.iter().any(|finding| finding.level == Level::Fail);
    Ok(if failed { Outcome::Differences } else { Outcome::Success })
}

fn as_json(plan: &Plan, conflicts: &Report, paused: Option<&str>, phase: Option<&str>, findings: &[Finding]) -> Value {
    let groups = plan.groups().map(
        |(fate, reason, group)| json!({ "outcome": fate, "reason": reason, "count": group.count, "keys": group.keys }),
    );
    json!({
        "paused": paused.map(|paused| paused.split_whitespace().collect::<Vec<_>>().join(" ")),
        "phase": phase,
        "preflight": findings,
        "creates": plan.count(Fate::Create),
        "overwrites": plan.count(Fate::Overwrite),
        "deletes": plan.count(Fate::Delete),
        "groups": groups.collect::<Vec<_>>(),
        "conflicts": conflicts.groups,
        "not_looked_into": conflicts.not_looked_into,
    })
}

fn preflight_table(findings: &[Finding]) -> String {
    let mut text = "Preflight\n".to_owned();
    for finding in findings {
        text.push_str(&format!("  {}  {:13}  {}\n", finding.level.name(), finding.check.name(), finding.evidence));
        if let Some(fix) = &finding.fix {
            text.push_str(&format!("{:23}{fix}\n", ""));
        }
    }
    if findings.iter().any(|finding| finding.level == Level::Fail) {
        text.push_str("Nothing is written as long as something fails here.\n");
    }
    text.push('\n');
    text
}

/// What the counts stand for.
fn first_line(paused: bool, phase: Option<&str>) -> String {
    match (paused, phase) {
        (true, _) => "Replication is paused: what follows is only what a copy would do if it were not.\n".to_owned(),
        (false, None) => "This link has never run: what follows is its first sync.\n".to_owned(),
        (false, Some(phase)) => format!("The link is {phase}: what follows is a resync from scratch at this moment.\n"),
    }
}

fn as_table(plan: &Plan, conflicts: &Report) -> String {
    let mut text = String::new();
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
    conflicts_table(&mut text, conflicts);
    text
}

fn conflicts_table(text: &mut String, conflicts: &Report) {
    text.push_str(match conflicts.groups.is_empty() {
        true => "\nNo conflicts found.\n",
        false => "\nConflicts:\n",
    });
    for group in &conflicts.groups {
        text.push_str(&format!("{:>9}  {}\n", group.count, group.kind.name()));
        text.push_str(&format!("             {}\n             {}\n", group.will_happen, group.what_to_do));
        for example in &group.examples {
            let detail = if example.detail.is_empty() { String::new() } else { format!("  ({})", example.detail) };
            text.push_str(&format!("             {}{detail}\n", example.key));
            for key in &example.standby_keys {
                text.push_str(&format!("               standby: {key}\n"));
            }
        }
        let more = group.count - group.examples.len() as u64;
        if more > 0 && !group.examples.is_empty() {
            text.push_str(&format!("             … and {more} more (--limit 0 shows more)\n"));
        }
    }
    for gap in &conflicts.not_looked_into {
        text.push_str(&format!("Note: {gap}\n"));
    }
}
