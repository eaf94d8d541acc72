//! The values beside the platform's: each changes what it says.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use etcd_sync_integration::tools;
use serde_json::{Value, json};

use crate::helm::Helm;
use crate::{NAMESPACE, object, template, value_files};

const VIP: &str = "--set=active_cluster_vip=192.0.2.10";

fn pod(kind: &str, name: &str, args: &[&str]) -> Result<Value> {
    let objects = Helm::new()?.render(NAMESPACE, &[&[VIP], args].concat())?;
    Ok(template(object(&objects, kind, name)?)["spec"].clone())
}

/// The Secret from which the file at `path` comes.
fn source(pod: &Value, path: &str) -> Result<String> {
    let sources = pod["volumes"][0]["projected"]["sources"].as_array().context("no volume")?;
    let found = sources.iter().find(|source| source["secret"]["items"][0]["path"] == path);
    let name = found.and_then(|source| source["secret"]["name"].as_str());
    Ok(name.with_context(|| format!("{path} is not mounted: {sources:?}"))?.to_owned())
}

#[test]
fn the_monitor_may_have_credentials_of_its_own() -> Result<()> {
    let own = [
        "--set=monitor.primary.clientSecret=read-primary,monitor.standby.secret=read-standby",
        "--set=monitor.primary.user=reader,monitor.primary.passwordSecret=reader",
    ];
    let (sync, monitor) = (pod("Deployment", "etcd-sync", &own)?, pod("Deployment", "etcd-sync-monitor", &own)?);
    for (path, of_sync, of_monitor) in [
        ("primary/ca.crt", "remote-etcd-ca", "remote-etcd-ca"),
        ("primary-client/tls.key", "remote-etcd-client", "read-primary"),
        ("standby/tls.key", "etcd-sync-standby-etcd", "read-standby"),
    ] {
        ensure!(source(&sync, path)? == of_sync && source(&monitor, path)? == of_monitor, "{path}: {sync} {monitor}");
    }
    ensure!(source(&monitor, "primary-user/password")? == "reader" && source(&sync, "primary-user/password").is_err());
    let user = |pod: &Value| {
        let all = pod["containers"][0]["env"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|one| one["name"] == "ETCD_SYNC_PRIMARY_USER").map(|one| one["value"].clone())
    };
    ensure!(user(&monitor) == Some(json!("reader")) && user(&sync).is_none(), "{monitor}");
    // Where the synchronizer has none at all.
    let alone = "--set=primary.clientSecret=,monitor.primary.clientSecret=read-primary";
    let monitor = pod("Deployment", "etcd-sync-monitor", &[alone])?.to_string();
    ensure!(monitor.contains("\"value\":\"/etc/etcd-sync/primary-client/tls.crt\""), "it is not told: {monitor}");
    // Without any, it has the synchronizer's.
    let monitor = pod("Deployment", "etcd-sync-monitor", &[])?;
    ensure!(source(&monitor, "standby/tls.key")? == "etcd-sync-standby-etcd" && user(&monitor).is_none());
    Ok(())
}

#[test]
fn the_platform_may_choose_the_user() -> Result<()> {
    let context = |args: &[&str]| anyhow::Ok(pod("Deployment", "etcd-sync", args)?["securityContext"].clone());
    let own = context(&[])?;
    ensure!(own["runAsUser"] == 65532 && own["fsGroup"] == 65532, "{own}");
    let chosen = context(&["--set=runAs=null"])?;
    ensure!(chosen == json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}}), "{chosen}");
    Ok(())
}

#[test]
fn a_node_may_keep_its_certificates_elsewhere() -> Result<()> {
    let k3s = [
        "--set=standby.hostPki=/var/lib/rancher/k3s/server/tls/etcd",
        "--set=standby.hostFiles.ca=server-ca.crt,standby.hostFiles.cert=client.crt,standby.hostFiles.key=client.key",
    ];
    for (kind, name) in [("Job", "etcd-sync-bootstrap"), ("CronJob", "etcd-sync-renew")] {
        let told = pod(kind, name, &k3s)?.to_string();
        for part in [
            "--standby-cacert=/host/pki/server-ca.crt",
            "--standby-cert=/host/pki/client.crt",
            "--standby-key=/host/pki/client.key",
            "\"path\":\"/var/lib/rancher/k3s/server/tls/etcd\"",
        ] {
            ensure!(told.contains(part), "{name}: {part} is missing: {told}");
        }
    }
    Ok(())
}

#[test]
fn sockets_of_kms_plugins_are_reached_where_they_are() -> Result<()> {
    let kms = ["--set=encryption.kmsFolder=/run/kms", "--set=standby_cluster_etcd_endpoints=https://etcd:2379"];
    for (kind, name) in [
        ("Deployment", "etcd-sync"),
        ("Deployment", "etcd-sync-monitor"),
        ("Job", "etcd-sync-bootstrap"),
        ("CronJob", "etcd-sync-renew"),
        ("CronJob", "etcd-sync-drill"),
    ] {
        let pod = pod(kind, name, &[&kms[..], &["--set=drill.enabled=true"]].concat())?;
        let mounts = pod["containers"][0]["volumeMounts"].to_string();
        ensure!(mounts.contains("\"mountPath\":\"/run/kms\""), "{name}: {mounts}");
        // The socket is on control-plane nodes.
        ensure!(pod["affinity"]["nodeAffinity"].is_object(), "{name}: {}", pod["affinity"]);
    }
    Ok(())
}

#[test]
fn pods_are_where_the_etcd_is() -> Result<()> {
    let members = "--set=standby_cluster_etcd_endpoints=https://192.0.2.21:2379";
    let elsewhere = [members, "--set=standby.certificates=secret"];
    for (args, bound) in [(&[][..], true), (&[members], true), (&elsewhere, false)] {
        for name in ["etcd-sync", "etcd-sync-monitor"] {
            let pod = pod("Deployment", name, args)?;
            ensure!(pod["affinity"]["nodeAffinity"].is_object() == bound, "{args:?}: {}", pod["affinity"]);
            ensure!(pod["priorityClassName"] == "system-cluster-critical", "{pod}");
        }
    }
    Ok(())
}

/// Versions only are asked for with it: the pods start without, and the monitor asks no API server.
#[test]
fn no_pod_waits_for_the_token() -> Result<()> {
    let token = "--set=active_cluster_token_secret_ref=primary-token";
    let sync = pod("Deployment", "etcd-sync", &[token])?;
    ensure!(source(&sync, "active-cluster/token")? == "primary-token");
    let sources = sync["volumes"][0]["projected"]["sources"].as_array().context("no volume")?.iter();
    let of_token = sources.filter(|source| source["secret"]["name"] == "primary-token");
    ensure!(of_token.map(|source| &source["secret"]["optional"]).all(|optional| *optional == json!(true)), "{sync}");
    let monitor = pod("Deployment", "etcd-sync-monitor", &[token])?;
    ensure!(source(&monitor, "active-cluster/token").is_err(), "{monitor}");
    Ok(())
}

#[test]
fn every_pod_is_under_a_network_policy() -> Result<()> {
    let objects = Helm::new()?.render(NAMESPACE, &[VIP, "--set=drill.enabled=true"])?;
    let templates = objects.iter().map(template).filter(|template| template.is_object());
    let apps: Vec<&str> = templates.filter_map(|template| template["metadata"]["labels"]["app"].as_str()).collect();
    ensure!(apps.len() == 5, "{apps:?}");
    for app in apps {
        let policy = object(&objects, "NetworkPolicy", app)?;
        ensure!(policy["spec"]["podSelector"]["matchLabels"] == json!({"app": app}), "{policy}");
        ensure!(policy["spec"]["policyTypes"] == json!(["Ingress", "Egress"]), "{policy}");
        let serves = ["etcd-sync", "etcd-sync-monitor"].contains(&app);
        ensure!(
            policy["spec"]["ingress"].as_array().is_some_and(|peers| peers.len() == usize::from(serves)),
            "{policy}"
        );
        let egress = policy["spec"]["egress"].to_string();
        let goes = [53, 2379, 443, 6443].iter().all(|port| egress.contains(&format!("\"port\":{port}")));
        ensure!(goes || (app == "etcd-sync-drill" && egress == "[{}]"), "{policy}");
    }
    Ok(())
}

/// A drill whose flags the program does not take would be told of at night.
#[test]
fn every_drill_of_the_values_files_is_one_that_the_program_takes() -> Result<()> {
    let mut drills = 0;
    for values in value_files()? {
        let objects = Helm::new()?.render(NAMESPACE, &["--values", &values.to_string_lossy()])?;
        let Ok(drill) = object(&objects, "CronJob", "etcd-sync-drill") else { continue };
        drills += 1;
        let args = template(drill)["spec"]["containers"][0]["args"].clone();
        let args: Vec<String> = serde_json::from_value(args)?;
        ensure!(!args.iter().any(|arg| arg.contains("e+")), "{args:?}");
        // Without the pod's files: then it ends before it asks anybody.
        let args = args.iter().filter(|arg| !arg.starts_with("--config="));
        let output = Command::new(tools::etcd_sync()?).env_clear().args(args).output()?;
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.code() == Some(2) && told.contains("--primary-endpoints is missing"),
            "{values:?}: {told}"
        );
    }
    ensure!(drills >= 2, "only {drills}");
    Ok(())
}

#[test]
fn a_drill_looks_up_where_it_may() -> Result<()> {
    for (flags, place) in [(None, NAMESPACE), (Some("--set=drill.flags.lookup-pod=web/deployments/front"), "web")] {
        let args: Vec<&str> = [VIP, "--set=drill.enabled=true"].into_iter().chain(flags).collect();
        let objects = Helm::new()?.render(NAMESPACE, &args)?;
        for kind in ["Role", "RoleBinding"] {
            let told = object(&objects, kind, "etcd-sync-drill-cpaas-system")?;
            ensure!(told["metadata"]["namespace"] == place, "{told}");
        }
    }
    Ok(())
}
