//! Whom the commands believe: only the scope, the primary and the phase on record, and no paused replication.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use etcd_sync_core::etcd::request::{Op, Txn};
use etcd_sync_core::link::state::{Condition, Phase};
use etcd_sync_integration::daemon::{Output, run_command};
use etcd_sync_integration::etcd::{Cluster, ClusterOptions};
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::link::Link;
use etcd_sync_integration::tools;
use etcd_sync_store::Side;
use tempfile::TempDir;

use super::{SECRET, held, link, plant, run};

/// A link that has caught up, and a file with six surplus keys that were pruned from it.
async fn pruned() -> Result<(Link, TempDir, String)> {
    let link = link(2).await?;
    plant(&link).await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("saved").display().to_string();
    let output = run(&link, "prune", &["--yes", &format!("--backup={file}")]).await?;
    ensure!(output.code == Some(0), "{}{}", output.stdout, output.stderr);
    Ok((link, folder, file))
}

/// Restore says no with these words and does nothing.
async fn refused(link: &Link, more: &[&str], words: &str) -> Result<()> {
    let before = held(link).await?;
    let output = run(link, "restore", &[&["--yes"], more].concat()).await?;
    ensure!(output.code == Some(1) && output.stderr.contains(words), "{words:?}: {}{}", output.stdout, output.stderr);
    ensure!(held(link).await? == before, "put back although: {words}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_scope_than_the_daemons_is_refused() -> Result<()> {
    let (link, _folder, file) = pruned().await?;
    let flag = "--exclude-namespace=apps";
    refused(&link, &[&file, flag], "has another scope than this command").await?;
    refused(&link, &[&file, "--include-key=/registry/minions/own"], "has another scope than this command").await?;
    let output = run(&link, "prune", &["--yes", flag, &format!("--backup={file}-2")]).await?;
    ensure!(
        output.code == Some(2) && output.stderr.contains("has another scope than this command"),
        "{}",
        output.stderr
    );

    // Once the daemon works with it, each key is judged by it.
    let daemon = link.daemon(&[flag, "--checkpoint-interval=100ms"])?;
    daemon.wait_line("Start Sync update", PATIENCE).await?;
    link.await_caught_up(PATIENCE).await?;
    daemon.terminate(PATIENCE).await?;
    let before = held(&link).await?;
    let output = run(&link, "restore", &["--yes", &file, flag]).await?;
    ensure!(output.code == Some(1) && output.stdout.contains("6  refused: out of scope"), "{}", output.stdout);
    ensure!(held(&link).await? == before, "put back what is out of scope");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_put_back_into_half_a_copy() -> Result<()> {
    let (link, _folder, file) = pruned().await?;
    let whole = link.checkpoint().await?.context("no checkpoint")?;
    for (phase, words) in [(Phase::FirstSync, "first-sync is not complete"), (Phase::Resync, "resync is not complete")]
    {
        let mut copying = whole.clone();
        copying.phase = phase;
        link.standby.put(&link.keys.checkpoint, copying.encode()).await?;
        refused(&link, &[&file], words).await?;
    }
    link.standby.delete(&link.keys.checkpoint).await?;
    refused(&link, &[&file], "nothing was ever synchronized").await
}

#[tokio::test(flavor = "multi_thread")]
async fn restore_checks_the_primary_on_record() -> Result<()> {
    let (link, _folder, file) = pruned().await?;
    let before = held(&link).await?;
    let unrelated = Cluster::start(ClusterOptions::default()).await?;
    for more in [&["--yes"][..], &["--yes", "--without-primary"]] {
        let mut args = vec!["restore".to_owned(), file.clone()];
        args.extend(more.iter().map(|&flag| flag.to_owned()));
        args.extend(unrelated.flags(Side::Primary).into_iter().chain(link.standby.flags(Side::Standby)));
        let output = run_command(&args).await?;
        ensure!(output.code == Some(1) && output.stderr.contains("check --primary-endpoints"), "{}", output.stderr);
    }
    ensure!(held(&link).await? == before, "another primary was believed");

    link.primary.kill_all()?;
    refused(&link, &[&file], "give --without-primary").await?;
    let output = run(&link, "restore", &["--yes", "--without-primary", &file]).await?;
    ensure!(output.code == Some(0), "{}{}", output.stdout, output.stderr);
    ensure!(output.stderr.contains("the primary does not answer"), "{}", output.stderr);
    assert_eq!(held(&link).await?.len(), before.len() + 6);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_deleted_while_replication_is_paused() -> Result<()> {
    let link = link(2).await?;
    plant(&link).await?;
    let before = held(&link).await?;
    let condition =
        Condition { paused: "the primary's history went back".into(), since_ms: 1, holder: "somebody".into() };
    link.standby.put(&link.keys.condition, serde_json::to_vec(&condition)?).await?;
    let folder = tempfile::tempdir()?;
    let backup = format!("--backup={}", folder.path().join("saved").display());
    let output = run(&link, "prune", &["--yes", &backup]).await?;
    ensure!(output.code == Some(1) && output.stderr.contains("replication is paused"), "{}", output.stderr);
    ensure!(output.stderr.contains("the primary's history went back"), "{}", output.stderr);
    ensure!(held(&link).await? == before, "deleted while replication was paused");
    Ok(())
}

/// A key on a lease is in no scope: the primary's forbids neither to delete the standby's plain copy nor to put it back.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_bound_key_of_the_primary_does_not_count() -> Result<()> {
    let link = link(2).await?;
    let key = Bytes::from_static(b"/registry/configmaps/apps/leased");
    let granted = link.primary.etcdctl(&["lease", "grant", "600"]).await?;
    let lease = granted.split(' ').nth(1).and_then(|id| i64::from_str_radix(id, 16).ok()).context("no lease")?;
    let put = Op::Put { key: key.clone(), value: SECRET.into(), lease };
    link.primary.client().txn(Txn { success: vec![put], ..Txn::default() }).await?;
    link.standby.put(&key, SECRET).await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("saved").display().to_string();
    let output = run(&link, "prune", &["--yes", &format!("--backup={file}")]).await?;
    ensure!(output.code == Some(0) && output.stdout.contains("Deleted: 1 "), "{}{}", output.stdout, output.stderr);
    ensure!(link.standby.get(&key).await?.is_none());
    let output = run(&link, "restore", &["--yes", &file]).await?;
    ensure!(output.code == Some(0) && output.stdout.contains("1  put back"), "{}{}", output.stdout, output.stderr);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_would_die_with_its_pod_is_not_made() -> Result<()> {
    let link = link(2).await?;
    plant(&link).await?;
    let before = held(&link).await?;
    let folder = tempfile::tempdir()?;
    let in_pod = async |more: &[&str]| {
        let mut args = vec!["prune".to_owned()];
        args.extend(link.flags(more));
        let mut command = Command::new(tools::etcd_sync()?);
        command.args(args).env_clear().env("KUBERNETES_SERVICE_HOST", "127.0.0.1");
        // Where the file would be made.
        command.current_dir(folder.path()).stdin(Stdio::null());
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        anyhow::Ok(Output { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) })
    };
    let output = in_pod(&["--yes"]).await?;
    ensure!(output.code == Some(1) && output.stderr.contains("give --backup FILE on a volume"), "{}", output.stderr);
    ensure!(held(&link).await? == before, "deleted in a pod, with a file that dies with it");
    let output = in_pod(&["--dry-run"]).await?;
    ensure!(output.code == Some(0) && output.stdout.contains("6 of 6 surplus keys"), "{}", output.stderr);
    let output = in_pod(&["--yes", &format!("--backup={}", folder.path().join("saved").display())]).await?;
    ensure!(output.code == Some(0), "{}{}", output.stdout, output.stderr);
    Ok(())
}
