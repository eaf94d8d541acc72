//! Every key and every value, exactly.

use anyhow::Result;
use etcd_sync_core::compare::check::{Finding, Report};
use etcd_sync_core::etcd::kv::Revision;
use etcd_sync_operations::procedure::{Outcome, Step};
use serde::{Deserialize, Serialize};

use super::since::written_since;
use crate::facts::comparison::compare as compare_pair;
use crate::operations::procedure::Context;
use crate::operations::procedure::journal::Journal;

/// Keys named in a refusal.
const NAMED_MAX: usize = 5;

/// Compares both clusters; `accepted` values may differ. What was compared is noted for the promotion.
pub async fn compare(context: &Context<'_>, accepted: Option<u64>, journal: &mut Journal) -> Result<Outcome> {
    let Context { pair, scope, encryption, procedure, .. } = context;
    let report =
        compare_pair(pair, scope, encryption, true, procedure.timeout, "it is not known whether anything is missed")
            .await?;
    let proved = Proved { primary: report.at.primary_revision, standby: report.at.standby_revision };
    journal.note(serde_json::to_value(proved)?).await?;
    if let Some(what) = written_since(context, report.at.primary_revision).await? {
        return Ok(Outcome::Failed(format!("the primary is written to again ({what}): stop its API servers")));
    }
    Ok(judge(&report, accepted))
}

/// The revisions that were compared.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Proved {
    /// The primary's.
    pub primary: Revision,
    /// The standby's.
    pub standby: Revision,
}

/// What was compared.
pub fn compared(journal: &Journal) -> Option<Proved> {
    serde_json::from_value(journal.run().note(Step::Compare)?.clone()).ok()
}

fn judge(report: &Report, accepted: Option<u64>) -> Outcome {
    let at = &report.at;
    if let Some(paused) = &at.paused {
        return Outcome::Failed(format!("replication is paused: {paused}"));
    }
    if report.missed.count > 0 {
        return Outcome::Failed(format!(
            "{} keys are missed ({}): restart a pod of the synchronizer, it puts them back",
            report.missed.count,
            named(&report.missed.first, report.missed.count)
        ));
    }
    if report.unproved > 0 {
        return Outcome::Failed(format!(
            "{} differences were not looked into: give it more --timeout",
            report.unproved
        ));
    }
    let equal = format!(
        "{} keys are equal at the primary's revision {}, its last one in scope",
        report.compared, at.primary_revision
    );
    match report.mismatched.count {
        0 => Outcome::Done(format!("{equal}, values included")),
        differ if accepted == Some(differ) => {
            Outcome::Warned(format!("{equal}, but for {differ} values that you have accepted"))
        }
        differ => Outcome::Failed(format!(
            "{differ} values differ ({}): see `etcd-sync check --deep`; if they may, give --accept-mismatched {differ}",
            named(&report.mismatched.first, differ)
        )),
    }
}

fn named(findings: &[Finding], count: u64) -> String {
    let shown = findings.len().min(NAMED_MAX);
    let keys: Vec<&str> = findings[..shown].iter().map(|finding| &*finding.key).collect();
    let more = if count > shown as u64 { ", …" } else { "" };
    format!("{}{more}", keys.join(", "))
}
