//! Where users are sent now, and how long they remember it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{DnsFact, Facts};
use crate::dns::{Answer, Kind, Records, Said, list};
use crate::preflight::{Check, Finding};

/// Seconds that an answer may be remembered without a warning.
const TTL_WARN_S: u32 = 300;

pub fn judge(facts: &Facts) -> Vec<Finding> {
    let check = Check::Dns;
    let Some(dns) = &facts.dns else {
        return vec![Finding::pass(check, "not asked: no --domain is given")];
    };
    let (mut findings, mut good) = (Vec::new(), None);
    for answer in &dns.answers {
        match &answer.said {
            Said::Failed(why) => findings.push(silent(dns, answer, why)),
            Said::Records(records) => {
                findings.extend(answered(dns, answer, records));
                good = good.or_else(|| (!records.addresses.is_empty()).then_some(records));
            }
        }
    }
    match good {
        _ if !findings.is_empty() => {}
        Some(records) => {
            let (name, at) = (&dns.target.name, list(&records.addresses));
            let evidence = format!("{name} points at {at}, to be remembered for {} s", records.ttl_s());
            findings.push(Finding::pass(check, evidence));
        }
        None => {
            let evidence = format!("no name server returns an address of {}", dns.target.name);
            findings.push(Finding::warn(check, evidence, "give --dns-authoritative and --dns-resolver"));
        }
    }
    findings
}

fn silent(dns: &DnsFact, answer: &Answer, why: &str) -> Finding {
    let evidence = format!("{} {} does not say where {} points ({why})", who(answer), answer.server, dns.target.name);
    match answer.kind {
        Kind::Authoritative => Finding::fail(
            Check::Dns,
            evidence,
            "the change goes to this server: see that it answers, or correct --dns-authoritative",
        ),
        Kind::Resolver => {
            Finding::warn(Check::Dns, evidence, "see that it answers, or name others with --dns-resolver")
        }
    }
}

fn answered(dns: &DnsFact, answer: &Answer, records: &Records) -> Vec<Finding> {
    let check = Check::Dns;
    let (by, name) = (format!("by {} {}", who(answer), answer.server), &dns.target.name);
    let addresses = &records.addresses;
    if addresses.is_empty() {
        // Where an alias leads to, another server knows.
        let evidence = format!("{by}, {name} has no address");
        let fix = "check --domain, and that users reach the platform by it";
        return if records.alias.is_some() { Vec::new() } else { vec![Finding::fail(check, evidence, fix)] };
    }
    let mut findings = Vec::new();
    let within = |known: &BTreeSet<IpAddr>| addresses.is_subset(known);
    let (at_primary, at_standby) = (within(&dns.from), within(&dns.target.addresses));
    if at_standby && !at_primary {
        let evidence = format!("{by}, {name} points at the standby already ({})", list(addresses));
        findings.push(Finding::warn(check, evidence, "if no switch is under way, find out who changed it"));
    } else if !at_primary && !dns.from.is_empty() {
        let evidence = format!(
            "{by}, {name} points at {}, which is neither the primary's address ({}) nor the standby's ({})",
            list(addresses),
            list(&dns.from),
            list(&dns.target.addresses)
        );
        findings.push(Finding::fail(check, evidence, "check --domain and --dns-from, and who changed the record"));
    }
    let ttl_s = records.ttl_s();
    if ttl_s > TTL_WARN_S {
        let evidence = format!("{by}, {name} may be remembered for {ttl_s} s");
        let fix =
            "users go on to the old address for so long: lower the record's TTL to 60 s, that long before the switch";
        findings.push(Finding::warn(check, evidence, fix));
    }
    findings
}

fn who(answer: &Answer) -> &'static str {
    match answer.kind {
        Kind::Authoritative => "the authoritative server",
        Kind::Resolver => "the resolver",
    }
}
