//! `etcd-sync switchover`: the roles change while both clusters live, and nothing is lost.

use anyhow::Result;
use etcd_sync_core::procedure::{Command, Intent, Outcome as Ended, Run, State, Step, WritersHow, plan};
use etcd_sync_program::args::TableOutput;
use etcd_sync_program::config::{Config, SwitchoverConfig};

use super::confirm::typed;
use super::{Outcome, print, print_json, refused};
use crate::procedure::journal::{Journal, new_id};
use crate::procedure::{Context, execute, facts, go_on_or_begin, steps};

/// Looks, plans, asks, and takes the steps. Exit code 1: refused, or stopped at a step.
pub async fn run(config: Config, options: SwitchoverConfig) -> Result<Outcome> {
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
    let planned = plan(&intent(&config, &options));
    let (mut journal, run) = match go_on_or_begin(&context, Command::Switchover, &planned).await? {
        Err(reason) => return Ok(refused(&reason)),
        Ok(Some(journal)) => {
            let run = journal.run().clone();
            (Some(journal), run)
        }
        Ok(None) => {
            if let Err(reason) = facts::may_promote(&context).await? {
                return Ok(refused(&reason));
            }
            (None, Run::new(new_id(), Command::Switchover, &config.link, planned))
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
    let question = "\nType switchover to go on, anything else to leave everything as it is: ";
    if let Err(reason) = typed(question, "switchover", procedure.yes, procedure.output)? {
        return Ok(refused(&format!("nothing was changed: {reason}")));
    }
    let journal = match &mut journal {
        Some(journal) => journal,
        None => {
            let folder = procedure.journal_folder.as_deref();
            journal.insert(Journal::begin(&pair.standby, &pair.keys, folder, run).await?)
        }
    };
    execute(&context, journal, async |step, journal| take(&context, &options, step, journal).await).await?;
    if !table {
        print_json(&journal.run().json());
    }
    Ok(if journal.run().state == State::Completed { Outcome::Success } else { Outcome::Differences })
}

async fn take(context: &Context<'_>, options: &SwitchoverConfig, step: Step, journal: &mut Journal) -> Result<Ended> {
    let command = options.stop_writers_command.as_deref();
    match step {
        Step::FencePrimary if !options.fence_primary => Ok(Ended::Skipped("--fence-primary=false".into())),
        Step::FencePrimary => steps::fence_primary(context.pair, &journal.run().id).await,
        Step::StopWriters => steps::stop_writers(context, command, options.writers_timeout, journal).await,
        Step::Drain => steps::drain(context, options.drain_timeout).await,
        Step::Compare => steps::compare(context, options.accept_mismatched, journal).await,
        Step::Promote => steps::promote_drained(context, journal).await,
        Step::ClientPort => Ok(steps::client_port(context).await),
        other => Ok(Ended::Skipped(format!("{} is not there yet", other.name()))),
    }
}

fn intent(config: &Config, options: &SwitchoverConfig) -> Intent {
    Intent {
        command: Command::Switchover,
        primary: config.primary.endpoints().join(", "),
        standby: config.standby.endpoints().join(", "),
        fence_primary: options.fence_primary,
        writers: match &options.stop_writers_command {
            Some(command) => WritersHow::Command(command.clone()),
            None => WritersHow::Manual,
        },
        dns: None,
        inside: None,
        restart_first: Vec::new(),
        restart: Vec::new(),
    }
}

fn begin_text(context: &Context<'_>, run: &Run, goes_on: bool) -> String {
    let title = format!("SWITCHOVER of link {}: the standby becomes primary, and nothing is lost.\n\n", context.link);
    let text = if goes_on { format!("{}\n", run.text()) } else { String::new() };
    format!("{title}{text}{}", run.plan_text())
}
