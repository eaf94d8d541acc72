//! `etcd-sync plan`: what a synchronization would do with every key, and the conflicts it would meet; writes nothing.

use anyhow::{Context, Result, bail};
use etcd_sync_core::compare::plan::Plan;
use etcd_sync_core::etcd::kv::KeyValue;
use etcd_sync_core::link::provenance::Moments;
use etcd_sync_core::link::role::Role;
use etcd_sync_core::link::side::Side;
use etcd_sync_core::link::state::cluster_id_text;
use etcd_sync_core::scope::content::CRDS;
use etcd_sync_core::session::walk::{Walk, WalkOptions};
use etcd_sync_core::session::{Refusal, role_allows};
use etcd_sync_operations::preflight::{ApiFact, Level, judge};
use etcd_sync_operations::{plan_text, status};
use etcd_sync_program::args::TableOutput;
use etcd_sync_program::config::{Config, PlanConfig};
use etcd_sync_store::link::pace::Pace;
use etcd_sync_store::link::record::{Record, local_keys};

use crate::facts::start::diverged;
use crate::facts::{identity, preflight};
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
    if let Some(identity) = identity::shared(&pair.primary, &pair.standby).await? {
        bail!("{}", Refusal::CopyOfStandby { identity });
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
        TableOutput::Json => print_json(&plan_text::json(&plan, &conflicts, paused.as_deref(), phase, &findings)),
        TableOutput::Table => {
            print(&plan_text::text(&plan, &conflicts, paused.is_some(), phase, &findings));
        }
    }
    let failed = paused.is_some() || findings.iter().any(|finding| finding.level == Level::Fail);
    Ok(if failed { Outcome::Differences } else { Outcome::Success })
}
