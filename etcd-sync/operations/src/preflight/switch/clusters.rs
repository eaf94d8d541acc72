//! What is around the etcds: API servers, clocks, Machines, ports.

use std::time::Duration;

use super::{ApiServerFact, Facts, MachinesFact};
use crate::preflight::{Check, Finding, Level};
use crate::text::{age, count, first};
use etcd_sync_core::link::side::Side;
use etcd_sync_core::link::state::Phase;

/// TSIG allows 300 s, and freshly made certificates and tokens much less.
const CLOCK_WARN_MS: u64 = 2_000;
const CLOCK_FAIL_MS: u64 = 60_000;

/// Machines named in one finding.
const NAMED_MAX: usize = 5;

/// A phase in which a Machine does what it should (`.status.phase`).
const RUNNING: &str = "Running";

/// A checkpoint written so lately shows that somebody streams.
const FRESH_MS: u64 = 30_000;

/// Whether the API servers are ready.
pub fn api_servers(facts: &Facts) -> Vec<Finding> {
    let check = Check::ApiServers;
    let (mut findings, mut ready) = (Vec::new(), Vec::new());
    for (side, fact) in facts.api_servers.each() {
        let kubernetes = if side == Side::Primary { facts.kubernetes.primary } else { facts.kubernetes.standby };
        match fact {
            ApiServerFact::NotAsked(_) if !kubernetes => {}
            ApiServerFact::NotAsked(flag) => {
                let evidence = format!("the address of the {side}'s API server is not given");
                findings.push(Finding::warn(check, evidence, format!("give {flag}, and its token and authorities")));
            }
            ApiServerFact::Failed { why, fix } => {
                let evidence = format!("the {side}'s API server does not answer ({why})");
                findings.push(Finding { check, level: severity(side), evidence, fix: Some(fix.clone()) });
            }
            ApiServerFact::Answered { url, unready: Some(says) } => {
                let evidence = format!("the {side}'s API server {url} is not ready: {says}");
                let fix = format!("see kubectl get --raw '/readyz?verbose' --server {url}");
                findings.push(Finding { check, level: severity(side), evidence, fix: Some(fix) });
            }
            ApiServerFact::Answered { url, unready: None } => ready.push(format!("the {side}'s ({url})")),
        }
    }
    if findings.is_empty() {
        let evidence = match ready.is_empty() {
            true => "no Kubernetes lies in the etcds".to_owned(),
            false => format!("ready: {}", ready.join(", ")),
        };
        findings.push(Finding::pass(check, evidence));
    }
    findings
}

/// The standby is to serve; that the primary does not may be why one switches.
fn severity(side: Side) -> Level {
    match side {
        Side::Primary => Level::Warn,
        Side::Standby => Level::Fail,
    }
}

/// Whether the clocks agree.
pub fn clocks(facts: &Facts) -> Vec<Finding> {
    let check = Check::Clocks;
    let mut findings = Vec::new();
    for clock in &facts.clocks {
        // What the look itself cannot tell apart is no difference.
        let apart = clock.ahead_ms.unsigned_abs().saturating_sub(clock.accuracy_ms);
        if apart <= CLOCK_WARN_MS {
            continue;
        }
        let side = if clock.ahead_ms < 0 { "behind" } else { "ahead of" };
        let time = age(Duration::from_millis(clock.ahead_ms.unsigned_abs()));
        let evidence = format!("the clock of {} is {time} {side} this machine's", clock.who);
        let fix =
            "set the clocks right (NTP, chrony) here and there: signed DNS updates and certificates depend on them";
        findings.push(match apart > CLOCK_FAIL_MS {
            true => Finding::fail(check, evidence, fix),
            false => Finding::warn(check, evidence, fix),
        });
    }
    if findings.is_empty() {
        findings.push(Finding::pass(
            check,
            match facts.clocks.len() {
                0 => "no other machine reports its time".to_owned(),
                1 => format!("the clock of {} agrees with this machine's", facts.clocks[0].who),
                count => format!("the clocks of {count} others agree with this machine's"),
            },
        ));
    }
    findings
}

/// Whether every Machine runs: one in the middle of being made or deleted must not be switched.
pub fn machines(facts: &Facts) -> Vec<Finding> {
    let check = Check::Machines;
    let (mut findings, mut running) = (Vec::new(), 0);
    for (side, fact) in facts.machines.each() {
        match fact {
            MachinesFact::None | MachinesFact::NotAsked { stored: Some(0), .. } => {}
            MachinesFact::NotAsked { flag, stored } => {
                let kubernetes =
                    if side == Side::Primary { facts.kubernetes.primary } else { facts.kubernetes.standby };
                if stored.is_none() && !kubernetes {
                    continue;
                }
                let many =
                    stored.map_or_else(|| "Machines, if there are any,".into(), |number| count(number, "Machine"));
                findings.push(Finding::warn(
                    check,
                    format!("the {side}'s {many} cannot be checked: the address of its API server is not given"),
                    format!("give {flag}, and its token and authorities"),
                ));
            }
            MachinesFact::Failed { why, without_token } => findings.push(Finding::warn(
                check,
                format!("the {side}'s Machines cannot be read ({why})"),
                match without_token {
                    Some(flag) => format!("give {flag}: no token was given"),
                    None => "kubectl get machines.platform.tkestack.io must work with the token given".to_owned(),
                },
            )),
            MachinesFact::Found(machines) => {
                let odd = machines.iter().filter(|machine| machine.phase != RUNNING);
                let odd: Vec<String> = odd
                    .map(|machine| {
                        let phase = if machine.phase.is_empty() { "no phase" } else { &machine.phase };
                        format!("{} ({phase})", machine.name)
                    })
                    .collect();
                running += machines.len() - odd.len();
                if !odd.is_empty() {
                    let count = odd.len() as u64;
                    findings.push(Finding::fail(
                        check,
                        format!(
                            "on the {side} {} not running: {}",
                            if count == 1 { "1 Machine is".to_owned() } else { format!("{count} Machines are") },
                            first(&odd, count, NAMED_MAX)
                        ),
                        "wait until it runs, or repair it; see kubectl get machines.platform.tkestack.io",
                    ));
                }
            }
        }
    }
    if findings.is_empty() {
        let evidence = match running {
            0 => "there are no Machines".to_owned(),
            _ => format!("all run ({running} on both sides together)"),
        };
        findings.push(Finding::pass(check, evidence));
    }
    findings
}

/// Whether the client ports are open: good either way, unless it contradicts what is seen.
pub fn client_port(facts: &Facts) -> Vec<Finding> {
    let check = Check::ClientPort;
    let described = facts.ports.iter().map(|port| {
        let state = if port.closed.is_none() { "open" } else { "closed" };
        format!("{} {}: {state}", port.side, port.address)
    });
    let described: Vec<String> = described.collect();
    let of_primary = facts.ports.iter().filter(|port| port.side == Side::Primary);
    let why = of_primary.clone().find_map(|port| port.closed.as_deref());
    let closed = of_primary.clone().count() > 0 && of_primary.clone().all(|port| port.closed.is_some());
    if closed && streams(facts) {
        let evidence = format!(
            "{}; yet a synchronizer streams from the primary ({})",
            described.join(", "),
            why.unwrap_or_default()
        );
        let fix = "this machine is cut off from the primary, or --primary-endpoints is wrong: run this where the synchronizer runs";
        return vec![facts.untold(check, Level::Fail, evidence, fix)];
    }
    vec![Finding::pass(check, if described.is_empty() { "not asked".to_owned() } else { described.join(", ") })]
}

/// Whether a synchronizer reads from the primary, as the standby's record shows.
fn streams(facts: &Facts) -> bool {
    let Ok(standby) = &facts.standby else { return false };
    let fresh = facts.checkpoint().is_some_and(|checkpoint| {
        checkpoint.phase == Phase::Streaming && facts.now_ms.saturating_sub(checkpoint.at_ms) < FRESH_MS
    });
    standby.leader.is_some() && standby.paused.is_none() && fresh
}
