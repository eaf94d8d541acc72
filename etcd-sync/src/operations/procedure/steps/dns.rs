//! The domain points at the new primary, and everybody says so.

use std::time::{Duration, Instant};

use anyhow::Result;
use etcd_sync_cluster::restart::restart_coredns;
use etcd_sync_cluster::{Cluster, Error, lookup};
use etcd_sync_operations::nslookup::PodRef;
use etcd_sync_operations::procedure::Outcome;
use etcd_sync_operations::text::redacted_command;
use etcd_sync_program::args::TableOutput;
use tracing::info;

use crate::operations::dns::{Dns, Switched};
use crate::operations::procedure::Context;
use crate::output::print;

/// Pause between two looks from inside.
const PAUSE: Duration = Duration::from_secs(2);

/// CoreDNS is restarted when the answer stayed old for so long, and not again before as much has passed.
const STALE: Duration = Duration::from_secs(10);

/// How long CoreDNS may take to be ready again.
const COREDNS: Duration = Duration::from_secs(120);

fn no_domain() -> Outcome {
    Outcome::Skipped("no --domain is given".into())
}

/// Points the domain at the target, unless it does already.
pub async fn dns_switch(context: &Context<'_>, run: &str) -> Result<Outcome> {
    let Some(dns) = context.dns else { return Ok(no_domain()) };
    let dns = dns.with_run(run);
    let target = dns.target();
    Ok(Outcome::Done(match dns.switch().await? {
        Switched::Already => format!("{target} already"),
        Switched::Updated { before, after } => {
            let list = etcd_sync_operations::dns::list;
            format!("{} was {}, is {}", target.name, list(&before.addresses), list(&after.addresses))
        }
        Switched::Ran { command } => format!("{} ended well", redacted_command(&command)),
        Switched::Manual(text) => {
            match context.procedure.output {
                TableOutput::Table => print(&text),
                TableOutput::Json => eprint!("{text}"),
            }
            "shown: the next step waits until it is made".to_owned()
        }
    }))
}

/// Waits until every name server and every resolver that answers says the target.
pub async fn dns_verify(context: &Context<'_>) -> Result<Outcome> {
    let Some(dns) = context.dns else { return Ok(no_domain()) };
    let progress = |answers: &[_]| {
        if !dns.points_at_target(answers) {
            info!("{}", dns.report(answers).summary());
        }
    };
    Ok(match dns.verify(&progress).await {
        Ok(answers) if dns.target().verdict(&answers) == etcd_sync_operations::dns::Verdict::Good => {
            Outcome::Done(dns.report(&answers).summary())
        }
        Ok(answers) => Outcome::Warned(dns.report(&answers).summary()),
        Err(stale) => Outcome::Failed(stale.to_string()),
    })
}

/// Waits until a pod is told so, too.
pub async fn dns_inside(context: &Context<'_>) -> Result<Outcome> {
    let Some(dns) = context.dns else { return Ok(no_domain()) };
    let Some(cluster) = context.standby else {
        return Ok(Outcome::Skipped("no API server of the standby is known".into()));
    };
    inside(dns, cluster, &context.procedure.restart.lookup_pod, true).await
}

/// Looks a name up in a pod until it says the target; with `restart` CoreDNS is restarted while it does not.
pub async fn inside(dns: &Dns, cluster: &Cluster, pod: &PodRef, restart: bool) -> Result<Outcome> {
    let target = dns.target();
    let (began, mut restarted_at, mut restarts) = (Instant::now(), Instant::now(), 0);
    loop {
        let said = match lookup::nslookup(cluster, pod, &target.name).await {
            Ok(lookup) => {
                let addresses = lookup.said.addresses.iter().copied().collect();
                if target.addresses == addresses {
                    let again = if restarts > 0 {
                        format!(", after restarting CoreDNS {restarts} times")
                    } else {
                        String::new()
                    };
                    return Ok(Outcome::Done(format!("{} in {} has the new address{again}", target.name, lookup.pod)));
                }
                etcd_sync_operations::dns::list(&addresses)
            }
            Err(Error::NoPod { .. }) => {
                return Ok(Outcome::Warned(format!(
                    "there is no ready pod {pod} to look it up in: give another --lookup-pod, or run nslookup in any pod by hand"
                )));
            }
            // Waiting gives no rights.
            Err(error @ Error::Forbidden { .. }) => return Ok(Outcome::Failed(error.to_string())),
            Err(error) => error.to_string(),
        };
        if began.elapsed() >= dns.patience() {
            return Ok(Outcome::Failed(format!(
                "inside the cluster {} is still {said}, after restarting CoreDNS {restarts} times: look at where CoreDNS forwards to \
                 (kubectl -n kube-system get configmap coredns)",
                target.name
            )));
        }
        if restart && restarted_at.elapsed() >= STALE {
            info!("inside the cluster {} is {said}: restarting CoreDNS", target.name);
            let (plan, report) = restart_coredns(cluster, COREDNS, &|line| info!("{line}")).await?;
            restarted_at = Instant::now();
            restarts += u64::from(plan.count() > 0 && report.is_complete());
        }
        tokio::time::sleep(PAUSE).await;
    }
}
