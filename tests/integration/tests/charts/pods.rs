//! The programs as the chart's pods start them: same arguments, environment, files, user, file tree and service account, against real
//! API servers and etcds with certificates.

use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use etcd_sync_integration::certs::Certs;
use etcd_sync_integration::daemon::Daemon;
use etcd_sync_integration::etcd::ClusterOptions;
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::kube::objects::{APPS, config_map, namespace};
use etcd_sync_integration::kube::pod::Node;
use etcd_sync_integration::kube::{KubePair, PairOptions, path};

use crate::NAMESPACE;
use crate::helm::Helm;
use crate::release::{Release, await_holder, role};
use crate::sites::primary_secrets;

const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

async fn tls_pair() -> Result<KubePair> {
    let secured = || ClusterOptions { tls: true, ..ClusterOptions::default() };
    let pair =
        KubePair::start(PairOptions { primary_etcd: secured(), standby_etcd: secured(), ..PairOptions::new() }).await?;
    pair.primary.api().create(&namespace(APPS)).await?;
    pair.primary.api().create(&config_map(APPS, "kept", &[])).await?;
    Ok(pair)
}

/// A control-plane node with nothing but this folder.
fn node(folder: &Path) -> Node {
    let folders = ["/etc/kubernetes/pki/etcd", "/etc/kubernetes"].map(|path| (path.to_owned(), folder.to_owned()));
    Node { address: Ipv4Addr::LOCALHOST.into(), folders: folders.to_vec() }
}

/// What a control-plane node keeps for its etcd.
fn node_files(certs: &Certs, folder: &Path) -> Result<()> {
    for (name, from) in [("ca.crt", &certs.ca), ("server.crt", &certs.client_cert), ("server.key", &certs.client_key)] {
        std::fs::copy(from, folder.join(name))?;
    }
    Ok(())
}

/// Secrets by people, and everything that the chart renders for these endpoints.
async fn install<'a>(pair: &'a KubePair, node: &'a Node) -> Result<Release<'a>> {
    pair.standby.api().create(&namespace(NAMESPACE)).await?;
    primary_secrets(pair).await?;
    let endpoints = format!("active_cluster_etcd_endpoints={}", pair.link.primary.endpoint(0));
    let own = format!("standby_cluster_etcd_endpoints={}", pair.link.standby.endpoint(0));
    let helm = Helm::new()?;
    let objects = helm.render(NAMESPACE, &["--set", &endpoints, "--set", &own])?;
    Release::apply(pair, node, &helm, objects).await
}

/// How the kernel sees a process.
fn status(daemon: &Daemon, field: &str) -> Result<String> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix(&format!("{field}:")));
    Ok(line.with_context(|| format!("no {field}"))?.trim().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pods_of_the_chart_do_their_work_with_its_rights_and_no_others() -> Result<()> {
    let (pair, pki) = (tls_pair().await?, tempfile::tempdir()?);
    let node = node(pki.path());
    node_files(pair.link.standby.certs().context("the standby has certificates")?, pki.path())?;
    let release = install(&pair, &node).await?;
    let told = release.bootstrapped().await?;
    ensure!(told.contains("Secret cpaas-system/etcd-sync-standby-etcd: made"), "{told}");
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
    let monitor = release.monitor("etcd-sync-monitor-6f9c8-x2x4k").await?;
    pair.caught_up().await?;
    let (code, report) = monitor.http("/check").await?;
    ensure!(code == 200 && report.contains("LOCAL ETCD missed keys: 0"), "{code} {report}");
    first.terminate(PATIENCE).await?;
    second.wait_line("Acquired leader lease", PATIENCE).await?;
    await_holder(&pair, "etcd-sync-7d9c5-bbbbb").await?;

    // What uninstalling takes is nothing of the link: who is installed again goes on from the checkpoint.
    let recorded = || async { anyhow::Ok((pair.link.checkpoint().await?.context("a record")?, role(&pair).await?)) };
    second.terminate(PATIENCE).await?;
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
    ensure!(
        !third.lines().iter().any(|line| line.contains("first sync begins")),
        "it started again:\n{}",
        third.tail()
    );

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
    let (pair, pki) = (tls_pair().await?, tempfile::tempdir()?);
    let node = node(pki.path());
    let release = install(&pair, &node).await?;
    let missing = release.bootstrap().await?;
    let told = String::from_utf8_lossy(&missing.stderr).into_owned();
    ensure!(missing.status.code() == Some(2) && told.contains("/host/pki/ca.crt"), "{told}");
    // The other cluster's certificates.
    node_files(pair.link.primary.certs().context("certificates")?, pki.path())?;
    let wrong = release.bootstrap().await?;
    let told = String::from_utf8_lossy(&wrong.stderr).into_owned();
    ensure!(!wrong.status.success() && told.contains("--standby-cacert"), "{told}");
    Ok(())
}
