//! What an API server says about itself. It may help and is never needed: a failure is a fact like others.

use etcd_sync_program::config::ApiServer;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use etcd_sync_core::preflight::ApiFact;
use kube::{Client, Config};

/// One that does not answer must not hold up a synchronization.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Asks for the version and for what is served.
pub async fn facts(server: Option<&ApiServer>) -> ApiFact {
    let Some(server) = server else { return ApiFact::NotAsked };
    let asked = tokio::time::timeout(TIMEOUT, ask(server)).await;
    match asked.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer within {TIMEOUT:?}"))) {
        Ok(fact) => fact,
        Err(error) => ApiFact::Failed { why: format!("{}: {error:#}", server.url), fix: remedy(server, &error) },
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

/// The client of an API server; nothing is sent yet. Token and authorities are read again as time goes by.
///
/// # Errors
/// A file that cannot be read or used.
pub fn client(server: &ApiServer) -> Result<Client> {
    let mut config = Config::new(server.url.parse().context("this is not the URL of an API server")?);
    config.root_cert_file = authorities(server);
    if let Some(file) = &server.token_file {
        let token = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        anyhow::ensure!(!token.trim().is_empty(), "{} is empty, a token was expected", file.display());
        config.auth_info.token_file = Some(file.display().to_string());
    }
    config.connect_timeout = Some(TIMEOUT);
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}

/// The file with the authorities of an API server; `None`: the system's are used.
pub fn authorities(server: &ApiServer) -> Option<PathBuf> {
    server.cacert.clone().or_else(|| beside(server.token_file.as_deref()?))
}

async fn ask(server: &ApiServer) -> Result<ApiFact> {
    let client = client(server)?;
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

/// A Secret with a service account's token holds the authorities, too.
fn beside(token: &Path) -> Option<PathBuf> {
    Some(token.with_file_name("ca.crt")).filter(|file| file.exists())
}

/// What to do about a server that does not answer.
pub fn remedy(server: &ApiServer, error: &anyhow::Error) -> String {
    let (address, token, cacert) = match server.flag {
        Some("active-cluster-vip") => {
            ("--active-cluster-vip", "--active-cluster-token-file", "--active-cluster-cacert")
        }
        Some(_) => ("--standby-api-server", "--standby-api-token-file", "--standby-api-cacert"),
        None => ("the pod's network", "the service account's token", "the service account's ca.crt"),
    };
    let refused = matches!(error.downcast_ref::<kube::Error>(), Some(kube::Error::Api(status)) if matches!(status.code, 401 | 403));
    let text = format!("{error:#}").to_lowercase();
    if refused {
        format!("check {token}: the token is refused")
    } else if text.contains("certificate") {
        format!("check {cacert}: it must hold the authorities of that server, and the certificate that address")
    } else {
        format!("check {address}, {token} and {cacert}; the synchronization goes on without it")
    }
}
