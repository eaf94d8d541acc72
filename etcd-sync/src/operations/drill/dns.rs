//! A scratch name, switched and verified as the domain would be.

use std::cell::Cell;
use std::time::Instant;

use anyhow::Result;
use etcd_sync_operations::dns::{Verdict, list};
use etcd_sync_operations::drill::{Part, PartName};
use etcd_sync_operations::preflight::Level;
use etcd_sync_operations::procedure::Outcome;
use etcd_sync_operations::text::redacted_command;
use etcd_sync_program::Stop;

use super::{part, trial};
use crate::operations::dns::{Dns, Switched};
use crate::operations::procedure::Context;
use crate::operations::procedure::steps::inside;

const PARTS: [PartName; 4] = [PartName::DnsSwitch, PartName::DnsVerify, PartName::DnsInside, PartName::DnsRemove];

/// Points the scratch name at the domain's target, asks everybody about it, and takes it away again, whatever came of it,
/// a signal that ends the program included.
///
/// # Errors
/// No signal can be listened for.
pub async fn dns(context: &Context<'_>, name: Option<&str>) -> Result<Vec<Part>> {
    let skipped = |why: &str| Ok(PARTS.map(|part| Part::skipped(part, why)).to_vec());
    let Some(dns) = context.dns else { return skipped("no --domain is given") };
    let Some(name) = name else { return skipped("no --drill-name is given") };
    if dns.is_manual() {
        return skipped("the name is changed by people: neither --dns-server nor --dns-command is given");
    }
    let scratch = dns.with_name(name, dns.target().addresses.iter().copied());
    let began = Instant::now();
    if let Some(why) = in_use(&scratch).await {
        let mut parts = PARTS.map(|part| Part::skipped(part, "the name could not be switched")).to_vec();
        parts[0] = part(PartName::DnsSwitch, began, vec![trial(name, Level::Fail, why)]);
        return Ok(parts);
    }
    let mut stop = Stop::on_signals()?;
    // Until somebody else turns out to be faster: after a signal or an answer that got lost nobody knows.
    let ours = Cell::new(true);
    let mut parts = tokio::select! {
        parts = rehearse(context, &scratch, began, &ours) => parts,
        () = stop.wanted() => {
            let ended = trial(name, Level::Fail, "a signal ended the rehearsal here");
            vec![part(PartName::DnsSwitch, began, vec![ended])]
        }
    };
    if ours.get() {
        let began = Instant::now();
        let removed = match scratch.remove().await {
            Ok(()) => trial(name, Level::Pass, "it is taken away again"),
            Err(error) => {
                let what = format!("it may still be there: {error}. Look with dig, and take it away by hand");
                trial(name, Level::Warn, what)
            }
        };
        parts.push(part(PartName::DnsRemove, began, vec![removed]));
    }
    let missing: Vec<PartName> = PARTS.into_iter().filter(|name| parts.iter().all(|part| part.name != *name)).collect();
    parts.extend(missing.into_iter().map(|name| Part::skipped(name, "the rehearsal was ended")));
    Ok(parts)
}

/// Why the name is not touched: what is there already may be somebody's, and it would be taken away in the end.
async fn in_use(scratch: &Dns) -> Option<String> {
    let now = match scratch.now().await {
        Ok(now) => now?,
        Err(error) => return Some(error.to_string()),
    };
    if now.addresses.is_empty() && now.alias.is_none() {
        return None;
    }
    let what = now.alias.map_or_else(|| list(&now.addresses), |alias| format!("an alias of {alias}"));
    Some(format!(
        "it exists already ({what}), and a drill takes its name away: give a --drill-name that nobody uses. If an earlier drill was \
         killed and has left it there, take it away by hand"
    ))
}

async fn rehearse(context: &Context<'_>, scratch: &Dns, began: Instant, ours: &Cell<bool>) -> Vec<Part> {
    let target = scratch.target();
    let name = &target.name;
    let switched = match scratch.switch().await {
        Ok(Switched::Already) => {
            ours.set(false);
            trial(name, Level::Fail, "it was just created by another client: it stays as it is")
        }
        Ok(Switched::Updated { after, .. }) => trial(name, Level::Pass, format!("made: {}", list(&after.addresses))),
        Ok(Switched::Ran { command }) => trial(name, Level::Pass, format!("{} ended well", redacted_command(&command))),
        Ok(Switched::Manual(_)) => trial(name, Level::Fail, "people would have to change it"),
        Err(error) => trial(name, Level::Fail, error.to_string()),
    };
    let failed = switched.level == Level::Fail;
    let mut parts = vec![part(PartName::DnsSwitch, began, vec![switched])];
    if failed {
        parts.extend(PARTS[1..3].iter().map(|part| Part::skipped(*part, "the name could not be switched")));
        return parts;
    }
    let began = Instant::now();
    let verified = match scratch.verify(&|_| {}).await {
        Ok(answers) => {
            let level = if target.verdict(&answers) == Verdict::Good { Level::Pass } else { Level::Warn };
            trial(name, level, scratch.report(&answers).summary())
        }
        Err(stale) => trial(name, Level::Fail, stale.to_string()),
    };
    parts.push(part(PartName::DnsVerify, began, vec![verified]));
    let began = Instant::now();
    let Some(cluster) = context.standby else {
        parts.push(Part::skipped(PartName::DnsInside, "no API server of the standby is known"));
        return parts;
    };
    let looked_up = match inside(scratch, cluster, &context.procedure.restart.lookup_pod, false).await {
        Ok(Outcome::Done(what) | Outcome::Skipped(what)) => trial(name, Level::Pass, what),
        Ok(Outcome::Warned(what)) => trial(name, Level::Warn, what),
        Ok(Outcome::Failed(what)) => trial(name, Level::Fail, what),
        Err(error) => trial(name, Level::Fail, format!("{error:#}")),
    };
    parts.push(part(PartName::DnsInside, began, vec![looked_up]));
    parts
}
