//! Beside a running synchronizer, and before and after one: nothing that was pruned is put back, nothing that was put back
//! is deleted.

use anyhow::{Result, ensure};
use bytes::Bytes;
use etcd_sync_core::etcd::kv::{Event, KeyRange};
use etcd_sync_integration::compare::{await_true, dump};
use etcd_sync_integration::daemon::Daemon;
use etcd_sync_integration::exact::{Keys, PATIENCE, put_all};
use etcd_sync_integration::link::Link;

use super::{json_of, run, running};

fn names(what: &str, count: usize) -> Vec<Bytes> {
    (0..count).map(|i| Bytes::from(format!("/registry/configmaps/apps/{what}-{i}"))).collect()
}

async fn ledger(link: &Link) -> Result<Vec<Bytes>> {
    let client = link.standby.client();
    let entries = dump(&client, &KeyRange::prefix(&link.keys.local_prefix), 0).await?;
    Ok(entries.keys().filter_map(|entry| link.keys.local_key(entry)).collect())
}

async fn await_ledger(link: &Link, expected: &[Bytes]) -> Result<()> {
    await_true("the record of local keys is as expected", PATIENCE, || async { Ok(ledger(link).await? == expected) })
        .await
}

/// The daemon has seen everything up to now, acted on it, and is still well.
async fn settled(link: &Link, daemon: &Daemon, mark: usize) -> Result<()> {
    link.primary.put("/registry/configmaps/apps/marker", format!("{mark}")).await?;
    link.await_caught_up(PATIENCE).await?;
    await_true("nothing is lost", PATIENCE, || async {
        Ok(daemon.metric("etcd_sync_lost_keys").await.is_some_and(|lost| lost == 0.0))
    })
    .await?;
    let log = daemon.lines()[mark..].join("\n");
    ensure!(!log.contains("ERROR") && !log.contains("apps/local-") && !log.contains("apps/leftover-"), "{log}");
    Ok(())
}

/// Two keys of each origin: made beside the running daemon, and such as no record knows.
async fn planted() -> Result<(Link, Daemon, Vec<Bytes>, Vec<Bytes>)> {
    let (link, daemon) = running(5).await?;
    let (local, leftover) = (names("local", 3), names("leftover", 3));
    put_all(&link.standby, &[&local[..], &leftover].concat()).await?;
    let mut all = [&local[..], &leftover].concat();
    all.sort();
    await_ledger(&link, &all).await?;
    daemon.terminate(PATIENCE).await?;
    // As if mirrored once, and deleted on the primary when nobody could tell.
    for key in &leftover {
        link.standby.delete(link.keys.local_entry(key)).await?;
    }
    let daemon = link.daemon(&["--checkpoint-interval=100ms"])?;
    daemon.wait_line("Start Sync update", PATIENCE).await?;
    link.await_caught_up(PATIENCE).await?;
    Ok((link, daemon, local, leftover))
}

async fn pruned(link: &Link, path: &str, more: &[&str]) -> Result<u64> {
    let output = run(link, "prune", &[&["--yes", "-o", "json", &format!("--backup={path}")], more].concat()).await?;
    ensure!(output.code == Some(0), "{}{}", output.stdout, output.stderr);
    Ok(json_of(&output)?["result"]["deleted"].as_u64().unwrap_or(0))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_daemon_neither_replays_nor_deletes_again() -> Result<()> {
    let (link, daemon, local, leftover) = planted().await?;
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (mark, from) = (daemon.mark(), link.standby.revision().await? + 1);
    assert_eq!(pruned(&link, &path("leftover"), &["--origin=leftover"]).await?, 3);
    assert_eq!(ledger(&link).await?, local);
    assert_eq!(pruned(&link, &path("local"), &[]).await?, 3);
    assert_eq!(ledger(&link).await?.len(), 0);
    settled(&link, &daemon, mark).await?;
    let check = run(&link, "check", &["--deep"]).await?;
    assert_eq!(check.code, Some(0), "{}", check.stdout);
    let all = [&local[..], &leftover].concat();
    let history = link.standby_history(from).await?;
    let put_again = |event: &Event| matches!(event, Event::Put(kv) if all.contains(&kv.key));
    ensure!(!history.iter().any(put_again), "something pruned was put back");

    let from = link.standby.revision().await? + 1;
    for name in ["leftover", "local"] {
        let output = run(&link, "restore", &["--yes", &path(name)]).await?;
        assert_eq!(output.code, Some(0), "{}{}", output.stdout, output.stderr);
    }
    let mut sorted = all.clone();
    sorted.sort();
    assert_eq!(ledger(&link).await?, sorted);
    settled(&link, &daemon, mark).await?;
    let history = link.standby_history(from).await?;
    let deleted = |event: &Event| matches!(event, Event::Delete { key, .. } if all.contains(key));
    ensure!(!history.iter().any(deleted), "something put back was deleted");
    let kept = held(&link, &all).await?;
    survives(&link, daemon, &kept).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_was_down_finds_nothing_to_do() -> Result<()> {
    let (link, daemon, local, leftover) = planted().await?;
    let all = [&local[..], &leftover].concat();
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("all").display().to_string();
    daemon.terminate(PATIENCE).await?;
    assert_eq!(pruned(&link, &path, &[]).await?, 6);
    let daemon = link.daemon(&["--checkpoint-interval=100ms"])?;
    daemon.wait_line("Start Sync update", PATIENCE).await?;
    settled(&link, &daemon, 0).await?;
    ensure!(held(&link, &all).await?.is_empty() && ledger(&link).await?.is_empty(), "something is back");

    daemon.terminate(PATIENCE).await?;
    let output = run(&link, "restore", &["--yes", &path]).await?;
    assert_eq!(output.code, Some(0), "{}{}", output.stdout, output.stderr);
    let kept = held(&link, &all).await?;
    assert_eq!(kept.len(), 6);
    // Nobody can look up any more who made them.
    link.standby.compact(link.standby.revision().await?).await?;
    let daemon = link.daemon(&["--checkpoint-interval=100ms"])?;
    daemon.wait_line("Start Sync update", PATIENCE).await?;
    settled(&link, &daemon, 0).await?;
    assert_eq!(held(&link, &all).await?, kept);
    survives(&link, daemon, &kept).await?;

    // The primary's own is taken over, and goes with the primary's.
    let daemon = link.daemon(&["--checkpoint-interval=100ms"])?;
    daemon.wait_line("Start Sync update", PATIENCE).await?;
    link.primary.put(&all[0], "the primary's").await?;
    link.await_caught_up(PATIENCE).await?;
    ensure!(!ledger(&link).await?.contains(&all[0]), "still on record as local");
    link.primary.delete(&all[0]).await?;
    link.await_caught_up(PATIENCE).await?;
    ensure!(link.standby.get(&all[0]).await?.is_none(), "taken for local still");
    Ok(())
}

async fn held(link: &Link, keys: &[Bytes]) -> Result<Keys> {
    let mut found = Keys::new();
    for key in keys {
        found.extend(link.standby.get(key).await?.map(|kv| (key.clone(), kv)));
    }
    Ok(found)
}

/// These keys outlive a restart and a resync past the compaction of both sides.
async fn survives(link: &Link, daemon: Daemon, keys: &Keys) -> Result<()> {
    daemon.terminate(PATIENCE).await?;
    let daemon = link.daemon(&["--checkpoint-interval=100ms"])?;
    daemon.wait_line("Start Sync update", PATIENCE).await?;
    settled(link, &daemon, 0).await?;
    daemon.terminate(PATIENCE).await?;
    for round in 0..2 {
        link.primary.put("/registry/configmaps/apps/marker", format!("down {round}")).await?;
    }
    link.primary.compact(link.primary.revision().await?).await?;
    link.standby.compact(link.standby.revision().await?).await?;
    let daemon = link.daemon(&["--checkpoint-interval=100ms"])?;
    daemon.wait_line("resync by difference begins", PATIENCE).await?;
    daemon.wait_line("Start Sync update", PATIENCE).await?;
    link.await_caught_up(PATIENCE).await?;
    link.verify(keys).await?;
    daemon.terminate(PATIENCE).await?;
    Ok(())
}
