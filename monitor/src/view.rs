//! What `/api/state` and the events contain, as JSON. Times are Unix milliseconds.

use etcd_sync_core::compare::check::{Basis, ResourceCount};
use serde::Serialize;

/// Everything, for a page that has just been opened.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State<'a> {
    pub version: &'static str,
    pub link: &'a str,
    pub now_ms: u64,
    pub started_ms: u64,
    pub check_interval_ms: u64,
    pub observed: Option<&'a Observed>,
    /// Oldest first.
    pub samples: Vec<&'a Sample>,
    pub running: Option<&'a Running>,
    /// Oldest first.
    pub results: Vec<&'a CheckResult>,
    /// Of the newest comparison that has a verdict.
    pub resources: &'a [ResourceCount],
}

/// What both etcds report themselves.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Observed {
    pub at_ms: u64,
    pub primary: Primary,
    pub standby: Standby,
    pub lag: Lag,
    pub headroom: Headroom,
}

/// The primary; what is not known is as it was known last.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Primary {
    pub reachable: bool,
    pub error: Option<String>,
    pub cluster: Option<String>,
    pub revision: Option<i64>,
    pub compacted_revision: Option<i64>,
}

/// The standby and the link's record in it; what is not known is as it was known last.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Standby {
    pub reachable: bool,
    pub error: Option<String>,
    pub cluster: Option<String>,
    pub revision: Option<i64>,
    pub role: Option<String>,
    pub phase: Option<&'static str>,
    pub leader: Option<String>,
    pub epoch: Option<i64>,
    pub candidates: Vec<String>,
    pub paused: Option<Paused>,
    pub checkpoint: Option<CheckpointView>,
    pub copied: Option<Copied>,
}

/// Why replication is paused.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Paused {
    pub why: String,
    pub since_ms: u64,
    pub holder: String,
}

/// How far the link is.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointView {
    pub revision: i64,
    pub written_ms: u64,
}

/// Keys of a copy under way.
#[derive(Clone, Debug, Serialize)]
pub struct Copied {
    pub done: u64,
    pub total: u64,
}

/// How far the standby is behind.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Lag {
    pub revisions: Option<u64>,
    pub seconds: Option<f64>,
}

/// How long the primary's history reaches; no seconds: it is quiet.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Headroom {
    pub revisions: Option<u64>,
    pub seconds: Option<f64>,
}

/// A point of the charts.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    pub at_ms: u64,
    pub lag_seconds: Option<f64>,
    pub lag_revisions: Option<u64>,
    pub headroom_seconds: Option<f64>,
}

/// A comparison under way, in keys of the primary.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Running {
    pub deep: bool,
    pub started_ms: u64,
    pub done: u64,
    pub total: u64,
}

/// How a comparison ended.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckResult {
    pub id: u64,
    pub started_ms: u64,
    pub took_ms: u64,
    pub deep: bool,
    pub verdict: Verdict,
    pub error: Option<String>,
    pub basis: Option<Basis>,
    pub primary_revision: Option<i64>,
    pub standby_revision: Option<i64>,
    pub keys_compared: u64,
    pub missed: u64,
    pub surplus: u64,
    /// Only of a deep one.
    pub mismatched: Option<u64>,
    /// Only of a deep one.
    pub own_status: Option<u64>,
    /// Differences that were not checked.
    pub unproved: u64,
    /// Differences of the one before that are gone.
    pub healed: u64,
}

/// What a comparison found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Consistent,
    Different,
    Unknown,
}

impl Verdict {
    /// All of them, for metrics.
    pub const ALL: [Verdict; 3] = [Verdict::Consistent, Verdict::Different, Verdict::Unknown];

    /// The name in metrics and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Consistent => "consistent",
            Verdict::Different => "different",
            Verdict::Unknown => "unknown",
        }
    }
}
