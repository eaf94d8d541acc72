//! What the chart runs on a schedule, live: a drill, and copies of the node's files made again; and that the platform's own
//! installation of the synchronizer stays where it is.

use std::fs;
use std::path::Path;
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
use crate::{NAMESPACE, documents, file};

const ZONE: &str = "example.test";
const NAME: &str = "global.example.test";
const SCRATCH: &str = "drill.example.test";
/// What the platform has of a plugin: the plurals, which are no usual ones, and the plugin's own.
const MODULES: [(&str, &str); 3] = [
    ("moduleplugins", "moduleplugin.yaml"),
    ("moduleconfigs", "moduleconfig.yaml"),
    ("moduleinfoes", "moduleinfo.example.yaml"),
];

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

/// Of what the platform knows of plugins, all comes over but what is of the synchronizer.
async fn installations_stay(pair: &KubePair) -> Result<()> {
    for (plural, _) in MODULES {
        let schema = file(&format!("tests/integration/testdata/acp-crds/{plural}.yaml"));
        pair.primary.kubectl(&["apply", "--server-side", "-f", &schema.to_string_lossy()]).await?;
    }
    for plane in [&pair.primary, &pair.standby] {
        await_until("the platform's kinds are served", PATIENCE, || async {
            for (plural, _) in MODULES {
                let answer = plane.api().request("GET", &place(plural), None).await?;
                if answer.status != 200 {
                    return Ok(Some(answer.text()));
                }
            }
            Ok(None)
        })
        .await?;
    }
    let mut own = Vec::new();
    for (plural, example) in MODULES {
        let text = fs::read_to_string(file("charts/acp-plugin").join(example))?;
        let ours = documents(&text)?.into_iter().next().context("it is empty")?;
        let mut other = ours.clone();
        other["metadata"]["name"] = json!("other");
        other["metadata"]["labels"]["cpaas.io/module-name"] = json!("logging");
        // The platform may call them the same on both sides.
        own.push((plural, make(&pair.standby, plural, &ours).await?));
        make(&pair.primary, plural, &ours).await?;
        make(&pair.primary, plural, &other).await?;
    }
    pair.caught_up().await?;
    for (plural, own) in &own {
        pair.standby.api().need(&format!("{}/other", place(plural))).await?;
        let path = format!("{}/{}", place(plural), own["metadata"]["name"].as_str().context("it has a name")?);
        pair.primary.api().delete(&path).await?;
        pair.caught_up().await?;
        let kept = pair.standby.api().need(&path).await?;
        ensure!(kept["metadata"]["resourceVersion"] == own["metadata"]["resourceVersion"], "{kept}");
    }
    // Nor are they surplus, which prune would take away.
    let report = pair.check(&[]).await?;
    ensure!(report["missed"] == 0 && report["surplus"] == 0, "{report}");
    Ok(())
}

fn place(plural: &str) -> String {
    format!("/apis/cluster.alauda.io/v1alpha1/{plural}")
}

async fn make(plane: &ControlPlane, plural: &str, object: &Value) -> Result<Value> {
    let answer = plane.api().request("POST", &place(plural), Some(object)).await?;
    ensure!(answer.status == 201, "{}", answer.text());
    answer.json()
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

/// The node has a new certificate, and the pods are given it; what is not in order takes the place of nothing.
async fn copies_are_renewed(sites: &Sites, release: &Release<'_>) -> Result<()> {
    let told = text(&release.scheduled("etcd-sync-renew", "bootstrap").await?)?;
    ensure!(told.contains("etcd-sync-standby-etcd: stays as it is"), "{told}");
    let certs = sites.pair.link.standby.certs().context("certificates")?;
    let pki = &sites.node.folders.iter().find(|(path, _)| path.ends_with("pki/etcd")).context("a folder")?.1;
    let place = |cert: &Path, key: &Path| -> Result<()> {
        fs::copy(cert, pki.join("server.crt"))?;
        fs::copy(key, pki.join("server.key"))?;
        Ok(())
    };
    let path = format!("/api/v1/namespaces/{NAMESPACE}/secrets/etcd-sync-standby-etcd");
    let held = async || sites.pair.standby.api().need(&path).await;
    let empty = pki.join("empty");
    fs::write(&empty, "")?;
    for (what, cert, key) in [
        ("expired", &certs.expired_cert, &certs.expired_key),
        ("with another's key", &certs.client_cert, &certs.server_key),
        ("empty", &empty, &empty),
    ] {
        let before = held().await?;
        place(cert, key)?;
        let output = release.scheduled("etcd-sync-renew", "bootstrap").await?;
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success() && told.contains("nothing was renewed"), "{what}: {told}");
        ensure!(held().await?["data"] == before["data"], "{what}: the Secret has it all the same");
    }
    place(&certs.client_cert, &certs.client_key)?;
    let told = text(&release.scheduled("etcd-sync-renew", "bootstrap").await?)?;
    ensure!(told.contains("etcd-sync-standby-etcd: renewed"), "{told}");
    ensure!(told.contains("etcd-sync-encryption: stays as it is"), "{told}");
    ensure!(decoded(&held().await?, "tls.crt")? == fs::read(&certs.client_cert)?, "it has another certificate");
    let next = release.synchronizer("etcd-sync-7d9c5-bbbbb").await?;
    await_ready(&next, 200, "", PATIENCE).await?;

    // Somebody else's is left alone, and that is told.
    let label = json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "somebody"}}});
    sites.pair.standby.api().patch(&path, &label).await?;
    let output = release.scheduled("etcd-sync-renew", "bootstrap").await?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(1) && told.contains("these Secrets were not created by this chart"), "{told}");
    Ok(())
}

/// What it says when it ends well.
fn text(output: &Output) -> Result<String> {
    let told = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {told}", output.status);
    Ok(told)
}
