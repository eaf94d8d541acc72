//! The command is killed at every step, and called again.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use anyhow::{Result, bail, ensure};
use etcd_sync_core::etcd::kv::{Event, KeyRange};
use etcd_sync_core::link::role::{How, Promotion, promote};
use etcd_sync_core::link::state::Checkpoint;
use etcd_sync_integration::bind::{Bind, Key, Zone};
use etcd_sync_integration::process::Process;
use etcd_sync_integration::tools;
use etcd_sync_operations::procedure::Command as What;
use etcd_sync_operations::procedure::Command::{Failover, Switchover};
use etcd_sync_operations::procedure::{Outcome, State};
use tempfile::TempDir;

use super::*;

/// How often a story is told until a kill falls where it must: a busy machine lets it come too late.
const TRIES: usize = 3;

#[tokio::test]
async fn a_switchover_killed_at_every_step_completes_and_does_nothing_twice() -> Result<()> {
    for _ in 0..TRIES {
        let (link, _daemon) = caught_up().await?;
        let hit = killed_at_every_step(Switchover, &link).await?;
        ensure!(link.difference().await?.is_empty(), "{}", link.difference().await?);
        if hit {
            return Ok(());
        }
    }
    bail!("the kills came too late {TRIES} times")
}

#[tokio::test]
async fn a_failover_killed_at_every_step_completes_and_does_nothing_twice() -> Result<()> {
    for _ in 0..TRIES {
        let (link, daemon) = caught_up().await?;
        link.primary.kill_all()?;
        // Or each attempt would wait for a contact with the primary.
        kill_leader(&link, &daemon).await?;
        if killed_at_every_step(Failover, &link).await? {
            return Ok(());
        }
    }
    bail!("the kills came too late {TRIES} times")
}

/// Killed between the promotion and its entry in the journal, and the old primary goes on meanwhile.
#[tokio::test]
async fn a_promotion_that_was_not_written_down_is_recognized() -> Result<()> {
    let (link, _daemon, folder) = killed_in_the_promotion().await?;
    if role(&link.standby, &link).await? == "standby" {
        // The kill came first: this stands for the transaction that came through.
        let run = open_run(&link).await?.context("a run is open")?;
        let checkpoint = link.standby.get(&link.keys.checkpoint).await?.context("a checkpoint")?;
        let found = Checkpoint::decode(&checkpoint.value)?;
        let promotion = Promotion {
            format: Promotion::FORMAT,
            run: run.id,
            how: How::Switchover,
            primary: found.primary,
            revision: found.revision,
            offset: 0,
            at_ms: 0,
        };
        let txn = promote(&link.keys, &checkpoint, &[], &promotion);
        ensure!(link.standby.client().txn(txn).await?.succeeded);
    }
    link.primary.put("/registry/configmaps/team-a/settings-0000", "written to the old primary").await?;
    let output = run(&link, "switchover", folder.path(), &["--yes", "--stop-writers-command=true"]).await?;
    ensure!(output.code == Some(0), "{output:?}");
    // Somebody was acknowledged on the old primary: nobody may say that nothing was lost.
    let words = output.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    ensure!(words.contains("took writes in the last moment") && !words.contains("nothing was lost"), "{output:?}");
    let runs = journal(&link).await?;
    ensure!(runs.len() == 1 && runs[0].state == State::Completed, "{runs:?}");
    Ok(())
}

/// A switchover whose journal says that it has begun to promote, and no more.
async fn killed_in_the_promotion() -> Result<(Link, Daemon, TempDir)> {
    for _ in 0..TRIES {
        let (link, daemon) = caught_up().await?;
        let folder = tempfile::tempdir()?;
        let args = command(&link, "switchover", folder.path(), &["--yes", "--stop-writers-command=true"]);
        kill_at(Switchover, &link, &args, Step::Promote, false).await?;
        if open_run(&link).await?.is_some_and(|run| run.outcome(Step::Promote).is_none()) {
            return Ok((link, daemon, folder));
        }
    }
    bail!("the kill came too late {TRIES} times")
}

/// Whether the promotion, and all other steps but one, were interrupted. Fails if anything went wrong.
async fn killed_at_every_step(what: What, link: &Link) -> Result<bool> {
    let folder = tempfile::tempdir()?;
    let key = Key::new("failover-key")?;
    key.write(&folder.path().join("key"))?;
    let zone = Zone::Primary {
        name: "example.test".into(),
        records: "global 1 IN A 10.0.0.1\n".into(),
        update: Some(key.name.clone()),
    };
    let bind = Bind::start(std::slice::from_ref(&key), &[zone]).await?;
    let stopped = folder.path().join("stopped");
    let own = match what {
        Switchover => format!("--stop-writers-command=echo stopped >> {}", stopped.display()),
        _ => "--accept-unchecked".to_owned(),
    };
    let flags = [
        "--yes".to_owned(),
        own,
        "--domain=global.example.test".to_owned(),
        "--dns-address=10.0.0.2".to_owned(),
        "--dns-from=10.0.0.1".to_owned(),
        "--dns-ttl=1".to_owned(),
        "--dns-zone=example.test".to_owned(),
        format!("--dns-server={}", bind.address()),
        format!("--dns-resolver={}", bind.address()),
        format!("--dns-tsig-key-file={}", folder.path().join("key").display()),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let args = command(link, what.name(), folder.path(), &flags);
    let mut hit = BTreeSet::new();
    for &step in what.steps() {
        for ended in [false, true] {
            hit.extend(kill_at(what, link, &args, step, ended).await?);
        }
    }
    // The last kill may have come too late: then the run is complete, and another one is refused.
    let output = run(link, what.name(), folder.path(), &flags).await?;
    ensure!(output.code == Some(0) || output.stderr.contains("primary already"), "{output:?}");
    let runs = journal(link).await?;
    ensure!(runs.len() == 1 && runs[0].state == State::Completed, "{output:?}\n{runs:?}");
    let attempts = runs[0].attempts.len();
    // What is skipped is over before a kill can come.
    let taken = runs[0].plan.iter().map(|planned| planned.step);
    let taken = taken.filter(|step| !matches!(runs[0].outcome(*step), Some(Outcome::Skipped(_))));
    let spared: Vec<Step> = taken.filter(|step| !hit.contains(step)).collect();
    println!("never interrupted: {spared:?}");
    ensure!(role(&link.standby, link).await? == "primary");

    let promotions = link.standby_history(1).await?;
    let promotions = promotions
        .iter()
        .filter(|event| matches!(event, Event::Put(kv) if kv.key == link.keys.role && kv.value == "primary"));
    ensure!(promotions.count() == 1, "it was promoted more than once");
    ensure!(
        bind.count_lines("adding an RR at 'global.example.test'") == 1,
        "the name was not changed once:\n{}",
        bind.tail()
    );
    ensure!(bind.lookup("global.example.test").await == [Ipv4Addr::new(10, 0, 0, 2)]);
    // What stops the writers is run in every attempt before the promotion: somebody may have started them again.
    if what == Switchover {
        let stopped = std::fs::read_to_string(&stopped)?.lines().count();
        ensure!((1..=attempts).contains(&stopped), "the writers were stopped {stopped} times in {attempts} attempts");
    }
    let told = told(&runs[0]);
    ensure!(told.contains(&"promote: done".to_owned()), "{told:?}");
    let shown = run(link, "journal", folder.path(), &[&runs[0].id]).await?.stdout;
    ensure!(shown.matches("went on").count() == attempts - 1, "the journal does not tell of every call:\n{shown}");
    ensure!(shown.contains("interrupted"), "{shown}");
    assert_fits(&shown)?;
    Ok(hit.contains(&Step::Promote) && spared.len() <= 1)
}

/// Starts the command and kills it as soon as a step is written down as begun (or ended). Gives the step if it was the one
/// that the run then stood at.
async fn kill_at(what: What, link: &Link, args: &[String], step: Step, ended: bool) -> Result<Option<Step>> {
    let before = open_run(link).await?;
    // Without an end there is nothing to come to any more.
    let over = before.as_ref().is_some_and(|run| run.is_settled(step) && step.proves_for().is_none());
    let completed = before.is_none() && role(&link.standby, link).await? == "primary";
    if over || completed {
        return Ok(None);
    }
    let attempt = before.map_or(0, |run| run.attempts.len());
    let client = link.standby.client();
    let mut watch =
        client.watch(KeyRange::prefix(&link.keys.journal_prefix), link.standby.revision().await? + 1).await?;
    let mut program = Command::new(tools::etcd_sync()?);
    program.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut process = Process::spawn(format!("etcd-sync {}", what.name()), program)?;
    let come = async {
        loop {
            for event in watch.next().await? {
                let Event::Put(kv) = event else { continue };
                let run = Run::decode(&kv.value)?;
                let there = run
                    .last(step)
                    .is_some_and(|record| record.attempt == attempt && (!ended || record.outcome.is_some()));
                if run.attempts.len() > attempt && there {
                    return anyhow::Ok(());
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, come)
        .await
        .with_context(|| format!("attempt {attempt} never came to {}", step.name()))??;
    process.kill()?;
    link.expire_runner().await?;
    let stands = open_run(link).await?.and_then(|run| run.steps.last().map(|record| record.step));
    Ok(stands.filter(|stands| *stands == step))
}
