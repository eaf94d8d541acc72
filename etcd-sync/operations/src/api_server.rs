//! How to reach the API servers of both clusters.

use std::path::PathBuf;

/// The API servers of both clusters; `None`: nobody said where it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiServers {
    /// The primary's.
    pub primary: Option<ApiServer>,
    /// The standby's.
    pub standby: Option<ApiServer>,
    /// A kubeconfig of the standby; the failover commands prefer it.
    pub standby_kubeconfig: Option<PathBuf>,
}

/// How to reach an API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiServer {
    /// `https://host:port`.
    pub url: String,
    /// File with a token; without one requests are anonymous.
    pub token_file: Option<PathBuf>,
    /// PEM file with the authorities; `None`: `ca.crt` beside the token if it exists, else the system's.
    pub cacert: Option<PathBuf>,
    /// The flag that names it, for messages; `None` for the cluster this program runs in.
    pub flag: Option<&'static str>,
}

impl ApiServers {
    /// As a pod reaches them: a kubeconfig that a shared --config names lies on the operators' machines.
    pub fn of_pod(&self) -> ApiServers {
        ApiServers { standby_kubeconfig: None, ..self.clone() }
    }
}
