//! Finds the programs: the pinned programs of others, and the `etcd-sync` under test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, bail, ensure};

/// An etcd release line that the product supports; each is pinned to one release under `tools/`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EtcdVersion {
    /// The newest line, used by default.
    #[default]
    V3_6,
    /// The line before it, which most clusters still run.
    V3_5,
}

impl EtcdVersion {
    /// The release line as `tools/build.sh` prints it.
    pub fn line(self) -> &'static str {
        match self {
            EtcdVersion::V3_6 => "3.6",
            EtcdVersion::V3_5 => "3.5",
        }
    }

    /// The directory with `etcd`, `etcdctl` and `etcdutl`: `ETCD_SYNC_ETCD_3_6` (or `_3_5`) when set, else what
    /// `tools/build.sh` prints. That script runs at most once per process; its first run ever takes minutes.
    pub fn directory(self) -> Result<PathBuf> {
        static BUILT: OnceLock<Result<String, String>> = OnceLock::new();
        find("etcd", self.line(), "etcd", &BUILT)
    }

    /// One of the programs of this release.
    pub fn program(self, name: &str) -> Result<PathBuf> {
        Ok(self.directory()?.join(name))
    }
}

/// A Kubernetes release line that tests run; each is pinned to one release under `tools/`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KubernetesVersion {
    /// The newest line, used by default.
    #[default]
    V1_36,
    /// Two lines before it.
    V1_34,
}

impl KubernetesVersion {
    /// The release line as `tools/build.sh` prints it.
    pub fn line(self) -> &'static str {
        match self {
            KubernetesVersion::V1_36 => "1.36",
            KubernetesVersion::V1_34 => "1.34",
        }
    }

    /// The directory with `kube-apiserver`, `kube-controller-manager` and `kubectl`: `ETCD_SYNC_KUBERNETES_1_36` (or
    /// `_1_34`) when set, else what `tools/build.sh` prints.
    pub fn directory(self) -> Result<PathBuf> {
        static BUILT: OnceLock<Result<String, String>> = OnceLock::new();
        find("kubernetes", self.line(), "kube-apiserver", &BUILT)
    }

    /// One of the programs of this release.
    pub fn program(self, name: &str) -> Result<PathBuf> {
        Ok(self.directory()?.join(name))
    }
}

/// `kwok`: in `ETCD_SYNC_KWOK_0_8` when set, else where `tools/build.sh` says.
pub fn kwok() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<String, String>> = OnceLock::new();
    Ok(find("kwok", "0.8", "kwok", &BUILT)?.join("kwok"))
}

/// Prometheus' `promtool`: in `ETCD_SYNC_PROMETHEUS_0_315` when set, else where `tools/build.sh` says.
pub fn promtool() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<String, String>> = OnceLock::new();
    Ok(find("prometheus", "0.315", "promtool", &BUILT)?.join("promtool"))
}

/// A Helm that may install the chart; each is pinned to one release under `tools/`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HelmVersion {
    /// The newest, used by default.
    #[default]
    V4_3,
    /// The one before it, which most people and platforms still have.
    V3_22,
}

/// `helm`: in `ETCD_SYNC_HELM_4_3` (or `_3_22`) when set, else where `tools/build.sh` says.
pub fn helm(version: HelmVersion) -> Result<PathBuf> {
    static BUILT: OnceLock<Result<String, String>> = OnceLock::new();
    let line = match version {
        HelmVersion::V4_3 => "4.3",
        HelmVersion::V3_22 => "3.22",
    };
    Ok(find("helm", line, "helm", &BUILT)?.join("helm"))
}

/// `kubeconform`: in `ETCD_SYNC_KUBECONFORM_0_8` when set, else where `tools/build.sh` says.
pub fn kubeconform() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<String, String>> = OnceLock::new();
    Ok(find("kubeconform", "0.8", "kubeconform", &BUILT)?.join("kubeconform"))
}

/// `toxiproxy-server`: in `ETCD_SYNC_TOXIPROXY_2_12` when set, else where `tools/build.sh` says.
pub fn toxiproxy() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<String, String>> = OnceLock::new();
    Ok(find("toxiproxy", "2.12", "toxiproxy-server", &BUILT)?.join("toxiproxy-server"))
}

/// The folder with the definitions of the kinds of Prometheus and cert-manager: `ETCD_SYNC_CRDS_1` when set, else what
/// `tools/build.sh` says.
pub fn crds() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<String, String>> = OnceLock::new();
    find("crds", "1", "cert-manager.io_certificates.yaml", &BUILT)
}

/// The `etcd-sync` under test: `ETCD_SYNC_BIN` when set, else the one in the profile directory (`target/debug`) that
/// the running program was built into.
pub fn etcd_sync() -> Result<PathBuf> {
    ours("etcd-sync", "ETCD_SYNC_BIN")
}

/// The `etcd-sync-monitor` under test: `ETCD_SYNC_MONITOR_BIN` when set, else found likewise.
pub fn etcd_sync_monitor() -> Result<PathBuf> {
    ours("etcd-sync-monitor", "ETCD_SYNC_MONITOR_BIN")
}

fn ours(name: &str, variable: &str) -> Result<PathBuf> {
    if let Some(program) = std::env::var_os(variable) {
        let program = PathBuf::from(program);
        ensure!(program.is_file(), "{variable} is set, but {program:?} is no file");
        return Ok(program);
    }
    let running = std::env::current_exe().context("find the path of the running test")?;
    // A test lies in target/<profile>/deps, a binary in target/<profile>, an example in target/<profile>/examples.
    let candidates = running.ancestors().skip(1).take(2).map(|directory| directory.join(name));
    candidates.into_iter().find(|program| program.is_file()).with_context(|| {
        let profile = if cfg!(debug_assertions) { "" } else { " --release" };
        format!("no {name} program beside {running:?}: run `cargo build -p {name}{profile}` first")
    })
}

/// The directory of one release line of a family; `program` must be in it. Only that family is built.
fn find(family: &str, line: &str, program: &str, built: &OnceLock<Result<String, String>>) -> Result<PathBuf> {
    let variable = format!("ETCD_SYNC_{}_{}", family.to_uppercase(), line.replace('.', "_"));
    if let Some(directory) = std::env::var_os(&variable) {
        let directory = PathBuf::from(directory);
        ensure!(directory.join(program).is_file(), "{variable} is set, but {directory:?} holds no {program}");
        return Ok(directory);
    }
    let printed = built.get_or_init(|| build(family).map_err(|error| format!("{error:#}")));
    let printed = printed.as_ref().map_err(|error| anyhow!("{error}"))?;
    let wanted = format!("{family}-{line} ");
    let found = printed.lines().find_map(|line| line.strip_prefix(&wanted));
    found.map(PathBuf::from).with_context(|| format!("tools/build.sh printed no line for {family} {line}"))
}

fn build(family: &str) -> Result<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/build.sh");
    let output = Command::new(&script).arg(family).output().with_context(|| format!("run {script:?}"))?;
    if !output.status.success() {
        bail!("{script:?} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    String::from_utf8(output.stdout).context("tools/build.sh printed a path that is not UTF-8")
}
