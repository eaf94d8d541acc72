//! More than one operator, and clusters that change between two calls.

use anyhow::{Result, ensure};
use etcd_sync_core::etcd::kv::KeyRange;
use etcd_sync_integration::compare::await_true;
use etcd_sync_integration::daemon::run_command_with;
use etcd_sync_operations::procedure::State;
use etcd_sync_store::Side;

use super::*;

/// The command of the operators waits until the file `go` is there, and writes a line for each call.
fn slow(folder: &Path) -> String {
    let (calls, go) = (folder.join("calls"), folder.join("go"));
    format!(
        "--stop-writers-command=echo called >> {}; while [ ! -e {} ]; do sleep 0.05; done",
        calls.display(),
        go.display()
    )
}

#[tokio::test]
async fn a_second_operator_is_told_who_is_at_it_and_does_nothing() -> Result<()> {
    let (link, _daemon) = caught_up().await?;
    let folder = tempfile::tempdir()?;
    let slow = slow(folder.path());
    let args = command(&link, "switchover", folder.path(), &["--yes", &slow]);
    let first =
        tokio::spawn(
            async move { run_command_with(&args, &[("USER", "ada"), ("HOSTNAME", "bastion")], PATIENCE).await },
        );
    let calls = folder.path().join("calls");
    await_true("the first one is at it", PATIENCE, || async { Ok(calls.exists()) }).await?;

    let second = command(&link, "switchover", folder.path(), &["--yes", &slow]);
    let abandon = command(&link, "journal", folder.path(), &["--abandon"]);
    let bob = [("USER", "bob"), ("HOSTNAME", "laptop")];
    let (second, abandon) =
        tokio::try_join!(run_command_with(&second, &bob, PATIENCE), run_command_with(&abandon, &bob, PATIENCE))?;
    for output in [second, abandon] {
        ensure!(output.code == Some(2) && output.stderr.contains("ada@bastion carries a run"), "{output:?}");
    }
    // Nor is he told to give up what somebody is at.
    let other = run_command_with(&command(&link, "failover", folder.path(), &["--yes"]), &bob, PATIENCE).await?;
    ensure!(other.code == Some(1) && other.stderr.contains("ada@bastion carries run"), "{other:?}");
    ensure!(!other.stderr.contains("--abandon"), "{other:?}");
    std::fs::write(folder.path().join("go"), "")?;
    let first = first.await??;
    ensure!(first.code == Some(0), "{first:?}");
    let runs = journal(&link).await?;
    ensure!(runs.len() == 1 && runs[0].state == State::Completed && runs[0].attempts.len() == 1, "{runs:?}");
    ensure!(std::fs::read_to_string(&calls)? == "called\n", "it was called by both");
    Ok(())
}

/// What was seen before an interruption says nothing about now.
#[tokio::test]
async fn everything_is_looked_at_again_before_a_run_that_was_interrupted_promotes() -> Result<()> {
    let (link, daemon) = caught_up().await?;
    let folder = tempfile::tempdir()?;
    let flags = ["--yes", "--stop-writers-command=exit 1"];
    let failed = run(&link, "switchover", folder.path(), &flags).await?;
    ensure!(failed.code == Some(1) && open_run(&link).await?.is_some(), "{failed:?}");
    // Missed from now on: nothing of the primary changes it.
    daemon.terminate(PATIENCE).await?;
    let missed = "/registry/configmaps/team-a/settings-0007";
    link.standby.delete(missed).await?;
    let refused = run(&link, "switchover", folder.path(), &flags).await?;
    ensure!(refused.code == Some(1) && refused.stderr.contains("nothing more was changed"), "{refused:?}");
    ensure!(refused.stdout.contains(missed), "{refused:?}");
    ensure!(role(&link.standby, &link).await? == "standby");
    let stands = open_run(&link).await?.context("the run is open still")?;
    ensure!(stands.attempts.len() == 1, "{stands:?}");
    Ok(())
}

/// Both have looked before either has begun.
#[tokio::test]
async fn a_second_operator_begins_nothing_when_the_first_has_promoted_meanwhile() -> Result<()> {
    let (link, _daemon) = caught_up().await?;
    let folder = tempfile::tempdir()?;
    let slow = slow(folder.path());
    let args = command(&link, "switchover", folder.path(), &["--yes", &slow]);
    // They wait for the right to begin, one behind the other.
    let runners = || async {
        anyhow::Ok(link.standby.store(Side::Standby)?.count(&KeyRange::prefix(&link.keys.runner_prefix)).await?.0)
    };
    let start = || {
        let args = args.clone();
        tokio::spawn(async move { run_command_with(&args, &[], PATIENCE).await })
    };
    let holder = etcd_sync_store::client::election::campaign(
        &link.standby.store(Side::Standby)?,
        &link.keys.runner_prefix,
        b"the test",
        Duration::from_secs(60),
        || {},
        std::future::pending(),
    )
    .await?
    .context("it leads")?;
    let (first, second) = (start(), start());
    await_true("both wait", PATIENCE, || async { Ok(runners().await? == 3) }).await?;
    std::fs::write(folder.path().join("go"), "")?;
    holder.resign().await?;
    let ended = [first.await??, second.await??];
    let done = ended.iter().filter(|output| output.code == Some(0)).count();
    // On a slow machine the second one gives up waiting before the first is through.
    let refused = ended.iter().any(|output| match output.code {
        Some(1) => output.stderr.contains("nothing was changed: this cluster is primary already"),
        Some(2) => output.stderr.contains("carries a run of this link out"),
        _ => false,
    });
    ensure!(done == 1 && refused, "{ended:?}");
    let runs = journal(&link).await?;
    ensure!(runs.len() == 1 && runs[0].state == State::Completed, "{runs:?}");
    Ok(())
}
