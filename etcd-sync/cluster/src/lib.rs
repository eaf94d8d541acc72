//! The API servers of clusters, as the failover commands use them: pods restarted, names looked up, machines and kinds listed.

mod access;
mod client;
mod error;
pub mod kinds;
pub mod lease;
pub mod lookup;
pub mod machines;
mod pods;
pub mod restart;
pub mod secrets;

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use etcd_sync_operations::api_server::{ApiServer, ApiServers};
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

pub use access::{Access, KubeconfigFile};
pub use client::{authorities, client};
pub use error::Error;
use error::ask;

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Objects of one page of a list.
const PAGE: u32 = 500;

/// A cluster's API server, with a name for people.
#[derive(Clone)]
pub struct Cluster {
    name: String,
    client: Client,
    access: Access,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Cluster {
    /// The standby: by --standby-kubeconfig, else by --standby-api-server, else the cluster around; `None`: it is not known.
    /// Nothing is sent yet.
    pub async fn standby(servers: &ApiServers) -> Result<Option<Cluster>, Error> {
        match (&servers.standby_kubeconfig, &servers.standby) {
            (Some(file), _) => Cluster::from_kubeconfig("standby", file).await.map(Some),
            (None, Some(server)) => Cluster::from_flags("standby", server).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// The primary, where --active-cluster-vip gives its address. Nothing is sent yet.
    pub fn primary(servers: &ApiServers) -> Result<Option<Cluster>, Error> {
        servers.primary.as_ref().map(|server| Cluster::from_flags("primary", server)).transpose()
    }

    fn from_flags(name: &str, server: &ApiServer) -> Result<Cluster, Error> {
        let client = client(server).map_err(|source| Error::Client { cluster: name.into(), source })?;
        Ok(Cluster { name: name.to_owned(), client, access: Access::Server(server.clone()) })
    }

    /// The current context of a kubeconfig. Nothing is sent yet.
    pub async fn from_kubeconfig(name: impl Into<String>, file: &Path) -> Result<Cluster, Error> {
        let bad =
            |source: Box<dyn std::error::Error + Send + Sync>| Error::Kubeconfig { file: file.to_owned(), source };
        let kubeconfig = Kubeconfig::read_from(file).map_err(|error| bad(error.into()))?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        let mut config = config.map_err(|error| bad(error.into()))?;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        config.default_retry = false;
        let access = Access::Kubeconfig(KubeconfigFile::new(file, &config));
        Ok(Cluster { name: name.into(), client: Client::try_from(config).map_err(|error| bad(error.into()))?, access })
    }

    /// The clusters of these kubeconfigs, each named after its file: by its last part where that is unique.
    pub async fn workloads(files: &[PathBuf]) -> Result<Vec<Cluster>, Error> {
        let short = |file: &PathBuf| file.file_name().map(|name| name.to_string_lossy().into_owned());
        let unique = files.iter().map(short).collect::<HashSet<_>>().len() == files.len();
        let mut clusters = Vec::new();
        for file in files {
            let name =
                short(file).filter(|name| unique && name != "standby").unwrap_or_else(|| file.display().to_string());
            clusters.push(Cluster::from_kubeconfig(name, file).await?);
        }
        Ok(clusters)
    }

    /// Its name, for people and in plans.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it is reached.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Its client.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// One request, or a few that belong together; `what` completes "cannot …".
    async fn ask<T>(&self, what: &str, request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Error> {
        ask(&self.name, what, request).await
    }
}

/// A page of a list, after the page that gave `token`.
fn page(token: Option<String>) -> ListParams {
    ListParams { limit: Some(PAGE), continue_token: token, ..ListParams::default() }
}

/// The token of the next page; none when this is the last.
fn next(token: Option<String>) -> Option<String> {
    token.filter(|token| !token.is_empty())
}
