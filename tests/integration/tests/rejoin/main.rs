//! `etcd-sync rejoin` with the real program: what only the old primary has is told, saved, and replaced by what the new one has.

mod concurrent_writes;
mod kills;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use etcd_sync_core::etcd::kv::{KeyRange, KeyValue};
use etcd_sync_core::etcd::request::{Op, Txn};
use etcd_sync_core::link::rejoining::{Rejoining, take_role};
use etcd_sync_core::link::role::{How, Promotion, promote};
use etcd_sync_core::link::state::{Checkpoint, Phase, ROLE_STANDBY, cluster_id_text};
use etcd_sync_core::scope::{Scope, ScopeConfig};
use etcd_sync_integration::compare::{await_true, dump};
use etcd_sync_integration::daemon::{Output, run_command, run_command_with};
use etcd_sync_integration::data;
use etcd_sync_integration::etcd::ClusterOptions;
use etcd_sync_integration::exact::{PATIENCE, delete_all};
use etcd_sync_integration::link::{Link, await_ready, config_keys, registry};
use etcd_sync_integration::load::load;
use etcd_sync_integration::process::Process;
use etcd_sync_integration::saved_keys::whole;
use etcd_sync_integration::tools;
use etcd_sync_operations::procedure::{Command as Of, Outcome as Ended, Run, State, Step};
use etcd_sync_store::Side;
use nix::sys::signal::Signal;
use serde_json::Value;

/// In every value of these tests, and in no output.
const SECRET: &str = "hunter2";

type Held = BTreeMap<Bytes, Bytes>;

fn key(name: &str) -> String {
    format!("/registry/configmaps/team-a/{name}")
}

/// Two equal clusters, the daemon stopped, the standby promoted: the old primary is `standby` afterwards, as `rejoin` names
/// the two.
async fn diverged(keys: usize) -> Result<Link> {
    let link = Link::start(ClusterOptions::default(), ClusterOptions::default()).await?;
    fill(&link, keys).await?;
    let daemon = link.daemon(&["--checkpoint-interval=100ms"])?;
    daemon.wait_line("Start Sync update", PATIENCE).await?;
    link.await_caught_up(PATIENCE).await?;
    daemon.terminate(PATIENCE).await?;
    promoted(link).await
}

async fn fill(link: &Link, keys: usize) -> Result<()> {
    let items: Vec<data::Item> = config_keys(keys)
        .into_iter()
        .map(|key| (key.to_vec(), [SECRET.as_bytes(), b" mirrored ", &key].concat()))
        .collect();
    load(&link.primary.client(), items, 4).await?;
    Ok(())
}

/// Promotes the standby as the failover command does, and turns the link around.
async fn promoted(link: Link) -> Result<Link> {
    let checkpoint = link.standby.get(&link.keys.checkpoint).await?.context("no checkpoint")?;
    let record = Checkpoint::decode(&checkpoint.value)?;
    let promotion = Promotion {
        format: Promotion::FORMAT,
        run: "test".into(),
        how: How::Failover,
        primary: record.primary.clone(),
        revision: record.revision,
        offset: record.offset,
        at_ms: 1,
    };
    let leaders: Vec<Bytes> = link.candidates().await?.into_iter().map(|kv| kv.key).collect();
    let client = link.standby.client();
    // As a run of a command does, which is finished then.
    link.standby.put(&link.keys.open_run, &promotion.run).await?;
    ensure!(client.txn(promote(&link.keys, &checkpoint, &leaders, &promotion)).await?.succeeded, "not promoted");
    link.standby.delete(&link.keys.open_run).await?;
    let Link { primary, standby, keys } = link;
    Ok(Link { primary: standby, standby: primary, keys })
}

async fn rejoin(link: &Link, more: &[&str]) -> Result<Output> {
    let mut args = vec!["rejoin".to_owned()];
    args.extend(link.flags(more));
    let output = run_command(&args).await?;
    for text in [&output.stdout, &output.stderr] {
        ensure!(!text.contains(SECRET), "a value is in an output");
    }
    Ok(output)
}

/// The runs in the old primary's journal, oldest first.
async fn journal(link: &Link) -> Result<Vec<Run>> {
    let mut args = vec!["journal".to_owned()];
    args.extend(link.flags(&["-o", "json"]));
    let document = json_of(&run_command(&args).await?)?;
    let runs = document["runs"].as_array().context("there are runs")?.iter();
    runs.map(|run| Ok(serde_json::from_value(run["run"].clone())?)).collect()
}

async fn only_run(link: &Link) -> Result<Run> {
    let mut runs = journal(link).await?;
    ensure!(runs.len() == 1, "{runs:?}");
    runs.pop().context("there is one")
}

/// Which steps were begun, in their order, and how each ended.
fn story(run: &Run) -> Vec<(Step, &str)> {
    run.steps.iter().map(|record| (record.step, record.outcome.as_ref().map_or("-", Ended::name))).collect()
}

/// The journal as a command leaves it that is killed: `run` is not finished.
async fn leave_open(link: &Link, run: &Run) -> Result<()> {
    link.standby.put(link.keys.journal_entry(&run.id), run.encode()).await?;
    link.standby.put(&link.keys.open_run, &run.id).await?;
    Ok(())
}

fn json_of(output: &Output) -> Result<Value> {
    serde_json::from_str(&output.stdout).with_context(|| format!("no JSON: {}{}", output.stdout, output.stderr))
}

/// The old primary's keys with all that etcd says of them.
async fn everything(link: &Link) -> Result<BTreeMap<Bytes, KeyValue>> {
    dump(&link.standby.client(), &registry(), 0).await
}

async fn held(link: &Link) -> Result<Held> {
    Ok(everything(link).await?.into_values().map(|kv| (kv.key, kv.value)).collect())
}

/// What a whole file holds; nothing if it was cut off.
fn read(path: &Path) -> Held {
    whole(path).into_iter().collect()
}

fn names(list: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let keys = list["keys"].as_array().into_iter().flatten();
    keys.map(|one| (text(&one["key"]), text(&one[if one["origin"].is_null() { "change" } else { "origin" }]))).collect()
}

fn expected(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, what)| (key(name), (*what).to_owned())).collect()
}

/// Both sides write after the point of divergence, every kind of change on each.
async fn live_apart(link: &Link) -> Result<()> {
    let (old, new) = (&link.standby, &link.primary);
    let value = |text: &str| format!("{SECRET} {text}");
    old.put(key("made"), value("made")).await?;
    old.put(key("settings-0000"), value("changed")).await?;
    old.put(key("settings-0001"), value("changed on both")).await?;
    new.put(key("settings-0001"), value("changed on both, other")).await?;
    old.put(key("settings-0002"), value("changed, deleted there")).await?;
    new.delete(key("settings-0002")).await?;
    old.delete(key("settings-0003")).await?;
    old.delete(key("settings-0004")).await?;
    new.delete(key("settings-0004")).await?;
    // Made again: what was there before is gone all the same.
    old.delete(key("settings-0005")).await?;
    old.put(key("settings-0005"), value("made again")).await?;
    // Equal to what is there already: nothing is lost.
    let same = new.get(key("settings-0006")).await?.context("not mirrored")?;
    old.put(key("settings-0006"), &same.value).await?;
    old.put(key("made-on-both"), value("old")).await?;
    new.put(key("made-on-both"), value("new")).await?;
    old.put(key("gone-again"), value("x")).await?;
    old.delete(key("gone-again")).await?;
    // The new primary's ordinary life.
    new.put(key("settings-0007"), value("newer")).await?;
    new.delete(key("settings-0008")).await?;
    new.put(key("new"), value("new")).await?;
    // Out of scope, or nobody's but this cluster's.
    old.put("/registry/configmaps/kube-system/own", value("own")).await?;
    old.put("/registry/minions/own", value("own")).await?;
    Ok(())
}

const UNREPLICATED: [(&str, &str); 6] = [
    ("made", "created"),
    ("made-on-both", "created"),
    ("settings-0000", "changed"),
    ("settings-0001", "changed"),
    ("settings-0002", "changed"),
    ("settings-0005", "created"),
];

/// The old primary's values that are not there any more.
fn lost(before: &Held, after: &Held) -> Held {
    before.iter().filter(|(key, value)| after.get(*key) != Some(*value)).map(|(k, v)| (k.clone(), v.clone())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_what_only_the_old_primary_has_is_told_and_saved() -> Result<()> {
    let link = diverged(20).await?;
    live_apart(&link).await?;
    let before = everything(&link).await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("saved.jsonl");
    let backup = format!("--backup={}", file.display());

    let planned = rejoin(&link, &["--dry-run", "-o", "json", &backup]).await?;
    assert_eq!(planned.code, Some(0), "{}", planned.stderr);
    let plan = &json_of(&planned)?["plan"];
    assert_eq!(names(&plan["unreplicated"]), expected(&UNREPLICATED));
    assert_eq!(names(&plan["deletedHere"]), expected(&[("settings-0003", "")]));
    assert_eq!(names(&plan["onlyHere"]), expected(&[("settings-0008", "deleted-there")]));
    assert_eq!((&plan["toSave"], &plan["deletions"], &plan["sameWrittenLater"]), (&8.into(), &3.into(), &1.into()));
    ensure!(everything(&link).await? == before && !file.exists(), "a dry run did something");
    ensure!(link.standby.get(&link.keys.role).await?.is_none(), "a dry run changed the role");
    let unasked = rejoin(&link, &[&backup]).await?;
    ensure!(unasked.code == Some(1) && unasked.stderr.contains("no terminal to ask on"), "{}", unasked.stderr);
    ensure!(everything(&link).await? == before && !file.exists(), "something was done without a word");
    let wide = |line: &&str| line.chars().count() > 80 && !line.contains("/registry/");
    assert_eq!(unasked.stdout.lines().filter(wide).count(), 0, "{}", unasked.stdout);

    let output = rejoin(&link, &[&backup, "--yes"]).await?;
    assert_eq!(output.code, Some(0), "{}{}", output.stdout, output.stderr);
    ensure!(output.stdout.contains("Complete: all"), "{}", output.stdout);
    let difference = link.difference().await?;
    ensure!(difference.is_empty(), "not equal:\n{difference}");
    let before: Held = before.into_values().map(|kv| (kv.key, kv.value)).collect();
    let lost = lost(&before, &held(&link).await?);
    ensure!(read(&file) == lost, "not exactly what is lost is saved");
    assert_eq!(lost.len(), 8);
    assert_eq!(std::fs::metadata(&file)?.permissions().mode() & 0o7777, 0o600);
    for own in ["/registry/configmaps/kube-system/own", "/registry/minions/own"] {
        ensure!(link.standby.get(own).await?.is_some(), "{own} is gone");
    }
    let record = link.checkpoint().await?.context("no record")?;
    assert_eq!((record.phase, record.accepted_deletions), (Phase::Streaming, None));

    let again = rejoin(&link, &["--yes", "-o", "json"]).await?;
    let said = json_of(&again)?;
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    ensure!(said["skipped"].as_str().is_some_and(|why| why.contains("already")), "{said}");
    // Whoever comes now goes on from there.
    let daemon = link.daemon(&["--checkpoint-interval=100ms"])?;
    daemon.wait_line("Start Sync update", PATIENCE).await?;
    link.primary.put(key("after"), "x").await?;
    link.await_equal(PATIENCE).await
}

/// More deletions than were confirmed: the guard of every resync holds for them.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_confirmed_is_guarded() -> Result<()> {
    let link = diverged(1_000).await?;
    delete_all(&link.primary.client(), &config_keys(400)).await?;
    let rejoining = Rejoining {
        format: Rejoining::FORMAT,
        primary: cluster_id_text(link.primary.client().cluster_id().await?),
        from: link.standby.revision().await?,
        file: String::new(),
        saved: 0,
        at_ms: 1,
        done: false,
    };
    let scope = Scope::new(&ScopeConfig::default())?.fingerprint();
    let before = everything(&link).await?;
    for (accepted, fits) in [(299, false), (300, true)] {
        let role = link.standby.get(&link.keys.role).await?;
        let txn = take_role(&link.keys, role.as_ref(), &rejoining, &scope, 7, accepted);
        ensure!(link.standby.client().txn(txn).await?.succeeded, "the role was not taken");
        let daemon = link.daemon(&[])?;
        if fits {
            // 100 more are always allowed.
            link.await_equal(PATIENCE).await?;
        } else {
            daemon.wait_line("would delete 400 and overwrite with older data 0 of 1000", PATIENCE).await?;
            ensure!(everything(&link).await? == before, "something was deleted");
        }
        daemon.terminate(PATIENCE).await?;
    }
    let record = link.checkpoint().await?.context("no record")?;
    assert_eq!((record.phase, record.accepted_deletions), (Phase::Streaming, None));
    Ok(())
}

/// Everything that is in a whole file of the folder.
fn union(folder: &Path) -> Result<std::collections::BTreeSet<(Bytes, Bytes)>> {
    let mut all = std::collections::BTreeSet::new();
    for entry in std::fs::read_dir(folder)? {
        all.extend(whole(&entry?.path()));
    }
    Ok(all)
}

fn start(link: &Link, journal: &Path, more: &[&str]) -> Result<Process> {
    let mut command = Command::new(tools::etcd_sync()?);
    command.arg("rejoin").args(link.flags(more)).arg(format!("--journal-folder={}", journal.display()));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Process::spawn("etcd-sync rejoin", command)
}

async fn await_role(link: &Link) -> Result<()> {
    await_true("the role has changed", PATIENCE, || has_role(link)).await
}

async fn has_role(link: &Link) -> Result<bool> {
    Ok(link.standby.get(&link.keys.role).await?.is_some_and(|kv| kv.value == ROLE_STANDBY))
}

/// Promoted, back as a standby, promoted again: what an earlier life has left decides nothing.
#[tokio::test(flavor = "multi_thread")]
async fn failover_and_rejoin_can_be_repeated() -> Result<()> {
    let mut link = diverged(20).await?;
    let folder = tempfile::tempdir()?;
    for round in 0..4 {
        let (mine, yours) = (key(&format!("mine-{round}")), key(&format!("yours-{round}")));
        link.standby.put(&mine, SECRET).await?;
        link.primary.put(&yours, SECRET).await?;
        if round > 0 {
            // It was local to this cluster in the life before, went to the other one with the role, and is deleted there.
            link.primary.delete(key(&format!("local-{}", round - 1))).await?;
        }
        let file = folder.path().join(format!("{round}"));
        let output = rejoin(&link, &["--yes", "-o", "json", &format!("--backup={}", file.display())]).await?;
        assert_eq!(output.code, Some(0), "round {round}: {}{}", output.stdout, output.stderr);
        let plan = &json_of(&output)?["plan"];
        assert_eq!(names(&plan["unreplicated"]), expected(&[(&format!("mine-{round}"), "created")]), "{plan}");
        let difference = link.difference().await?;
        ensure!(difference.is_empty(), "round {round}: not equal:\n{difference}");
        ensure!(link.standby.get(&link.keys.promotion).await?.is_none(), "it is promoted still");
        let (client, local) = (link.standby.client(), KeyRange::prefix(&link.keys.local_prefix));
        ensure!(dump(&client, &local, 0).await?.is_empty(), "the ledger is not new");

        let daemon = link.daemon(&["--checkpoint-interval=100ms"])?;
        daemon.wait_line("Start Sync update", PATIENCE).await?;
        link.standby.put(key(&format!("local-{round}")), SECRET).await?;
        let entry = link.keys.local_entry(key(&format!("local-{round}")).as_bytes());
        await_true("the local key is on record", PATIENCE, || async {
            link.primary.put(key("tick"), SECRET).await?;
            Ok(link.standby.get(&entry).await?.is_some())
        })
        .await?;
        link.await_caught_up(PATIENCE).await?;
        daemon.terminate(PATIENCE).await?;
        link = promoted(link).await?;
    }
    Ok(())
}

/// Backwards, with an unrelated cluster, with itself, and by a synchronizer that was started too early.
#[tokio::test(flavor = "multi_thread")]
async fn the_wrong_clusters_are_refused() -> Result<()> {
    let link = diverged(5).await?;
    let refused = |output: Output, text: &str| -> Result<()> {
        ensure!(output.code == Some(1) && output.stderr.contains(text), "{}{}", output.stdout, output.stderr);
        Ok(())
    };
    // Installed before the rejoin: it must not overwrite what only this cluster has.
    link.standby.put(key("settings-0000"), SECRET).await?;
    let before = everything(&link).await?;
    let daemon = link.daemon(&[])?;
    await_ready(&daemon, 503, "etcd-sync rejoin", PATIENCE).await?;
    ensure!(everything(&link).await? == before, "a synchronizer wrote to the old primary");
    ensure!(link.standby.get(&link.keys.role).await?.is_none(), "a synchronizer gave it a role");

    let mut swapped = vec!["rejoin".to_owned(), "--dry-run".to_owned()];
    swapped.extend(link.standby.flags(Side::Primary));
    swapped.extend(link.primary.flags(Side::Standby));
    refused(run_command(&swapped).await?, "is not the promoted one")?;
    let mut itself = vec!["rejoin".to_owned(), "--dry-run".to_owned()];
    itself.extend(link.primary.flags(Side::Primary));
    itself.extend(link.primary.flags(Side::Standby));
    refused(run_command(&itself).await?, "the same etcd cluster")?;
    let unrelated = etcd_sync_integration::etcd::Cluster::start(ClusterOptions::default()).await?;
    let mut other = vec!["rejoin".to_owned(), "--dry-run".to_owned()];
    other.extend(link.primary.flags(Side::Primary));
    other.extend(unrelated.flags(Side::Standby));
    refused(run_command(&other).await?, "it never was its primary")?;
    refused(rejoin(&link, &["--dry-run", "--exclude-namespace=kube-system"]).await?, "the scope is not the one")?;
    ensure!(everything(&link).await? == before, "a refusal changed something");

    // The daemon that was there first does the work; the command watches.
    let folder = tempfile::tempdir()?;
    let backup = format!("--backup={}", folder.path().join("saved").display());
    let output = rejoin(&link, &[&backup, "--yes", "-o", "json"]).await?;
    assert_eq!(output.code, Some(0), "{}{}", output.stdout, output.stderr);
    assert_eq!(json_of(&output)?["result"]["synchronizer"], true);
    await_ready(&daemon, 200, "", PATIENCE).await?;
    link.await_equal(PATIENCE).await
}
