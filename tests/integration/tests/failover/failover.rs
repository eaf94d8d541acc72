//! The primary is gone.

use anyhow::{Result, ensure};
use etcd_sync_integration::link::config_keys;
use etcd_sync_integration::ports;
use etcd_sync_operations::procedure::{Loss, State};
use etcd_sync_store::Side;

use super::*;

#[tokio::test]
async fn a_failover_says_what_is_lost_and_promotes() -> Result<()> {
    let (link, daemon) = caught_up().await?;
    let folder = tempfile::tempdir()?;
    let output = run(&link, "failover", folder.path(), &["--yes"]).await?;
    ensure!(output.code == Some(1) && output.stderr.contains("lose its writes"), "the primary lives: {output:?}");
    await_until("a contact with the primary is on record", PATIENCE, || async {
        Ok(link.standby.get(&link.keys.primary_contact).await?.is_none().then(|| "none".to_owned()))
    })
    .await?;
    let seen = link.primary.revision().await?;
    // What the synchronizer does not receive any more is lost.
    kill_leader(&link, &daemon).await?;
    let mut written = Vec::new();
    for key in config_keys(3) {
        written.push((key.clone(), link.primary.put(&key, "never arrives").await?));
    }
    link.primary.kill_all()?;
    let output = run(&link, "switchover", folder.path(), &["--yes"]).await?;
    let instead = "if the primary is gone: `etcd-sync failover`";
    ensure!(output.code == Some(1) && output.stderr.trim_end().ends_with(instead), "{output:?}");
    let output = run(&link, "failover", folder.path(), &["--yes"]).await?;
    ensure!(output.code == Some(1) && output.stderr.contains("--accept-unchecked"), "nobody has compared: {output:?}");
    let output = run(&link, "failover", folder.path(), &["--yes", "--accept-unchecked"]).await?;
    ensure!(output.code == Some(0), "{output:?}");
    assert_fits(&output.stdout)?;
    let runs = journal(&link).await?;
    let loss: Loss = runs[0].loss.clone().context("the loss is told")?;
    ensure!((loss.applied_revision, loss.offset) == (seen, 0), "{loss:?}, and the primary was at {seen}");
    for (key, revision) in written {
        let here = link.standby.get(&key).await?.is_some_and(|kv| kv.value == "never arrives");
        ensure!(here == (revision <= loss.applied_revision), "{key:?} of revision {revision}: {loss:?}");
    }
    ensure!(runs[0].state == State::Completed);
    ensure!(role(&link.standby, &link).await? == "primary");
    // The journal asks nothing of the primary, so it need not be named.
    let mut args = vec!["journal".to_owned(), runs[0].id.clone()];
    args.extend(link.standby.flags(Side::Standby));
    let shown = run_command_with(&args, &[], PATIENCE).await?;
    ensure!(shown.code == Some(0) && shown.stdout.contains("What is lost at most"), "{shown:?}");
    assert_fits(&shown.stdout)
}

/// An owner that is missed takes what it owns with it.
#[tokio::test]
async fn missed_keys_stop_a_failover_and_what_they_take_with_them_is_named() -> Result<()> {
    let (link, daemon) = caught_up().await?;
    let folder = tempfile::tempdir()?;
    let machine = "/registry/platform.tkestack.io/machines/m-1";
    let dependent = "/registry/configmaps/team-a/of-machine";
    let object = |kind: &str, uid: &str, owner: &str| {
        format!(
            r#"{{"apiVersion":"example.com/v1","kind":"{kind}","metadata":{{"name":"x","uid":"{uid}","ownerReferences":[{owner}]}}}}"#
        )
    };
    let owner = r#"{"apiVersion":"platform.tkestack.io/v1","kind":"Machine","name":"m-1","uid":"u-1"}"#;
    link.primary.put(machine, object("Machine", "u-1", "")).await?;
    link.primary.put(dependent, object("ConfigMap", "u-2", owner)).await?;
    link.await_caught_up(PATIENCE).await?;
    // Planted: nobody puts it back.
    kill_leader(&link, &daemon).await?;
    link.standby.delete(machine).await?;
    for content in ["1", "2", "3"] {
        link.primary.put("/registry/configmaps/kube-system/unheard", content).await?;
    }
    let monitor = link.monitor(&["--check-interval=1s"])?;
    // It compares with the newest revision, because nobody leads.
    let head = format!("\"primaryRevision\": {}", link.primary.revision().await?);
    await_until("the monitor has seen it", PATIENCE, || async {
        let (status, body) = monitor.http("/check?last=1&format=json").await?;
        Ok((status != 200 || !body.contains("\"missed\": 1") || !body.contains(&head)).then_some(body))
    })
    .await?;
    link.primary.kill_all()?;
    let before = link.synchronized_state().await?;
    let monitor = format!("--monitor=http://127.0.0.1:{}", monitor.port());

    let output = run(&link, "failover", folder.path(), &["--yes", &monitor]).await?;
    ensure!(output.code == Some(1) && output.stderr.contains("keys missed: 1"), "{output:?}");
    assert_fits(&output.stdout)?;
    // Written when the synchronizer was gone: only the monitor knows of it.
    let said = output.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    ensure!(said.contains("Monitor saw revision") && said.contains("3 revisions known"), "{said}");
    for part in
        ["MISSED on this standby", machine, "DESTROYED", dependent, "DESTROYS VIRTUAL MACHINES", "--accept-missing 1"]
    {
        ensure!(output.stdout.contains(part), "no {part:?} in {}", output.stdout);
    }
    let output = run(&link, "failover", folder.path(), &["--yes", &monitor, "--accept=check"]).await?;
    let told = "--accept does not cover missed keys: give --accept-missing 1";
    ensure!(output.code == Some(1) && output.stderr.contains(told), "{output:?}");
    let output =
        run(&link, "failover", folder.path(), &["--yes", &monitor, "--accept-missing=2", "-o", "json"]).await?;
    ensure!(output.code == Some(1), "another number was taken: {output:?}");
    let refused = json(&output)?;
    ensure!(refused["missing"]["doomed"] == serde_json::json!([dependent]), "{refused:#}");
    ensure!(
        link.synchronized_state().await? == before && journal(&link).await?.is_empty(),
        "a refused failover left something"
    );

    let output = run(&link, "failover", folder.path(), &["--yes", &monitor, "--accept-missing=1"]).await?;
    ensure!(output.code == Some(0), "{output:?}");
    ensure!(role(&link.standby, &link).await? == "primary");
    Ok(())
}

/// The worst day gets worse: the primary burns while its planned switchover is under way.
#[tokio::test]
async fn a_switchover_whose_primary_dies_is_given_up_for_a_failover() -> Result<()> {
    let (link, daemon) = caught_up().await?;
    let folder = tempfile::tempdir()?;
    let stop = format!("--stop-writers-command=touch {0}/asked; exec sleep 30", folder.path().display());
    let args = command(&link, "switchover", folder.path(), &["--yes", &stop, "--writers-timeout=5s"]);
    let switchover = tokio::spawn(async move { run_command_with(&args, &[], PATIENCE).await });
    await_step(&link, Step::StopWriters, false).await?;
    link.primary.kill_all()?;
    let output = switchover.await??;
    ensure!(output.code == Some(1), "{output:?}");
    let output = run(&link, "failover", folder.path(), &["--yes", "--accept-unchecked"]).await?;
    ensure!(output.code == Some(1) && output.stderr.contains("--abandon"), "{output:?}");
    let output = run(&link, "journal", folder.path(), &["--abandon"]).await?;
    ensure!(output.code == Some(0) && output.stdout.contains("could not be cleared"), "{output:?}");
    assert_fits(&output.stdout)?;
    let output = run(&link, "failover", folder.path(), &["--yes", "--accept-unchecked"]).await?;
    ensure!(output.code == Some(0), "{output:?}");
    ensure!(role(&link.standby, &link).await? == "primary");
    drop(daemon);
    Ok(())
}

/// This command does not reach the primary, and the synchronizer does: nothing is gone.
#[tokio::test]
async fn a_primary_that_the_synchronizer_still_receives_from_is_not_gone() -> Result<()> {
    let (link, _daemon) = caught_up().await?;
    await_until("a contact with the primary is on record", PATIENCE, || async {
        Ok(link.standby.get(&link.keys.primary_contact).await?.is_none().then(|| "none".to_owned()))
    })
    .await?;
    let folder = tempfile::tempdir()?;
    let nobody = ports::free(1)?[0];
    let mut args = vec!["failover".to_owned(), format!("--primary-endpoints=http://127.0.0.1:{nobody}")];
    args.extend(link.standby.flags(Side::Standby));
    args.extend(["--yes".to_owned(), "--accept-unchecked".to_owned()]);
    args.push(format!("--journal-folder={}", folder.path().display()));
    let output = run_command_with(&args, &[], PATIENCE).await?;
    ensure!(output.code == Some(1) && output.stderr.contains("still receives from the primary"), "{output:?}");
    ensure!(role(&link.standby, &link).await? == "standby" && journal(&link).await?.is_empty());
    Ok(())
}
