//! Takes the steps of a run, one after the other.

use std::path::Path;

use anyhow::Result;
use etcd_sync_core::procedure::{Command, Outcome, Planned, Run, State, Step};
use etcd_sync_core::text::wrap;
use etcd_sync_program::args::TableOutput;
use serde_json::json;

use super::journal::Journal;
use super::{Context, steps};
use crate::commands::confirm::typed;
use crate::commands::{self, print, print_json, refused};

/// The run that is not finished, if it is one of this command and asks for the same; `Err` in words if it is another one.
pub async fn go_on_or_begin(
    context: &Context<'_>,
    command: Command,
    plan: &[Planned],
) -> Result<Result<Option<Journal>, String>> {
    let Context { pair, procedure, .. } = context;
    let Some(mut journal) = Journal::open(&pair.standby, &pair.keys, procedure.journal_folder.as_deref()).await? else {
        return Ok(Ok(None));
    };
    let run = journal.run();
    if run.command != command {
        return Ok(Err(other_command(run)));
    }
    let id = run.id.clone();
    let mut replanned = run.clone();
    if let Err(step) = replanned.replan(plan) {
        return Ok(Err(format!(
            "run {id} is not finished, and it was begun with other flags: they change its step {}; give the flags it was begun with \
             (`etcd-sync journal {id}` shows its plan), or give it up with `etcd-sync journal --abandon`",
            step.name()
        )));
    }
    if replanned != *run {
        journal.change(|run| *run = replanned).await?;
    }
    Ok(Ok(Some(journal)))
}

/// Shows the plan, asks, and takes the steps; `journal`: of a run that goes on. The command's name is the word that is asked for.
///
/// # Errors
/// As [`execute`].
pub async fn conduct(
    context: &Context<'_>,
    journal: Option<Journal>,
    run: Run,
    take: impl AsyncFn(Step, &mut Journal) -> Result<Outcome>,
) -> Result<commands::Outcome> {
    let Context { pair, procedure, .. } = context;
    let table = procedure.output == TableOutput::Table;
    if table {
        print(&run.plan_text());
    }
    if procedure.dry_run {
        if !table {
            print_json(&run.json());
        }
        return Ok(commands::Outcome::Success);
    }
    let word = run.command.name();
    let question = format!("\nType {word} to go on, anything else to leave everything as it is: ");
    if let Err(reason) = typed(&question, word, procedure.yes, procedure.output)? {
        if !table {
            print_json(&json!({ "refused": reason, "plan": run.plan }));
        }
        return Ok(refused(&format!("nothing was changed: {reason}")));
    }
    let mut journal = match journal {
        Some(journal) => journal,
        None => Journal::begin(&pair.standby, &pair.keys, procedure.journal_folder.as_deref(), run).await?,
    };
    if table {
        print("\n");
    }
    execute(context, &mut journal, take).await?;
    if !table {
        print_json(&journal.run().json());
    }
    Ok(if journal.run().state == State::Completed {
        commands::Outcome::Success
    } else {
        commands::Outcome::Differences
    })
}

/// Takes all steps that are left. Stops at the first that fails.
///
/// # Errors
/// The journal cannot be written, or somebody else goes on with the run.
async fn execute(
    context: &Context<'_>,
    journal: &mut Journal,
    take: impl AsyncFn(Step, &mut Journal) -> Result<Outcome>,
) -> Result<()> {
    let table = context.procedure.output == TableOutput::Table;
    journal.change(|run| run.attempt(&context.procedure.by, context.called_ms)).await?;
    if let Some(record) = steps::promoted_already(context, journal).await?
        && table
    {
        print(&journal.run().step_text(&record));
    }
    while let Some(step) = journal.run().next() {
        journal.step(step).await?;
        let outcome = match take(step, journal).await {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Failed(format!("{error:#}")),
        };
        let failed = !outcome.settles();
        let record = journal.ended(outcome).await?;
        if table {
            print(&journal.run().step_text(&record));
        }
        if failed {
            break;
        }
    }
    if table {
        print(&format!("\n{}", journal.run().end_text()));
        show_copy(context.procedure.journal_folder.as_deref(), journal.run());
    }
    Ok(())
}

/// Why another command may not begin.
pub fn other_command(run: &Run) -> String {
    format!(
        "run {} of `etcd-sync {}` is not finished: go on with it, or give it up with `etcd-sync journal --abandon`",
        run.id,
        run.command.name()
    )
}

/// Tells where the run's copy lies.
pub fn show_copy(folder: Option<&Path>, run: &Run) {
    if let Some(folder) = folder {
        let path = super::journal::copy_path(folder, run);
        if path.exists() {
            print(&wrap(&path.display().to_string(), "Journal         ", "                "));
        }
    }
}
