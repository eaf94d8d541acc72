//! The flags about pods to restart, and those of `restart-services`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use etcd_sync_operations::nslookup::PodRef;
use etcd_sync_operations::restart::{SERVICES, WORKLOAD_SERVICES};

use super::TableOutput;
use super::switch::Switch;
use super::values::{duration, pod, some_text};

/// What is restarted, and where a name is looked up: of every command that does either.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Restarts")]
pub struct RestartArgs {
    /// Restart the pods with these labels on the standby, in all namespaces, where there are any; a selector as kubectl's -l
    /// takes it. May be repeated. The list given REPLACES the default one; `none` restarts nothing there
    #[arg(long, value_name = "SELECTOR", value_parser = some_text, default_values = SERVICES)]
    pub restart_labels: Vec<String>,

    /// The same in the workload clusters
    #[arg(long, value_name = "SELECTOR", value_parser = some_text, default_values = WORKLOAD_SERVICES)]
    pub workload_restart_labels: Vec<String>,

    /// Kubeconfigs of workload clusters, each in its current context, comma separated or repeated
    #[arg(long, value_name = "FILE,...", value_delimiter = ',')]
    pub workload_kubeconfig: Vec<PathBuf>,

    /// How long to wait until what was restarted is ready again (1s to 1d)
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration("1s", "1d"))]
    pub restart_timeout: Duration,

    /// The pod on the standby in which nslookup runs; of a deployment, a statefulset or a daemonset one that is ready
    #[arg(
        long, value_name = "NAMESPACE/KIND/NAME", default_value = "cpaas-system/deployments/sentry", value_parser = pod
    )]
    pub lookup_pod: PodRef,
}

/// `etcd-sync restart-services`.
#[derive(Clone, Debug, Args)]
pub struct RestartServicesArgs {
    /// What is restarted.
    #[command(flatten)]
    pub restart: RestartArgs,

    /// Form of the output on stdout; JSON cannot ask, so it needs --yes or --dry-run
    #[arg(short, long, value_name = "FORMAT", default_value = "table", help_heading = "Output")]
    pub output: TableOutput,

    /// Stop after the plan
    #[arg(long, switch = false, help_heading = "Guards")]
    pub dry_run: bool,

    /// Skip the confirmation
    #[arg(long, switch = false, help_heading = "Guards")]
    pub yes: bool,
}

#[cfg(test)]
mod tests {
    use super::super::{Environment, parse_from};
    use crate::config::{CommandConfig, Config, RestartServicesConfig};

    fn config(args: &[&str]) -> Result<Config, String> {
        let environment = Environment::new();
        let args = ["etcd-sync", "restart-services"].iter().chain(args);
        parse_from(args, &environment).and_then(|cli| Config::new(cli, &environment)).map_err(|error| error.to_string())
    }

    fn restart(args: &[&str]) -> RestartServicesConfig {
        match config(args).map(|made| made.command) {
            Ok(CommandConfig::RestartServices(restart)) => restart,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_runbook_s_services_are_restarted_by_default_and_no_etcd_is_needed() {
        let made = restart(&[]);
        assert_eq!(made.restart.labels.len(), 3);
        assert_eq!(made.restart.workload_labels, ["service_name=warlock"]);
        assert_eq!(made.restart.lookup_pod.to_string(), "cpaas-system/deployments/sentry");
        assert_eq!((made.dry_run, made.yes, made.restart.timeout.as_secs()), (false, false, 600));
    }

    #[test]
    fn selectors_keep_their_commas_and_none_is_a_word() {
        let made = restart(&[
            "--restart-labels=a in (b,c),d",
            "--restart-labels=e=f",
            "--workload-restart-labels=none",
            "--workload-kubeconfig=x,y",
            "--standby-kubeconfig=/etc/kubernetes/admin.conf",
        ]);
        assert_eq!(made.restart.labels, ["a in (b,c),d", "e=f"]);
        assert_eq!((made.restart.workload_labels.len(), made.restart.workload_kubeconfigs.len()), (0, 2));
        for (bad, expected) in [
            ("--restart-labels=", "not empty"),
            ("--lookup-pod=sentry", "NAMESPACE/KIND/NAME"),
            ("--restart-timeout=soon", "expected a duration"),
        ] {
            let error = config(&[bad]).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
