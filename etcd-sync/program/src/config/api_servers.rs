//! How the flags, or the cluster around, say to reach the API servers.

use std::path::PathBuf;

use etcd_sync_operations::api_server::{ApiServer, ApiServers};

use super::environment::{SERVICE_ACCOUNT, service_host, variable};
use crate::args::{ArgsError, Environment, KubernetesArgs};

/// What the flags say, and for the standby the cluster around.
pub(super) fn api_servers(args: KubernetesArgs, environment: &Environment) -> Result<ApiServers, ArgsError> {
    let server = |flag: &'static str, url: Option<String>, files: [(&'static str, Option<PathBuf>); 2]| {
        let Some(url) = url else {
            let given = files.into_iter().find(|(_, file)| file.is_some());
            return given.map_or(Ok(None), |(given, _)| {
                Err(ArgsError::Useless { given: given.to_owned(), missing: flag.to_owned() })
            });
        };
        let [(_, token_file), (_, cacert)] = files;
        Ok(Some(ApiServer { url, token_file, cacert, flag: Some(flag) }))
    };
    let primary = server(
        "active-cluster-vip",
        args.active_cluster_vip.map(|address| format!("https://{address}")),
        [
            ("active-cluster-token-file", args.active_cluster_token_file),
            ("active-cluster-cacert", args.active_cluster_cacert),
        ],
    )?;
    let standby = server(
        "standby-api-server",
        args.standby_api_server,
        [("standby-api-token-file", args.standby_api_token_file), ("standby-api-cacert", args.standby_api_cacert)],
    )?;
    Ok(ApiServers {
        primary,
        standby: standby.or_else(|| around(environment)),
        standby_kubeconfig: args.standby_kubeconfig,
    })
}

/// The API server of the cluster this program runs in. A synchronizer runs in the standby.
fn around(environment: &Environment) -> Option<ApiServer> {
    let host = service_host(environment)?;
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let port = variable(environment, "KUBERNETES_SERVICE_PORT").unwrap_or("443");
    let file = |name: &str| Some(PathBuf::from(SERVICE_ACCOUNT).join(name));
    Some(ApiServer {
        url: format!("https://{host}:{port}"),
        token_file: file("token"),
        cacert: file("ca.crt"),
        flag: None,
    })
}
