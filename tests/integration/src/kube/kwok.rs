//! kwok: plays the node of a control plane. What runs on that node becomes ready without running, and a command in a pod is
//! a program of this machine.
//!
//! There is no scheduler: the template of a pod names [`NODE`] itself.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::plane::ControlPlane;
use crate::bind::{Bind, nslookup};
use crate::compare::await_until;
use crate::process::Process;
use crate::{ports, tools};

/// The node that every pod of a test runs on.
pub const NODE: &str = "node-1";

/// A pod with this label stays as it is: it never becomes ready.
pub const STUCK: &str = "stuck";

/// How long kwok may take to bring its node up.
const START_TIMEOUT: Duration = Duration::from_secs(180);
/// Starts tried with a new port when another process took it in between.
const START_ATTEMPTS: usize = 3;

/// A running kwok. Dropping it kills it and removes its folder, on a panic too.
#[derive(Debug)]
pub struct Kwok {
    process: Mutex<Process>,
    port: u16,
    // Last: it goes after the process that writes into it.
    folder: TempDir,
}

impl Kwok {
    /// Makes the node, starts kwok for it and waits until the node is ready.
    pub async fn start(plane: &ControlPlane) -> Result<Kwok> {
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}});
        let mut attempt = 1;
        loop {
            plane.api().create(&node).await?;
            let kwok = Kwok::spawn(plane)?;
            match kwok.await_node(plane).await {
                Ok(()) => return Ok(kwok),
                Err(error) if attempt < START_ATTEMPTS && kwok.log().contains("address already in use") => {
                    eprintln!("start {attempt} of kwok lost its port, trying another: {error:#}");
                    plane.api().delete(&format!("/api/v1/nodes/{NODE}")).await?;
                }
                Err(error) => return Err(error.context("start kwok")),
            }
            attempt += 1;
        }
    }

    /// With what a management cluster runs in `cpaas-system`, which must be there: a pod to look names up in, by this name server,
    /// and one that holds old state.
    pub async fn management(plane: &ControlPlane, bind: &Bind) -> Result<Kwok> {
        let kwok = Kwok::start(plane).await?;
        kwok.install("nslookup", &format!("exec {} -port={} \"$1\" 127.0.0.1", nslookup()?.display(), bind.port()))?;
        for (name, label) in [("sentry", ("app", "sentry")), ("transformer", ("service_name", "cluster-transformer"))] {
            let labels = json!({ label.0: label.1 });
            let template = json!({
                "metadata": { "labels": labels },
                "spec": { "nodeName": NODE, "containers": [{ "name": "main", "image": "example.test/main" }] },
            });
            let spec = json!({ "replicas": 1, "selector": { "matchLabels": labels }, "template": template });
            let metadata = json!({ "name": name, "namespace": "cpaas-system" });
            let object = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec });
            plane.api().create(&object).await?;
        }
        Ok(kwok)
    }

    fn spawn(plane: &ControlPlane) -> Result<Kwok> {
        let folder = tempfile::Builder::new().prefix("etcd-sync-kwok-").tempdir().context("make a folder")?;
        let programs = folder.path().join("bin");
        fs::create_dir(&programs).context("make a folder for programs")?;
        let config = folder.path().join("kwok.yaml");
        let documents: Vec<String> = config_documents().iter().map(Value::to_string).collect();
        fs::write(&config, documents.join("\n---\n")).context("write kwok's configuration")?;
        let port = ports::free(1)?[0];
        let log = File::create(folder.path().join("log")).context("make kwok's log")?;
        let mut command = Command::new(tools::kwok()?);
        command.env_clear().env("HOME", folder.path()).env("PATH", &programs).current_dir(folder.path());
        command.arg("--config").arg(config).arg("--kubeconfig").arg(plane.kubeconfig_file());
        command.args([format!("--manage-single-node={NODE}"), "--node-ip=127.0.0.1".to_owned()]);
        // Without its lease the controllers take the node for dead after a minute.
        command.arg("--node-lease-duration-seconds=40");
        command.args([format!("--node-port={port}"), format!("--server-address=127.0.0.1:{port}")]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let process = Mutex::new(Process::spawn("kwok", command)?);
        Ok(Kwok { process, port, folder })
    }

    async fn await_node(&self, plane: &ControlPlane) -> Result<()> {
        await_until("kwok's node is ready", START_TIMEOUT, || async {
            if let Some(status) = self.process.lock().unwrap_or_else(PoisonError::into_inner).exited()? {
                bail!("kwok ended ({status}):\n{}", self.log());
            }
            let node = plane.api().need(&format!("/api/v1/nodes/{NODE}")).await?;
            let port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64();
            Ok((port != Some(self.port.into())).then(|| format!("its status is {}", node["status"])))
        })
        .await
    }

    /// SIGKILL: nothing on the node becomes ready or ends any more.
    pub fn kill(&self) -> Result<()> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner).kill().map(drop)
    }

    /// SIGSTOP: the node does nothing more until [`Kwok::resume`], and nothing on it becomes ready or ends.
    pub fn pause(&self) -> Result<()> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner).signal(Signal::SIGSTOP)
    }

    /// SIGCONT.
    pub fn resume(&self) -> Result<()> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner).signal(Signal::SIGCONT)
    }

    /// Puts a program, written for `/bin/sh`, into every container.
    pub fn install(&self, name: &str, script: &str) -> Result<()> {
        let file = self.program(name);
        fs::write(&file, format!("#!/bin/sh\n{script}\n")).with_context(|| format!("write {file:?}"))?;
        fs::set_permissions(&file, Permissions::from_mode(0o755)).with_context(|| format!("make {file:?} a program"))
    }

    fn program(&self, name: &str) -> PathBuf {
        self.folder.path().join("bin").join(name)
    }

    /// All it has logged.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.path().join("log")).unwrap_or_default()).into_owned()
    }
}

impl Drop for Kwok {
    fn drop(&mut self) {
        // An error here has nobody to go to; the process is killed once more when its handle goes.
        let _ = self.kill();
        ports::release([self.port]);
    }
}

/// How kwok treats nodes and pods: each becomes ready at once, a deleted pod goes at once, and commands run on this machine.
fn config_documents() -> Vec<Value> {
    let ready = "conditions:\n- {type: Ready, status: \"True\", reason: Played}\n";
    let node = format!(
        "{ready}addresses:\n- {{type: InternalIP, address: {{{{ NodeIP | Quote }}}}}}\n\
         daemonEndpoints:\n  kubeletEndpoint:\n    Port: {{{{ NodePort }}}}\n"
    );
    let status = ".status.conditions.[] | select( .type == \"Ready\" ) | .status";
    let unready = json!({"key": status, "operator": "NotIn", "values": ["True"]});
    let exists = |operator: &str| json!({"key": ".metadata.deletionTimestamp", "operator": operator});
    let pending = json!({"key": ".status.phase", "operator": "In", "values": ["Pending"]});
    let free = json!({"key": format!(".metadata.labels[\"{STUCK}\"]"), "operator": "DoesNotExist"});
    let stage = |name: &str, kind: &str, when: Value, next: Value| {
        json!({
            "apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": "Stage", "metadata": {"name": name},
            "spec": {
                "resourceRef": {"apiGroup": "v1", "kind": kind}, "selector": {"matchExpressions": when}, "next": next,
            },
        })
    };
    vec![
        stage("node-ready", "Node", json!([unready]), json!({"statusTemplate": node})),
        stage(
            "pod-ready",
            "Pod",
            json!([exists("DoesNotExist"), pending, free]),
            json!({"statusTemplate": format!("phase: Running\n{ready}")}),
        ),
        stage("pod-gone", "Pod", json!([exists("Exists")]), json!({"delete": true})),
        json!({
            "apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": "ClusterExec", "metadata": {"name": "all"},
            "spec": {"execs": [{"local": {}}]},
        }),
    ]
}
