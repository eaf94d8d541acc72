//! Runs helm, away from this machine's own settings.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Result, ensure};
use etcd_sync_integration::kube::ControlPlane;
use etcd_sync_integration::tools::{self, HelmVersion};
use serde_json::Value;
use tempfile::TempDir;

use crate::{CHART, NAMESPACE, documents, file};

/// What it did, or what it said when it failed.
pub fn succeeded(output: Output) -> Result<Output> {
    ensure!(output.status.success(), "helm: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output)
}

/// helm with a home of its own.
pub struct Helm {
    version: HelmVersion,
    home: TempDir,
}

impl Helm {
    /// The newest.
    pub fn new() -> Result<Helm> {
        Helm::of(HelmVersion::default())
    }

    /// The one of this version.
    pub fn of(version: HelmVersion) -> Result<Helm> {
        Ok(Helm { version, home: tempfile::Builder::new().prefix("etcd-sync-helm-").tempdir()? })
    }

    /// Runs it; whether that went well is the caller's to judge.
    pub fn run(&self, args: &[&str]) -> Result<Output> {
        Ok(self.command(args)?.output()?)
    }

    /// The command, for those who wait in another way.
    pub fn command(&self, args: &[&str]) -> Result<Command> {
        let mut command = Command::new(tools::helm(self.version)?);
        command.env_clear().env("HOME", self.home.path()).args(args).stdin(Stdio::null());
        Ok(command)
    }

    /// As [`Helm::command`], in the release's namespace of this cluster.
    pub fn at(&self, plane: &ControlPlane, args: &[&str]) -> Result<Command> {
        let config = plane.kubeconfig_file();
        self.command(&[args, &["--namespace", NAMESPACE, "--kubeconfig", &config.to_string_lossy()]].concat())
    }

    /// Renders the chart with what `args` say, as for an installation into `namespace`.
    pub fn render(&self, namespace: &str, args: &[&str]) -> Result<Vec<Value>> {
        documents(&self.text(namespace, args)?)
    }

    /// As [`Helm::render`], as text.
    pub fn text(&self, namespace: &str, args: &[&str]) -> Result<String> {
        let chart = file(CHART);
        let fixed = ["template", "etcd-sync", &chart.to_string_lossy(), "--namespace", namespace];
        let output = self.run(&[&fixed, args].concat())?;
        ensure!(output.status.success(), "helm template {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// What it says when it refuses these values.
    pub fn refusal(&self, args: &[&str]) -> Result<String> {
        let chart = file(CHART);
        let fixed = ["template", "etcd-sync", &chart.to_string_lossy(), "--namespace", NAMESPACE];
        let output = self.run(&[&fixed, args].concat())?;
        ensure!(!output.status.success(), "it took {args:?}");
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Writes values, for `--values`.
    pub fn values(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.home.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    }

    /// Its folder.
    pub fn home(&self) -> &Path {
        self.home.path()
    }
}
