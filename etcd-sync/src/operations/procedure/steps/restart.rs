//! What holds old state is restarted.

use anyhow::{Context as _, Result};
use etcd_sync_cluster::{Cluster, restart};
use etcd_sync_operations::procedure::{Outcome, Step};
use etcd_sync_operations::restart::{ELASTICSEARCH, OwnerReport, RestartPlan};
use etcd_sync_operations::text::count;
use tracing::info;

use crate::operations::procedure::Context;
use crate::operations::procedure::journal::Journal;

/// Restarts the pods with the labels of a step: [`Step::RestartFirst`] or [`Step::RestartServices`]. Which pods that are is
/// noted before the first is deleted, so that another attempt deletes no others; it only asks clusters that gave no answer.
pub async fn restart_services(context: &Context<'_>, step: Step, journal: &mut Journal) -> Result<Outcome> {
    let config = &context.procedure.restart;
    let Some(standby) = context.standby else {
        return Ok(Outcome::Skipped("no API server of the standby is known".into()));
    };
    let first = [ELASTICSEARCH.to_owned()];
    let (labels, workloads) = match step {
        Step::RestartFirst if !config.labels.contains(&first[0]) => (&first[..0], Vec::new()),
        Step::RestartFirst => (&first[..], Vec::new()),
        _ => (&config.labels[..], Cluster::workloads(&config.workload_kubeconfigs).await?),
    };
    if labels.is_empty() && workloads.is_empty() {
        return Ok(Outcome::Skipped("nothing is to be restarted".into()));
    }
    let mut plan: RestartPlan = match journal.run().note(step) {
        Some(note) => serde_json::from_value(note.clone()).context("the journal's list of pods cannot be read")?,
        None => RestartPlan::default(),
    };
    let of_standby = std::iter::once((standby, labels));
    let work = of_standby.chain(workloads.iter().map(|cluster| (cluster, &config.workload_labels[..])));
    let work: Vec<_> = work.filter(|(cluster, _)| !plan.knows(cluster.name())).collect();
    if !work.is_empty() {
        plan.complete(restart::plan(&work).await);
        journal.note(serde_json::to_value(&plan)?).await?;
    }
    if plan.finds_nothing() {
        return Ok(Outcome::Skipped(format!("nothing of {} is installed", labels.join("; "))));
    }
    let clusters: Vec<&Cluster> = std::iter::once(standby).chain(&workloads).collect();
    let report = restart::execute(&clusters, &plan, config.timeout, &|line| info!("{line}")).await?;
    let mut wrong: Vec<String> = Vec::new();
    for part in &plan.clusters {
        wrong.extend(part.error.as_ref().map(|error| format!("{}: {error}", part.cluster)));
        let left = part.services.iter().flat_map(|service| &service.left).filter(|pod| pod.reason.needs_a_hand());
        wrong.extend(left.map(|pod| format!("{}/{} {}", pod.namespace, pod.name, pod.reason.text())));
    }
    let named = |(cluster, owner): (&str, &OwnerReport)| {
        format!("{cluster}: {}: {}", owner.title(), owner.waiting().unwrap_or_default())
    };
    wrong.extend(report.waiting().map(named));
    wrong.extend(report.failed().iter().map(|cluster| format!("{cluster}: not all pods could be deleted")));
    Ok(match wrong.is_empty() {
        true => Outcome::Done(format!("{} restarted and ready", count(plan.count(), "pod"))),
        false => {
            Outcome::Warned(format!("not all is restarted: {}; see `etcd-sync restart-services`", wrong.join("; ")))
        }
    })
}
