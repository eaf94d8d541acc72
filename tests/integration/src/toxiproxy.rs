//! A toxiproxy: makes the network path to a server as long and as narrow as one between two sites.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::compare::await_until;
use crate::etcd::Cluster;
use crate::exact::PATIENCE;
use crate::process::Process;
use crate::{http, ports, tools};

/// Longest wait for an answer of its own API.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A running toxiproxy with one path. Dropping it kills it.
#[derive(Debug)]
pub struct Toxiproxy {
    _process: Process,
    api: u16,
    port: u16,
}

/// How long and how narrow a network path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkProfile {
    /// From the one end to the other and back.
    pub round_trip: Duration,
    /// What it carries to the client in a second, on each connection: a watch has one of its own.
    pub bytes_per_second: u64,
}

impl NetworkProfile {
    /// As good as none.
    pub const NEAR: NetworkProfile = NetworkProfile { round_trip: Duration::ZERO, bytes_per_second: 1_000_000_000 };
}

impl Toxiproxy {
    /// A path to the only member of a cluster.
    pub async fn before(cluster: &Cluster, network: NetworkProfile) -> Result<Toxiproxy> {
        let endpoint = cluster.endpoint(0);
        let port = endpoint.rsplit(':').next().and_then(|port| port.parse().ok()).context("an endpoint has a port")?;
        Toxiproxy::start(port, network).await
    }

    /// Opens a path to a server of 127.0.0.1.
    pub async fn start(to: u16, network: NetworkProfile) -> Result<Toxiproxy> {
        let [api, port] = ports::free(2)?[..] else { anyhow::bail!("two ports were asked for") };
        let mut command = Command::new(tools::toxiproxy()?);
        command.env_clear().args(["-host=127.0.0.1", &format!("-port={api}")]).env("LOG_LEVEL", "error");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let proxy = Toxiproxy { _process: Process::spawn("toxiproxy", command)?, api, port };
        await_until("toxiproxy answers", PATIENCE, || async {
            Ok(http::get(api, "/version", &[], TIMEOUT).await.err().map(|error| format!("{error:#}")))
        })
        .await?;
        let listen = format!("127.0.0.1:{port}");
        proxy
            .post("/proxies", &json!({"name": "path", "listen": listen, "upstream": format!("127.0.0.1:{to}")}))
            .await?;
        let half = u64::try_from((network.round_trip / 2).as_millis())?;
        for stream in ["upstream", "downstream"] {
            proxy.toxic("latency", stream, json!({"latency": half, "jitter": 0})).await?;
        }
        proxy.toxic("bandwidth", "downstream", json!({"rate": network.bytes_per_second / 1_000})).await?;
        Ok(proxy)
    }

    /// Where the path begins.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on it carries no more than this to the server in a second, on each connection.
    pub async fn narrow(&self, bytes_per_second: u64) -> Result<()> {
        self.toxic("bandwidth", "upstream", json!({"rate": bytes_per_second / 1_000})).await
    }

    /// Breaks every connection over the way and refuses new ones, until [`Toxiproxy::open`].
    pub async fn close(&self) -> Result<()> {
        self.post("/proxies/path", &json!({"enabled": false})).await
    }

    /// Loses everything that is sent over the way, as a firewall that drops does, until [`Toxiproxy::open`].
    pub async fn silence(&self) -> Result<()> {
        for stream in ["upstream", "downstream"] {
            self.toxic("timeout", stream, json!({"timeout": 0})).await?;
        }
        Ok(())
    }

    /// After [`Toxiproxy::close`] or [`Toxiproxy::silence`]. What was silent stays so; only new connections work.
    pub async fn open(&self) -> Result<()> {
        for stream in ["upstream", "downstream"] {
            let toxic = format!("/proxies/path/toxics/timeout_{stream}");
            let answer = http::delete(self.api, &toxic, TIMEOUT).await?;
            ensure!(answer.status < 300 || answer.status == 404, "{toxic}: {}: {}", answer.status, answer.body);
        }
        self.post("/proxies/path", &json!({"enabled": true})).await
    }

    async fn toxic(&self, kind: &str, stream: &str, attributes: Value) -> Result<()> {
        let toxic = json!({"type": kind, "stream": stream, "attributes": attributes});
        self.post("/proxies/path/toxics", &toxic).await
    }

    async fn post(&self, path: &str, body: &Value) -> Result<()> {
        let answer = http::post(self.api, path, &body.to_string(), TIMEOUT).await?;
        ensure!(answer.status < 300, "toxiproxy answers {path} with {}: {}", answer.status, answer.body);
        Ok(())
    }
}

impl Drop for Toxiproxy {
    fn drop(&mut self) {
        ports::release([self.api, self.port]);
    }
}
