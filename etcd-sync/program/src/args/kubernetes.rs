//! The API servers of the two clusters and their encryption at rest. All of it is optional.

use std::path::PathBuf;

use clap::Args;

use super::values::{api_server, vip};

/// The flags about encryption at rest and the API servers.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Kubernetes")]
pub struct KubernetesArgs {
    /// The EncryptionConfiguration of the API servers (their --encryption-provider-config), the same on both sides: read
    /// again when it changes. Without it, values that are encrypted at rest cannot be decrypted and checked
    #[arg(long, global = true, value_name = "FILE")]
    pub encryption_config: Option<PathBuf>,

    /// Address of the primary's API server, default port 6443; only its version and its API resources are read
    #[arg(long, global = true, value_name = "HOST[:PORT]", value_parser = vip)]
    pub active_cluster_vip: Option<String>,

    /// File with a token for the primary's API server; read again at every use
    #[arg(long, global = true, value_name = "FILE")]
    pub active_cluster_token_file: Option<PathBuf>,

    /// PEM file with the CA certificates that signed the certificate of the primary's API server; default: the file ca.crt
    /// beside --active-cluster-token-file if there is one, else the CA certificates of the system
    #[arg(long, global = true, value_name = "FILE")]
    pub active_cluster_cacert: Option<PathBuf>,

    /// URL of the standby's own API server; default: in a pod that of its cluster, else none
    #[arg(long, global = true, value_name = "URL", value_parser = api_server)]
    pub standby_api_server: Option<String>,

    /// File with a token for the standby's API server; read again at every use; default in a pod: the service
    /// account's
    #[arg(long, global = true, value_name = "FILE")]
    pub standby_api_token_file: Option<PathBuf>,

    /// PEM file with the CA certificates that signed the certificate of the standby's API server; default as for
    /// --active-cluster-cacert
    #[arg(long, global = true, value_name = "FILE")]
    pub standby_api_cacert: Option<PathBuf>,

    /// Kubeconfig of the standby, its current context: every command except run uses it for the API server, instead of
    /// --standby-api-server
    #[arg(long, global = true, value_name = "FILE")]
    pub standby_kubeconfig: Option<PathBuf>,
}
