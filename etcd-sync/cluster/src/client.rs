//! The client of an API server that flags name.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use etcd_sync_program::config::ApiServer;
use kube::{Client, Config};

/// One that does not answer must not hold up a synchronization.
const TIMEOUT: Duration = Duration::from_secs(3);

/// The client of an API server; nothing is sent yet. Token and authorities are read again as time goes by.
///
/// # Errors
/// A file that cannot be read or used.
pub fn client(server: &ApiServer) -> Result<Client> {
    let mut config = Config::new(server.url.parse().context("this is not the URL of an API server")?);
    config.root_cert_file = authorities(server);
    // Else the system's authorities are looked for as well, and an image of this program alone has none.
    config.root_cert = config.root_cert_file.as_ref().map(|_| Vec::new());
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

/// A Secret with a service account's token holds the authorities, too.
fn beside(token: &Path) -> Option<PathBuf> {
    Some(token.with_file_name("ca.crt")).filter(|file| file.exists())
}
