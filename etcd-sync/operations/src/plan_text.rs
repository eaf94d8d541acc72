//! The text of `etcd-sync plan`: what a synchronization would do with every key, and the conflicts it would meet.

use serde_json::{Value, json};

use crate::preflight::{Finding, Level};
use etcd_sync_core::compare::conflicts::Report;
use etcd_sync_core::compare::plan::{Outcome as Fate, Plan};

/// The plan for people. `paused`: nothing of it would be done; `phase`: where the link is.
pub fn text(plan: &Plan, conflicts: &Report, paused: bool, phase: Option<&str>, findings: &[Finding]) -> String {
    preflight_table(findings) + &first_line(paused, phase) + &as_table(plan, conflicts)
}

/// The plan for programs. `paused`: why nothing of it would be done; `phase`: where the link is.
pub fn json(plan: &Plan, conflicts: &Report, paused: Option<&str>, phase: Option<&str>, findings: &[Finding]) -> Value {
    let groups = plan.groups().map(
        |(fate, reason, group)| json!({ "outcome": fate, "reason": reason, "count": group.count, "keys": group.keys }),
    );
    json!({
        "paused": paused.map(|paused| paused.split_whitespace().collect::<Vec<_>>().join(" ")),
        "phase": phase,
        "preflight": findings,
        "creates": plan.count(Fate::Create),
        "overwrites": plan.count(Fate::Overwrite),
        "deletes": plan.count(Fate::Delete),
        "groups": groups.collect::<Vec<_>>(),
        "conflicts": conflicts.groups,
        "not_looked_into": conflicts.not_looked_into,
    })
}

fn preflight_table(findings: &[Finding]) -> String {
    let mut text = "Preflight\n".to_owned();
    for finding in findings {
        text.push_str(&format!("  {}  {:13}  {}\n", finding.level.name(), finding.check.name(), finding.evidence));
        if let Some(fix) = &finding.fix {
            text.push_str(&format!("{:23}{fix}\n", ""));
        }
    }
    if findings.iter().any(|finding| finding.level == Level::Fail) {
        text.push_str("Nothing is written as long as something fails here.\n");
    }
    text.push('\n');
    text
}

/// What the counts mean.
fn first_line(paused: bool, phase: Option<&str>) -> String {
    match (paused, phase) {
        (true, _) => "Replication is paused: what follows is only what a copy would do if it were not.\n".to_owned(),
        (false, None) => "This link has never run: what follows is its first sync.\n".to_owned(),
        (false, Some(phase)) => format!("The link is {phase}: what follows is a resync from scratch at this moment.\n"),
    }
}

fn as_table(plan: &Plan, conflicts: &Report) -> String {
    let mut text = String::new();
    for (fate, reason, group) in plan.groups() {
        let reason = if reason.is_empty() { String::new() } else { format!("  ({reason})") };
        text.push_str(&format!("{:>9}  {}{reason}\n", group.count, fate.name()));
        for key in &group.keys {
            text.push_str(&format!("             {key}\n"));
        }
        let more = group.count - group.keys.len() as u64;
        if more > 0 && !group.keys.is_empty() {
            text.push_str(&format!("             … and {more} more (--limit 0 shows all)\n"));
        }
    }
    conflicts_table(&mut text, conflicts);
    text
}

fn conflicts_table(text: &mut String, conflicts: &Report) {
    text.push_str(match conflicts.groups.is_empty() {
        true => "\nNo conflicts found.\n",
        false => "\nConflicts:\n",
    });
    for group in &conflicts.groups {
        text.push_str(&format!("{:>9}  {}\n", group.count, group.kind.name()));
        text.push_str(&format!("             {}\n             {}\n", group.will_happen, group.what_to_do));
        for example in &group.examples {
            let detail = if example.detail.is_empty() { String::new() } else { format!("  ({})", example.detail) };
            text.push_str(&format!("             {}{detail}\n", example.key));
            for key in &example.standby_keys {
                text.push_str(&format!("               standby: {key}\n"));
            }
        }
        let more = group.count - group.examples.len() as u64;
        if more > 0 && !group.examples.is_empty() {
            text.push_str(&format!("             … and {more} more (--limit 0 shows more)\n"));
        }
    }
    for gap in &conflicts.not_looked_into {
        text.push_str(&format!("Note: {gap}\n"));
    }
}
