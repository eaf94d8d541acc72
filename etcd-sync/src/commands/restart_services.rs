//! `etcd-sync restart-services`: restarts what holds old state after a switch.

use anyhow::{Result, bail};
use etcd_sync_operations::restart::{RestartPlan, RestartReport};
use etcd_sync_program::args::TableOutput;
use etcd_sync_program::config::{Config, RestartConfig, RestartServicesConfig};
use serde_json::json;

use crate::cluster::{Cluster, Error, restart};
use crate::output::{Answer, Outcome, print, print_json, refused, typed};

/// Plans, asks, deletes, waits. Exit code 1: refused, or something is not ready again; an error: a cluster could not be asked,
/// and the others were restarted all the same.
pub async fn run(config: Config, options: RestartServicesConfig) -> Result<Outcome> {
    let RestartConfig { labels, workload_labels, workload_kubeconfigs, timeout, .. } = &options.restart;
    let standby = match labels.is_empty() {
        true => None,
        false => Some(Cluster::standby(&config.api_servers).await?.ok_or(Error::NoApiServer)?),
    };
    let workloads = Cluster::workloads(workload_kubeconfigs).await?;
    let of_standby = standby.iter().map(|cluster| (cluster, &labels[..]));
    let work: Vec<_> = of_standby.chain(workloads.iter().map(|cluster| (cluster, &workload_labels[..]))).collect();
    let plan = restart::plan(&work).await;
    let count = plan.count();
    if options.output == TableOutput::Table {
        print(&plan.text());
    }
    let tell = |refused: Option<&str>, result: Option<&RestartReport>| {
        if options.output == TableOutput::Json {
            print_json(&json!({ "plan": plan, "refused": refused, "result": result }));
        }
    };
    if options.dry_run || count == 0 {
        tell(None, None);
        return outcome(&plan, None);
    }
    let question = format!("Type the number of pods ({count}) to restart them, anything else to leave them: ");
    if let Answer::No(why) = typed(&question, &count.to_string(), options.yes, options.output)? {
        tell(Some(&why.to_string()), None);
        return Ok(refused(&format!("nothing was restarted: {why}")));
    }
    let clusters: Vec<&Cluster> = work.iter().map(|(cluster, _)| *cluster).collect();
    let report = restart::execute(&clusters, &plan, *timeout, &|step| tracing::info!("{step}")).await?;
    tell(None, Some(&report));
    if options.output == TableOutput::Table {
        print(&format!("\n{}", report.text()));
    }
    outcome(&plan, Some(&report))
}

fn outcome(plan: &RestartPlan, report: Option<&RestartReport>) -> Result<Outcome> {
    let mut failed = plan.unasked();
    failed.extend(report.map(RestartReport::failed).unwrap_or_default());
    if !failed.is_empty() {
        bail!(
            "not everything could be done in {} (see above); run it again when the reason is gone",
            failed.join(", ")
        );
    }
    let good = !plan.needs_a_hand() && report.is_none_or(RestartReport::is_complete);
    Ok(if good { Outcome::Success } else { Outcome::Differences })
}
