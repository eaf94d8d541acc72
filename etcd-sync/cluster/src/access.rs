//! How an API server is reached: what its certificates and messages are about.

use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use etcd_sync_operations::api_server::ApiServer;
use kube::Config;

/// How an API server is reached.
#[derive(Clone, Debug)]
pub enum Access {
    /// By flags; or it is the one of the cluster around.
    Server(ApiServer),
    /// By a kubeconfig.
    Kubeconfig(KubeconfigFile),
}

/// What the current context of a kubeconfig holds.
#[derive(Clone)]
pub struct KubeconfigFile {
    /// The file.
    pub file: PathBuf,
    /// URL of the API server.
    pub url: String,
    /// The name that its certificate must have instead of the URL's host.
    pub server_name: Option<String>,
    /// The authorities of the API server, each in its binary form (DER).
    pub authorities: Vec<Vec<u8>>,
    /// The client's certificate (PEM), which may have its key beside it, or why it cannot be read; `None`: another
    /// kind of authentication is used.
    pub client: Option<Result<Vec<u8>, String>>,
}

impl fmt::Debug for KubeconfigFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KubeconfigFile").field("file", &self.file).field("url", &self.url).finish_non_exhaustive()
    }
}

impl Access {
    /// URL of the API server.
    pub fn url(&self) -> &str {
        match self {
            Access::Server(server) => &server.url,
            Access::Kubeconfig(file) => &file.url,
        }
    }

    /// The name that its certificate must have instead of the URL's host.
    pub fn server_name(&self) -> Option<&str> {
        match self {
            Access::Server(_) => None,
            Access::Kubeconfig(file) => file.server_name.as_deref(),
        }
    }
}

impl KubeconfigFile {
    pub(crate) fn new(file: &Path, config: &Config) -> KubeconfigFile {
        let auth = &config.auth_info;
        // As the client itself: what is written there goes before what is named.
        let inline = auth.client_certificate_data.as_ref();
        let inline = inline.map(|text| STANDARD.decode(text.trim()).map_err(|error| error.to_string()));
        let named = || Some(std::fs::read(auth.client_certificate.as_ref()?).map_err(|error| error.to_string()));
        KubeconfigFile {
            file: file.to_owned(),
            url: config.cluster_url.to_string().trim_end_matches('/').to_owned(),
            server_name: config.tls_server_name.clone(),
            authorities: config.root_cert.clone().unwrap_or_default(),
            client: inline.or_else(named),
        }
    }
}
