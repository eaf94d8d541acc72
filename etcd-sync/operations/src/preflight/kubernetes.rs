//! The two API servers: where they store, and which versions they know.

use std::collections::BTreeMap;

use super::{ApiFact, Check, Facts, Finding};
use etcd_sync_core::compare::conflicts::STORED_UNSERVED;

/// Keys named in one finding.
const NAMED_MAX: usize = 5;

/// Whether both store below the same prefix.
pub fn prefix(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for fact in facts.prefixes.iter().filter(|fact| fact.primary && !fact.standby) {
        let prefix = &fact.prefix;
        findings.push(match facts.other_prefixes.is_empty() {
            false => Finding::fail(
                Check::Prefix,
                format!(
                    "the primary's Kubernetes lies below {prefix}, the standby's below {}",
                    facts.other_prefixes.join(", ")
                ),
                "the standby's API server would see nothing of what is written: rebuild the standby with the primary's \
                 --etcd-prefix, or check --standby-endpoints",
            ),
            true => Finding::warn(
                Check::Prefix,
                format!("the standby's etcd holds no Kubernetes, the primary's lies below {prefix}"),
                "start the standby's API server on it first, or check --standby-endpoints",
            ),
        });
    }
    if findings.is_empty() {
        let both = facts.prefixes.iter().filter(|fact| fact.primary).map(|fact| fact.prefix.as_str());
        let both: Vec<&str> = both.collect();
        findings.push(Finding::pass(
            Check::Prefix,
            match both.is_empty() {
                true => "the primary holds no Kubernetes below the prefixes given".to_owned(),
                false => format!("Kubernetes lies below {} on both sides", both.join(", ")),
            },
        ));
    }
    findings
}

/// Whether the standby's API server can read the versions in which the primary's stores.
pub fn versions(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (side, api) in [("primary", &facts.primary_api), ("standby", &facts.standby_api)] {
        if let ApiFact::Failed { why, fix } = api {
            findings.push(Finding::warn(
                Check::ApiVersions,
                format!("the {side}'s API server did not say what it serves ({why})"),
                fix,
            ));
        }
    }
    findings.extend(unserved(facts));
    match (version(&facts.primary_api), version(&facts.standby_api)) {
        (Some(primary), Some(standby)) if minor(primary).is_some() && minor(primary) == minor(standby) => {
            findings.push(Finding::pass(Check::ApiVersions, format!("Kubernetes {primary} and {standby}")));
        }
        (Some(primary), Some(standby)) => findings.push(Finding::warn(
            Check::ApiVersions,
            format!("the primary runs Kubernetes {primary}, the standby {standby}"),
            "bring both to one minor version when you can: what one stores the other may not know",
        )),
        _ if findings.is_empty() => findings.push(Finding::pass(Check::ApiVersions, "not asked")),
        _ => {}
    }
    findings
}

/// Built-in objects that the primary stores in versions its standby does not serve.
fn unserved(facts: &Facts) -> Vec<Finding> {
    let ApiFact::Answered { version: standby, serves: Some(served) } = &facts.standby_api else { return Vec::new() };
    let mut by_version: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for sample in &facts.primary_samples {
        let unknown = |version: &&str| !served.contains(*version) && *version != STORED_UNSERVED;
        if let Some(version) = sample.api_version.as_deref().filter(unknown) {
            let resources = by_version.entry(version).or_default();
            if resources.last() != Some(&sample.resource.as_str()) {
                resources.push(&sample.resource);
            }
        }
    }
    let by_primary = |version: &str| match &facts.primary_api {
        ApiFact::Answered { serves: Some(served), .. } => served.contains(version),
        _ => true,
    };
    let judged = by_version.into_iter().map(|(version, resources)| {
        let more = if resources.len() > NAMED_MAX { ", …" } else { "" };
        let named = resources[..resources.len().min(NAMED_MAX)].join(", ");
        let evidence =
            format!("the primary stores {named}{more} as {version}, which the standby's API server ({standby}) does not serve");
        let patterns: Vec<String> = resources.iter().map(|resource| format!("{resource}/**")).collect();
        let fix = format!(
            "upgrade the standby's Kubernetes or enable that version there; or exclude these with --cluster-local-add {}",
            patterns.join(",")
        );
        match by_primary(version) {
            true => Finding::fail(Check::ApiVersions, evidence, fix),
            // A version that is stored but served nowhere is read all the same.
            false => Finding::warn(Check::ApiVersions, evidence, fix),
        }
    });
    judged.collect()
}

fn version(api: &ApiFact) -> Option<&str> {
    match api {
        ApiFact::Answered { version, .. } => Some(version),
        _ => None,
    }
}

/// Major and minor: `v1.34.4-k3s1` is (1, 34).
fn minor(version: &str) -> Option<(u64, u64)> {
    let mut parts = version.trim_start_matches('v').split('.');
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next()?;
    let digits = minor.find(|other: char| !other.is_ascii_digit()).unwrap_or(minor.len());
    Some((major, minor[..digits].parse().ok()?))
}
