//! What people do by hand, and what is left behind when a run is given up.

use anyhow::{Result, ensure};
use etcd_sync_integration::docs::{page, run_block};
use etcd_sync_operations::procedure::State;

use super::*;

const ROLE_FAILS: &str = "--stop-writers-command=exit 1";

/// The link as `rejoin` names its two sides.
fn turned(link: Link) -> Link {
    let Link { primary, standby, keys } = link;
    Link { primary: standby, standby: primary, keys }
}

/// A run is open, somebody promotes by hand: nobody is told to start the old primary's API servers, and it rejoins.
#[tokio::test]
async fn a_promotion_by_hand_is_respected_and_the_old_primary_rejoins() -> Result<()> {
    let (link, daemon) = caught_up().await?;
    let folder = tempfile::tempdir()?;
    let failed = run(&link, "switchover", folder.path(), &["--yes", ROLE_FAILS]).await?;
    ensure!(failed.code == Some(1) && role(&link.primary, &link).await?.starts_with("demoted:"), "{failed:?}");
    daemon.terminate(PATIENCE).await?;
    let said = run_block(&page("runbook.md"), "promotion-by-hand", &link.standby, &[]).await?;
    ensure!(
        said.split_whitespace().eq(["SUCCESS", "OK", "OK"]) && role(&link.standby, &link).await? == "primary",
        "{said}"
    );
    // It holds only for a standby.
    let said = run_block(&page("runbook.md"), "promotion-by-hand", &link.standby, &[]).await?;
    ensure!(said.contains("FAILURE") && said.trim_end().ends_with("primary"), "{said}");

    let given_up = run(&link, "journal", folder.path(), &["--abandon"]).await?;
    ensure!(given_up.code == Some(0) && given_up.stdout.contains("primary all the same"), "{given_up:?}");
    ensure!(!given_up.stdout.contains("Start the primary's API servers"), "{given_up:?}");
    ensure!(role(&link.primary, &link).await?.starts_with("demoted:"), "the old primary's mark is gone");

    let link = turned(link);
    let rejoined = run(&link, "rejoin", folder.path(), &["--yes"]).await?;
    ensure!(rejoined.code == Some(0), "{rejoined:?}");
    link.await_equal(PATIENCE).await
}

/// Half of it is no promotion to copy from: the cluster that asks may be the old primary.
#[tokio::test]
async fn a_promotion_that_nobody_recorded_is_copied_by_nobody() -> Result<()> {
    let (link, daemon) = caught_up().await?;
    daemon.terminate(PATIENCE).await?;
    link.standby.put(&link.keys.role, "primary").await?;
    link.primary.put("/registry/configmaps/team-a/later", "only here").await?;
    let link = turned(link);
    let daemon = link.daemon(&[])?;
    daemon.wait_line("its /etcd-sync/default/promotion is missing", PATIENCE).await?;
    ensure!(link.standby.get("/registry/configmaps/team-a/later").await?.is_some());
    ensure!(link.standby.get(&link.keys.role).await?.is_none(), "it became a standby");
    Ok(())
}

/// The primary is silent when the run is given up: its mark is taken away when it is back.
#[tokio::test]
async fn a_mark_that_was_left_on_the_primary_is_taken_away_later() -> Result<()> {
    let (link, _daemon) = caught_up().await?;
    let folder = tempfile::tempdir()?;
    let failed = run(&link, "switchover", folder.path(), &["--yes", ROLE_FAILS]).await?;
    ensure!(failed.code == Some(1), "{failed:?}");
    link.primary.pause_member(0)?;
    let given_up = run(&link, "journal", folder.path(), &["--abandon"]).await;
    link.primary.resume_member(0)?;
    let given_up = given_up?;
    ensure!(given_up.code == Some(0) && given_up.stdout.contains("could not be cleared"), "{given_up:?}");
    assert_fits(&given_up.stdout)?;

    let refused = run(&link, "switchover", folder.path(), &["--yes"]).await?;
    ensure!(refused.code == Some(1) && refused.stdout.contains("clears its mark"), "{refused:?}");
    ensure!(!refused.stderr.contains("--accept role"), "{refused:?}");
    let taken = run(&link, "journal", folder.path(), &["--abandon"]).await?;
    ensure!(taken.code == Some(0) && taken.stdout.contains("not marked as demoted any more"), "{taken:?}");
    let again = run(&link, "journal", folder.path(), &["--abandon"]).await?;
    ensure!(again.code == Some(1) && again.stderr.contains("nothing to give up"), "{again:?}");
    let done = run(&link, "switchover", folder.path(), &["--yes", "--stop-writers-command=true"]).await?;
    ensure!(done.code == Some(0), "{done:?}");
    let runs = journal(&link).await?;
    ensure!(runs.len() == 2 && runs[0].state == State::Abandoned && runs[1].state == State::Completed, "{runs:?}");
    Ok(())
}
