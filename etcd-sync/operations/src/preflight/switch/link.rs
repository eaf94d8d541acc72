//! The link itself: who synchronizes, how far it is, and which cluster is what.

use super::{Facts, PrimaryFact, StandbyFact};
use crate::preflight::{Check, Finding, Level};
use crate::text::{age, ago, count};
use etcd_sync_core::link::role::Role;
use etcd_sync_core::link::state::Phase;

const UNREAD: &str = "check --standby-endpoints and its certificates: nothing can be done without the standby's etcd";
const SILENT: &str =
    "check --primary-endpoints and its certificates; if the primary is gone, this is a case for failover";

/// Whether somebody leads and streams.
pub fn synchronizer(facts: &Facts) -> Vec<Finding> {
    let check = Check::Synchronizer;
    let Ok(standby) = &facts.standby else { return unread(facts, check) };
    let mut findings = Vec::new();
    match &standby.checkpoint {
        Err(why) => findings.push(Finding::fail(check, why.clone(), "see `etcd-sync status`")),
        Ok(None) => findings.push(Finding::fail(
            check,
            format!("nothing was ever synchronized over the link {}", facts.link),
            "check --link and --standby-endpoints; or install the synchronizer and wait for its first sync",
        )),
        Ok(Some(checkpoint)) if checkpoint.phase != Phase::Streaming => findings.push(Finding::fail(
            check,
            format!(
                "{} is under way: the standby is not consistent with any single revision of the primary",
                checkpoint.phase.name()
            ),
            "wait until `etcd-sync status` says streaming",
        )),
        Ok(Some(_)) => {}
    }
    // What is gone cannot be synchronized from: before a failover neither is a reason to stop.
    if let Some(paused) = &standby.paused {
        let evidence = format!("replication is paused: {paused}");
        findings.push(facts.untold(check, Level::Fail, evidence, "fix that; see `etcd-sync status`"));
    }
    match &standby.leader {
        None => findings.push(facts.untold(
            check,
            Level::Fail,
            "no synchronizer is running",
            "start it: kubectl get pods --all-namespaces --selector app=etcd-sync",
        )),
        Some((holder, epoch)) if findings.is_empty() => {
            let others = match standby.others.len() {
                0 => "no other replica is ready to take over".to_owned(),
                1 => format!("{} is ready to take over", standby.others[0]),
                count => format!("{count} replicas stand by"),
            };
            findings.push(Finding::pass(check, format!("{holder} leads (epoch {epoch}) and streams; {others}")));
        }
        Some(_) => {}
    }
    findings
}

/// How far the standby is behind.
pub fn lag(facts: &Facts) -> Vec<Finding> {
    let check = Check::Lag;
    let Ok(standby) = &facts.standby else { return unread(facts, check) };
    if let Err(why) = &facts.primary {
        let evidence =
            format!("it cannot be measured, the primary does not answer ({why}){}", last_known(facts, standby));
        return vec![facts.untold(check, Level::Fail, evidence, SILENT)];
    }
    let Some(lag) = facts.lag else {
        return vec![facts.untold(
            check,
            Level::Fail,
            "it cannot be measured: the standby is not consistent with any revision of the primary",
            "see the synchronizer above",
        )];
    };
    let behind = count(lag.revisions, "revision");
    let Some(reached) = lag.reached.filter(|reached| *reached <= facts.limits.lag) else {
        let evidence = match lag.waited.is_zero() {
            true => format!("the standby is {behind} behind the primary, and no synchronizer is running"),
            false => format!(
                "the standby, {behind} behind, did not come where the primary was within {}",
                age(lag.reached.unwrap_or(lag.waited))
            ),
        };
        return vec![facts.untold(
            check,
            Level::Fail,
            evidence,
            "see `etcd-sync status` and the synchronizer's log; or give a longer --max-lag",
        )];
    };
    if lag.revisions > facts.limits.lag_revisions {
        return vec![Finding::warn(
            check,
            format!("the standby was {behind} behind, and came up to the primary within {}", age(reached)),
            "the primary takes many writes: stop what writes most before the switch",
        )];
    }
    let evidence = match lag.revisions {
        0 => "the standby is where the primary is".to_owned(),
        _ => format!("the standby was {behind} behind, and came up to the primary within {}", age(reached)),
    };
    vec![Finding::pass(check, evidence)]
}

/// What is left to say about a primary that does not answer.
fn last_known(facts: &Facts, standby: &StandbyFact) -> String {
    let mut text = String::new();
    if let Some(checkpoint) = facts.checkpoint() {
        let (revision, age) = (checkpoint.revision, ago(facts.now_ms, checkpoint.at_ms));
        let applied = match (checkpoint.phase, revision, checkpoint.offset) {
            (Phase::Streaming, _, 0) => format!("applied is everything up to its revision {revision}"),
            (Phase::Streaming, _, offset) => {
                let first = count(offset, "change");
                format!("applied is everything before its revision {revision}, and of that one the first {first}")
            }
            (_, 0, _) => "it is not known what of it was applied".to_owned(),
            _ => format!("applied is everything up to its revision {revision}, and a part of what came later"),
        };
        text.push_str(&format!("; {applied}, written {age}"));
        if let Some(seen) = &standby.primary_contact {
            let beyond = count((seen.revision - revision).max(0) as u64, "revision");
            text.push_str(&format!(", {beyond} less than it had {}", ago(facts.now_ms, seen.at_ms)));
        }
    }
    text
}

/// How long the primary's history still reaches.
pub fn headroom(facts: &Facts) -> Vec<Finding> {
    let check = Check::Headroom;
    let Some(history) = facts.history else {
        let why = match (&facts.standby, &facts.primary) {
            (Err(_), _) => "the standby does not answer",
            (_, Err(_)) => "the primary does not answer",
            _ => "the primary did not say in time, or the link is not streaming",
        };
        return vec![facts.untold(check, Level::Warn, format!("it cannot be measured: {why}"), "fix that first")];
    };
    if history.gone {
        return vec![facts.untold(
            check,
            Level::Fail,
            "the primary's history behind the checkpoint is compacted: everything has to be read again",
            "wait until the resync has ended and `etcd-sync status` says streaming",
        )];
    }
    let revisions = count(history.revisions, "revision");
    match history.time {
        Some(time) if time < facts.limits.headroom => vec![Finding::warn(
            check,
            format!("at the primary's pace compaction passes the checkpoint in {} ({revisions})", age(time)),
            "see the lag; a resync in the middle of a switch would delay it",
        )],
        Some(time) => {
            vec![Finding::pass(
                check,
                format!("the primary's history reaches {revisions} back, {} at its pace", age(time)),
            )]
        }
        None => vec![Finding::pass(check, format!("the primary's history reaches {revisions} back"))],
    }
}

/// Whether each cluster is what it should be.
pub fn role(facts: &Facts) -> Vec<Finding> {
    let check = Check::Role;
    let Ok(standby) = &facts.standby else { return unread(facts, check) };
    let mut findings = Vec::new();
    match &standby.role {
        Role::Standby => {}
        Role::None => findings.push(Finding::fail(
            check,
            "the standby has no role: no synchronizer ever worked here",
            "check --link and --standby-endpoints",
        )),
        Role::Primary => findings.push(Finding::fail(
            check,
            "the standby was promoted already: it is the primary now",
            "nothing is left to switch; see `etcd-sync journal`, and `etcd-sync rejoin` for the old primary",
        )),
        Role::Demoted { token } => findings.push(Finding::fail(
            check,
            format!("the standby was itself marked as a demoted primary by run {token}"),
            "the flags may name the clusters the wrong way round; see `etcd-sync journal`",
        )),
        Role::Other(value) => findings.push(Finding::fail(
            check,
            format!("the standby's role is {value:?}, which none of these programs writes"),
            "find out who wrote it before anything else",
        )),
    }
    match &facts.primary {
        Err(why) => {
            findings.push(facts.untold(check, Level::Fail, format!("the primary does not answer ({why})"), SILENT))
        }
        Ok(primary) => findings.extend(primary_role(facts, standby, primary)),
    }
    if findings.is_empty() {
        findings.push(Finding::pass(
            check,
            format!("the standby has the role of one (link {}), and was synchronized from this primary", facts.link),
        ));
    }
    findings
}

fn primary_role(facts: &Facts, standby: &StandbyFact, primary: &PrimaryFact) -> Vec<Finding> {
    let check = Check::Role;
    let mut findings = Vec::new();
    let recorded = facts.checkpoint().map(|checkpoint| checkpoint.primary.as_str());
    if primary.cluster == standby.cluster {
        let evidence = format!("primary and standby are the same etcd cluster ({})", primary.cluster);
        findings.push(Finding::fail(check, evidence, "check --primary-endpoints and --standby-endpoints"));
    } else if let Some(recorded) = recorded.filter(|recorded| *recorded != primary.cluster) {
        findings.push(Finding::fail(
            check,
            format!(
                "the primary asked is cluster {}, the standby was synchronized from cluster {recorded}",
                primary.cluster
            ),
            "check --primary-endpoints",
        ));
    }
    if let Role::Demoted { token } = &primary.role
        && standby.open_run.as_ref() != Some(token)
    {
        findings.push(Finding::fail(
            check,
            format!("the primary was marked as demoted by another run ({token})"),
            "see `etcd-sync journal`: go on with that run; if it was given up, `etcd-sync journal --abandon` clears its mark",
        ));
    }
    if primary.unwatchable {
        findings.push(Finding::fail(
            check,
            "the primary's user may not watch all of its keys, so it cannot be seen when its writers have stopped",
            "grant its role: etcdctl role grant-permission ROLE read \"\" --from-key=true (docs/security.md)",
        ));
    }
    if !primary.standby_of.is_empty() {
        findings.push(Finding::fail(
            check,
            format!("the primary is itself a standby (link {})", primary.standby_of.join(", ")),
            "the flags may name the clusters the wrong way round: nothing may be switched from a standby",
        ));
    }
    findings
}

fn unread(facts: &Facts, check: Check) -> Vec<Finding> {
    let why = facts.standby.as_ref().err().map_or("", String::as_str);
    vec![Finding::fail(check, format!("the standby's etcd cannot be read ({why})"), UNREAD)]
}
