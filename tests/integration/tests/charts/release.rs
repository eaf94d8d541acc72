//! The chart's release on a pair, as far as a test has to do what others do: people, kubelet, and the controllers of Jobs and Deployments.

use std::process::Output;

use anyhow::{Context, Result, ensure};
use etcd_sync_integration::compare::await_until;
use etcd_sync_integration::daemon::Daemon;
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::kube::KubePair;
use etcd_sync_integration::kube::pod::{Container, Node};
use serde_json::{Value, json};

use crate::helm::Helm;
use crate::{NAMESPACE, object, template};

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/cpaas-system/leases/etcd-sync-mirror";

pub struct Release<'a> {
    pair: &'a KubePair,
    node: &'a Node,
    objects: Vec<Value>,
}

impl<'a> Release<'a> {
    /// Applies what was rendered, also over an earlier release.
    pub async fn apply(pair: &'a KubePair, node: &'a Node, helm: &Helm, objects: Vec<Value>) -> Result<Release<'a>> {
        let release = Release { pair, node, objects };
        let items: Vec<&Value> = release.still().collect();
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
        let file = helm.values("still.json", &list.to_string())?;
        let args = ["apply", "--server-side", "--force-conflicts", "-f", &file.to_string_lossy()];
        pair.standby.kubectl(&args).await?;
        Ok(release)
    }

    /// What Helm has installed there.
    pub async fn installed(pair: &'a KubePair, node: &'a Node) -> Result<Release<'a>> {
        let mut objects = Vec::new();
        for name in ["etcd-sync", "etcd-sync-monitor"] {
            let place = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{name}");
            objects.push(pair.standby.api().need(&place).await?);
        }
        Ok(Release { pair, node, objects })
    }

    /// All but what runs: that is started when a test says so.
    pub fn still(&self) -> impl Iterator<Item = &Value> {
        let runs = ["Job", "CronJob", "Deployment"];
        self.objects.iter().filter(move |object| !runs.iter().any(|kind| object["kind"] == *kind))
    }

    /// What the pods of a Deployment are made of.
    pub fn template(&self, name: &str) -> Result<&Value> {
        Ok(template(object(&self.objects, "Deployment", name)?))
    }

    async fn container(&self, kind: &str, name: &str, container: &str, pod: &str) -> Result<Container> {
        let template = template(object(&self.objects, kind, name)?);
        Container::new(&self.pair.standby, NAMESPACE, template, container, pod, self.node).await
    }

    pub async fn bootstrap(&self) -> Result<Output> {
        self.container("Job", "etcd-sync-bootstrap", "bootstrap", "etcd-sync-bootstrap-x2x4k").await?.run().await
    }

    /// One run of a CronJob.
    pub async fn scheduled(&self, name: &str, container: &str) -> Result<Output> {
        self.container("CronJob", name, container, &format!("{name}-29384-x2x4k")).await?.run().await
    }

    /// What a bootstrap that goes well says. As the Job would be, it is tried again unless it refuses: its account's rights may
    /// be known a moment late.
    pub async fn bootstrapped(&self) -> Result<String> {
        let mut done = self.bootstrap().await?;
        for _ in 0..2 {
            if matches!(done.status.code(), Some(0 | 1)) {
                break;
            }
            done = self.bootstrap().await?;
        }
        let told = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
        ensure!(done.status.success(), "{}: {told}", done.status);
        Ok(told)
    }

    pub async fn synchronizer(&self, pod: &str) -> Result<Daemon> {
        Daemon::start_container("etcd-sync", self.container("Deployment", "etcd-sync", "etcd-sync", pod).await?)
    }

    /// Starts the monitor, and waits until it listens.
    pub async fn monitor(&self, pod: &str) -> Result<Daemon> {
        let container = self.container("Deployment", "etcd-sync-monitor", "etcd-sync-monitor", pod).await?;
        let monitor = Daemon::start_container("etcd-sync-monitor", container)?;
        await_until("the monitor listens", PATIENCE, || async {
            Ok(monitor.http("/healthz").await.err().map(|error| format!("{error:#}")))
        })
        .await?;
        Ok(monitor)
    }
}

/// An answer of a monitor as JSON.
pub async fn json_of(monitor: &Daemon, path: &str) -> Result<Value> {
    let (code, body) = monitor.http_with(path, &[("accept", "application/json")], PATIENCE).await?;
    ensure!(code == 200, "{path}: {code} {body}");
    serde_json::from_str(&body).with_context(|| format!("no JSON: {body}"))
}

pub async fn await_holder(pair: &KubePair, holder: &str) -> Result<()> {
    await_until(&format!("the Lease names {holder}"), PATIENCE, || async {
        let lease = pair.standby.api().get(LEASE).await?;
        let named = lease.as_ref().and_then(|lease| lease["spec"]["holderIdentity"].as_str());
        Ok((named != Some(holder)).then(|| format!("{lease:?}")))
    })
    .await
}

pub async fn role(pair: &KubePair) -> Result<String> {
    let role = pair.link.standby.get(&pair.link.keys.role).await?.context("it has a role")?;
    Ok(String::from_utf8_lossy(&role.value).into_owned())
}
