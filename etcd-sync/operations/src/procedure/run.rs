//! One run of a command as the journal keeps it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Command, Loss, Step};
use etcd_sync_core::link::state::BadRecord;

/// A run, from its plan to its end. Times are Unix milliseconds by the clock of whoever ran it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Run {
    /// [`Run::FORMAT`].
    pub format: u32,
    /// Its name: begins with the time, so that names are in the order of runs.
    pub id: String,
    /// The command.
    pub command: Command,
    /// The link.
    pub link: String,
    /// What was planned, in its order.
    pub plan: Vec<Planned>,
    /// What later calls have planned otherwise, once the roles had changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replanned: Vec<Replanned>,
    /// What the command said would be lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<Loss>,
    /// What the operator took upon himself to have it begin.
    #[serde(default, skip_serializing_if = "Accepted::is_nothing")]
    pub accepted: Accepted,
    /// Who ran it, and when; more than one when it was interrupted.
    pub attempts: Vec<Attempt>,
    /// The steps, in the order in which they were begun; more than one entry for a step that was begun again.
    pub steps: Vec<StepRecord>,
    /// Whether it goes on.
    pub state: State,
}

/// What the operator took upon himself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Accepted {
    /// So many keys were missed.
    pub missed: u64,
    /// The first of them.
    pub missed_keys: Vec<String>,
    /// Nobody knew whether keys were missed.
    pub unchecked: bool,
    /// The primary answered.
    pub live_primary: bool,
    /// Preflight checks that failed.
    pub checks: Vec<String>,
}

impl Planned {
    /// How the words of a step begin that has nothing to do.
    pub(super) const SKIPPED: &str = "skipped: ";

    fn is_skipped(&self) -> bool {
        self.what.starts_with(Self::SKIPPED)
    }
}

impl Accepted {
    fn is_nothing(&self) -> bool {
        *self == Accepted::default()
    }
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Planned {
    /// The step.
    pub step: Step,
    /// What it is going to do, exactly.
    pub what: String,
}

/// A step that a later call planned otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Replanned {
    /// The step.
    pub step: Step,
    /// In which attempt, from 0.
    pub attempt: usize,
    /// What it was going to do, or had done, before.
    pub was: String,
}

/// One time that the command was called for a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Attempt {
    /// User and host.
    pub by: String,
    /// When.
    pub at_ms: u64,
}

/// One time that a step was begun.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StepRecord {
    /// The step.
    pub step: Step,
    /// In which attempt, from 0.
    pub attempt: usize,
    /// When it was begun.
    pub begun_ms: u64,
    /// When it ended; `None`: it was interrupted, or is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<u64>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// What the step must know if it is begun again: written before it does anything that cannot be repeated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<Value>,
}

/// How a step ended, with what was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "outcome", content = "what")]
pub enum Outcome {
    /// It is done.
    Done(String),
    /// There was nothing to do.
    Skipped(String),
    /// It is done as far as it can be; somebody should look.
    Warned(String),
    /// It is not done. The run stops here, and goes on from here.
    Failed(String),
}

/// Whether a run goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Steps are left.
    Open,
    /// All steps are done.
    Completed,
    /// The operator gave it up.
    Abandoned,
}

/// How long nobody could write, as far as the run can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Recovery {
    /// Begin: writers were asked to stop, or the command was called.
    pub from_ms: u64,
    /// End: the domain was verified.
    pub until_ms: u64,
}

impl Outcome {
    /// Its name, as in JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Outcome::Done(_) => "done",
            Outcome::Skipped(_) => "skipped",
            Outcome::Warned(_) => "warned",
            Outcome::Failed(_) => "FAILED",
        }
    }

    /// What was seen.
    pub fn what(&self) -> &str {
        match self {
            Outcome::Done(what) | Outcome::Skipped(what) | Outcome::Warned(what) | Outcome::Failed(what) => what,
        }
    }

    /// Whether the run goes on behind it.
    pub fn settles(&self) -> bool {
        !matches!(self, Outcome::Failed(_))
    }
}

impl Run {
    /// The format this program reads and writes.
    pub const FORMAT: u32 = 1;

    /// A run that has not begun.
    pub fn new(id: String, command: Command, link: &str, plan: Vec<Planned>) -> Run {
        let (attempts, steps) = (Vec::new(), Vec::new());
        let link = link.to_owned();
        let (loss, accepted) = (None, Accepted::default());
        let (format, replanned, state) = (Self::FORMAT, Vec::new(), State::Open);
        Run { format, id, command, link, plan, replanned, loss, accepted, attempts, steps, state }
    }

    /// The value written to etcd.
    pub fn encode(&self) -> Bytes {
        serde_json::to_vec(self).expect("a run has only plain fields").into()
    }

    /// Reads a value from etcd.
    ///
    /// # Errors
    /// It is none, or another version's.
    pub fn decode(value: &[u8]) -> Result<Run, BadRecord> {
        BadRecord::decode("journal", Self::FORMAT, value)
    }

    /// Somebody calls the command for it.
    pub fn attempt(&mut self, by: &str, at_ms: u64) {
        self.attempts.push(Attempt { by: by.to_owned(), at_ms });
    }

    /// Takes over what a later call plans for the steps that are left. `Err` names the step that must not change any more: what
    /// leads up to the change of roles is done as it was begun. A step behind it that was taken and is wanted otherwise now is
    /// taken again: each checks first.
    pub fn replan(&mut self, plan: &[Planned]) -> Result<(), Step> {
        if !self.command.plan_binds() {
            self.plan = plan.to_vec();
            return Ok(());
        }
        let change = self.command.point_of_no_return();
        let at = |wanted| self.plan.iter().position(|planned| planned.step == wanted);
        let leads_up = |step| at(step) <= at(change);
        let mut changes = Vec::new();
        for was in &self.plan {
            let Some(now) = plan.iter().find(|now| now.step == was.step && now.what != was.what) else { continue };
            let settled = self.is_settled(was.step);
            if leads_up(was.step) {
                if !self.is_settled(change) {
                    return Err(was.step);
                }
            } else if !settled || !now.is_skipped() {
                changes.push(now.clone());
            }
        }
        let attempt = self.attempts.len();
        for now in changes {
            let Some(planned) = self.plan.iter_mut().find(|planned| planned.step == now.step) else { continue };
            let was = std::mem::replace(&mut planned.what, now.what);
            self.replanned.push(Replanned { step: now.step, attempt, was });
        }
        Ok(())
    }

    /// What a settled step did is undone: the next attempt takes it again, with the steps that prove for it.
    pub fn retake(&mut self, step: Step) {
        let planned = self.plan.iter().find(|planned| planned.step == step);
        if let (true, Some(planned)) = (self.is_settled(step), planned) {
            self.replanned.push(Replanned { step, attempt: self.attempts.len(), was: planned.what.clone() });
        }
    }

    /// The step to take next; `None`: all are settled.
    pub fn next(&self) -> Option<Step> {
        self.plan.iter().map(|planned| planned.step).find(|step| !self.is_settled(*step))
    }

    /// Whether a step need not be taken (again).
    pub fn is_settled(&self, step: Step) -> bool {
        let Some(last) = self.last(step) else { return false };
        let settled = last.outcome.as_ref().is_some_and(Outcome::settles);
        let fresh = last.attempt + 1 == self.attempts.len();
        let otherwise = self.replanned.iter().any(|change| change.step == step && change.attempt > last.attempt);
        settled && !otherwise && (fresh || step.proves_for().is_none_or(|act| self.is_settled(act)))
    }

    /// A step begins. What an earlier attempt noted for it stays known.
    pub fn begin(&mut self, step: Step, at_ms: u64) {
        let (attempt, note) = (self.attempts.len().saturating_sub(1), self.note(step).cloned());
        self.steps.push(StepRecord { step, attempt, begun_ms: at_ms, ended_ms: None, outcome: None, note });
    }

    /// The step under way must know this if it is begun again.
    pub fn set_note(&mut self, note: Value) {
        if let Some(last) = self.steps.last_mut() {
            last.note = Some(note);
        }
    }

    /// The step under way has ended.
    pub fn end(&mut self, outcome: Outcome, at_ms: u64) {
        if let Some(last) = self.steps.last_mut() {
            (last.ended_ms, last.outcome) = (Some(at_ms), Some(outcome));
        }
        if self.next().is_none() {
            self.state = State::Completed;
        }
    }

    /// What a step noted when it was begun last.
    pub fn note(&self, step: Step) -> Option<&Value> {
        self.last(step)?.note.as_ref()
    }

    /// How a step ended when it was taken last.
    pub fn outcome(&self, step: Step) -> Option<&Outcome> {
        self.last(step)?.outcome.as_ref()
    }

    /// The latest entry of a step.
    pub fn last(&self, step: Step) -> Option<&StepRecord> {
        self.steps.iter().rev().find(|record| record.step == step)
    }

    /// How long nobody could write; `None` before the domain is verified.
    pub fn recovery(&self) -> Option<Recovery> {
        // In an attempt that could not stop them, writers were not kept from anything.
        let stopped = self
            .steps
            .iter()
            .find(|record| record.step == Step::StopWriters && record.outcome.as_ref().is_some_and(Outcome::settles));
        let called = self.attempts.first().map(|attempt| attempt.at_ms);
        let from_ms = stopped.map(|record| record.begun_ms).or(called)?;
        let verified = |step| {
            let last: &StepRecord = self.last(step)?;
            matches!(last.outcome, Some(Outcome::Done(_) | Outcome::Warned(_))).then_some(last.ended_ms?)
        };
        let until_ms = verified(Step::DnsInside).or(verified(Step::DnsVerify))?;
        Some(Recovery { from_ms, until_ms: until_ms.max(from_ms) })
    }
}
