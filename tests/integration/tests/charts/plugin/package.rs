//! What `helm package` makes of the chart: everything that the platform's packager looks for, at its place.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{CONFIG, PLUGIN};
use crate::helm::Helm;
use crate::{CHART, NAMESPACE, documents, file, value_files};

const REGISTRY: &str = "registry.example.com:5000";

/// The packaged chart.
struct Package {
    helm: Helm,
    archive: PathBuf,
    /// Its root folder, unpacked.
    root: PathBuf,
}

impl Package {
    fn new() -> Result<Package> {
        let helm = Helm::new()?;
        let home = helm.home().to_owned();
        let chart = file(CHART);
        let output = helm.run(&["package", &chart.to_string_lossy(), "--destination", &home.to_string_lossy()])?;
        ensure!(output.status.success(), "helm package: {}", String::from_utf8_lossy(&output.stderr));
        let archive = home.join(format!("etcd-sync-{}.tgz", env!("CARGO_PKG_VERSION")));
        let unpacked = Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(&home).output()?;
        ensure!(unpacked.status.success(), "tar: {}", String::from_utf8_lossy(&unpacked.stderr));
        Ok(Package { helm, archive, root: home.join("etcd-sync") })
    }

    fn read(&self, name: &str) -> Result<Value> {
        let text =
            std::fs::read_to_string(self.root.join(name)).with_context(|| format!("the package has no {name}"))?;
        documents(&text)?.into_iter().next().with_context(|| format!("{name} is empty"))
    }

    fn archive(&self) -> std::borrow::Cow<'_, str> {
        self.archive.to_string_lossy()
    }
}

#[test]
fn the_package_has_what_the_platform_looks_for() -> Result<()> {
    let package = Package::new()?;
    let (chart, plugin, config) = (package.read("Chart.yaml")?, package.read(PLUGIN)?, package.read(CONFIG)?);
    let version = env!("CARGO_PKG_VERSION");
    ensure!(chart["name"] == "etcd-sync" && chart["version"] == version, "{chart}");
    ensure!(plugin["metadata"]["annotations"]["cpaas.io/built-in-plugin"] == "false", "{plugin}");
    let spec = &plugin["spec"];
    // Without a logo the platform never calls it ready.
    let logo = spec["logo"].as_str().and_then(|logo| logo.strip_prefix("data:image/svg+xml;base64,"));
    ensure!(logo.is_some_and(|logo| !logo.is_empty()), "{spec}");
    let release = json!({"name": "acp/etcd-sync", "releaseName": "etcd-sync", "version": version});
    ensure!(spec["mainChart"] == release["name"] && spec["version"] == version, "{spec}");
    ensure!(spec["appReleases"] == json!([{"name": "etcd-sync", "namespace": NAMESPACE, "chartVersions": [release]}]));

    // Other keys the platform would ignore silently.
    let known = ["config", "deployDescriptors", "editDescriptors", "mustUpgrade", "supportedUpgradeVersions"];
    let known: BTreeSet<&str> = known.into_iter().chain(["valuesTemplates"]).collect();
    let keys = |value: &Value| Some(value.as_object()?.keys().cloned().collect::<Vec<_>>());
    ensure!(keys(&config).context("no mapping")?.into_iter().eq(known), "{config}");
    ensure!(keys(&config["valuesTemplates"]) == Some(vec!["acp/etcd-sync".to_owned()]), "{config}");
    for test in ["ci", "tests"] {
        ensure!(!package.root.join(test).exists(), "{test} is packaged");
    }

    let output =
        package.helm.run(&["lint", "--strict", &package.archive(), "--set", "active_cluster_vip=192.0.2.10"])?;
    ensure!(output.status.success(), "helm lint: {}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}

/// The packager exports the images of global.images and no others, from the registry that it has the chart from.
#[test]
fn every_image_is_in_the_package() -> Result<()> {
    let package = Package::new()?;
    let images = package.read("values.yaml")?["global"]["images"].clone();
    let mut exported = BTreeSet::new();
    for image in images.as_object().context("no images")?.values() {
        let [repository, tag] = ["repository", "tag"].map(|key| image[key].as_str().unwrap_or_default());
        ensure!(!repository.is_empty() && !tag.is_empty() && image["digest"] == "", "{image}");
        ensure!(image["support_arm"].is_boolean() && image["thirdparty"].is_boolean(), "{image}");
        exported.insert(format!("{REGISTRY}/{repository}:{tag}"));
    }
    // Last, so that no values file has images of its own.
    let fixed = json!({"global": {"registry": {"address": REGISTRY}, "images": images}});
    let fixed = package.helm.values("images.yaml", &fixed.to_string())?;
    let mut used = BTreeSet::new();
    for values in value_files()? {
        let output = package.helm.run(&[
            "template",
            "etcd-sync",
            &package.archive(),
            "--values",
            &values.to_string_lossy(),
            "--values",
            &fixed.to_string_lossy(),
        ])?;
        ensure!(output.status.success(), "{values:?}: {}", String::from_utf8_lossy(&output.stderr));
        documents(&String::from_utf8(output.stdout)?)?.iter().for_each(|object| collect(object, &mut used));
    }
    ensure!(used == exported, "used: {used:?}, exported: {exported:?}");
    Ok(())
}

/// Every image that is named in an object.
fn collect(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            into.extend(map.get("image").and_then(Value::as_str).map(str::to_owned));
            map.values().for_each(|value| collect(value, into));
        }
        Value::Array(list) => list.iter().for_each(|value| collect(value, into)),
        _ => {}
    }
}
