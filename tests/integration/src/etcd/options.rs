//! How a test asks for a cluster.

use std::net::IpAddr;

use crate::tools::EtcdVersion;

/// The user of a cluster with authentication.
pub const USER: &str = "root";
/// Its password. Clusters live for seconds on loopback; a fixed one survives a restored snapshot.
pub const PASSWORD: &str = "etcd-sync test password";

/// What kind of cluster to start. Meant for struct update: `ClusterOptions { members: 3, ..Default::default() }`.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// The release.
    pub version: EtcdVersion,
    /// 1 or 3 (or any odd number).
    pub members: usize,
    /// TLS for clients and peers, with client certificates demanded.
    pub tls: bool,
    /// Addresses beside 127.0.0.1 under which clients reach it: the members' certificate carries them.
    pub addresses: Vec<IpAddr>,
    /// Authentication by user and password.
    pub auth: bool,
    /// Size at which etcd refuses writes with NOSPACE; `None` is etcd's own default (2 GiB).
    pub quota_bytes: Option<u64>,
    /// Start with `--unsafe-no-fsync`, which is kind to the machine. A SIGKILL loses nothing: the page cache stays.
    pub no_fsync: bool,
    /// Flags added last, so that they win.
    pub extra_args: Vec<String>,
    /// The cluster token. `None` is a unique one, so that two clusters never have the same cluster id.
    pub token: Option<String>,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        ClusterOptions {
            version: EtcdVersion::default(),
            members: 1,
            tls: false,
            addresses: Vec::new(),
            auth: false,
            quota_bytes: None,
            no_fsync: true,
            extra_args: Vec::new(),
            token: None,
        }
    }
}

impl ClusterOptions {
    /// Three members.
    pub fn three() -> Self {
        ClusterOptions { members: 3, ..Default::default() }
    }

    /// TLS and authentication, as a hardened cluster has them.
    pub fn secured(self) -> Self {
        ClusterOptions { tls: true, auth: true, ..self }
    }
}
