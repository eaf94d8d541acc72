//! The journal of a rejoin: each step is written down before it begins and after it has ended.

use anyhow::{Context, Result};
use etcd_sync_core::link::rejoining::Rejoining;
use etcd_sync_operations::procedure::{Command, Outcome as Ended, Planned, Run, Step};
use etcd_sync_operations::rejoin::settled_before;
use etcd_sync_program::args::TableOutput;
use serde_json::Value;
use tracing::warn;

use super::Rejoin;
use crate::operations::procedure::journal::{Journal, new_id};
use crate::operations::procedure::runner::Runner;
use crate::operations::procedure::{other_command, show_copy};
use crate::output::print;

/// The run in the old primary's journal, and what the operator sees of it.
pub struct Steps<'a> {
    rejoin: &'a Rejoin<'a>,
    journal: Option<Journal>,
    runner: Option<Runner>,
    /// As it is to be written when it begins.
    run: Run,
    begun: bool,
}

impl<'a> Steps<'a> {
    /// The rejoin that is not finished, if there is one; `Err` in words if the run is another command's. Writes nothing.
    pub async fn find(rejoin: &'a Rejoin<'a>) -> Result<Result<Option<Steps<'a>>, String>> {
        let folder = rejoin.options.journal_folder.as_deref();
        let Some(journal) = Journal::open(&rejoin.pair.standby, &rejoin.pair.keys, folder).await? else {
            return Ok(Ok(None));
        };
        let run = journal.run().clone();
        Ok(match run.command {
            Command::Rejoin => Ok(Some(Steps { rejoin, journal: Some(journal), runner: None, run, begun: false })),
            _ => {
                let holder = Runner::holder(&rejoin.pair.standby, &rejoin.pair.keys).await?;
                Err(other_command(&run, holder))
            }
        })
    }

    /// A run that is not written down yet.
    pub fn new(rejoin: &'a Rejoin<'a>, plan: Vec<Planned>) -> Steps<'a> {
        let run = Run::new(new_id(), Command::Rejoin, &rejoin.config.link, plan);
        Steps { rejoin, journal: None, runner: None, run, begun: false }
    }

    /// What is planned now: the clusters have moved on since an earlier call planned.
    pub fn plan(mut self, plan: Vec<Planned>) -> Steps<'a> {
        self.run.plan = plan;
        self
    }

    /// The run as it is now.
    pub fn run(&self) -> &Run {
        self.journal.as_ref().filter(|_| self.begun).map_or(&self.run, Journal::run)
    }

    /// Writes down that the run begins, or goes on.
    pub async fn begin(&mut self) -> Result<()> {
        let Rejoin { options, pair, called_ms, .. } = self.rejoin;
        self.runner = Some(Runner::take(&pair.standby, &pair.keys, &options.by).await?);
        let mut run = self.run.clone();
        run.attempt(&options.by, *called_ms);
        match &mut self.journal {
            Some(journal) => journal.change(|written| *written = run).await?,
            none => {
                let folder = options.journal_folder.as_deref();
                *none = Some(Journal::begin(&pair.standby, &pair.keys, folder, run).await?);
            }
        }
        self.begun = true;
        Ok(())
    }

    /// Takes a step, between its begin and its end in the journal.
    pub async fn take<T>(
        &mut self,
        step: Step,
        deed: impl AsyncFnOnce(&mut Journal) -> Result<(T, Ended)>,
    ) -> Result<T> {
        let journal = self.journal.as_mut().context("the run has begun")?;
        journal.step(step).await?;
        let runner = self.runner.as_ref().context("the run has begun")?;
        match runner.during(deed(journal)).await {
            Ok((value, ended)) => {
                self.ended(ended).await?;
                Ok(value)
            }
            Err(error) => {
                if let Err(unwritten) = self.ended(Ended::Failed(format!("{error:#}"))).await {
                    warn!(error = %format!("{unwritten:#}"), "the journal does not tell how the step ended");
                }
                Err(error)
            }
        }
    }

    /// An earlier call has changed the role, and perhaps could not write it down.
    pub async fn settle_role(&mut self, rejoining: &Rejoining) -> Result<()> {
        self.settle(|step, _| settled_before(rejoining, step)).await
    }

    /// Nothing is left to do: an earlier call could not write that down.
    pub async fn settle_all(&mut self, why: &str) -> Result<()> {
        self.begin().await?;
        self.settle(|step, note| {
            let noted = note.cloned().and_then(|note| serde_json::from_value(note).ok());
            Some(match step {
                Step::Prove => noted.unwrap_or_else(|| {
                    let unknown = "whether an earlier call compared is not known: `etcd-sync check --deep` does it";
                    Ended::Warned(unknown.into())
                }),
                _ => Ended::Skipped(why.to_owned()),
            })
        })
        .await
    }

    /// Makes way for the next command, and tells how it ended.
    pub async fn end(&mut self) {
        if let Some(runner) = self.runner.take() {
            runner.done().await;
        }
        if self.rejoin.options.output == TableOutput::Table && self.begun {
            print(&format!("\n{}", self.run().end_text()));
            show_copy(self.rejoin.options.journal_folder.as_deref(), self.run());
        }
    }

    async fn settle(&mut self, outcome: impl Fn(Step, Option<&Value>) -> Option<Ended>) -> Result<()> {
        for step in Command::Rejoin.steps() {
            if self.run().outcome(*step).is_some_and(Ended::settles) {
                continue;
            }
            if let Some(ended) = outcome(*step, self.run().note(*step)) {
                self.take(*step, async |_| Ok(((), ended))).await?;
            }
        }
        Ok(())
    }

    async fn ended(&mut self, outcome: Ended) -> Result<()> {
        let journal = self.journal.as_mut().context("the run has begun")?;
        let record = journal.ended(outcome).await?;
        if self.rejoin.options.output == TableOutput::Table {
            print(&journal.run().step_text(&record));
        }
        Ok(())
    }
}
