//! The primary is gone while everything is still being copied: the standby is not consistent with any revision of it.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use etcd_sync_core::link::state::Phase;
use etcd_sync_integration::daemon::run_command;
use etcd_sync_operations::procedure::{Loss, State};
use etcd_sync_store::Side;

use super::*;

const PASSWORD: &str = "guest";

/// A user of the standby for the synchronizer, whom one key can be denied: there it stops, and nowhere else.
pub struct LimitedUser<'a> {
    link: &'a Link,
    password: PathBuf,
}

impl LimitedUser<'_> {
    /// The standby must ask for users.
    pub async fn new<'a>(link: &'a Link, folder: &Path) -> Result<LimitedUser<'a>> {
        let password = folder.join("guest-password");
        std::fs::write(&password, PASSWORD)?;
        let user = LimitedUser { link, password };
        user.etcdctl(&["user", "add", &format!("guest:{PASSWORD}")]).await?;
        user.etcdctl(&["role", "add", "guest"]).await?;
        user.etcdctl(&["user", "grant-role", "guest", "guest"]).await?;
        user.etcdctl(&["role", "grant-permission", "guest", "readwrite", "--prefix=true", "/etcd-sync/"]).await?;
        user.etcdctl(&["role", "grant-permission", "guest", "read", "/", "0"]).await?;
        Ok(user)
    }

    /// From now on this key cannot be written.
    pub async fn may_write_all_but(&self, key: &str) -> Result<()> {
        // An argument cannot hold the zero byte of the very next key, and no key of these tests lies between.
        let behind = format!("{key}!");
        self.etcdctl(&["role", "grant-permission", "guest", "write", "/registry/", key]).await?;
        self.etcdctl(&["role", "grant-permission", "guest", "write", &behind, "/registry0"]).await
    }

    /// From now on every key can be written.
    pub async fn may_write_all(&self) -> Result<()> {
        self.etcdctl(&["role", "grant-permission", "guest", "write", "/registry/", "/registry0"]).await
    }

    /// Takes [`LimitedUser::may_write_all`] back.
    pub async fn may_write_nothing(&self) -> Result<()> {
        self.etcdctl(&["role", "revoke-permission", "guest", "/registry/", "/registry0"]).await
    }

    /// A synchronizer that is this user.
    pub fn daemon(&self) -> Result<Daemon> {
        let mut flags = self.link.primary.flags(Side::Primary);
        flags.push(format!("--standby-endpoints={}", self.link.standby.endpoints().join(",")));
        flags.push("--standby-user=guest".to_owned());
        flags.push(format!("--standby-password-file={}", self.password.display()));
        Daemon::start(&flags, &[])
    }

    async fn etcdctl(&self, args: &[&str]) -> Result<()> {
        self.link.standby.etcdctl(args).await.map(drop)
    }
}

/// Waits until the synchronizer has come to the key that it may not write.
pub async fn denied_at(daemon: &Daemon) -> Result<()> {
    daemon.wait_line("denies a transaction", PATIENCE).await.map(drop)
}

/// The first copy stops at a key in its middle.
#[tokio::test]
async fn a_first_copy_that_is_not_complete_is_never_promoted() -> Result<()> {
    let auth = ClusterOptions { auth: true, ..ClusterOptions::default() };
    let link = Link::start(ClusterOptions::default(), auth).await?;
    for key in config_keys(400) {
        link.primary.put(&key, "first").await?;
    }
    let folder = tempfile::tempdir()?;
    let user = LimitedUser::new(&link, folder.path()).await?;
    user.may_write_all_but("/registry/configmaps/team-a/settings-0300").await?;
    let daemon = user.daemon()?;
    denied_at(&daemon).await?;
    await_until("the record tells of the copy", PATIENCE, || async {
        let record = link.checkpoint().await?;
        Ok(record.as_ref().is_none_or(|record| record.phase != Phase::FirstSync).then(|| format!("{record:?}")))
    })
    .await?;
    kill_leader(&link, &daemon).await?;
    link.primary.kill_all()?;
    let before = link.synchronized_state().await?;

    let all = ["--yes", "--accept-unchecked", "--accept=synchronizer"];
    for flags in [&["--yes"][..], &all[..2], &all] {
        let output = run(&link, "failover", folder.path(), flags).await?;
        ensure!(output.code == Some(1) && output.stderr.contains("the first sync was never complete"), "{output:?}");
        ensure!(output.stderr.contains("bring the primary back, or restore a backup"), "{output:?}");
        ensure!(output.stdout.contains("it is not known what: the first sync was never complete"), "{output:?}");
        ensure!(!output.stdout.contains("everything up to"), "{output:?}");
        assert_fits(&output.stdout)?;
    }
    ensure!(link.synchronized_state().await? == before && journal(&link).await?.is_empty());
    ensure!(role(&link.standby, &link).await? == "standby");
    Ok(())
}

/// A resync stops at a key in its middle: what the operator is told, has to say, and gets.
#[tokio::test]
async fn a_resync_under_way_is_told_and_has_to_be_accepted() -> Result<()> {
    let auth = ClusterOptions { auth: true, ..ClusterOptions::default() };
    let link = Link::start(ClusterOptions::default(), auth).await?;
    for key in config_keys(400) {
        link.primary.put(&key, "first").await?;
    }
    let folder = tempfile::tempdir()?;
    let user = LimitedUser::new(&link, folder.path()).await?;
    user.may_write_all().await?;
    let daemon = user.daemon()?;
    link.await_caught_up(PATIENCE).await?;
    daemon.terminate(PATIENCE).await?;
    let diverged = link.checkpoint().await?.context("there is a record")?.revision;
    // Its history is gone, so everything is read again.
    for key in config_keys(400) {
        link.primary.put(&key, "second").await?;
    }
    link.primary.compact(link.primary.revision().await?).await?;
    user.may_write_nothing().await?;
    user.may_write_all_but("/registry/configmaps/team-a/settings-0300").await?;
    let daemon = user.daemon()?;
    denied_at(&daemon).await?;
    let record = link.checkpoint().await?.context("there is a record")?;
    ensure!((record.phase, record.revision) == (Phase::Resync, diverged), "{record:?}");
    kill_leader(&link, &daemon).await?;
    link.primary.kill_all()?;
    let before = link.synchronized_state().await?;

    let output = run(&link, "failover", folder.path(), &["--yes"]).await?;
    ensure!(output.code == Some(1) && output.stderr.contains("give --accept-unchecked"), "{output:?}");
    let said = output.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        format!(
            "everything up to revision {diverged} of the primary, and a part of what came later: a resync was under way"
        ),
        format!("what the primary acknowledged after revision {diverged}, but for what was copied"),
    ] {
        ensure!(said.contains(&part), "no {part:?} in {}", output.stdout);
    }
    assert_fits(&output.stdout)?;
    let output = run(&link, "failover", folder.path(), &["--yes", "--accept-unchecked"]).await?;
    ensure!(output.code == Some(1) && output.stderr.contains("--accept synchronizer"), "{output:?}");
    ensure!(link.synchronized_state().await? == before && journal(&link).await?.is_empty());

    let flags = ["--yes", "--accept-unchecked", "--accept=synchronizer"];
    let output = run(&link, "failover", folder.path(), &flags).await?;
    ensure!(output.code == Some(0), "{output:?}");
    assert_fits(&output.stdout)?;
    let said = output.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "a resync was under way: it is not consistent with any single revision of the old primary".to_owned(),
        format!(
            "what the old primary acknowledged after its revision {diverged} and a copy under way had not brought is lost"
        ),
    ] {
        ensure!(said.contains(&part), "no {part:?} in {}", output.stdout);
    }
    ensure!(!said.contains("it is consistent with revision"), "{}", output.stdout);
    let runs = journal(&link).await?;
    let loss: Loss = runs[0].loss.clone().context("the loss is told")?;
    ensure!(loss.phase == Phase::Resync && !runs[0].nothing_lost(), "{:?}", runs[0]);
    ensure!(runs[0].accepted.unchecked && runs[0].accepted.checks == ["synchronizer"], "{:?}", runs[0]);
    ensure!(runs[0].state == State::Completed && role(&link.standby, &link).await? == "primary");

    // What the copy had not brought is on the old primary, and nothing of it goes unsaved.
    link.primary.restart_all().await?;
    let mut args = vec!["rejoin".to_owned(), "--yes".to_owned()];
    args.extend(link.standby.flags(Side::Primary));
    args.extend(link.primary.flags(Side::Standby));
    let file = folder.path().join("rejoin.jsonl");
    args.push(format!("--backup={}", file.display()));
    let output = run_command(&args).await?;
    ensure!(output.code == Some(0), "{output:?}");
    let mut lost = 0;
    for key in config_keys(400) {
        lost += usize::from(link.standby.get(&key).await?.is_some_and(|kv| kv.value == "first"));
    }
    ensure!(lost > 0, "the copy was complete");
    let saved = std::fs::read_to_string(&file)?.lines().filter(|line| line.contains("modRevision")).count();
    ensure!(saved == lost, "{lost} values were not copied, and {saved} saved");
    ensure!(link.difference().await?.is_empty(), "{}", link.difference().await?);
    Ok(())
}
