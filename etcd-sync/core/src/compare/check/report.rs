//! The result of a comparison, for people and for programs.

use serde::Serialize;

use super::{Advice, DESCRIBED_MAX, Described, Finding, Kept, ResourceCount, Situation};
use crate::etcd::kv::Revision;
use crate::link::too_large::remedy;
use crate::scope::Scope;

/// What the two sides were read at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Basis {
    /// The primary at the revision that the standby is consistent with: changes in flight raise no alarm.
    Checkpoint,
    /// The primary's newest: no synchronizer runs, or replication is paused, so nothing is in flight.
    Head,
    /// As [`Basis::Checkpoint`], at the moment the standby was promoted: what came later is its own.
    Promotion,
}

/// The moment a report speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComparedAt {
    /// See [`Basis`].
    pub basis: Basis,
    /// The primary's revision compared.
    pub primary_revision: Revision,
    /// The standby's revision compared.
    pub standby_revision: Revision,
    /// The primary's newest revision at that time.
    pub primary_head: Revision,
    /// Whether a synchronizer was running.
    pub synchronizer: bool,
    /// Why replication was paused, if it was.
    pub paused: Option<String>,
    /// Moments compared at: more than one where history was compacted meanwhile. The last one is reported.
    pub moments: u32,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// The result of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// When.
    pub at: ComparedAt,
    /// Whether values were compared.
    pub deep: bool,
    /// Keys of the primary's scope.
    pub compared: u64,
    /// Differences that were not checked: there were too many. Values among them are in no list.
    pub unproved: u64,
    /// Differences whose value cannot be decrypted here.
    pub undecryptable: u64,
    /// On the primary, not on the standby.
    pub missed: Kept,
    /// Only on the standby.
    pub surplus: Kept,
    /// On both, with other values; only when `deep`.
    pub mismatched: Kept,
    /// On both, with another status only: what a live standby's controllers write; no difference. Only when `deep`.
    pub status: Kept,
    /// Keys by resource.
    pub resources: Vec<ResourceCount>,
}

/// One JSON document: the arrays that scripts read, and everything else beside them.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    consistent: bool,
    complete: bool,
    basis: Basis,
    moments: u32,
    synchronizer: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    paused: Option<&'a str>,
    behind_revisions: Revision,
    primary_revision: Revision,
    primary_head_revision: Revision,
    standby_revision: Revision,
    keys_compared: u64,
    took_milliseconds: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_ms: Option<u64>,
    deep: bool,
    missed: u64,
    surplus: u64,
    mismatched: u64,
    own_status: u64,
    unproved: u64,
    undecryptable: u64,
    local_missed_keys: Vec<&'a str>,
    local_surplus_keys: Vec<&'a str>,
    mismatched_keys: Vec<&'a str>,
    own_status_keys: Vec<&'a str>,
    details: Vec<Detail<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Detail<'a> {
    #[serde(flatten)]
    described: Described<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since_ms: Option<u64>,
}

impl Report {
    /// Nothing missed, nothing surplus, nothing mismatched.
    pub fn consistent(&self) -> bool {
        self.complete() && self.surplus.count == 0
    }

    /// Nothing missed and nothing mismatched: the standby holds all that the primary held at the revision compared.
    pub fn complete(&self) -> bool {
        self.missed.count + self.mismatched.count + self.unproved == 0
    }

    /// Who could repair what differs.
    pub fn situation(&self) -> Situation {
        match self.at.basis {
            Basis::Promotion => Situation::Promoted,
            _ if self.at.synchronizer => Situation::Running,
            _ => Situation::Stopped,
        }
    }

    /// What differs, in the order of a report; without the standby's own status.
    pub fn differences(&self) -> impl Iterator<Item = &Finding> {
        self.missed.first.iter().chain(&self.surplus.first).chain(&self.mismatched.first)
    }

    /// The report for people; at most `limit` keys under each heading, and `more` says how to see the others. Scripts look
    /// for the two `LOCAL ETCD` headings; keys are indented by two spaces.
    pub fn text(&self, limit: usize, more: &str) -> String {
        let mut text = self.verdict();
        text.push_str(&self.remarks());
        let mut section = |heading: &str, kept: &Kept, line: &dyn Fn(&Finding) -> String| {
            text.push_str(&format!("LOCAL ETCD {heading}: {}\n", kept.count));
            let shown = limit.min(kept.first.len());
            for one in &kept.first[..shown] {
                text.push_str(&format!("  {}\n", line(one)));
            }
            if kept.count > shown as u64 {
                text.push_str(&format!("  # … and {} more: {more}\n", kept.count - shown as u64));
            }
            // What is too large neither comes by itself nor by a restart.
            let too_large = kept.first.iter().filter_map(|one| one.too_large);
            let (largest, refused) = (too_large.clone().max(), too_large.count() as u64);
            let advice = Advice::under_heading(heading, self.situation()).filter(|_| kept.count > refused);
            if let Some((words, command)) = advice {
                text.push_str(&format!("  # {words}\n"));
                command.into_iter().for_each(|command| text.push_str(&format!("  #   {command}\n")));
            }
            if let Some(bytes) = largest.filter(|_| self.situation() != Situation::Promoted) {
                text.push_str(&format!(
                    "  # Too large for the standby's etcd: {refused}. For these, {}.\n",
                    remedy(bytes)
                ));
            }
        };
        let with_reason = |finding: &Finding| match finding.too_large {
            Some(bytes) => format!("{}  ({bytes} bytes: {})", finding.key, finding.reason()),
            None => format!("{}  ({})", finding.key, finding.reason()),
        };
        let plain = |finding: &Finding| match finding.undecryptable || finding.too_large.is_some() {
            true => with_reason(finding),
            false => finding.key.to_string(),
        };
        section("missed keys", &self.missed, &plain);
        section("surplus keys", &self.surplus, &with_reason);
        if self.deep {
            section("mismatched keys", &self.mismatched, &with_reason);
            section("keys with a status of their own", &self.status, &plain);
        }
        text
    }

    /// The first line.
    fn verdict(&self) -> String {
        let at = &self.at;
        let verdict = if self.consistent() { "CONSISTENT" } else { "NOT CONSISTENT" };
        format!(
            "{verdict}: primary revision {}, standby revision {}, {} keys compared in {:.2} s\n",
            at.primary_revision,
            at.standby_revision,
            self.compared,
            at.took_ms as f64 / 1_000.0
        )
    }

    /// Revisions of the primary since the one compared.
    fn behind(&self) -> Revision {
        (self.at.primary_head - self.at.primary_revision).max(0)
    }

    fn remarks(&self) -> String {
        let at = &self.at;
        let behind = self.behind();
        let mut text = match at.basis {
            Basis::Head if at.synchronizer => "Compared with the primary's newest revision.\n".to_owned(),
            Basis::Head => "No synchronizer is running: compared with the primary's newest revision.\n".to_owned(),
            Basis::Promotion => format!(
                "This cluster was promoted: compared as it was at that moment. The primary has gone on by {behind} revisions.\n"
            ),
            Basis::Checkpoint if behind > 0 => format!("The standby is {behind} revisions behind the primary.\n"),
            Basis::Checkpoint => String::new(),
        };
        if let Some(paused) = &at.paused {
            text.push_str(&format!("REPLICATION IS PAUSED: {paused}\n"));
        }
        if self.complete() && !self.consistent() {
            text.push_str("Nothing is missed: the standby only has more than the primary.\n");
        }
        if self.unproved > 0 {
            text.push_str(&format!(
                "{} differences were not checked, because there are too many: some may not be real.\n",
                self.unproved
            ));
        }
        if self.undecryptable > 0 {
            text.push_str(&format!(
                "{} values cannot be decrypted here, so it is not known whether they are in scope: give the same --encryption-config as the synchronizer.\n",
                self.undecryptable
            ));
        }
        text
    }

    /// The report for programs: one JSON document with at most `limit` keys in each array, and details of at most
    /// [`DESCRIBED_MAX`] of each kind. `ended_ms` says when the comparison ended, in Unix milliseconds; `since_ms` gives since
    /// when a difference is known, if it is.
    ///
    /// # Errors
    /// The writer's.
    pub fn write_json(
        &self,
        writer: impl std::io::Write,
        scope: &Scope,
        limit: usize,
        ended_ms: Option<u64>,
        since_ms: impl Fn(&Finding) -> Option<u64>,
    ) -> serde_json::Result<()> {
        fn first(kept: &Kept, limit: usize) -> &[Finding] {
            &kept.first[..limit.min(kept.first.len())]
        }
        let keys = |kept| first(kept, limit).iter().map(|finding| &*finding.key).collect();
        let kinds = [&self.missed, &self.surplus, &self.mismatched];
        let details = kinds.into_iter().flat_map(|kept| first(kept, limit.min(DESCRIBED_MAX)));
        let details = details.map(|finding| Detail {
            described: finding.describe(scope, self.situation()),
            since_ms: since_ms(finding),
        });
        let document = Document {
            consistent: self.consistent(),
            complete: self.complete(),
            basis: self.at.basis,
            moments: self.at.moments,
            synchronizer: self.at.synchronizer,
            paused: self.at.paused.as_deref(),
            behind_revisions: self.behind(),
            primary_revision: self.at.primary_revision,
            primary_head_revision: self.at.primary_head,
            standby_revision: self.at.standby_revision,
            keys_compared: self.compared,
            took_milliseconds: self.at.took_ms,
            ended_ms,
            deep: self.deep,
            missed: self.missed.count,
            surplus: self.surplus.count,
            mismatched: self.mismatched.count,
            own_status: self.status.count,
            unproved: self.unproved,
            undecryptable: self.undecryptable,
            local_missed_keys: keys(&self.missed),
            local_surplus_keys: keys(&self.surplus),
            mismatched_keys: keys(&self.mismatched),
            own_status_keys: keys(&self.status),
            details: details.collect(),
        };
        serde_json::to_writer_pretty(writer, &document)
    }
}
