//! The failover commands on real etcds.

mod copying;
mod failover;
mod faults;
mod flags;
mod kill;
mod manual;
mod operators;
mod partial_revision;
mod partition;
mod refused;
mod switchover;
mod transcripts;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use etcd_sync_integration::compare::await_until;
use etcd_sync_integration::daemon::{Daemon, Output, run_command_with};
use etcd_sync_integration::etcd::ClusterOptions;
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::link::{Link, config_keys};
use etcd_sync_integration::transcript::assert_fits;
use etcd_sync_operations::procedure::{Run, Step};
use serde_json::Value;

/// Two equal clusters, with some data, and the daemon between them.
async fn caught_up() -> Result<(Link, Daemon)> {
    let link = Link::start(ClusterOptions::default(), ClusterOptions::default()).await?;
    for key in config_keys(40) {
        link.primary.put(&key, "first").await?;
    }
    let daemon = link.daemon(&[])?;
    daemon.wait_line("Start Sync update", PATIENCE).await?;
    link.await_caught_up(PATIENCE).await?;
    Ok((link, daemon))
}

/// Kills a synchronizer, and with it its lease: no synchronizer is left that could still receive from the primary.
async fn kill_leader(link: &Link, daemon: &Daemon) -> Result<()> {
    daemon.kill()?;
    link.expire_leader().await
}

/// The arguments of a command of the link.
fn command(link: &Link, name: &str, folder: &Path, more: &[&str]) -> Vec<String> {
    let mut args = vec![name.to_owned()];
    args.extend(link.flags(more));
    args.push(format!("--journal-folder={}", folder.display()));
    args
}

/// Runs a command of the link to its end.
async fn run(link: &Link, name: &str, folder: &Path, more: &[&str]) -> Result<Output> {
    run_command_with(&command(link, name, folder, more), &[("USER", "ada"), ("HOSTNAME", "bastion")], PATIENCE).await
}

fn json(output: &Output) -> Result<Value> {
    serde_json::from_str(&output.stdout).with_context(|| format!("{output:?}"))
}

/// The runs in the journal, oldest first.
async fn journal(link: &Link) -> Result<Vec<Run>> {
    let output = run(link, "journal", Path::new("/nowhere"), &["-o", "json"]).await;
    let document = json(&output?)?;
    let runs = document["runs"].as_array().context("there are runs")?.iter();
    runs.map(|run| Ok(serde_json::from_value(run["run"].clone())?)).collect()
}

/// The entry of the run that is not finished, read without a command.
async fn open_run(link: &Link) -> Result<Option<Run>> {
    let Some(open) = link.standby.get(&link.keys.open_run).await? else { return Ok(None) };
    let entry = link.standby.get(&link.keys.journal_entry(str::from_utf8(&open.value)?)).await?;
    Ok(Some(Run::decode(&entry.context("an open run has an entry")?.value)?))
}

/// Waits until a step of the open run is begun (or, with `ended`, over).
async fn await_step(link: &Link, step: Step, ended: bool) -> Result<()> {
    await_until(&format!("{} is there", step.name()), PATIENCE, || async {
        let run = open_run(link).await?;
        let found = run.as_ref().and_then(|run| run.last(step));
        let there = found.is_some_and(|record| !ended || record.outcome.is_some());
        Ok((!there).then(|| format!("{run:?}")))
    })
    .await
}

async fn role(cluster: &etcd_sync_integration::etcd::Cluster, link: &Link) -> Result<String> {
    let role = cluster.get(&link.keys.role).await?;
    Ok(role.map(|kv| String::from_utf8_lossy(&kv.value).into_owned()).unwrap_or_default())
}

/// How each step of a run ended last: `name: outcome`.
fn told(run: &Run) -> Vec<String> {
    let ended = run.plan.iter().map(|planned| planned.step);
    ended.map(|step| format!("{}: {}", step.name(), run.outcome(step).map_or("-", |outcome| outcome.name()))).collect()
}
