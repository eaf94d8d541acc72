//! What happens between the plan and the deletion.

use anyhow::{Result, ensure};
use bytes::Bytes;
use etcd_sync_core::link::state::{ROLE_PRIMARY, ROLE_STANDBY};
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::link::Link;
use etcd_sync_integration::terminal::Terminal;
use etcd_sync_operations::prune::{Fate, deletion};

use super::{SECRET, held, link};

const ASKS: &str = "Type the number of keys (4) to delete them";

fn key(number: usize) -> Bytes {
    format!("/registry/configmaps/apps/surplus-{number}").into()
}

/// Four surplus keys, planned; the program asks.
async fn asking(link: &Link, more: &[&str]) -> Result<Terminal> {
    for number in 0..4 {
        link.standby.put(key(number), SECRET).await?;
    }
    let mut args = vec!["prune".to_owned()];
    args.extend(link.flags(more));
    let terminal = Terminal::start(&args)?;
    terminal.wait_for(ASKS, PATIENCE).await?;
    Ok(terminal)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_since_the_plan_stays() -> Result<()> {
    let link = link(2).await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("saved");
    let mut terminal = asking(&link, &[&format!("--backup={}", file.display())]).await?;
    ensure!(!file.exists(), "saved before anybody said so");
    link.standby.put(key(0), "changed since").await?;
    link.primary.put(key(1), SECRET).await?;
    link.standby.delete(key(2)).await?;
    terminal.type_line("4")?;
    let (status, shown) = terminal.wait(PATIENCE).await?;
    assert_eq!(status.code(), Some(1), "{shown}");
    for line in [
        "Deleted: 1 (saved in ",
        "Gone meanwhile, by the garbage collector or another client: 1",
        "Not deleted: 2",
        "/registry/configmaps/apps/surplus-0  (changed since the plan",
        "/registry/configmaps/apps/surplus-1  (the primary has it now",
    ] {
        ensure!(shown.contains(line), "{line:?} is not in:\n{shown}");
    }
    ensure!(!shown.contains(SECRET), "a value is on the screen");
    let changed = link.standby.get(key(0)).await?;
    assert_eq!(changed.map(|kv| kv.value), Some(Bytes::from_static(b"changed since")));
    let there = [link.standby.get(key(1)).await?.is_some(), link.standby.get(key(3)).await?.is_some()];
    assert_eq!(there, [true, false]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn any_other_answer_leaves_everything() -> Result<()> {
    let link = link(2).await?;
    for answer in ["yes", "3", "", "44"] {
        let mut terminal = asking(&link, &[]).await?;
        let before = held(&link).await?;
        terminal.type_line(answer)?;
        let (status, shown) = terminal.wait(PATIENCE).await?;
        assert_eq!(status.code(), Some(1), "{shown}");
        ensure!(shown.contains("nothing was deleted: the answer was not 4"), "{shown}");
        ensure!(held(&link).await? == before, "{answer:?} deleted something");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_in_between_stops_it() -> Result<()> {
    let link = link(2).await?;
    let folder = tempfile::tempdir()?;
    let mut terminal = asking(&link, &[&format!("--backup={}", folder.path().join("saved").display())]).await?;
    link.standby.put(&link.keys.role, ROLE_PRIMARY).await?;
    let before = held(&link).await?;
    terminal.type_line("4")?;
    let (status, shown) = terminal.wait(PATIENCE).await?;
    assert_eq!(status.code(), Some(2), "{shown}");
    ensure!(shown.contains("with 0 keys deleted") && shown.contains("it was promoted"), "{shown}");
    ensure!(held(&link).await? == before, "something was deleted from a promoted cluster");
    Ok(())
}

/// What no plan can see: a change right before the transaction.
#[tokio::test(flavor = "multi_thread")]
async fn the_transaction_itself_is_guarded() -> Result<()> {
    let link = link(2).await?;
    let client = link.standby.client();
    let fate = async |revision| anyhow::Ok(Fate::of(&client.txn(deletion(&link.keys, &key(0), revision)).await?));
    assert_eq!(fate(7).await?, Ok(Fate::Gone));
    let planned = link.standby.put(key(0), "planned").await?;
    let changed = link.standby.put(key(0), "changed").await?;
    assert_eq!(fate(planned).await?, Ok(Fate::Changed));
    link.standby.put(&link.keys.role, ROLE_PRIMARY).await?;
    ensure!(fate(changed).await?.is_err() && link.standby.get(key(0)).await?.is_some());
    link.standby.put(&link.keys.role, ROLE_STANDBY).await?;
    link.standby.put(link.keys.local_entry(&key(0)), "").await?;
    assert_eq!(fate(changed).await?, Ok(Fate::Deleted));
    ensure!(
        link.standby.get(key(0)).await?.is_none() && link.standby.get(link.keys.local_entry(&key(0))).await?.is_none()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_since_the_plan_is_not_overwritten() -> Result<()> {
    let link = link(2).await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("saved").display().to_string();
    let mut pruning = asking(&link, &[&format!("--backup={file}")]).await?;
    pruning.type_line("4")?;
    assert_eq!(pruning.wait(PATIENCE).await?.0.code(), Some(0));
    let mut args = vec!["restore".to_owned()];
    args.extend(link.flags(&[&file]));
    let mut terminal = Terminal::start(&args)?;
    terminal.wait_for("Type the number of keys (4) to put them back", PATIENCE).await?;
    link.standby.put(key(0), "made since").await?;
    link.standby.put(key(1), SECRET).await?;
    link.primary.put(key(2), "the primary's").await?;
    terminal.type_line("4")?;
    let (status, shown) = terminal.wait(PATIENCE).await?;
    assert_eq!(status.code(), Some(1), "{shown}");
    for line in [
        "1  put back",
        "1  there already, with the same value",
        "1  left alone: there with another value",
        "1  left alone: the primary has it",
    ] {
        ensure!(shown.contains(line), "{line:?} is not in:\n{shown}");
    }
    let made = link.standby.get(key(0)).await?;
    assert_eq!(made.map(|kv| kv.value), Some(Bytes::from_static(b"made since")));
    ensure!(link.standby.get(key(2)).await?.is_none(), "put back what the synchronizer brings");
    Ok(())
}
