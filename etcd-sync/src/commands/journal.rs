//! `etcd-sync journal`: what the failover commands have done.

use anyhow::Result;
use etcd_sync_core::procedure::{Command, Run, State, Step};
use etcd_sync_core::text::{WIDTH, wrap};
use etcd_sync_program::args::TableOutput;
use etcd_sync_program::config::{Config, JournalConfig};
use etcd_sync_store::pair::Pair;
use etcd_sync_store::record::Record;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{Outcome, print, print_json, refused};
use crate::procedure::PRIMARY_PATIENCE;
use crate::procedure::journal::Journal;
use crate::procedure::runner::Runner;
use crate::procedure::steps::unfence_primary;

/// Shows all runs, or one. Exit code 1: a run is not finished, or was not found.
pub async fn run(config: Config, options: JournalConfig) -> Result<Outcome> {
    let pair = config.pair()?;
    if options.abandon {
        return abandon(&config, &options).await;
    }
    let runs = Journal::all(&pair.standby, &pair.keys).await?;
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

/// Gives up the run that is not finished.
async fn abandon(config: &Config, options: &JournalConfig) -> Result<Outcome> {
    let (pair, output) = (config.pair()?, options.output);
    let runner = Runner::take(&pair.standby, &pair.keys, &options.by).await?;
    let outcome = give_up(&pair, options).await;
    runner.done().await;
    let (run, said) = match outcome? {
        Ok(ended) => ended,
        Err(reason) => return Ok(refused(&reason)),
    };
    match output {
        TableOutput::Table => print(&said),
        TableOutput::Json => print_json(&json!({ "run": run.json(), "said": said })),
    }
    Ok(Outcome::Success)
}

/// Gives the run, and what to tell; `Err` in words: there is none.
async fn give_up(pair: &Pair, options: &JournalConfig) -> Result<Result<(Run, String), String>> {
    let folder = options.journal_folder.as_deref();
    let Some(mut journal) = Journal::open(&pair.standby, &pair.keys, folder).await? else {
        return Ok(Err("every run is finished: there is nothing to give up".into()));
    };
    let id = journal.run().id.clone();
    let fenced = journal.run().note(Step::FencePrimary).map(|note| note["hadRole"].as_bool().unwrap_or(false));
    // From here on the run promotes nothing any more: the promotion is bound to it.
    journal.abandon().await?;
    let record = Record::read(&pair.standby, &pair.keys).await?;
    let promoted = record.promotion().ok().flatten().is_some_and(|promotion| promotion.run == id);
    let mut said = format!("Run {id} is given up.\n");
    if promoted {
        let left =
            journal.run().plan.iter().map(|planned| planned.step).filter(|step| !journal.run().is_settled(*step));
        let left: Vec<&str> = left.map(Step::name).collect();
        said += &wrap(
            &format!(
                "It has promoted this cluster, and that stands. What it has not done is yours: {} (docs/runbook.md tells how, by \
                 hand or with `etcd-sync dns switch` and `etcd-sync restart-services`).",
                left.join(", ")
            ),
            "",
            "",
        );
    } else if journal.run().last(Step::TakeRole).is_some() {
        said += &wrap(
            "It may have made this cluster a standby: `etcd-sync rejoin` or `etcd-sync run` completes the copy.",
            "",
            "",
        );
    } else if journal.run().command == Command::Rejoin {
        said += "Nothing was changed.\n";
    } else {
        said += "Nothing was promoted. Start the primary's API servers, if they were stopped.\n";
        if let Some(had_role) = fenced {
            match timeout(PRIMARY_PATIENCE, unfence_primary(pair, &id, had_role)).await {
                Ok(Ok(())) => said += "The primary is not fenced any more.\n",
                Ok(Err(error)) => said += &fence_left(&format!("{error:#}")),
                Err(_) => said += &fence_left("it does not answer"),
            }
        }
    }
    Ok(Ok((journal.run().clone(), said)))
}

fn fence_left(why: &str) -> String {
    let text = format!(
        "The mark on the primary could not be taken away ({why}): it harms nobody. A later switchover away from it needs it gone: \
         etcdctl del /etcd-sync/LINK/role on the primary."
    );
    wrap(&text, "", "")
}
