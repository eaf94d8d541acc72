//! How a test asks for a control plane.

use std::net::IpAddr;

use crate::tools::KubernetesVersion;

/// What kind of control plane to start. Meant for struct update: `PlaneOptions { version, ..Default::default() }`.
#[derive(Clone, Debug)]
pub struct PlaneOptions {
    /// The release of both programs.
    pub version: KubernetesVersion,
    /// The content of kube-apiserver's `--encryption-provider-config`; `None` stores everything in clear.
    pub encryption: Option<String>,
    /// Where the cluster IPs come from.
    pub service_cidr: String,
    /// The address the API server calls its own: in `masterleases/` and the endpoints of `default/kubernetes`.
    pub advertise_address: String,
    /// Addresses beside 127.0.0.1 under which clients reach its API server: the certificate carries them.
    pub addresses: Vec<IpAddr>,
    /// `Name=true,…` of `--feature-gates` of the API server.
    pub feature_gates: String,
    /// The API server's `--etcd-prefix`.
    pub etcd_prefix: String,
    /// Whether kube-controller-manager runs from the start.
    pub controllers: bool,
    /// Flags of kube-apiserver added last, so that they win.
    pub apiserver_args: Vec<String>,
    /// Flags of kube-controller-manager added last.
    pub controller_args: Vec<String>,
}

impl Default for PlaneOptions {
    fn default() -> Self {
        PlaneOptions {
            version: KubernetesVersion::default(),
            encryption: None,
            service_cidr: "10.96.0.0/16".to_owned(),
            advertise_address: "192.0.2.1".to_owned(),
            addresses: Vec::new(),
            feature_gates: String::new(),
            etcd_prefix: "/registry".to_owned(),
            controllers: true,
            apiserver_args: Vec::new(),
            controller_args: Vec::new(),
        }
    }
}
