//! Takes the steps of a run, one after the other.

use std::path::Path;

use anyhow::Result;
use etcd_sync_operations::procedure::{Command, Outcome, Planned, Run, State, Step};
use etcd_sync_operations::text::{causes, wrap};
use etcd_sync_program::args::TableOutput;
use serde_json::json;

use super::journal::{Journal, new_id};
use super::runner::Runner;
use super::{Context, facts, steps};
use crate::output;
use crate::output::typed;
use crate::output::{print, print_json, refused};

/// A run that is about to begin or to go on.
pub struct Begun {
    /// Where it is written down; `None`: it is new.
    journal: Option<Journal>,
    /// The run, with what is planned now.
    pub run: Run,
    /// It has changed the roles: there is nothing left to judge.
    pub is_promoted: bool,
}

impl Begun {
    /// Refuses, in words that are true.
    pub fn refused(&self, reason: &str) -> output::Outcome {
        let nothing = if self.journal.is_none() { "nothing was changed" } else { "nothing more was changed" };
        refused(&format!("{nothing}: {reason}"))
    }
}

/// The run that is not finished, if it is one of this command and asks for the same, else a new one; `Err` in words if it is
/// another one. Writes nothing.
///
/// # Errors
/// The standby cannot be read.
pub async fn go_on_or_begin(
    context: &Context<'_>,
    command: Command,
    plan: Vec<Planned>,
) -> Result<Result<Begun, String>> {
    let Context { config, pair, procedure, .. } = context;
    let Some(journal) = Journal::open(&pair.standby, &pair.keys, procedure.journal_folder.as_deref()).await? else {
        let run = Run::new(new_id(), command, &config.link, plan);
        return Ok(Ok(Begun { journal: None, run, is_promoted: false }));
    };
    let mut run = journal.run().clone();
    if run.command != command {
        return Ok(Err(other_command(&run, Runner::holder(&pair.standby, &pair.keys).await?)));
    }
    let id = run.id.clone();
    if let Err(step) = run.replan(&plan) {
        return Ok(Err(format!(
            "run {id} is not finished, and it was begun with other flags: they change its step {}; give the flags it was begun with \
             (`etcd-sync journal {id}` shows its plan), or give it up with `etcd-sync journal --abandon`",
            step.name()
        )));
    }
    if procedure.output == TableOutput::Table {
        print(&format!("{}\n", run.text()));
    }
    let is_promoted = run.is_settled(Step::Promote) || steps::promoted_by(context, &run).await?.is_some();
    Ok(Ok(Begun { journal: Some(journal), run, is_promoted }))
}

/// Shows the plan, asks, and takes the steps. The command's name is the word that is asked for.
///
/// # Errors
/// As [`execute`].
pub async fn conduct(
    context: &Context<'_>,
    begun: Begun,
    take: impl AsyncFn(Step, &mut Journal) -> Result<Outcome>,
) -> Result<output::Outcome> {
    let Context { pair, procedure, .. } = context;
    let run = &begun.run;
    let table = procedure.output == TableOutput::Table;
    if table {
        print(&run.plan_text());
    }
    if procedure.dry_run {
        if !table {
            print_json(&run.json());
        }
        return Ok(output::Outcome::Success);
    }
    let word = run.command.name();
    let question = format!("\nType {word} to go on, anything else to leave everything as it is: ");
    if let Err(reason) = typed(&question, word, procedure.yes, procedure.output)? {
        if !table {
            print_json(&json!({ "refused": reason, "plan": run.plan }));
        }
        return Ok(begun.refused(&reason));
    }
    let runner = Runner::take(&pair.standby, &pair.keys, &procedure.by).await?;
    let ended = async {
        // Another command may have changed the roles while this one asked.
        if !begun.is_promoted
            && let Err(reason) = facts::may_promote(context).await?
        {
            return Ok(Err(begun.refused(&reason)));
        }
        execute(context, begun, take).await.map(Ok)
    };
    let ended = runner.during(ended).await;
    runner.done().await;
    let run = match ended? {
        Ok(run) => run,
        Err(refused) => return Ok(refused),
    };
    if !table {
        print_json(&run.json());
    }
    Ok(if run.state == State::Completed { output::Outcome::Success } else { output::Outcome::Differences })
}

/// Takes all steps that are left. Stops at the first that fails.
///
/// # Errors
/// The journal cannot be written, or somebody else goes on with the run.
async fn execute(
    context: &Context<'_>,
    Begun { journal, mut run, .. }: Begun,
    take: impl AsyncFn(Step, &mut Journal) -> Result<Outcome>,
) -> Result<Run> {
    let Context { pair, procedure, .. } = context;
    let table = procedure.output == TableOutput::Table;
    run.attempt(&procedure.by, context.called_ms);
    let mut journal = match journal {
        Some(mut journal) => {
            journal.change(|written| *written = run).await?;
            journal
        }
        None => Journal::begin(&pair.standby, &pair.keys, procedure.journal_folder.as_deref(), run).await?,
    };
    if table {
        print("\n");
    }
    if let Some(record) = steps::promoted_already(context, &mut journal).await?
        && table
    {
        print(&journal.run().step_text(&record));
    }
    while let Some(step) = journal.run().next() {
        journal.step(step).await?;
        let outcome = match take(step, &mut journal).await {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Failed(causes(error.as_ref())),
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
        show_copy(procedure.journal_folder.as_deref(), journal.run());
    }
    Ok(journal.run().clone())
}

/// Why another command may not begin. `holder`: who carries a run out at this moment.
pub fn other_command(run: &Run, holder: Option<String>) -> String {
    let Run { id, command, .. } = run;
    let run = format!("run {id} of `etcd-sync {}`", command.name());
    match holder {
        Some(who) => format!(
            "{who} carries {run} out at this moment, or did until a few seconds ago: leave it to that command, or stop it first"
        ),
        None => format!("{run} is not finished: go on with it, or give it up with `etcd-sync journal --abandon`"),
    }
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
