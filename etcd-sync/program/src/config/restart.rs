//! What is restarted, and where a name is looked up.

use std::path::PathBuf;
use std::time::Duration;

use etcd_sync_operations::nslookup::PodRef;

use crate::args::{RestartArgs, RestartServicesArgs, TableOutput, or_none};

/// What is restarted, and where a name is looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartConfig {
    /// Label selectors of what is restarted on the standby.
    pub labels: Vec<String>,
    /// Label selectors of what is restarted in workload clusters.
    pub workload_labels: Vec<String>,
    /// Kubeconfigs of workload clusters.
    pub workload_kubeconfigs: Vec<PathBuf>,
    /// How long to wait until everything is ready again.
    pub timeout: Duration,
    /// The pod in which nslookup runs.
    pub lookup_pod: PodRef,
}

/// `restart-services`.
#[derive(Clone, Debug)]
pub struct RestartServicesConfig {
    /// What is restarted.
    pub restart: RestartConfig,
    /// Form of the output.
    pub output: TableOutput,
    /// Stop after the plan.
    pub dry_run: bool,
    /// Skip the confirmation.
    pub yes: bool,
}

impl From<RestartArgs> for RestartConfig {
    fn from(args: RestartArgs) -> RestartConfig {
        RestartConfig {
            labels: or_none(args.restart_labels),
            workload_labels: or_none(args.workload_restart_labels),
            workload_kubeconfigs: args.workload_kubeconfig,
            timeout: args.restart_timeout,
            lookup_pod: args.lookup_pod,
        }
    }
}

impl From<RestartServicesArgs> for RestartServicesConfig {
    fn from(args: RestartServicesArgs) -> RestartServicesConfig {
        let RestartServicesArgs { restart, output, dry_run, yes } = args;
        RestartServicesConfig { restart: restart.into(), output, dry_run, yes }
    }
}
