//! Where users are sent now, and how long they remember it.

use std::net::IpAddr;

use super::{DnsAnswer, DnsFact, Facts};
use crate::preflight::{Check, Finding};

/// Seconds that an answer may be remembered without a warning.
const TTL_WARN_S: u32 = 300;

pub fn judge(facts: &Facts) -> Vec<Finding> {
    let check = Check::Dns;
    let Some(dns) = &facts.dns else {
        return vec![Finding::pass(check, "not asked: no --domain is given")];
    };
    let mut findings = Vec::new();
    for answer in &dns.answers {
        match &answer.said {
            Err(why) => findings.push(silent(dns, answer, why)),
            Ok((addresses, ttl)) => findings.extend(answered(dns, answer, addresses, *ttl)),
        }
    }
    if dns.answers.is_empty() {
        let evidence = format!("no name server can be asked for {}", dns.domain);
        findings.push(Finding::warn(check, evidence, "give --dns-authoritative and --dns-resolver"));
    }
    if findings.is_empty() {
        let ttl = dns.answers.iter().filter_map(|answer| answer.said.as_ref().ok()?.1).max();
        let ttl = ttl.map_or_else(String::new, |ttl| format!(", remembered for at most {ttl} s"));
        let now = dns.answers.iter().find_map(|answer| answer.said.as_ref().ok()).map(|(addresses, _)| list(addresses));
        let evidence = format!("{} points at {}{ttl}", dns.domain, now.unwrap_or_default());
        findings.push(Finding::pass(check, evidence));
    }
    findings
}

fn silent(dns: &DnsFact, answer: &DnsAnswer, why: &str) -> Finding {
    let evidence = format!("{} {} does not say where {} points ({why})", kind(answer), answer.server, dns.domain);
    let fix = match answer.authoritative {
        true => "the change goes to this server: see that it answers, or correct --dns-authoritative",
        false => "see that it answers, or leave it out with --dns-resolver",
    };
    match answer.authoritative {
        true => Finding::fail(Check::Dns, evidence, fix),
        false => Finding::warn(Check::Dns, evidence, fix),
    }
}

fn answered(dns: &DnsFact, answer: &DnsAnswer, addresses: &[IpAddr], ttl: Option<u32>) -> Vec<Finding> {
    let check = Check::Dns;
    let (who, server, domain) = (kind(answer), &answer.server, &dns.domain);
    let mut findings = Vec::new();
    let within = |known: &[IpAddr]| !addresses.is_empty() && addresses.iter().all(|address| known.contains(address));
    let (at_primary, at_standby) = (within(&dns.from), within(&dns.to));
    if addresses.is_empty() {
        let evidence = format!("{who} {server} knows no address of {domain}");
        findings.push(Finding::fail(check, evidence, "check --domain, and that users reach the platform by it"));
    } else if at_standby && !at_primary {
        let evidence = format!("by {who} {server}, {domain} points at the standby already ({})", list(addresses));
        findings.push(Finding::warn(check, evidence, "if no switch is under way, find out who changed it"));
    } else if !at_primary && !dns.from.is_empty() {
        let evidence = format!(
            "by {who} {server}, {domain} points at {}, which is neither the primary's address ({}) nor the standby's ({})",
            list(addresses),
            list(&dns.from),
            if dns.to.is_empty() { "not given".to_owned() } else { list(&dns.to) }
        );
        findings.push(Finding::fail(check, evidence, "check --domain and --dns-from, and who changed the record"));
    }
    if let Some(ttl) = ttl.filter(|ttl| *ttl > TTL_WARN_S) {
        let evidence = format!("by {who} {server}, {domain} may be remembered for {ttl} s");
        let fix =
            "users go on to the old address for so long: lower the record's TTL to 60 s, that long before the switch";
        findings.push(Finding::warn(check, evidence, fix));
    }
    findings
}

fn kind(answer: &DnsAnswer) -> &'static str {
    if answer.authoritative { "the authoritative server" } else { "the resolver" }
}

fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
