//! Planned: both clusters live, and nothing is lost.

use std::time::Duration;

use anyhow::{Result, ensure};
use etcd_sync_integration::compare::await_until;
use etcd_sync_integration::link::{await_ready, config_keys};
use etcd_sync_integration::load::{Writer, WriterOptions};
use etcd_sync_operations::procedure::{State, Step};
use etcd_sync_store::Side;

use super::*;

#[tokio::test]
async fn a_switchover_under_load_loses_nothing_and_ends_the_synchronizer() -> Result<()> {
    let (link, daemon) = caught_up().await?;
    let folder = tempfile::tempdir()?;
    let writer = Writer::start(
        link.primary.client(),
        WriterOptions { per_second: 200.0, ..WriterOptions::new(config_keys(40)) },
    );
    // The command waits for this file: the test stops the writer, as somebody would stop the API servers.
    let stopped = folder.path().join("stopped");
    let stop = format!("--stop-writers-command=until [ -e {} ]; do sleep 0.1; done", stopped.display());
    let args = command(&link, "switchover", folder.path(), &["--yes", &stop]);
    let switchover = tokio::spawn(async move { run_command_with(&args, &[], PATIENCE).await });
    await_step(&link, Step::StopWriters, false).await?;
    ensure!(role(&link.primary, &link).await?.starts_with("demoted:"), "the primary is not marked as demoted yet");
    ensure!(writer.stop().await?.errors == 0, "the writer had trouble");
    std::fs::write(&stopped, "")?;
    let output = switchover.await??;
    ensure!(output.code == Some(0), "{output:?}");
    assert_fits(&output.stdout)?;
    ensure!(output.stdout.contains("Recovery point  nothing was lost: "), "{}", output.stdout);

    ensure!(link.difference().await?.is_empty(), "{}", link.difference().await?);
    ensure!(role(&link.standby, &link).await? == "primary");
    // Whatever still runs, nothing of it is written any more.
    await_ready(&daemon, 503, "promoted", PATIENCE).await?;
    let before = link.synchronized_state().await?;
    link.primary.put(&config_keys(1)[0], "written to the old primary").await?;
    let another = link.daemon(&[])?;
    await_until("another synchronizer is refused, too", PATIENCE, || async {
        let (status, body) = another.http("/readyz").await.unwrap_or_default();
        let (leads, _) = (link.candidates().await?.len(), status);
        Ok((!body.contains("promoted") && !body.contains("standing by")).then(|| format!("{leads}: {body}")))
    })
    .await?;
    ensure!(link.synchronized_state().await? == before, "a synchronizer wrote to the promoted cluster");

    let runs = journal(&link).await?;
    ensure!(runs.len() == 1 && runs[0].state == State::Completed, "{runs:?}");
    ensure!(runs[0].attempts.len() == 1, "{runs:?}");

    // Neither side is a standby now, and who asks is told so first.
    let ask = async |name: &str, flags: &[String]| {
        run_command_with(&[&[name.to_owned()], flags].concat(), &[], PATIENCE).await
    };
    let (as_before, exchanged) =
        (link.flags(&[]), [link.standby.flags(Side::Primary), link.primary.flags(Side::Standby)].concat());
    for (flags, said) in [
        (&as_before, "PAUSED: the role here is primary (promoted by run"),
        (&exchanged, "PAUSED: the role here is demoted"),
    ] {
        let plan = ask("plan", flags).await?;
        ensure!(plan.code == Some(1) && plan.stdout.starts_with(said), "{plan:?}");
        ensure!(plan.stdout.contains("  unchanged\n") && plan.stdout.contains("Replication is paused: "), "{plan:?}");
    }
    let status = ask("status", &as_before).await?;
    ensure!(status.code == Some(1) && status.stdout.contains("ended: promoted 2"), "{status:?}");
    ensure!(!status.stdout.contains("ahead of the checkpoint"), "{status:?}");
    ensure!(open_run(&link).await?.is_none());
    let copy = std::fs::read_to_string(folder.path().join(format!("switchover-default-{}.json", runs[0].id)))?;
    ensure!(serde_json::from_str::<Run>(&copy)? == runs[0], "the copy differs: {copy}");
    Ok(())
}

#[tokio::test]
async fn a_dry_run_and_an_answer_other_than_the_word_change_nothing() -> Result<()> {
    let (link, _daemon) = caught_up().await?;
    let folder = tempfile::tempdir()?;
    let output = run(&link, "switchover", folder.path(), &["--dry-run"]).await?;
    ensure!(output.code == Some(0) && output.stdout.contains("promote"), "{output:?}");
    assert_fits(&output.stdout)?;
    // No terminal to ask on.
    let output = run(&link, "switchover", folder.path(), &[]).await?;
    ensure!(output.code == Some(1) && output.stderr.contains("--yes"), "{output:?}");
    ensure!(journal(&link).await?.is_empty());
    ensure!(role(&link.standby, &link).await? == "standby" && role(&link.primary, &link).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_primary_that_is_still_written_to_is_not_left_and_the_run_can_be_given_up() -> Result<()> {
    let (link, _daemon) = caught_up().await?;
    let folder = tempfile::tempdir()?;
    let writer =
        Writer::start(link.primary.client(), WriterOptions { per_second: 20.0, ..WriterOptions::new(config_keys(40)) });
    let flags = ["--yes", "--writers-timeout=4s", "--stop-writers-command=true"];
    let output = run(&link, "switchover", folder.path(), &flags).await?;
    ensure!(output.code == Some(1) && output.stdout.contains("still written to"), "{output:?}");
    assert_fits(&output.stdout)?;
    ensure!(role(&link.standby, &link).await? == "standby");

    // Another one must not begin beside it, nor go on with other intentions.
    let output = run(&link, "failover", folder.path(), &["--yes"]).await?;
    ensure!(output.code == Some(1) && output.stderr.contains("is not finished"), "{output:?}");
    let output = run(&link, "switchover", folder.path(), &["--yes", "--stop-writers-command=false"]).await?;
    ensure!(output.code == Some(1) && output.stderr.contains("other flags"), "{output:?}");

    let output = run(&link, "journal", folder.path(), &["--abandon"]).await?;
    ensure!(output.code == Some(0), "{output:?}");
    ensure!(role(&link.primary, &link).await?.is_empty(), "it has not the role that it had before: none");
    ensure!(journal(&link).await?[0].state == State::Abandoned);
    ensure!(writer.stop().await?.errors == 0);
    link.await_equal(Duration::from_secs(30)).await
}
