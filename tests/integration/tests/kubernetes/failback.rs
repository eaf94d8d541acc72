//! Switchover and failback: the roles change and change back between two real control planes and a real name server, while
//! clients follow the name and write all the time.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use etcd_sync_integration::compare::await_true;
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::kube::ControlPlane;
use etcd_sync_integration::kube::objects::{APPS, config_map};
use etcd_sync_integration::transcript;
use serde_json::Value;

use crate::fixture::{COMMAND, Fixture, NAME, Site, Sites};
use crate::restart;

/// What clients were told.
#[derive(Default)]
struct Written {
    /// Acknowledged: the object's name, who took it, and the revision.
    acknowledged: Mutex<Vec<(String, Ipv4Addr, i64)>>,
    /// How many were sent: each has its number as its name.
    sent: AtomicUsize,
    stop: AtomicBool,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn switchover_and_failback_lose_nothing() -> Result<()> {
    let fixture = Fixture::start().await?;
    let sites = fixture.sites();
    let written = Written::default();
    let (told, ()) = tokio::join!(
        async {
            let told = switchover_and_failback(&sites, &written).await;
            written.stop.store(true, Ordering::Relaxed);
            told
        },
        clients(&sites, &written),
    );
    fixture.pair.explain(None, told)
}

async fn switchover_and_failback(sites: &Sites<'_>, written: &Written) -> Result<()> {
    let Sites { a, b, .. } = *sites;
    let daemon = sites.sync(a, b).await?;
    written.await_more(20).await?;
    sites.switchover(a, b).await?;
    written.await_more(20).await?;
    // The synchronizer of the old direction is held for good.
    daemon.wait_line("was promoted", PATIENCE).await?;
    drop(daemon);

    let rejoin = sites.command("rejoin", b, a, &["--yes"]).await?;
    ensure!(rejoin.code == Some(0), "{rejoin:?}");
    sites.revive(a).await?;
    let daemon = sites.sync(b, a).await?;
    written.await_more(20).await?;
    sites.switchover(b, a).await?;
    written.await_more(20).await?;
    drop(daemon);
    sites.nothing_is_lost(a, written).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_is_killed_loses_what_was_said_and_rejoins_with_it_saved() -> Result<()> {
    let fixture = Fixture::start().await?;
    let sites = fixture.sites();
    let written = Written::default();
    let (told, ()) = tokio::join!(
        async {
            let told = killed_and_back(&sites, &written).await;
            written.stop.store(true, Ordering::Relaxed);
            told
        },
        clients(&sites, &written),
    );
    fixture.pair.explain(None, told)
}

async fn killed_and_back(sites: &Sites<'_>, written: &Written) -> Result<()> {
    let Sites { a, b, folder, .. } = *sites;
    let daemon = sites.sync(a, b).await?;
    written.await_more(20).await?;
    // What no synchronizer receives any more is lost.
    daemon.kill()?;
    written.await_more(20).await?;
    a.plane.kill_controllers()?;
    a.plane.kill_apiserver()?;
    a.etcd.kill_all()?;

    let output = sites.command("failover", a, b, &["--yes", "--accept-unchecked", "-o", "json"]).await?;
    ensure!(output.code == Some(0), "{output:?}");
    let report: Value = serde_json::from_str(&output.stdout)?;
    let loss = &report["run"]["loss"];
    let (applied, offset) = (loss["appliedRevision"].as_i64().context("a revision")?, &loss["offset"]);
    ensure!(*offset == 0, "{loss}");
    print_times("failover", &report);
    written.await_more(20).await?;
    // A synchronizer of the old direction is held for good.
    let daemon = sites.daemon(a, b)?;
    daemon.wait_line("was promoted", PATIENCE).await?;
    drop(daemon);

    // Exactly what it said: all up to that revision is there, and nothing later.
    let there = names(b.plane).await?;
    let by_a = written.by(a.address);
    let (kept, lost): (Vec<_>, Vec<_>) = by_a.iter().partition(|(_, revision)| *revision <= applied);
    ensure!(!lost.is_empty(), "nothing was lost, so nothing was tried: applied {applied} of {by_a:?}");
    ensure!(kept.iter().all(|(name, _)| there.contains(name)), "something at or below {applied} is lost");
    ensure!(lost.iter().all(|(name, _)| !there.contains(name)), "something above {applied} is there");

    // It comes back with its disks.
    a.etcd.restart_all().await?;
    let file = folder.join("saved.jsonl");
    let saved = format!("--backup={}", file.display());
    let output = sites.command("rejoin", b, a, &["--yes", &saved, "-o", "json"]).await?;
    ensure!(output.code == Some(0), "{output:?}");
    let text = std::fs::read_to_string(&file)?;
    let keys: BTreeSet<String> = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok()?["key"].as_str().map(str::to_owned))
        .filter(|key| key.contains("/w-"))
        .collect();
    let expected: BTreeSet<String> =
        lost.iter().map(|(name, _)| format!("/registry/configmaps/{APPS}/{name}")).collect();
    // A write that nobody waited for to the end may be there without anybody having been told.
    let acknowledged: BTreeSet<String> = written.all().into_iter().map(|(name, ..)| name).collect();
    let unanswered = (0..written.sent.load(Ordering::Relaxed)).map(|number| format!("w-{number:06}"));
    let unanswered: BTreeSet<String> = unanswered
        .filter(|name| !acknowledged.contains(name))
        .map(|name| format!("/registry/configmaps/{APPS}/{name}"))
        .collect();
    ensure!(
        keys.is_superset(&expected) && keys.difference(&expected).all(|key| unanswered.contains(key)),
        "saved {keys:?}, and {expected:?} was lost"
    );
    sites.revive(a).await?;
    let _daemon = sites.sync(b, a).await?;
    let check = sites.command("check", b, a, &["-o", "json"]).await?;
    ensure!(serde_json::from_str::<Value>(&check.stdout)?["missed"] == 0, "{check:?}");
    ensure!(
        names(a.plane).await?.is_disjoint(&lost.iter().map(|(name, _)| name.clone()).collect()),
        "what was saved is still there"
    );
    Ok(())
}

impl Sites<'_> {
    /// Changes the roles; whoever is asked to stop the API server does so.
    async fn switchover(&self, from: Site<'_>, to: Site<'_>) -> Result<()> {
        let (asked, done) =
            (self.folder.join(format!("stop-{}", from.name)), self.folder.join(format!("stopped-{}", from.name)));
        let stop = format!(
            "--stop-writers-command=touch {}; until [ -e {} ]; do sleep 0.05; done",
            asked.display(),
            done.display()
        );
        let flags = ["--yes", &stop];
        let sentry = restart::pods(to.plane.api(), "app=sentry").await?;
        let sentry =
            sentry.first().and_then(|pod| pod["metadata"]["name"].as_str()).context("there is one")?.to_owned();
        let command = self.command("switchover", from, to, &flags);
        let operator = async {
            await_true("the writers are asked to stop", COMMAND, || async { Ok(asked.exists()) }).await?;
            from.plane.kill_controllers()?;
            from.plane.kill_apiserver()?;
            std::fs::write(&done, "")?;
            anyhow::Ok(())
        };
        let (output, operated) = tokio::join!(command, operator);
        let output = output?;
        operated.with_context(|| format!("{output:?}"))?;
        ensure!(output.code == Some(0), "{output:?}");
        println!("{}", output.stdout);
        ensure!(output.stdout.contains("\nRecovery point  nothing was lost"), "{output:?}");
        if from.name == self.a.name {
            // How it ends where the standby's API server is known.
            let (_, taken) = output.stdout.rsplit_once("\n   1  preflight ").context("the steps are told")?;
            let (_, end) = taken.split_once("\n   9  ").context("dns-switch is told")?;
            transcript::quoted("switchover-end", &format!("   9  {end}"), |text| {
                self.told(text).replace(&sentry, "sentry-7c644d9f64-x2x4k")
            })?;
        }
        Ok(())
    }

    /// The control plane of a site starts again.
    async fn revive(&self, site: Site<'_>) -> Result<()> {
        site.plane.start_apiserver().await?;
        site.plane.start_controllers()
    }

    /// Every acknowledged write is there.
    async fn nothing_is_lost(&self, site: Site<'_>, written: &Written) -> Result<()> {
        // Before the look: clients go on meanwhile.
        let acknowledged = written.all();
        let there = names(site.plane).await?;
        let lost: Vec<_> = acknowledged.into_iter().filter(|(name, ..)| !there.contains(name)).collect();
        ensure!(lost.is_empty(), "acknowledged, and not on {}: {lost:?}", site.name);
        ensure!(
            !written.by(self.a.address).is_empty() && !written.by(self.b.address).is_empty(),
            "one site took nothing"
        );
        Ok(())
    }
}

/// Clients look the name up and write, again and again.
async fn clients(sites: &Sites<'_>, written: &Written) {
    while !written.stop.load(Ordering::Relaxed) {
        let address = sites.bind.lookup(NAME).await.first().copied();
        let site = [sites.a, sites.b].into_iter().find(|site| Some(site.address) == address);
        if let Some(site) = site {
            let name = format!("w-{:06}", written.sent.fetch_add(1, Ordering::Relaxed));
            let object = config_map(APPS, &name, &[]);
            let created = tokio::time::timeout(Duration::from_secs(2), site.plane.api().create(&object)).await;
            if let Ok(Ok(object)) = created {
                let revision = object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok());
                written.lock().push((name, site.address, revision.unwrap_or(0)));
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

impl Written {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(String, Ipv4Addr, i64)>> {
        self.acknowledged.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn all(&self) -> Vec<(String, Ipv4Addr, i64)> {
        self.lock().clone()
    }

    /// What one site has acknowledged.
    fn by(&self, address: Ipv4Addr) -> Vec<(String, i64)> {
        self.all().into_iter().filter(|(_, by, _)| *by == address).map(|(name, _, revision)| (name, revision)).collect()
    }

    async fn await_more(&self, more: usize) -> Result<()> {
        let enough = self.lock().len() + more;
        await_true("clients write", PATIENCE, || async { Ok(self.lock().len() >= enough) }).await
    }
}

async fn names(plane: &ControlPlane) -> Result<BTreeSet<String>> {
    let list = plane.kubectl(&["get", "configmaps", "-n", APPS, "-o", "name"]).await?;
    Ok(list.lines().filter_map(|line| line.strip_prefix("configmap/")).map(str::to_owned).collect())
}

/// How long each step took, for people who read the test's output.
fn print_times(what: &str, report: &Value) {
    println!("{what}: recovery time {} ms", report["recoveryTimeMilliseconds"]);
    let Some(steps) = report["run"]["plan"].as_array() else { return };
    for step in steps.iter().filter_map(|planned| planned["step"].as_str()) {
        println!("  {step:16}  {:>6} ms", report["tookMilliseconds"][step]);
    }
}
