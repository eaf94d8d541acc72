//! What one connection to a server shows: whether its port is open, its certificates, and its clock. Nothing secret is sent
//! over it, so that a certificate that nobody would trust can be looked at.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::http::Uri;
use etcd_sync_core::link::side::Side;
use etcd_sync_operations::preflight::switch::{CertificateFact, CertificateUse, ClockFact, PortFact};
use etcd_sync_program::certificates::parse;
use etcd_sync_program::config::Config;
use etcd_sync_store::link::pair::Pair;
use futures_util::future::join_all;
use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{Clusters, within};

const CONNECT_LIMIT: Duration = Duration::from_secs(2);
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(3);
const ANSWER_LIMIT: Duration = Duration::from_secs(3);

/// The head of an answer is shorter.
const HEAD_BYTES_MAX: u64 = 16 << 10;

/// What all servers show.
#[derive(Default)]
pub struct Shown {
    /// Those they present.
    pub certificates: Vec<CertificateFact>,
    /// Their clocks.
    pub clocks: Vec<ClockFact>,
    /// The etcds' client ports.
    pub ports: Vec<PortFact>,
}

/// A server to connect to.
struct Server {
    /// For people.
    who: String,
    host: String,
    port: u16,
    tls: bool,
    /// Whose etcd it is; `None`: an API server.
    etcd: Option<Side>,
    /// The name that it is asked for.
    name: Option<String>,
    /// The client's certificate and key: some servers tell nothing without one.
    client: Option<(PathBuf, PathBuf)>,
}

/// Connects to every etcd member and both API servers.
pub async fn look_at_all(config: &Config, clusters: &Clusters, pair: &Pair) -> Shown {
    let mut shown = Shown::default();
    for one in join_all(servers(config, clusters, pair).iter().map(look_at)).await {
        shown.certificates.extend(one.certificates);
        shown.clocks.extend(one.clocks);
        shown.ports.extend(one.ports);
    }
    shown
}

fn servers(config: &Config, clusters: &Clusters, pair: &Pair) -> Vec<Server> {
    let mut servers = Vec::new();
    for (side, etcd, connection) in
        [(Side::Primary, &pair.primary, &config.primary), (Side::Standby, &pair.standby, &config.standby)]
    {
        let options = connection.options();
        let client = options.tls.and_then(|files| files.cert.zip(files.key));
        for address in etcd.addresses() {
            servers.push(Server {
                who: format!("the {side}'s etcd {}", address.url),
                host: address.host,
                port: address.port,
                tls: address.tls,
                etcd: Some(side),
                name: options.server_name.clone(),
                client: client.clone(),
            });
        }
    }
    for (side, cluster) in clusters.each() {
        let Ok(Some(cluster)) = cluster else { continue };
        let Ok(uri) = cluster.access().url().parse::<Uri>() else { continue };
        let Some(host) = uri.host() else { continue };
        servers.push(Server {
            who: format!("the {side}'s API server {uri}").trim_end_matches('/').to_owned(),
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: uri.port_u16().unwrap_or(443),
            tls: true,
            etcd: None,
            name: cluster.access().server_name().map(str::to_owned),
            client: None,
        });
    }
    servers
}

async fn look_at(server: &Server) -> Shown {
    let mut shown = Shown::default();
    let address = (server.host.as_str(), server.port);
    let connected = within(CONNECT_LIMIT, TcpStream::connect(address)).await;
    if let Some(side) = server.etcd {
        let host = if server.host.contains(':') { format!("[{}]", server.host) } else { server.host.clone() };
        let address = format!("{host}:{}", server.port);
        shown.ports.push(PortFact { side, address, closed: connected.as_ref().err().cloned() });
    }
    let Ok(stream) = connected else { return shown };
    if !server.tls {
        shown.clocks.extend(clock(server, stream).await);
        return shown;
    }
    let seen = Arc::new(Seen::new());
    let made = match connector(server, &seen) {
        Ok((connector, name)) => within(HANDSHAKE_LIMIT, connector.connect(name, stream)).await,
        Err(why) => Err(why),
    };
    let presented = std::mem::take(&mut *seen.presented.lock().unwrap_or_else(PoisonError::into_inner));
    let identity = |found| CertificateFact { place: server.who.clone(), use_: CertificateUse::Identity, found };
    shown.certificates.extend(presented.iter().map(|der| identity(parse(der))));
    match made {
        Ok(stream) => shown.clocks.extend(clock(server, stream).await),
        Err(why) if presented.is_empty() => shown.certificates.push(identity(Err(why))),
        // It wants a client's certificate, perhaps: its own was seen.
        Err(_) => {}
    }
    shown
}

/// Every HTTP server dates its answers, whatever it answers (RFC 9110, 6.6.1); etcd's client port speaks HTTP, too.
async fn clock(server: &Server, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Option<ClockFact> {
    let (sent_at, began) = (SystemTime::now(), Instant::now());
    let asked = async {
        let request = format!("GET /version HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", server.host);
        stream.write_all(request.as_bytes()).await?;
        let (mut head, mut limited) = (Vec::new(), stream.take(HEAD_BYTES_MAX));
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            if limited.read_buf(&mut head).await? == 0 {
                break;
            }
        }
        std::io::Result::Ok(head)
    };
    let head = within(ANSWER_LIMIT, asked).await.ok()?;
    let way = began.elapsed();
    let theirs = date(&head)?.duration_since(UNIX_EPOCH).ok()?;
    let ours = sent_at.duration_since(UNIX_EPOCH).ok()? + way / 2;
    // The answer is dated in whole seconds.
    let ahead_ms = theirs.as_millis() as i64 + 500 - ours.as_millis() as i64;
    Some(ClockFact { who: server.who.clone(), ahead_ms, accuracy_ms: 500 + (way / 2).as_millis() as u64 })
}

/// The `Date` of an HTTP answer.
fn date(head: &[u8]) -> Option<SystemTime> {
    let head = String::from_utf8_lossy(head);
    let mut fields = head.split("\r\n").skip(1).take_while(|line| !line.is_empty());
    let value = fields.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("date").then_some(value.trim())
    })?;
    httpdate::parse_http_date(value).ok()
}

fn connector(server: &Server, seen: &Arc<Seen>) -> Result<(TlsConnector, ServerName<'static>), String> {
    let text = |error: rustls::Error| error.to_string();
    let builder = ClientConfig::builder_with_provider(Arc::clone(&seen.provider))
        .with_safe_default_protocol_versions()
        .map_err(text)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(seen) as Arc<dyn ServerCertVerifier>);
    let client = server.client.as_ref().and_then(|(cert, key)| {
        let chain: Vec<_> = CertificateDer::pem_file_iter(cert).ok()?.collect::<Result<_, _>>().ok()?;
        Some((chain, PrivateKeyDer::from_pem_file(key).ok()?))
    });
    let config = match client {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(text)?,
        None => builder.with_no_client_auth(),
    };
    let name = server.name.as_deref().unwrap_or(&server.host).to_owned();
    let name = ServerName::try_from(name).map_err(|_| "its host is no name for a certificate".to_owned())?;
    Ok((TlsConnector::from(Arc::new(config)), name))
}

/// Keeps what a server presents, and takes whatever it is: this connection is only looked at.
#[derive(Debug)]
struct Seen {
    provider: Arc<CryptoProvider>,
    presented: Mutex<Vec<CertificateDer<'static>>>,
}

impl Seen {
    fn new() -> Seen {
        Seen { provider: Arc::new(aws_lc_rs::default_provider()), presented: Mutex::default() }
    }
}

impl ServerCertVerifier for Seen {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain = std::iter::once(end_entity).chain(intermediates).map(|der| der.clone().into_owned());
        *self.presented.lock().unwrap_or_else(PoisonError::into_inner) = chain.collect();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_of_an_answer_is_found_whatever_the_answer() {
        let head =
            b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\nDate: x";
        assert_eq!(date(head), Some(UNIX_EPOCH + Duration::from_secs(784_111_777)));
        for head in
            [&b"HTTP/1.1 200 OK\r\nDate: soon\r\n\r\n"[..], b"\x00\xff\r\n", b"", b"HTTP/1.1 200\r\n\r\nDate: x"]
        {
            assert_eq!(date(head), None);
        }
    }
}
