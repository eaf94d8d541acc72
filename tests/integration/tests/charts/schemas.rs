//! Holds manifests against what an API server says of its kinds, with kubeconform.
//!
//! kubeconform's own schemas lie on the Internet; those made here are the API server's, custom resources included, and
//! stricter: a field that a kind does not know is an error.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use etcd_sync_integration::kube::Api;
use etcd_sync_integration::tools;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder with a schema for each kind.
pub struct Schemas {
    folder: TempDir,
}

impl Schemas {
    /// Asks an API server for what it serves at this moment.
    pub async fn of(api: &Api) -> Result<Schemas> {
        let schemas = Schemas { folder: tempfile::Builder::new().prefix("etcd-sync-schemas-").tempdir()? };
        let index = api.need("/openapi/v3").await?;
        for (path, place) in index["paths"].as_object().context("no index of schemas")? {
            if path != "api/v1" && !path.starts_with("apis/") {
                continue;
            }
            let place = place["serverRelativeURL"].as_str().context("a schema without a place")?;
            schemas.write(api.need(place).await?)?;
        }
        Ok(schemas)
    }

    /// One file for each kind of a document of the API server's.
    fn write(&self, mut document: Value) -> Result<()> {
        let mut components = document["components"].take();
        tighten(&mut components);
        let schemas = components["schemas"].as_object().cloned().unwrap_or_default();
        for (name, schema) in &schemas {
            for kind in schema["x-kubernetes-group-version-kind"].as_array().into_iter().flatten() {
                let text = |key: &str| kind[key].as_str().unwrap_or_default().to_lowercase();
                // As kubeconform names them: of the core group only the version.
                let group = if text("group").is_empty() { text("version") } else { text("group") };
                let folder = self.folder.path().join(group).join(text("version"));
                std::fs::create_dir_all(&folder)?;
                let whole = json!({"$ref": format!("#/components/schemas/{name}"), "components": components});
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

/// An object whose fields are listed has no others.
fn tighten(schema: &mut Value) {
    if let Value::Object(map) = schema {
        let open = map.contains_key("additionalProperties")
            || map.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
        if map.get("properties").is_some_and(Value::is_object) && map.contains_key("type") && !open {
            map.insert("additionalProperties".to_owned(), Value::Bool(false));
        }
        map.values_mut().for_each(tighten);
    } else if let Value::Array(list) = schema {
        list.iter_mut().for_each(tighten);
    }
}
