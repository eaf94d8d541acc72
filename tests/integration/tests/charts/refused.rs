//! Values that are wrong are refused before anything is touched, by name.

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::helm::Helm;
use crate::{CHART, NAMESPACE, file};

const VIP: &str = "--set=active_cluster_vip=192.0.2.10";

/// What the platform's form asks for.
const PARAMETERS: &[&str] = &[
    "active_cluster_vip",
    "active_cluster_etcd_endpoints",
    "standby_cluster_etcd_endpoints",
    "active_cluster_token_secret_ref",
    "monitor_check_interval",
    "detail",
];

/// Values, and what the refusal must name.
const WRONG: &[(&str, &str)] = &[
    // The platform's parameters.
    ("--set=active_cluster_vip=https://192.0.2.10", "active_cluster_vip"),
    ("--set=active_cluster_vip=192.0.2.10:2379", "active_cluster_vip"),
    ("--set=active_cluster_vip=10", "active_cluster_vip"),
    ("--set-string=active_cluster_vip=two words", "active_cluster_vip"),
    ("--set=active_cluster_etcd_endpoints=192.0.2.11", "active_cluster_etcd_endpoints"),
    ("--set-json=active_cluster_etcd_endpoints=[\"ftp://a:2379\"]", "active_cluster_etcd_endpoints"),
    ("--set-json=active_cluster_etcd_endpoints=\"a:2379,,b:2379\"", "active_cluster_etcd_endpoints"),
    ("--set=standby_cluster_etcd_endpoints=https://fd00::1:2379", "standby_cluster_etcd_endpoints"),
    ("--set-json=standby_cluster_etcd_endpoints={\"a\":1}", "standby_cluster_etcd_endpoints"),
    ("--set-json=standby_cluster_etcd_endpoints=[\"192.0.2.11\"]", "standby_cluster_etcd_endpoints"),
    ("--set=standby_cluster_etcd_endpoints=a:0", "standby_cluster_etcd_endpoints"),
    ("--set=standby_cluster_etcd_endpoints=a:99999", "standby_cluster_etcd_endpoints"),
    ("--set=standby_cluster_etcd_endpoints=a:02379", "standby_cluster_etcd_endpoints"),
    ("--set=active_cluster_token_secret_ref=My_Token", "active_cluster_token_secret_ref"),
    ("--set-json=active_cluster_token_secret_ref={\"name\":\"a\"}", "active_cluster_token_secret_ref"),
    ("--set=monitor_check_interval=0", "monitor_check_interval"),
    ("--set=monitor_check_interval=1441", "monitor_check_interval"),
    ("--set=monitor_check_interval=1m", "monitor_check_interval"),
    ("--set-json=monitor_check_interval=1.5", "monitor_check_interval"),
    ("--set-string=detail=yes", "detail"),
    ("--set=detail=1", "detail"),
    // Slips of the pen.
    ("--set=activ_cluster_vip=192.0.2.10", "activ_cluster_vip"),
    ("--set=primary.caSecrets=a", "caSecrets"),
    // The others.
    ("--set=link=My_Link", "link"),
    ("--set=replicas=0", "replicas"),
    ("--set=global.images.etcdSync.repository=registry.example.com/etcd-sync", "repository"),
    ("--set=global.images.etcdSync.repository=etcd-sync:v1", "repository"),
    ("--set=global.images.etcdSync.tag=", "tag"),
    ("--set=global.images.etcdSync.tag=null", "tag"),
    ("--set=global.images.etcdSync.tag=v 1", "tag"),
    ("--set=global.images.etcdSync.tags=v1", "tags"),
    ("--set=global.images.etcdSync.digest=abc", "digest"),
    ("--set=global.images=null", "images"),
    ("--set=image.tag=v1", "tag"),
    ("--set=image.pullPolicy=Sometimes", "pullPolicy"),
    ("--set=standby.certificates=file", "certificates"),
    ("--set=standby.hostPki=pki", "hostPki"),
    ("--set=standby.secret=", "standby.secret"),
    ("--set=encryption.hostFile=provider.conf", "hostFile"),
    ("--set=encryption.hostFile=/provider.conf", "hostFile"),
    ("--set=standby.certificates=secret,encryption.hostFile=/etc/kubernetes/provider.conf", "encryption.hostFile"),
    ("--set=standby.secret=etcd-sync-encryption", "standby.secret"),
    (
        "--set=active_cluster_vip=,active_cluster_etcd_endpoints=a:1,active_cluster_token_secret_ref=b",
        "active_cluster_vip",
    ),
    ("--set=global.registry.address=https://registry.example.com", "address"),
    ("--set=global.imagePullSecrets={Not a name}", "imagePullSecrets"),
    ("--set-json=global.imagePullSecrets=[{\"name\":\"\"}]", "imagePullSecrets"),
    ("--set=priorityClassName=Very_High", "priorityClassName"),
    ("--set-json=priorityClassName=1", "priorityClassName"),
    ("--set-string=certManager.enabled=yes", "enabled"),
    ("--set=certManager.issuerRef.name=a: b", "issuerRef"),
    ("--set=certManager.enabled=true", "certManager.issuerRef.name"),
    ("--set=primary.user=root", "primary.passwordSecret"),
    ("--set=config.--detail=true", "config.--detail"),
    ("--set=config.detail=true", "config.detail"),
    ("--set=config.listen=0.0.0.0:1", "config.listen"),
    ("--set=monitor.service.ipFamilyPolicy=Dual", "ipFamilyPolicy"),
    ("--set=runAs=0", "runAs"),
    ("--set=standby.renew=61", "renew"),
    ("--set=standby.hostFiles.ca=../ca.crt", "hostFiles"),
    ("--set=standby.user=root", "standby.passwordSecret"),
    ("--set=encryption.kmsFolder=/var/../etc", "kmsFolder"),
    ("--set=monitor.primary.passwordSecret=a", "monitor.primary.user"),
    ("--set=drill.enabled=true,drill.schedule=", "schedule"),
    ("--set=drill.enabled=true,drill.schedule=AAAA B C D E", "schedule"),
    ("--set=drill.enabled=true,drill.flags.lookup-pod=sentry", "lookup-pod"),
    ("--set=drill.enabled=true,drill.flags.json=/report", "drill.flags.json"),
    ("--set=drill.enabled=true,drill.flags.domain=", "drill.flags.domain"),
    ("--set=metrics.rules=perhaps", "rules"),
];

#[test]
fn a_wrong_value_is_refused_by_name() -> Result<()> {
    let helm = Helm::new()?;
    for (wrong, name) in WRONG {
        let told = helm.refusal(&[VIP, wrong])?;
        ensure!(told.contains(name), "{wrong}: the refusal does not name {name}: {told}");
    }
    for parameter in PARAMETERS {
        ensure!(WRONG.iter().any(|(_, name)| name == parameter), "nothing is wrong for {parameter}");
    }
    Ok(())
}

/// What may be taken away (null, or a key with nothing behind it), because "none" is an answer too.
const MAY_BE_NONE: &[&str] = &[
    "drill.resources",
    "global.images.etcdSync.support_arm",
    "global.images.etcdSync.thirdparty",
    "monitor.resources",
    "primary.caSecret",
    "primary.clientSecret",
    "priorityClassName",
    "resources",
    "runAs",
    "standby.renew",
    "tolerations",
];

#[test]
fn what_is_taken_away_is_missed_by_name_unless_none_is_an_answer() -> Result<()> {
    let (helm, text) = (Helm::new()?, std::fs::read_to_string(file(CHART).join("values.yaml"))?);
    let mut paths = Vec::new();
    leaves("", &serde_saphyr::from_str(&text)?, &mut paths);
    let (none, needed): (Vec<_>, Vec<_>) = paths.into_iter().partition(|(_, may_be_none)| *may_be_none);
    let nulls: Vec<String> = none.iter().map(|(path, _)| format!("--set={path}=null")).collect();
    // What is empty anyhow but for the address, and what may be.
    let args: Vec<&str> = nulls.iter().map(String::as_str).chain([VIP]).collect();
    let rendered = helm.text(NAMESPACE, &args)?;
    // The dashboard is JSON, and has its own.
    let yaml = rendered.lines().filter(|line| !line.trim_start().starts_with('"'));
    let nothing: Vec<&str> = yaml.filter(|line| line.contains("<nil>") || line.ends_with(": null")).collect();
    ensure!(nothing.is_empty(), "{nothing:?}");
    for (path, _) in needed {
        let told = helm.refusal(&[VIP, &format!("--set={path}=null")])?;
        let name = path.rsplit('.').next().unwrap_or_default();
        // Also where it is no property: a sentence of the chart's own.
        let named = told.contains(&format!("'{name}'")) || told.contains(&format!("{path} is not set"));
        ensure!(named, "{path}=null: the refusal does not name it: {told}");
    }
    Ok(())
}

/// Every value of the chart and whether it may be none; maps of values too, but not what others define.
fn leaves(above: &str, value: &Value, found: &mut Vec<(String, bool)>) {
    for (name, value) in value.as_object().into_iter().flatten() {
        let path = if above.is_empty() { name.clone() } else { format!("{above}.{name}") };
        let is_empty = match value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(entries) => entries.is_empty(),
            Value::Object(entries) => entries.is_empty(),
            _ => false,
        };
        let may_be_none = is_empty || MAY_BE_NONE.contains(&&path[..]);
        if !path.ends_with("resources") {
            leaves(&path, value, found);
        }
        found.push((path, may_be_none));
    }
}

#[test]
fn without_a_primary_it_says_which_parameter_names_it() -> Result<()> {
    let told = Helm::new()?.refusal(&[])?;
    ensure!(told.contains("active_cluster_vip is not set"), "{told}");
    ensure!(told.contains("active_cluster_etcd_endpoints"), "{told}");
    Ok(())
}
