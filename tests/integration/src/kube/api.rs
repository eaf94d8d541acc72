//! A small client of one API server: HTTP/2 over TLS, JSON in and out.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;

use super::files::Files;

/// Longest wait for an answer: a busy machine, and finalizers that a foreground deletion waits for are not awaited.
const TIMEOUT: Duration = Duration::from_secs(90);
/// Between two tries of a request that came too early.
const BUSY_PAUSE: Duration = Duration::from_millis(200);

/// The client. Requests share one connection; a broken one is made again by the next request.
pub struct Api {
    name: String,
    port: u16,
    tls: TlsConnector,
    connection: Mutex<Option<SendRequest<Full<Bytes>>>>,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("name", &self.name).field("port", &self.port).finish_non_exhaustive()
    }
}

/// What the API server answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body as it came.
    pub body: Bytes,
}

impl Answer {
    /// The body as text; of an error it is the API server's message alone.
    pub fn text(&self) -> String {
        let message = self.json().ok().and_then(|status| Some(status["message"].as_str()?.to_owned()));
        message.unwrap_or_else(|| String::from_utf8_lossy(&self.body).into_owned())
    }

    /// The body as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).context("the API server's answer is not JSON")
    }
}

impl Api {
    pub(super) fn new(name: &str, port: u16, files: &Files) -> Result<Api> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(files.path("ca.crt"))?)?;
        let certificate = CertificateDer::from_pem_file(files.path("admin.crt"))?;
        let key = PrivateKeyDer::from_pem_file(files.path("admin.key"))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let mut config = builder.with_root_certificates(roots).with_client_auth_cert(vec![certificate], key)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        let tls = TlsConnector::from(Arc::new(config));
        Ok(Api { name: name.to_owned(), port, tls, connection: Mutex::default() })
    }

    /// One request. `body` is sent as JSON; a PATCH is a merge patch.
    pub async fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer> {
        self.request_as(method, path, "application/json", body).await
    }

    /// An API server that asks for patience ("storage is (re)initializing") is asked again, as every client does; for a
    /// reader, also one that is overloaded.
    async fn request_as(&self, method: &str, path: &str, accept: &str, body: Option<&Value>) -> Result<Answer> {
        let deadline = tokio::time::Instant::now() + TIMEOUT;
        loop {
            let answer = self.send(method, path, accept, body).await?;
            let busy = answer.status == 429 || method == "GET" && matches!(answer.status, 503 | 504);
            if !busy || tokio::time::Instant::now() > deadline {
                return Ok(answer);
            }
            tokio::time::sleep(BUSY_PAUSE).await;
        }
    }

    async fn send(&self, method: &str, path: &str, accept: &str, body: Option<&Value>) -> Result<Answer> {
        let content = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let bytes = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let request = hyper::Request::builder().method(method).uri(format!("https://127.0.0.1:{}{path}", self.port));
        let request = request.header("accept", accept).header("content-type", content).body(Full::new(bytes))?;
        let exchange = async {
            let mut sender = self.connected().await?;
            let answer = sender.send_request(request).await?;
            let status = answer.status().as_u16();
            anyhow::Ok(Answer { status, body: answer.into_body().collect().await?.to_bytes() })
        };
        let answer = tokio::time::timeout(TIMEOUT, exchange).await.unwrap_or_else(|late| Err(late.into()));
        if answer.is_err() {
            *self.connection.lock().await = None;
        }
        answer.with_context(|| format!("{method} {path} at the {}", self.name))
    }

    async fn connected(&self) -> Result<SendRequest<Full<Bytes>>> {
        let mut held = self.connection.lock().await;
        if let Some(sender) = held.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        let stream = self.tls.connect(ServerName::try_from("127.0.0.1")?, stream).await?;
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        // Ends with the connection; a request that it breaks says so itself.
        tokio::spawn(connection);
        *held = Some(sender.clone());
        Ok(sender)
    }

    /// Reads one object; `None` when there is none, nor such a resource.
    pub async fn get(&self, path: &str) -> Result<Option<Value>> {
        let answer = self.request("GET", path, None).await?;
        if answer.status == 404 {
            return Ok(None);
        }
        self.expect("GET", path, answer).map(Some)
    }

    /// Reads what must be there.
    pub async fn need(&self, path: &str) -> Result<Value> {
        self.get(path).await?.with_context(|| format!("the {} has no {path}", self.name))
    }

    /// Reads a list in another form, as `application/json;as=…`.
    pub(super) async fn get_as(&self, path: &str, accept: &str) -> Result<Value> {
        let answer = self.request_as("GET", path, accept, None).await?;
        self.expect("GET", path, answer)
    }

    /// A token of a service account.
    pub async fn token(&self, namespace: &str, account: &str) -> Result<String> {
        let request = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {} });
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let answer = self.request("POST", &path, Some(&request)).await?;
        let told = self.expect("POST", &path, answer)?;
        Ok(told["status"]["token"].as_str().context("a token is a text")?.to_owned())
    }

    /// Whether a service account may do something in a namespace with a resource: `leases.coordination.k8s.io/name`, or a part of
    /// one: `pods:exec`.
    pub async fn may(&self, account: (&str, &str), verb: &str, what: &str, namespace: &str) -> Result<bool> {
        let (resource, name) = what.split_once('/').unwrap_or((what, ""));
        let (resource, part) = resource.split_once(':').unwrap_or((resource, ""));
        let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "metadata": {},
            "spec": {
                "user": format!("system:serviceaccount:{}:{}", account.0, account.1),
                "groups": ["system:serviceaccounts", format!("system:serviceaccounts:{}", account.0), "system:authenticated"],
                "resourceAttributes": {
                    "namespace": namespace, "verb": verb, "group": group, "resource": resource, "subresource": part,
                    "name": name,
                },
            },
        });
        let told = self.create(&review).await?;
        told["status"]["allowed"].as_bool().context("no answer")
    }

    /// Creates an object at the place its own kind and namespace name; returns what the API server made of it.
    pub async fn create(&self, object: &Value) -> Result<Value> {
        let path = collection(object)?;
        let answer = self.request("POST", &path, Some(object)).await?;
        self.expect("POST", &path, answer)
    }

    /// Creates objects, many at a time; returns them in the same order.
    pub async fn create_all(&self, objects: &[Value]) -> Result<Vec<Value>> {
        let mut created = Vec::with_capacity(objects.len());
        for chunk in objects.chunks(16) {
            created.extend(futures_util::future::try_join_all(chunk.iter().map(|object| self.create(object))).await?);
        }
        Ok(created)
    }

    /// A merge patch.
    pub async fn patch(&self, path: &str, patch: &Value) -> Result<Value> {
        let answer = self.request("PATCH", path, Some(patch)).await?;
        self.expect("PATCH", path, answer)
    }

    /// Deletes an object; its dependents are left to the garbage collector.
    pub async fn delete(&self, path: &str) -> Result<Value> {
        let answer = self.request("DELETE", path, None).await?;
        self.expect("DELETE", path, answer)
    }

    fn expect(&self, method: &str, path: &str, answer: Answer) -> Result<Value> {
        ensure!(
            (200..300).contains(&answer.status),
            "{method} {path} at the {}: {} {}",
            self.name,
            answer.status,
            answer.text()
        );
        answer.json()
    }
}

/// The path of the collection an object belongs to, and so where it is created.
pub fn collection(object: &Value) -> Result<String> {
    let (Some(version), Some(kind)) = (object["apiVersion"].as_str(), object["kind"].as_str()) else {
        bail!("an object has no kind");
    };
    let root = if version.contains('/') { "/apis" } else { "/api" };
    let plural = plural(kind);
    Ok(match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{root}/{version}/namespaces/{namespace}/{plural}"),
        None => format!("{root}/{version}/{plural}"),
    })
}

/// The path of an object.
pub fn path(object: &Value) -> Result<String> {
    let name = object["metadata"]["name"].as_str().context("an object has no name")?;
    Ok(format!("{}/{name}", collection(object)?))
}

/// The plural of every kind that tests use; Kubernetes forms them by these rules too.
fn plural(kind: &str) -> String {
    let kind = kind.to_lowercase();
    match kind.strip_suffix('y') {
        Some(stem) if !kind.ends_with("ay") => format!("{stem}ies"),
        _ if kind == "endpoints" => kind,
        _ if kind.ends_with('s') => format!("{kind}es"),
        _ => format!("{kind}s"),
    }
}
