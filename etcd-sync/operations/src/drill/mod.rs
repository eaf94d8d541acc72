//! The rehearsal: what was tried, how it went, and a report that is kept.

mod kinds;
mod report;
#[cfg(test)]
mod tests;

use serde::Serialize;

use crate::preflight::{Finding, Level};

pub use kinds::{KindCount, KindFinding, directory_of, is_resource, resource_name};

/// A rehearsal, from its first part to its last. Times are Unix milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Drill {
    /// The link.
    pub link: String,
    /// User and host.
    pub by: String,
    /// When it began.
    pub at_ms: u64,
    /// The parts, in their order.
    pub parts: Vec<Part>,
    /// What a switchover would do, step by step.
    pub plan: Vec<String>,
}

/// One part of a rehearsal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Part {
    /// Its name.
    pub name: PartName,
    /// How long it took.
    pub took_ms: u64,
    /// What was tried, one by one; empty: nothing could be, see `skipped`.
    pub trials: Vec<Trial>,
    /// Why it was skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
}

/// The parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartName {
    /// Everything that must hold before a switch.
    Preflight,
    /// Every synchronized kind, read through the standby's API server.
    Kinds,
    /// A scratch name switched as the domain would be.
    DnsSwitch,
    /// That name verified at all name servers and resolvers.
    DnsVerify,
    /// It is looked up from inside the standby.
    DnsInside,
    /// It is taken away again.
    DnsRemove,
    /// What would be restarted is there.
    Restart,
}

/// One thing that was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Trial {
    /// What.
    pub name: String,
    /// How it went.
    pub level: Level,
    /// What was seen, and what to do.
    pub what: String,
}

impl Part {
    /// A part that was skipped.
    pub fn skipped(name: PartName, why: impl Into<String>) -> Part {
        Part { name, took_ms: 0, trials: Vec::new(), skipped: Some(why.into()) }
    }

    /// The worst of its trials.
    pub fn level(&self) -> Option<Level> {
        self.trials.iter().map(|trial| trial.level).max()
    }
}

impl PartName {
    /// Its name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            PartName::Preflight => "preflight",
            PartName::Kinds => "kinds",
            PartName::DnsSwitch => "dns-switch",
            PartName::DnsVerify => "dns-verify",
            PartName::DnsInside => "dns-inside",
            PartName::DnsRemove => "dns-remove",
            PartName::Restart => "restart",
        }
    }
}

impl From<&Finding> for Trial {
    fn from(finding: &Finding) -> Trial {
        Trial { name: finding.check.name().into(), level: finding.level, what: finding.text() }
    }
}

/// What a rehearsal shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Everything was tried, and nothing failed.
    Ready,
    /// Nothing failed, but parts were skipped: their result is not known.
    ReadyInPart,
    /// Something failed.
    NotReady,
}

impl Verdict {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Verdict::Ready => "READY",
            Verdict::ReadyInPart => "READY IN PART",
            Verdict::NotReady => "NOT READY",
        }
    }
}

impl Drill {
    /// Whether nothing that was tried failed. What was skipped counts neither way: see [`Drill::verdict`].
    pub fn ready(&self) -> bool {
        self.trials().all(|trial| trial.level != Level::Fail)
    }

    /// Whether a switch may be expected to work.
    pub fn verdict(&self) -> Verdict {
        match (self.ready(), self.not_rehearsed()) {
            (false, _) => Verdict::NotReady,
            (true, 0) => Verdict::Ready,
            (true, _) => Verdict::ReadyInPart,
        }
    }

    /// How many parts were skipped.
    pub fn not_rehearsed(&self) -> usize {
        self.parts.iter().filter(|part| part.skipped.is_some()).count()
    }

    /// What went well of all that was tried, in percent, rounded down: a warning counts for half.
    pub fn score(&self) -> u64 {
        let points = |level| match level {
            Level::Pass => 2,
            Level::Warn => 1,
            Level::Fail => 0,
        };
        let (won, most) = self.trials().fold((0, 0), |(won, most), trial| (won + points(trial.level), most + 2));
        (won * 100_u64).checked_div(most).unwrap_or(0)
    }

    /// How long the parts took together.
    pub fn took_ms(&self) -> u64 {
        self.parts.iter().map(|part| part.took_ms).sum()
    }

    fn trials(&self) -> impl Iterator<Item = &Trial> {
        self.parts.iter().flat_map(|part| &part.trials)
    }
}
