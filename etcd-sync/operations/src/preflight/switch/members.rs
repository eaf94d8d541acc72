//! Whether the members of each etcd hold the same.

use etcd_sync_core::link::members::Agreement;
use etcd_sync_core::link::side::Side;

use super::{Facts, For};
use crate::preflight::{Check, Finding, Level};

/// Members that disagree serve other data each: a synchronizer mirrors that of one of them, and users of a promoted cluster see all.
pub fn judge(facts: &Facts) -> Vec<Finding> {
    let (mut findings, mut good) = (Vec::new(), Vec::new());
    for (side, agreement) in facts.members.each() {
        match agreement {
            Agreement::Disagree { .. } => findings.push(Finding {
                check: Check::Members,
                level: if facts.purpose == For::Failover { Level::Warn } else { Level::Fail },
                evidence: words(side, agreement),
                fix: Some(REMEDY.to_owned()),
            }),
            _ => good.push(words(side, agreement)),
        }
    }
    if findings.is_empty() {
        findings.push(Finding::pass(Check::Members, good.join(", ")));
    }
    findings
}

/// What to do with members that disagree.
pub const REMEDY: &str = "take the wrong member out and add it again without its data (etcdctl member remove, etcdctl member add); \
                          docs/troubleshooting.md, Members that disagree, has the steps";

/// One side's agreement, for people.
pub fn words(side: Side, agreement: &Agreement) -> String {
    match agreement {
        Agreement::Alone => format!("the {side} has one member"),
        Agreement::Agree { asked, not_asked } if not_asked.is_empty() => {
            format!("the {side}'s {asked} members hold the same")
        }
        Agreement::Agree { asked, not_asked } => {
            let others = not_asked.iter().map(|(endpoint, why)| format!("{endpoint}: {why}"));
            let others: Vec<String> = others.collect();
            format!("{asked} of the {side}'s members hold the same (not asked: {})", others.join("; "))
        }
        Agreement::Disagree { majority, odd } if majority.is_empty() => format!(
            "the members of the {side}'s etcd do not hold the same, and no majority of them is known to: {}",
            odd.join(", ")
        ),
        Agreement::Disagree { majority, odd } => format!(
            "the members of the {side}'s etcd do not hold the same: {} {} from the majority ({})",
            odd.join(", "),
            if odd.len() == 1 { "differs" } else { "differ" },
            majority.join(", ")
        ),
        Agreement::NotAsked(why) => format!("the {side}'s members were not asked ({why})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_odd_is_said() {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let one = Agreement::Disagree { majority: names(&["a", "b"]), odd: names(&["c"]) };
        assert!(words(Side::Primary, &one).ends_with("c differs from the majority (a, b)"));
        let none = Agreement::Disagree { majority: Vec::new(), odd: names(&["a", "b"]) };
        assert!(words(Side::Standby, &none).ends_with("no majority of them is known to: a, b"));
        let part = Agreement::Agree { asked: 2, not_asked: vec![("c".into(), "away".into())] };
        assert_eq!(words(Side::Standby, &part), "2 of the standby's members hold the same (not asked: c: away)");
    }
}
