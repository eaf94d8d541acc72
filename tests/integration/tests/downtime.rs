//! What happens while the daemon is down: deletions arrive afterwards, with or without the history that told of them, and
//! what the standby has of its own survives everything.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use etcd_sync_core::scope::{Scope, ScopeConfig};
use etcd_sync_integration::compare::{await_true, dump};
use etcd_sync_integration::data;
use etcd_sync_integration::exact::{PATIENCE, delete_all, put_all, single};
use etcd_sync_integration::link::{Link, await_ready, registry};
use etcd_sync_integration::load::load;
use etcd_sync_integration::tools::EtcdVersion;

const SYNCED: &str = "Start Sync update";
const RESYNC: &str = "resync by difference begins";

/// Whose history goes while the daemon is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compacted {
    Nobody,
    Primary,
    Both,
}

#[tokio::test]
async fn deletions_arrive_later() -> Result<()> {
    deletions_arrive(Compacted::Nobody).await
}

#[tokio::test]
async fn deletions_arrive_past_a_compaction() -> Result<()> {
    deletions_arrive(Compacted::Primary).await
}

#[tokio::test]
async fn deletions_arrive_past_compactions_of_both() -> Result<()> {
    deletions_arrive(Compacted::Both).await
}

async fn deletions_arrive(compacted: Compacted) -> Result<()> {
    let link = Link::start(single(EtcdVersion::V3_6), single(EtcdVersion::V3_6)).await?;
    let client = link.primary.client();
    let keys = load_keys(&link, 600).await?;
    let mut local = put_all(&link.standby, &own("before", 20)).await?;
    let mut daemon = link.daemon(&[])?;
    daemon.wait_line(SYNCED, PATIENCE).await?;

    // Twice: what the first time could not be told must not be taken for something else the second time.
    for (round, doomed) in keys.chunks(50).take(2).enumerate() {
        local.extend(put_all(&link.standby, &own(&format!("running-{round}"), 20)).await?);
        // The primary goes on meanwhile, so that creations of both kinds mix in the standby's history.
        put_all(&link.primary, &[format!("/registry/configmaps/apps/more-{round}")]).await?;
        local.extend(put_all(&link.standby, &own(&format!("last-{round}"), 5)).await?);
        link.await_passed(link.primary.revision().await?, PATIENCE).await?;
        daemon.kill()?;

        delete_all(&client, doomed).await?;
        put_all(
            &link.primary,
            &[&format!("/registry/configmaps/apps/new-{round}")[..], "/registry/configmaps/apps/c-0500"],
        )
        .await?;
        local.extend(put_all(&link.standby, &own(&format!("down-{round}"), 20)).await?);
        if compacted != Compacted::Nobody {
            link.primary.compact(link.primary.revision().await?).await?;
        }
        if compacted == Compacted::Both {
            link.standby.compact(link.standby.revision().await?).await?;
        }
        let before = link.checkpoint().await?.map_or(0, |checkpoint| checkpoint.revision);
        ensure!(before < link.primary.revision().await?, "the record is ahead: nothing was compacted away");

        link.expire_leader().await?;
        daemon = link.daemon(&[])?;
        link.await_passed(link.primary.revision().await?, PATIENCE).await?;
        let standby = link.verify(&local).await?;
        ensure!(doomed.iter().all(|key| !standby.keys.contains_key(key)));
        let log = daemon.lines().join("\n");
        match compacted {
            Compacted::Nobody => ensure!(!log.contains(RESYNC), "it need not have resynced:\n{log}"),
            _ => {
                ensure!(log.contains(RESYNC), "{log}");
                ensure!(log.contains("counted what the resync would take away"), "{log}");
            }
        }
        ensure!(!log.contains("ERROR"), "{log}");
    }
    Ok(())
}

/// A key made on the standby in the middle of our own copy: once its history is compacted nobody can tell whose it is.
/// It stays, and not only for the first time.
#[tokio::test]
async fn a_key_of_unknown_origin_is_never_deleted() -> Result<()> {
    let link = Link::start(single(EtcdVersion::V3_6), single(EtcdVersion::V3_6)).await?;
    let client = link.primary.client();
    let keys = load_keys(&link, 20_000).await?;
    let daemon = link.daemon(&["--transactions-in-flight=1"])?;
    let copied = || async { anyhow::Ok(link.standby.get(&link.keys.copied).await?.map_or(0, |kv| kv.mod_revision)) };
    daemon.run_in_slices("the copy has begun", async || Ok(copied().await? > 0)).await?;
    let local = put_all(&link.standby, &own("in-between", 3)).await?;
    let newest = local.values().map(|kv| kv.mod_revision).max().unwrap_or(0);
    daemon.run_in_slices("the copy has gone on", async || Ok(copied().await? > newest)).await?;
    daemon.kill()?;
    let phase = link.checkpoint().await?.map(|checkpoint| checkpoint.phase.name());
    ensure!(phase == Some("first-sync"), "the first sync was over too soon for this test: {phase:?}");

    link.standby.compact(link.standby.revision().await?).await?;
    link.expire_leader().await?;
    let daemon = link.daemon(&[])?;
    daemon.wait_line(SYNCED, PATIENCE).await?;
    link.verify(&local).await?;
    daemon.kill()?;

    delete_all(&client, &keys[..10]).await?;
    put_all(&link.primary, &["/registry/configmaps/apps/more-1", "/registry/configmaps/apps/more-2"]).await?;
    link.primary.compact(link.primary.revision().await?).await?;
    link.expire_leader().await?;
    let daemon = link.daemon(&[])?;
    daemon.wait_line(RESYNC, PATIENCE).await?;
    link.await_passed(link.primary.revision().await?, PATIENCE).await?;
    link.verify(&local).await?;
    Ok(())
}

#[tokio::test]
async fn many_deletions_ask_first() -> Result<()> {
    let link = Link::start(single(EtcdVersion::V3_6), single(EtcdVersion::V3_6)).await?;
    let keys = load_keys(&link, 1000).await?;
    let local = put_all(&link.standby, &own("before", 10)).await?;
    let daemon = link.daemon(&[])?;
    daemon.wait_line(SYNCED, PATIENCE).await?;
    link.await_passed(link.primary.revision().await?, PATIENCE).await?;
    daemon.kill()?;
    delete_all(&link.primary.client(), &keys[..300]).await?;
    link.primary.compact(link.primary.revision().await?).await?;
    let client = link.standby.client();
    let before = dump(&client, &registry(), 0).await?;
    ensure!(before.len() == 1010);

    // Also behind a leader that knows nothing of the first refusal.
    for _ in 0..2 {
        link.expire_leader().await?;
        let daemon = link.daemon(&[])?;
        let line = daemon.wait_line("paused", PATIENCE).await?;
        ensure!(line.contains("would delete 300 and overwrite with older data 0 of 1000"), "{line}");
        ensure!(line.contains("run `etcd-sync accept`"), "{line}");
        await_ready(&daemon, 503, "would delete 300", PATIENCE).await?;
        ensure!(dump(&client, &registry(), 0).await? == before, "a paused resync changed the standby");
        let said = link.standby.get(&link.keys.condition).await?.context("the pause is not recorded")?;
        // It checks again every five seconds. Nothing is written while nothing changes.
        let looked = daemon.mark();
        daemon.wait_line_from(looked, "resync by difference begins", PATIENCE).await?;
        await_ready(&daemon, 503, "would delete 300", PATIENCE).await?;
        let again = link.standby.get(&link.keys.condition).await?.context("it is not paused any more")?;
        ensure!(again.mod_revision == said.mod_revision, "the reason was taken back and given again");
        daemon.kill()?;
    }

    let folder = tempfile::tempdir()?;
    let backup = format!("--backup={}", folder.path().join("saved.jsonl").display());
    link.expire_leader().await?;
    let daemon = link.daemon(&[])?;
    let output = link.run("accept", &[&backup, "--yes"]).await?;
    ensure!(output.code == Some(0) && output.stdout.contains("300  keys, deleted"), "{output:?}");
    link.await_passed(link.primary.revision().await?, PATIENCE).await?;
    let standby = link.verify(&local).await?;
    assert_eq!(standby.keys.len(), 710);
    await_ready(&daemon, 200, "", PATIENCE).await?;
    ensure!(link.standby.get(&link.keys.condition).await?.is_none(), "it still reports a pause");
    Ok(())
}

/// Another scope is another copy by difference; and what the standby has of its own there was never ours to delete.
#[tokio::test]
async fn a_wider_scope_includes_what_was_filtered() -> Result<()> {
    let link = Link::start(single(EtcdVersion::V3_6), single(EtcdVersion::V3_6)).await?;
    load_keys(&link, 200).await?;
    let theirs: Vec<String> = (0..30).map(|i| format!("/registry/configmaps/team-x/c-{i}")).collect();
    put_all(&link.primary, &theirs).await?;
    let mut local = put_all(&link.standby, &own("before", 5)).await?;
    // The standby's own, in the namespace that is filtered at first.
    local.extend(
        put_all(&link.standby, &["/registry/configmaps/team-x/own-0", "/registry/secrets/team-x/own-1"]).await?,
    );

    let narrow = ScopeConfig { excluded_namespaces: vec!["kube-system".into(), "team-x".into()], ..Default::default() };
    let daemon = link.daemon(&["--exclude-namespace=kube-system,team-x"])?;
    daemon.wait_line(SYNCED, PATIENCE).await?;
    link.await_passed(link.primary.revision().await?, PATIENCE).await?;
    link.verify_in(&Scope::new(&narrow)?, &local).await?;
    local.extend(put_all(&link.standby, &["/registry/configmaps/team-x/own-2"]).await?);
    // The record must have passed that creation, or the test would be too kind.
    put_all(&link.primary, &["/registry/configmaps/apps/more"]).await?;
    link.await_passed(link.primary.revision().await?, PATIENCE).await?;
    daemon.terminate(PATIENCE).await?;

    let wide = ScopeConfig { excluded_namespaces: vec!["kube-system".into()], ..Default::default() };
    let daemon = link.daemon(&["--exclude-namespace=kube-system"])?;
    daemon.wait_line(RESYNC, PATIENCE).await?;
    daemon.wait_line(SYNCED, PATIENCE).await?;
    link.await_passed(link.primary.revision().await?, PATIENCE).await?;
    let standby = link.verify_in(&Scope::new(&wide)?, &local).await?;
    ensure!(theirs.iter().all(|key| standby.keys.contains_key(key.as_bytes())));
    Ok(())
}

/// Loads ConfigMaps into the primary; returns their keys.
async fn load_keys(link: &Link, count: usize) -> Result<Vec<Bytes>> {
    let mut random = data::Random::new(3);
    let items: Vec<data::Item> = (0..count)
        .map(|i| (format!("/registry/configmaps/apps/c-{i:04}").into_bytes(), random.text(300).into_bytes()))
        .collect();
    let keys = items.iter().map(|(key, _)| Bytes::copy_from_slice(key)).collect();
    load(&link.primary.client(), items, 4).await?;
    Ok(keys)
}

/// Names of keys in scope that only the standby has.
fn own(when: &str, count: usize) -> Vec<String> {
    (0..count).map(|i| format!("/registry/configmaps/standby-team/{when}-{i}")).collect()
}

/// What comes into scope was never followed: the standby's own value of the same name is kept when the primary's goes over it.
#[tokio::test]
async fn what_comes_into_scope_is_saved_before_it_is_overwritten() -> Result<()> {
    let link = Link::start(single(EtcdVersion::V3_6), single(EtcdVersion::V3_6)).await?;
    let (joining, edited) = ("/registry/configmaps/kube-system/joining", "/registry/configmaps/apps/edited");
    for key in [joining, edited] {
        link.primary.put(key, "of the primary").await?;
    }
    link.standby.put(joining, "of the standby").await?;
    let daemon = link.daemon(&[])?;
    link.await_equal(PATIENCE).await?;
    // A controller of the standby, which may do this at any time.
    link.standby.put(edited, "edited on the standby").await?;
    let on_record = link.keys.edited_entry(edited.as_bytes());
    await_true("the edit is on record", PATIENCE, || async { Ok(link.standby.get(&on_record).await?.is_some()) })
        .await?;
    ensure!(daemon.terminate(PATIENCE).await?.success());
    let daemon = link.daemon(&[&format!("--include-key={joining}")])?;
    daemon.wait_line(SYNCED, PATIENCE).await?;
    for key in [joining, edited] {
        let found = link.standby.get(key).await?.context("it is gone")?;
        assert_eq!(found.value, "of the primary", "{key}");
    }
    let saved = link.standby.get(link.keys.saved_entry(joining.as_bytes())).await?.context("it was not saved")?;
    assert_eq!(saved.value, "of the standby");
    let saved = link.standby.get(link.keys.saved_entry(edited.as_bytes())).await?;
    ensure!(saved.is_none(), "what was in scope before is healed as always");
    Ok(())
}
