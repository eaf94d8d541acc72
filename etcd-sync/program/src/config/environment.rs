//! What a process finds around itself: its pod, its cluster, its host.

use std::path::PathBuf;

use crate::args::Environment;

/// What every pod finds in itself, unless its service account is not mounted.
pub(super) const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Where the API server of the cluster around is; only a pod is told.
pub(super) fn service_host(environment: &Environment) -> Option<&str> {
    variable(environment, "KUBERNETES_SERVICE_HOST")
}

pub(super) fn variable<'a>(environment: &'a Environment, name: &str) -> Option<&'a str> {
    environment.get(name)?.to_str().filter(|value| !value.is_empty())
}

/// The namespace of this pod; `None` outside of a cluster.
pub(super) fn namespace(environment: &Environment) -> Option<String> {
    service_host(environment)?;
    let told = variable(environment, "POD_NAMESPACE").map(str::to_owned);
    let mounted = || std::fs::read_to_string(PathBuf::from(SERVICE_ACCOUNT).join("namespace")).ok();
    told.or_else(mounted).map(|name| name.trim().to_owned()).filter(|name| !name.is_empty())
}

/// The name of this host.
pub(super) fn host(environment: &Environment) -> String {
    let kernel = || std::fs::read_to_string(PathBuf::from("/proc/sys/kernel/hostname")).ok();
    let name = variable(environment, "HOSTNAME").map(str::to_owned).or_else(kernel).unwrap_or_default();
    match name.trim() {
        "" => "unknown-host".to_owned(),
        name => name.to_owned(),
    }
}
