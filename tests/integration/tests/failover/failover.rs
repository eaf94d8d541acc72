//! The primary is gone.

use anyhow::{Result, ensure};
use etcd_sync_core::procedure::{Loss, State};
use etcd_sync_integration::link::config_keys;

use super::*;

#[tokio::test]
async fn a_failover_says_what_is_lost_and_promotes() -> Result<()> {
    let (link, daemon) = in_step().await?;
    let folder = tempfile::tempdir()?;
    let output = run(&link, "failover", folder.path(), &["--yes"]).await?;
    ensure!(output.code == Some(1) && output.stderr.contains("lose its writes"), "the primary lives: {output:?}");
    await_until("a sign of the primary is on record", PATIENCE, || async {
        Ok(link.standby.get(&link.keys.primary_seen).await?.is_none().then(|| "none".to_owned()))
    })
    .await?;
    let seen = link.primary.revision().await?;
    // What the synchronizer does not hear of any more is lost.
    daemon.kill()?;
    let mut written = Vec::new();
    for key in config_keys(3) {
        written.push((key.clone(), link.primary.put(&key, "never arrives").await?));
    }
    link.primary.kill_all()?;
    let output = run(&link, "failover", folder.path(), &["--yes"]).await?;
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
    let shown = run(&link, "journal", folder.path(), &[&runs[0].id]).await?;
    ensure!(shown.stdout.contains("What is lost at most"), "{shown:?}");
    assert_fits(&shown.stdout)
}
