//! Encryption at rest: one value that the standby's API server cannot decrypt breaks its cache of the whole resource.

use std::collections::{BTreeMap, BTreeSet};

use super::{Check, Decrypts, Facts, Finding, Sample};
use etcd_sync_core::object::encryption::EncryptedBy;

const SAME_CONFIG: &str = "give the --encryption-config that BOTH API servers run with, holding every key the primary's values \
                           are encrypted with";

/// Judges what the samples tell.
pub fn judge(facts: &Facts) -> Vec<Finding> {
    let looked_at = facts.primary_samples.len();
    let encrypted = |samples: &[Sample]| samples.iter().any(|sample| sample.seal.is_some());
    let mut findings = if facts.encryption_config {
        with_config(facts)
    } else if encrypted(&facts.primary_samples) || encrypted(&facts.standby_samples) {
        without_config(facts)
    } else {
        Vec::new()
    };
    if findings.is_empty() {
        let evidence = match encrypted(&facts.primary_samples) {
            true => {
                format!("the standby's API server decrypts with the config given, as do all {looked_at} values read")
            }
            false => format!("none of {looked_at} values read is encrypted"),
        };
        findings.push(Finding::pass(Check::Encryption, evidence));
    }
    findings
}

fn with_config(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (sample, why, more) in first_of_each_resource(&facts.primary_samples, |opens| matches!(opens, Decrypts::No(_)))
    {
        let evidence = format!("the primary's {} {}{more}", described(sample), cannot(sample, why));
        findings.push(Finding::fail(Check::Encryption, evidence, SAME_CONFIG));
    }
    for (sample, why, more) in
        first_of_each_resource(&facts.primary_samples, |opens| matches!(opens, Decrypts::Unknown(_)))
    {
        let evidence = format!("the primary's {} could not be decrypted just now ({why}){more}", described(sample));
        findings.push(unproved(facts, evidence, "see that the KMS plugin answers"));
    }
    let undecryptable = first_of_each_resource(&facts.standby_samples, |opens| matches!(opens, Decrypts::No(_)));
    for (sample, why, more) in undecryptable {
        let evidence = format!("the standby's {} {}{more}", described(sample), cannot(sample, why));
        findings.push(match sample.own {
            true => Finding::fail(
                Check::Encryption,
                format!("{evidence}; so the config given is not the one of this standby's API server"),
                SAME_CONFIG,
            ),
            // Mirrored before the primary's keys were changed.
            false => Finding::warn(
                Check::Encryption,
                evidence,
                "it was copied from the primary before: this synchronization will write it again",
            ),
        });
    }
    let needed = facts.primary_samples.iter().any(|sample| sample.seal.is_some());
    let proof = |sample: &Sample| sample.own && sample.seal.is_some() && sample.opens == Decrypts::Yes;
    if findings.is_empty() && needed && !facts.standby_samples.iter().any(proof) {
        findings.push(Finding::warn(
            Check::Encryption,
            "the standby holds no encrypted value of its own, so it is not proved that its API server runs with the config given",
            "compare the files, or create a Secret on the standby (in kube-system, for example) and run `etcd-sync plan` again",
        ));
    }
    findings
}

fn without_config(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (primary, standby) = (by_resource(&facts.primary_samples), by_resource(&facts.standby_samples));
    let none = Seen::default();
    let give = "give --encryption-config with the EncryptionConfiguration of the API servers";
    let mut unproved_resources = Vec::new();
    for (resource, there) in &primary {
        let here = standby.get(resource).unwrap_or(&none);
        if there.seals.is_empty() {
            if !here.seals.is_empty() && !here.plain {
                findings.push(Finding::warn(
                    Check::Encryption,
                    format!("{resource} are not encrypted on the primary, but on the standby ({})", names(&here.seals)),
                    format!("{give}: the standby's must list the provider identity for them, too"),
                ));
            }
        } else if (here.plain || !here.seals.is_empty()) && there.seals.is_disjoint(&here.seals) {
            let here = if here.seals.is_empty() { "not encrypted".to_owned() } else { names(&here.seals) };
            findings.push(Finding::fail(
                Check::Encryption,
                format!("{resource} are encrypted differently: on the primary with {}, on the standby: {here}", names(&there.seals)),
                "let both API servers use the primary's encryption configuration, then give it with --encryption-config",
            ));
        } else {
            unproved_resources.push((*resource, there));
        }
    }
    if !unproved_resources.is_empty() {
        let seals: BTreeSet<&EncryptedBy> =
            unproved_resources.iter().flat_map(|(_, seen)| seen.seals.iter().copied()).collect();
        let resources: Vec<&str> = unproved_resources.iter().map(|(resource, _)| *resource).collect();
        let evidence = format!(
            "the primary's {} are encrypted with {}, and it is not proved that the standby's API server decrypts them (same names \
             do not prove the same key)",
            resources.join(", "),
            names(&seals)
        );
        findings.push(unproved(facts, evidence, give));
    }
    findings
}

/// What cannot be proved stops, unless the operator knows better.
fn unproved(facts: &Facts, evidence: String, fix: &str) -> Finding {
    match facts.allow_unproved_encryption {
        true => Finding::warn(Check::Encryption, format!("{evidence}; accepted"), fix),
        false => Finding::fail(
            Check::Encryption,
            evidence,
            format!("{fix}; if you know that it does, give --allow-unproved-encryption"),
        ),
    }
}

#[derive(Default)]
struct Seen<'a> {
    seals: BTreeSet<&'a EncryptedBy>,
    plain: bool,
}

/// What the API server itself has written of each resource: copies say nothing about it.
fn by_resource(samples: &[Sample]) -> BTreeMap<&str, Seen<'_>> {
    let mut all: BTreeMap<&str, Seen<'_>> = BTreeMap::new();
    for sample in samples.iter().filter(|sample| sample.own) {
        let seen = all.entry(&sample.resource).or_default();
        match &sample.seal {
            Some(seal) => drop(seen.seals.insert(seal)),
            None => seen.plain = true,
        }
    }
    all
}

/// The first such sample of each resource, why it does not open, and how many more there are.
fn first_of_each_resource(samples: &[Sample], such: impl Fn(&Decrypts) -> bool) -> Vec<(&Sample, &str, String)> {
    let mut found: BTreeMap<(&str, bool), (&Sample, usize)> = BTreeMap::new();
    for sample in samples.iter().filter(|sample| such(&sample.opens)) {
        found.entry((&sample.resource, sample.own)).or_insert((sample, 0)).1 += 1;
    }
    let told = found.into_values().map(|(sample, count)| {
        let why = match &sample.opens {
            Decrypts::No(why) | Decrypts::Unknown(why) => why.as_str(),
            Decrypts::NotTried | Decrypts::Yes => "",
        };
        (
            sample,
            why,
            if count > 1 { format!(" (and {} more of {})", count - 1, sample.resource) } else { String::new() },
        )
    });
    told.collect()
}

fn described(sample: &Sample) -> String {
    match &sample.seal {
        Some(seal) => format!("{}, encrypted with {seal},", sample.key),
        None => format!("{}, not encrypted,", sample.key),
    }
}

fn cannot(sample: &Sample, why: &str) -> String {
    match sample.seal {
        Some(_) => format!("cannot be decrypted with the config given ({why})"),
        None => format!("cannot be read with the config given ({why})"),
    }
}

fn names(seals: &BTreeSet<&EncryptedBy>) -> String {
    seals.iter().map(|seal| seal.to_string()).collect::<Vec<_>>().join(", ")
}
