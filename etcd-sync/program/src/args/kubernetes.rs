//! What is known about the two Kubernetes clusters beside their etcds. All of it is optional.

use std::path::PathBuf;

use clap::Args;

use super::values::{api_server, vip};

/// The flags about encryption at rest and the API servers.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Kubernetes")]
pub struct KubernetesArgs {
    /// The EncryptionConfiguration of the API servers (their --encryption-provider-config), the same on both sides: read
    /// again whenever a session begins. Without it nothing can be told about values that are encrypted at rest
    #[arg(long, global = true, value_name = "FILE")]
    pub encryption_config: Option<PathBuf>,

    /// Address of the primary's API server, port 6443 unless given; only asked for its version and what it serves
    #[arg(long, global = true, value_name = "HOST[:PORT]", value_parser = vip)]
    pub active_cluster_vip: Option<String>,

    /// File with a token for the primary's API server; read again at every use
    #[arg(long, global = true, value_name = "FILE")]
    pub active_cluster_token_file: Option<PathBuf>,

    /// PEM file with the authorities that signed the certificate of the primary's API server; default: the file ca.crt
    /// beside --active-cluster-token-file where there is one, else the system's authorities
    #[arg(long, global = true, value_name = "FILE")]
    pub active_cluster_cacert: Option<PathBuf>,

    /// URL of the standby's own API server; default: inside of a cluster that cluster's, else it is not asked
    #[arg(long, global = true, value_name = "URL", value_parser = api_server)]
    pub standby_api_server: Option<String>,

    /// File with a token for the standby's API server; read again at every use; default inside of a cluster: the service
    /// account's
    #[arg(long, global = true, value_name = "FILE")]
    pub standby_api_token_file: Option<PathBuf>,

    /// PEM file with the authorities that signed the certificate of the standby's API server; default as with
    /// --active-cluster-cacert
    #[arg(long, global = true, value_name = "FILE")]
    pub standby_api_cacert: Option<PathBuf>,

    /// Kubeconfig of the standby, in its current context: how every command but run talks to its API server, instead of
    /// --standby-api-server
    #[arg(long, global = true, value_name = "FILE")]
    pub standby_kubeconfig: Option<PathBuf>,
}
