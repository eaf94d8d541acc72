//! `etcd-sync rejoin` with the real program: what only the old primary has is told, saved, and replaced by what the new one has.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use etcd_sync_core::kv::{KeyRange, KeyValue};
use etcd_sync_core::procedure::{Command as Of, Outcome as Ended, Run, State, Step};
use etcd_sync_core::rejoin::{Rejoining, take_role};
use etcd_sync_core::request::{Op, Txn};
use etcd_sync_core::role::{How, Promotion, promote};
use etcd_sync_core::saved::{Decoder, Said};
use etcd_sync_core::scope::{Scope, ScopeConfig};
use etcd_sync_core::state::{Checkpoint, Phase, ROLE_STANDBY, cluster_id_text};
use etcd_sync_integration::compare::{await_true, dump};
use etcd_sync_integration::daemon::{Output, run_command, run_command_with};
use etcd_sync_integration::data;
use etcd_sync_integration::etcd::ClusterOptions;
use etcd_sync_integration::exact::{PATIENCE, delete_all};
use etcd_sync_integration::link::{Link, await_ready, config_keys, registry};
use etcd_sync_integration::load::load;
use etcd_sync_integration::process::Process;
use etcd_sync_integration::tools;
use etcd_sync_store::Side;
use serde_json::Value;

/// In every value of these tests, and in no output.
const SECRET: &str = "hunter2";

type Held = BTreeMap<Bytes, Bytes>;

fn key(name: &str) -> String {
    format!("/registry/configmaps/team-a/{name}")
}

/// Two clusters in step, the daemon stopped, the standby promoted: the old primary is `standby` afterwards, as `rejoin` names
/// the two.
async fn parted(keys: usize) -> Result<Link> {
    let link = Link::start(ClusterOptions::default(), ClusterOptions::default()).await?;
    fill(&link, keys).await?;
    let daemon = link.daemon(&["--checkpoint-interval=100ms"])?;
    daemon.wait_line("Start Sync update", PATIENCE).await?;
    link.await_in_step(PATIENCE).await?;
    daemon.terminate(Duration::from_secs(5)).await?;
    promoted(link).await
}

async fn fill(link: &Link, keys: usize) -> Result<()> {
    let items: Vec<data::Item> = config_keys(keys)
        .into_iter()
        .map(|key| (key.to_vec(), [SECRET.as_bytes(), b" mirrored ", &key].concat()))
        .collect();
    load(&link.primary.store(Side::Primary)?, items, 4).await?;
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
    let store = link.standby.store(Side::Standby)?;
    // As a run of a command does, which is finished then.
    link.standby.put(&link.keys.open_run, &promotion.run).await?;
    ensure!(store.txn(promote(&link.keys, &checkpoint, &leaders, &promotion)).await?.succeeded, "not promoted");
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
    dump(&link.standby.store(Side::Standby)?, &registry(), 0).await
}

async fn held(link: &Link) -> Result<Held> {
    Ok(everything(link).await?.into_values().map(|kv| (kv.key, kv.value)).collect())
}

/// What a whole file holds; nothing if it was cut off.
fn read(path: &Path) -> Result<Held> {
    let (mut decoder, mut keys) = (Decoder::default(), Held::new());
    let file = std::fs::read(path).unwrap_or_default();
    for line in file.split_inclusive(|byte| *byte == b'\n') {
        match decoder.line(line) {
            Ok(Said::Key(kv)) => drop(keys.insert(kv.key, kv.value)),
            Ok(_) => {}
            Err(_) => return Ok(Held::new()),
        }
    }
    Ok(if decoder.finish().is_ok() { keys } else { Held::new() })
}

fn names(list: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let keys = list["keys"].as_array().into_iter().flatten();
    keys.map(|one| (text(&one["key"]), text(&one[if one["origin"].is_null() { "change" } else { "origin" }]))).collect()
}

fn expected(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, what)| (key(name), (*what).to_owned())).collect()
}

/// Both sides write after the parting, every kind of change on each.
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
    let link = parted(20).await?;
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
    ensure!(read(&file)? == lost, "not exactly what is lost is saved");
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

/// Far more deletions than a resync may make without a word, and writes on the new primary all the while.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_confirmed_is_deleted_while_the_new_primary_is_in_use() -> Result<()> {
    let link = parted(1_000).await?;
    delete_all(&link.primary.store(Side::Primary)?, &config_keys(400)).await?;
    for i in 0..50 {
        link.standby.put(key(&format!("mine-{i:02}")), SECRET).await?;
    }
    // Long past: what the new primary had when it was promoted cannot be asked any more.
    link.primary.compact(link.primary.revision().await?).await?;
    let planned = json_of(&rejoin(&link, &["--dry-run", "-o", "json"]).await?)?;
    assert_eq!(planned["plan"]["onlyHere"]["count"], 400);
    assert_eq!(planned["plan"]["onlyHere"]["keys"][0]["origin"], "unknown");
    let text = rejoin(&link, &["--dry-run", "--limit=3"]).await?.stdout;
    ensure!(text.contains("  … and 397 more") && text.contains("never on the new primary: 50"), "{text}");

    let stop = Arc::new(AtomicBool::new(false));
    let (ended, store) = (Arc::clone(&stop), link.primary.store(Side::Primary)?);
    let live = tokio::spawn(async move {
        let mut writes = 0u64;
        while !ended.load(Ordering::Relaxed) {
            let key = Bytes::from(format!("/registry/configmaps/team-a/live-{:02}", writes % 40));
            let op = match writes % 7 {
                0 => Op::Delete { key },
                _ => Op::Put { key, value: format!("{SECRET} {writes}").into(), lease: 0 },
            };
            if store.txn(Txn { success: vec![op], ..Txn::default() }).await.is_ok() {
                writes += 1;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        writes
    });
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("saved.jsonl");
    let before = held(&link).await?;
    let output = rejoin(&link, &[&format!("--backup={}", file.display()), "--yes", "-o", "json"]).await?;
    stop.store(true, Ordering::Relaxed);
    ensure!(live.await? > 10, "nobody wrote");
    assert_eq!(output.code, Some(0), "{}{}", output.stdout, output.stderr);
    let said = json_of(&output)?;
    assert_eq!((&said["result"]["saved"], &said["result"]["proof"]["complete"]), (&450.into(), &true.into()));
    let daemon = link.daemon(&["--checkpoint-interval=100ms"])?;
    link.await_equal(PATIENCE).await?;
    daemon.terminate(Duration::from_secs(5)).await?;
    ensure!(read(&file)? == lost(&before, &held(&link).await?), "not exactly what is lost is saved");
    Ok(())
}

/// More deletions than were confirmed: the guard of every resync holds for them.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_confirmed_is_guarded() -> Result<()> {
    let link = parted(1_000).await?;
    delete_all(&link.primary.store(Side::Primary)?, &config_keys(400)).await?;
    let rejoining = Rejoining {
        format: Rejoining::FORMAT,
        primary: cluster_id_text(link.primary.store(Side::Primary)?.identity().await?.cluster_id),
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
        ensure!(link.standby.store(Side::Standby)?.txn(txn).await?.succeeded, "the role was not taken");
        let daemon = link.daemon(&[])?;
        if fits {
            // 100 more are always allowed.
            link.await_equal(PATIENCE).await?;
        } else {
            daemon.wait_line("would delete 400 of 1000", PATIENCE).await?;
            ensure!(everything(&link).await? == before, "something was deleted");
        }
        daemon.terminate(Duration::from_secs(5)).await?;
    }
    let record = link.checkpoint().await?.context("no record")?;
    assert_eq!((record.phase, record.accepted_deletions), (Phase::Streaming, None));
    Ok(())
}

/// The clients of the old primary go on writing: whatever they were told is written is there, or in a file.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_was_acknowledged_disappears_unsaved() -> Result<()> {
    let link = parted(2_000).await?;
    live_apart(&link).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let (ended, store) = (Arc::clone(&stop), link.standby.store(Side::Standby)?);
    let clients = tokio::spawn(async move {
        let (mut last, mut count) = (Held::new(), 0u64);
        while !ended.load(Ordering::Relaxed) {
            count += 1;
            let name = match count % 3 {
                0 => format!("late-{count}"),
                _ => format!("settings-{:04}", count % 2_000),
            };
            let (key, value) = (Bytes::from(key(&name)), Bytes::from(format!("{SECRET} late {count}")));
            let put = Op::Put { key: key.clone(), value: value.clone(), lease: 0 };
            if store.txn(Txn { success: vec![put], ..Txn::default() }).await.is_ok() {
                last.insert(key, value);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        last
    });
    let folder = tempfile::tempdir()?;
    let before = held(&link).await?;
    let backup = format!("--backup={}", folder.path().join("saved").display());
    let output = rejoin(&link, &[&backup, "--yes", "-o", "json"]).await?;
    stop.store(true, Ordering::Relaxed);
    let acknowledged = clients.await?;
    println!("{} keys written meanwhile", acknowledged.len());
    let said = json_of(&output)?;
    ensure!(said["error"].is_null() && said["result"]["laterSaved"].as_u64() > Some(0), "{said}");
    let saved = union(folder.path())?;
    let now = held(&link).await?;
    let gone = |values: &Held| -> Vec<Bytes> {
        let there =
            |key: &Bytes, value: &Bytes| now.get(key) == Some(value) || saved.contains(&(key.clone(), value.clone()));
        values.iter().filter(|(key, value)| !there(key, value)).map(|(key, _)| key.clone()).collect()
    };
    assert_eq!(gone(&acknowledged), Vec::<Bytes>::new(), "acknowledged meanwhile");
    let untouched = before.into_iter().filter(|(key, _)| !acknowledged.contains_key(key)).collect();
    assert_eq!(gone(&untouched), Vec::<Bytes>::new(), "acknowledged before");
    Ok(())
}

/// Everything that is in a whole file of the folder.
fn union(folder: &Path) -> Result<std::collections::BTreeSet<(Bytes, Bytes)>> {
    let mut all = std::collections::BTreeSet::new();
    for entry in std::fs::read_dir(folder)? {
        let (mut decoder, mut found) = (Decoder::default(), Vec::new());
        let file = std::fs::read(entry?.path())?;
        let whole = file.split_inclusive(|byte| *byte == b'\n').all(|line| match decoder.line(line) {
            Ok(Said::Key(kv)) => {
                found.push((kv.key, kv.value));
                true
            }
            said => said.is_ok(),
        });
        if whole && decoder.finish().is_ok() {
            all.extend(found);
        }
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
    await_true("the role has changed", PATIENCE, || async {
        Ok(link.standby.get(&link.keys.role).await?.is_some_and(|kv| kv.value == ROLE_STANDBY))
    })
    .await
}

/// SIGKILL at each stage, one after the other: nothing is lost, and the next run goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_stage_loses_nothing() -> Result<()> {
    let link = parted(3_000).await?;
    live_apart(&link).await?;
    delete_all(&link.primary.store(Side::Primary)?, &config_keys(3_000)[1_000..2_500]).await?;
    for i in 0..800 {
        link.primary.put(key(&format!("bulk-{i}")), SECRET).await?;
    }
    let before = held(&link).await?;
    let (folder, copies) = (tempfile::tempdir()?, tempfile::tempdir()?);
    // From the second round on the very same command is given again.
    let path = |round: usize| -> PathBuf { folder.path().join(format!("{}", round.min(1))) };
    let record = || async { anyhow::Ok(link.checkpoint().await?.map(|record| (record.phase, record.revision))) };
    for round in 0..8 {
        let mut process = start(&link, copies.path(), &["--yes", &format!("--backup={}", path(round).display())])?;
        match round {
            0 => tokio::time::sleep(Duration::from_millis(100)).await,
            1 => await_true("a file is there", PATIENCE, || async { Ok(path(round).exists()) }).await?,
            2 => await_role(&link).await?,
            3 => {
                await_true("a synchronizer leads", PATIENCE, || async { Ok(!link.candidates().await?.is_empty()) })
                    .await?
            }
            4 => {
                await_true("the copy has begun", PATIENCE, || async {
                    Ok(link.standby.get(&link.keys.copied).await?.is_some())
                })
                .await?
            }
            5 => {
                await_true("keys are deleted", PATIENCE, || async { Ok(held(&link).await?.len() < before.len()) })
                    .await?
            }
            _ => {
                await_true("it streams", PATIENCE, || async {
                    Ok(record().await?.is_some_and(|(phase, _)| phase == Phase::Streaming))
                })
                .await?
            }
        }
        process.kill()?;
        let (saved, now) = (union(folder.path())?, held(&link).await?);
        for (key, value) in &before {
            let there = now.get(key) == Some(value) || saved.contains(&(key.clone(), value.clone()));
            ensure!(there, "round {round}: {key:?} is gone, and in no file");
        }
        // What the killed one has left of its election runs out by itself.
        link.bury_leader().await?;
    }
    let output = rejoin(&link, &["--yes", "-o", "json", &format!("--backup={}", path(9).display())]).await?;
    assert_eq!(output.code, Some(0), "{}{}", output.stdout, output.stderr);
    let difference = link.difference().await?;
    ensure!(difference.is_empty(), "not equal:\n{difference}");
    let again = json_of(&rejoin(&link, &["--yes", "-o", "json"]).await?)?;
    ensure!(again["skipped"].is_string(), "{again}");

    // One run, and what was done once is not done again.
    let run = only_run(&link).await?;
    ensure!(run.state == State::Completed && run.attempts.len() >= 3, "{run:?}");
    let story = story(&run);
    println!("{}", run.text());
    let role = story.iter().position(|one| *one == (Step::TakeRole, "done")).context("the role was taken")?;
    let before = story[..role].iter().all(|(step, _)| [Step::Part, Step::Save, Step::TakeRole].contains(step));
    let behind = story[role + 1..].iter().all(|(step, _)| [Step::Converge, Step::Prove].contains(step));
    ensure!(before && behind, "{story:?}");
    ensure!(!story.iter().any(|(_, ended)| *ended == "FAILED"), "{story:?}");
    assert_eq!(std::fs::read_dir(copies.path())?.count(), 1, "one copy of one run");
    Ok(())
}

/// What a kill leaves between a deed and its entry: the journal agrees with the deed afterwards, and nothing is done twice.
#[tokio::test(flavor = "multi_thread")]
async fn the_journal_tells_what_was_done_whatever_it_missed() -> Result<()> {
    let link = parted(20).await?;
    live_apart(&link).await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("saved.jsonl");
    let mut args = vec!["rejoin".to_owned()];
    let (backup, copies) = (format!("--backup={}", file.display()), folder.path().join("journal"));
    args.extend(link.flags(&["--yes", &backup, &format!("--journal-folder={}", copies.display())]));
    let output = run_command_with(&args, &[("USER", "ada"), ("HOSTNAME", "bastion")], PATIENCE).await?;
    assert_eq!(output.code, Some(0), "{output:?}");
    println!("{}", output.stdout);
    for told in ["The rejoin is complete", &copies.display().to_string(), "1  part             done"] {
        ensure!(output.stdout.contains(told), "{told}: {}", output.stdout);
    }
    let wide = |line: &&str| line.chars().count() > 80 && !line.contains(&*folder.path().to_string_lossy());
    assert_eq!(output.stdout.lines().filter(wide).count(), 0, "{}", output.stdout);
    let whole = only_run(&link).await?;
    let steps = Of::Rejoin.steps();
    assert_eq!(story(&whole), steps.iter().map(|step| (*step, "done")).collect::<Vec<_>>());
    assert_eq!((whole.state, &*whole.attempts[0].by), (State::Completed, "ada@bastion"));
    let words = |step| whole.outcome(step).map(|outcome| outcome.what().to_owned()).unwrap_or_default();
    ensure!(words(Step::Part).contains("6 written only here, 1 deleted only here, 1 only here for"), "{whole:?}");
    assert_eq!(words(Step::Save), format!("8 values saved in {}", file.display()));
    ensure!(whole.plan[1].what.contains(&*file.display().to_string()), "{:?}", whole.plan);
    ensure!(link.standby.get(&link.keys.open_run).await?.is_none(), "it is open still");
    let record = link.standby.get(&link.keys.rejoin).await?.context("no record")?;
    let finished = Rejoining::decode(&record.value)?;
    let begun = Rejoining { done: false, ..finished.clone() };
    let cut = |keep: usize| {
        let mut run = Run { state: State::Open, ..whole.clone() };
        run.steps.truncate(keep);
        let last = run.steps.last_mut().expect("it has steps");
        (last.ended_ms, last.outcome) = (None, None);
        run
    };
    let state = |output: &Output| anyhow::Ok(json_of(output)?["run"]["state"].clone());

    // Killed when everything was done.
    leave_open(&link, &cut(5)).await?;
    let dry = rejoin(&link, &["--dry-run", "-o", "json"]).await?;
    ensure!(dry.code == Some(0) && state(&dry)? == "open", "{dry:?}");
    assert_eq!(only_run(&link).await?, cut(5), "a dry run wrote");
    let output = rejoin(&link, &["--yes", "-o", "json"]).await?;
    ensure!(output.code == Some(0) && state(&output)? == "completed", "{output:?}");
    let run = only_run(&link).await?;
    assert_eq!((run.outcome(Step::Prove), run.steps.len()), (whole.outcome(Step::Prove), 6));

    // Killed when the role had just changed.
    link.standby.put(&link.keys.rejoin, begun.encode()).await?;
    leave_open(&link, &cut(3)).await?;
    let output = rejoin(&link, &["--yes", "-o", "json"]).await?;
    ensure!(output.code == Some(0) && state(&output)? == "completed", "{output:?}");
    let run = only_run(&link).await?;
    let mut expected = vec![(Step::Part, "done"), (Step::Save, "done"), (Step::TakeRole, "-")];
    expected.extend(steps[2..].iter().map(|step| (*step, "done")));
    assert_eq!(story(&run), expected);
    ensure!(run.outcome(Step::TakeRole).is_some_and(|role| role.what().contains("interrupted")), "{run:?}");

    // Given up then: another run tells what it finds. Only the new primary's loss would leave somebody here.
    link.standby.put(&link.keys.rejoin, begun.encode()).await?;
    leave_open(&link, &cut(4)).await?;
    let mut abandon = vec!["journal".to_owned()];
    abandon.extend(link.flags(&["--abandon"]));
    let given_up = run_command(&abandon).await?;
    ensure!(given_up.code == Some(0) && given_up.stdout.contains("completes the copy"), "{given_up:?}");
    let output = rejoin(&link, &["--yes", "-o", "json"]).await?;
    ensure!(output.code == Some(0) && state(&output)? == "completed", "{output:?}");
    let runs = journal(&link).await?;
    assert_eq!((runs.len(), runs[0].state), (2, State::Abandoned));
    assert_eq!(story(&runs[1]), story(&whole));
    assert_eq!(runs[1].outcome(Step::Save), whole.outcome(Step::Save));

    // Another command's run is left alone.
    let other = Run::new("zzz".into(), Of::Switchover, &whole.link, Vec::new());
    link.standby.put(&link.keys.rejoin, begun.encode()).await?;
    leave_open(&link, &other).await?;
    let output = rejoin(&link, &["--yes"]).await?;
    ensure!(output.code == Some(1) && output.stderr.contains("run zzz of `etcd-sync switchover`"), "{output:?}");
    assert_eq!(journal(&link).await?.pop(), Some(other));
    Ok(())
}

/// Promoted, back as a standby, promoted again: what an earlier life has left decides nothing.
#[tokio::test(flavor = "multi_thread")]
async fn the_roles_go_round_and_round() -> Result<()> {
    let mut link = parted(20).await?;
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
        let (store, local) = (link.standby.store(Side::Standby)?, KeyRange::prefix(&link.keys.local_prefix));
        ensure!(dump(&store, &local, 0).await?.is_empty(), "the ledger is not new");

        let daemon = link.daemon(&["--checkpoint-interval=100ms"])?;
        daemon.wait_line("Start Sync update", PATIENCE).await?;
        link.standby.put(key(&format!("local-{round}")), SECRET).await?;
        let entry = link.keys.local_entry(key(&format!("local-{round}")).as_bytes());
        await_true("the local key is on record", PATIENCE, || async {
            link.primary.put(key("tick"), SECRET).await?;
            Ok(link.standby.get(&entry).await?.is_some())
        })
        .await?;
        link.await_in_step(PATIENCE).await?;
        daemon.terminate(Duration::from_secs(5)).await?;
        link = promoted(link).await?;
    }
    Ok(())
}

/// Backwards, with a stranger, with itself, and by a synchronizer that was started too early.
#[tokio::test(flavor = "multi_thread")]
async fn the_wrong_clusters_are_refused() -> Result<()> {
    let link = parted(5).await?;
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
    let stranger = etcd_sync_integration::etcd::Cluster::start(ClusterOptions::default()).await?;
    let mut other = vec!["rejoin".to_owned(), "--dry-run".to_owned()];
    other.extend(link.primary.flags(Side::Primary));
    other.extend(stranger.flags(Side::Standby));
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
