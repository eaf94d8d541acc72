//! A rehearsal for people, at 80 columns; for a file, in Markdown; for programs.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Drill, Part, Trial};
use crate::preflight::Level;
use crate::text::{count, moment, span, wrap};

/// Trials that passed are only counted.
fn worth_telling(part: &Part) -> impl Iterator<Item = &Trial> {
    part.trials.iter().filter(|trial| trial.level != Level::Pass)
}

fn summary(part: &Part) -> String {
    if let Some(why) = &part.skipped {
        return format!("not rehearsed: {why}");
    }
    let of = |level| part.trials.iter().filter(|trial| trial.level == level).count() as u64;
    let mut words = vec![format!("{} passed", of(Level::Pass))];
    for (level, word) in [(Level::Warn, "warned"), (Level::Fail, "FAILED")] {
        words.extend(Some(of(level)).filter(|number| *number > 0).map(|number| format!("{number} {word}")));
    }
    words.join(", ")
}

impl Drill {
    fn headline(&self) -> String {
        let not_rehearsed = match self.not_rehearsed() {
            0 => String::new(),
            not_rehearsed => format!("; {not_rehearsed} of {} not rehearsed", count(self.parts.len() as u64, "part")),
        };
        format!("{}: score {} of 100{not_rehearsed}", self.verdict().words(), self.score())
    }

    /// For people at a terminal.
    pub fn text(&self) -> String {
        let Drill { link, by, at_ms, .. } = self;
        let mut text = format!("DRILL of link {link}, {} by {by}\n{}\n\n", moment(*at_ms), self.headline());
        for part in &self.parts {
            let first = format!("  {:11} {:>7}  ", part.name.name(), span(Duration::from_millis(part.took_ms)));
            text += &wrap(&summary(part), &first, &" ".repeat(first.len()));
            for trial in worth_telling(part) {
                let told = format!("{}: {}", trial.name, trial.what);
                text += &wrap(&told, &format!("    {} ", trial.level.name()), "         ");
            }
        }
        text += &format!(
            "\nNothing that serves users was changed. It took {}.\n",
            span(Duration::from_millis(self.took_ms()))
        );
        text
    }

    /// For a file that is kept.
    pub fn markdown(&self) -> String {
        let Drill { link, by, at_ms, .. } = self;
        let mut text = format!("# Drill of link {link}\n\n{}, by {by}.\n\n**{}**\n\n", moment(*at_ms), self.headline());
        text += "| part | time | result |\n|---|---|---|\n";
        for part in &self.parts {
            text += &format!(
                "| {} | {} | {} |\n",
                part.name.name(),
                span(Duration::from_millis(part.took_ms)),
                cell(&summary(part))
            );
        }
        text += &format!(
            "\nNothing that serves users was changed. It took {}.\n",
            span(Duration::from_millis(self.took_ms()))
        );
        for part in self.parts.iter().filter(|part| !part.trials.is_empty()) {
            text += &format!("\n## {}\n\n| | what | seen |\n|---|---|---|\n", part.name.name());
            for Trial { name, level, what } in &part.trials {
                text += &format!("| {} | {} | {} |\n", level.name(), cell(name), cell(what));
            }
        }
        if !self.plan.is_empty() {
            text += "\n## What a switchover would do\n\n";
            self.plan.iter().enumerate().for_each(|(index, what)| text += &format!("{}. {what}\n", index + 1));
        }
        text
    }

    /// For programs.
    pub fn json(&self) -> Value {
        json!({
            "verdict": self.verdict(),
            "ready": self.ready(),
            "partsNotRehearsed": self.not_rehearsed(),
            "score": self.score(),
            "tookMilliseconds": self.took_ms(),
            "drill": self,
        })
    }
}

/// Text that breaks no table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
