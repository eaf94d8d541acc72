//! The client of an API server that flags name.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use etcd_sync_operations::api_server::ApiServer;
use kube::{Client, Config};

/// One that does not answer must not block a synchronization.
const TIMEOUT: Duration = Duration::from_secs(3);

/// The client of an API server; nothing is sent yet. Token and authorities are read again as time goes by.
///
/// # Errors
/// A file that cannot be read or used.
pub fn client(server: &ApiServer) -> Result<Client> {
    Ok(Client::try_from(config(server)?)?)
}

fn config(server: &ApiServer) -> Result<Config> {
    let mut config = Config::new(server.url.parse().context("this is not the URL of an API server")?);
    config.root_cert_file = authorities(server);
    // Else the system's authorities are looked for as well, and an image of this program alone has none.
    config.root_cert = config.root_cert_file.as_ref().map(|_| Vec::new());
    if let Some(file) = &server.token_file {
        let token = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        anyhow::ensure!(!token.trim().is_empty(), "{} is empty, a token was expected", file.display());
        // What was made by hand may end with a line feed, which no header takes; only others are renewed, so read again.
        match token.trim() {
            whole if whole.len() == token.len() => config.auth_info.token_file = Some(file.display().to_string()),
            trimmed => config.auth_info.token = Some(trimmed.to_owned().into()),
        }
    }
    config.connect_timeout = Some(TIMEOUT);
    config.default_retry = false;
    Ok(config)
}

/// The file with the authorities of an API server; `None`: the system's are used.
pub fn authorities(server: &ApiServer) -> Option<PathBuf> {
    server.cacert.clone().or_else(|| beside(server.token_file.as_deref()?))
}

/// A Secret with a service account's token holds the authorities, too.
fn beside(token: &Path) -> Option<PathBuf> {
    Some(token.with_file_name("ca.crt")).filter(|file| file.exists())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// What a server is sent by a client with this token file.
    async fn sent(token: &str) -> String {
        let file = std::env::temp_dir().join(format!("etcd-sync-token-{}-{}", std::process::id(), token.len()));
        std::fs::write(&file, token).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
            String::from_utf8(request).unwrap()
        });
        let client = client(&ApiServer { url, token_file: Some(file.clone()), cacert: None, flag: None });
        std::fs::remove_file(&file).unwrap();
        // The answer is none; only the request is checked.
        let _ = client.unwrap().apiserver_version().await;
        server.join().unwrap()
    }

    #[tokio::test]
    async fn a_token_may_end_with_a_line_feed() {
        for token in ["abc", "abc\n", " abc\r\n"] {
            let request = sent(token).await;
            assert!(request.to_lowercase().contains("authorization: bearer abc\r\n"), "{request}");
        }
    }
}
