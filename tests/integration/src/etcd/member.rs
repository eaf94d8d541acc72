//! One etcd process: its ports, its flags, its life.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use crate::certs::Certs;
use crate::etcd::ClusterOptions;
use crate::http;
use crate::process::Process;

/// What all members of a cluster share.
#[derive(Debug)]
pub(super) struct Plan {
    pub options: ClusterOptions,
    pub folder: PathBuf,
    pub certs: Option<Certs>,
    pub token: String,
    /// `m0=http://…,m1=…`
    pub initial_cluster: String,
}

impl Plan {
    pub fn scheme(&self) -> &'static str {
        if self.certs.is_some() { "https" } else { "http" }
    }
}

/// One member. The process is behind a lock, so that faults need no exclusive hold of the cluster.
#[derive(Debug)]
pub(super) struct Member {
    pub name: String,
    pub client_port: u16,
    pub peer_port: u16,
    metrics_port: u16,
    /// Where a member with TLS listens without, for the tests' own client.
    plain_port: u16,
    /// The members of the cluster it joins, itself included; `None` for one of the first.
    joins: Option<String>,
    process: Mutex<Option<Process>>,
}

impl Member {
    pub fn new(index: usize, ports: &[u16]) -> Member {
        let [client_port, peer_port, metrics_port, plain_port] = *ports else { panic!("a member has four ports") };
        let name = format!("m{index}");
        Member { name, client_port, peer_port, metrics_port, plain_port, joins: None, process: Mutex::default() }
    }

    /// One that joins a running cluster.
    pub fn joining(name: String, ports: &[u16], others: &str, scheme: &str) -> Member {
        let mut member = Member { name, ..Member::new(0, ports) };
        member.joins = Some(format!("{others},{}={}", member.name, member.peer_url(scheme)));
        member
    }

    pub fn ports(&self) -> [u16; 4] {
        [self.client_port, self.peer_port, self.metrics_port, self.plain_port]
    }

    pub fn data_dir(&self, plan: &Plan) -> PathBuf {
        plan.folder.join(format!("{}.data", self.name))
    }

    pub fn peer_url(&self, scheme: &str) -> String {
        format!("{scheme}://127.0.0.1:{}", self.peer_port)
    }

    /// Where it listens without TLS.
    pub fn plain_url(&self, plan: &Plan) -> String {
        let port = if plan.certs.is_some() { self.plain_port } else { self.client_port };
        format!("http://127.0.0.1:{port}")
    }

    fn log_file(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{}.log", self.name))
    }

    /// The end of its log, for error messages. etcd logs keys and sizes, never values.
    pub fn log_tail(&self, folder: &Path) -> String {
        let text = std::fs::read(self.log_file(folder)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().rev().take(8).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    pub fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Starts the process, without waiting until it serves.
    pub fn spawn(&self, plan: &Plan) -> Result<()> {
        let log =
            File::options().create(true).append(true).open(self.log_file(&plan.folder)).context("open the log")?;
        let mut command = Command::new(plan.options.version.program("etcd")?);
        // Neither this machine's proxies nor ETCD_* variables may reach it.
        command.env_clear().args(self.args(plan)).current_dir(&plan.folder);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        *self.process() = Some(Process::spawn(format!("etcd member {}", self.name), command)?);
        Ok(())
    }

    fn args(&self, plan: &Plan) -> Vec<String> {
        let options = &plan.options;
        let client = format!("{}://127.0.0.1:{}", plan.scheme(), self.client_port);
        // Without TLS etcd asks for no certificate. What the member advertises does not name this second address.
        let listen = if plan.certs.is_some() { format!("{client},{}", self.plain_url(plan)) } else { client.clone() };
        let peer = self.peer_url(plan.scheme());
        // A lone member may elect itself at once. Three share a busy machine: too short and they elect forever.
        let (heartbeat, election) = if options.members == 1 { (10, 100) } else { (100, 1_000) };
        let mut args = vec![
            format!("--name={}", self.name),
            format!("--data-dir={}", self.data_dir(plan).display()),
            format!("--listen-client-urls={listen}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--listen-metrics-urls=http://127.0.0.1:{}", self.metrics_port),
            format!("--initial-cluster={}", self.joins.as_ref().unwrap_or(&plan.initial_cluster)),
            format!("--initial-cluster-token={}", plan.token),
            format!("--initial-cluster-state={}", if self.joins.is_some() { "existing" } else { "new" }),
            format!("--heartbeat-interval={heartbeat}"),
            format!("--election-timeout={election}"),
            "--bcrypt-cost=4".to_owned(),
            "--logger=zap".to_owned(),
            "--log-outputs=stderr".to_owned(),
        ];
        if options.no_fsync {
            args.push("--unsafe-no-fsync".to_owned());
        }
        if let Some(bytes) = options.quota_bytes {
            args.push(format!("--quota-backend-bytes={bytes}"));
        }
        if let Some(certs) = &plan.certs {
            for prefix in ["", "peer-"] {
                args.push(format!("--{prefix}cert-file={}", certs.server_cert.display()));
                args.push(format!("--{prefix}key-file={}", certs.server_key.display()));
                args.push(format!("--{prefix}trusted-ca-file={}", certs.ca.display()));
                args.push(format!("--{prefix}client-cert-auth"));
            }
        }
        args.extend(options.extra_args.iter().cloned());
        args
    }

    /// Waits until the member serves linearizable reads: it knows a leader and is not cut off.
    pub async fn await_health(&self, plan: &Plan, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.exited()? {
                bail!("etcd member {} ended ({status}):\n{}", self.name, self.log_tail(&plan.folder));
            }
            if self.healthy().await {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let tail = self.log_tail(&plan.folder);
                bail!("etcd member {} is not healthy after {timeout:?}:\n{tail}", self.name);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What `/health` says right now.
    pub async fn healthy(&self) -> bool {
        // A NOSPACE alarm makes a member unhealthy for etcd; a test that asks for one still wants it to serve.
        let answer = http::get(self.metrics_port, "/health?exclude=NOSPACE", &[], Duration::from_secs(2)).await;
        answer.is_ok_and(|response| response.status == 200)
    }

    /// How the process ended; `None` while it runs. An error when it was never started.
    pub fn exited(&self) -> Result<Option<std::process::ExitStatus>> {
        self.process().as_mut().context("the member was never started")?.exited()
    }

    /// Whether the process runs (a paused one does).
    pub fn running(&self) -> bool {
        self.process().as_mut().is_some_and(|process| matches!(process.exited(), Ok(None)))
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process().as_mut().context("the member was never started")?.signal(signal)
    }

    pub fn kill(&self) -> Result<()> {
        if let Some(process) = self.process().as_mut() {
            process.kill()?;
        }
        Ok(())
    }
}
