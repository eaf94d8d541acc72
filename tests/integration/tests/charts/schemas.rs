//! Holds manifests against what an API server says of its kinds, with kubeconform.
//!
//! kubeconform's own schemas lie on the Internet; those made here are the API server's, custom resources included, and
//! stricter: a field that a kind does not know is an error.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use etcd_sync_integration::compare::await_until;
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::kube::Api;
use etcd_sync_integration::tools;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

const REFERENCE: &str = "#/components/schemas/";

/// A folder with a schema for each kind.
pub struct Schemas {
    folder: TempDir,
}

impl Schemas {
    /// Asks an API server for what it serves, its custom resources included.
    pub async fn of(api: &Api) -> Result<Schemas> {
        let schemas = Schemas { folder: tempfile::Builder::new().prefix("etcd-sync-schemas-").tempdir()? };
        // A definition is established a while before its schema is told.
        await_until("every custom resource has its schema", PATIENCE, || async {
            schemas.fill(api).await?;
            schemas.lacks(api).await
        })
        .await?;
        Ok(schemas)
    }

    async fn fill(&self, api: &Api) -> Result<()> {
        let index = api.need("/openapi/v3").await?;
        for (path, place) in index["paths"].as_object().context("no index of schemas")? {
            if path != "api/v1" && !path.starts_with("apis/") {
                continue;
            }
            let place = place["serverRelativeURL"].as_str().context("a schema without a place")?;
            self.write(api.need(place).await?)?;
        }
        Ok(())
    }

    /// The first custom resource without a schema.
    async fn lacks(&self, api: &Api) -> Result<Option<String>> {
        let list = api.need("/apis/apiextensions.k8s.io/v1/customresourcedefinitions").await?;
        for definition in list["items"].as_array().into_iter().flatten() {
            let spec = &definition["spec"];
            let texts = [&spec["group"], &spec["versions"][0]["name"], &spec["names"]["kind"]];
            let [group, version, kind] = texts.map(|text| text.as_str().unwrap_or_default().to_lowercase());
            if !self.folder.path().join(group).join(version).join(format!("{kind}.json")).is_file() {
                return Ok(Some(format!("{kind} has none")));
            }
        }
        Ok(None)
    }

    /// One file for each kind of a document of the API server's.
    fn write(&self, mut document: Value) -> Result<()> {
        let mut schemas = document["components"]["schemas"].take();
        tighten(&mut schemas);
        let schemas = schemas.as_object().cloned().unwrap_or_default();
        for (name, schema) in &schemas {
            for kind in schema["x-kubernetes-group-version-kind"].as_array().into_iter().flatten() {
                let text = |key: &str| kind[key].as_str().unwrap_or_default().to_lowercase();
                // As kubeconform names them: of the core group only the version.
                let group = if text("group").is_empty() { text("version") } else { text("group") };
                let folder = self.folder.path().join(group).join(text("version"));
                std::fs::create_dir_all(&folder)?;
                let mut needed = Map::new();
                collect(name, &schemas, &mut needed);
                let whole = json!({"$ref": format!("{REFERENCE}{name}"), "components": {"schemas": needed}});
                std::fs::write(folder.join(format!("{}.json", text("kind"))), whole.to_string())?;
            }
        }
        Ok(())
    }

    /// Checks every document of a file.
    pub fn check(&self, file: &Path) -> Result<()> {
        let output = self.command(file)?.output()?;
        let told = [output.stdout, output.stderr].concat();
        ensure!(output.status.success(), "kubeconform {file:?}:\n{}", String::from_utf8_lossy(&told));
        Ok(())
    }

    /// What it says of a file that it must not like.
    pub fn complaint(&self, file: &Path) -> Result<String> {
        let output = self.command(file)?.output()?;
        ensure!(!output.status.success(), "kubeconform likes {file:?}");
        Ok(String::from_utf8(output.stdout)?)
    }

    fn command(&self, file: &Path) -> Result<Command> {
        let place = self.folder.path().join("{{ .Group }}/{{ .ResourceAPIVersion }}/{{ .ResourceKind }}.json");
        let mut command = Command::new(tools::kubeconform()?);
        command.env_clear().args(["-strict", "-verbose", "-schema-location"]).arg(place).arg(file);
        Ok(command)
    }
}

/// A schema and all that it refers to.
fn collect(name: &str, schemas: &Map<String, Value>, into: &mut Map<String, Value>) {
    let Some(schema) = schemas.get(name).filter(|_| !into.contains_key(name)) else { return };
    into.insert(name.to_owned(), schema.clone());
    let mut waiting = vec![schema];
    while let Some(value) = waiting.pop() {
        match value {
            Value::Object(map) => waiting.extend(map.values()),
            Value::Array(list) => waiting.extend(list),
            Value::String(text) => {
                if let Some(name) = text.strip_prefix(REFERENCE) {
                    collect(name, schemas, into);
                }
            }
            _ => {}
        }
    }
}

/// An object whose fields are listed has no others.
fn tighten(schema: &mut Value) {
    if let Value::Object(map) = schema {
        let open = map.contains_key("additionalProperties")
            || map.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
        if map.contains_key("properties") && map.get("type").is_some_and(|kind| kind == "object") && !open {
            map.insert("additionalProperties".to_owned(), Value::Bool(false));
        }
        map.values_mut().for_each(tighten);
    } else if let Value::Array(list) = schema {
        list.iter_mut().for_each(tighten);
    }
}
