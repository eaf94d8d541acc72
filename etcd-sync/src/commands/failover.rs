//! `etcd-sync failover`: the primary is gone, and the standby takes its place.

use anyhow::Result;
use etcd_sync_core::link::state::PrimaryContact;
use etcd_sync_operations::preflight::switch::{Compared, Last};
use etcd_sync_operations::procedure::{
    Accepted, Command, DESPITE_LIVE_PRIMARY, MissedWhy, Missing, Outcome as Ended, Question, Refusal, Run, Step,
    decide, plan,
};
use etcd_sync_program::args::TableOutput;
use etcd_sync_program::config::{Config, FailoverConfig};
use serde_json::json;

use crate::operations::procedure::facts::{self, AtRest};
use crate::operations::procedure::journal::Journal;
use crate::operations::procedure::look::look;
use crate::operations::procedure::steps::{self, SwitchSteps};
use crate::operations::procedure::{Begun, Context, Equipment, Executor, conduct, go_on_or_begin, intent};
use crate::operations::readiness::{For, Readiness};
use crate::output::{Answer, Outcome, Refused, or_refused, print, print_json, refuse, refused_as, typed};

/// Checks, says what is lost, plans, asks, and takes the steps. Exit code 1: refused, or stopped at a step.
pub async fn run(config: Config, options: FailoverConfig) -> Result<Outcome> {
    let procedure = &options.procedure;
    let equipment = Equipment::new(&config, procedure).await?;
    let context = equipment.context(&config, procedure);
    let executor = context.executor(Command::Failover);
    executor
        .show(&format!("FAILOVER of link {}: the primary is gone, and the standby takes its place.\n\n", config.link));
    let planned = plan(&intent(&config, procedure, Command::Failover));
    let mut begun = match go_on_or_begin(&executor, planned).await {
        Ok(begun) => begun,
        Err(error) => return or_refused(error, |refusal| refused_as(procedure.output, &refusal.to_string())),
    };
    let is_promoted = steps::is_promoted(&context, &begun.run).await?;
    let looked = match is_promoted {
        true => None,
        false => {
            match (Judge { context: &context, options: &options, executor: &executor }).run(&mut begun.run).await {
                Ok(looked) => Some(looked),
                Err(error) => return or_refused(error, |refusal| show_refusal(&executor, &begun, refusal)),
            }
        }
    };
    let findings = looked.as_ref().map(|looked| &looked.findings[..]);
    let despite = despite(&options);
    let take = async |step: Step, journal: &mut Journal| -> Result<Ended> {
        match step {
            Step::Preflight => Ok(decide::preflight_outcome(findings)),
            Step::Promote => steps::promote_lost(&context, despite, journal).await,
            other => steps::tail(&context, other, journal).await,
        }
    };
    conduct(&context, &executor, begun, &mut SwitchSteps { context: &context, is_promoted, take }).await
}

/// Whether the operator accepts that the primary is alive.
fn despite(options: &FailoverConfig) -> bool {
    options.despite_live_primary.as_deref() == Some(DESPITE_LIVE_PRIMARY)
}

/// A refusal, with what is missed where that is the reason.
fn show_refusal(executor: &Executor<'_>, begun: &Begun, refusal: &Refused) -> Outcome {
    let missing = match refusal.as_ref() {
        Some(Refusal::Missed { missing, why }) => Some((missing, why)),
        _ => None,
    };
    match executor.output {
        TableOutput::Json => print_json(&json!({
            "refused": refusal.to_string(),
            "missing": missing.map(|(missing, _)| missing),
            "loss": begun.run.loss,
        })),
        TableOutput::Table => match missing {
            // What is missed was shown with the question.
            None | Some((_, MissedWhy::Declined(_))) => {}
            Some((missing, _)) => print(&format!("{}\n", missing.text())),
        },
    }
    begun.refused(&refusal.to_string())
}

/// Gathers what decides whether a failover may promote.
struct Judge<'a> {
    context: &'a Context<'a>,
    options: &'a FailoverConfig,
    executor: &'a Executor<'a>,
}

impl Judge<'_> {
    /// Notes in the run what it loses and what the operator accepts. Refuses, or gives the preflight.
    async fn run(&self, run: &mut Run) -> Result<Readiness> {
        let Judge { context, options, executor } = self;
        facts::may_promote(context).await?;
        run.accepted = Accepted {
            checks: options.procedure.accept.clone(),
            live_primary: despite(options),
            unchecked: options.accept_unchecked,
            ..Accepted::default()
        };
        let life = facts::primary_life(context).await;
        decide::is_gone(life.clone(), false, run.accepted.live_primary).or_else(refuse)?;
        let AtRest { checkpoint, mut loss, receiving } = facts::at_rest(context).await?;
        decide::is_gone(life, receiving, run.accepted.live_primary).or_else(refuse)?;
        if let Err(refusal) = decide::is_fit(checkpoint.phase, options.accept_unchecked) {
            executor.show(&format!("{}\n", loss.text()));
            run.loss = Some(loss);
            return refuse(refusal);
        }
        let looked = look(context, For::Failover).await?;
        // The monitor may have seen the primary later than the synchronizer.
        if let Compared::Not { last: Last::Known(known), .. } = &looked.facts.compared
            && let Some(at_ms) = known.ended_ms
        {
            loss.learn(PrimaryContact { revision: known.revision, at_ms });
        }
        executor.show(&format!("{}\n{}\n", loss.text(), looked.text()));
        run.loss = Some(loss);
        self.unchecked(&looked, run)?;
        self.missed(&looked, run).await?;
        decide::may_begin(&looked.findings, &options.procedure.accept).or_else(refuse)?;
        Ok(looked)
    }

    /// Refuses, or asks, where nobody knows whether keys are missed.
    fn unchecked(&self, looked: &Readiness, run: &mut Run) -> Result<()> {
        let procedure = &self.options.procedure;
        let unknown = decide::unknown(&looked.facts.compared, self.context.called_ms);
        let question = decide::unchecked(unknown.as_ref(), self.options.accept_unchecked, procedure.yes);
        let (Question::Ask, Some(unknown)) = (question.or_else(refuse)?, unknown) else { return Ok(()) };
        let question = format!("{unknown}. Type unchecked to go on without knowing, anything else to stop: ");
        match typed(&question, "unchecked", procedure.dry_run, procedure.output)? {
            Answer::Yes => run.accepted.unchecked = true,
            Answer::No(why) => return refuse(Refusal::UncheckedDeclined { unknown, why: why.to_string() }),
        }
        Ok(())
    }

    /// Refuses, or asks, where keys are missed.
    async fn missed(&self, looked: &Readiness, run: &mut Run) -> Result<()> {
        let (options, procedure) = (self.options, &self.options.procedure);
        let known = decide::last_comparison(&looked.facts.compared).filter(|known| known.missed > 0);
        let Some(known) = known else { return Ok(()) };
        (run.accepted.missed, run.accepted.missed_keys) = (known.missed, known.missed_keys.clone());
        if options.accept_missing == Some(known.missed) {
            return Ok(());
        }
        let (doomed, unreadable) = facts::doomed(self.context).await?;
        let (missed, missed_keys, seen_ms) = (known.missed, known.missed_keys.clone(), known.ended_ms);
        let missing = Missing { missed, missed_keys, seen_ms, doomed, unreadable };
        let question = decide::missed(&missing, options.accept_missing, &procedure.accept, procedure.yes);
        if question.or_else(refuse)? == Question::None {
            return Ok(());
        }
        self.executor.show(&format!("{}\n", missing.text()));
        let question =
            format!("Type the number of missed keys ({missed}) to go on WITHOUT them, anything else to stop: ");
        match typed(&question, &missed.to_string(), false, procedure.output)? {
            Answer::Yes => Ok(()),
            Answer::No(why) => {
                refuse(Refusal::Missed { missing: Box::new(missing), why: MissedWhy::Declined(why.to_string()) })
            }
        }
    }
}
