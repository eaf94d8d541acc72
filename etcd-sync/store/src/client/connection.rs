//! One connection to one member.
//!
//! A tonic channel connects lazily and, left alone, connects again by itself. Here a channel may connect once:
//! what is behind an address may be another cluster after a reconnect, and a write must not reach it unchecked.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::lookup_host;
use tokio::sync::OnceCell;
use tokio::time::Instant;
use tonic::client::Grpc;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::client::alert::NoteAlert;
use crate::client::endpoint::Address;
use crate::client::error::Error;
use crate::client::fault::{Fault, Refused};
use crate::client::patience::{Counted, Received};
use crate::client::proto::Answer;
use crate::client::{MAX_ANSWER_BYTES, tcp, tls};

/// HTTP/2 window of a stream and of a connection. A window is what may be in flight per round trip: hyper's default of
/// 2 MiB caps a 100 ms connection at 20 MiB/s, this at 80 MiB/s.
const WINDOW_BYTES: u32 = 8 << 20;

/// etcd answers pings that come more often than every 5 s, or on a connection without streams, by closing it
/// (`PermitWithoutStream: false` in its embed/etcd.go). So an idle connection is not pinged but dropped, see below.
const PING_EVERY: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection that was not used for so long is replaced: a firewall may have forgotten it without notice.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

/// How often the certificate files of a live connection are checked.
const CHECK_FILES_EVERY: Duration = Duration::from_secs(10);

/// How to make connections to one member.
#[derive(Clone)]
pub(crate) struct Dial {
    pub address: Arc<Address>,
    pub tls: Option<Arc<tls::Settings>>,
    /// The host's addresses, when the system is not to be asked for them.
    pub known: Option<Vec<IpAddr>>,
    pub timeout: Duration,
}

/// How to make connections to any member of one cluster.
pub(crate) struct Dialer {
    /// For https endpoints; `None` when none was given.
    pub tls: Option<Arc<tls::Settings>>,
    /// Whether certificates are configured.
    pub with_tls_files: bool,
    /// Host names with their addresses, for which the system is not asked.
    pub known: BTreeMap<String, Vec<IpAddr>>,
    pub timeout: Duration,
}

impl Dialer {
    /// `None` for an https address without settings for it.
    pub(crate) fn dial(&self, address: Address) -> Option<Dial> {
        let tls = if address.tls { Some(Arc::clone(self.tls.as_ref()?)) } else { None };
        let known = self.known.get(&address.host).cloned();
        Some(Dial { address: Arc::new(address), tls, known, timeout: self.timeout })
    }
}

/// A method of etcd's API.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Method {
    pub path: &'static str,
    /// How messages call it: "did not answer {call}".
    pub call: &'static str,
    /// Ask a member that has lost its leader to refuse at once.
    pub needs_leader: bool,
}

/// One connection, made at its first use.
pub(crate) struct Connection {
    channel: Channel,
    dial: Dial,
    connected: Arc<Connected>,
    /// Whether the member behind this very connection was found to be of the right cluster and able to serve.
    pub verified: OnceCell<Result<(), Fault>>,
    times: Mutex<Times>,
}

#[derive(Clone, Copy)]
struct Times {
    used: Instant,
    files_checked: Instant,
}

#[derive(Default)]
struct Connected {
    once: AtomicBool,
    peer: OnceLock<SocketAddr>,
    /// Of the certificate files the connection was made with.
    fingerprint: OnceLock<u64>,
    /// The TLS alert the server ended the connection with.
    alert: Arc<OnceLock<String>>,
    /// Whether nobody but itself has signed the certificate we show.
    self_signed: AtomicBool,
    received: Arc<Received>,
}

impl Connection {
    /// Prepares a connection; must run inside a tokio runtime.
    pub(crate) fn new(dial: &Dial) -> Arc<Self> {
        let endpoint = Endpoint::from(dial.address.uri.clone())
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .http2_keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(false);
        let connected = Arc::new(Connected::default());
        let connector = Connector { dial: dial.clone(), connected: Arc::clone(&connected) };
        let now = Instant::now();
        Arc::new(Connection {
            channel: Channel::new(connector, endpoint),
            dial: dial.clone(),
            connected,
            verified: OnceCell::new(),
            times: Mutex::new(Times { used: now, files_checked: now }),
        })
    }

    /// The address it leads to, once it is made.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.connected.peer.get().copied()
    }

    /// Whether a new request may go over this connection: not idle for too long, and its certificates are still those
    /// in the files.
    pub(crate) async fn is_fresh(&self) -> bool {
        let now = Instant::now();
        let check_files = {
            let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
            if now - times.used > IDLE_LIMIT {
                return false;
            }
            times.used = now;
            let due = now - times.files_checked >= CHECK_FILES_EVERY;
            if due {
                times.files_checked = now;
            }
            due
        };
        !check_files || !self.files_changed().await
    }

    /// What has come over it.
    pub(crate) fn received(&self) -> &Received {
        &self.connected.received
    }

    async fn files_changed(&self) -> bool {
        let (Some(settings), Some(&known)) = (&self.dial.tls, self.connected.fingerprint.get()) else {
            return false;
        };
        let url = &self.dial.address.url;
        match load(settings).await {
            Ok(material) if material.fingerprint == known => false,
            Ok(_) => {
                tracing::info!(endpoint = %url, "certificate files changed: connecting again");
                true
            }
            // Files being replaced right now may be unreadable for a moment; the live connection is still good.
            Err(error) => {
                tracing::warn!(endpoint = %url, %error, "keeping the old connection");
                false
            }
        }
    }

    /// One request, one answer.
    pub(crate) async fn unary<Q, A>(&self, method: Method, request: Q, token: Token) -> Result<A, Status>
    where
        Q: prost::Message + 'static,
        A: Answer,
    {
        let mut grpc = self.grpc();
        grpc.ready().await.map_err(closed)?;
        let codec: ProstCodec<Q, A> = ProstCodec::default();
        let request = with_metadata(Request::new(request), method, token);
        let answer = grpc.unary(request, PathAndQuery::from_static(method.path), codec).await;
        answer.map(Response::into_inner).map_err(|status| self.explain(status))
    }

    /// A stream of requests, a stream of answers.
    pub(crate) async fn streaming<Q, A, S>(
        &self,
        method: Method,
        requests: S,
        token: Token,
    ) -> Result<Streaming<A>, Status>
    where
        Q: prost::Message + 'static,
        A: Answer,
        S: futures_util::Stream<Item = Q> + Send + 'static,
    {
        let mut grpc = self.grpc();
        grpc.ready().await.map_err(closed)?;
        let codec: ProstCodec<Q, A> = ProstCodec::default();
        let request = with_metadata(Request::new(requests), method, token);
        let answers = grpc.streaming(request, PathAndQuery::from_static(method.path), codec).await;
        answers.map(Response::into_inner).map_err(|status| self.explain(status))
    }

    /// A request over a connection that ended with a TLS alert fails for that reason.
    fn explain(&self, status: Status) -> Status {
        match self.connected.alert.get() {
            Some(problem) => {
                let self_signed = self.connected.self_signed.load(Ordering::Relaxed);
                Status::from_error(Box::new(Refused::Alert { problem: problem.clone(), self_signed }))
            }
            None => status,
        }
    }

    fn grpc(&self) -> Grpc<Channel> {
        Grpc::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }
}

/// An etcd authentication token; `None` when none is in use.
pub(crate) type Token = Option<AsciiMetadataValue>;

fn with_metadata<T>(mut request: Request<T>, method: Method, token: Token) -> Request<T> {
    let metadata: &mut MetadataMap = request.metadata_mut();
    if method.needs_leader {
        metadata.insert("hasleader", AsciiMetadataValue::from_static("true"));
    }
    if let Some(token) = token {
        metadata.insert("token", token);
    }
    request
}

/// The channel's worker is gone; only a runtime that shuts down does that.
fn closed(error: tonic::transport::Error) -> Status {
    Status::from_error(Box::new(error))
}

async fn load(settings: &Arc<tls::Settings>) -> Result<tls::Material, Error> {
    let settings = Arc::clone(settings);
    match tokio::task::spawn_blocking(move || settings.load()).await {
        Ok(loaded) => loaded,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// Makes the one connection of a channel.
struct Connector {
    dial: Dial,
    connected: Arc<Connected>,
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Box<dyn Io>>;
    type Error = Refused;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Refused>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        Poll::Ready(Ok(()))
    }

    /// The URI is the dial's own.
    fn call(&mut self, _: Uri) -> Self::Future {
        let (dial, connected) = (self.dial.clone(), Arc::clone(&self.connected));
        Box::pin(async move {
            if connected.once.swap(true, Ordering::Relaxed) {
                return Err(Refused::Stale);
            }
            match tokio::time::timeout(dial.timeout, connect(&dial, &connected)).await {
                Ok(made) => made.map(|io| {
                    let counted = Counted::new(io, Arc::clone(&connected.received));
                    TokioIo::new(Box::new(counted) as Box<dyn Io>)
                }),
                Err(_) => Err(Refused::Slow(dial.timeout)),
            }
        })
    }
}

async fn connect(dial: &Dial, connected: &Connected) -> Result<Box<dyn Io>, Refused> {
    let address = &dial.address;
    let refused = |error: io::Error| Refused::Tcp(error.to_string());
    let addresses: Vec<SocketAddr> = match &dial.known {
        Some(known) => known.iter().map(|&known| SocketAddr::new(known, address.port)).collect(),
        None => lookup_host((address.host.as_str(), address.port)).await.map_err(refused)?.collect(),
    };
    let tcp = tcp::connect(&addresses).await.map_err(refused)?;
    tcp.set_nodelay(true).map_err(refused)?;
    if let Ok(peer) = tcp.peer_addr() {
        let _ = connected.peer.set(peer);
    }
    let Some(settings) = &dial.tls else {
        return Ok(Box::new(tcp));
    };
    let material = load(settings).await.map_err(|error| Refused::Files(Box::new(error)))?;
    let self_signed = material.self_signed;
    connected.self_signed.store(self_signed, Ordering::Relaxed);
    let tls_failed = |problem| Refused::Tls { problem, self_signed };
    let name = settings
        .server_name(&address.host)
        .ok_or_else(|| tls_failed(format!("{} is neither a host name nor an IP address", address.host)))?;
    let stream = tokio_rustls::TlsConnector::from(material.config)
        .connect(name, tcp)
        .await
        .map_err(|error| tls_failed(error.to_string()))?;
    let _ = connected.fingerprint.set(material.fingerprint);
    Ok(Box::new(NoteAlert::new(stream, Arc::clone(&connected.alert))))
}
