//! Runs for people, at 80 columns, and for programs.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Command, Outcome, Replanned, Run, State, Step, StepRecord};
use crate::text::{WIDTH, count, moment, span, wrap};
use etcd_sync_core::link::state::Phase;

/// Where a step's words begin: behind number, name, outcome and time.
const INDENT: &str = "                                           ";

impl Run {
    /// The plan.
    pub fn plan_text(&self) -> String {
        let mut text = format!("Plan of run {}\n", self.id);
        for (index, planned) in self.plan.iter().enumerate() {
            let first = format!("  {:2}  {:20}  ", index + 1, planned.step.name());
            text += &wrap(&planned.what, &first, &" ".repeat(first.len()));
        }
        text
    }

    /// One line for the step that has just ended, and more where its words are long.
    pub fn step_text(&self, record: &StepRecord) -> String {
        let number = self.plan.iter().position(|planned| planned.step == record.step).map_or(0, |index| index + 1);
        let took = record.ended_ms.map(|ended| Duration::from_millis(ended.saturating_sub(record.begun_ms)));
        let took = took.map_or_else(|| "-".into(), span);
        let (outcome, what) = match &record.outcome {
            Some(outcome) => (outcome.name(), outcome.what()),
            None => ("interrupted", ""),
        };
        wrap(what, &format!("  {number:2}  {:20} {outcome:11} {took:>6}  ", record.step.name()), INDENT)
    }

    /// How it ended: what was lost, and how long it took.
    pub fn end_text(&self) -> String {
        let mut text = String::new();
        match self.state {
            State::Completed if self.command == Command::Rejoin && self.warns() => {
                text += &format!("The rejoin has ended, with a warning (run {}).\n", self.id);
            }
            State::Completed => text += &format!("{} is complete (run {}).\n", capital(self.command), self.id),
            State::Abandoned => text += &format!("Run {} was abandoned.\n", self.id),
            State::Open => {
                let next = self.next().map_or("", Step::name);
                let goes_on = format!(
                    "Run {} stopped at {next}. Fix the cause and give the same command again: it goes on there.",
                    self.id
                );
                text += &wrap(&goes_on, "", "");
            }
        }
        if self.state == State::Completed && self.command != Command::Rejoin {
            text += &wrap(&self.recovery_point(), "Recovery point  ", "                ");
            if let Some(recovery) = self.recovery() {
                let from = match self.last(Step::StopWriters) {
                    Some(_) => "from stopping the writers",
                    None => "from the call of this command",
                };
                let took = span(Duration::from_millis(recovery.until_ms - recovery.from_ms));
                text += &wrap(
                    &format!("{took}, {from} until the domain was verified"),
                    "Recovery time   ",
                    "                ",
                );
            }
        }
        text
    }

    /// Whether it is proved that nothing was lost.
    pub fn nothing_lost(&self) -> bool {
        let done = |step| matches!(self.outcome(step), Some(Outcome::Done(_)));
        self.loss.is_none() && done(Step::Compare) && done(Step::Promote)
    }

    /// Whether a step ended with a warning when it was taken last.
    pub fn warns(&self) -> bool {
        self.plan.iter().any(|planned| matches!(self.outcome(planned.step), Some(Outcome::Warned(_))))
    }

    /// What was lost, in a sentence.
    pub fn recovery_point(&self) -> String {
        let Some(loss) = &self.loss else {
            return match (self.outcome(Step::Compare), self.outcome(Step::Promote)) {
                (Some(compared), Some(_)) if self.nothing_lost() => format!("nothing was lost: {}", compared.what()),
                (_, Some(Outcome::Warned(what))) => format!("something was lost, or it is not known: {what}"),
                (Some(Outcome::Warned(what)), _) => format!("not proved: {what}"),
                _ => "not proved".into(),
            };
        };
        let mut text = match (loss.phase, loss.applied_revision) {
            (Phase::Streaming, revision) => format!("what the old primary acknowledged after its revision {revision}"),
            (_, 0) => "what the old primary acknowledged and a copy under way had not brought".to_owned(),
            (_, revision) => format!(
                "what the old primary acknowledged after its revision {revision} and a copy under way had not brought"
            ),
        };
        if loss.offset > 0 {
            text += &format!(", and of that revision all but the first {}", count(loss.offset, "change"));
        }
        if self.accepted.missed > 0 {
            text += &format!(", and {} that had been missed before", count(self.accepted.missed, "key"));
        }
        text + " is lost here; `etcd-sync rejoin` finds and saves it"
    }

    /// Everything the journal has of it.
    pub fn text(&self) -> String {
        let Run { id, command, link, .. } = self;
        let mut text = format!("Run {id}: {} of link {link}, {}\n", command.name(), self.state.name());
        for (index, attempt) in self.attempts.iter().enumerate() {
            let again = if index == 0 { "begun" } else { "went on" };
            text += &format!("{again} {} by {}\n", moment(attempt.at_ms), attempt.by);
            text += &self.replanned_text(index);
            let steps = self.steps.iter().filter(|record| record.attempt == index);
            steps.for_each(|record| text += &self.step_text(record));
        }
        if let Some(loss) = &self.loss {
            text += &loss.text();
        }
        // Not begun yet: the call that shows this.
        text += &self.replanned_text(self.attempts.len());
        text + &self.end_text()
    }

    /// What an attempt planned otherwise.
    fn replanned_text(&self, attempt: usize) -> String {
        let changes = self.replanned.iter().filter(|change| change.attempt == attempt);
        let told = changes.map(|Replanned { step, was, .. }| {
            let again = if self.last(*step).is_some() { ", and is taken again" } else { "" };
            let text = format!("{} is not what it was any more ({was}){again}", step.name());
            wrap(&text, "  other flags:  ", "                ")
        });
        told.collect()
    }

    /// One line of a list of runs.
    fn row(&self) -> [String; 5] {
        let first = self.attempts.first();
        [
            self.id.clone(),
            self.command.name().into(),
            self.state.name().into(),
            self.next().map_or("-".into(), |step| step.name().into()),
            first.map_or("-".into(), |attempt| attempt.by.clone()),
        ]
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let recovery = self.recovery();
        let took: serde_json::Map<String, Value> = self
            .plan
            .iter()
            .filter_map(|planned| {
                let records = self.steps.iter().filter(|record| record.step == planned.step);
                let spans = records.filter_map(|record| Some(record.ended_ms?.saturating_sub(record.begun_ms)));
                let took: Vec<u64> = spans.collect();
                (!took.is_empty()).then(|| (planned.step.name().to_owned(), took.iter().sum::<u64>().into()))
            })
            .collect();
        json!({
            "run": self,
            "next": self.next(),
            "recoveryPoint": (self.command != Command::Rejoin).then(|| self.recovery_point()),
            "nothingLost": (self.command != Command::Rejoin).then(|| self.nothing_lost()),
            "recoveryTimeMilliseconds": recovery.map(|recovery| recovery.until_ms - recovery.from_ms),
            "tookMilliseconds": took,
        })
    }
}

impl State {
    /// Its name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            State::Open => "open",
            State::Completed => "completed",
            State::Abandoned => "abandoned",
        }
    }
}

fn capital(command: Command) -> &'static str {
    match command {
        Command::Switchover => "The switchover",
        Command::Failover => "The failover",
        Command::Rejoin => "The rejoin",
    }
}

/// A list of runs for people, a line each.
pub fn table(runs: &[Run], link: &str) -> String {
    if runs.is_empty() {
        return format!("The journal of link {link} is empty: no failover command was ever run for it here.\n");
    }
    let head = ["RUN", "COMMAND", "STATE", "NEXT", "BY"].map(str::to_owned);
    let rows: Vec<[String; 5]> = std::iter::once(head).chain(runs.iter().map(Run::row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..5).map(width).collect();
    let line = |row: &[String; 5]| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        let line = cells.join("  ");
        match line.trim_end() {
            fits if fits.chars().count() <= WIDTH => format!("{fits}\n"),
            // The whole name is in the run's own page.
            long => format!("{}…\n", long.chars().take(WIDTH - 1).collect::<String>()),
        }
    };
    rows.iter().map(line).collect()
}
