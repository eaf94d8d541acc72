//! The two programs of one control plane.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use super::api::Api;
use super::audit::{self, AuditEvent};
use super::files::Files;
use super::options::PlaneOptions;
use crate::compare::await_until;
use crate::etcd::Cluster;
use crate::ports;
use crate::process::Process;

/// How long a program may take to serve. Generous: test machines are small and busy.
const START_TIMEOUT: Duration = Duration::from_secs(240);
/// Starts tried with a new port when another process took it in between.
const START_ATTEMPTS: usize = 3;
/// Longest run of kubectl.
const KUBECTL_TIMEOUT: Duration = Duration::from_secs(180);

/// A running control plane. Dropping it kills its programs and removes its folder, on a panic too; the variable
/// `ETCD_SYNC_KEEP` keeps the folder and prints its path.
#[derive(Debug)]
pub struct ControlPlane {
    options: PlaneOptions,
    name: String,
    /// The flags that name it.
    etcd: Vec<String>,
    port: u16,
    files: Files,
    api: Api,
    apiserver: Mutex<Option<Process>>,
    controllers: Mutex<Option<Process>>,
    // Last: it goes after the processes that write into it.
    folder: Option<TempDir>,
}

impl ControlPlane {
    /// Starts the programs over an etcd and waits until they serve. `name` appears in messages.
    pub async fn start(name: &str, etcd: &Cluster, options: PlaneOptions) -> Result<ControlPlane> {
        let mut attempt = 1;
        loop {
            let plane = ControlPlane::lay_out(name, etcd, options.clone())?;
            match plane.start_programs().await {
                Ok(()) => return Ok(plane),
                Err(error) if attempt < START_ATTEMPTS && plane.lost_its_port() => {
                    eprintln!("start {attempt} of {name}'s API server lost its port, trying another: {error:#}");
                }
                Err(error) => return Err(error.context(format!("start the control plane of the {name}"))),
            }
            attempt += 1;
        }
    }

    fn lay_out(name: &str, etcd: &Cluster, options: PlaneOptions) -> Result<ControlPlane> {
        let folder = tempfile::Builder::new().prefix("etcd-sync-kube-").tempdir().context("make a folder")?;
        let files = Files::create(folder.path(), &options)?;
        let port = ports::free(1)?[0];
        files.write_kubeconfigs(port)?;
        let api = Api::new(name, port, &files)?;
        Ok(ControlPlane {
            options,
            name: name.to_owned(),
            etcd: etcd_flags(etcd),
            port,
            files,
            api,
            apiserver: Mutex::default(),
            controllers: Mutex::default(),
            folder: Some(folder),
        })
    }

    async fn start_programs(&self) -> Result<()> {
        self.start_apiserver().await?;
        if self.options.controllers {
            self.start_controllers()?;
            // The first action of the controllers that everything else waits for.
            await_until("the controllers work", START_TIMEOUT, || async {
                self.alive(&self.controllers, "controllers.log")?;
                let path = "/api/v1/namespaces/kube-system/serviceaccounts/default";
                Ok(self.api.get(path).await?.is_none().then(|| "there is no service account yet".to_owned()))
            })
            .await?;
        }
        Ok(())
    }

    /// Starts kube-apiserver, after a kill too, and waits until it serves.
    pub async fn start_apiserver(&self) -> Result<()> {
        let process = self.spawn("kube-apiserver", "apiserver.log", self.apiserver_args())?;
        *lock(&self.apiserver) = Some(process);
        await_until("the API server is ready", START_TIMEOUT, || async {
            self.alive(&self.apiserver, "apiserver.log")?;
            let answer = self.api.request("GET", "/readyz", None).await?;
            Ok((answer.status != 200).then(|| format!("{}: {}", answer.status, answer.text())))
        })
        .await
    }

    /// Starts kube-controller-manager, after a kill too, without waiting.
    pub fn start_controllers(&self) -> Result<()> {
        let process = self.spawn("kube-controller-manager", "controllers.log", self.controller_args())?;
        *lock(&self.controllers) = Some(process);
        Ok(())
    }

    /// Restarts kube-apiserver with another encryption configuration.
    pub async fn change_encryption(&self, text: &str) -> Result<()> {
        let file = self.encryption_file()?;
        self.kill_apiserver()?;
        std::fs::write(file, text).context("write the encryption configuration")?;
        self.start_apiserver().await
    }

    /// SIGKILL to kube-apiserver.
    pub fn kill_apiserver(&self) -> Result<()> {
        kill(&self.apiserver)
    }

    /// SIGKILL to kube-controller-manager.
    pub fn kill_controllers(&self) -> Result<()> {
        kill(&self.controllers)
    }

    /// The client of its API server, as a member of `system:masters`.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// What it was started with.
    pub fn options(&self) -> &PlaneOptions {
        &self.options
    }

    /// Every request so far that changed something or tried to, oldest first.
    pub fn audit(&self) -> Result<Vec<AuditEvent>> {
        audit::read(&self.files.path("audit.log"))
    }

    /// The file with the encryption configuration; an error when it has none.
    pub fn encryption_file(&self) -> Result<PathBuf> {
        ensure!(self.options.encryption.is_some(), "the {} stores in clear", self.name);
        Ok(self.files.path("encryption.yaml"))
    }

    /// Where its API server listens, as `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The file with the authority that signed its API server's certificate.
    pub fn authority_file(&self) -> PathBuf {
        self.files.path("ca.crt")
    }

    /// The file kubectl finds it with, as admin.
    pub fn kubeconfig_file(&self) -> PathBuf {
        self.files.path("admin.kubeconfig")
    }

    /// Runs kubectl as admin and returns its standard output.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        let mut command = tokio::process::Command::new(self.options.version.program("kubectl")?);
        command.env_clear().env("HOME", &self.files.folder).kill_on_drop(true).stdin(Stdio::null());
        command.arg("--kubeconfig").arg(self.kubeconfig_file()).args(args);
        let output = tokio::time::timeout(KUBECTL_TIMEOUT, command.output()).await;
        let output = output.with_context(|| format!("kubectl {args:?} took longer than {KUBECTL_TIMEOUT:?}"))??;
        if !output.status.success() {
            bail!("kubectl {args:?} of the {}: {}", self.name, String::from_utf8_lossy(&output.stderr).trim());
        }
        String::from_utf8(output.stdout).context("kubectl printed bytes that are not UTF-8")
    }

    /// The last lines of both logs, for messages.
    pub fn tail(&self) -> String {
        let (server, controllers) = (self.files.tail("apiserver.log", 15), self.files.tail("controllers.log", 15));
        format!(
            "--- {0}: kube-apiserver ---\n{server}\n--- {0}: kube-controller-manager ---\n{controllers}\n",
            self.name
        )
    }

    fn spawn(&self, program: &str, log: &str, args: Vec<String>) -> Result<Process> {
        let log = File::options().create(true).append(true).open(self.files.path(log)).context("open the log")?;
        let mut command = Command::new(self.options.version.program(program)?);
        // Neither this machine's proxies nor a KUBECONFIG may reach it.
        command.env_clear().args(args).current_dir(&self.files.folder);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Process::spawn(format!("{program} of the {}", self.name), command)
    }

    fn apiserver_args(&self) -> Vec<String> {
        let (files, options) = (&self.files, &self.options);
        let mut args = self.etcd.clone();
        args.extend([
            format!("--etcd-prefix={}", options.etcd_prefix),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={}", self.port),
            format!("--advertise-address={}", options.advertise_address),
            format!("--service-cluster-ip-range={}", options.service_cidr),
            format!("--tls-cert-file={}", files.text("server.crt")),
            format!("--tls-private-key-file={}", files.text("server.key")),
            format!("--client-ca-file={}", files.text("ca.crt")),
            "--authorization-mode=RBAC".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-signing-key-file={}", files.text("tokens.key")),
            format!("--service-account-key-file={}", files.text("tokens.pub")),
            format!("--audit-policy-file={}", files.text("audit.yaml")),
            format!("--audit-log-path={}", files.text("audit.log")),
            // The limits protect against many clients; here one test asks, as fast as it goes.
            "--enable-priority-and-fairness=false".to_owned(),
        ]);
        if options.encryption.is_some() {
            args.push(format!("--encryption-provider-config={}", files.text("encryption.yaml")));
        }
        if !options.feature_gates.is_empty() {
            args.push(format!("--feature-gates={}", options.feature_gates));
        }
        args.extend(options.apiserver_args.iter().cloned());
        args
    }

    fn controller_args(&self) -> Vec<String> {
        let files = &self.files;
        let mut args = vec![
            format!("--kubeconfig={}", files.text("controllers.kubeconfig")),
            // Each controller under its own name: the audit log then tells who did what.
            "--use-service-account-credentials=true".to_owned(),
            format!("--service-account-private-key-file={}", files.text("tokens.key")),
            format!("--root-ca-file={}", files.text("ca.crt")),
            // Alone, and a restarted one must work at once.
            "--leader-elect=false".to_owned(),
            "--secure-port=0".to_owned(),
            // A node that a test has paused is not dead.
            "--node-monitor-grace-period=1h".to_owned(),
        ];
        args.extend(self.options.controller_args.iter().cloned());
        args
    }

    fn alive(&self, program: &Mutex<Option<Process>>, log: &str) -> Result<()> {
        let status = lock(program).as_mut().context("the program was never started")?.exited()?;
        match status {
            // Waiting longer would not help; the log says why.
            Some(status) => bail!("the program ended ({status}):\n{}", self.files.tail(log, 15)),
            None => Ok(()),
        }
    }

    fn lost_its_port(&self) -> bool {
        self.files.tail("apiserver.log", 15).contains("address already in use")
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        // An error here has nobody to go to; each process is killed once more when its handle goes.
        let _ = self.kill_controllers();
        let _ = self.kill_apiserver();
        ports::release([self.port]);
        if std::env::var_os("ETCD_SYNC_KEEP").is_some()
            && let Some(folder) = self.folder.take()
        {
            eprintln!("ETCD_SYNC_KEEP: {} ({})", folder.keep().display(), self.name);
        }
    }
}

fn kill(program: &Mutex<Option<Process>>) -> Result<()> {
    if let Some(process) = lock(program).as_mut() {
        process.kill()?;
    }
    Ok(())
}

/// A test that panicked while holding the lock has done its harm already.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn etcd_flags(etcd: &Cluster) -> Vec<String> {
    let mut flags = vec![format!("--etcd-servers={}", etcd.endpoints().join(","))];
    if let Some(certs) = etcd.certs() {
        for (flag, file) in [("cafile", &certs.ca), ("certfile", &certs.client_cert), ("keyfile", &certs.client_key)] {
            flags.push(format!("--etcd-{flag}={}", file.display()));
        }
    }
    flags
}
