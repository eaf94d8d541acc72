//! The steps of a rejoin, as the executor takes them. What one step finds, the next ones work with.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use etcd_sync_core::link::rejoining::Rejoining;
use etcd_sync_operations::procedure::{Outcome as Ended, Step};
use etcd_sync_operations::rejoin::{Outcome as Done, Plan, settled_before};
use etcd_sync_program::Stop;
use serde_json::json;

use super::{Follower, Known, Rejoin, Saved, Synchronizer};
use crate::operations::procedure::Steps;
use crate::operations::procedure::journal::Journal;

/// Where a rejoin begins.
pub enum From<'a> {
    /// At its beginning: this is what it will do.
    Plan {
        /// The plan.
        plan: &'a Plan,
        /// When, for the head of the file.
        now: String,
    },
    /// Behind the change of the role, which an earlier attempt made.
    Role(&'a Rejoining),
    /// At its end: an earlier attempt could not write it down. Why nothing is left to do.
    End(&'a str),
}

/// The steps of a rejoin.
pub struct RejoinSteps<'a> {
    rejoin: &'a Rejoin<'a>,
    known: &'a Known,
    stop: &'a Stop,
    from: From<'a>,
    /// The file of the values that are lost.
    path: PathBuf,
    saved: Option<Saved>,
    follower: Option<Follower>,
    rejoining: Option<Rejoining>,
    synchronizer: Option<Synchronizer>,
    /// What was done so far.
    pub done: Done,
}

impl<'a> RejoinSteps<'a> {
    /// Before the first step.
    pub fn new(rejoin: &'a Rejoin<'a>, known: &'a Known, stop: &'a Stop, from: From<'a>, path: PathBuf) -> Self {
        let rejoining = match &from {
            From::Role(rejoining) => Some((*rejoining).clone()),
            From::Plan { .. } | From::End(_) => None,
        };
        let mut done = Done::default();
        if let Some(rejoining) = &rejoining {
            done.saved = rejoining.saved;
            done.file = (!rejoining.file.is_empty()).then(|| rejoining.file.clone());
        }
        RejoinSteps {
            rejoin,
            known,
            stop,
            from,
            path,
            saved: None,
            follower: None,
            rejoining,
            synchronizer: None,
            done,
        }
    }

    async fn save(&mut self) -> Result<Ended> {
        let From::Plan { plan, now } = &self.from else { bail!("this run saves nothing any more") };
        let saved = self.rejoin.save(self.known, plan.divergence, &self.path, now.clone(), plan.to_save()).await?;
        self.done.file = saved.file.as_ref().map(|file| file.display().to_string());
        self.done.saved = saved.keys;
        self.saved = Some(saved);
        Ok(self.done.saved_words())
    }

    async fn take_role(&mut self, run: &str) -> Result<Ended> {
        let From::Plan { plan, .. } = &self.from else { bail!("this run has changed the role before") };
        let saved = self.saved.take().context("the values are saved before")?;
        let rejoining = self.rejoin.take_role(self.known, &saved, plan.deletions(), run).await?;
        self.done.role_changed = true;
        (self.rejoining, self.follower) = (Some(rejoining), Some(saved.follower));
        let [old, new] = &self.known.clusters;
        Ok(Ended::Done(format!("cluster {old} is the standby of cluster {new} now")))
    }

    async fn converge(&mut self, journal: &mut Journal) -> Result<Ended> {
        let (rejoin, stop) = (self.rejoin, self.stop);
        let rejoining = self.rejoining.as_ref().context("the role was changed before")?;
        let follower = match self.follower.take() {
            Some(follower) => follower,
            None => rejoin.follow(&self.path, &self.known.clusters[0], rejoining.from + 1),
        };
        let synchronizer = Synchronizer::start(rejoin, stop)?;
        let copy = unless(stop, rejoin.converge(&synchronizer));
        // What was written meanwhile is reported in any case.
        let (converged, followed) = match follower.during(copy, || rejoin.standby_revision()).await {
            Ok(told) => told,
            Err(error) => {
                let others = rejoin.others(&synchronizer).await?;
                synchronizer.stop().await?;
                return Err(match others.is_empty() {
                    true => error,
                    false => error.context(format!(
                        "{} of this link copies on and overwrites what cannot be saved: stop it now (kubectl scale deployment \
                         etcd-sync --replicas=0 in the namespace of its installation, or its service)",
                        others.join(", ")
                    )),
                });
            }
        };
        let done = &mut self.done;
        done.later_file = followed.file.map(|file| file.display().to_string());
        (done.later, done.later_deleted, done.untold) = (followed.written, followed.deleted, followed.untold);
        if converged.is_err() && done.later_file.is_some() {
            journal.note(json!({ "laterSavedIn": done.later_file, "laterSaved": done.later })).await?;
        }
        (done.revision, done.synchronizer) = converged?;
        self.synchronizer = Some(synchronizer);
        Ok(self.done.converged_words())
    }

    async fn prove(&mut self, journal: &mut Journal) -> Result<Ended> {
        let rejoining = self.rejoining.as_ref().context("the role was changed before")?;
        let proof = self.rejoin.prove().await?;
        let words = proof.words();
        self.done.proof = Some(proof);
        // Whoever finds nothing left to do reads there how it ended.
        journal.note(serde_json::to_value(&words)?).await?;
        self.rejoin.finish(rejoining).await?;
        Ok(words)
    }

    async fn take_whole(&mut self, step: Step, journal: &mut Journal) -> Result<Ended> {
        match (step, &self.from) {
            (Step::FindDivergence, From::Plan { plan, .. }) => Ok(plan.found()),
            (Step::Save, _) => self.save().await,
            (Step::TakeRole, _) => {
                let run = journal.run().id.clone();
                self.take_role(&run).await
            }
            (Step::Prove, _) => self.prove(journal).await,
            (other, _) => Ok(Ended::Failed(format!("{} is no step of this command", other.name()))),
        }
    }
}

impl Steps for RejoinSteps<'_> {
    // The transaction that changes the role compares it with what was read.
    async fn may_go_on(&mut self) -> Result<()> {
        Ok(())
    }

    async fn already(&mut self, step: Step, journal: &mut Journal) -> Result<Option<Ended>> {
        Ok(match &self.from {
            From::Plan { .. } => None,
            From::Role(rejoining) => settled_before(rejoining, step),
            From::End(_) if step == Step::Prove => {
                let noted = journal.run().note(step).cloned().and_then(|note| serde_json::from_value(note).ok());
                let unknown = "whether an earlier call compared is not known: `etcd-sync check --deep` compares";
                Some(noted.unwrap_or_else(|| Ended::Warned(unknown.into())))
            }
            From::End(why) => Some(Ended::Skipped((*why).to_owned())),
        })
    }

    async fn take(&mut self, step: Step, journal: &mut Journal) -> Result<Ended> {
        match step {
            Step::Converge => self.converge(journal).await,
            _ => {
                let stop = self.stop;
                unless(stop, self.take_whole(step, journal)).await
            }
        }
    }

    // The synchronizer that was started here hands the leadership over.
    async fn close(&mut self) -> Result<()> {
        match self.synchronizer.take() {
            Some(synchronizer) => synchronizer.stop().await,
            None => Ok(()),
        }
    }
}

/// The work, unless somebody wants the command to stop: the work is dropped then.
async fn unless<T>(stop: &Stop, work: impl Future<Output = Result<T>>) -> Result<T> {
    let mut stop = stop.clone();
    tokio::select! {
        () = stop.wanted() => bail!("stopped in the middle: run it again to go on"),
        done = work => done,
    }
}
