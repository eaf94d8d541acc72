//! A scratch name, switched and verified as the domain would be.

use std::time::Instant;

use etcd_sync_core::drill::{Part, PartName};
use etcd_sync_core::preflight::Level;
use etcd_sync_core::procedure::Outcome;

use super::{part, trial};
use crate::dns::Dns;
use crate::procedure::Context;
use crate::procedure::steps::inside;

const PARTS: [PartName; 3] = [PartName::DnsSwitch, PartName::DnsVerify, PartName::DnsInside];

/// Points the scratch name at the domain's target, asks everybody about it, and takes it away again, whatever came of it.
pub async fn dns(context: &Context<'_>, name: Option<&str>) -> Vec<Part> {
    let skipped = |why: &str| PARTS.map(|part| Part::skipped(part, why)).to_vec();
    let Some(dns) = context.dns else { return skipped("no --domain is given") };
    let Some(name) = name else { return skipped("no --drill-name is given") };
    if dns.is_manual() {
        return skipped("the name is changed by people: neither --dns-server nor --dns-command is given");
    }
    let scratch = dns.with_name(name, dns.target().addresses.iter().copied());
    // Only what this drill has made is taken away again.
    match scratch.now().await {
        Ok(Some(now)) if !now.addresses.is_empty() => {
            return skipped(&format!(
                "{name} is in use: a drill takes its name away in the end, so give another --drill-name"
            ));
        }
        Err(error) => {
            let failed = vec![trial(name, Level::Fail, error.to_string())];
            let rest = PARTS[1..].iter().map(|part| Part::skipped(*part, "the name could not be switched"));
            return std::iter::once(part(PartName::DnsSwitch, Instant::now(), failed)).chain(rest).collect();
        }
        Ok(_) => {}
    }
    let (mut parts, made) = rehearse(context, &scratch).await;
    if made
        && let Err(error) = scratch.remove().await
        && let Some(first) = parts.first_mut()
    {
        first.trials.push(trial("taken away", Level::Warn, format!("{name} stays: {error}")));
    }
    parts
}

/// Gives the parts, and whether the name was made.
async fn rehearse(context: &Context<'_>, scratch: &Dns) -> (Vec<Part>, bool) {
    let began = Instant::now();
    let name = scratch.target().name.clone();
    let switched = match scratch.switch().await {
        Ok(switched) => trial(&name, Level::Pass, switched.text(scratch.target()).trim()),
        Err(error) => trial(&name, Level::Fail, error.to_string()),
    };
    let failed = switched.level == Level::Fail;
    let mut parts = vec![part(PartName::DnsSwitch, began, vec![switched])];
    if failed {
        parts.extend(PARTS[1..].iter().map(|part| Part::skipped(*part, "the name could not be switched")));
        return (parts, false);
    }
    let began = Instant::now();
    let verified = match scratch.verify(&|_| {}).await {
        Ok(answers) => trial(&name, Level::Pass, scratch.report(&answers).summary()),
        Err(stale) => trial(&name, Level::Fail, stale.to_string()),
    };
    parts.push(part(PartName::DnsVerify, began, vec![verified]));
    let began = Instant::now();
    let Some(cluster) = context.standby else {
        parts.push(Part::skipped(PartName::DnsInside, "no API server of the standby is known"));
        return (parts, true);
    };
    let looked_up = match inside(scratch, cluster, &context.procedure.restart.lookup_pod, false).await {
        Ok(Outcome::Done(what) | Outcome::Skipped(what)) => trial(&name, Level::Pass, what),
        Ok(Outcome::Warned(what)) => trial(&name, Level::Warn, what),
        Ok(Outcome::Failed(what)) => trial(&name, Level::Fail, what),
        Err(error) => trial(&name, Level::Fail, format!("{error:#}")),
    };
    parts.push(part(PartName::DnsInside, began, vec![looked_up]));
    (parts, true)
}
