//! Whether two clusters fit together, judged before the first write: facts in, findings out. [`switch`] judges what must hold
//! before the roles change.

mod encryption;
mod etcd;
mod kubernetes;
pub mod switch;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeSet;

use serde::Serialize;

use etcd_sync_core::link::overlap::Overlap;
use etcd_sync_core::object::encryption::EncryptedBy;

pub use self::text::text;

/// Everything that is looked at. What could not be found out is left empty: nothing is judged then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// No synchronizer has ever written into this standby.
    pub first: bool,
    /// An EncryptionConfiguration is given, and [`Sample::opens`] tells what it says.
    pub encryption_config: bool,
    /// The operator's word: go on although it is not proved that the standby decrypts.
    pub allow_unproved_encryption: bool,
    /// Values of the primary, in scope only.
    pub primary_samples: Vec<Sample>,
    /// Values of the standby.
    pub standby_samples: Vec<Sample>,
    /// The Kubernetes prefixes of the scope.
    pub prefixes: Vec<PrefixFact>,
    /// Prefixes outside the scope below which the standby holds Kubernetes objects.
    pub other_prefixes: Vec<String>,
    /// The primary's API server.
    pub primary_api: ApiFact,
    /// The standby's API server.
    pub standby_api: ApiFact,
    /// Another link of the standby that has the same keys, and came first.
    pub overlap: Option<Overlap>,
    /// The members of the primary's etcd that answer.
    pub primary_members: Vec<Member>,
    /// The members of the standby's etcd that answer.
    pub standby_members: Vec<Member>,
}

/// One value that was looked into. Nothing of the value itself is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The whole key, for people.
    pub key: String,
    /// The part of the key that names the resource: `secrets`, `example.com/widgets`.
    pub resource: String,
    /// Written by this cluster's own API server, not by a synchronizer.
    pub own: bool,
    /// What it is encrypted with; `None`: it is not.
    pub seal: Option<EncryptedBy>,
    /// Whether an API server with the config given can read it.
    pub opens: Decrypts,
    /// `apiVersion` of a built-in object; `None`: of a custom one, or it cannot be told.
    pub api_version: Option<String>,
}

/// Whether an API server with the config given can read a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Decrypts {
    /// No config is given.
    #[default]
    NotTried,
    /// It can.
    Yes,
    /// It cannot, and why.
    No(String),
    /// It could not be tried just now, and why (a KMS plugin that does not answer).
    Unknown(String),
}

/// Whether Kubernetes lives below a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrefixFact {
    /// The prefix.
    pub prefix: String,
    /// On the primary.
    pub primary: bool,
    /// On the standby.
    pub standby: bool,
}

/// What an API server says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ApiFact {
    /// Nobody told where it is.
    #[default]
    NotAsked,
    /// It did not answer; what to do.
    Failed {
        /// Why.
        why: String,
        /// The remedy.
        fix: String,
    },
    /// It answered.
    Answered {
        /// Such as `v1.34.4`.
        version: String,
        /// Every `apiVersion` it serves; `None`: it did not say.
        serves: Option<BTreeSet<String>>,
    },
}

/// One etcd member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its URL.
    pub endpoint: String,
    /// What is known against its version.
    pub version_warning: Option<String>,
    /// Bytes of its database in use.
    pub in_use_bytes: i64,
    /// Its quota in bytes; `None`: it does not tell.
    pub quota_bytes: Option<i64>,
    /// Alarms, in etcd's words.
    pub alarms: Vec<String>,
}

/// What one check has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Name of the check.
    pub check: Check,
    /// What follows from it.
    pub level: Level,
    /// What was seen.
    pub evidence: String,
    /// What to do; nothing when it passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// The checks, in the order they are shown in. Those of [`switch`] are all but the six from `Encryption` to `Alarms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// Whether the standby has all keys of the primary.
    #[serde(rename = "check")]
    Comparison,
    /// Whether a synchronizer leads and streams.
    Synchronizer,
    /// How far the standby is behind.
    Lag,
    /// How long the primary's history still reaches.
    Headroom,
    /// Whether each cluster has the role it should have.
    Role,
    /// Whether the standby's API server can decrypt what it gets.
    Encryption,
    /// Whether both API servers store below the same prefix, and no other link of the standby synchronizes it.
    Prefix,
    /// Whether the standby's API server knows the versions that objects are stored in.
    ApiVersions,
    /// Known bugs of the etcd versions.
    EtcdVersions,
    /// Whether the standby's etcd has room.
    Quota,
    /// Whether the standby's etcd is in order.
    Alarms,
    /// Whether the members of each etcd hold the same.
    Members,
    /// Whether the API servers are ready.
    ApiServers,
    /// Whether certificates expire.
    Certificates,
    /// Whether the clocks agree.
    Clocks,
    /// Whether all Machine objects run.
    Machines,
    /// Where the domain points, and for how long that is remembered.
    Dns,
    /// Whether the etcds' client ports are open.
    ClientPort,
}

/// What follows from a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// As it should be.
    Pass,
    /// Somebody should look.
    Warn,
    /// Nothing may be written.
    Fail,
}

/// Judges the facts: at least one finding for each check, in their order.
pub fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = encryption::judge(facts);
    findings.extend(kubernetes::prefix(facts));
    findings.extend(facts.overlap.as_ref().map(etcd::overlap));
    findings.extend(kubernetes::versions(facts));
    findings.extend(etcd::versions(facts));
    findings.extend(etcd::quota(facts));
    findings.extend(etcd::alarms(facts));
    findings
}

/// The worst level of all; pass where there is nothing.
pub fn worst(findings: &[Finding]) -> Level {
    findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Pass)
}

/// Why nothing may be written: all failures in one text; `None` when there are none.
pub fn refusal(findings: &[Finding]) -> Option<String> {
    let failed = findings.iter().filter(|finding| finding.level == Level::Fail);
    let texts: Vec<String> = failed.map(Finding::text).collect();
    (!texts.is_empty()).then(|| texts.join("; also: "))
}

impl Finding {
    /// Evidence and remedy in one line.
    pub fn text(&self) -> String {
        match &self.fix {
            Some(fix) => format!("{}: {fix}", self.evidence),
            None => self.evidence.clone(),
        }
    }

    fn pass(check: Check, evidence: impl Into<String>) -> Finding {
        Finding { check, level: Level::Pass, evidence: evidence.into(), fix: None }
    }

    fn warn(check: Check, evidence: impl Into<String>, fix: impl Into<String>) -> Finding {
        Finding { check, level: Level::Warn, evidence: evidence.into(), fix: Some(fix.into()) }
    }

    fn fail(check: Check, evidence: impl Into<String>, fix: impl Into<String>) -> Finding {
        Finding { check, level: Level::Fail, evidence: evidence.into(), fix: Some(fix.into()) }
    }
}

impl Check {
    /// All of them, in the order of a report.
    pub const ALL: [Check; 18] = [
        Check::Comparison,
        Check::Synchronizer,
        Check::Lag,
        Check::Headroom,
        Check::Role,
        Check::Encryption,
        Check::Prefix,
        Check::ApiVersions,
        Check::EtcdVersions,
        Check::Quota,
        Check::Alarms,
        Check::Members,
        Check::ApiServers,
        Check::Certificates,
        Check::Clocks,
        Check::Machines,
        Check::Dns,
        Check::ClientPort,
    ];

    /// The name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Check::Comparison => "check",
            Check::Synchronizer => "synchronizer",
            Check::Lag => "lag",
            Check::Headroom => "headroom",
            Check::Role => "role",
            Check::Encryption => "encryption",
            Check::Prefix => "prefix",
            Check::ApiVersions => "api-versions",
            Check::EtcdVersions => "etcd-versions",
            Check::Quota => "quota",
            Check::Alarms => "alarms",
            Check::Members => "members",
            Check::ApiServers => "api-servers",
            Check::Certificates => "certificates",
            Check::Clocks => "clocks",
            Check::Machines => "machines",
            Check::Dns => "dns",
            Check::ClientPort => "client-port",
        }
    }
}

impl Level {
    /// The name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Level::Pass => "pass",
            Level::Warn => "warn",
            Level::Fail => "fail",
        }
    }
}
