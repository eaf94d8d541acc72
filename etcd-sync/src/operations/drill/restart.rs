//! What would be restarted is found, and left alone.

use std::time::Instant;

use etcd_sync_cluster::{Cluster, restart as pods};
use etcd_sync_operations::drill::{Part, PartName, Trial};
use etcd_sync_operations::preflight::Level;
use etcd_sync_operations::restart::ClusterPlan;
use etcd_sync_operations::text::count;

use super::{part, trial};
use crate::operations::procedure::Context;

/// Looks for the pods, on the standby and in the workload clusters.
pub async fn restart(context: &Context<'_>) -> Part {
    let Some(standby) = context.standby else {
        return Part::skipped(PartName::Restart, "no API server of the standby is known (--standby-api-server)");
    };
    let began = Instant::now();
    let config = &context.procedure.restart;
    let mut trials = Vec::new();
    let workloads = match Cluster::workloads(&config.workload_kubeconfigs).await {
        Ok(workloads) => workloads,
        Err(error) => {
            trials.push(trial("workload clusters", Level::Fail, error.to_string()));
            Vec::new()
        }
    };
    let of_workloads = workloads.iter().map(|cluster| (cluster, &config.workload_labels[..]));
    let work: Vec<_> = std::iter::once((standby, &config.labels[..])).chain(of_workloads).collect();
    trials.extend(pods::plan(&work).await.clusters.iter().map(found));
    part(PartName::Restart, began, trials)
}

fn found(plan: &ClusterPlan) -> Trial {
    if let Some(error) = &plan.error {
        return trial(&plan.cluster, Level::Fail, error);
    }
    let pods = |number: usize| count(number as u64, "pod");
    let services =
        plan.services.iter().map(|service| format!("{} ({})", pods(service.pods.len()), service.selection.selector));
    let mut what = format!("would be restarted: {}", services.collect::<Vec<_>>().join(", "));
    let left = plan.services.iter().flat_map(|service| &service.left).filter(|pod| pod.reason.needs_a_hand());
    let left: Vec<String> =
        left.map(|pod| format!("{}/{} would stay: {}", pod.namespace, pod.name, pod.reason.text())).collect();
    let level = if left.is_empty() { Level::Pass } else { Level::Warn };
    left.iter().for_each(|pod| what += &format!("; {pod}"));
    trial(&plan.cluster, level, what)
}
