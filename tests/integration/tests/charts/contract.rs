//! What scripts and people rely on, in what the chart renders; and that every parameter changes what it says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use etcd_sync_core::scope::EXCLUDED_NAMESPACES;
use etcd_sync_integration::tools::{self, HelmVersion};
use serde_json::{Value, json};

use crate::helm::{Helm, succeeded};
use crate::{CHART, NAMESPACE, documents, file, object, value_files};

const VIP: &str = "--set=active_cluster_vip=192.0.2.10";

#[test]
fn lint_finds_nothing_with_any_values() -> Result<()> {
    let helm = Helm::new()?;
    for values in value_files()? {
        let (chart, values) = (file(CHART), values.to_string_lossy().into_owned());
        let output = helm.run(&["lint", "--strict", &chart.to_string_lossy(), "--values", &values])?;
        let told = [output.stdout, output.stderr].concat();
        ensure!(output.status.success(), "{values}: {}", String::from_utf8_lossy(&told));
    }
    Ok(())
}

#[test]
fn the_helm_before_the_newest_makes_the_same_of_it() -> Result<()> {
    let (new, old) = (Helm::new()?, Helm::of(HelmVersion::V3_22)?);
    let chart = file(CHART);
    for values in value_files()? {
        let values = values.to_string_lossy().into_owned();
        succeeded(old.run(&["lint", "--strict", &chart.to_string_lossy(), "--values", &values])?)?;
        // Without a cluster, each takes another one for granted.
        let args = ["--values", &values, "--kube-version=1.36"];
        let by_name = |helm: &Helm| -> Result<BTreeMap<String, Value>> {
            let objects = helm.render(NAMESPACE, &args)?;
            Ok(objects.into_iter().map(|one| (format!("{} {}", one["kind"], one["metadata"]["name"]), one)).collect())
        };
        ensure!(by_name(&new)? == by_name(&old)?, "{values}: they differ");
    }
    Ok(())
}

#[test]
fn the_objects_have_the_names_of_the_contract() -> Result<()> {
    let objects = Helm::new()?.render(NAMESPACE, &[VIP])?;
    for name in ["etcd-sync", "etcd-sync-monitor"] {
        let deployment = object(&objects, "Deployment", name)?;
        ensure!(deployment["metadata"]["namespace"] == NAMESPACE);
        ensure!(deployment["spec"]["selector"]["matchLabels"] == json!({"app": name}), "{deployment}");
        ensure!(deployment["spec"]["template"]["metadata"]["labels"]["app"] == name, "{deployment}");
    }
    ensure!(object(&objects, "Deployment", "etcd-sync")?["spec"]["replicas"] == 2);
    let service = object(&objects, "Service", "etcd-sync-monitor")?;
    ensure!(service["spec"]["ports"] == json!([{"name": "http", "port": 80, "targetPort": "http"}]), "{service}");
    ensure!(service["spec"]["ipFamilyPolicy"] == "PreferDualStack", "{service}");
    let role = object(&objects, "Role", "etcd-sync")?;
    let leases = json!({"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]});
    let mut own = leases.clone();
    own["resourceNames"] = json!(["etcd-sync-mirror"]);
    own["verbs"] = json!(["get", "update"]);
    ensure!(role["rules"] == json!([leases, own]), "{role}");
    let deployment = object(&objects, "Deployment", "etcd-sync")?.to_string();
    for secret in ["remote-etcd-ca", "remote-etcd-client"] {
        ensure!(deployment.contains(&format!("\"name\":\"{secret}\"")), "{secret}: {deployment}");
    }
    Ok(())
}

#[test]
fn every_parameter_changes_what_it_says() -> Result<()> {
    let helm = Helm::new()?;
    let configured = |args: &[&str]| config(&helm.render(NAMESPACE, args)?);
    let told = configured(&[VIP])?;
    ensure!(told["primary-endpoints"] == json!(["https://192.0.2.10:2379"]), "{told}");
    ensure!(told["active-cluster-vip"] == "192.0.2.10" && told["check-interval"] == "1m", "{told}");
    ensure!(told["detail"] == json!(false) && told["link"] == "default", "{told}");
    ensure!(told["standby-endpoints"].is_null() && told["active-cluster-token-file"].is_null(), "{told}");
    ensure!(told["exclude-namespace"].is_null(), "{told}");

    for vip in ["fd00::10", "[fd00::10]"] {
        let told = configured(&[&format!("--set-string=active_cluster_vip={vip}")])?;
        ensure!(told["primary-endpoints"] == json!(["https://[fd00::10]:2379"]), "{told}");
        ensure!(told["active-cluster-vip"] == "[fd00::10]", "{told}");
    }
    let two = json!(["https://192.0.2.11:2379", "https://192.0.2.12:2379"]);
    let list = two.to_string();
    for (parameter, key) in [
        ("active_cluster_etcd_endpoints", "primary-endpoints"),
        ("standby_cluster_etcd_endpoints", "standby-endpoints"),
    ] {
        let told = configured(&[VIP, &format!("--set-json={parameter}={list}")])?;
        ensure!(told[key] == two, "{told}");
        let text = json!("https://192.0.2.11:2379, https://192.0.2.12:2379");
        let told = configured(&[VIP, &format!("--set-json={parameter}={text}")])?;
        ensure!(told[key] == two, "{told}");
    }
    let told = configured(&[VIP, "--set=active_cluster_token_secret_ref=primary-token"])?;
    ensure!(told["active-cluster-token-file"] == "/etc/etcd-sync/active-cluster/token", "{told}");
    let told = configured(&[VIP, "--set=monitor_check_interval=7", "--set=detail=true"])?;
    ensure!(told["check-interval"] == "7m" && told["detail"] == json!(true), "{told}");
    let told = configured(&[VIP, "--set=link=other", "--set=config.leader-ttl=15s"])?;
    ensure!(told["link"] == "other" && told["leader-ttl"] == "15s", "{told}");
    Ok(())
}

#[test]
fn a_change_of_the_values_rolls_the_pods_and_nothing_else_does() -> Result<()> {
    let helm = Helm::new()?;
    let checksum = |args: &[&str], name: &str| -> Result<Value> {
        let objects = helm.render(NAMESPACE, args)?;
        let deployment = object(&objects, "Deployment", name)?;
        Ok(deployment["spec"]["template"]["metadata"]["annotations"]["checksum/config"].clone())
    };
    for name in ["etcd-sync", "etcd-sync-monitor"] {
        let before = checksum(&[VIP], name)?;
        ensure!(before.is_string() && before == checksum(&[VIP, "--is-upgrade", "--set=replicas=3"], name)?);
        ensure!(before != checksum(&[VIP, "--set=detail=true"], name)?);
    }
    Ok(())
}

#[test]
fn the_release_s_own_namespace_never_travels() -> Result<()> {
    let told = config(&Helm::new()?.render("dr", &[VIP])?)?;
    let excluded: Vec<&str> = EXCLUDED_NAMESPACES.into_iter().chain(["dr"]).collect();
    ensure!(told["exclude-namespace"] == json!(excluded), "{told}");
    // Whatever people omit besides, and however they write it.
    for given in [r#"["a","b"]"#, r#""a, b""#] {
        let told =
            config(&Helm::new()?.render("dr", &[VIP, &format!("--set-json=config.exclude-namespace={given}")])?)?;
        ensure!(told["exclude-namespace"] == json!(["a", "b", "dr"]), "{told}");
    }
    let none = r#"--set-json=config={"exclude-namespace":[]}"#;
    ensure!(config(&Helm::new()?.render("dr", &[VIP, none])?)?["exclude-namespace"] == json!(["dr"]));
    let named = "--set=config.exclude-namespace={dr}";
    ensure!(config(&Helm::new()?.render("dr", &[VIP, named])?)?["exclude-namespace"] == json!(["dr"]));
    Ok(())
}

/// The runbook's commands refuse another scope than the pods have; the texts say how to copy it.
#[test]
fn what_copies_the_scope_copies_all_of_it_and_nothing_else() -> Result<()> {
    let helm = Helm::new()?;
    let scope = r#"--set-json=config={"prefix":["/kubernetes.io/"],"cluster-local-add":["/x/*"],"ready-lag":"1m"}"#;
    let endpoints = "--set=active_cluster_etcd_endpoints={https://192.0.2.1:2379,https://192.0.2.2:2379}";
    let objects = helm.render("dr", &[VIP, endpoints, scope, "--set=link=prod"])?;
    let pods = config(&objects)?;
    let copied = helm.home().join("config.yaml");
    let text = object(&objects, "ConfigMap", "etcd-sync")?["data"]["config.yaml"].as_str().context("no config.yaml")?;
    fs::write(&copied, text)?;
    for told in ["charts/etcd-sync/templates/NOTES.txt", "docs/runbook.md"] {
        let text = fs::read_to_string(file(told))?;
        let program = text.split("| awk '").nth(1).and_then(|rest| rest.split('\'').next()).context(told)?;
        let shown = succeeded(Command::new("awk").arg(program).arg(&copied).output()?)?.stdout;
        let shown: BTreeMap<String, Value> = serde_saphyr::from_str(&String::from_utf8(shown)?)?;
        let wanted = ["cluster-local-add", "exclude-namespace", "link", "prefix"];
        ensure!(shown.keys().eq(wanted), "{told}: {shown:?}");
        ensure!(shown.iter().all(|(key, value)| pods[key] == *value), "{told}: {shown:?}");
    }
    Ok(())
}

#[test]
fn every_file_of_the_configuration_is_mounted() -> Result<()> {
    let helm = Helm::new()?;
    for values in value_files()? {
        let objects = helm.render("dr", &["--values", &values.to_string_lossy()])?;
        let told = config(&objects)?;
        let wanted = told.as_object().context("no mapping")?.values().filter_map(Value::as_str);
        let wanted: BTreeSet<&str> = wanted.filter_map(|value| value.strip_prefix("/etc/etcd-sync/")).collect();
        for name in ["etcd-sync", "etcd-sync-monitor"] {
            let deployment = object(&objects, "Deployment", name)?;
            let pod = &deployment["spec"]["template"]["spec"];
            let sources = pod["volumes"][0]["projected"]["sources"].as_array().context("no volume")?;
            let items = sources.iter().map(|source| {
                let source = source.get("secret").or_else(|| source.get("configMap"));
                source.and_then(|source| source["items"][0]["path"].as_str()).context("a source without a path")
            });
            let mounted: BTreeSet<&str> = items.collect::<Result<_>>()?;
            // The monitor asks no API server.
            let idle = |path: &&&str| name == "etcd-sync-monitor" && path.starts_with("active-cluster/");
            let missing: Vec<&&str> = wanted.difference(&mounted).filter(|path| !idle(path)).collect();
            ensure!(missing.is_empty(), "{values:?}, {name}: not mounted: {missing:?}");
            // What else is mounted stands for itself, or lies beside what is named.
            let beside: BTreeSet<&str> = ["config.yaml", "active-cluster/ca.crt"].into();
            let idle: Vec<&&str> = mounted.difference(&wanted).filter(|path| !beside.contains(*path)).collect();
            ensure!(idle.is_empty(), "{values:?}, {name}: mounted for nothing: {idle:?}");
        }
    }
    Ok(())
}

#[test]
fn monitoring_comes_where_the_cluster_knows_it() -> Result<()> {
    let helm = Helm::new()?;
    let known = [
        "--api-versions=monitoring.coreos.com/v1/ServiceMonitor",
        "--api-versions=monitoring.coreos.com/v1/PrometheusRule",
    ];
    let kinds = |args: &[&str]| -> Result<BTreeSet<String>> {
        let objects = helm.render(NAMESPACE, &[&[VIP], args].concat())?;
        Ok(objects.iter().filter_map(|object| Some(object["kind"].as_str()?.to_owned())).collect())
    };
    let has = |kinds: &BTreeSet<String>| kinds.contains("ServiceMonitor") && kinds.contains("PrometheusRule");
    ensure!(has(&kinds(&known)?));
    let without = kinds(&[])?;
    ensure!(!without.contains("ServiceMonitor") && !without.contains("PrometheusRule"));
    ensure!(has(&kinds(&["--set=metrics.serviceMonitor=true,metrics.rules=true"])?));
    let off = kinds(&[&known[..], &["--set=metrics.serviceMonitor=false,metrics.rules=false"]].concat())?;
    ensure!(!off.contains("ServiceMonitor") && !off.contains("PrometheusRule"));

    Ok(())
}

#[test]
fn the_rules_are_those_of_the_file_and_speak_of_their_own_release() -> Result<()> {
    let helm = Helm::new()?;
    let objects = helm.render("dr", &[VIP, "--set=metrics.rules=true"])?;
    let spec = &object(&objects, "PrometheusRule", "etcd-sync")?["spec"];
    let rules = |document: &Value| -> Vec<Value> {
        let groups = document["groups"].as_array().into_iter().flatten();
        groups.flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default()).collect()
    };
    let written = documents(&std::fs::read_to_string(file(CHART).join("files/alerts.yaml"))?)?;
    let (made, written) = (rules(spec), rules(&written[0]));
    ensure!(made.len() == written.len() && made.len() > 10, "{} rules", made.len());
    for (mut made, mut written) in made.into_iter().zip(written) {
        let (expr, plain) = (made["expr"].take(), written["expr"].take());
        let (expr, plain) = (expr.as_str().context("a rule")?, plain.as_str().context("a rule")?);
        let metrics = plain.matches("etcd_sync_").count() + plain.matches("kube_cronjob_").count();
        ensure!(expr.matches(r#"{namespace="dr""#).count() == metrics, "{expr}");
        let without = expr.replace(r#"{namespace="dr"}"#, "").replace(r#"namespace="dr","#, "");
        ensure!(without == plain, "{without} is not {plain}");
        let text = written.to_string().replace("-n cpaas-system", "-n dr");
        ensure!(made == serde_json::from_str::<Value>(&text)?, "{made} is not {text}");
    }
    let file = helm.values("rules.yaml", &spec.to_string())?;
    let output = Command::new(tools::promtool()?).args(["check", "rules"]).arg(file).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[test]
fn the_dashboard_asks_for_metrics_that_there_are() -> Result<()> {
    let objects = Helm::new()?.render(NAMESPACE, &[VIP])?;
    let map = object(&objects, "ConfigMap", "etcd-sync-dashboard")?;
    let text = map["data"]["etcd-sync.json"].as_str().context("no dashboard")?;
    let dashboard: Value = serde_json::from_str(text)?;
    let page = std::fs::read_to_string(file("docs/metrics.md"))?;
    let panels = dashboard["panels"].as_array().context("no panels")?;
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let mut names = BTreeSet::new();
    for expression in targets.filter_map(|target| target["expr"].as_str()) {
        let words = expression.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        names.extend(words.filter(|word| word.starts_with("etcd_sync_") || word.ends_with("_keys_count")));
    }
    ensure!(names.len() > 10, "{names:?}");
    let unknown: Vec<&&str> = names.iter().filter(|name| !page.contains(&format!("| `{name}` |"))).collect();
    ensure!(unknown.is_empty(), "docs/metrics.md knows no {unknown:?}");
    Ok(())
}

#[test]
fn it_renders_for_every_kubernetes_that_it_names() -> Result<()> {
    let helm = Helm::new()?;
    for (version, newer) in [("1.25.0", false), ("1.27.0", true), ("1.36.3-gke.1", true)] {
        let objects = helm.render(NAMESPACE, &[VIP, &format!("--kube-version={version}")])?;
        let budget = &object(&objects, "PodDisruptionBudget", "etcd-sync")?["spec"];
        ensure!(budget["unhealthyPodEvictionPolicy"].is_string() == newer, "{version}: {budget}");
    }
    let told = helm.refusal(&[VIP, "--kube-version=1.24.9"])?;
    ensure!(told.contains("kubeVersion"), "{told}");
    Ok(())
}

#[test]
fn the_versions_are_the_workspace_s() -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let chart = &documents(&std::fs::read_to_string(file(CHART).join("Chart.yaml"))?)?[0];
    ensure!(chart["version"] == version && chart["appVersion"] == version, "{chart}");
    let values = &documents(&std::fs::read_to_string(file(CHART).join("values.yaml"))?)?[0];
    ensure!(values["global"]["images"]["etcdSync"]["tag"] == version, "{values}");
    Ok(())
}

#[test]
fn the_image_is_the_one_that_is_named() -> Result<()> {
    let (helm, digest) = (Helm::new()?, format!("sha256:{}", "0".repeat(64)));
    for (values, wanted) in [
        ("tag=v1.2-rc.3", "etcd-sync:v1.2-rc.3".to_owned()),
        ("repository=dr/etcd.sync", format!("dr/etcd.sync:{}", env!("CARGO_PKG_VERSION"))),
        (&format!("digest={digest}"), format!("etcd-sync@{digest}")),
    ] {
        let values = format!("--set=global.images.etcdSync.{values}");
        for (registry, prefix) in [("", ""), ("registry.example.com:5000", "registry.example.com:5000/")] {
            let registry = format!("--set=global.registry.address={registry}");
            let objects = helm.render(NAMESPACE, &[VIP, &values, &registry])?;
            let pod = &object(&objects, "Deployment", "etcd-sync")?["spec"]["template"]["spec"];
            ensure!(pod["containers"][0]["image"] == format!("{prefix}{wanted}"), "{values}: {pod}");
        }
    }
    Ok(())
}

/// What both programs read.
fn config(objects: &[Value]) -> Result<Value> {
    let map = object(objects, "ConfigMap", "etcd-sync")?;
    let text = map["data"]["config.yaml"].as_str().context("no config.yaml")?;
    if let Ok(hook) = object(objects, "ConfigMap", "etcd-sync-bootstrap") {
        ensure!(hook["data"]["config.yaml"] == *text, "the bootstrap Job reads another configuration: {hook}");
    }
    Ok(serde_saphyr::from_str(text)?)
}

#[test]
fn the_services_lead_to_what_the_pods_listen_on() -> Result<()> {
    let objects = Helm::new()?.render(NAMESPACE, &["--set=active_cluster_vip=192.0.2.10"])?;
    for app in ["etcd-sync", "etcd-sync-monitor"] {
        let (service, template) =
            (object(&objects, "Service", app)?, &object(&objects, "Deployment", app)?["spec"]["template"]);
        let selector = service["spec"]["selector"].as_object().context("a Service selects")?;
        ensure!(!selector.is_empty(), "{app} selects everything");
        for (label, value) in selector {
            ensure!(&template["metadata"]["labels"][label] == value, "{app}: no pod has {label}={value}");
        }
        let container = &template["spec"]["containers"][0];
        let named = service["spec"]["ports"][0]["targetPort"].as_str().context("a port has a name")?;
        let port = container["ports"].as_array().into_iter().flatten().find(|port| port["name"] == named);
        let port = port.with_context(|| format!("{app}: no port {named}"))?["containerPort"].to_string();
        let listen = container["env"].as_array().into_iter().flatten().find(|env| env["name"] == "ETCD_SYNC_LISTEN");
        let listen = listen.and_then(|env| env["value"].as_str()).context("it is told where to listen")?;
        ensure!(listen.ends_with(&format!(":{port}")), "{app} listens on {listen}, the Service asks {port}");
    }
    Ok(())
}

#[test]
fn a_slow_comparison_raises_no_alarm() -> Result<()> {
    let helm = Helm::new()?;
    let known = "--api-versions=monitoring.coreos.com/v1/PrometheusRule";
    for (minutes, window) in [(1, "[10m]"), (60, "[125m]")] {
        let interval = format!("--set=monitor_check_interval={minutes}");
        let objects = helm.render(NAMESPACE, &["--set=active_cluster_vip=192.0.2.10", known, &interval])?;
        let rules = object(&objects, "PrometheusRule", "etcd-sync")?["spec"].to_string();
        ensure!(rules.contains(&format!("unknown\\\"}}{window}")), "{minutes}: {rules}");
    }
    Ok(())
}

#[test]
fn the_platform_s_pull_secrets_are_taken_too() -> Result<()> {
    let values =
        ["--set=global.imagePullSecrets={one}", "--set=global.registry.imagePullSecrets={global-registry-auth}"];
    let objects = Helm::new()?.render(NAMESPACE, &[&["--set=active_cluster_vip=192.0.2.10"], &values[..]].concat())?;
    let secrets = &object(&objects, "Deployment", "etcd-sync")?["spec"]["template"]["spec"]["imagePullSecrets"];
    ensure!(*secrets == json!([{"name": "one"}, {"name": "global-registry-auth"}]), "{secrets}");
    Ok(())
}
