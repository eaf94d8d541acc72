//! `etcd-sync plan` against two real control planes names every conflict that was planted, and nothing else.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use etcd_sync_integration::compare::await_true;
use etcd_sync_integration::daemon::run_command;
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::kube::{Api, KubePair, PairOptions, PlaneOptions, path};
use etcd_sync_integration::tools::KubernetesVersion;
use serde_json::{Value, json};

/// Stands in a value; no output may hold it.
const SECRET: &str = "c0nfidential";

#[tokio::test(flavor = "multi_thread")]
async fn the_plan_names_exactly_the_planted_conflicts() -> Result<()> {
    let mut options = PairOptions::new();
    // One network, so that addresses can collide; two releases, so that one class is stored in another version.
    options.standby.service_cidr = PlaneOptions::default().service_cidr;
    options.primary.version = KubernetesVersion::V1_34;
    options.standby.version = KubernetesVersion::V1_36;
    let pair = KubePair::start(options).await?;
    let outcome = planted(&pair).await;
    pair.explain(None, outcome)
}

async fn planted(pair: &KubePair) -> Result<()> {
    let (primary, standby) = (pair.primary.api(), pair.standby.api());
    for name in ["apps", "cpaas-system"] {
        primary.create(&object("v1", "Namespace", None, name)).await?;
    }
    standby.create(&object("v1", "Namespace", None, "apps")).await?;
    for api in [primary, standby] {
        let account = "/api/v1/namespaces/apps/serviceaccounts/default";
        await_true("the namespace is set up", PATIENCE, || async { Ok(api.get(account).await?.is_some()) }).await?;
        let class = json!({"driverName": "csi.example.com", "parameters": {"a": "b"}});
        api.create(&with(object("storage.k8s.io/v1", "VolumeAttributesClass", None, "fast"), class)).await?;
    }
    owners(primary, standby).await?;
    services(primary, standby).await?;
    volumes(primary, standby).await?;
    webhooks(primary).await?;
    definitions(primary).await?;
    being_deleted(primary).await?;

    let before = (pair.link.primary.revision().await?, pair.link.standby.revision().await?);
    let plan = plan(pair, &["-o", "json"]).await?;
    let plan: Value = serde_json::from_str(&plan).context("the plan is no JSON")?;
    let mut found = BTreeMap::new();
    for group in plan["conflicts"].as_array().context("no conflicts")? {
        let examples = group["examples"].as_array().context("no examples")?;
        assert_eq!(group["count"], examples.len(), "{group:#}");
        let key = |example: &Value| example["key"].as_str().unwrap_or_default().replace("/registry/", "");
        let keys: Vec<String> = examples.iter().map(key).collect();
        found.insert(group["kind"].as_str().unwrap_or_default().to_owned(), keys);
    }
    let expected = [
        (
            "other-uid",
            vec![
                "configmaps/apps/owner",
                "namespaces/apps",
                "persistentvolumeclaims/apps/data",
                "serviceaccounts/apps/default",
                "volumeattributesclasses/fast",
            ],
        ),
        ("owner-absent", vec!["configmaps/apps/chained"]),
        ("owner-reference-absent", vec!["configmaps/apps/mixed"]),
        ("cluster-ip", vec!["services/specs/apps/web"]),
        ("node-port", vec!["services/specs/apps/web"]),
        ("volume-claim-absent", vec!["persistentvolumes/platform"]),
        ("volume-claim-other-uid", vec!["persistentvolumes/data"]),
        ("webhook-fail", vec!["validatingwebhookconfigurations/strict"]),
        ("webhook-ignore", vec!["mutatingwebhookconfigurations/lenient"]),
        ("conversion-webhook", vec!["apiextensions.k8s.io/customresourcedefinitions/converted.acme.example"]),
        ("namespace-deleting", vec!["namespaces/going"]),
        ("crd-deleting", vec!["apiextensions.k8s.io/customresourcedefinitions/goings.acme.example"]),
        ("storage-version", vec!["volumeattributesclasses/fast"]),
        ("custom-version", vec!["acme.example/widgets/apps/old"]),
    ];
    let expected = expected.map(|(kind, keys)| (kind.to_owned(), keys.into_iter().map(str::to_owned).collect()));
    assert_eq!(found, BTreeMap::from(expected), "{:#}", plan["conflicts"]);
    let owner = &plan["conflicts"][0]["examples"][0];
    assert_eq!(owner["standby_keys"], json!(["/registry/configmaps/apps/of-the-standby"]), "{owner:#}");

    let table = plan_table(pair).await?;
    eprintln!("{table}");
    for part in [
        "Conflicts:",
        "10.96.77.7",
        "30777",
        "cert-manager/strict",
        "standby: /registry/services/specs/kube-system/dns",
    ] {
        assert!(table.contains(part), "{part} is not in:\n{table}");
    }
    assert!(!table.contains(SECRET) && !plan.to_string().contains(SECRET));
    // The API servers themselves write now and then, and so do their controllers; the program writes only below its own root.
    assert!(
        pair.link.standby.get("/etcd-sync/default/checkpoint").await?.is_none(),
        "a plan wrote something: {before:?}"
    );
    Ok(())
}

async fn plan(pair: &KubePair, more: &[&str]) -> Result<String> {
    let mut args = vec!["plan".to_owned()];
    args.extend(pair.flags(more)?);
    let output = run_command(&args).await?;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    Ok(output.stdout)
}

async fn plan_table(pair: &KubePair) -> Result<String> {
    plan(pair, &[]).await
}

fn object(api_version: &str, kind: &str, namespace: Option<&str>, name: &str) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "metadata": {"namespace": namespace, "name": name}})
}

fn with(mut object: Value, fields: Value) -> Value {
    if let (Some(object), Value::Object(fields)) = (object.as_object_mut(), fields) {
        object.extend(fields);
    }
    object
}

/// Creates a ConfigMap and returns how it is referred to as an owner.
async fn config_map(api: &Api, name: &str, owners: &[&Value]) -> Result<Value> {
    let mut map = with(object("v1", "ConfigMap", Some("apps"), name), json!({"data": {"key": SECRET}}));
    map["metadata"]["ownerReferences"] = json!(owners);
    let made = api.create(&map).await?;
    Ok(json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": made["metadata"]["uid"]}))
}

/// Chains that end at a Node, which is not synchronized; and one name on both sides, with a dependent on the standby.
async fn owners(primary: &Api, standby: &Api) -> Result<()> {
    let node = primary.create(&object("v1", "Node", None, "machine")).await?;
    let node = json!({"apiVersion": "v1", "kind": "Node", "name": "machine", "uid": node["metadata"]["uid"]});
    let owner = config_map(primary, "owner", &[]).await?;
    config_map(primary, "sound", &[&owner]).await?;
    let blocked = config_map(primary, "blocked", &[&node]).await?;
    config_map(primary, "chained", &[&blocked]).await?;
    config_map(primary, "mixed", &[&owner, &blocked]).await?;
    let own = config_map(standby, "owner", &[]).await?;
    config_map(standby, "of-the-standby", &[&own]).await?;
    Ok(())
}

async fn services(primary: &Api, standby: &Api) -> Result<()> {
    let service = |namespace, name, address: &str, port: u16| {
        let ports = json!([{"port": 80, "nodePort": port}]);
        let spec = json!({"spec": {"type": "NodePort", "clusterIP": address, "ports": ports}});
        with(object("v1", "Service", Some(namespace), name), spec)
    };
    standby.create(&service("kube-system", "dns", "10.96.77.7", 30777)).await?;
    primary.create(&service("apps", "web", "10.96.77.7", 30777)).await?;
    primary.create(&service("apps", "sound", "10.96.77.8", 30778)).await?;
    let headless = json!({"spec": {"clusterIP": "None", "ports": [{"port": 80}]}});
    primary.create(&with(object("v1", "Service", Some("apps"), "headless"), headless.clone())).await?;
    standby.create(&with(object("v1", "Service", Some("kube-system"), "headless"), headless)).await?;
    Ok(())
}

/// Volumes bound to their claims by the primary's controllers: in scope; in an excluded namespace; in scope, and the
/// standby has a claim of that name.
async fn volumes(primary: &Api, standby: &Api) -> Result<()> {
    let spec = json!({"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/nowhere"},
        "persistentVolumeReclaimPolicy": "Retain", "storageClassName": ""});
    let claim = |namespace, name: &str| {
        let spec = json!({"spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "", "volumeName": name,
            "resources": {"requests": {"storage": "1Gi"}}}});
        with(object("v1", "PersistentVolumeClaim", Some(namespace), name), spec)
    };
    for (namespace, name) in [("apps", "sound"), ("cpaas-system", "platform"), ("apps", "data")] {
        let volume = with(object("v1", "PersistentVolume", None, name), json!({"spec": spec}));
        primary.create(&volume).await?;
        primary.create(&claim(namespace, name)).await?;
        let volume = path(&volume)?;
        let bound = || async { Ok(primary.need(&volume).await?["status"]["phase"] == "Bound") };
        await_true("the volume is bound", PATIENCE, bound).await?;
    }
    standby.create(&claim("apps", "data")).await?;
    Ok(())
}

async fn webhooks(primary: &Api) -> Result<()> {
    for (kind, name, namespace, policy) in [
        ("ValidatingWebhookConfiguration", "strict", "cert-manager", "Fail"),
        ("MutatingWebhookConfiguration", "lenient", "operators", "Ignore"),
        ("MutatingWebhookConfiguration", "sound", "apps", "Fail"),
    ] {
        let rules = json!([{"apiGroups": ["none.example"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["nothings"]}]);
        let hooks = json!({"webhooks": [{"name": "a.hook.example", "failurePolicy": policy, "sideEffects": "None",
            "admissionReviewVersions": ["v1"], "rules": rules,
            "clientConfig": {"service": {"namespace": namespace, "name": name}}}]});
        primary.create(&with(object("admissionregistration.k8s.io/v1", kind, None, name), hooks)).await?;
    }
    Ok(())
}

fn definition(plural: &str, kind: &str, stored: &str, more: Value) -> Value {
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    let version = |name: &str| json!({"name": name, "served": true, "storage": name == stored, "schema": schema});
    let names =
        json!({"plural": plural, "singular": kind.to_lowercase(), "kind": kind, "listKind": format!("{kind}List")});
    let spec = json!({"group": "acme.example", "scope": "Namespaced", "names": names,
        "versions": [version("v1"), version("v1beta1")]});
    let name = format!("{plural}.acme.example");
    let crd = object("apiextensions.k8s.io/v1", "CustomResourceDefinition", None, &name);
    with(crd, json!({"spec": with(spec, more)}))
}

/// A conversion into an excluded namespace; and a custom resource that was left behind in a version since removed.
async fn definitions(primary: &Api) -> Result<()> {
    let client = json!({"service": {"namespace": "operators", "name": "converter"}});
    let webhook = json!({"conversionReviewVersions": ["v1"], "clientConfig": client});
    let conversion = json!({"conversion": {"strategy": "Webhook", "webhook": webhook}});
    primary.create(&definition("converted", "Converted", "v1", conversion)).await?;

    let crd = definition("widgets", "Widget", "v1beta1", json!({}));
    primary.create(&crd).await?;
    let served = "/apis/acme.example/v1/namespaces/apps/widgets";
    await_true("widgets are served", PATIENCE, || async { Ok(primary.get(served).await?.is_some()) }).await?;
    primary.create(&object("acme.example/v1beta1", "Widget", Some("apps"), "old")).await?;
    let crd_path = path(&crd)?;
    let mut versions = definition("widgets", "Widget", "v1", json!({}))["spec"]["versions"].clone();
    primary.patch(&crd_path, &json!({"spec": {"versions": versions}})).await?;
    let stored = || async {
        // The API server adds the new version by itself; the old one is for whoever migrated the objects to remove.
        let crd = primary.need(&crd_path).await?;
        Ok(crd["status"]["storedVersions"].as_array().is_some_and(|versions| versions.contains(&json!("v1"))))
    };
    await_true("v1 is the stored version", PATIENCE, stored).await?;
    primary.patch(&format!("{crd_path}/status"), &json!({"status": {"storedVersions": ["v1"]}})).await?;
    versions.as_array_mut().context("no versions")?.truncate(1);
    primary.patch(&crd_path, &json!({"spec": {"versions": versions}})).await?;
    primary.create(&object("acme.example/v1", "Widget", Some("apps"), "new")).await?;
    // What the plan says about such objects.
    let list = || async { Ok(primary.request("GET", served, None).await?.status >= 400) };
    await_true("one object in a version that is gone breaks the list", PATIENCE, list).await?;
    Ok(())
}

/// A namespace and a CRD that finalizers hold.
async fn being_deleted(primary: &Api) -> Result<()> {
    let blocked = |mut object: Value| {
        object["metadata"]["finalizers"] = json!(["acme.example/hold"]);
        object
    };
    let namespace = object("v1", "Namespace", None, "going");
    primary.create(&namespace).await?;
    primary.create(&blocked(object("v1", "ConfigMap", Some("going"), "blocked"))).await?;
    let crd = blocked(definition("goings", "Going", "v1", json!({})));
    primary.create(&crd).await?;
    for object in [&namespace, &crd] {
        primary.delete(&path(object)?).await?;
    }
    Ok(())
}
