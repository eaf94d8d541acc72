//! `etcd-sync failover`: the primary is gone, and the standby takes its place.

use std::time::Duration;

use anyhow::Result;
use etcd_sync_core::link::state::PrimaryContact;
use etcd_sync_operations::preflight::Check;
use etcd_sync_operations::preflight::switch::{Compared, Last};
use etcd_sync_operations::procedure::{Accepted, Command, Missing, Outcome as Ended, Run, Step, plan};
use etcd_sync_program::args::TableOutput;
use etcd_sync_program::config::{Config, FailoverConfig};
use serde_json::json;

use crate::operations::procedure::facts::{self, Life};
use crate::operations::procedure::journal::Journal;
use crate::operations::procedure::look::{self, look};
use crate::operations::procedure::{Context, Equipment, conduct, go_on_or_begin, intent, steps};
use crate::operations::readiness::{For, Readiness};
use crate::output::typed;
use crate::output::{Outcome, print, print_json, refused_as};

/// What must be said to go on although the primary lives.
const WORDS: &str = "lose its writes";

/// Looks, says what is lost, plans, asks, and takes the steps. Exit code 1: refused, or stopped at a step.
pub async fn run(config: Config, options: FailoverConfig) -> Result<Outcome> {
    let procedure = &options.procedure;
    let equipment = Equipment::new(&config, procedure).await?;
    let context = equipment.context(&config, procedure);
    let table = procedure.output == TableOutput::Table;
    let show = |text: &str| {
        if table {
            print(text)
        }
    };
    show(&format!("FAILOVER of link {}: the primary is gone, and the standby takes its place.\n\n", config.link));
    let planned = plan(&intent(&config, procedure, Command::Failover));
    let mut begun = match go_on_or_begin(&context, Command::Failover, planned).await? {
        Ok(begun) => begun,
        Err(reason) => return Ok(refused_as(procedure.output, &reason)),
    };
    let looked = match begun.is_promoted {
        true => None,
        false => match judge(&context, &options, &mut begun.run).await? {
            Ok(looked) => Some(looked),
            Err(Refusal { reason, missing }) => {
                match &missing {
                    Some(missing) if table => print(&format!("{}\n", missing.text())),
                    _ if !table => {
                        print_json(&json!({ "refused": reason, "missing": missing, "loss": begun.run.loss }))
                    }
                    _ => {}
                }
                return Ok(begun.refused(&reason));
            }
        },
    };
    let despite = options.despite_live_primary.as_deref() == Some(WORDS);
    let take = async |step, journal: &mut Journal| take(&context, looked.as_ref(), despite, step, journal).await;
    conduct(&context, begun, take).await
}

/// A comparison that is older says little about now.
const COMPARED_MAX: Duration = Duration::from_secs(15 * 60);

/// Why a failover may not begin.
struct Refusal {
    reason: String,
    missing: Option<Missing>,
}

impl From<String> for Refusal {
    fn from(reason: String) -> Refusal {
        Refusal { reason, missing: None }
    }
}

/// Looks whether a failover may promote, and notes what it loses and what the operator takes upon himself.
async fn judge(context: &Context<'_>, options: &FailoverConfig, run: &mut Run) -> Result<Result<Readiness, Refusal>> {
    let show = |text: &str| {
        if options.procedure.output == TableOutput::Table {
            print(text)
        }
    };
    if let Err(reason) = facts::may_promote(context).await? {
        return Ok(Err(reason.into()));
    }
    run.accepted = Accepted {
        checks: options.procedure.accept.clone(),
        live_primary: options.despite_live_primary.as_deref() == Some(WORDS),
        ..Accepted::default()
    };
    let lives = match facts::primary_life(context).await {
        _ if run.accepted.live_primary => None,
        Life::Silent => None,
        Life::Answers => Some("the primary answers".to_owned()),
        Life::Unknown(why) => Some(format!("it is not known whether the primary is alive ({why})")),
    };
    let found = facts::loss(context).await?;
    let lives = lives.or_else(|| found.as_ref().err().filter(|_| !run.accepted.live_primary).cloned());
    if let Some(lives) = lives {
        return Ok(Err(format!(
            "{lives}, and what it takes from now on would be lost: use `etcd-sync switchover`, or stop it; to go on all the same, \
             give --despite-live-primary \"{WORDS}\""
        )
        .into()));
    }
    let (checkpoint, mut loss) = match found {
        Ok(found) => found,
        // It lives, and that is accepted: what it takes until the promotion is told then.
        Err(_) => facts::loss_now(context).await?,
    };
    run.accepted.unchecked = options.accept_unchecked;
    if let Some(reason) = steps::unfit(&checkpoint, options.accept_unchecked) {
        show(&format!("{}\n", loss.text()));
        run.loss = Some(loss);
        return Ok(Err(reason.into()));
    }
    let looked = look(context, For::Failover).await?;
    // The monitor may have seen the primary later than the synchronizer.
    if let Compared::Not { last: Last::Known(known), .. } = &looked.facts.compared
        && let Some(at_ms) = known.ended_ms
    {
        loss.learn(PrimaryContact { revision: known.revision, at_ms });
    }
    show(&format!("{}\n", loss.text()));
    run.loss = Some(loss);
    show(&format!("{}\n", looked.text()));
    if let Err(refusal) = missed(context, options, &looked, run).await? {
        return Ok(Err(refusal));
    }
    Ok(match look::forbids(context, &looked.findings) {
        Some(reason) => Err(reason.into()),
        None => Ok(looked),
    })
}

/// Whether what is missed, or what nobody knows, forbids to go on.
async fn missed(
    context: &Context<'_>,
    options: &FailoverConfig,
    looked: &Readiness,
    run: &mut Run,
) -> Result<Result<(), Refusal>> {
    let known = match &looked.facts.compared {
        Compared::Now(comparison) | Compared::Not { last: Last::Known(comparison), .. } => Some(comparison),
        Compared::Not { .. } => None,
    };
    let old = |at_ms: u64| context.called_ms.saturating_sub(at_ms) > COMPARED_MAX.as_millis() as u64;
    let unknown = match known {
        None => {
            Some("nobody knows whether keys are missed on this standby (--monitor URL names who remembers)".to_owned())
        }
        Some(known) if known.unproved > 0 => Some(format!("{} differences were not looked into", known.unproved)),
        Some(known) if known.ended_ms.is_some_and(old) => Some("the monitor's last comparison is too old".to_owned()),
        Some(_) => None,
    };
    if let Some(unknown) = unknown
        && !options.accept_unchecked
    {
        if options.procedure.yes {
            return Ok(Err(format!("{unknown}; to go on without knowing, give --accept-unchecked").into()));
        }
        let question = format!("{unknown}. Type unchecked to go on without knowing, anything else to stop: ");
        if let Err(reason) = typed(&question, "unchecked", options.procedure.dry_run, options.procedure.output)? {
            return Ok(Err(format!("{unknown}: {reason}").into()));
        }
        run.accepted.unchecked = true;
    }
    let Some(known) = known.filter(|known| known.missed > 0) else { return Ok(Ok(())) };
    (run.accepted.missed, run.accepted.missed_keys) = (known.missed, known.missed_keys.clone());
    if options.accept_missing == Some(known.missed) {
        return Ok(Ok(()));
    }
    let (doomed, unreadable) = facts::doomed(context).await?;
    let missing = Missing {
        missed: known.missed,
        missed_keys: known.missed_keys.clone(),
        seen_ms: known.ended_ms,
        doomed,
        unreadable,
    };
    let number = known.missed.to_string();
    let reason = match options.accept_missing {
        Some(accepted) => format!("keys missed: {number}, and --accept-missing says {accepted}"),
        None if options.procedure.accept.iter().any(|name| name == Check::Comparison.name()) => {
            format!("keys missed: {number}; --accept does not cover missed keys: give --accept-missing {number}")
        }
        None if options.procedure.yes => format!("keys missed: {number}"),
        None => {
            if options.procedure.output == TableOutput::Table {
                print(&format!("{}\n", missing.text()));
            }
            let question =
                format!("Type the number of missed keys ({number}) to go on WITHOUT them, anything else to stop: ");
            match typed(&question, &number, false, options.procedure.output)? {
                Ok(()) => return Ok(Ok(())),
                Err(reason) => return Ok(Err(format!("keys missed: {number}; {reason}").into())),
            }
        }
    };
    Ok(Err(Refusal { reason, missing: Some(missing) }))
}

async fn take(
    context: &Context<'_>,
    looked: Option<&Readiness>,
    despite: bool,
    step: Step,
    journal: &mut Journal,
) -> Result<Ended> {
    match step {
        Step::Preflight => Ok(look::outcome(looked)),
        Step::Promote => steps::promote_lost(context, despite, journal).await,
        other => steps::tail(context, other, journal).await,
    }
}
