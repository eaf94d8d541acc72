//! `etcd-sync failover`: the primary is gone, and the standby takes its place.

use anyhow::Result;
use etcd_sync_core::procedure::{Command, Intent, Outcome as Ended, Run, State, Step, WritersHow, plan};
use etcd_sync_core::state::Phase;
use etcd_sync_program::args::TableOutput;
use etcd_sync_program::config::{Config, FailoverConfig};

use super::confirm::typed;
use super::{Outcome, print, print_json, refused};
use crate::procedure::journal::{Journal, new_id};
use crate::procedure::{Context, execute, facts, go_on_or_begin, steps};

/// What must be said to go on although the primary lives.
const WORDS: &str = "lose its writes";

/// Looks, says what is lost, plans, asks, and takes the steps. Exit code 1: refused, or stopped at a step.
pub async fn run(config: Config, options: FailoverConfig) -> Result<Outcome> {
    let (pair, encryption) = (config.pair()?, config.encryption()?);
    let procedure = &options.procedure;
    let context = Context {
        pair: &pair,
        link: &config.link,
        scope: &config.scope,
        encryption: &encryption,
        api_servers: &config.api_servers,
        primary_endpoints: config.primary.endpoints(),
        procedure,
    };
    let planned = plan(&intent(&config));
    let (mut journal, run) = match go_on_or_begin(&context, Command::Failover, &planned).await? {
        Err(reason) => return Ok(refused(&reason)),
        Ok(Some(journal)) => {
            let run = journal.run().clone();
            (Some(journal), run)
        }
        Ok(None) => {
            let mut run = Run::new(new_id(), Command::Failover, &config.link, planned);
            if let Err(reason) = judge(&context, &options, &mut run).await? {
                return Ok(refused(&reason));
            }
            (None, run)
        }
    };
    let table = procedure.output == TableOutput::Table;
    if table {
        print(&begin_text(&context, &run, journal.is_some()));
    }
    if procedure.dry_run {
        if !table {
            print_json(&run.json());
        }
        return Ok(Outcome::Success);
    }
    let question = "\nType failover to go on, anything else to leave everything as it is: ";
    if let Err(reason) = typed(question, "failover", procedure.yes, procedure.output)? {
        return Ok(refused(&format!("nothing was changed: {reason}")));
    }
    let journal = match &mut journal {
        Some(journal) => journal,
        None => {
            let folder = procedure.journal_folder.as_deref();
            journal.insert(Journal::begin(&pair.standby, &pair.keys, folder, run).await?)
        }
    };
    execute(&context, journal, async |step, journal| take(&context, step, journal).await).await?;
    if !table {
        print_json(&journal.run().json());
    }
    Ok(if journal.run().state == State::Completed { Outcome::Success } else { Outcome::Differences })
}

/// Whether a failover may begin; notes what is lost.
async fn judge(context: &Context<'_>, options: &FailoverConfig, run: &mut Run) -> Result<Result<(), String>> {
    if let Err(reason) = facts::may_promote(context).await? {
        return Ok(Err(reason));
    }
    if facts::primary_answers(context).await.is_ok() && options.despite_live_primary.as_deref() != Some(WORDS) {
        return Ok(Err(format!(
            "the primary answers, and what it takes from now on would be lost: use `etcd-sync switchover`, or stop it; to go on \
             all the same, give --despite-live-primary \"{WORDS}\""
        )));
    }
    let (checkpoint, loss) = facts::loss(context).await?;
    run.loss = Some(loss);
    if checkpoint.phase == Phase::FirstSync {
        return Ok(Err(
            "the first sync was never complete: the standby holds only a part of what the primary had".into()
        ));
    }
    Ok(Ok(()))
}

async fn take(context: &Context<'_>, step: Step, journal: &mut Journal) -> Result<Ended> {
    match step {
        Step::Promote => steps::promote_lost(context, journal).await,
        Step::ClientPort => Ok(steps::client_port(context).await),
        other => Ok(Ended::Skipped(format!("{} is not there yet", other.name()))),
    }
}

fn intent(config: &Config) -> Intent {
    Intent {
        command: Command::Failover,
        primary: config.primary.endpoints().join(", "),
        standby: config.standby.endpoints().join(", "),
        fence_primary: false,
        writers: WritersHow::Manual,
        dns: None,
        inside: None,
        restart_first: Vec::new(),
        restart: Vec::new(),
    }
}

fn begin_text(context: &Context<'_>, run: &Run, goes_on: bool) -> String {
    let mut text = format!("FAILOVER of link {}: the standby becomes primary.\n\n", context.link);
    if goes_on {
        text += &format!("{}\n", run.text());
    } else if let Some(loss) = &run.loss {
        text += &format!("{}\n", loss.text());
    }
    text + &run.plan_text()
}
