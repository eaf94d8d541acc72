//! What the chart runs on a schedule, live: a drill, and copies of the node's files made anew; and that the platform's own
//! installation of the synchronizer stays where it is.

use std::fs;
use std::process::Output;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use etcd_sync_integration::bind::{Bind, Key, Zone};
use etcd_sync_integration::compare::await_until;
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::kube::objects::{APPS, secret as a_secret};
use etcd_sync_integration::kube::{ControlPlane, KubePair, Kwok};
use etcd_sync_integration::link::await_ready;
use serde_json::{Value, json};

use crate::helm::Helm;
use crate::release::Release;
use crate::sites::{ENCRYPTION_FILE, Sites, TOKEN_SECRET, decoded, secret};
use crate::{NAMESPACE, file};

const ZONE: &str = "example.test";
const NAME: &str = "global.example.test";
const SCRATCH: &str = "drill.example.test";
const MODULES: &str = "/apis/cluster.alauda.io/v1alpha1/moduleinfoes";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_on_a_schedule_does_its_work() -> Result<()> {
    let (sites, helm) = (Sites::start().await?, Helm::new()?);
    let key = Key::new("drill-key")?;
    let records = "global 1 IN A 10.0.0.1\n".to_owned();
    let zone = Zone::Primary { name: ZONE.into(), records, update: Some(key.name.clone()) };
    let bind = Bind::start(std::slice::from_ref(&key), &[zone]).await?;
    let _node = Kwok::management(&sites.pair.standby, &bind).await?;
    let told = async {
        secret(&sites.pair, "drill-files", &[("tsig.key", key.text().into_bytes())]).await?;
        sites.pair.primary.api().create(&a_secret(APPS, "first", &[])).await?;
        let release = install(&sites, &helm, &bind).await?;
        release.bootstrapped().await?;
        let daemon = release.synchronizer("etcd-sync-7d9c5-aaaaa").await?;
        daemon.wait_line("Start Sync update", PATIENCE).await?;
        installations_stay(&sites.pair).await.context("installations")?;
        a_drill_is_ready(&release, &bind).await.context("drill")?;
        let ends = daemon.metric("etcd_sync_certificate_expiry_timestamp_seconds{side=\"standby\"}").await;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
        ensure!(ends.is_some_and(|ends| ends > now), "{ends:?}");
        copies_are_renewed(&sites, &release).await.context("renewal")
    };
    let told = told.await;
    sites.pair.explain(None, told)
}

async fn install<'a>(sites: &'a Sites, helm: &Helm, bind: &Bind) -> Result<Release<'a>> {
    let values = json!({
        "active_cluster_vip": sites.vip.address(),
        "active_cluster_token_secret_ref": TOKEN_SECRET,
        "encryption": {"hostFile": ENCRYPTION_FILE},
        "drill": {
            "enabled": true,
            "secret": "drill-files",
            "flags": {
                "domain": NAME, "drill-name": SCRATCH, "dns-zone": ZONE, "dns-server": [bind.address()], "dns-resolver": [bind.address()],
                "dns-from": ["10.0.0.1"], "dns-address": ["10.0.0.2"], "dns-ttl": "1s",
                "dns-tsig-key-file": "/etc/etcd-sync-drill/tsig.key",
            },
        },
    });
    let file = helm.values("drill.yaml", &values.to_string())?;
    let objects = helm.render(NAMESPACE, &["--values", &file.to_string_lossy()])?;
    Release::apply(&sites.pair, &sites.node, helm, objects).await
}

/// Of the platform's installations of plugins, all come over but that of the synchronizer.
async fn installations_stay(pair: &KubePair) -> Result<()> {
    let schema = file("tests/integration/testdata/acp-crds/moduleinfoes.yaml");
    pair.primary.kubectl(&["apply", "--server-side", "-f", &schema.to_string_lossy()]).await?;
    let module = |name: &str, module: &str, vip: &str| {
        let labels = json!({"cpaas.io/module-name": module, "cpaas.io/cluster-name": "global"});
        json!({
            "apiVersion": "cluster.alauda.io/v1alpha1", "kind": "ModuleInfo", "metadata": {"name": name, "labels": labels},
            "spec": {"version": "0.1.0", "config": {"active_cluster_vip": vip}},
        })
    };
    for plane in [&pair.primary, &pair.standby] {
        await_until("the platform's kind is served", PATIENCE, || async {
            let answer = plane.api().request("GET", MODULES, None).await?;
            Ok((answer.status != 200).then(|| answer.text()))
        })
        .await?;
    }
    // The platform may call them the same on both sides.
    // The kind's plural is no usual one.
    let make = async |plane: &ControlPlane, object: Value| -> Result<Value> {
        let answer = plane.api().request("POST", MODULES, Some(&object)).await?;
        ensure!(answer.status == 201, "{}", answer.text());
        answer.json()
    };
    let own = make(&pair.standby, module("global-1", "etcd-sync", "192.0.2.2")).await?;
    for one in [module("global-1", "etcd-sync", "192.0.2.1"), module("global-2", "logging", "192.0.2.1")] {
        make(&pair.primary, one).await?;
    }
    pair.caught_up().await?;
    let served = |name: &str| format!("{MODULES}/{name}");
    pair.standby.api().need(&served("global-2")).await?;
    pair.primary.api().delete(&served("global-1")).await?;
    pair.caught_up().await?;
    let kept = pair.standby.api().need(&served("global-1")).await?;
    ensure!(kept["metadata"]["resourceVersion"] == own["metadata"]["resourceVersion"], "{kept}");
    Ok(())
}

/// With the key of the name server, the rights of its account, and the standby's API server as the pod finds it.
async fn a_drill_is_ready(release: &Release<'_>, bind: &Bind) -> Result<()> {
    let told = text(&release.scheduled("etcd-sync-drill", "drill").await?)?;
    ensure!(told.contains("\nREADY: score "), "{told}");
    for part in ["kinds", "dns-switch", "dns-verify", "dns-inside", "dns-remove", "restart"] {
        let line = told.lines().find(|line| line.trim_start().starts_with(part));
        ensure!(line.is_some_and(|line| line.contains("passed") && !line.contains("FAILED")), "{part}: {told}");
    }
    ensure!(bind.count_lines(&format!("adding an RR at '{SCRATCH}'")) == 1, "{}", bind.tail());
    ensure!(bind.lookup(SCRATCH).await.is_empty(), "{SCRATCH} is still there");
    Ok(())
}

/// The node has a new certificate, and the pods are given it.
async fn copies_are_renewed(sites: &Sites, release: &Release<'_>) -> Result<()> {
    let told = text(&release.scheduled("etcd-sync-renew", "bootstrap").await?)?;
    ensure!(told.contains("etcd-sync-standby-etcd: stays as it is"), "{told}");
    let certs = sites.pair.link.standby.certs().context("certificates")?;
    let pki = &sites.node.folders.iter().find(|(path, _)| path.ends_with("pki/etcd")).context("a folder")?.1;
    for (name, from) in [("server.crt", &certs.client_cert), ("server.key", &certs.client_key)] {
        fs::copy(from, pki.join(name))?;
    }
    let told = text(&release.scheduled("etcd-sync-renew", "bootstrap").await?)?;
    ensure!(told.contains("etcd-sync-standby-etcd: renewed"), "{told}");
    ensure!(told.contains("etcd-sync-encryption: stays as it is"), "{told}");
    let path = format!("/api/v1/namespaces/{NAMESPACE}/secrets/etcd-sync-standby-etcd");
    let made: Value = sites.pair.standby.api().need(&path).await?;
    ensure!(decoded(&made, "tls.crt")? == fs::read(&certs.client_cert)?, "it has another certificate");
    let next = release.synchronizer("etcd-sync-7d9c5-bbbbb").await?;
    await_ready(&next, 200, "", PATIENCE).await
}

/// What it says when it ends well.
fn text(output: &Output) -> Result<String> {
    let told = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {told}", output.status);
    Ok(told)
}
