//! A KMS v2 plugin as kube-apiserver wants one: `v2.KeyManagementService` on a unix socket, with a test key in memory.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use etcd_sync_core::object::encryption::KmsRequest;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::UnixListener;
use tokio::task::{JoinHandle, JoinSet};
use tonic::server::{Grpc, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

/// A running plugin. Dropping it ends it and removes its socket.
#[derive(Debug)]
pub struct KmsPlugin {
    socket: PathBuf,
    state: Arc<State>,
    served: JoinHandle<()>,
}

impl KmsPlugin {
    /// Serves a socket in `folder`, with a key of its own.
    pub fn start(folder: &Path) -> Result<KmsPlugin> {
        let socket = folder.join("kms.sock");
        let listener = UnixListener::bind(&socket).with_context(|| format!("listen on {socket:?}"))?;
        let state = Arc::new(State { keys: Mutex::new(vec![new_key()?]), ..State::default() });
        let served = tokio::spawn(serve(listener, Arc::clone(&state)));
        Ok(KmsPlugin { socket, state, served })
    }

    /// An EncryptionConfiguration that seals `resources` (`secrets`, `*.*`) with this plugin under the name `test`.
    pub fn config(&self, resources: &[&str]) -> String {
        let list: Vec<String> = resources.iter().map(|resource| format!("{resource:?}")).collect();
        format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [{}]\n  \
             providers:\n  - kms: {{apiVersion: v2, name: test, endpoint: 'unix://{}', timeout: 10s}}\n  - identity: {{}}\n",
            list.join(", "),
            self.socket.display()
        )
    }

    /// Encrypts with another key from now on; data encrypted with the old one can still be decrypted.
    pub fn rotate(&self) -> Result<()> {
        lock(&self.state.keys).push(new_key()?);
        Ok(())
    }

    /// Loses all keys but the newest: data encrypted with the others is refused.
    pub fn remove_old_keys(&self) {
        let mut keys = lock(&self.state.keys);
        let old = keys.len() - 1;
        keys[..old].iter_mut().for_each(|key| *key = None);
    }

    /// What it would answer to a request for decryption, without a connection.
    pub fn decrypt(&self, request: &KmsRequest) -> Result<Vec<u8>> {
        let annotations = request.annotations.iter().map(|(key, value)| (key.clone(), value.to_vec()));
        let request = DecryptRequest {
            ciphertext: request.encrypted_dek_source.to_vec(),
            uid: "test".to_owned(),
            key_id: request.key_id.clone(),
            annotations: annotations.collect(),
        };
        Ok(self.state.decrypt(request)?.plaintext)
    }

    /// What an API server with [`KmsPlugin::config`] stores for this value: encrypted with a data key of its own, which this plugin
    /// has wrapped.
    pub fn encrypt(&self, key: &[u8], plain: &[u8]) -> Result<Vec<u8>> {
        let mut secret = [0; 32];
        aws_lc_rs::rand::fill(&mut secret).context("random bytes")?;
        let data_key = RandomizedNonceKey::new(&AES_256_GCM, &secret).context("make a key")?;
        let mut encrypted = plain.to_vec();
        let nonce = data_key.seal_in_place_append_tag(Aad::from(key), &mut encrypted).context("seal")?;
        let source = self.state.encrypt(EncryptRequest { plaintext: secret.to_vec(), uid: "test".to_owned() })?;
        let object = EncryptedObject {
            encrypted_data: [&nonce.as_ref()[..], &encrypted[..]].concat(),
            key_id: source.key_id,
            encrypted_dek_source: source.ciphertext,
            annotations: source.annotations,
        };
        Ok([b"k8s:enc:kms:v2:test:", &object.encode_to_vec()[..]].concat())
    }

    /// How often it was asked to decrypt.
    pub fn decryptions(&self) -> usize {
        self.state.decryptions.load(Ordering::Relaxed)
    }
}

impl Drop for KmsPlugin {
    fn drop(&mut self) {
        self.served.abort();
        let _ = std::fs::remove_file(&self.socket);
    }
}

#[derive(Debug, Default)]
struct State {
    /// The last one is in use; a key's name is its place.
    keys: Mutex<Vec<Option<RandomizedNonceKey>>>,
    decryptions: AtomicUsize,
}

/// What the plugin wants back with what it encrypted.
const ANNOTATION: (&str, &[u8]) = ("mode.kms.example.com", b"test");

fn new_key() -> Result<Option<RandomizedNonceKey>> {
    let mut secret = [0; 32];
    aws_lc_rs::rand::fill(&mut secret).context("random bytes")?;
    Ok(Some(RandomizedNonceKey::new(&AES_256_GCM, &secret).context("make a key")?))
}

async fn serve(listener: UnixListener, state: Arc<State>) {
    // They end with this task.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        let service = service_fn(move |request| answer(Arc::clone(&state), request));
        connections.spawn(async move {
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            // A client that goes away is no failure.
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

type HttpRequest = hyper::Request<hyper::body::Incoming>;
type HttpResponse = hyper::Response<tonic::body::Body>;

async fn answer(state: Arc<State>, request: HttpRequest) -> Result<HttpResponse, Infallible> {
    Ok(match request.uri().path() {
        "/v2.KeyManagementService/Status" => unary(request, move |_: StatusRequest| state.status()).await,
        "/v2.KeyManagementService/Encrypt" => unary(request, move |message| state.encrypt(message)).await,
        "/v2.KeyManagementService/Decrypt" => unary(request, move |message| state.decrypt(message)).await,
        path => Status::unimplemented(path.to_owned()).into_http(),
    })
}

async fn unary<Q, A>(request: HttpRequest, method: impl Fn(Q) -> Result<A, Status>) -> HttpResponse
where
    Q: Message + Default + Send + 'static,
    A: Message + Default + Send + 'static,
{
    let codec: ProstCodec<A, Q> = ProstCodec::default();
    Grpc::new(codec).unary(Method(method), request).await
}

struct Method<F>(F);

impl<Q, A, F: Fn(Q) -> Result<A, Status>> UnaryService<Q> for Method<F>
where
    A: Send + 'static,
{
    type Response = A;
    type Future = Pin<Box<dyn Future<Output = Result<Response<A>, Status>> + Send>>;

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let answer = (self.0)(request.into_inner()).map(Response::new);
        Box::pin(async move { answer })
    }
}

impl State {
    fn status(&self) -> Result<StatusResponse, Status> {
        let key_id = (lock(&self.keys).len() - 1).to_string();
        Ok(StatusResponse { version: "v2".to_owned(), healthz: "ok".to_owned(), key_id })
    }

    fn encrypt(&self, request: EncryptRequest) -> Result<EncryptResponse, Status> {
        let keys = lock(&self.keys);
        let (id, key) = keys.iter().enumerate().next_back().ok_or_else(|| Status::internal("no key"))?;
        let key = key.as_ref().ok_or_else(|| Status::internal("no key"))?;
        let mut encrypted = request.plaintext;
        let aad = Aad::from(id.to_string());
        let nonce = key.seal_in_place_append_tag(aad, &mut encrypted).map_err(|_| Status::internal("cannot seal"))?;
        encrypted.extend_from_slice(nonce.as_ref());
        let annotations = [(ANNOTATION.0.to_owned(), ANNOTATION.1.to_vec())].into();
        Ok(EncryptResponse { ciphertext: encrypted, key_id: id.to_string(), annotations })
    }

    fn decrypt(&self, request: DecryptRequest) -> Result<DecryptResponse, Status> {
        self.decryptions.fetch_add(1, Ordering::Relaxed);
        let wrong = |problem: &'static str| Status::invalid_argument(problem);
        if request.annotations.get(ANNOTATION.0).map(Vec::as_slice) != Some(ANNOTATION.1) || request.uid.is_empty() {
            return Err(wrong("the annotations do not come back"));
        }
        let keys = lock(&self.keys);
        let key = request.key_id.parse().ok().and_then(|id: usize| keys.get(id)?.as_ref());
        let key = key.ok_or_else(|| Status::not_found("there is no such key"))?;
        let mut encrypted = request.ciphertext;
        let at = encrypted.len().checked_sub(NONCE_LEN).ok_or_else(|| wrong("too short"))?;
        let nonce = Nonce::try_assume_unique_for_key(&encrypted.split_off(at)).map_err(|_| wrong("too short"))?;
        let opened =
            key.open_in_place(nonce, Aad::from(request.key_id), &mut encrypted).map_err(|_| wrong("not mine"))?;
        Ok(DecryptResponse { plaintext: opened.to_vec() })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Clone, PartialEq, Message)]
struct StatusRequest {}

#[derive(Clone, PartialEq, Message)]
struct StatusResponse {
    #[prost(string, tag = "1")]
    version: String,
    #[prost(string, tag = "2")]
    healthz: String,
    #[prost(string, tag = "3")]
    key_id: String,
}

#[derive(Clone, PartialEq, Message)]
struct DecryptRequest {
    #[prost(bytes = "vec", tag = "1")]
    ciphertext: Vec<u8>,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    key_id: String,
    #[prost(map = "string, bytes", tag = "4")]
    annotations: std::collections::HashMap<String, Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct DecryptResponse {
    #[prost(bytes = "vec", tag = "1")]
    plaintext: Vec<u8>,
}

/// What an API server stores behind its prefix; the kind of its source is left at 0, a data key.
#[derive(Clone, PartialEq, Message)]
struct EncryptedObject {
    #[prost(bytes = "vec", tag = "1")]
    encrypted_data: Vec<u8>,
    #[prost(string, tag = "2")]
    key_id: String,
    #[prost(bytes = "vec", tag = "3")]
    encrypted_dek_source: Vec<u8>,
    #[prost(map = "string, bytes", tag = "4")]
    annotations: std::collections::HashMap<String, Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct EncryptRequest {
    #[prost(bytes = "vec", tag = "1")]
    plaintext: Vec<u8>,
    #[prost(string, tag = "2")]
    uid: String,
}

#[derive(Clone, PartialEq, Message)]
struct EncryptResponse {
    #[prost(bytes = "vec", tag = "1")]
    ciphertext: Vec<u8>,
    #[prost(string, tag = "2")]
    key_id: String,
    #[prost(map = "string, bytes", tag = "3")]
    annotations: std::collections::HashMap<String, Vec<u8>>,
}
