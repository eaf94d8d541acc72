//! Whether the roles of the two clusters may change: facts in, findings out. What could not be found out is a fact too,
//! and is judged by what the switch is for: before a failover the primary's silence is expected.

mod certificates;
mod clusters;
pub(crate) mod comparison;
mod dns;
mod link;
pub mod members;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use super::{Check, Finding, Level};
use crate::dns::{Answer, Target};
use etcd_sync_core::compare::check::Report;
use etcd_sync_core::etcd::kv::Revision;
use etcd_sync_core::link::members::Agreement;
use etcd_sync_core::link::role::Role;
use etcd_sync_core::link::side::Side;
use etcd_sync_core::link::state::{Checkpoint, PrimaryContact};

/// What the preflight is looked at for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum For {
    /// Somebody asks.
    #[default]
    Asked,
    /// A planned switch: both clusters must answer.
    Switchover,
    /// The primary is gone: what only it could tell is a warning.
    Failover,
    /// A rehearsal.
    Drill,
}

/// From where on something is no longer good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long the standby may take to come where the primary is.
    pub lag: Duration,
    /// Revisions it may be behind without a warning.
    pub lag_revisions: u64,
    /// How long the primary's history must still reach.
    pub headroom: Duration,
    /// A certificate that expires sooner is warned of.
    pub expiry: Duration,
}

/// Everything that is looked at.
#[derive(Clone, Debug)]
pub struct Facts {
    /// What for.
    pub purpose: For,
    /// The limits.
    pub limits: Limits,
    /// When it was looked at, in Unix milliseconds.
    pub now_ms: u64,
    /// The name of the link.
    pub link: String,
    /// The comparison of all keys.
    pub compared: Compared,
    /// What the standby's etcd tells; or why it does not.
    pub standby: Result<StandbyFact, String>,
    /// What the primary's etcd tells; or why it does not.
    pub primary: Result<PrimaryFact, String>,
    /// How far the standby is behind; `None`: it could not be measured.
    pub lag: Option<LagFact>,
    /// How long the primary's history reaches; `None`: it could not be measured.
    pub history: Option<HistoryFact>,
    /// Whether the members of each etcd hold the same.
    pub members: Sides<Agreement>,
    /// Which side's etcd holds Kubernetes; what does not answer does.
    pub kubernetes: Sides<bool>,
    /// The API servers.
    pub api_servers: Sides<ApiServerFact>,
    /// Certificates in files and of servers.
    pub certificates: Vec<CertificateFact>,
    /// Other clocks.
    pub clocks: Vec<ClockFact>,
    /// Machine objects.
    pub machines: Sides<MachinesFact>,
    /// The platform's domain; `None`: nobody told it.
    pub dns: Option<DnsFact>,
    /// The client ports of the etcds.
    pub ports: Vec<PortFact>,
}

/// The same of both sides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sides<T> {
    /// The primary's.
    pub primary: T,
    /// The standby's.
    pub standby: T,
}

/// The comparison of all keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compared {
    /// Just made.
    Now(Comparison),
    /// There is no verdict.
    Not {
        /// Why.
        why: String,
        /// What the monitor knows from before.
        last: Last,
    },
}

/// The monitor's last comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Last {
    /// Nobody told where the monitor is.
    NotAsked,
    /// It does not tell, and why.
    Unknown(String),
    /// It told.
    Known(Comparison),
}

/// What a comparison has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Keys compared.
    pub keys: u64,
    /// Revision of the primary compared with.
    pub revision: Revision,
    /// A synchronizer was running.
    pub synchronizer: bool,
    /// Keys that only the primary has: how many.
    pub missed: u64,
    /// The first of them.
    pub missed_keys: Vec<String>,
    /// The largest value among them that the standby's etcd refuses, with the length in bytes.
    pub too_large: Option<(String, u64)>,
    /// Keys that only the standby has: how many.
    pub surplus: u64,
    /// The first of them.
    pub surplus_keys: Vec<String>,
    /// Differences that nobody looked into.
    pub unproved: u64,
    /// When it ended, in Unix milliseconds by the monitor's clock; `None`: just now.
    pub ended_ms: Option<u64>,
}

/// What the standby's etcd tells of the link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandbyFact {
    /// Its cluster id, in hexadecimal.
    pub cluster: String,
    /// Its role.
    pub role: Role,
    /// How far it is; `Err`: the record cannot be read.
    pub checkpoint: Result<Option<Checkpoint>, String>,
    /// Who leads, and its epoch.
    pub leader: Option<(String, Revision)>,
    /// Who stands by.
    pub others: Vec<String>,
    /// Why replication is paused; `None`: it is not.
    pub paused: Option<String>,
    /// What was last seen of the primary.
    pub primary_contact: Option<PrimaryContact>,
    /// The run of a failover command that is not finished: its own demotion mark is expected.
    pub open_run: Option<String>,
}

/// What the primary's etcd tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrimaryFact {
    /// Its cluster id, in hexadecimal.
    pub cluster: String,
    /// Its newest revision.
    pub revision: Revision,
    /// Its own role on this link.
    pub role: Role,
    /// The links of which it is the standby.
    pub standby_of: Vec<String>,
    /// Our user may not watch all of its keys; only asked before a switchover.
    pub unwatchable: bool,
}

/// How far the standby is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LagFact {
    /// Revisions it lacked when it was first looked at.
    pub revisions: u64,
    /// How long it took to come where the primary was then; `None`: it did not, as long as it was waited for.
    pub reached: Option<Duration>,
    /// How long it was waited for.
    pub waited: Duration,
}

/// How long the primary's history reaches behind the checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryFact {
    /// The checkpoint itself is compacted.
    pub gone: bool,
    /// Revisions until compaction passes it.
    pub revisions: u64,
    /// The time until then at the primary's pace; `None`: it is quiet, or nothing was ever compacted.
    pub time: Option<Duration>,
}

/// Whether an API server is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiServerFact {
    /// Nobody told where it is; the flag that would.
    NotAsked(&'static str),
    /// It did not answer.
    Failed {
        /// Why, with its URL.
        why: String,
        /// The remedy.
        fix: String,
    },
    /// It answers.
    Answered {
        /// Its URL.
        url: String,
        /// `None`: ready; else what it says.
        unready: Option<String>,
    },
}

/// One certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFact {
    /// Where it was found: the flag and the file, or who presents it at which address.
    pub place: String,
    /// What depends on it.
    pub use_: CertificateUse,
    /// Its subject and validity; or why it cannot be read.
    pub found: Result<Certificate, String>,
}

/// What depends on a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateUse {
    /// Nothing works when it expires.
    Identity,
    /// One of several authorities: an expired one may be a leftover of a renewal.
    Authority {
        /// Another one of the same file is valid.
        others_valid: bool,
    },
}

/// A certificate's subject and validity, in Unix seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The subject, as people write it.
    pub subject: String,
    /// First second it is valid in.
    pub not_before_s: i64,
    /// Last second it is valid in.
    pub not_after_s: i64,
}

/// Another machine's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockFact {
    /// Whose.
    pub who: String,
    /// How far it is ahead of this machine's, in milliseconds; negative: behind.
    pub ahead_ms: i64,
    /// How far that may be off, in milliseconds.
    pub accuracy_ms: u64,
}

/// The Machine objects of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MachinesFact {
    /// The cluster has no such objects.
    None,
    /// Nobody told where the API server is; its etcd holds so many.
    NotAsked {
        /// The flag that would tell.
        flag: &'static str,
        /// Objects in etcd; `None`: not known.
        stored: Option<u64>,
    },
    /// They could not be read.
    Failed {
        /// Why.
        why: String,
        /// The flag for the token, where none was given.
        without_token: Option<&'static str>,
    },
    /// All of them.
    Found(Vec<Machine>),
}

/// One Machine object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// Its phase; empty where it has none.
    pub phase: String,
}

/// What name servers say of the domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsFact {
    /// The domain, and what it is to point at after the switch: the standby.
    pub target: Target,
    /// What it should point at now: the primary; empty: nobody told.
    pub from: BTreeSet<IpAddr>,
    /// What each server says.
    pub answers: Vec<Answer>,
}

/// The client port of an etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortFact {
    /// Whose.
    pub side: Side,
    /// `host:port`.
    pub address: String,
    /// `None`: it is open; else why not.
    pub closed: Option<String>,
}

/// Judges the facts: at least one finding for each check, in their order.
pub fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = comparison::judge(facts);
    findings.extend(link::synchronizer(facts));
    findings.extend(link::lag(facts));
    findings.extend(link::headroom(facts));
    findings.extend(link::role(facts));
    findings.extend(members::judge(facts));
    findings.extend(clusters::api_servers(facts));
    findings.extend(certificates::judge(facts));
    findings.extend(clusters::clocks(facts));
    findings.extend(clusters::machines(facts));
    findings.extend(dns::judge(facts));
    findings.extend(clusters::client_port(facts));
    findings
}

impl Comparison {
    /// Keys kept of each kind.
    pub const KEYS_MAX: usize = 1_000;

    /// What a report says.
    pub fn of(report: &Report) -> Comparison {
        let keys = |kept: &etcd_sync_core::compare::check::Kept| {
            kept.first.iter().take(Self::KEYS_MAX).map(|finding| finding.key.to_string()).collect()
        };
        Comparison {
            keys: report.compared,
            revision: report.at.primary_revision,
            synchronizer: report.at.synchronizer,
            missed: report.missed.count,
            missed_keys: keys(&report.missed),
            too_large: (report.missed.first.iter())
                .filter_map(|finding| Some((finding.key.to_string(), finding.too_large?)))
                .max_by_key(|(_, bytes)| *bytes),
            surplus: report.surplus.count,
            surplus_keys: keys(&report.surplus),
            unproved: report.unproved,
            ended_ms: None,
        }
    }
}

impl<T> Sides<T> {
    /// Both, each with its side.
    pub fn each(&self) -> [(Side, &T); 2] {
        [(Side::Primary, &self.primary), (Side::Standby, &self.standby)]
    }
}

impl Facts {
    /// A finding on what only the primary could tell: before a failover its silence is no reason to stop.
    fn untold(&self, check: Check, level: Level, evidence: impl Into<String>, fix: impl Into<String>) -> Finding {
        let level = if self.purpose == For::Failover { Level::Warn } else { level };
        Finding { check, level, evidence: evidence.into(), fix: Some(fix.into()) }
    }

    /// The checkpoint, when there is one.
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        self.standby.as_ref().ok()?.checkpoint.as_ref().ok()?.as_ref()
    }
}
