//! `etcd-sync switchover`: the roles change while both clusters live, and nothing is lost.

use anyhow::Result;
use etcd_sync_operations::procedure::{Command, Intent, Outcome as Ended, Run, Step, WritersHow, decide, plan};
use etcd_sync_program::args::TableOutput;
use etcd_sync_program::config::{Config, SwitchoverConfig};

use crate::operations::procedure::journal::Journal;
use crate::operations::procedure::look::look;
use crate::operations::procedure::steps::{self, SwitchSteps};
use crate::operations::procedure::{Context, Equipment, conduct, facts, go_on_or_begin, intent};
use crate::operations::readiness::{For, Readiness};
use crate::output::{Outcome, or_refused, print_json, refuse, refused_as};

/// Checks, plans, asks, and takes the steps. Exit code 1: refused, or stopped at a step.
pub async fn run(config: Config, options: SwitchoverConfig) -> Result<Outcome> {
    let procedure = &options.procedure;
    let equipment = Equipment::new(&config, procedure).await?;
    let context = equipment.context(&config, procedure);
    let executor = context.executor(Command::Switchover);
    executor
        .show(&format!("SWITCHOVER of link {}: the standby becomes primary, and nothing is lost.\n\n", config.link));
    let mut begun = match go_on_or_begin(&executor, plan(&wanted(&config, &options))).await {
        Ok(begun) => begun,
        Err(error) => return or_refused(error, |refusal| refused_as(procedure.output, &refusal.to_string())),
    };
    let is_promoted = steps::is_promoted(&context, &begun.run).await?;
    let mut looked = None;
    if !is_promoted {
        if let Err(error) = facts::may_promote(&context).await {
            return or_refused(error, |refusal| refused_as(procedure.output, &refusal.to_string()));
        }
        let found = looked.insert(look(&context, For::Switchover).await?);
        executor.show(&format!("{}\n", found.text()));
        if let Err(error) = accept(&context, found, &mut begun.run) {
            return or_refused(error, |refusal| {
                let refusal = refusal.to_string();
                if executor.output == TableOutput::Json {
                    print_json(&serde_json::json!({ "refused": refusal, "preflight": found.json() }));
                }
                begun.refused(&refusal)
            });
        }
    }
    let findings = looked.as_ref().map(|looked| &looked.findings[..]);
    let take = async |step: Step, journal: &mut Journal| -> Result<Ended> {
        match step {
            Step::Preflight => Ok(decide::preflight_outcome(findings)),
            other => hand_over(&context, &options, other, journal).await,
        }
    };
    conduct(&context, &executor, begun, &mut SwitchSteps { context: &context, is_promoted, take }).await
}

/// Refuses what the preflight forbids, and notes what the operator accepts.
fn accept(context: &Context<'_>, looked: &Readiness, run: &mut Run) -> Result<()> {
    let accepted = &context.procedure.accept;
    let silent = looked.facts.primary.is_err();
    decide::may_switch_over(&looked.findings, accepted, silent).or_else(refuse)?;
    run.accepted.checks.clone_from(accepted);
    Ok(())
}

async fn hand_over(
    context: &Context<'_>,
    options: &SwitchoverConfig,
    step: Step,
    journal: &mut Journal,
) -> Result<Ended> {
    let command = options.stop_writers_command.as_deref();
    match step {
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
