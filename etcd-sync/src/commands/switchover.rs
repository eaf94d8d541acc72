//! `etcd-sync switchover`: the roles change while both clusters live, and nothing is lost.

use anyhow::Result;
use etcd_sync_operations::preflight::{Check, Level};
use etcd_sync_operations::procedure::{Command, Intent, Outcome as Ended, Step, WritersHow, plan};
use etcd_sync_program::args::TableOutput;
use etcd_sync_program::config::{Config, SwitchoverConfig};

use crate::operations::procedure::journal::Journal;
use crate::operations::procedure::look::{self, look};
use crate::operations::procedure::{Context, Equipment, conduct, facts, go_on_or_begin, intent, steps};
use crate::operations::readiness::{For, Readiness};
use crate::output::{Outcome, print, print_json, refused_as};

/// Looks, plans, asks, and takes the steps. Exit code 1: refused, or stopped at a step.
pub async fn run(config: Config, options: SwitchoverConfig) -> Result<Outcome> {
    let procedure = &options.procedure;
    let equipment = Equipment::new(&config, procedure).await?;
    let context = equipment.context(&config, procedure);
    let table = procedure.output == TableOutput::Table;
    let show = |text: &str| {
        if table {
            print(text)
        }
    };
    show(&format!("SWITCHOVER of link {}: the standby becomes primary, and nothing is lost.\n\n", config.link));
    let planned = plan(&wanted(&config, &options));
    let mut begun = match go_on_or_begin(&context, Command::Switchover, planned).await? {
        Ok(begun) => begun,
        Err(reason) => return Ok(refused_as(procedure.output, &reason)),
    };
    let looked = match begun.is_promoted {
        true => None,
        false => {
            if let Err(reason) = facts::may_promote(&context).await? {
                return Ok(refused_as(procedure.output, &reason));
            }
            let looked = look(&context, For::Switchover).await?;
            show(&format!("{}\n", looked.text()));
            if let Some(reason) = forbids(&context, &looked) {
                if !table {
                    print_json(&serde_json::json!({ "refused": reason, "preflight": looked.json() }));
                }
                return Ok(begun.refused(&reason));
            }
            begun.run.accepted.checks.clone_from(&procedure.accept);
            Some(looked)
        }
    };
    let take = async |step, journal: &mut Journal| take(&context, &options, looked.as_ref(), step, journal).await;
    conduct(&context, begun, take).await
}

/// Why a switchover may not begin.
fn forbids(context: &Context<'_>, looked: &Readiness) -> Option<String> {
    let missed =
        looked.findings.iter().find(|finding| finding.check == Check::Comparison && finding.level == Level::Fail);
    let reason = missed
        .map(|finding| format!("the preflight failed (check): {}", finding.text()))
        .or_else(|| look::forbids(context, &looked.findings))?;
    let silent = if looked.facts.primary.is_err() { "; if the primary is gone: `etcd-sync failover`" } else { "" };
    Some(format!("{reason}{silent}"))
}

async fn take(
    context: &Context<'_>,
    options: &SwitchoverConfig,
    looked: Option<&Readiness>,
    step: Step,
    journal: &mut Journal,
) -> Result<Ended> {
    let command = options.stop_writers_command.as_deref();
    match step {
        Step::Preflight => Ok(look::outcome(looked)),
        Step::MarkPrimaryDemoted if !options.mark_primary_demoted => {
            Ok(Ended::Skipped("--mark-primary-demoted=false".into()))
        }
        Step::MarkPrimaryDemoted => steps::mark_primary_demoted(context.pair, journal).await,
        Step::StopWriters => steps::stop_writers(context, command, options.writers_timeout, journal).await,
        Step::Drain => steps::drain(context, options.drain_timeout).await,
        Step::Compare => steps::compare(context, options.accept_mismatched, journal).await,
        Step::Promote => steps::promote_drained(context, journal).await,
        other => steps::tail(context, other, journal).await,
    }
}

fn wanted(config: &Config, options: &SwitchoverConfig) -> Intent {
    let writers = options.stop_writers_command.clone().map_or(WritersHow::Manual, WritersHow::Command);
    let intent = intent(config, &options.procedure, Command::Switchover);
    Intent { mark_primary_demoted: options.mark_primary_demoted, writers, ..intent }
}
