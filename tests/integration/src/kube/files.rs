//! The files of one control plane: certificates, kubeconfigs, the audit policy.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;

use super::options::PlaneOptions;
use crate::certs::{Authority, signing_key};

/// Everything that changes something, without bodies: a Secret's content must not lie in a log.
const AUDIT_POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  resources: [{group: "", resources: [events]}, {group: events.k8s.io}, {group: coordination.k8s.io}]
- level: Metadata
  verbs: [create, update, patch, delete, deletecollection]
- level: None
"#;

/// Where everything lies.
#[derive(Debug)]
pub(super) struct Files {
    pub folder: PathBuf,
}

impl Files {
    /// Writes all but the kubeconfigs into `folder`, which must exist.
    pub fn create(folder: &Path, options: &PlaneOptions) -> Result<Files> {
        let files = Files { folder: folder.to_owned() };
        let authority = Authority::create(&files.path("ca.crt"))?;
        let server = (files.path("server.crt"), files.path("server.key"));
        authority.issue_at(&options.addresses, "kube-apiserver", None, &server.0, &server.1)?;
        for (name, user, group) in
            [("admin", "admin", Some("system:masters")), ("controllers", "system:kube-controller-manager", None)]
        {
            let (cert, key) = (files.path(&format!("{name}.crt")), files.path(&format!("{name}.key")));
            authority.issue(user, group, &cert, &key)?;
        }
        signing_key(&files.path("tokens.key"), &files.path("tokens.pub"))?;
        files.write("audit.yaml", AUDIT_POLICY)?;
        if let Some(encryption) = &options.encryption {
            files.write("encryption.yaml", encryption)?;
        }
        Ok(files)
    }

    /// Writes the kubeconfigs, once the port is known.
    pub fn write_kubeconfigs(&self, port: u16) -> Result<()> {
        for name in ["admin", "controllers"] {
            let config = json!({
                "apiVersion": "v1", "kind": "Config", "current-context": "it",
                "clusters": [{"name": "it", "cluster": {
                    "server": format!("https://127.0.0.1:{port}"), "certificate-authority": self.path("ca.crt"),
                }}],
                "users": [{"name": "it", "user": {
                    "client-certificate": self.path(&format!("{name}.crt")),
                    "client-key": self.path(&format!("{name}.key")),
                }}],
                "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
            });
            self.write(&format!("{name}.kubeconfig"), &config.to_string())?;
        }
        Ok(())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A path as a flag's value.
    pub fn text(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }

    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        std::fs::write(self.path(name), text).with_context(|| format!("write {name} of the control plane"))
    }

    /// The last lines of a log, for messages.
    pub fn tail(&self, name: &str, lines: usize) -> String {
        let text = std::fs::read(self.path(name)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let mut last: Vec<&str> = text.lines().rev().take(lines).collect();
        last.reverse();
        last.join("\n")
    }
}
