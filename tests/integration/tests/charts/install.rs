//! The chart on real API servers: held against their schemas, applied, installed, upgraded, uninstalled.

use std::process::{Output, Stdio};

use anyhow::{Context, Result, ensure};
use etcd_sync_integration::compare::await_true;
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::tools::{HelmVersion, KubernetesVersion};
use serde_json::json;

use crate::fixture::Fixture;
use crate::helm::{Helm, succeeded};
use crate::schemas::Schemas;
use crate::{CHART, NAMESPACE, file, object, plugin, template, value_files};

const VIP: &str = "--set=active_cluster_vip=192.0.2.10";

#[tokio::test]
async fn the_chart_and_the_plugin_serve_on_1_36() -> Result<()> {
    everything(KubernetesVersion::V1_36, HelmVersion::V4_3).await
}

#[tokio::test]
async fn the_chart_and_the_plugin_serve_on_1_34() -> Result<()> {
    everything(KubernetesVersion::V1_34, HelmVersion::V3_22).await
}

/// One control plane for all: its start is what costs.
async fn everything(version: KubernetesVersion, helm: HelmVersion) -> Result<()> {
    let fixture = Fixture::start(version).await?;
    let told = async {
        let schemas = Schemas::of(fixture.plane.api()).await?;
        every_rendering_is_valid(&fixture, &schemas, version).await.context("renderings")?;
        plugin::is_valid(&fixture, &schemas).await.context("plugin")?;
        restricted_pods_are_admitted(&fixture).await.context("pod security")?;
        rights_of_those_who_come_and_go(&fixture).await.context("rights")?;
        a_release_comes_and_goes(&fixture, &Helm::of(helm)?).await.context("release")?;
        anyhow::Ok(())
    };
    let told = told.await;
    if told.is_err() {
        eprintln!("{}", fixture.plane.tail());
    }
    told
}

/// Each values file in a namespace of its own: kubeconform, a dry run, and for real.
async fn every_rendering_is_valid(fixture: &Fixture, schemas: &Schemas, version: KubernetesVersion) -> Result<()> {
    let helm = Helm::new()?;
    for values in value_files()? {
        let name = values.file_stem().and_then(|stem| stem.to_str()).context("a name")?.to_owned();
        fixture.namespace(&name, &json!({})).await?;
        let served = format!("--kube-version={}", version.line());
        let args = ["--values", &values.to_string_lossy(), &served];
        let known = [
            "--api-versions=monitoring.coreos.com/v1/ServiceMonitor",
            "--api-versions=monitoring.coreos.com/v1/PrometheusRule",
        ];
        let rendered =
            helm.values(&format!("{name}.rendered.yaml"), &helm.text(&name, &[&args[..], &known].concat())?)?;
        schemas.check(&rendered)?;
        fixture.apply(&rendered, &["--dry-run=server"]).await.with_context(|| format!("{name}, a dry run"))?;
        fixture.apply(&rendered, &[]).await.with_context(|| name.clone())?;
    }
    // That this tells right from wrong.
    let slip = "apiVersion: v1\nkind: Service\nmetadata: {name: slip}\nspec: {portz: [{port: 80}]}\n";
    let told = schemas.complaint(&helm.values("slip.yaml", slip)?)?;
    ensure!(told.contains("portz"), "{told}");
    Ok(())
}

/// All pods are restricted ones; those that read the node's files are the one exception.
async fn restricted_pods_are_admitted(fixture: &Fixture) -> Result<()> {
    fixture.namespace("restricted", &json!({"pod-security.kubernetes.io/enforce": "restricted"})).await?;
    let helm = Helm::new()?;
    for (case, args) in [
        ("host", vec![VIP, "--set=encryption.hostFile=/etc/kubernetes/encryption-provider.conf"]),
        ("secret", vec![VIP, "--set=standby.certificates=secret"]),
    ] {
        let objects = helm.render("restricted", &[&args[..], &["--set=drill.enabled=true"]].concat())?;
        for (kind, name) in [
            ("Deployment", "etcd-sync"),
            ("Deployment", "etcd-sync-monitor"),
            ("Job", "etcd-sync-bootstrap"),
            ("CronJob", "etcd-sync-drill"),
            ("CronJob", "etcd-sync-renew"),
        ] {
            let reads_host = case == "host" && ["etcd-sync-bootstrap", "etcd-sync-renew"].contains(&name);
            if case == "secret" && name == "etcd-sync-renew" {
                ensure!(object(&objects, kind, name).is_err(), "there is nothing to renew");
                continue;
            }
            let template = template(object(&objects, kind, name)?);
            let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
                "metadata": {"name": name, "namespace": "restricted"}});
            let place = "/api/v1/namespaces/restricted/serviceaccounts";
            let made = fixture.plane.api().request("POST", place, Some(&account)).await?;
            ensure!([201, 409].contains(&made.status), "{}", made.text());
            let pod = json!({
                "apiVersion": "v1", "kind": "Pod", "spec": template["spec"],
                "metadata": {"name": format!("{name}-{case}"), "labels": template["metadata"]["labels"]},
            });
            let made = fixture.plane.api().request("POST", "/api/v1/namespaces/restricted/pods", Some(&pod)).await?;
            let wanted = if reads_host { 403 } else { 201 };
            ensure!(made.status == wanted, "{name}, {case}: {} {}", made.status, made.text());
            if reads_host {
                ensure!(made.text().contains("hostPath") && made.text().contains("runAsUser=0"), "{}", made.text());
            }
        }
    }
    Ok(())
}

/// The accounts of the CronJobs.
async fn rights_of_those_who_come_and_go(fixture: &Fixture) -> Result<()> {
    fixture.namespace(NAMESPACE, &json!({})).await?;
    let helm = Helm::new()?;
    let hosts = "--set=encryption.hostFile=/etc/kubernetes/encryption-provider.conf";
    let rendered = helm.text(NAMESPACE, &[VIP, hosts, "--set=drill.enabled=true", "--no-hooks"])?;
    let file = helm.values("rights.yaml", &rendered)?;
    fixture.apply(&file, &[]).await?;
    for (account, verb, what, namespace, may) in [
        ("etcd-sync-drill", "list", "secrets", "kube-system", true),
        ("etcd-sync-drill", "create", "pods:exec", NAMESPACE, true),
        ("etcd-sync-drill", "get", "pods:exec", "kube-system", false),
        ("etcd-sync-drill", "get", "services:proxy", "kube-system", false),
        ("etcd-sync-drill", "delete", "pods", "kube-system", false),
        ("etcd-sync-renew", "update", "secrets/etcd-sync-standby-etcd", NAMESPACE, true),
        ("etcd-sync-renew", "update", "secrets/etcd-sync-encryption", NAMESPACE, true),
        ("etcd-sync-renew", "get", "secrets/remote-etcd-client", NAMESPACE, false),
        ("etcd-sync-renew", "create", "secrets", NAMESPACE, false),
        ("etcd-sync-renew", "list", "secrets", NAMESPACE, false),
    ] {
        granted(fixture, (NAMESPACE, account), verb, what, namespace, may).await?;
    }
    // What follows installs it as people do.
    fixture.plane.kubectl(&["delete", "-f", &file.to_string_lossy()]).await?;
    Ok(())
}

/// Waits until an account may do this, or may not: the API server knows new permissions a moment after they are made.
async fn granted(
    fixture: &Fixture,
    account: (&str, &str),
    verb: &str,
    what: &str,
    namespace: &str,
    may: bool,
) -> Result<()> {
    let told = || async { Ok(fixture.plane.api().may(account, verb, what, namespace).await? == may) };
    await_true(&format!("{account:?} may {verb} {what} in {namespace}: {may}"), PATIENCE, told).await
}

/// Install, upgrade, uninstall, with the Secrets that people and the Job make.
async fn a_release_comes_and_goes(fixture: &Fixture, helm: &Helm) -> Result<()> {
    let api = fixture.plane.api();
    let place = |group: &str, kind: &str, name: &str| format!("/{group}/namespaces/{NAMESPACE}/{kind}/{name}");
    // The last is what the Job, whose node is played here, would make.
    let secrets = ["remote-etcd-ca", "remote-etcd-client", "etcd-sync-standby-etcd"];
    for name in secrets {
        let metadata = json!({"name": name, "namespace": NAMESPACE});
        api.create(&json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata})).await?;
    }

    // What the clusters lack is told while somebody looks, and the next try goes on from there.
    let (output, job) =
        (release(fixture, helm, &["install"], &[VIP], 1).await?, place("apis/batch/v1", "jobs", "etcd-sync-bootstrap"));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        !output.status.success() && told.contains("etcd-sync-bootstrap"),
        "it takes what the bootstrap Job refuses: {told}"
    );
    let failed = api.need(&job).await?["status"].to_string();
    ensure!(failed.contains("PodFailurePolicy"), "another try was made: {failed}");
    ensure!(api.get(&place("apis/apps/v1", "deployments", "etcd-sync")).await?.is_none(), "it runs all the same");

    let output = release(fixture, helm, &["upgrade", "--install"], &[VIP], 0).await?;
    let notes = String::from_utf8(succeeded(output)?.stdout)?;
    for told in [
        "svc=$(kubectl -n cpaas-system get svc etcd-sync-monitor -o jsonpath='{.spec.clusterIP}')",
        "case $svc in *:*) svc=\"[$svc]\";; esac",
        "curl -g \"http://$svc/check\"",
        "kubectl -n cpaas-system get lease etcd-sync-mirror -o jsonpath='{.spec.holderIdentity}'",
        "Start Sync update",
    ] {
        ensure!(notes.contains(told), "the notes lack {told:?}:\n{notes}");
    }
    let deployment = api.need(&place("apis/apps/v1", "deployments", "etcd-sync")).await?;
    api.need(&place("apis/apps/v1", "deployments", "etcd-sync-monitor")).await?;
    let service = api.need(&place("api/v1", "services", "etcd-sync-monitor")).await?;
    ensure!(service["spec"]["ipFamilies"] == json!(["IPv4", "IPv6"]), "{service}");
    ensure!(service["spec"]["ports"][0]["port"] == 80, "{service}");
    // Prometheus' kinds are known here, so they are used without a word.
    api.need(&place("apis/monitoring.coreos.com/v1", "prometheusrules", "etcd-sync")).await?;
    the_rights_are_the_least(fixture).await?;
    // A hook that went well leaves nothing.
    for (group, kind) in [
        ("apis/batch/v1", "jobs"),
        ("api/v1", "serviceaccounts"),
        ("api/v1", "configmaps"),
        ("apis/networking.k8s.io/v1", "networkpolicies"),
        ("apis/rbac.authorization.k8s.io/v1", "roles"),
        ("apis/rbac.authorization.k8s.io/v1", "rolebindings"),
    ] {
        ensure!(api.get(&place(group, kind, "etcd-sync-bootstrap")).await?.is_none(), "the hook's {kind} stays");
    }

    succeeded(release(fixture, helm, &["upgrade"], &[VIP, "--set=detail=true"], 0).await?)?;
    let upgraded = api.need(&place("apis/apps/v1", "deployments", "etcd-sync")).await?;
    ensure!(upgraded["metadata"]["uid"] == deployment["metadata"]["uid"], "the Deployment was created again");
    ensure!(upgraded["metadata"]["generation"] != deployment["metadata"]["generation"], "the pods are not rolled");

    succeeded(helm.at(&fixture.plane, &["uninstall", "etcd-sync"])?.output()?)?;
    for name in secrets {
        api.need(&place("api/v1", "secrets", name)).await?;
    }
    let left = [
        "get",
        "all,configmaps,serviceaccounts,roles,rolebindings,networkpolicies,pdb,servicemonitors,prometheusrules",
    ];
    let left = [&left[..], &["-n", NAMESPACE, "-l", "app.kubernetes.io/managed-by=Helm", "-o", "name"]].concat();
    let left = fixture.plane.kubectl(&left).await?;
    // The pods go once their Deployments are collected.
    let left: Vec<&str> =
        left.lines().filter(|name| !name.starts_with("pod/") && !name.contains("replicaset")).collect();
    ensure!(left.is_empty(), "uninstalled, and these stay: {left:?}");
    Ok(())
}

/// `helm install` or `upgrade`, while somebody plays the node, where the bootstrap Job's program ends with `code`.
async fn release(fixture: &Fixture, helm: &Helm, verb: &[&str], args: &[&str], code: i32) -> Result<Output> {
    let chart = file(CHART);
    let fixed = ["etcd-sync", &chart.to_string_lossy(), "--timeout=5m"];
    let mut command = tokio::process::Command::from(helm.at(&fixture.plane, &[verb, &fixed, args].concat())?);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn()?;
    let (pod, output) = tokio::join!(fixture.end_bootstrap(NAMESPACE, code), child.wait_with_output());
    ensure!(pod?["spec"]["serviceAccountName"] == "etcd-sync-bootstrap");
    Ok(output?)
}

/// What the synchronizer may do, and what it and the monitor may not.
async fn the_rights_are_the_least(fixture: &Fixture) -> Result<()> {
    let (sync, monitor) = ((NAMESPACE, "etcd-sync"), (NAMESPACE, "etcd-sync-monitor"));
    for (verb, what) in [
        ("create", "leases.coordination.k8s.io"),
        ("get", "leases.coordination.k8s.io/etcd-sync-mirror"),
        ("update", "leases.coordination.k8s.io/etcd-sync-mirror"),
    ] {
        granted(fixture, sync, verb, what, NAMESPACE, true).await?;
        ensure!(!fixture.plane.api().may(sync, verb, what, "kube-system").await?, "it may {verb} {what} elsewhere");
        ensure!(!fixture.plane.api().may(monitor, verb, what, NAMESPACE).await?, "the monitor may {verb} {what}");
    }
    for (verb, what) in [
        ("update", "leases.coordination.k8s.io/another"),
        ("get", "leases.coordination.k8s.io/another"),
        ("list", "leases.coordination.k8s.io"),
        ("patch", "leases.coordination.k8s.io/etcd-sync-mirror"),
        ("delete", "leases.coordination.k8s.io/etcd-sync-mirror"),
        ("get", "secrets/remote-etcd-client"),
        ("list", "secrets"),
        ("list", "pods"),
        ("create", "pods"),
        ("get", "nodes"),
    ] {
        ensure!(!fixture.plane.api().may(sync, verb, what, NAMESPACE).await?, "it may {verb} {what}");
        ensure!(!fixture.plane.api().may(monitor, verb, what, NAMESPACE).await?, "the monitor may {verb} {what}");
    }
    let path = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments/etcd-sync-monitor");
    let monitor = fixture.plane.api().need(&path).await?;
    ensure!(monitor["spec"]["template"]["spec"]["automountServiceAccountToken"] == json!(false), "it has a token");
    Ok(())
}
