//! What real API servers store, on either release, in every form and behind every provider: all of it opens and has a
//! header that says what the API says.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use etcd_sync_core::etcd::kv::{KeyRange, KeyValue};
use etcd_sync_core::object::encryption::{EncryptionConfig, Keyring, Undecryptable};
use etcd_sync_core::object::{Form, Header, header};
use etcd_sync_integration::compare::{await_true, dump};
use etcd_sync_integration::etcd::{Cluster, ClusterOptions};
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::kms_plugin::KmsPlugin;
use etcd_sync_integration::kube::{ControlPlane, PlaneOptions};
use etcd_sync_integration::tools::KubernetesVersion;
use etcd_sync_kms::{Kms, KmsError};
use serde_json::{Value, json};

/// One provider for each of some resources. The keys are for tests only.
const PROVIDERS: &str = "\
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets]
  providers:
  - aescbc: {keys: [{name: key1, secret: dGVzdC1vbmx5LWtleS1mb3ItYWVzY2JjLS0zMmJ5dGU=}]}
- resources: [configmaps]
  providers:
  - aesgcm: {keys: [{name: key1, secret: dGVzdC1vbmx5LWFlc2djbQ==}, {name: old, secret: dGVzdC1vbmx5LW9sZC1rZXktLTI0Ynl0}]}
  - identity: {}
- resources: ['*.apps']
  providers:
  - secretbox: {keys: [{name: box, secret: dGVzdC1vbmx5LWtleS1mb3Itc2VjcmV0Ym94LTMyYnk=}]}
  - identity: {}
- resources: [widgets.example.com]
  providers:
  - aescbc: {keys: [{name: other, secret: dGVzdC1vbmx5LWFlc2NiYw==}]}
";

#[tokio::test]
async fn all_values_open_and_have_a_header_1_34() -> Result<()> {
    let etcd = Cluster::start(ClusterOptions::default()).await?;
    let encryption = Some(PROVIDERS.to_owned());
    let options = PlaneOptions { version: KubernetesVersion::V1_34, encryption, ..PlaneOptions::default() };
    let plane = ControlPlane::start("sealing", &etcd, options).await?;
    write_objects(&plane).await?;

    let config = EncryptionConfig::parse(&std::fs::read_to_string(plane.encryption_file()?)?)?;
    let keyring = Keyring::new(&config)?;
    let seals = compare_headers(&plane, &etcd, &keyring, Form::Json).await?;
    for seal in ["aescbc key key1", "aesgcm key key1", "secretbox key box", "aescbc key other"] {
        ensure!(seals.iter().any(|found| found == seal), "nothing is encrypted with {seal}: {seals:?}");
    }
    Ok(())
}

#[tokio::test]
async fn all_values_open_and_have_a_header_with_kms_and_cbor() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let plugin = KmsPlugin::start(folder.path())?;
    let encryption = plugin.config(&["*.*"]);
    let etcd = Cluster::start(ClusterOptions::default()).await?;
    let options = PlaneOptions {
        encryption: Some(encryption.clone()),
        feature_gates: "CBORServingAndStorage=true".to_owned(),
        ..PlaneOptions::default()
    };
    let plane = ControlPlane::start("sealing", &etcd, options).await?;
    write_objects(&plane).await?;

    let config = EncryptionConfig::parse(&encryption)?;
    let (keyring, kms) = (Keyring::new(&config)?, Kms::new(&config));
    kms.check().await?;
    let values = stored(&etcd).await?;
    let one = values.iter().find(|kv| kv.key.starts_with(b"/registry/secrets/apps/")).context("no secret")?;
    ensure!(matches!(keyring.decrypt(&one.key, &one.value), Err(Undecryptable::NeedsKms(_))));
    let before = plugin.decryptions();
    kms.unwrap_keys(&keyring, &values).await?;
    let asked = plugin.decryptions() - before;
    ensure!(asked == 1, "one API server that ran once made one seed, and the plugin was asked {asked} times");
    let seals = compare_headers(&plane, &etcd, &keyring, Form::Cbor).await?;
    ensure!(seals == ["kms v2 plugin test"], "{seals:?}");

    // What a plugin without the key answers, and no plugin at all.
    plugin.rotate()?;
    plugin.remove_old_keys();
    let keyring = Keyring::new(&config)?;
    let refused = kms.unwrap_keys(&keyring, &values).await;
    ensure!(matches!(&refused, Err(KmsError::Refused { key_id, .. }) if key_id == "0"), "{refused:?}");
    drop(plugin);
    for kms in [kms, Kms::new(&config)] {
        let gone = kms.unwrap_keys(&keyring, &values).await;
        ensure!(matches!(gone, Err(KmsError::Unreachable { .. })), "{gone:?}");
    }
    Ok(())
}

/// Compares the header of every stored object with what the API tells, and returns the seals that were met. Custom
/// resources must be of the given form.
async fn compare_headers(plane: &ControlPlane, etcd: &Cluster, keyring: &Keyring, custom: Form) -> Result<Vec<String>> {
    let identities = plane.api().identities().await?;
    let mut seals = Vec::new();
    let mut compared = 0;
    for kv in stored(etcd).await? {
        let key = String::from_utf8_lossy(&kv.key).into_owned();
        if key == "/registry/health" {
            continue;
        }
        let plain = keyring.decrypt(&kv.key, &kv.value).with_context(|| key.clone())?;
        let header = header(&plain).with_context(|| key.clone())?;
        seals.extend(Keyring::encrypted_by(&kv.value).map(|seal| seal.to_string()));
        if let Some(uid) = identities.get(&key) {
            ensure!(header.uid == *uid && key.ends_with(&header.name), "{key}: {header:?}");
            compared += 1;
        }
        if key.contains("/example.com/") {
            ensure!(Form::of(&plain) == Some(custom), "{key}: {:?}", Form::of(&plain));
        }
        check_object(&key, &header)?;
    }
    ensure!(compared > 100, "only {compared} objects were compared");
    seals.sort();
    seals.dedup();
    Ok(seals)
}

/// What [`write_objects`] wrote.
fn check_object(key: &str, header: &Header) -> Result<()> {
    let owner = header.owners.first();
    let right = match key {
        "/registry/example.com/widgets/apps/owned" => {
            owner.is_some_and(|owner| owner.kind == "Widget" && owner.name == "owner" && owner.uid.len() == 36)
                && header.finalizers == ["example.com/hold"]
                && header.label("color") == Some("blue")
                && header.annotations.is_empty()
                && header.deleting
        }
        "/registry/deployments/apps/web" => header.label("app") == Some("web") && !header.deleting,
        "/registry/secrets/apps/token" => header.annotation("kubernetes.io/service-account.name") == Some("default"),
        "/registry/namespaces/apps" => header.namespace.is_empty() && !header.deleting,
        "/registry/namespaces/going" => header.deleting,
        _ if key.starts_with("/registry/replicasets/apps/web-") => {
            owner.is_some_and(|owner| owner.controller && owner.block_owner_deletion && owner.api_version == "apps/v1")
        }
        _ => true,
    };
    ensure!(right, "{key}: {header:?}");
    Ok(())
}

async fn stored(etcd: &Cluster) -> Result<Vec<KeyValue>> {
    let client = etcd.client();
    let range = KeyRange::prefix(b"/registry/");
    Ok(dump(&client, &range, etcd.revision().await?).await?.into_values().collect())
}

async fn write_objects(plane: &ControlPlane) -> Result<()> {
    let api = plane.api();
    for name in ["apps", "going"] {
        api.create(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})).await?;
    }
    api.create(&crd()).await?;
    let served = "/apis/example.com/v1/namespaces/apps/widgets";
    await_true("the CRD serves", PATIENCE, || async { Ok(api.get(served).await?.is_some()) }).await?;
    let account = "/api/v1/namespaces/apps/serviceaccounts/default";
    await_true("there is a ServiceAccount", PATIENCE, || async { Ok(api.get(account).await?.is_some()) }).await?;
    for object in objects() {
        api.create(&object).await?;
    }
    let owner = api.need(&format!("{served}/owner")).await?;
    api.create(&owned(&owner["metadata"]["uid"])).await?;
    api.delete(&format!("{served}/owned")).await?;
    // A finalizer in its content keeps the namespace going.
    api.create(&json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "blocked", "namespace": "going", "finalizers": ["example.com/hold"]}}))
        .await?;
    api.delete("/api/v1/namespaces/going").await?;
    let sets = "/apis/apps/v1/namespaces/apps/replicasets";
    await_true("the Deployment has a ReplicaSet", PATIENCE, || async {
        let sets = api.need(sets).await?;
        Ok(sets["items"].as_array().is_some_and(|items| !items.is_empty()))
    })
    .await
}

fn crd() -> Value {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
        },
    })
}

fn objects() -> Vec<Value> {
    let pod =
        json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "web"}]}});
    vec![
        json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "owner", "namespace": "apps"}}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "apps", "labels": {"app": "web"}},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": pod}}),
        json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
            "metadata": {"name": "token", "namespace": "apps",
                "annotations": {"kubernetes.io/service-account.name": "default"}}}),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "map", "namespace": "apps"},
            "data": {"text": "words"}}),
    ]
}

fn owned(owner: &Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget",
        "metadata": {"name": "owned", "namespace": "apps", "labels": {"color": "blue"},
            "annotations": {"example.com/note": "a long one"}, "finalizers": ["example.com/hold"],
            "ownerReferences": [{"apiVersion": "example.com/v1", "kind": "Widget", "name": "owner", "uid": owner}]},
        "spec": {"list": [1, 2.5, null, true, {"deep": ["text"]}], "metadata": {"name": "not this one"}}})
}

/// Writes the golden values of etcd-sync-core's tests again; its README there says when and how.
#[tokio::test]
#[ignore = "writes files into the tree"]
async fn write_golden_values() -> Result<()> {
    let plain = ["namespaces/apps", "namespaces/going", "deployments/apps/web", "secrets/apps/token"];
    let more = [
        "apiextensions.k8s.io/customresourcedefinitions/widgets.example.com",
        "apiregistration.k8s.io/apiservices/v1.example.com",
        "example.com/widgets/apps/owned",
    ];
    for (name, gate, keys) in
        [("plain", "", [&plain[..], &more].concat()), ("cbor", "CBORServingAndStorage=true", vec![more[2]])]
    {
        let options = PlaneOptions { feature_gates: gate.to_owned(), ..PlaneOptions::default() };
        write_golden(name, options, &keys, None).await?;
    }
    let folder = tempfile::tempdir()?;
    let plugin = KmsPlugin::start(folder.path())?;
    let kms = plugin.config(&["serviceaccounts"]);
    // The socket's path is this run's own; the golden file has a fixed one.
    let (_, kms) = kms.split_once("resources:\n").context("no resources")?;
    let encryption = format!("{PROVIDERS}{kms}");
    let options = PlaneOptions { encryption: Some(encryption), ..PlaneOptions::default() };
    let keys = [&plain[2..], &["configmaps/apps/map", more[2], "serviceaccounts/apps/default"]].concat();
    write_golden("encrypted", options, &keys, Some(&plugin)).await?;
    let socket = folder.path().to_string_lossy().into_owned();
    let file = golden().join("encrypted/encryption.yaml");
    Ok(std::fs::write(&file, std::fs::read_to_string(&file)?.replace(&socket, "/run"))?)
}

async fn write_golden(name: &str, options: PlaneOptions, keys: &[&str], plugin: Option<&KmsPlugin>) -> Result<()> {
    let etcd = Cluster::start(ClusterOptions::default()).await?;
    // No token comes into the tree; the UID is then ours to write.
    let controller_args = vec!["--service-account-private-key-file=".to_owned()];
    let plane = ControlPlane::start(name, &etcd, PlaneOptions { controller_args, ..options }).await?;
    write_objects(&plane).await?;
    let account = plane.api().need("/api/v1/namespaces/apps/serviceaccounts/default").await?;
    let uid = json!({"metadata": {"annotations": {"kubernetes.io/service-account.uid": account["metadata"]["uid"]}}});
    plane.api().patch("/api/v1/namespaces/apps/secrets/token", &uid).await?;
    let folder = golden().join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder)?;
    for key in keys {
        let value: Bytes = etcd.get(format!("/registry/{key}")).await?.with_context(|| format!("no {key}"))?.value;
        // A file name is the key, a `+` for each slash.
        std::fs::write(folder.join(key.replace('/', "+")), &value)?;
        if let (Some(plugin), Ok(file)) = (plugin, plane.encryption_file()) {
            let config = std::fs::read_to_string(file)?;
            if let Some(request) = Keyring::new(&EncryptionConfig::parse(&config)?)?.kms_request(&value) {
                std::fs::write(folder.join("kms.seed"), plugin.decrypt(&request)?)?;
            }
            std::fs::write(folder.join("encryption.yaml"), config)?;
        }
    }
    Ok(())
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../etcd-sync/core/tests/golden")
}
