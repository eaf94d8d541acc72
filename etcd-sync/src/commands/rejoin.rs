//! `etcd-sync rejoin`: the old primary becomes the standby of the cluster that was promoted over it.

use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::{Context, Error, Result, bail};
use etcd_sync_core::rejoin::{Outcome as Done, Parting, Plan, Rejoining, Stand};
use etcd_sync_core::saved::{What, file_name};
use etcd_sync_program::Stop;
use etcd_sync_program::args::TableOutput;
use etcd_sync_program::config::{Config, RejoinConfig};
use serde_json::json;

use super::confirm::confirm;
use super::{Outcome, print, print_json, refused};
use crate::rejoin::{Follower, Known, Rejoin, Synchronizer};

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
        Stand::Standby(phase) => Ok(command.nothing_to_do(&known, phase.name())),
        Stand::Begun(rejoining) => command.go_on(&known, rejoining).await,
        Stand::Apart(parting) => command.begin(&known, *parting).await,
    }
}

struct Command<'a> {
    config: &'a Config,
    options: &'a RejoinConfig,
    rejoin: &'a Rejoin<'a>,
}

impl Command<'_> {
    async fn begin(&self, known: &Known, parting: Parting) -> Result<Outcome> {
        let plan = self.rejoin.look(known, parting).await?;
        self.show(&plan.text(self.options.limit.unwrap_or(usize::MAX)));
        if self.options.dry_run {
            self.tell(Some(&plan), None, None, None);
            return Ok(Outcome::Success);
        }
        let deed = "save them and make this cluster the standby";
        if let Err(reason) = confirm(plan.to_save(), deed, self.options.yes, self.options.output)? {
            return Ok(self.refuse(Some(&plan), &format!("nothing was done: {reason}")));
        }
        let stop = Stop::on_signals().context("cannot listen for signals")?;
        let (mut wanted, mut done) = (stop.clone(), Done::default());
        let outcome = tokio::select! {
            () = wanted.wanted() => stopped(),
            outcome = self.execute(known, parting, &plan, &stop, &mut done) => outcome,
        };
        self.end(Some(&plan), outcome, &done)
    }

    async fn execute(&self, known: &Known, parting: Parting, plan: &Plan, stop: &Stop, done: &mut Done) -> Result<()> {
        let (path, now) = self.path();
        let saved = self.rejoin.save(known, parting, &path, now, plan.to_save()).await?;
        done.file = saved.file.as_ref().map(|file| file.display().to_string());
        done.saved = saved.keys;
        let rejoining = self.rejoin.take_role(known, &saved, plan.deletions()).await?;
        done.role_changed = true;
        self.complete(&rejoining, saved.follower, stop, done).await
    }

    /// An earlier run has changed the role.
    async fn go_on(&self, known: &Known, rejoining: &Rejoining) -> Result<Outcome> {
        self.show(&format!(
            "An earlier run made this cluster the standby of cluster {}:\nwhat is left of it is done now.\n",
            rejoining.primary
        ));
        if self.options.dry_run {
            self.tell(None, None, None, None);
            return Ok(Outcome::Success);
        }
        let mut done = Done { saved: rejoining.saved, ..Done::default() };
        done.file = (!rejoining.file.is_empty()).then(|| rejoining.file.clone());
        let stop = Stop::on_signals().context("cannot listen for signals")?;
        let mut wanted = stop.clone();
        let follower = self.rejoin.follow(&self.path().0, &known.clusters[0], rejoining.from + 1);
        let outcome = tokio::select! {
            () = wanted.wanted() => stopped(),
            outcome = self.complete(rejoining, follower, &stop, &mut done) => outcome,
        };
        self.end(None, outcome, &done)
    }

    async fn complete(&self, rejoining: &Rejoining, follower: Follower, stop: &Stop, done: &mut Done) -> Result<()> {
        let synchronizer = Synchronizer::start(self.rejoin, stop)?;
        let converged = self.rejoin.converge(&synchronizer).await;
        // What was written meanwhile is told in any case.
        let followed = follower.finish(self.rejoin.standby_revision().await?).await?;
        done.later_file = followed.file.map(|file| file.display().to_string());
        (done.later, done.later_deleted, done.untold) = (followed.written, followed.deleted, followed.untold);
        (done.revision, done.synchronizer) = converged?;
        done.proof = Some(self.rejoin.prove().await?);
        self.rejoin.finish(rejoining).await?;
        synchronizer.stop().await
    }

    fn end(&self, plan: Option<&Plan>, outcome: Result<()>, done: &Done) -> Result<Outcome> {
        self.tell(plan, None, outcome.as_ref().err(), Some(done));
        self.show(&done.text());
        outcome?;
        Ok(if done.is_good() { Outcome::Success } else { Outcome::Differences })
    }

    fn nothing_to_do(&self, known: &Known, phase: &str) -> Outcome {
        let why = format!("it is the standby of cluster {} already ({phase})", known.clusters[1]);
        if self.options.output == TableOutput::Json {
            print_json(&json!({ "plan": null, "skipped": why, "refused": null, "error": null, "result": null }));
        }
        self.show(&format!("Nothing to do:\n  {why}.\n"));
        Outcome::Success
    }

    fn refuse(&self, plan: Option<&Plan>, reason: &str) -> Outcome {
        self.tell(plan, Some(reason), None, None);
        refused(reason)
    }

    fn show(&self, text: &str) {
        if self.options.output == TableOutput::Table {
            print(text);
        }
    }

    fn tell(&self, plan: Option<&Plan>, refused: Option<&str>, error: Option<&Error>, done: Option<&Done>) {
        if self.options.output == TableOutput::Json {
            let error = error.map(|error| format!("{error:#}"));
            let (plan, result) = (plan.map(Plan::json), done.map(Done::json));
            print_json(&json!({ "plan": plan, "skipped": null, "refused": refused, "error": error, "result": result }));
        }
    }

    /// The file to save in, and now.
    fn path(&self) -> (PathBuf, String) {
        let now = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let given = self.options.backup.clone();
        (given.unwrap_or_else(|| file_name(What::Rejoin, &self.config.link, &now).into()), now)
    }
}

fn stopped() -> Result<()> {
    bail!("stopped in the middle: run it again to go on")
}
