//! Asks KMS v2 plugins to unwrap data keys: `v2.KeyManagementService` over a unix socket, as kube-apiserver asks them.
//!
//! Messages are declared by hand with the tags of `k8s.io/kms/apis/v2/api.proto`, with `skip_debug` as in
//! [`crate::proto`].

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use etcd_sync_core::etcd::kv::KeyValue;
use etcd_sync_core::object::encryption::{EncryptionConfig, Keyring, KmsPlugin, KmsRequest};
use http::Uri;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::net::UnixStream;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;
use zeroize::Zeroizing;

/// The KMS plugins of an encryption configuration.
pub struct Kms {
    plugins: Vec<Plugin>,
}

/// Why a data key cannot be unwrapped.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KmsError {
    /// No process serves the socket, or one that is no KMS plugin.
    #[error(
        "KMS plugin {plugin} does not answer on {socket}: {problem}; run the plugin on this machine, and give \
             etcd-sync an encryption configuration with its socket here"
    )]
    Unreachable {
        /// The plugin's name in the configuration.
        plugin: String,
        /// Its socket.
        socket: String,
        /// What the connection failed with.
        problem: String,
    },
    /// The plugin takes too long.
    #[error(
        "KMS plugin {plugin} did not answer within {timeout:?}: check the plugin and the KMS behind it, or raise its \
             timeout in the encryption configuration"
    )]
    Slow {
        /// The plugin's name in the configuration.
        plugin: String,
        /// The configuration's timeout.
        timeout: Duration,
    },
    /// The plugin refuses, mostly because its KMS does not have the key.
    #[error(
        "KMS plugin {plugin} refuses to unwrap a data key with its key {key_id}: {problem}; give the plugin access to this key"
    )]
    Refused {
        /// The plugin's name in the configuration.
        plugin: String,
        /// The KMS's name of the key.
        key_id: String,
        /// The plugin's answer.
        problem: String,
    },
    /// The plugin reports that it does not work.
    #[error("KMS plugin {plugin} reports that it is not healthy: {problem}; read its log")]
    Unhealthy {
        /// The plugin's name in the configuration.
        plugin: String,
        /// Its own message.
        problem: String,
    },
}

impl Kms {
    /// Prepares the connections; each is made at its first use, and again after a failure. Must run inside a tokio
    /// runtime.
    pub fn new(config: &EncryptionConfig) -> Kms {
        Kms { plugins: config.kms_plugins().iter().map(Plugin::new).collect() }
    }

    /// Asks every plugin whether it works.
    pub async fn check(&self) -> Result<(), KmsError> {
        for plugin in &self.plugins {
            let answer: StatusResponse = plugin.call("/v2.KeyManagementService/Status", StatusRequest {}, "").await?;
            if answer.healthz != "ok" {
                return Err(KmsError::Unhealthy { plugin: plugin.name(), problem: answer.healthz });
            }
            if !matches!(answer.version.as_str(), "v2" | "v2beta1") {
                let problem = format!("it speaks version {:?} instead of v2", answer.version);
                return Err(KmsError::Unhealthy { plugin: plugin.name(), problem });
            }
        }
        Ok(())
    }

    /// Unwraps every data key that the values of a page need and the keyring lacks, each once. Values that no plugin of
    /// the configuration encrypted cost a look at their first bytes.
    ///
    /// # Errors
    /// The first one. A refused key does not keep the others of the page from being unwrapped.
    pub async fn unwrap_keys(&self, keyring: &Keyring, page: &[KeyValue]) -> Result<(), KmsError> {
        let mut asked = HashSet::new();
        let mut refused = None;
        for request in page.iter().filter_map(|kv| keyring.kms_request(&kv.value)) {
            if !asked.insert(request.digest()) {
                continue;
            }
            match self.unwrap(&request).await {
                Ok(unwrapped) => keyring.learn(&request, unwrapped),
                Err(error @ KmsError::Refused { .. }) => refused = refused.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// Asks the plugin that a request names.
    async fn unwrap(&self, request: &KmsRequest) -> Result<Zeroizing<Vec<u8>>, KmsError> {
        let Some(plugin) = self.plugins.iter().find(|plugin| plugin.config.name == request.provider) else {
            // Only with a keyring of another configuration.
            let problem = "the encryption configuration does not have it".to_owned();
            let (plugin, socket) = (request.provider.clone(), "any socket".to_owned());
            return Err(KmsError::Unreachable { plugin, socket, problem });
        };
        let message = DecryptRequest {
            ciphertext: request.encrypted_dek_source.clone(),
            uid: uid(request),
            key_id: request.key_id.clone(),
            annotations: request.annotations.clone().into_iter().collect(),
        };
        let answer: DecryptResponse = plugin.call("/v2.KeyManagementService/Decrypt", message, &request.key_id).await?;
        Ok(Zeroizing::new(answer.plaintext))
    }
}

impl fmt::Debug for Kms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.plugins.iter().map(|plugin| &plugin.config)).finish()
    }
}

struct Plugin {
    config: KmsPlugin,
    channel: Channel,
}

impl Plugin {
    fn new(config: &KmsPlugin) -> Plugin {
        // The address is for the headers only, and the one kube-apiserver uses.
        let endpoint = Endpoint::from_static("http://localhost");
        let channel = endpoint.connect_with_connector_lazy(Connector { path: socket_path(&config.socket) });
        Plugin { config: config.clone(), channel }
    }

    fn name(&self) -> String {
        self.config.name.clone()
    }

    async fn call<Q, A>(&self, path: &'static str, request: Q, key_id: &str) -> Result<A, KmsError>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let exchange = async {
            let mut grpc = Grpc::new(self.channel.clone());
            grpc.ready().await.map_err(|error| Status::from_error(Box::new(error)))?;
            let codec: ProstCodec<Q, A> = ProstCodec::default();
            grpc.unary(Request::new(request), PathAndQuery::from_static(path), codec).await
        };
        let timeout = self.config.timeout;
        match tokio::time::timeout(timeout, exchange).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(self.explain(&status, key_id)),
            Err(_) => Err(KmsError::Slow { plugin: self.name(), timeout }),
        }
    }

    fn explain(&self, status: &Status, key_id: &str) -> KmsError {
        let (plugin, problem) = (self.name(), deepest(status));
        // A failed transport has a source; what a plugin itself answers has none.
        let failed = std::error::Error::source(status).is_some();
        match status.code() {
            Code::DeadlineExceeded => KmsError::Slow { plugin, timeout: self.config.timeout },
            code if failed || code == Code::Unimplemented => {
                KmsError::Unreachable { plugin, socket: self.config.socket.clone(), problem }
            }
            code if key_id.is_empty() || code == Code::Unavailable => KmsError::Unhealthy { plugin, problem },
            _ => KmsError::Refused { plugin, key_id: key_id.to_owned(), problem },
        }
    }
}

/// The innermost cause: "No such file or directory" says more than "transport error".
fn deepest(status: &Status) -> String {
    let Some(mut error) = std::error::Error::source(status) else {
        return format!("{} ({})", status.message(), status.code());
    };
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// Lets the plugin's log be matched with ours; the same for the same data key.
fn uid(request: &KmsRequest) -> String {
    let digest: String = request.digest()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("etcd-sync-{digest}")
}

/// Linux's abstract sockets begin with a zero byte instead of `@`.
fn socket_path(socket: &str) -> PathBuf {
    match socket.strip_prefix('@') {
        Some(name) => PathBuf::from(format!("\0{name}")),
        None => PathBuf::from(socket),
    }
}

#[derive(Clone)]
struct Connector {
    path: PathBuf,
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<UnixStream>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let path = self.path.clone();
        Box::pin(async move { UnixStream::connect(path).await.map(TokioIo::new) })
    }
}

#[derive(Clone, PartialEq, Message)]
struct StatusRequest {}

#[derive(Clone, PartialEq, Message)]
struct StatusResponse {
    #[prost(string, tag = "1")]
    version: String,
    #[prost(string, tag = "2")]
    healthz: String,
}

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
struct DecryptRequest {
    #[prost(bytes = "bytes", tag = "1")]
    ciphertext: Bytes,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    key_id: String,
    #[prost(map = "string, bytes", tag = "4")]
    annotations: HashMap<String, Bytes>,
}

#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
struct DecryptResponse {
    #[prost(bytes = "vec", tag = "1")]
    plaintext: Vec<u8>,
}
