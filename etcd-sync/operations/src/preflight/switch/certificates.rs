//! Certificates that end: nothing connects any more on the day they do.

use super::{Certificate, CertificateFact, CertificateUse, Facts};
use crate::preflight::{Check, Finding};
use crate::text::{age, date};
use std::time::Duration;

pub fn judge(facts: &Facts) -> Vec<Finding> {
    let check = Check::Certificates;
    let now_s = i64::try_from(facts.now_ms / 1_000).unwrap_or(i64::MAX);
    let mut findings: Vec<Finding> = facts.certificates.iter().filter_map(|fact| one(facts, fact, now_s)).collect();
    // The worst first: the others may follow from it.
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    if !findings.is_empty() {
        return findings;
    }
    let valid = facts.certificates.iter().filter_map(|fact| Some((fact, fact.found.as_ref().ok()?)));
    let next = valid.min_by_key(|(_, certificate)| certificate.not_after_s);
    let evidence = match next {
        None => "no TLS is in use".to_owned(),
        Some((fact, certificate)) => format!(
            "all {} are valid; the next one to expire does so on {} (in {}): {}",
            facts.certificates.len(),
            date(certificate.not_after_s),
            age(left(certificate, now_s)),
            fact.place
        ),
    };
    vec![Finding::pass(check, evidence)]
}

/// What is wrong with one of them.
fn one(facts: &Facts, fact: &CertificateFact, now_s: i64) -> Option<Finding> {
    let check = Check::Certificates;
    let place = &fact.place;
    let certificate = match &fact.found {
        Ok(certificate) => certificate,
        Err(why) => {
            let fix = "see that it is a PEM file with certificates, or that the server speaks TLS";
            return Some(Finding::warn(check, format!("the certificate of {place} cannot be read ({why})"), fix));
        }
    };
    let subject = &certificate.subject;
    let leftover = matches!(fact.use_, CertificateUse::Authority { others_valid: true });
    let renew = "renew it before you switch, and give the new one to whoever uses it";
    if certificate.not_after_s < now_s {
        let ago = age(Duration::from_secs((now_s - certificate.not_after_s).unsigned_abs()));
        let evidence = format!("{place} expired on {} ({ago} ago; {subject})", date(certificate.not_after_s));
        return Some(match leftover {
            true => Finding::warn(
                check,
                evidence,
                "others in that file are valid: remove this one when nothing is signed by it",
            ),
            false => Finding::fail(check, evidence, renew),
        });
    }
    if certificate.not_before_s > now_s {
        let evidence = format!("{place} is not valid before {} ({subject})", date(certificate.not_before_s));
        return Some(Finding::fail(check, evidence, "see the clock of this machine, and of the one that signed it"));
    }
    let left = left(certificate, now_s);
    (left < facts.limits.expiry).then(|| {
        let evidence = format!("{place} expires on {} (in {}; {subject})", date(certificate.not_after_s), age(left));
        Finding::warn(check, evidence, renew)
    })
}

fn left(certificate: &Certificate, now_s: i64) -> Duration {
    Duration::from_secs(certificate.not_after_s.saturating_sub(now_s).max(0).unsigned_abs())
}
