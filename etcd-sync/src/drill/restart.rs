//! What would be restarted is found, and left alone.

use std::time::Instant;

use anyhow::Result;
use etcd_sync_cluster::{Cluster, restart as pods};
use etcd_sync_core::drill::{Part, PartName};
use etcd_sync_core::preflight::Level;
use etcd_sync_core::text::count;

use super::{part, trial};
use crate::procedure::Context;

/// Looks for the pods, on the standby and in the workload clusters.
///
/// # Errors
/// A kubeconfig cannot be used.
pub async fn restart(context: &Context<'_>) -> Result<Part> {
    let Some(standby) = context.standby else {
        return Ok(Part::skipped(PartName::Restart, "no API server of the standby is known (--standby-api-server)"));
    };
    let began = Instant::now();
    let config = &context.procedure.restart;
    let workloads = Cluster::workloads(&config.workload_kubeconfigs).await?;
    let of_workloads = workloads.iter().map(|cluster| (cluster, &config.workload_labels[..]));
    let work: Vec<_> = std::iter::once((standby, &config.labels[..])).chain(of_workloads).collect();
    let plan = pods::plan(&work).await;
    let trials = plan.clusters.iter().map(|cluster| match &cluster.error {
        Some(error) => trial(&cluster.cluster, Level::Fail, error),
        None => {
            let found = cluster.services.iter().map(|service| service.pods.len() as u64).sum();
            let hand =
                cluster.services.iter().flat_map(|service| &service.left).filter(|pod| pod.reason.needs_a_hand());
            let level = if hand.count() > 0 { Level::Warn } else { Level::Pass };
            trial(&cluster.cluster, level, format!("{} would be restarted", count(found, "pod")))
        }
    });
    Ok(part(PartName::Restart, began, trials.collect()))
}
