//! The programs as the chart's pods start them: same arguments, environment, files, user, file tree and service account, against real
//! API servers and etcds with certificates.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use etcd_sync_integration::compare::await_until;
use etcd_sync_integration::daemon::Daemon;
use etcd_sync_integration::etcd::ClusterOptions;
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::kube::objects::{APPS, config_map, namespace};
use etcd_sync_integration::kube::pod::Container;
use etcd_sync_integration::kube::{KubePair, PairOptions, path};
use serde_json::{Value, json};

use crate::helm::Helm;
use crate::{NAMESPACE, object};

const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/cpaas-system/leases/etcd-sync-mirror";

/// The release on a pair, as far as a test has to do what others do: people, kubelet, and the controller of Deployments.
struct Release<'a> {
    pair: &'a KubePair,
    objects: Vec<Value>,
    pki: &'a Path,
}

impl<'a> Release<'a> {
    /// Secrets by people, and everything that the chart renders with these values.
    async fn new(pair: &'a KubePair, helm: &Helm, pki: &'a Path, values: &[&str]) -> Result<Release<'a>> {
        let api = pair.standby.api();
        api.create(&namespace(NAMESPACE)).await?;
        let certs = pair.link.primary.certs().context("the primary has certificates")?;
        secret(pair, "remote-etcd-ca", &[("ca.crt", &certs.ca)]).await?;
        secret(pair, "remote-etcd-client", &[("tls.crt", &certs.client_cert), ("tls.key", &certs.client_key)]).await?;
        let endpoints = format!("active_cluster_etcd_endpoints={}", pair.link.primary.endpoint(0));
        let own = format!("standby_cluster_etcd_endpoints={}", pair.link.standby.endpoint(0));
        let fixed = ["--set", &endpoints, "--set", &own];
        let objects = helm.render(NAMESPACE, &[&fixed[..], values].concat())?;
        let release = Release { pair, objects, pki };
        for object in release.still() {
            api.create(object).await?;
        }
        Ok(release)
    }

    /// All but what runs: that is started when a test says so.
    fn still(&self) -> impl Iterator<Item = &Value> {
        self.objects.iter().filter(|object| object["kind"] != "Job" && object["kind"] != "Deployment")
    }

    async fn container(&self, kind: &str, name: &str, container: &str, pod: &str) -> Result<Container> {
        let template = &object(&self.objects, kind, name)?["spec"]["template"];
        let host = [("/etc/kubernetes/pki/etcd", self.pki), ("/etc/kubernetes", self.pki)];
        Container::new(&self.pair.standby, NAMESPACE, template, container, pod, &host).await
    }

    async fn bootstrap(&self) -> Result<std::process::Output> {
        let container = self.container("Job", "etcd-sync-bootstrap", "bootstrap", "etcd-sync-bootstrap-x2x4k").await?;
        container.run().await
    }

    async fn synchronizer(&self, pod: &str) -> Result<Daemon> {
        Daemon::start_container("etcd-sync", self.container("Deployment", "etcd-sync", "etcd-sync", pod).await?)
    }

    async fn monitor(&self) -> Result<Daemon> {
        let pod = "etcd-sync-monitor-6f9c8-x2x4k";
        let container = self.container("Deployment", "etcd-sync-monitor", "etcd-sync-monitor", pod).await?;
        Daemon::start_container("etcd-sync-monitor", container)
    }
}

async fn secret(pair: &KubePair, name: &str, files: &[(&str, &Path)]) -> Result<()> {
    let data: BTreeMap<&str, String> =
        files.iter().map(|(key, file)| Ok((*key, STANDARD.encode(std::fs::read(file)?)))).collect::<Result<_>>()?;
    let metadata = json!({ "name": name, "namespace": NAMESPACE });
    pair.standby
        .api()
        .create(&json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data }))
        .await?;
    Ok(())
}

async fn tls_pair() -> Result<KubePair> {
    let secured = || ClusterOptions { tls: true, ..ClusterOptions::default() };
    let pair =
        KubePair::start(PairOptions { primary_etcd: secured(), standby_etcd: secured(), ..PairOptions::new() }).await?;
    pair.primary.api().create(&namespace(APPS)).await?;
    pair.primary.api().create(&config_map(APPS, "kept", &[])).await?;
    Ok(pair)
}

/// What a control-plane node keeps for its etcd.
fn node_files(pair: &KubePair, folder: &Path) -> Result<()> {
    let certs = pair.link.standby.certs().context("the standby has certificates")?;
    for (name, from) in [("ca.crt", &certs.ca), ("server.crt", &certs.client_cert), ("server.key", &certs.client_key)] {
        std::fs::copy(from, folder.join(name))?;
    }
    Ok(())
}

async fn await_holder(pair: &KubePair, holder: &str) -> Result<()> {
    await_until(&format!("the Lease names {holder}"), PATIENCE, || async {
        let lease = pair.standby.api().get(LEASE).await?;
        let named = lease.as_ref().and_then(|lease| lease["spec"]["holderIdentity"].as_str());
        Ok((named != Some(holder)).then(|| format!("{lease:?}")))
    })
    .await
}

async fn role(pair: &KubePair) -> Result<String> {
    let role = pair.link.standby.get(&pair.link.keys.role).await?.context("it has a role")?;
    Ok(String::from_utf8_lossy(&role.value).into_owned())
}

/// How the kernel sees a process.
fn status(daemon: &Daemon, field: &str) -> Result<String> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix(&format!("{field}:")));
    Ok(line.with_context(|| format!("no {field}"))?.trim().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pods_of_the_chart_do_their_work_with_its_rights_and_no_others() -> Result<()> {
    let (pair, pki, helm) = (tls_pair().await?, tempfile::tempdir()?, Helm::new()?);
    node_files(&pair, pki.path())?;
    let release = Release::new(&pair, &helm, pki.path(), &[]).await?;
    let done = release.bootstrap().await?;
    let told = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success() && told.contains("Secret cpaas-system/etcd-sync-standby-etcd: made"), "{told}");
    ensure!(told.contains("pass  etcd-versions"), "{told}");

    let first = release.synchronizer("etcd-sync-7d9c5-aaaaa").await?;
    first.wait_line("Acquired leader lease", PATIENCE).await?;
    first.wait_line("Start Sync update", PATIENCE).await?;
    await_holder(&pair, "etcd-sync-7d9c5-aaaaa").await?;
    ensure!(status(&first, "Uid")?.split_whitespace().all(|id| id == "65532"), "{}", status(&first, "Uid")?);
    ensure!(status(&first, "CapEff")?.trim_start_matches('0').is_empty(), "{}", status(&first, "CapEff")?);
    let mounts = std::fs::read_to_string(format!("/proc/{}/mountinfo", first.id()))?;
    let root = mounts.lines().find(|line| line.contains(" - tmpfs "));
    ensure!(root.is_some_and(|line| line.contains(" / / ro,")), "{mounts}");

    let second = release.synchronizer("etcd-sync-7d9c5-bbbbb").await?;
    let monitor = release.monitor().await?;
    pair.caught_up().await?;
    await_until("the monitor listens", PATIENCE, || async {
        Ok(monitor.http("/healthz").await.err().map(|error| format!("{error:#}")))
    })
    .await?;
    let (code, report) = monitor.http("/check").await?;
    ensure!(code == 200 && report.contains("LOCAL ETCD missed keys: 0"), "{code} {report}");
    first.terminate(Duration::from_secs(10)).await?;
    second.wait_line("Acquired leader lease", PATIENCE).await?;
    await_holder(&pair, "etcd-sync-7d9c5-bbbbb").await?;

    // What uninstalling takes is nothing of the link: who is installed again goes on from the checkpoint.
    let recorded = || async { anyhow::Ok((pair.link.checkpoint().await?.context("a record")?, role(&pair).await?)) };
    second.terminate(Duration::from_secs(10)).await?;
    let before = recorded().await?;
    for object in release.still() {
        pair.standby.api().delete(&path(object)?).await?;
    }
    ensure!(recorded().await?.0.writes == before.0.writes && recorded().await?.1 == "standby", "{before:?}");
    let report = pair.check(&[]).await?;
    ensure!(report["missed"] == 0 && report["keysCompared"].as_u64() > Some(0), "keys went with the release: {report}");
    for object in release.still() {
        pair.standby.api().create(object).await?;
    }
    pair.primary.api().create(&config_map(APPS, "later", &[])).await?;
    let third = release.synchronizer("etcd-sync-5b8d4-ccccc").await?;
    third.wait_line("Start Sync update", PATIENCE).await?;
    pair.caught_up().await?;
    ensure!(!third.lines().iter().any(|line| line.contains("first sync begins")), "it began anew:\n{}", third.tail());

    for (account, (verb, what), may) in [
        ("etcd-sync", ("update", "leases.coordination.k8s.io/etcd-sync-mirror"), true),
        ("etcd-sync", ("update", "leases.coordination.k8s.io/other"), false),
        ("etcd-sync", ("get", "secrets"), false),
        ("etcd-sync", ("delete", "pods"), false),
        ("etcd-sync-monitor", ("get", "leases.coordination.k8s.io/etcd-sync-mirror"), false),
    ] {
        let told = pair.standby.api().may((NAMESPACE, account), verb, what, NAMESPACE).await?;
        ensure!(told == may, "{account}: {verb} {what}: {told}");
    }
    // With the very token that is mounted there.
    let plane = &pair.standby;
    let secrets = format!("https://{}/api/v1/namespaces/{NAMESPACE}/secrets", plane.address());
    let token = std::fs::read_to_string(format!("/proc/{}/root{TOKEN}", third.id()))?;
    let curl = tokio::process::Command::new("curl")
        .args(["-sS", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", &plane.authority_file().to_string_lossy()])
        .args(["-H", &format!("Authorization: Bearer {token}"), &secrets])
        .output()
        .await?;
    ensure!(curl.stdout == b"403", "{curl:?}");
    Ok(())
}

/// The install fails with the reason, before anything is copied.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_installation_that_cannot_work_says_why() -> Result<()> {
    let (pair, pki, helm) = (tls_pair().await?, tempfile::tempdir()?, Helm::new()?);
    let release = Release::new(&pair, &helm, pki.path(), &[]).await?;
    let missing = release.bootstrap().await?;
    let told = String::from_utf8_lossy(&missing.stderr).into_owned();
    ensure!(missing.status.code() == Some(2) && told.contains("/host/pki/ca.crt"), "{told}");
    // The other cluster's certificates.
    let certs = pair.link.primary.certs().context("certificates")?;
    for (name, from) in [("ca.crt", &certs.ca), ("server.crt", &certs.client_cert), ("server.key", &certs.client_key)] {
        std::fs::copy(from, pki.path().join(name))?;
    }
    let wrong = release.bootstrap().await?;
    let told = String::from_utf8_lossy(&wrong.stderr).into_owned();
    ensure!(!wrong.status.success() && told.contains("--standby-cacert"), "{told}");
    Ok(())
}
