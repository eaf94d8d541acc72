//! The one executor of journaled runs: switchover, failover and rejoin take their steps here, one after the other.

use std::path::Path;

use anyhow::{Error, Result};
use etcd_sync_operations::procedure::{Command, Outcome, Planned, Refusal, Run, State, Step};
use etcd_sync_operations::text::{causes, wrap};
use etcd_sync_program::args::TableOutput;
use etcd_sync_store::link::pair::Pair;
use serde_json::json;
use tracing::warn;

use super::Context;
use super::journal::{Journal, new_id};
use super::runner::Runner;
use crate::output;
use crate::output::{Answer, or_refused, print, print_json, refuse, refused, typed};

/// The steps of one command.
pub trait Steps {
    /// Whether the run may still begin or go on. Asked once no other command can carry out a run.
    ///
    /// # Errors
    /// A refusal, or the clusters cannot be read.
    async fn may_go_on(&mut self) -> Result<()>;

    /// How a step ended that an earlier attempt took and could not write down; `None`: it was not taken.
    ///
    /// # Errors
    /// The clusters cannot be read, or the journal cannot be written.
    async fn already(&mut self, step: Step, journal: &mut Journal) -> Result<Option<Outcome>>;

    /// Takes a step. It checks first whether it is done already.
    ///
    /// # Errors
    /// What went wrong; the run stops there, as after [`Outcome::Failed`].
    async fn take(&mut self, step: Step, journal: &mut Journal) -> Result<Outcome>;

    /// Ends what the steps have started. Called once, however the run ended, while no other command can carry out a run.
    ///
    /// # Errors
    /// What does not end.
    async fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

/// What carries out the runs of a command.
pub struct Executor<'a> {
    /// The command.
    pub command: Command,
    /// The link.
    pub link: &'a str,
    /// Both clusters; the journal lies in the standby.
    pub pair: &'a Pair,
    /// Who runs the command: user and host.
    pub by: &'a str,
    /// When it was called, in Unix milliseconds.
    pub called_ms: u64,
    /// Where a copy of the journal is kept.
    pub journal_folder: Option<&'a Path>,
    /// For people or for programs.
    pub output: TableOutput,
}

/// A run that is about to begin or to go on.
pub struct Begun {
    /// Where it is written; `None`: it is new.
    journal: Option<Journal>,
    /// The run, with what is planned now.
    pub run: Run,
}

/// A run after an attempt.
pub struct Attempted {
    /// The run as it is in the journal.
    pub run: Run,
    /// The error of the step at which it stopped, if it was one.
    pub error: Option<Error>,
}

impl Begun {
    /// Refuses, and says truly whether anything was changed.
    pub fn refused(&self, reason: &str) -> output::Outcome {
        let nothing = if self.journal.is_none() { "nothing was changed" } else { "nothing more was changed" };
        refused(&format!("{nothing}: {reason}"))
    }
}

impl Executor<'_> {
    /// The run that is not finished, if there is one. Writes nothing.
    ///
    /// # Errors
    /// A refusal: it is another command's run. Or the standby cannot be read.
    pub async fn open(&self) -> Result<Option<Journal>> {
        let Pair { standby, keys, .. } = self.pair;
        let Some(journal) = Journal::open(standby, keys, self.journal_folder).await? else { return Ok(None) };
        let Run { id, command, .. } = journal.run();
        if *command == self.command {
            return Ok(Some(journal));
        }
        let holder = Runner::holder(standby, keys).await?;
        refuse(Refusal::OtherCommand { run: id.clone(), command: *command, holder })
    }

    /// Goes on with the open run, or begins a new one. Writes nothing yet.
    ///
    /// # Errors
    /// A refusal: the plan changes what must not change any more.
    pub fn begin(&self, open: Option<Journal>, plan: Vec<Planned>) -> Result<Begun> {
        let Some(journal) = open else {
            return Ok(Begun { journal: None, run: Run::new(new_id(), self.command, self.link, plan) });
        };
        let mut run = journal.run().clone();
        if let Err(step) = run.replan(&plan) {
            return refuse(Refusal::OtherFlags { run: run.id, step });
        }
        Ok(Begun { journal: Some(journal), run })
    }

    /// Takes all steps that are left, while no other command can. Stops at the first that fails.
    ///
    /// # Errors
    /// A refusal: the run may not go on. Or the journal cannot be written, or another command took over the run.
    pub async fn carry_out(&self, begun: Begun, steps: &mut impl Steps) -> Result<Attempted> {
        let runner = Runner::take(&self.pair.standby, &self.pair.keys, self.by).await?;
        let work = async {
            steps.may_go_on().await?;
            self.attempt(begun, steps).await
        };
        let attempted = runner.during(work).await;
        let closed = steps.close().await;
        runner.done().await;
        match (attempted, closed) {
            (Ok(Attempted { run, error: None }), Err(error)) => Ok(Attempted { run, error: Some(error) }),
            (attempted, Err(error)) => {
                warn!(error = format!("{error:#}"), "what this command started could not be ended");
                attempted
            }
            (attempted, Ok(())) => attempted,
        }
    }

    async fn attempt(&self, Begun { journal, mut run }: Begun, steps: &mut impl Steps) -> Result<Attempted> {
        run.attempt(self.by, self.called_ms);
        let mut journal = match journal {
            Some(mut journal) => {
                journal.change(|written| *written = run).await?;
                journal
            }
            None => Journal::begin(&self.pair.standby, &self.pair.keys, self.journal_folder, run).await?,
        };
        self.show("\n");
        for step in self.command.steps() {
            if !journal.run().outcome(*step).is_some_and(Outcome::settles)
                && let Some(outcome) = steps.already(*step, &mut journal).await?
            {
                journal.step(*step).await?;
                self.ended(&mut journal, outcome).await?;
            }
        }
        let mut error = None;
        while let Some(step) = journal.run().next() {
            journal.step(step).await?;
            let outcome = steps.take(step, &mut journal).await.unwrap_or_else(|failure| {
                let outcome = Outcome::Failed(causes(failure.as_ref()));
                error = Some(failure);
                outcome
            });
            let failed = !outcome.settles();
            match self.ended(&mut journal, outcome).await {
                Ok(()) => {}
                // Why the step failed matters more than that it could not be written down.
                Err(lost) if failed => {
                    warn!(error = format!("{lost:#}"), "the end of step {} is not in the journal", step.name());
                    error.get_or_insert(lost);
                }
                Err(lost) => return Err(lost),
            }
            if failed {
                break;
            }
        }
        Ok(Attempted { run: journal.run().clone(), error })
    }

    async fn ended(&self, journal: &mut Journal, outcome: Outcome) -> Result<()> {
        let record = journal.ended(outcome).await?;
        self.show(&journal.run().step_text(&record));
        Ok(())
    }

    /// For people: how the run ended, and where its copy is.
    pub fn show_end(&self, run: &Run) {
        self.show(&format!("\n{}", run.end_text()));
        let copy = self.journal_folder.map(|folder| super::journal::copy_path(folder, run));
        if let Some(path) = copy.filter(|path| path.exists()) {
            self.show(&wrap(&path.display().to_string(), "Journal         ", "                "));
        }
    }

    /// Prints for people.
    pub fn show(&self, text: &str) {
        if self.output == TableOutput::Table {
            print(text);
        }
    }
}

/// Begins or goes on with a run of a switch, and shows what it has done so far.
///
/// # Errors
/// As [`Executor::open`] and [`Executor::begin`].
pub async fn go_on_or_begin(executor: &Executor<'_>, plan: Vec<Planned>) -> Result<Begun> {
    let begun = executor.begin(executor.open().await?, plan)?;
    if begun.journal.is_some() {
        executor.show(&format!("{}\n", begun.run.text()));
    }
    Ok(begun)
}

/// Shows the plan of a switch, asks, and takes the steps. The command's name is the word that is asked for.
///
/// # Errors
/// As [`Executor::carry_out`].
pub async fn conduct(
    context: &Context<'_>,
    executor: &Executor<'_>,
    begun: Begun,
    steps: &mut impl Steps,
) -> Result<output::Outcome> {
    let procedure = context.procedure;
    let json = procedure.output == TableOutput::Json;
    let run = &begun.run;
    executor.show(&run.plan_text());
    if procedure.dry_run {
        if json {
            print_json(&run.json());
        }
        return Ok(output::Outcome::Success);
    }
    let word = run.command.name();
    let question = format!("\nType {word} to go on, anything else to leave everything as it is: ");
    if let Answer::No(why) = typed(&question, word, procedure.yes, procedure.output)? {
        if json {
            print_json(&json!({ "refused": why.to_string(), "plan": run.plan }));
        }
        return Ok(begun.refused(&why.to_string()));
    }
    let is_new = begun.journal.is_none();
    let Attempted { run, .. } = match executor.carry_out(begun, steps).await {
        Ok(attempted) => attempted,
        Err(error) => {
            let nothing = if is_new { "nothing was changed" } else { "nothing more was changed" };
            return or_refused(error, |refusal| refused(&format!("{nothing}: {refusal}")));
        }
    };
    executor.show_end(&run);
    if json {
        print_json(&run.json());
    }
    Ok(if run.state == State::Completed { output::Outcome::Success } else { output::Outcome::Differences })
}
