//! The smallest rights, as docs/security.md has them.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use etcd_sync_core::etcd::request::{Op, Txn};
use etcd_sync_integration::compare::await_true;
use etcd_sync_integration::daemon::{Daemon, run_command, run_command_with};
use etcd_sync_integration::docs;
use etcd_sync_integration::etcd::{Cluster, ClusterOptions};
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::link::{Link, config_keys};
use etcd_sync_store::{Auth, Error, Etcd, Options, Side};

const PASSWORD: &str = "a password";

/// A user with the roles that a block of the page makes. Gives the flags for it.
async fn user(cluster: &Cluster, side: Side, block: &str, roles: &[&str], folder: &Path) -> Result<Vec<String>> {
    let root = cluster.flags(side);
    let password = root.iter().find_map(|flag| flag.split_once("-password-file=")).context("root has a password")?.1;
    let password = std::fs::read_to_string(password)?;
    let environment = [("ETCDCTL_USER", "root"), ("ETCDCTL_PASSWORD", password.trim())];
    docs::run_block(&docs::page("security.md"), block, cluster, &environment).await?;
    let name = format!("{block}-user");
    cluster.etcdctl(&["user", "add", &format!("{name}:{PASSWORD}")]).await?;
    for role in roles {
        cluster.etcdctl(&["user", "grant-role", &name, role]).await?;
    }
    let file = folder.join(&name);
    std::fs::write(&file, PASSWORD)?;
    let mut flags: Vec<String> =
        root.into_iter().filter(|flag| !flag.contains("-user=") && !flag.contains("-password-file=")).collect();
    flags.extend([format!("--{side}-user={name}"), format!("--{side}-password-file={}", file.display())]);
    Ok(flags)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rights_of_the_page_are_enough_and_no_more() -> Result<()> {
    let secured = || ClusterOptions { auth: true, ..ClusterOptions::default() };
    let link = Link::start(secured(), secured()).await?;
    let folder = tempfile::tempdir()?;
    for key in config_keys(40) {
        link.primary.put(&key, "first").await?;
    }
    let mut flags =
        user(&link.primary, Side::Primary, "grants-primary", &["etcd-sync-reader", "etcd-sync-demoter"], folder.path())
            .await?;
    flags.extend(user(&link.standby, Side::Standby, "grants-standby", &["etcd-sync-writer"], folder.path()).await?);
    let daemon = Daemon::start(&flags, &[])?;
    daemon.wait_line("Start Sync update", PATIENCE).await?;
    link.await_caught_up(PATIENCE).await?;
    let lost = "/registry/configmaps/team-a/settings-0000";
    link.standby.delete(lost).await?;
    await_true("it is put back", PATIENCE, || async { Ok(link.standby.get(lost).await?.is_some()) }).await?;
    link.primary.put("/registry/configmaps/team-a/more", "x").await?;
    link.await_equal(PATIENCE).await?;
    for command in ["status", "check", "plan"] {
        let args: Vec<String> = std::iter::once(command.to_owned()).chain(flags.clone()).collect();
        let output = run_command(&args).await?;
        ensure!(output.code == Some(0), "{command}: {output:?}");
    }
    // Who may not watch everything is told so before anything is marked.
    link.primary.etcdctl(&["user", "add", &format!("blind:{PASSWORD}")]).await?;
    link.primary.etcdctl(&["user", "grant-role", "blind", "etcd-sync-reader"]).await?;
    let blind = folder.path().join("blind");
    std::fs::write(&blind, PASSWORD)?;
    let mut args = vec!["switchover".to_owned(), "--dry-run".to_owned()];
    args.extend(
        flags
            .iter()
            .filter(|flag| !flag.contains("primary-user=") && !flag.contains("primary-password-file="))
            .cloned(),
    );
    args.extend(["--primary-user=blind".to_owned(), format!("--primary-password-file={}", blind.display())]);
    let output = run_command(&args).await?;
    ensure!(output.code == Some(1) && output.stdout.contains("may not watch all of its keys"), "{output:?}");
    // A switchover marks the primary and watches all of its keys; the daemon is the same user.
    let more = ["--yes", "--stop-writers-command=true"].map(str::to_owned);
    let journal = format!("--journal-folder={}", folder.path().display());
    let args = std::iter::once("switchover".to_owned()).chain(flags.clone()).chain(more).chain([journal]);
    let output = run_command_with(&args.collect::<Vec<_>>(), &[], PATIENCE).await?;
    ensure!(output.code == Some(0) && output.stdout.contains("nothing was lost"), "{output:?}");
    // Not one key of the primary can be changed with them, but for the role.
    let auth = Auth { user: "grants-primary-user".into(), password_file: folder.path().join("grants-primary-user") };
    let primary = Etcd::new(Options { auth: Some(auth), ..link.primary.store_options(Side::Primary) })?;
    for (key, denied) in [(lost, true), ("/etcd-sync/default/checkpoint", true), ("/etcd-sync/default/role", false)] {
        let put = Op::Put { key: key.into(), value: "x".into(), lease: 0 };
        let written = primary.txn(Txn { success: vec![put], ..Txn::default() }).await;
        let refused = written.is_err_and(|failure| matches!(failure.error(), Error::PermissionDenied { .. }));
        ensure!(refused == denied, "{key}");
    }
    Ok(())
}
