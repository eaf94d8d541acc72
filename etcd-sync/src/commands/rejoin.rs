//! `etcd-sync rejoin`: the old primary becomes the standby of the cluster that was promoted over it.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Error, Result, bail};
use etcd_sync_core::link::rejoining::Rejoining;
use etcd_sync_operations::procedure::{Command as Of, Outcome as Ended, Run, Step};
use etcd_sync_operations::rejoin::{Divergence, Outcome as Done, Plan, Stand, remaining_steps};
use etcd_sync_operations::saved::{What, file_name};
use etcd_sync_program::Stop;
use etcd_sync_program::args::TableOutput;
use etcd_sync_program::config::{Config, RejoinConfig};
use serde_json::json;

use crate::operations::procedure::journal::Journal;
use crate::operations::rejoin::{Follower, Known, Rejoin, Steps, Synchronizer};
use crate::output::confirm;
use crate::output::{Outcome, print, print_json, refused};

/// Files that interrupted calls have left, at most.
const FILES_MAX: u32 = 99;

/// Looks, asks, saves, changes the role, copies, proves. Exit code 1: refused, or it is not complete.
pub async fn run(config: Config, options: RejoinConfig) -> Result<Outcome> {
    if options.in_pod && options.backup.is_none() && !options.dry_run {
        return Ok(refused(
            "nothing was done: this runs in a pod, and a file that is made here goes with it; give --backup FILE on a volume that \
             stays, or run `etcd-sync rejoin` on a machine whose files stay",
        ));
    }
    let rejoin = Rejoin::new(&config, &options)?;
    let command = Command { config: &config, options: &options, rejoin: &rejoin };
    let known = match rejoin.know().await? {
        Ok(known) => known,
        Err(reason) => return Ok(command.refuse(None, &reason)),
    };
    match &known.stand {
        Stand::Standby(phase) => command.nothing_to_do(&known, phase.name()).await,
        Stand::Begun(rejoining) => command.go_on(&known, rejoining).await,
        Stand::Apart(divergence) => command.begin(&known, *divergence).await,
    }
}

struct Command<'a> {
    config: &'a Config,
    options: &'a RejoinConfig,
    rejoin: &'a Rejoin<'a>,
}

impl Command<'_> {
    async fn begin(&self, known: &Known, divergence: Divergence) -> Result<Outcome> {
        let open = match Steps::find(self.rejoin).await? {
            Ok(open) => open,
            Err(reason) => return Ok(self.refuse(None, &format!("nothing was done: {reason}"))),
        };
        let plan = self.rejoin.look(known, divergence).await?;
        let (path, now) = self.path();
        let path = match &open {
            Some(steps) => beside_unfinished(steps.run(), path),
            None => path,
        };
        let planned = plan.steps(&path.display().to_string());
        let mut steps = match open {
            Some(steps) => {
                self.show(&format!("{}\n", steps.run().text()));
                steps.plan(planned)
            }
            None => Steps::new(self.rejoin, planned),
        };
        let limit = self.options.limit.unwrap_or(usize::MAX);
        self.show(&format!("{}\n{}\n", plan.text(limit), steps.run().plan_text()));
        if self.options.dry_run {
            self.tell(Some(&plan), Some(steps.run()), None, None, None);
            return Ok(Outcome::Success);
        }
        let action = "save them and make this cluster the standby";
        if let Err(reason) = confirm(plan.to_save(), action, self.options.yes, self.options.output)? {
            return Ok(self.refuse(Some(&plan), &format!("nothing was done: {reason}")));
        }
        let stop = Stop::on_signals().context("cannot listen for signals")?;
        let mut done = Done::default();
        steps.begin().await?;
        let role = self.change_role(known, &plan, (&path, now), &mut steps, &mut done);
        let outcome = match unless(&stop, role).await {
            Ok((rejoining, follower)) => self.complete(&rejoining, follower, &stop, &mut steps, &mut done).await,
            Err(error) => Err(error),
        };
        self.end(Some(&plan), outcome, &mut steps, &done).await
    }

    /// Saves what is lost, and changes the role.
    async fn change_role(
        &self,
        known: &Known,
        plan: &Plan,
        (path, now): (&Path, String),
        steps: &mut Steps<'_>,
        done: &mut Done,
    ) -> Result<(Rejoining, Follower)> {
        steps.take(Step::FindDivergence, async |_| Ok(((), plan.found()))).await?;
        let save = async |_: &mut Journal| {
            let saved = self.rejoin.save(known, plan.divergence, path, now, plan.to_save()).await?;
            done.file = saved.file.as_ref().map(|file| file.display().to_string());
            done.saved = saved.keys;
            Ok((saved, done.saved_words()))
        };
        let saved = steps.take(Step::Save, save).await?;
        let take_role = async |journal: &mut Journal| {
            let rejoining = self.rejoin.take_role(known, &saved, plan.deletions(), &journal.run().id).await?;
            done.role_changed = true;
            let words = format!("cluster {} is the standby of cluster {} now", known.clusters[0], known.clusters[1]);
            Ok((rejoining, Ended::Done(words)))
        };
        let rejoining = steps.take(Step::TakeRole, take_role).await?;
        Ok((rejoining, saved.follower))
    }

    /// An earlier run has changed the role.
    async fn go_on(&self, known: &Known, rejoining: &Rejoining) -> Result<Outcome> {
        self.show(&format!(
            "An earlier run made this cluster the standby of cluster {}:\nwhat is left of it is done now.\n",
            rejoining.primary
        ));
        let mut steps = match Steps::find(self.rejoin).await? {
            Ok(Some(steps)) => {
                self.show(&format!("\n{}\n", steps.run().text()));
                steps
            }
            Ok(None) => Steps::new(self.rejoin, remaining_steps(rejoining)),
            Err(reason) => return Ok(self.refuse(None, &format!("nothing was done: {reason}"))),
        };
        if self.options.dry_run {
            self.tell(None, Some(steps.run()), None, None, None);
            return Ok(Outcome::Success);
        }
        let mut done = Done { saved: rejoining.saved, ..Done::default() };
        done.file = (!rejoining.file.is_empty()).then(|| rejoining.file.clone());
        let stop = Stop::on_signals().context("cannot listen for signals")?;
        steps.begin().await?;
        steps.settle_role(rejoining).await?;
        let follower = self.rejoin.follow(&self.path().0, &known.clusters[0], rejoining.from + 1);
        let outcome = self.complete(rejoining, follower, &stop, &mut steps, &mut done).await;
        self.end(None, outcome, &mut steps, &done).await
    }

    async fn complete(
        &self,
        rejoining: &Rejoining,
        follower: Follower,
        stop: &Stop,
        steps: &mut Steps<'_>,
        done: &mut Done,
    ) -> Result<()> {
        let converge = async |journal: &mut Journal| {
            let synchronizer = Synchronizer::start(self.rejoin, stop)?;
            let copy = unless(stop, self.rejoin.converge(&synchronizer));
            // What was written meanwhile is told in any case.
            let (converged, followed) = match follower.during(copy, || self.rejoin.standby_revision()).await {
                Ok(told) => told,
                Err(error) => {
                    let others = self.rejoin.others(&synchronizer).await?;
                    synchronizer.stop().await?;
                    return Err(match others.is_empty() {
                        true => error,
                        false => error.context(format!(
                            "{} of this link copies on and overwrites what cannot be saved: stop it now (kubectl -n cpaas-system scale \
                             deployment etcd-sync --replicas=0, or its service)",
                            others.join(", ")
                        )),
                    });
                }
            };
            done.later_file = followed.file.map(|file| file.display().to_string());
            (done.later, done.later_deleted, done.untold) = (followed.written, followed.deleted, followed.untold);
            if converged.is_err() && done.later_file.is_some() {
                journal.note(json!({ "laterSavedIn": done.later_file, "laterSaved": done.later })).await?;
            }
            (done.revision, done.synchronizer) = converged?;
            Ok((synchronizer, done.converged_words()))
        };
        let synchronizer = steps.take(Step::Converge, converge).await?;
        let prove = async |journal: &mut Journal| {
            let proof = self.rejoin.prove().await?;
            let words = proof.words();
            done.proof = Some(proof);
            // Whoever finds nothing left to do reads there how it came out.
            journal.note(serde_json::to_value(&words)?).await?;
            self.rejoin.finish(rejoining).await?;
            Ok(((), words))
        };
        unless(stop, steps.take(Step::Prove, prove)).await?;
        synchronizer.stop().await
    }

    async fn end(
        &self,
        plan: Option<&Plan>,
        outcome: Result<()>,
        steps: &mut Steps<'_>,
        done: &Done,
    ) -> Result<Outcome> {
        self.tell(plan, Some(steps.run()), None, outcome.as_ref().err(), Some(done));
        self.show(&format!("\n{}", done.text()));
        steps.end().await;
        outcome?;
        Ok(if done.is_good() { Outcome::Success } else { Outcome::Differences })
    }

    async fn nothing_to_do(&self, known: &Known, phase: &str) -> Result<Outcome> {
        let why = format!("it is the standby of cluster {} already ({phase})", known.clusters[1]);
        self.show(&format!("Nothing to do:\n  {why}.\n"));
        // Another command's run is none of this one's business when there is nothing to do.
        let mut open = Steps::find(self.rejoin).await?.unwrap_or_default();
        if let Some(steps) = open.as_mut().filter(|_| !self.options.dry_run) {
            self.show("\nAn earlier run was interrupted before it could write down that it had ended:\n");
            steps.settle_all(&why).await?;
            steps.end().await;
        }
        let last = Journal::all(&self.rejoin.pair().standby, &self.rejoin.pair().keys).await?;
        let last = last.into_iter().rfind(|run| run.command == Of::Rejoin);
        let run = open.as_ref().map(Steps::run).or(last.as_ref());
        if run.is_some_and(Run::warns) {
            self.show("The last rejoin ended with a warning: look at it with `etcd-sync journal`, and at the keys with\n`etcd-sync check --deep`.\n");
        }
        if self.options.output == TableOutput::Json {
            print_json(
                &json!({ "plan": null, "run": run, "skipped": why, "refused": null, "error": null, "result": null }),
            );
        }
        Ok(if run.is_some_and(Run::warns) { Outcome::Differences } else { Outcome::Success })
    }

    fn refuse(&self, plan: Option<&Plan>, reason: &str) -> Outcome {
        self.tell(plan, None, Some(reason), None, None);
        refused(reason)
    }

    fn show(&self, text: &str) {
        if self.options.output == TableOutput::Table {
            print(text);
        }
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

/// The work, unless somebody wants the command to stop: the work is dropped then.
async fn unless<T>(stop: &Stop, work: impl Future<Output = Result<T>>) -> Result<T> {
    let mut stop = stop.clone();
    tokio::select! {
        () = stop.wanted() => bail!("stopped in the middle: run it again to go on"),
        done = work => done,
    }
}
