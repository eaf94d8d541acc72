//! What an API server says about itself. It may help and is never needed: a failure is a fact like others.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use etcd_sync_cluster::{Access, Cluster, Error as ClusterError, client};
use etcd_sync_operations::api_server::ApiServer;
use etcd_sync_operations::preflight::ApiFact;
use etcd_sync_operations::text::causes;
use kube::Client;

/// One that does not answer must not block a synchronization.
const TIMEOUT: Duration = Duration::from_secs(3);

/// What to do about flags or files that no client can be made of.
pub const UNUSABLE: &str = "fix the named file, or give another one; without authorities the system's are taken";

/// Asks for the version and for what is served.
pub async fn facts(cluster: Result<Option<Cluster>, ClusterError>) -> ApiFact {
    let cluster = match cluster {
        Ok(Some(cluster)) => cluster,
        Ok(None) => return ApiFact::NotAsked,
        Err(error) => return ApiFact::Failed { why: error.to_string(), fix: UNUSABLE.to_owned() },
    };
    let asked = tokio::time::timeout(TIMEOUT, ask(&cluster)).await;
    match asked.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer within {TIMEOUT:?}"))) {
        Ok(fact) => fact,
        Err(error) => {
            let access = cluster.access();
            ApiFact::Failed {
                why: format!("{}: {}", access.url(), causes(error.as_ref())),
                fix: remedy(access, &error),
            }
        }
    }
}

/// Whether it answers at all, be it with a refusal.
pub async fn answers(server: &ApiServer) -> bool {
    let asked = async {
        match client(server) {
            Ok(client) => match client.apiserver_version().await {
                Err(error) => matches!(error, kube::Error::Api(_)),
                Ok(_) => true,
            },
            Err(_) => false,
        }
    };
    tokio::time::timeout(TIMEOUT, asked).await.unwrap_or(false)
}

async fn ask(cluster: &Cluster) -> Result<ApiFact> {
    let client = cluster.client();
    let version = client.apiserver_version().await?.git_version;
    // The version is for everybody, what is served is for those who are known.
    let serves = served(&client).await.ok();
    Ok(ApiFact::Answered { version, serves })
}

/// Every `apiVersion` that is served.
async fn served(client: &Client) -> Result<BTreeSet<String>, kube::Error> {
    let (core, groups) = tokio::try_join!(client.list_core_api_versions(), client.list_api_groups())?;
    let grouped = groups.groups.into_iter().flat_map(|group| group.versions).map(|version| version.group_version);
    Ok(core.versions.into_iter().chain(grouped).collect())
}

/// What to do about a server that does not answer.
pub fn remedy(access: &Access, error: &anyhow::Error) -> String {
    let (address, token, cacert) = match access {
        Access::Kubeconfig(_) => {
            ("the server of --standby-kubeconfig", "the user of --standby-kubeconfig", "the authorities it holds")
        }
        Access::Server(server) => match server.flag {
            Some("active-cluster-vip") => {
                ("--active-cluster-vip", "--active-cluster-token-file", "--active-cluster-cacert")
            }
            Some(_) => ("--standby-api-server", "--standby-api-token-file", "--standby-api-cacert"),
            None => ("the pod's network", "the service account's token", "the service account's ca.crt"),
        },
    };
    let refused = matches!(error.downcast_ref::<kube::Error>(), Some(kube::Error::Api(status)) if matches!(status.code, 401 | 403));
    let text = format!("{error:#}").to_lowercase();
    if refused {
        format!("check {token}: it is refused")
    } else if text.contains("certificate") {
        format!("check {cacert}: it must hold the authorities of that server, and the certificate that address")
    } else {
        format!("check {address}, {token} and {cacert}; the synchronization goes on without it")
    }
}
