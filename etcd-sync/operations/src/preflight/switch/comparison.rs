//! Whether the standby has all keys: the one finding that must stop everything.

use super::{Compared, Comparison, Facts, Last};
use crate::preflight::{Check, Finding, Level};
use crate::text::{ago, count, first};
use etcd_sync_core::link::too_large;

/// Keys named in one finding; the report has all of them.
const NAMED_MAX: usize = 5;

/// Where Machine objects lie, whatever the prefix.
pub(crate) const MACHINES: &str = "/platform.tkestack.io/machines/";

pub fn judge(facts: &Facts) -> Vec<Finding> {
    match &facts.compared {
        Compared::Now(comparison) => found(comparison, "", facts),
        Compared::Not { why, last: Last::Known(comparison) } => {
            let ended = comparison.ended_ms.map_or_else(String::new, |ended| format!(", {}", ago(facts.now_ms, ended)));
            let prefix = format!("by the monitor's last comparison{ended}: ");
            let mut findings: Vec<Finding> =
                found(comparison, &prefix, facts).into_iter().filter(|finding| finding.level == Level::Fail).collect();
            findings.push(facts.untold(
                Check::Comparison,
                Level::Fail,
                format!("nothing can be compared now ({why}); {prefix}{}", sum(comparison)),
                "what the primary took after that moment is not known; see the lag",
            ));
            findings
        }
        Compared::Not { why, last } => {
            let monitor = match last {
                Last::Unknown(why) => format!("; the monitor does not know it either ({why})"),
                _ => String::new(),
            };
            let fix = match last {
                Last::NotAsked => {
                    "fix that; if the primary is gone, --monitor URL gives the keys missed at the last comparison"
                }
                _ => "fix that, and run this again",
            };
            let evidence = format!("it is not known whether keys are missed ({why}){monitor}");
            vec![facts.untold(Check::Comparison, Level::Fail, evidence, fix)]
        }
    }
}

fn found(comparison: &Comparison, prefix: &str, facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    if comparison.missed > 0 {
        let keys = first(&comparison.missed_keys, comparison.missed, NAMED_MAX);
        let are = if comparison.missed == 1 { "is" } else { "are" };
        let evidence =
            format!("{prefix}{} of the primary {are} missed on the standby: {keys}", count(comparison.missed, "key"));
        findings.push(Finding::fail(Check::Comparison, evidence, missed_fix(comparison, facts)));
    }
    if comparison.unproved > 0 {
        let evidence = format!("{prefix}{} were not examined", count(comparison.unproved, "difference"));
        findings.push(Finding::fail(Check::Comparison, evidence, "see `etcd-sync check`, and give it more --timeout"));
    }
    if comparison.surplus > 0 {
        let keys = first(&comparison.surplus_keys, comparison.surplus, NAMED_MAX);
        let evidence = format!("{prefix}only the standby has {}: {keys}", count(comparison.surplus, "key"));
        let fix = "they will be live after the switch: keep what is meant to be there, remove the rest with `etcd-sync prune`";
        findings.push(Finding::warn(Check::Comparison, evidence, fix));
    }
    if comparison.missed + comparison.unproved == 0 {
        findings.insert(0, Finding::pass(Check::Comparison, format!("{prefix}{}", sum(comparison))));
    }
    findings
}

fn sum(comparison: &Comparison) -> String {
    let Comparison { keys, revision, missed, .. } = comparison;
    match missed {
        0 => format!("nothing is missed, {} compared at the primary's revision {revision}", count(*keys, "key")),
        _ => format!("{} missed at the primary's revision {revision}", count(*missed, "key")),
    }
}

fn missed_fix(comparison: &Comparison, facts: &Facts) -> String {
    let mut fix = String::from("do not switch: the garbage collector would delete whatever the missed objects own. ");
    if comparison.missed_keys.iter().any(|key| key.contains(MACHINES)) {
        fix.push_str("MACHINES ARE AMONG THEM: their virtual machines would be destroyed. ");
    }
    if let Some((key, bytes)) = &comparison.too_large {
        fix.push_str(&format!(
            "{key} is {}: its value has {bytes} bytes; {}. ",
            too_large::REASON,
            too_large::remedy(*bytes)
        ));
        if comparison.missed == 1 {
            return fix.trim_end_matches(". ").to_owned();
        }
        fix.push_str("The others: ");
    }
    fix.push_str(match (&facts.compared, comparison.synchronizer) {
        (Compared::Not { .. }, _) => "See whether the primary can be brought back",
        (_, true) => {
            "The synchronizer puts them back within seconds; if they stay, restart it (kubectl delete pod \
             --all-namespaces --selector app=etcd-sync)"
        }
        (_, false) => "No synchronizer is running: start it, and it puts them back",
    });
    fix
}
