//! `etcd-sync accept`: an answer is given once, for what was shown, and what goes is saved before; `restore --saved` puts back what the
//! synchronizer saved by itself.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use etcd_sync_core::link::question::{ACCEPTANCE_MS, Acceptance, Question, Topic};
use etcd_sync_core::link::state::Phase;
use etcd_sync_integration::compare::await_until;
use etcd_sync_integration::daemon::{Daemon, Output};
use etcd_sync_integration::etcd::{Cluster, ClusterOptions};
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::link::{Link, await_ready, config_keys};
use etcd_sync_integration::saved_keys;
use etcd_sync_integration::terminal::Terminal;
use serde_json::{Value, json};
use tempfile::TempDir;

const OTHER_HISTORY: &str = "history is not the one this standby was synchronized from";

/// In every value of these tests, and in no output but the file of saved values.
const SECRET: &str = "hunter2";

/// A link in sync, a backup of its primary, and what was written after the backup.
struct Fixture {
    link: Link,
    folder: TempDir,
    kept: usize,
    all: usize,
}

impl Fixture {
    async fn start(kept: usize, all: usize) -> Result<(Fixture, Daemon)> {
        let link = Link::start(ClusterOptions::default(), ClusterOptions::default()).await?;
        let folder = tempfile::tempdir()?;
        fill(&link.primary, &config_keys(kept)).await?;
        link.primary.snapshot_save(&folder.path().join("snapshot.db")).await?;
        fill(&link.primary, &config_keys(all)[kept..]).await?;
        let daemon = link.daemon(&[])?;
        link.await_equal(PATIENCE).await.with_context(|| daemon.tail())?;
        Ok((Fixture { link, folder, kept, all }, daemon))
    }

    /// Puts the primary back, and waits until the link asks.
    async fn restore_primary(&self, daemon: &Daemon) -> Result<Question> {
        self.link.primary.restore_in_place(&self.folder.path().join("snapshot.db")).await?;
        self.await_asked(daemon).await
    }

    async fn await_asked(&self, daemon: &Daemon) -> Result<Question> {
        await_ready(daemon, 503, OTHER_HISTORY, PATIENCE).await.with_context(|| daemon.tail())?;
        await_question(&self.link, Topic::OtherHistory).await
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Says yes, and saves in a new file.
    async fn accept(&self, name: &str) -> Result<Output> {
        let output = accept(&self.link, &[&format!("--backup={}", self.file(name)), "--yes"]).await?;
        ensure!(output.code == Some(0), "{output:?}");
        Ok(output)
    }

    /// Everything that was mirrored is there.
    async fn is_untouched(&self) -> Result<bool> {
        Ok(self.link.difference().await?.surplus.len() == self.all - self.kept)
    }
}

async fn fill(cluster: &Cluster, keys: &[Bytes]) -> Result<()> {
    for key in keys {
        cluster.put(key, SECRET).await?;
    }
    Ok(())
}

async fn accept(link: &Link, more: &[&str]) -> Result<Output> {
    let output = link.run("accept", more).await?;
    ensure!(!output.stderr.contains(SECRET), "a value is on stderr");
    Ok(output)
}

async fn question(link: &Link) -> Result<Option<Question>> {
    let found = link.standby.get(&link.keys.question).await?;
    Ok(found.map(|kv| Question::decode(&kv.value)).transpose()?)
}

async fn acceptance(link: &Link) -> Result<Option<Acceptance>> {
    let found = link.standby.get(&link.keys.acceptance).await?;
    Ok(found.map(|kv| Acceptance::decode(&kv.value)).transpose()?)
}

async fn await_question(link: &Link, topic: Topic) -> Result<Question> {
    await_until("the question is on record", PATIENCE, || async {
        let found = question(link).await?;
        Ok(found.as_ref().is_none_or(|question| question.topic != topic).then(|| format!("{found:?}")))
    })
    .await?;
    question(link).await?.context("it was taken back")
}

/// Another look of the paused daemon leaves everything as it is. A look leaves no trace, so time is all there is to wait for.
async fn await_second_look() {
    tokio::time::sleep(Duration::from_millis(5500)).await;
}

fn json_of(output: &Output) -> Result<Value> {
    serde_json::from_str(&output.stdout).with_context(|| format!("no JSON: {}{}", output.stdout, output.stderr))
}

#[tokio::test]
async fn an_answer_is_used_once() -> Result<()> {
    let (fixture, daemon) = Fixture::start(20, 40).await?;
    let link = &fixture.link;
    fixture.restore_primary(&daemon).await?;
    let status = link.run("status", &[]).await?;
    ensure!(status.stdout.contains("other-history, for ") && status.stdout.contains("etcd-sync accept"), "{status:?}");

    // Shown, and nothing done.
    let output = accept(link, &["--dry-run"]).await?;
    ensure!(output.code == Some(0), "{output:?}");
    for text in ["20  keys, deleted", "configmaps", "team-a", "`etcd-sync failover` promotes it", "settings-0020"] {
        ensure!(output.stdout.contains(text), "{}", output.stdout);
    }
    let unconfirmed = accept(link, &[&format!("--backup={}", fixture.file("no.jsonl"))]).await?;
    ensure!(unconfirmed.code == Some(1) && unconfirmed.stderr.contains("no terminal to ask on"), "{unconfirmed:?}");
    ensure!(!Path::new(&fixture.file("no.jsonl")).exists() && acceptance(link).await?.is_none());
    ensure!(fixture.is_untouched().await?, "something was done without an answer");

    let output = fixture.accept("first.jsonl").await?;
    ensure!(output.stdout.contains("Accepted, and replication continues"), "{}\n{}", output.stdout, daemon.tail());
    link.await_equal(PATIENCE).await.with_context(|| daemon.tail())?;
    let saved = saved_keys::whole(Path::new(&fixture.file("first.jsonl")));
    ensure!(saved.iter().map(|(key, _)| key).eq(&config_keys(40)[20..]), "{saved:?}");
    ensure!(acceptance(link).await?.is_none() && question(link).await?.is_none(), "the answer is not used up");
    let nothing = accept(link, &["--yes"]).await?;
    ensure!(nothing.code == Some(0) && nothing.stdout.contains("Nothing is asked"), "{nothing:?}");

    // The same backup once more.
    fill(&link.primary, &config_keys(40)[20..]).await?;
    link.await_equal(PATIENCE).await?;
    fixture.restore_primary(&daemon).await?;
    await_second_look().await;
    ensure!(fixture.is_untouched().await?, "the second restore was followed without a word");
    Ok(())
}

#[tokio::test]
async fn an_answer_is_void_after_an_hour_and_after_another_restore() -> Result<()> {
    let (fixture, daemon) = Fixture::start(20, 40).await?;
    let link = &fixture.link;
    fixture.restore_primary(&daemon).await?;
    ensure!(daemon.terminate(PATIENCE).await?.success());
    let output = fixture.accept("first.jsonl").await?;
    ensure!(output.stdout.contains("No synchronizer is running"), "{}", output.stdout);
    let given = acceptance(link).await?.context("the answer is not on record")?;
    assert_eq!((given.topic, given.groups.len(), given.by.is_empty()), (Topic::OtherHistory, 1, false));

    let late = Acceptance { given_ms: given.given_ms - ACCEPTANCE_MS, ..given };
    link.standby.put(&link.keys.acceptance, late.encode()).await?;
    let daemon = link.daemon(&[])?;
    fixture.await_asked(&daemon).await?;
    await_second_look().await;
    ensure!(fixture.is_untouched().await?, "an answer of an hour ago was used:\n{}", daemon.tail());
    ensure!(daemon.terminate(PATIENCE).await?.success());

    // Good, but for the primary as it was: restored behind it, it is another one.
    fill(&link.primary, &config_keys(3)).await?;
    fixture.accept("second.jsonl").await?;
    link.primary.restore_in_place(&fixture.folder.path().join("snapshot.db")).await?;
    let daemon = link.daemon(&[])?;
    fixture.await_asked(&daemon).await?;
    await_second_look().await;
    ensure!(fixture.is_untouched().await?, "an answer for an earlier restore was used:\n{}", daemon.tail());
    let status = link.run("status", &[]).await?;
    ensure!(status.stdout.contains("other-history"), "{status:?}");

    fixture.accept("third.jsonl").await?;
    link.await_equal(PATIENCE).await.with_context(|| daemon.tail())?;
    ensure!(acceptance(link).await?.is_none());
    Ok(())
}

#[tokio::test]
async fn an_answer_survives_a_change_of_leader_in_the_middle_of_the_copy() -> Result<()> {
    let (fixture, daemon) = Fixture::start(100, 1_500).await?;
    let link = &fixture.link;
    fixture.restore_primary(&daemon).await?;
    ensure!(daemon.terminate(PATIENCE).await?.success());
    fixture.accept("saved.jsonl").await?;

    let daemon = link.daemon(&[])?;
    daemon
        .run_in_slices("some keys are deleted", async || {
            let surplus = link.difference().await?.surplus.len();
            Ok(surplus < 1_400)
        })
        .await?;
    let checkpoint = link.checkpoint().await?.context("there is a checkpoint")?;
    ensure!(checkpoint.phase == Phase::Resync, "the copy was complete too soon: {checkpoint:?}");
    ensure!(acceptance(link).await?.is_some(), "the answer is gone in the middle of the copy");
    daemon.kill()?;
    link.expire_leader().await?;

    let daemon = link.daemon(&[])?;
    link.await_equal(PATIENCE).await.with_context(|| daemon.tail())?;
    ensure!(!daemon.lines().iter().any(|line| line.contains("paused")), "it asked again:\n{}", daemon.tail());
    ensure!(acceptance(link).await?.is_none() && question(link).await?.is_none());
    assert_eq!(saved_keys::whole(Path::new(&fixture.file("saved.jsonl"))).len(), 1_400);
    Ok(())
}

/// As through `kubectl exec`, in a pod.
#[tokio::test]
async fn the_values_go_through_a_pipe() -> Result<()> {
    let (fixture, daemon) = Fixture::start(20, 40).await?;
    let link = &fixture.link;
    fixture.restore_primary(&daemon).await?;
    let in_pod = [("KUBERNETES_SERVICE_HOST", "10.0.0.1"), ("POD_NAME", "etcd-sync-0")];
    let run = async |more: &[&str]| {
        let mut args = vec!["accept".to_owned()];
        args.extend(link.flags(more));
        etcd_sync_integration::daemon::run_command_with(&args, &in_pod, PATIENCE).await
    };
    let refused = run(&["--yes"]).await?;
    ensure!(refused.code == Some(1) && refused.stderr.contains("--backup -"), "{refused:?}");
    let refused = run(&["--yes", "--backup", "-", "-o", "json"]).await?;
    ensure!(refused.code == Some(1) && refused.stderr.contains("omit one of them"), "{refused:?}");
    ensure!(acceptance(link).await?.is_none());

    let output = run(&["--yes", "--backup", "-"]).await?;
    ensure!(output.code == Some(0), "{output:?}");
    ensure!(output.stderr.contains("20  keys, deleted") && output.stderr.contains("Accepted"), "{}", output.stderr);
    link.await_equal(PATIENCE).await.with_context(|| daemon.tail())?;

    // Stdout is exactly the file.
    let file = fixture.file("saved.jsonl");
    std::fs::write(&file, &output.stdout)?;
    ensure!(saved_keys::whole(Path::new(&file)).len() == 20, "{}", output.stdout);
    ensure!(output.stdout.contains(r#""what":"accept""#));
    let restored = link.run("restore", &[&file, "--yes"]).await?;
    ensure!(restored.code == Some(0) && restored.stdout.contains("20  put back"), "{restored:?}");
    assert_eq!(link.difference().await?.surplus, config_keys(40)[20..]);
    Ok(())
}

/// One start meets two questions one after the other: the second answer does not take back the first.
#[tokio::test]
async fn another_primary_without_keys_is_asked_about_twice() -> Result<()> {
    let (mut fixture, daemon) = Fixture::start(10, 20).await?;
    ensure!(daemon.terminate(PATIENCE).await?.success());
    fixture.link.primary = Cluster::start(ClusterOptions::default()).await?;
    let link = &fixture.link;
    link.primary.put("elsewhere", "1").await?;
    let daemon = link.daemon(&[])?;
    await_question(link, Topic::OtherPrimary).await?;
    let output = accept(link, &[&format!("--backup={}", fixture.file("a")), "--yes", "-o", "json"]).await?;
    let report = json_of(&output)?;
    assert_eq!((&report["plan"]["deleted"], &report["result"]["saved"]), (&json!(20), &json!(20)));
    assert_eq!(report["result"]["next"], "asks-again", "{report:#}");
    await_question(link, Topic::EmptyPrimary).await?;
    let output = accept(link, &[&format!("--backup={}", fixture.file("b")), "--yes", "-o", "json"]).await?;
    assert_eq!(json_of(&output)?["result"]["next"], "continues", "{output:?}\n{}", daemon.tail());
    link.await_equal(PATIENCE).await.with_context(|| daemon.tail())?;
    ensure!(acceptance(link).await?.is_none());
    Ok(())
}

/// A namespace that is marked on the primary is still whole on both sides; all that the standby's controllers would delete is saved.
#[tokio::test]
async fn what_a_marked_namespace_takes_with_it_is_shown_and_saved() -> Result<()> {
    const NAMESPACE: &str = "/registry/namespaces/apps";
    let link = Link::start(ClusterOptions::default(), ClusterOptions::default()).await?;
    let object = |name: &str, mark: Option<&str>| {
        let metadata = json!({ "name": name, "uid": name, "deletionTimestamp": mark, "labels": { "a": SECRET } });
        json!({ "apiVersion": "v1", "kind": "Any", "metadata": metadata }).to_string()
    };
    link.primary.put(NAMESPACE, object("apps", None)).await?;
    for i in 0..30 {
        link.primary.put(format!("/registry/configmaps/apps/{i:02}"), object(&i.to_string(), None)).await?;
        link.primary.put(format!("/registry/secrets/other/{i:02}"), object(&i.to_string(), None)).await?;
    }
    let daemon = link.daemon(&[])?;
    link.await_equal(PATIENCE).await.with_context(|| daemon.tail())?;
    link.primary.put(NAMESPACE, object("apps", Some("2026-01-01T00:00:00Z"))).await?;
    let asked = await_question(&link, Topic::Brake).await?;
    ensure!(asked.losses.is_some_and(|losses| losses.count() > 0));

    let folder = tempfile::tempdir()?;
    let file = folder.path().join("saved.jsonl");
    let output = accept(&link, &[&format!("--backup={}", file.display()), "--yes"]).await?;
    ensure!(output.code == Some(0), "{output:?}\n{}", daemon.tail());
    ensure!(
        output.stdout.contains("31  keys, deleted") && output.stdout.contains("replication continues"),
        "{output:?}"
    );
    link.await_equal(PATIENCE).await.with_context(|| daemon.tail())?;
    let saved = saved_keys::whole(&file);
    ensure!(saved.len() == 31 && saved.iter().all(|(key, _)| !key.starts_with(b"/registry/secrets/")), "{saved:?}");
    Ok(())
}

#[tokio::test]
async fn a_restored_standby_goes_on_after_the_answer() -> Result<()> {
    let link = Link::start(ClusterOptions::default(), ClusterOptions::default()).await?;
    let folder = tempfile::tempdir()?;
    fill(&link.primary, &config_keys(20)).await?;
    let daemon = link.daemon(&[])?;
    link.await_equal(PATIENCE).await?;
    let snapshot = folder.path().join("snapshot.db");
    link.standby.snapshot_save(&snapshot).await?;
    fill(&link.primary, &config_keys(30)[20..]).await?;
    link.await_equal(PATIENCE).await?;
    ensure!(daemon.terminate(PATIENCE).await?.success());
    link.standby.restore_in_place(&snapshot).await?;
    let daemon = link.daemon(&[])?;
    let asked = await_question(&link, Topic::StandbyRestored).await?;
    ensure!(asked.losses.is_none() && asked.evidence.contains("the record is from"), "{asked:?}");
    let output = accept(&link, &["--yes"]).await?;
    ensure!(output.code == Some(0), "{output:?}");
    let words = output.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    ensure!(words.contains("promoted since the moment that the record is from, do not stream into it"), "{words}");
    link.await_equal(PATIENCE).await.with_context(|| daemon.tail())?;
    await_until("the answer is used up", PATIENCE, || async {
        Ok(acceptance(&link).await?.map(|given| format!("{given:?}")))
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn at_a_terminal_the_number_of_keys_is_typed() -> Result<()> {
    let (fixture, daemon) = Fixture::start(5, 12).await?;
    let link = &fixture.link;
    fixture.restore_primary(&daemon).await?;
    let backup = format!("--backup={}", fixture.file("saved.jsonl"));
    let run = async |flag: &str, typed: Option<&str>| {
        let mut args = vec!["accept".to_owned()];
        args.extend(link.flags(&[flag]));
        let mut terminal = Terminal::start(&args)?;
        if let Some(typed) = typed {
            terminal.wait_for("Type 7 to accept this", PATIENCE).await?;
            terminal.type_line(typed)?;
        }
        let (status, shown) = terminal.wait(PATIENCE).await?;
        anyhow::Ok((status.code(), shown))
    };
    let (code, shown) = run("--backup=-", None).await?;
    ensure!(code == Some(1) && shown.contains("redirect stdout to a file"), "{shown}");
    let (code, shown) = run(&backup, Some("yes")).await?;
    ensure!(code == Some(1) && shown.contains("nothing was accepted: the answer was not 7"), "{shown}");
    ensure!(acceptance(link).await?.is_none() && !Path::new(&fixture.file("saved.jsonl")).exists());
    let (code, shown) = run(&backup, Some("7")).await?;
    ensure!(code == Some(0) && shown.contains("Accepted, and replication continues"), "{shown}");
    ensure!(!shown.contains(SECRET));
    link.await_equal(PATIENCE).await.with_context(|| daemon.tail())
}

#[tokio::test]
async fn only_a_standby_is_asked() -> Result<()> {
    let (fixture, daemon) = Fixture::start(5, 10).await?;
    let link = &fixture.link;
    fixture.restore_primary(&daemon).await?;
    ensure!(daemon.terminate(PATIENCE).await?.success());
    link.standby.put(&link.keys.role, "primary").await?;
    let output = accept(link, &["--yes", &format!("--backup={}", fixture.file("a"))]).await?;
    ensure!(output.code == Some(1) && output.stderr.contains("must be \"standby\""), "{output:?}");
    ensure!(acceptance(link).await?.is_none() && !Path::new(&fixture.file("a")).exists());
    Ok(())
}

#[tokio::test]
async fn saved_values_come_back_from_the_standby() -> Result<()> {
    let (fixture, daemon) = Fixture::start(5, 10).await?;
    let link = &fixture.link;
    let [there, other, lost] = [1, 2, 20].map(|number| config_keys(30)[number].clone());
    let saved = async |keys: &[&Bytes]| {
        let entries = keys.iter().map(|key| link.keys.saved_entry(key));
        for entry in entries {
            let found = link.standby.get(&entry).await?;
            ensure!(found.is_some(), "{entry:?} is gone");
        }
        let status = json_of(&link.run("status", &["-o", "json"]).await?)?;
        ensure!(status["saved"] == keys.len(), "{status:#}");
        Ok(())
    };
    link.standby.put(link.keys.saved_entry(&there), SECRET).await?;
    link.standby.put(link.keys.saved_entry(&other), "an older value").await?;
    link.standby.put(link.keys.saved_entry(&lost), "lost").await?;
    let status = link.run("status", &[]).await?;
    ensure!(
        status.stdout.contains("3, saved before they were taken away: see `etcd-sync restore --saved`"),
        "{status:?}"
    );

    let planned = link.run("restore", &["--saved", "--dry-run"]).await?;
    ensure!(planned.stdout.contains("3 values, saved on this standby") && !planned.stdout.contains(SECRET));
    saved(&[&there, &other, &lost]).await?;
    let restored = link.run("restore", &["--saved", "--yes"]).await?;
    // One is left alone: the standby has it with another value.
    ensure!(restored.code == Some(1), "{restored:?}");
    for text in ["1  put back", "1  there already", "1  left alone", "2  no longer saved on the standby"] {
        ensure!(restored.stdout.contains(text), "{restored:?}");
    }
    assert_eq!(link.standby.get(&lost).await?.context("it is not back")?.value, "lost");
    saved(&[&other]).await?;
    // It is the standby's own now, and no synchronizer deletes it.
    fill(&link.primary, &config_keys(1)).await?;
    link.await_caught_up(PATIENCE).await.with_context(|| daemon.tail())?;
    ensure!(link.standby.get(&lost).await?.is_some());

    let unconfirmed = link.run("restore", &["--saved", "--discard"]).await?;
    ensure!(unconfirmed.code == Some(1), "{unconfirmed:?}");
    saved(&[&other]).await?;
    let discarded = link.run("restore", &["--saved", "--discard", "--yes"]).await?;
    ensure!(discarded.code == Some(0) && discarded.stdout.contains("Deleted: 1 saved values"), "{discarded:?}");
    saved(&[]).await
}
