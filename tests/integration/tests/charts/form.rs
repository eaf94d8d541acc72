//! The platform's form, live: the least that it gives is enough, and each of its parameters does what it says.

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use etcd_sync_integration::compare::await_until;
use etcd_sync_integration::daemon::Daemon;
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::kube::objects::{APPS, config_map, key_of, secret as a_secret};
use etcd_sync_integration::kube::path;
use etcd_sync_integration::ports;
use serde_json::{Value, json};

use crate::NAMESPACE;
use crate::helm::Helm;
use crate::release::{Release, await_holder, json_of};
use crate::sites::{ENCRYPTION_FILE, ETCD, Sites, TOKEN_SECRET, decoded, secret};

/// A value that no log may show.
const WORD: &str = "vermilion-and-zinnober";
/// The primary's version is not known.
const NOT_TOLD: &str = "warn api-versions the primary's API server did not say what it serves (";

/// One pair for all: its start is what costs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_parameters_of_the_form_do_what_they_say() -> Result<()> {
    let (mut sites, helm) = (Sites::start().await?, Helm::new()?);
    let told = async {
        the_least_is_enough(&sites, &helm).await.context("the least")?;
        // As where nobody forwards the port.
        sites.vip.close(ETCD).await;
        sites.host.close(ETCD).await;
        all_others_change_it(&sites, &helm).await.context("all others")?;
        without_a_token_it_says_so(&sites, &helm).await.context("no token")
    };
    let told = told.await;
    sites.pair.explain(None, told)
}

/// Its address for everything of the primary, the node's own member, the node's files.
async fn the_least_is_enough(sites: &Sites, helm: &Helm) -> Result<()> {
    let pair = &sites.pair;
    pair.primary.api().create(&a_secret(APPS, "first", &[])).await?;
    let release = install(sites, helm, &sites.least()).await?;
    let told = release.bootstrapped().await?;
    let version = version(sites).await?;
    for line in [
        "Secret cpaas-system/etcd-sync-standby-etcd: created",
        "Secret cpaas-system/etcd-sync-encryption: created",
        "pass  encryption",
        &format!("pass  api-versions   Kubernetes {version} and {version}"),
    ] {
        ensure!(told.contains(line), "no {line:?}:\n{told}");
    }
    let certs = pair.link.standby.certs().context("certificates")?;
    for (name, key, file) in [
        ("etcd-sync-standby-etcd", "ca.crt", &certs.ca),
        ("etcd-sync-standby-etcd", "tls.crt", &certs.server_cert),
        ("etcd-sync-standby-etcd", "tls.key", &certs.server_key),
        ("etcd-sync-encryption", "encryption-provider.conf", &pair.standby.encryption_file()?),
    ] {
        let made = pair.standby.api().need(&format!("/api/v1/namespaces/{NAMESPACE}/secrets/{name}")).await?;
        ensure!(decoded(&made, key)? == std::fs::read(file)?, "{name} has another {key}");
    }

    let pod = "etcd-sync-7d9c5-aaaaa";
    let daemon = release.synchronizer(pod).await?;
    daemon.wait_line("Acquired leader lease", PATIENCE).await?;
    daemon.wait_line("Start Sync update", PATIENCE).await?;
    await_holder(pair, pod).await?;
    let monitor = release.monitor("etcd-sync-monitor-6f9c8-aaaaa").await?;
    let state = json_of(&monitor, "/api/state").await?;
    ensure!(state["checkIntervalMs"] == 60_000, "{state}");
    let (keys, _) = write(sites, "quiet").await?;
    nothing_is_missed(&monitor).await?;
    ensure!(daemon.metric("etcd_sync_undecodable_total").await == Some(0.0), "it could not decode values");
    daemon.terminate(PATIENCE).await?;
    for key in &keys {
        let shown = daemon.lines().into_iter().find(|line| line.contains(key));
        ensure!(shown.is_none(), "a line for a key, without detail: {shown:?}");
    }
    no_values(&daemon)
}

/// Endpoints instead of the address and the node, of which the first is dead; a wrong token; a slower monitor; lines for keys.
async fn all_others_change_it(sites: &Sites, helm: &Helm) -> Result<()> {
    let (pair, dead) = (&sites.pair, ports::free(2)?);
    secret(pair, "wrong-token", &[("token", b"not-a-token".to_vec()), ("ca.crt", authority(sites).await?)]).await?;
    let values = json!({
        "active_cluster_vip": sites.vip.address(),
        "active_cluster_etcd_endpoints": format!("https://127.0.0.1:{}, {}", dead[0], pair.link.primary.endpoint(0)),
        "standby_cluster_etcd_endpoints": format!("https://127.0.0.1:{},{}", dead[1], pair.link.standby.endpoint(0)),
        "active_cluster_token_secret_ref": "wrong-token",
        "monitor_check_interval": 7,
        "detail": true,
        "encryption": {"hostFile": ENCRYPTION_FILE},
    });
    let release = install(sites, helm, &values.to_string()).await?;
    let told = release.bootstrapped().await?;
    ensure!(told.contains("Secret cpaas-system/etcd-sync-standby-etcd: stays as it is"), "{told}");
    let told = unwrapped(&told);
    ensure!(told.contains(NOT_TOLD) && told.contains("check --active-cluster-token-file: it is"), "{told}");
    ensure!(!told.contains("not-a-token"), "it shows the token: {told}");

    let daemon = release.synchronizer("etcd-sync-5b8d4-bbbbb").await?;
    daemon.wait_line("Start Sync update", PATIENCE).await?;
    let monitor = release.monitor("etcd-sync-monitor-5b8d4-bbbbb").await?;
    let state = json_of(&monitor, "/api/state").await?;
    ensure!(state["checkIntervalMs"] == 420_000, "{state}");
    let (keys, objects) = write(sites, "told").await?;
    for key in &keys {
        daemon.wait_line(key, PATIENCE).await?;
    }
    pair.primary.api().delete(&path(&objects[0])?).await?;
    pair.caught_up().await?;
    await_until("a line tells the deletion", PATIENCE, || async {
        let told = daemon.lines().iter().any(|line| line.contains(&keys[0]) && line.contains("deleted"));
        Ok((!told).then(|| daemon.tail()))
    })
    .await?;
    nothing_is_missed(&monitor).await?;
    daemon.terminate(PATIENCE).await?;
    no_values(&daemon)?;
    ports::release(dead);
    Ok(())
}

async fn without_a_token_it_says_so(sites: &Sites, helm: &Helm) -> Result<()> {
    let values = json!({
        "active_cluster_vip": sites.vip.address(),
        "active_cluster_etcd_endpoints": [sites.pair.link.primary.endpoint(0)],
        "standby_cluster_etcd_endpoints": [sites.pair.link.standby.endpoint(0)],
        "encryption": {"hostFile": ENCRYPTION_FILE},
    });
    let told = install(sites, helm, &values.to_string()).await?.bootstrapped().await?;
    let told = unwrapped(&told);
    ensure!(told.contains(NOT_TOLD) && told.contains("-> check --active-cluster-cacert"), "{told}");
    Ok(())
}

/// Without the line ends of a table.
fn unwrapped(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

async fn install<'a>(sites: &'a Sites, helm: &Helm, values: &str) -> Result<Release<'a>> {
    let file = helm.values("form.yaml", values)?;
    let objects = helm.render(NAMESPACE, &["--values", &file.to_string_lossy()])?;
    Release::apply(&sites.pair, &sites.node, helm, objects).await
}

/// What the primary's API server calls itself.
async fn version(sites: &Sites) -> Result<String> {
    let told = sites.pair.primary.api().need("/version").await?;
    Ok(told["gitVersion"].as_str().context("a version")?.to_owned())
}

async fn authority(sites: &Sites) -> Result<Vec<u8>> {
    let path = format!("/api/v1/namespaces/{NAMESPACE}/secrets/{TOKEN_SECRET}");
    decoded(&sites.pair.standby.api().need(&path).await?, "ca.crt")
}

/// A ConfigMap and a Secret on the primary; waits until the standby's API server serves the same. Returns their keys too.
async fn write(sites: &Sites, name: &str) -> Result<(Vec<String>, Vec<Value>)> {
    let pair = &sites.pair;
    let (mut map, mut secret) = (config_map(APPS, name, &[]), a_secret(APPS, name, &[]));
    map["data"] = json!({"word": WORD});
    secret["stringData"] = json!({"word": WORD});
    let objects = [map, secret];
    for object in &objects {
        pair.primary.api().create(object).await?;
    }
    pair.caught_up().await?;
    let mut keys = Vec::new();
    for object in &objects {
        let place = path(object)?;
        let copy = pair.standby.api().need(&place).await?;
        ensure!(copy["data"] == pair.primary.api().need(&place).await?["data"], "{place} differs");
        let key = key_of(object)?;
        let stored = pair.link.standby.get(&key).await?.context("it is stored")?;
        ensure!(stored.value.starts_with(b"k8s:enc:secretbox:"), "{place} is stored otherwise");
        keys.push(String::from_utf8(key.to_vec())?);
    }
    Ok((keys, objects.to_vec()))
}

/// By the values, too.
async fn nothing_is_missed(monitor: &Daemon) -> Result<()> {
    let report = json_of(monitor, "/check?deep=1").await?;
    ensure!(report["localMissedKeys"] == json!([]) && report["keysCompared"].as_u64() > Some(0), "{report}");
    ensure!(report["undecryptable"] == 0 && report["mismatched"] == 0, "{report}");
    let (code, text) = monitor.http("/check").await?;
    ensure!(code == 200 && text.contains("LOCAL ETCD missed keys: 0"), "{code} {text}");
    Ok(())
}

fn no_values(daemon: &Daemon) -> Result<()> {
    let encoded = STANDARD.encode(WORD);
    let shown = daemon.lines().into_iter().find(|line| line.contains(WORD) || line.contains(&encoded));
    ensure!(shown.is_none(), "a value in the log: {shown:?}");
    Ok(())
}
