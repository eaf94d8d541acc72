//! Commands of the documents, run as they stand there: `<!-- run: NAME -->` in front of a block of `sh`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::etcd::Cluster;
use crate::tools::EtcdVersion;

/// A page of the documents.
pub fn page(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name)
}

/// Runs the commands of a block against a cluster, with bash and this project's etcdctl. Gives all that they print.
pub async fn run_block(page: &Path, name: &str, cluster: &Cluster, environment: &[(&str, &str)]) -> Result<String> {
    let text = std::fs::read_to_string(page)?;
    let begin = format!("<!-- run: {name} -->\n```sh\n");
    let (_, block) = text.split_once(&begin).with_context(|| format!("{} has no {name}", page.display()))?;
    let (block, _) = block.split_once("```").context("a block ends")?;
    let etcdctl = EtcdVersion::V3_6.program("etcdctl")?;
    let folder = etcdctl.parent().context("it lies in a folder")?.to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::iter::once(folder).chain(std::env::split_paths(&path)))?;
    let mut shell = tokio::process::Command::new("bash");
    shell.args(["-euo", "pipefail", "-c", block]).env("PATH", path).env("ETCDCTL_ENDPOINTS", cluster.endpoint(0));
    shell.envs(environment.iter().copied());
    let output = shell.output().await?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} of {}: {said}", page.display());
    Ok(said)
}
