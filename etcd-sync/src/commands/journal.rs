//! `etcd-sync journal`: what the failover commands have done.

use anyhow::Result;
use etcd_sync_core::etcd::kv::printable;
use etcd_sync_core::link::role::Role;
use etcd_sync_core::link::state::StateKeys;
use etcd_sync_operations::procedure::{Command, Run, State, Step};
use etcd_sync_operations::text::{WIDTH, wrap};
use etcd_sync_program::args::TableOutput;
use etcd_sync_program::config::{Config, JournalConfig};
use etcd_sync_store::link::pair::Pair;
use etcd_sync_store::link::record::Record;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::operations::procedure::PRIMARY_PATIENCE;
use crate::operations::procedure::journal::Journal;
use crate::operations::procedure::runner::Runner;
use crate::operations::procedure::steps::{clear_demoted, demoted_by};
use crate::output::{Outcome, print, print_json, refused};

/// The mark that the runbook's commands put by hand.
const BY_HAND: &str = "by-hand";

/// Shows all runs, or one. Exit code 1: a run is not finished, or was not found.
pub async fn run(config: Config, options: JournalConfig) -> Result<Outcome> {
    if options.abandon {
        return abandon(&config, &options).await;
    }
    let runs = Journal::all(&config.standby.etcd()?, &StateKeys::new(&config.link)).await?;
    let open = runs.iter().any(|run| run.state == State::Open);
    let outcome = if open { Outcome::Differences } else { Outcome::Success };
    match (&options.run, options.output) {
        (Some(id), output) => match (runs.iter().find(|run| run.id == *id), output) {
            (None, _) => Ok(refused(&format!(
                "the journal of link {} has no run {id}: `etcd-sync journal` lists them",
                config.link
            ))),
            (Some(run), output) => {
                match output {
                    TableOutput::Table => print(&run.text()),
                    TableOutput::Json => print_json(&run.json()),
                }
                Ok(if run.state == State::Open { Outcome::Differences } else { Outcome::Success })
            }
        },
        (None, TableOutput::Json) => {
            print_json(&json!({ "runs": runs.iter().map(Run::json).collect::<Vec<Value>>() }));
            Ok(outcome)
        }
        (None, TableOutput::Table) => {
            print(&table(&runs, &config.link));
            Ok(outcome)
        }
    }
}

fn table(runs: &[Run], link: &str) -> String {
    if runs.is_empty() {
        return format!("The journal of link {link} is empty: no failover command was ever run for it here.\n");
    }
    let head = ["RUN", "COMMAND", "STATE", "NEXT", "BY"].map(str::to_owned);
    let rows: Vec<[String; 5]> = std::iter::once(head).chain(runs.iter().map(Run::row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..5).map(width).collect();
    let line = |row: &[String; 5]| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        let line = cells.join("  ");
        match line.trim_end() {
            fits if fits.chars().count() <= WIDTH => format!("{fits}\n"),
            // The whole name is in the run's own page.
            long => format!("{}…\n", long.chars().take(WIDTH - 1).collect::<String>()),
        }
    };
    rows.iter().map(line).collect()
}

/// Gives up the run that is not finished, and takes the mark of one that was given up from the primary.
async fn abandon(config: &Config, options: &JournalConfig) -> Result<Outcome> {
    let (pair, output) = (config.pair()?, options.output);
    let runner = Runner::take(&pair.standby, &pair.keys, &options.by).await?;
    let given_up = runner.during(give_up(&pair, options)).await;
    runner.done().await;
    let (run, said) = match given_up? {
        Ok(ended) => ended,
        Err(reason) => return Ok(refused(&reason)),
    };
    match output {
        TableOutput::Table => print(&said),
        TableOutput::Json => print_json(&json!({ "run": run.map(|run| run.json()), "said": said })),
    }
    Ok(Outcome::Success)
}

/// Gives the run, and what to tell; `Err` in words: there is nothing to give up.
async fn give_up(pair: &Pair, options: &JournalConfig) -> Result<Result<(Option<Run>, String), String>> {
    let folder = options.journal_folder.as_deref();
    let Some(mut journal) = Journal::open(&pair.standby, &pair.keys, folder).await? else {
        return left_mark(pair).await;
    };
    // From here on the run promotes nothing any more: the promotion is bound to it.
    journal.abandon().await?;
    let (run, record) = (journal.run().clone(), Record::read(&pair.standby, &pair.keys).await?);
    let promoted_by = record.promotion().ok().flatten().map(|promotion| promotion.run);
    let mut said = format!("Run {} is given up.\n", run.id);
    let mut say = |text: &str| said += &wrap(text, "", "");
    if promoted_by.as_ref() == Some(&run.id) {
        let left = run.plan.iter().map(|planned| planned.step).filter(|step| !run.is_settled(*step));
        let left: Vec<&str> = left.map(Step::name).collect();
        say(&format!(
            "It has promoted this cluster, and that stands. What it has not done is yours: {} (docs/runbook.md tells how, by hand or \
             with `etcd-sync dns switch` and `etcd-sync restart-services`).",
            left.join(", ")
        ));
    } else if run.last(Step::TakeRole).is_some() {
        say("It may have made this cluster a standby: `etcd-sync rejoin` or `etcd-sync run` completes the copy.");
    } else if run.command == Command::Rejoin {
        say("Nothing was changed.");
    } else if Role::of_key(record.role.as_ref()) == Role::Primary {
        let by = promoted_by.map(|by| format!(" (by run {by})")).unwrap_or_default();
        say(&format!(
            "It has promoted nothing, but this cluster is primary all the same{by}: the other one must stay as it is, its API servers \
             stopped, until `etcd-sync rejoin` makes it the standby."
        ));
    } else {
        say("Nothing was promoted. Start the primary's API servers, if they were stopped.");
        if run.last(Step::MarkPrimaryDemoted).is_some() {
            say(&cleared(pair, &run.id).await);
        }
    }
    Ok(Ok((Some(run), said)))
}

/// A run that was given up while the primary was silent has left its mark there.
async fn left_mark(pair: &Pair) -> Result<Result<(Option<Run>, String), String>> {
    let nothing = "every run is finished: there is nothing to give up";
    let Ok(Ok(Some(token))) = timeout(PRIMARY_PATIENCE, demoted_by(pair)).await else { return Ok(Err(nothing.into())) };
    let record = Record::read(&pair.standby, &pair.keys).await?;
    let runs = Journal::all(&pair.standby, &pair.keys).await?;
    let run = runs.into_iter().find(|run| run.id == token);
    let given_up = run.as_ref().map_or(token == BY_HAND, |run| run.state == State::Abandoned);
    if Role::of_key(record.role.as_ref()) != Role::Standby || !given_up {
        return Ok(Err(format!(
            "{nothing}; the mark of run {token} on the primary stands: that run has handed over from it, or is another cluster's"
        )));
    }
    Ok(Ok((run, wrap(&cleared(pair, &token).await, "", ""))))
}

/// Takes the mark of a run from the primary; gives what became of it.
async fn cleared(pair: &Pair, run: &str) -> String {
    let why = match timeout(PRIMARY_PATIENCE, clear_demoted(pair, run)).await {
        Ok(Ok(Role::Demoted { token })) => {
            return format!("The primary bears the mark of another run, {token}: that one stays.");
        }
        Ok(Ok(_)) => return "The primary is not marked as demoted any more.".to_owned(),
        Ok(Err(error)) => format!("{error:#}"),
        Err(_) => "it does not answer".to_owned(),
    };
    format!(
        "The mark on the primary could not be taken away ({why}): it harms nobody, but a later switchover away from it needs it gone. \
         Give `etcd-sync journal --abandon` again when the primary answers, or there: etcdctl del {}",
        printable(&pair.keys.role)
    )
}
