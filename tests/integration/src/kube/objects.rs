//! Objects as tests write them, and the families of owners and dependents.

use std::ops::Range;

use anyhow::{Context, Result};
use bytes::Bytes;
use serde_json::{Value, json};

use super::api::{Api, path};
use super::kinds::etcd_key;

/// The API group of every custom resource of the tests.
pub const GROUP: &str = "dr.example.com";
/// The namespace of the families.
pub const APPS: &str = "apps";

/// A namespace.
pub fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

/// A CRD of [`GROUP`] for this kind, in version v1, whose spec may hold anything.
pub fn crd(kind: &str, scope: &str) -> Value {
    let singular = kind.to_lowercase();
    let plural = format!("{singular}s");
    let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": anything, "status": anything}}});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{GROUP}")},
        "spec": {
            "group": GROUP, "scope": scope,
            "names": {"kind": kind, "listKind": format!("{kind}List"), "plural": plural, "singular": singular},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}],
        },
    })
}

/// A namespaced custom resource of [`GROUP`].
pub fn custom(kind: &str, namespace: &str, name: &str, owners: &[Value]) -> Value {
    let mut object = object(&format!("{GROUP}/v1"), kind, namespace, name, owners);
    object["spec"] = json!({"size": 1});
    object
}

/// A ConfigMap.
pub fn config_map(namespace: &str, name: &str, owners: &[Value]) -> Value {
    let mut object = object("v1", "ConfigMap", namespace, name, owners);
    object["data"] = json!({"mode": "plain"});
    object
}

/// A Secret.
pub fn secret(namespace: &str, name: &str, owners: &[Value]) -> Value {
    let mut object = object("v1", "Secret", namespace, name, owners);
    object["stringData"] = json!({"word": "open sesame"});
    object
}

fn object(version: &str, kind: &str, namespace: &str, name: &str, owners: &[Value]) -> Value {
    let metadata = json!({"name": name, "namespace": namespace, "ownerReferences": owners});
    json!({"apiVersion": version, "kind": kind, "metadata": metadata})
}

/// A reference to an object that the API server has made.
pub fn owned_by(owner: &Value) -> Value {
    let (kind, meta) = (&owner["kind"], &owner["metadata"]);
    json!({"apiVersion": owner["apiVersion"], "kind": kind, "name": meta["name"], "uid": meta["uid"]})
}

/// The etcd key of an object, which must have a name.
pub fn key_of(object: &Value) -> Result<Bytes> {
    let path = path(object)?;
    let meta = &object["metadata"];
    let name = meta["name"].as_str().context("an object has no name")?;
    let plural = path.rsplit('/').nth(1).context("a path has a plural")?;
    let version = object["apiVersion"].as_str().unwrap_or_default();
    let group = version.split_once('/').map_or("", |(group, _)| group);
    Ok(etcd_key(group, plural, meta["namespace"].as_str(), name).into())
}

/// Waits for nothing: creates the CRDs of the families, `Widget` (the owners) and `Apple` (sorts before them).
pub async fn create_crds(api: &Api) -> Result<()> {
    api.create_all(&[crd("Widget", "Namespaced"), crd("Apple", "Namespaced")]).await?;
    for plural in ["widgets", "apples"] {
        let served = format!("/apis/{GROUP}/v1/{plural}");
        let reason = format!("the API server serves {plural}");
        crate::compare::await_true(&reason, crate::exact::PATIENCE, || async { Ok(api.get(&served).await?.is_some()) })
            .await?;
    }
    Ok(())
}

/// Creates Widgets of these numbers and three dependents of each in the namespace [`APPS`], which must be there; returns
/// all, as the API server made them, owners first.
///
/// - Every second Widget begins a chain three deep: an Apple, its ConfigMap, that one's Secret.
/// - The others own an Apple, a ConfigMap and a Secret; half of these are older than their owner, which adopted them.
///
/// Apples and ConfigMaps sort before Widgets, Secrets behind them.
pub async fn create_families(api: &Api, owners: Range<usize>) -> Result<Vec<Value>> {
    let numbers: Vec<usize> = owners.collect();
    let (mut all, mut dependents) = (Vec::new(), Vec::new());
    for chunk in numbers.chunks(16) {
        for family in futures_util::future::try_join_all(chunk.iter().map(|&number| family(api, number))).await? {
            let mut family = family.into_iter();
            all.extend(family.next());
            dependents.extend(family);
        }
    }
    all.extend(dependents);
    Ok(all)
}

async fn family(api: &Api, number: usize) -> Result<Vec<Value>> {
    let name = format!("family-{number:03}");
    let widget = custom("Widget", APPS, &name, &[]);
    if number.is_multiple_of(2) {
        let widget = api.create(&widget).await?;
        let apple = api.create(&custom("Apple", APPS, &name, &[owned_by(&widget)])).await?;
        let map = api.create(&config_map(APPS, &name, &[owned_by(&apple)])).await?;
        let secret = api.create(&secret(APPS, &name, &[owned_by(&map)])).await?;
        return Ok(vec![widget, apple, map, secret]);
    }
    let direct = |owners: &[Value]| {
        [custom("Apple", APPS, &name, owners), config_map(APPS, &name, owners), secret(APPS, &name, owners)]
    };
    if number % 4 == 1 {
        let widget = api.create(&widget).await?;
        let dependents = api.create_all(&direct(&[owned_by(&widget)])).await?;
        return Ok(std::iter::once(widget).chain(dependents).collect());
    }
    let orphans = api.create_all(&direct(&[])).await?;
    let mut family = vec![api.create(&widget).await?];
    for orphan in &orphans {
        let patch = json!({"metadata": {"ownerReferences": [owned_by(&family[0])]}});
        family.push(api.patch(&path(orphan)?, &patch).await?);
    }
    Ok(family)
}
