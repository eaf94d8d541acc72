//! `etcd-sync rejoin`: the old primary becomes the standby of the cluster that was promoted over it.

use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::{Context, Error, Result};
use etcd_sync_core::link::rejoining::Rejoining;
use etcd_sync_operations::procedure::{Command as Of, Run, Step};
use etcd_sync_operations::rejoin::{Divergence, Outcome as Done, Plan, Refusal, Stand, remaining_steps};
use etcd_sync_operations::saved::{What, file_name};
use etcd_sync_program::Stop;
use etcd_sync_program::args::TableOutput;
use etcd_sync_program::config::{Config, RejoinConfig};
use serde_json::json;

use crate::operations::procedure::journal::Journal;
use crate::operations::procedure::{Attempted, Begun, Executor};
use crate::operations::rejoin::{From, Known, Rejoin, RejoinSteps};
use crate::output::{Answer, Outcome, confirm, is_refusal, or_refused, print_json, refuse, refused};

/// Files that interrupted calls have left, at most.
const FILES_MAX: u32 = 99;

/// Checks, asks, saves, changes the role, copies, proves. Exit code 1: refused, or it is not complete.
pub async fn run(config: Config, options: RejoinConfig) -> Result<Outcome> {
    if options.in_pod && options.backup.is_none() && !options.dry_run {
        return refuse(Refusal::InPod);
    }
    let rejoin = Rejoin::new(&config, &options)?;
    let command = Command { config: &config, options: &options, rejoin: &rejoin, executor: rejoin.executor() };
    let known = match rejoin.know().await {
        Ok(known) => known,
        Err(error) => return or_refused(error, |refusal| command.refuse(None, &refusal.to_string())),
    };
    let ended = match &known.stand {
        Stand::Standby(phase) => command.nothing_to_do(&known, phase.name()).await,
        Stand::Begun(rejoining) => command.go_on(&known, rejoining).await,
        Stand::Apart(divergence) => command.begin(&known, *divergence).await,
    };
    ended.or_else(|error| or_refused(error, |refusal| command.refuse(None, &format!("nothing was done: {refusal}"))))
}

struct Command<'a> {
    config: &'a Config,
    options: &'a RejoinConfig,
    rejoin: &'a Rejoin<'a>,
    executor: Executor<'a>,
}

impl Command<'_> {
    async fn begin(&self, known: &Known, divergence: Divergence) -> Result<Outcome> {
        let open = self.executor.open().await?;
        let plan = self.rejoin.look(known, divergence).await?;
        let (path, now) = self.path();
        let path = match &open {
            Some(journal) => beside_unfinished(journal.run(), path),
            None => path,
        };
        if let Some(journal) = &open {
            self.executor.show(&format!("{}\n", journal.run().text()));
        }
        let mut begun = self.executor.begin(open, plan.steps(&path.display().to_string()))?;
        // This cluster is no standby, whatever an earlier attempt has done: somebody changed its role back.
        begun.run.retake(Step::TakeRole);
        let limit = self.options.limit.unwrap_or(usize::MAX);
        self.executor.show(&format!("{}\n{}\n", plan.text(limit), begun.run.plan_text()));
        if self.options.dry_run {
            self.tell(Some(&plan), Some(&begun.run), None, None, None);
            return Ok(Outcome::Success);
        }
        let action = "save them and make this cluster the standby";
        if let Answer::No(why) = confirm(plan.to_save(), action, self.options.yes, self.options.output)? {
            return Ok(self.refuse(Some(&plan), &format!("nothing was done: {why}")));
        }
        let stop = Stop::on_signals().context("cannot listen for signals")?;
        let from = From::Plan { plan: &plan, now };
        let steps = RejoinSteps::new(self.rejoin, known, &stop, from, path);
        self.carry_out(Some(&plan), begun, steps).await
    }

    /// An earlier run has changed the role.
    async fn go_on(&self, known: &Known, rejoining: &Rejoining) -> Result<Outcome> {
        self.executor.show(&format!(
            "An earlier run made this cluster the standby of cluster {}:\nwhat is left of it is done now.\n",
            rejoining.primary
        ));
        let open = self.executor.open().await?;
        let plan = match &open {
            Some(journal) => {
                self.executor.show(&format!("\n{}\n", journal.run().text()));
                journal.run().plan.clone()
            }
            None => remaining_steps(rejoining),
        };
        let begun = self.executor.begin(open, plan)?;
        if self.options.dry_run {
            self.tell(None, Some(&begun.run), None, None, None);
            return Ok(Outcome::Success);
        }
        let stop = Stop::on_signals().context("cannot listen for signals")?;
        let steps = RejoinSteps::new(self.rejoin, known, &stop, From::Role(rejoining), self.path().0);
        self.carry_out(None, begun, steps).await
    }

    async fn carry_out(&self, plan: Option<&Plan>, begun: Begun, mut steps: RejoinSteps<'_>) -> Result<Outcome> {
        let (run, error) = match self.executor.carry_out(begun, &mut steps).await {
            Ok(Attempted { run, error }) => (Some(run), error),
            Err(error) if is_refusal(&error) => return Err(error),
            Err(error) => (None, Some(error)),
        };
        // Also after an error: the role may be changed, and values may be saved.
        let done = &steps.done;
        self.tell(plan, run.as_ref(), None, error.as_ref(), Some(done));
        self.executor.show(&format!("\n{}", done.text()));
        if let Some(run) = &run {
            self.executor.show_end(run);
        }
        let outcome = if done.is_good() { Outcome::Success } else { Outcome::Differences };
        error.map_or(Ok(outcome), Err)
    }

    async fn nothing_to_do(&self, known: &Known, phase: &str) -> Result<Outcome> {
        let why = format!("it is the standby of cluster {} already ({phase})", known.clusters[1]);
        self.executor.show(&format!("Nothing to do:\n  {why}.\n"));
        // Another command's run does not matter when there is nothing to do.
        let open = match self.executor.open().await {
            Ok(open) => open,
            Err(error) => or_refused(error, |_| Outcome::Success).map(|_| None)?,
        };
        let mut run = None;
        if let Some(journal) = open {
            let plan = journal.run().plan.clone();
            let begun = self.executor.begin(Some(journal), plan)?;
            run = Some(match self.options.dry_run {
                true => begun.run,
                false => self.settle(known, begun, &why).await?,
            });
        }
        let last = Journal::all(&self.rejoin.pair().standby, &self.rejoin.pair().keys).await?;
        let run = run.or_else(|| last.into_iter().rfind(|run| run.command == Of::Rejoin));
        let warns = run.as_ref().is_some_and(Run::warns);
        if warns {
            self.executor.show(
                "The last rejoin ended with a warning: see it with `etcd-sync journal`, and the keys with\n`etcd-sync check --deep`.\n",
            );
        }
        if self.options.output == TableOutput::Json {
            print_json(
                &json!({ "plan": null, "run": run, "skipped": why, "refused": null, "error": null, "result": null }),
            );
        }
        Ok(if warns { Outcome::Differences } else { Outcome::Success })
    }

    /// Writes down that a run has ended which was interrupted before it could.
    async fn settle(&self, known: &Known, begun: Begun, why: &str) -> Result<Run> {
        self.executor.show("\nAn earlier run was interrupted before it could write down that it had ended:\n");
        let stop = Stop::on_signals().context("cannot listen for signals")?;
        let mut steps = RejoinSteps::new(self.rejoin, known, &stop, From::End(why), self.path().0);
        let Attempted { run, error } = self.executor.carry_out(begun, &mut steps).await?;
        self.executor.show_end(&run);
        error.map_or(Ok(run), Err)
    }

    fn refuse(&self, plan: Option<&Plan>, reason: &str) -> Outcome {
        self.tell(plan, None, Some(reason), None, None);
        refused(reason)
    }

    fn tell(
        &self,
        plan: Option<&Plan>,
        run: Option<&Run>,
        refused: Option<&str>,
        error: Option<&Error>,
        done: Option<&Done>,
    ) {
        if self.options.output == TableOutput::Json {
            let error = error.map(|error| format!("{error:#}"));
            let (plan, result) = (plan.map(Plan::json), done.map(Done::json));
            print_json(&json!({
                "plan": plan, "run": run, "skipped": null, "refused": refused, "error": error, "result": result,
            }));
        }
    }

    /// The file to save in, and now.
    fn path(&self) -> (PathBuf, String) {
        let now = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let given = self.options.backup.clone();
        (given.unwrap_or_else(|| file_name(What::Rejoin, &self.config.link, &now).into()), now)
    }
}

/// The same command is given again: a file that its interrupted call has left stays as it is.
fn beside_unfinished(run: &Run, path: PathBuf) -> PathBuf {
    if run.last(Step::Save).is_none() || !path.exists() {
        return path;
    }
    let numbered = (2..=FILES_MAX).map(|number| PathBuf::from(format!("{}.{number}", path.display())));
    numbered.into_iter().find(|free| !free.exists()).unwrap_or(path)
}
