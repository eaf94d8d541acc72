//! The command is killed while it restarts pods, and called again: what was restarted is not restarted once more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use etcd_sync_integration::compare::await_true;
use etcd_sync_integration::kube::{Api, AuditEvent, ControlPlane};
use etcd_sync_integration::link::Link;
use etcd_sync_integration::process::Process;
use etcd_sync_integration::transcript::assert_fits;
use etcd_sync_operations::procedure::{Run, State, Step};

use crate::fixture::{COMMAND, Fixture, Sites};
use crate::restart::{self, ES, WARLOCK, await_ready, pods, workload};

/// Pods of Elasticsearch: restarted first, and again in the end.
const REPLICAS: usize = 4;
const TRANSFORMER: &str = "service_name=cluster-transformer";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switchover_killed_while_it_restarts_pods_restarts_none_twice() -> Result<()> {
    let (fixture, east) = tokio::try_join!(Fixture::start(), restart::Site::start("east"))?;
    let outcome = switchover(&fixture, &east).await;
    fixture.pair.explain(None, outcome)
}

/// The node of the standby is stopped, so that every kill comes in the middle: pods end only when it goes on. A workload
/// cluster that is silent meanwhile is asked again.
async fn switchover(fixture: &Fixture, east: &restart::Site) -> Result<()> {
    // Nothing can be looked up in a pod whose node is stopped.
    let sites = Sites { domain: false, ..fixture.sites() };
    let node = &fixture.nodes[1];
    let Sites { a, b, .. } = sites;
    let api = b.plane.api();
    let daemon = prepare(fixture, &sites).await?;
    east.api().create(&workload("Deployment", "warlock", ("service_name", "warlock"), 2)).await?;
    let warlock = await_ready(east.api(), WARLOCK, 2).await?;
    let (asked, done) = (sites.folder.join("asked"), sites.folder.join("done"));
    let stop = format!("touch {}; until [ -e {} ]; do sleep 0.05; done", asked.display(), done.display());
    let flags = [
        "--yes".to_owned(),
        format!("--stop-writers-command={stop}"),
        format!("--workload-kubeconfig={}", east.plane.kubeconfig_file().display()),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let start = || sites.start("switchover", a, b, &flags);

    let first = await_ready(api, ES, REPLICAS).await?;
    node.pause()?;
    let mut command = start()?;
    killed_when_pods_go(&mut command, api).await?;
    stands_at(&fixture.pair.link, Step::RestartFirst).await?;
    node.resume()?;
    let half = await_ready(api, ES, REPLICAS).await?;
    ensure!(half != first, "nothing was deleted before the kill");

    east.plane.kill_apiserver()?;
    let mut command = start()?;
    await_true("the writers are asked to stop", COMMAND, || async { Ok(asked.exists()) }).await?;
    let fresh = await_ready(api, ES, REPLICAS).await?;
    ensure!(fresh.is_disjoint(&first), "not all were restarted: {first:?} {fresh:?}");
    deleted_once_by_each_step(b.plane, 1)?;
    node.pause()?;
    a.plane.kill_controllers()?;
    a.plane.kill_apiserver()?;
    std::fs::write(&done, "")?;
    killed_when_pods_go(&mut command, api).await?;
    stands_at(&fixture.pair.link, Step::RestartServices).await?;
    node.resume()?;

    east.plane.start_apiserver().await?;
    let output = sites.command("switchover", a, b, &flags).await?;
    ensure!(output.code == Some(0), "{output:?}");
    // Four of Elasticsearch, one other, and two in the cluster that was silent.
    ensure!(output.stdout.contains("7 pods restarted and ready"), "{}", output.stdout);
    let last = await_ready(api, ES, REPLICAS).await?;
    ensure!(last.is_disjoint(&fresh), "not all were restarted: {fresh:?} {last:?}");
    ensure!(await_ready(east.api(), WARLOCK, 2).await?.is_disjoint(&warlock), "the silent cluster is not in the plan");
    deleted_once_by_each_step(b.plane, 2)?;
    let (of_east, _) = deletions(&east.plane)?;
    ensure!(of_east.len() == 2 && of_east.values().all(|times| *times == 1), "{of_east:?}");
    drop(daemon);
    journal_tells(&sites, &[Step::RestartFirst, Step::RestartServices]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_killed_while_it_restarts_pods_restarts_none_twice() -> Result<()> {
    let fixture = Fixture::start().await?;
    let outcome = failover(&fixture).await;
    fixture.pair.explain(None, outcome)
}

/// Killed as soon as the journal names the pods: before the first deletion, in between, or behind the last.
async fn failover(fixture: &Fixture) -> Result<()> {
    let sites = fixture.sites();
    let Sites { a, b, .. } = sites;
    let api = b.plane.api();
    let daemon = prepare(fixture, &sites).await?;
    a.plane.kill_controllers()?;
    a.plane.kill_apiserver()?;
    a.etcd.kill_all()?;
    drop(daemon);
    let flags = ["--yes", "--accept-unchecked"];
    for step in [Step::RestartFirst, Step::RestartServices] {
        let mut command = sites.start("failover", a, b, &flags)?;
        let link = &fixture.pair.link;
        await_true("the pods are named", COMMAND, || async {
            Ok(open_run(link).await?.is_some_and(|run| run.note(step).is_some()))
        })
        .await?;
        command.kill()?;
        stands_at(link, step).await?;
        await_ready(api, ES, REPLICAS).await?;
    }
    let output = sites.command("failover", a, b, &flags).await?;
    ensure!(output.code == Some(0), "{output:?}");
    ensure!(output.stdout.contains("5 pods restarted and ready"), "{}", output.stdout);
    deleted_once_by_each_step(b.plane, 2)?;
    journal_tells(&sites, &[Step::RestartFirst, Step::RestartServices]).await
}

/// Elasticsearch on the standby, in a namespace that is not synchronized, and a synchronizer that has caught up.
async fn prepare(fixture: &Fixture, sites: &Sites<'_>) -> Result<etcd_sync_integration::daemon::Daemon> {
    let es = workload("StatefulSet", "es", ("service_name", "cpaas-elasticsearch"), REPLICAS);
    sites.b.plane.api().create(&es).await?;
    let daemon = sites.sync(sites.a, sites.b).await?;
    fixture.pair.caught_up().await?;
    await_ready(sites.b.plane.api(), ES, REPLICAS).await?;
    await_ready(sites.b.plane.api(), TRANSFORMER, 1).await?;
    Ok(daemon)
}

/// Kills a command as soon as it has deleted a pod.
async fn killed_when_pods_go(command: &mut Process, api: &Api) -> Result<()> {
    let deadline = Instant::now() + COMMAND;
    loop {
        let found = pods(api, ES).await?;
        if found.iter().any(|pod| !pod["metadata"]["deletionTimestamp"].is_null()) {
            return command.kill().map(drop);
        }
        if let Some(status) = command.exited()? {
            anyhow::bail!("the command has ended before it deleted a pod: {status}");
        }
        ensure!(Instant::now() < deadline, "no pod is deleted within {COMMAND:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The entry of the run that is not finished, read without a command.
async fn open_run(link: &Link) -> Result<Option<Run>> {
    let Some(open) = link.standby.get(&link.keys.open_run).await? else { return Ok(None) };
    let entry = link.standby.get(&link.keys.journal_entry(str::from_utf8(&open.value)?)).await?;
    Ok(Some(Run::decode(&entry.context("an open run has an entry")?.value)?))
}

/// The open run stands in the middle of a step.
async fn stands_at(link: &Link, step: Step) -> Result<()> {
    let run = open_run(link).await?.context("a run is open")?;
    let last = run.steps.last().context("a step was begun")?;
    ensure!(last.step == step && last.outcome.is_none(), "it was not killed in {}: {last:?}", step.name());
    Ok(())
}

/// Elasticsearch belongs to both steps, the other to the last one. A request that was under way when its command was killed may
/// have been carried out without an answer.
fn deleted_once_by_each_step(plane: &ControlPlane, steps: usize) -> Result<()> {
    let (times, all) = deletions(plane)?;
    let most = |name: &str| if name.starts_with("es-") { steps } else { 1 };
    let es = times.keys().filter(|name| name.starts_with("es-")).count();
    ensure!(es + 1 >= REPLICAS, "{times:?}: {all:#?}");
    ensure!(times.iter().all(|(name, times)| *times <= most(name)), "deleted twice: {times:?}: {all:#?}");
    Ok(())
}

/// How often the command has deleted the pods of each name; and all deletions of pods. The node deletes what it has ended, by
/// its name and now and then twice: then a pod is created again that no command has touched.
fn deletions(plane: &ControlPlane) -> Result<(BTreeMap<String, usize>, Vec<AuditEvent>)> {
    let mut events = plane.audit()?;
    events.retain(|event| event.verb == "delete" && event.resource == "pods");
    let mut times = BTreeMap::new();
    let by_command = |event: &&AuditEvent| event.user == "admin" && !event.agent.starts_with("kwok");
    for event in events.iter().filter(by_command).filter(|event| event.status == 200) {
        *times.entry(event.name.clone()).or_default() += 1;
    }
    Ok((times, events))
}

/// One run, complete, with a call more than kills; it tells in which steps it was interrupted.
async fn journal_tells(sites: &Sites<'_>, killed: &[Step]) -> Result<()> {
    let output = sites.command("journal", sites.a, sites.b, &["-o", "json"]).await?;
    let document: serde_json::Value = serde_json::from_str(&output.stdout).with_context(|| format!("{output:?}"))?;
    let runs = document["runs"].as_array().context("there are runs")?;
    ensure!(runs.len() == 1, "{document:#}");
    let run: Run = serde_json::from_value(runs[0]["run"].clone())?;
    ensure!(run.state == State::Completed && run.attempts.len() == killed.len() + 1, "{run:?}");
    let interrupted: BTreeSet<Step> =
        run.steps.iter().filter(|record| record.outcome.is_none()).map(|record| record.step).collect();
    ensure!(interrupted == killed.iter().copied().collect(), "{run:?}");
    let shown = sites.command("journal", sites.a, sites.b, &[&run.id]).await?.stdout;
    println!("{shown}");
    ensure!(shown.matches("went on").count() == killed.len(), "{shown}");
    for step in killed {
        let told = shown.lines().any(|line| line.contains(step.name()) && line.contains("interrupted"));
        ensure!(told, "{} is not told: {shown}", step.name());
    }
    assert_fits(&shown)
}
