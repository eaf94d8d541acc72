//! The Helm chart and the platform's plugin: rendered, refused, validated, applied and installed, on real API servers.

mod contract;
mod fixture;
mod form;
mod helm;
mod install;
mod jobs;
mod others;
mod plugin;
mod pods;
mod refused;
mod release;
mod schemas;
mod sites;
mod upgrade;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

/// The chart.
const CHART: &str = "charts/etcd-sync";
/// The namespace of the platform's installation.
const NAMESPACE: &str = "cpaas-system";

/// A file of the repository.
fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// The documents of a YAML stream; empty ones are ignored.
fn documents(text: &str) -> Result<Vec<Value>> {
    let mut all = vec![String::new()];
    for line in text.lines() {
        if line.trim_end() == "---" {
            all.push(String::new());
        } else if let Some(document) = all.last_mut() {
            document.push_str(line);
            document.push('\n');
        }
    }
    let parsed = all.iter().map(|text| serde_saphyr::from_str(text).with_context(|| format!("no YAML:\n{text}")));
    let parsed: Vec<Option<Value>> = parsed.collect::<Result<_>>()?;
    Ok(parsed.into_iter().flatten().filter(|document| !document.is_null()).collect())
}

/// The object of a kind and name.
fn object<'a>(objects: &'a [Value], kind: &str, name: &str) -> Result<&'a Value> {
    let is = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
    objects.iter().find(is).with_context(|| format!("there is no {kind} {name}"))
}

/// What the pods of a Deployment, a Job or a CronJob are made of.
fn template(object: &Value) -> &Value {
    let spec = if object["kind"] == "CronJob" { &object["spec"]["jobTemplate"]["spec"] } else { &object["spec"] };
    &spec["template"]
}

/// Every values file of the chart's `ci` folder, by name; each is an installation of its own.
fn value_files() -> Result<Vec<PathBuf>> {
    let folder = file(CHART).join("ci");
    let entries = std::fs::read_dir(&folder).with_context(|| format!("{folder:?}"))?;
    let mut files: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.sort();
    Ok(files)
}
