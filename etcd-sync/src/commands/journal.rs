//! `etcd-sync journal`: what the failover commands have done.

use std::path::Path;

use anyhow::Result;
use etcd_sync_core::procedure::{Run, State, Step};
use etcd_sync_program::args::TableOutput;
use etcd_sync_program::config::{Config, JournalConfig};
use serde_json::{Value, json};

use super::{Outcome, print, print_json, refused};
use crate::procedure::journal::Journal;
use crate::procedure::steps::unfence_primary;

/// Shows all runs, or one. Exit code 1: a run is not finished, or was not found.
pub async fn run(config: Config, options: JournalConfig) -> Result<Outcome> {
    let pair = config.pair()?;
    if options.abandon {
        return abandon(&config, options.journal_folder.as_deref()).await;
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
            (Some(run), TableOutput::Table) => {
                print(&run.text());
                Ok(outcome)
            }
            (Some(run), TableOutput::Json) => {
                print_json(&run.json());
                Ok(outcome)
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
        return format!("No failover command was ever run for link {link}.\n");
    }
    let head = ["RUN", "COMMAND", "STATE", "NEXT", "BY"].map(str::to_owned);
    let rows: Vec<[String; 5]> = std::iter::once(head).chain(runs.iter().map(Run::row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..5).map(width).collect();
    let line = |row: &[String; 5]| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// Gives up the run that is not finished.
async fn abandon(config: &Config, folder: Option<&Path>) -> Result<Outcome> {
    let pair = config.pair()?;
    let Some(mut journal) = Journal::open(&pair.standby, &pair.keys, folder).await? else {
        return Ok(refused("every run is finished: there is nothing to give up"));
    };
    let id = journal.run().id.clone();
    let behind = [Step::Promote, Step::TakeRole];
    if behind.iter().any(|step| journal.run().last(*step).is_some()) {
        return Ok(refused(&format!(
            "run {id} has begun to change the role of this cluster: give its command again and finish it; to go back afterwards, \
             make a switchover the other way round"
        )));
    }
    if journal.run().last(Step::FencePrimary).is_some() {
        unfence_primary(&pair, &id).await?;
    }
    journal.abandon().await?;
    print(&format!("Run {id} is given up: nothing was promoted.\n"));
    Ok(Outcome::Success)
}
