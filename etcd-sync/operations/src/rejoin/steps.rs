//! The steps of a rejoin in words, for the journal.

use super::{Outcome, Plan, Proof};
use crate::procedure::{Outcome as Ended, Planned, Step};
use crate::text::{count, moment};
use etcd_sync_core::link::rejoining::Rejoining;

impl Plan {
    /// What is going to be done. `file` is where values are saved.
    pub fn steps(&self, file: &str) -> Vec<Planned> {
        let part = match self.divergence.revision {
            0 => "find what only this cluster has; where the histories diverge is not known".into(),
            revision => format!("find what only this cluster has: the histories diverge after its revision {revision}"),
        };
        let save = match self.to_save() {
            0 => "skipped: nothing has to be saved".into(),
            values => format!("save {} in {file}", count(values, "value")),
        };
        let converge = format!(
            "copy by difference: delete {}, replace {}, create {}",
            count(self.deletions(), "key"),
            count(self.overwrites(), "value"),
            count(self.creations(), "key")
        );
        let role = format!("make cluster {} the standby of cluster {}", self.old_cluster, self.new_cluster);
        planned([part, save, role, converge])
    }

    /// What was found.
    pub fn found(&self) -> Ended {
        let after = match self.divergence.revision {
            0 => "point of divergence not known".into(),
            revision => format!("diverged after revision {revision}"),
        };
        Ended::Done(format!(
            "{after}, looked at {}: {} written only here, {} deleted only here, {} only here for another reason",
            self.looked_at, self.unreplicated.count, self.deleted_here.count, self.only_here.count
        ))
    }
}

/// The steps of a run that finds the role changed already.
pub fn remaining_steps(rejoining: &Rejoining) -> Vec<Planned> {
    let role = format!("make this cluster the standby of cluster {}", rejoining.primary);
    let save = match rejoining.saved {
        0 => "save what this cluster loses".into(),
        values => format!("save {} in {}", count(values, "value"), rejoining.file),
    };
    planned(["find what only this cluster has".into(), save, role, "copy by difference".into()])
}

/// How the steps up to the change of the role have ended, for a run that could not write it down; `None`: the step is behind
/// them.
pub fn settled_before(rejoining: &Rejoining, step: Step) -> Option<Ended> {
    let at = moment(rejoining.at_ms);
    match step {
        Step::FindDivergence => Some(Ended::Done(format!("found by the call that changed the role at {at}"))),
        Step::Save if rejoining.saved == 0 => Some(Ended::Skipped("nothing had to be saved".into())),
        Step::Save => Some(saved(rejoining.saved, &rejoining.file)),
        Step::TakeRole => Some(Ended::Done(format!("changed at {at}, by a call that was interrupted"))),
        _ => None,
    }
}

impl Outcome {
    /// How the values were saved.
    pub fn saved_words(&self) -> Ended {
        match &self.file {
            None => Ended::Skipped("nothing had to be saved".into()),
            Some(file) => saved(self.saved, file),
        }
    }

    /// How the copy ended.
    pub fn converged_words(&self) -> Ended {
        let mut words = format!("everything of the new primary up to its revision {} is here", self.revision);
        if let Some(file) = &self.later_file {
            words += &format!("; {} written here meanwhile, saved in {file}", count(self.later, "value"));
        }
        if self.later_deleted > 0 {
            words += &format!("; {} deleted here meanwhile", count(self.later_deleted, "key"));
        }
        match self.untold {
            None => Ended::Done(words),
            Some((from, to)) => Ended::Warned(format!(
                "{words}; what others wrote here between the revisions {from} and {to} cannot be told: it is compacted"
            )),
        }
    }
}

impl Proof {
    /// How the comparison ended.
    pub fn words(&self) -> Ended {
        match self {
            Proof::Complete { revision, compared } => Ended::Done(format!(
                "{} compared at the new primary's revision {revision}: all are here, with their values",
                count(*compared, "key")
            )),
            Proof::Differs { revision, missed, mismatched } => Ended::Warned(format!(
                "of the new primary's revision {revision}, {} missed here and {} different: `etcd-sync check --deep` names them",
                count(*missed, "key"),
                count(*mismatched, "value")
            )),
        }
    }
}

fn saved(values: u64, file: &str) -> Ended {
    Ended::Done(format!("{} saved in {file}", count(values, "value")))
}

fn planned([part, save, role, converge]: [String; 4]) -> Vec<Planned> {
    let prove = "compare all keys and values".to_owned();
    [
        (Step::FindDivergence, part),
        (Step::Save, save),
        (Step::TakeRole, role),
        (Step::Converge, converge),
        (Step::Prove, prove),
    ]
    .map(|(step, what)| Planned { step, what })
    .into()
}
