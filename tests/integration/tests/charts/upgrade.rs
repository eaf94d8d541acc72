//! An upgrade from an earlier chart goes on from the checkpoint while the primary is written to; uninstalling leaves the link as it is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use etcd_sync_core::link::state::Phase;
use etcd_sync_integration::compare::await_until;
use etcd_sync_integration::daemon::Daemon;
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::kube::Api;
use etcd_sync_integration::kube::objects::{APPS, config_map};
use etcd_sync_integration::kube::pod::Container;
use etcd_sync_integration::link::await_ready;
use etcd_sync_integration::ports;
use serde_json::{Value, json};

use crate::fixture::{bootstrap_pod, end};
use crate::helm::{Helm, succeeded};
use crate::release::{Release, await_holder, json_of, role};
use crate::sites::{Sites, secret};
use crate::{CHART, NAMESPACE, file};

const EARLIER: &str = "0.0.9";
/// What the pods have to end.
const GRACE: Duration = Duration::from_secs(30);
/// Between two writes.
const PAUSE: Duration = Duration::from_millis(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_goes_on_from_the_checkpoint_and_uninstalling_leaves_it() -> Result<()> {
    let (sites, helm) = (Sites::start().await?, Helm::new()?);
    let told = comes_changes_and_goes(&sites, &helm).await;
    sites.pair.explain(None, told)
}

async fn comes_changes_and_goes(sites: &Sites, helm: &Helm) -> Result<()> {
    let pair = &sites.pair;
    let values = helm.values("form.yaml", &sites.least())?;
    run(sites, helm, &["install"], &earlier(helm)?, &values).await.context("install")?;
    let release = Release::installed(pair, &sites.node).await?;
    ensure!(version(&release)? == EARLIER, "{}", version(&release)?);
    let (one, other) = ("etcd-sync-64f8d-aaaaa", "etcd-sync-64f8d-bbbbb");
    let first = release.synchronizer(one).await?;
    first.wait_line("first sync begins", PATIENCE).await?;
    first.wait_line("Start Sync update", PATIENCE).await?;
    let old = [first, release.synchronizer(other).await?];
    await_ready(&old[1], 200, "", PATIENCE).await?;
    let monitor = release.monitor("etcd-sync-monitor-5c7b6-aaaaa").await?;
    await_holder(pair, one).await?;
    let before = pair.link.checkpoint().await?.context("a record")?;

    let stop = AtomicBool::new(false);
    let rolled = async {
        let rolled = upgrade(sites, helm, &values, old, monitor).await;
        stop.store(true, Ordering::Relaxed);
        rolled
    };
    let (written, rolled) = tokio::join!(keep_writing(pair.primary.api(), &stop), rolled);
    let (pods, monitor) = rolled.context("upgrade")?;
    let written = written?;
    pair.caught_up().await?;
    let report = json_of(&monitor, "/check?deep=1").await?;
    ensure!(report["localMissedKeys"] == json!([]) && report["mismatched"] == 0, "{report}");
    let last = format!("/api/v1/namespaces/{APPS}/configmaps/during-{}", written - 1);
    pair.standby.api().need(&last).await?;
    let after = pair.link.checkpoint().await?.context("a record")?;
    ensure!(after.phase == Phase::Streaming && after.base == before.base, "{before:?} {after:?}");
    ensure!(after.writes > before.writes && after.epoch > before.epoch, "{before:?} {after:?}");

    values_that_would_end_it_are_refused(sites, helm, &values).await?;
    a_primary_that_is_gone_forbids_nothing(sites, helm, &values).await.context("without a primary")?;

    succeeded(helm.at(&pair.standby, &["uninstall", "etcd-sync"])?.output()?)?;
    for pod in &pods {
        pod.terminate(GRACE).await?;
    }
    monitor.terminate(GRACE).await?;
    let left = pair.link.checkpoint().await?.context("the checkpoint went with the release")?;
    ensure!(left.base == before.base && left.writes >= after.writes && left.revision >= after.revision, "{left:?}");
    ensure!(role(pair).await? == "standby", "{}", role(pair).await?);
    pair.standby.api().need(&last).await?;
    for name in ["etcd-sync-standby-etcd", "etcd-sync-encryption", "remote-etcd-client"] {
        pair.standby.api().need(&format!("/api/v1/namespaces/{NAMESPACE}/secrets/{name}")).await?;
    }
    Ok(())
}

/// The chart of the tree takes the place of the earlier one, pod by pod. Returns what runs then.
async fn upgrade(
    sites: &Sites,
    helm: &Helm,
    values: &Path,
    old: [Daemon; 2],
    monitor: Daemon,
) -> Result<(Vec<Daemon>, Daemon)> {
    let pair = &sites.pair;
    run(sites, helm, &["upgrade"], &file(CHART), values).await?;
    let release = Release::installed(pair, &sites.node).await?;
    ensure!(version(&release)? == env!("CARGO_PKG_VERSION"), "the pods stay: {}", version(&release)?);
    let names = ["etcd-sync-7d9c5-ccccc", "etcd-sync-7d9c5-ddddd"];
    let mut pods = Vec::new();
    // maxSurge 1, maxUnavailable 0.
    for (name, old) in names.into_iter().zip(&old) {
        let pod = release.synchronizer(name).await?;
        await_ready(&pod, 200, "", PATIENCE).await?;
        ensure!(old.terminate(GRACE).await?.success(), "the old pod ends badly:\n{}", old.tail());
        pods.push(pod);
    }
    let next = release.monitor("etcd-sync-monitor-7d9c5-ccccc").await?;
    await_ready(&next, 200, "", PATIENCE).await?;
    monitor.terminate(GRACE).await?;
    // The one that waits for longest takes over.
    pods[0].wait_line("Acquired leader lease", PATIENCE).await?;
    pods[0].wait_line("Start Sync update", PATIENCE).await?;
    await_holder(pair, names[0]).await?;
    for pod in pods.iter().chain(&old[1..]) {
        for line in ["first sync begins", "resync by difference begins"] {
            ensure!(!pod.lines().iter().any(|logged| logged.contains(line)), "it started again:\n{}", pod.tail());
        }
    }
    Ok((pods, next))
}

/// While the running pods are connected to the primary, an upgrade behind which they would not go on is a mistake. Nothing is changed.
async fn values_that_would_end_it_are_refused(sites: &Sites, helm: &Helm, values: &Path) -> Result<()> {
    let nobody = ports::free(1)?;
    let nowhere = format!("active_cluster_etcd_endpoints=https://127.0.0.1:{}", nobody[0]);
    let standby = sites.pair.link.standby.endpoint(0);
    let own =
        format!("active_cluster_etcd_endpoints={standby},primary.caSecret=own-etcd,primary.clientSecret=own-etcd");
    own_secret(sites).await?;
    let before = secrets(sites).await?;
    for (mistake, code, said) in [
        (nowhere.as_str(), 1, "is connected to the primary, and this Job is not"),
        (&own, 1, "these values name another cluster"),
        ("encryption.hostFile=", 1, "the running replication continues unchanged"),
        ("link=another", 1, "with the link default: is --link"),
        ("standby.hostFiles.cert=ca.crt", 2, "the files of this node are not in order"),
    ] {
        let set = format!("--set={mistake}");
        let (output, job) = attempt(sites, helm, &["upgrade", &set], &file(CHART), values).await?;
        let told = told(&job);
        ensure!(!output.status.success(), "helm took {mistake}: {told}");
        ensure!(job.status.code() == Some(code) && told.contains(said), "{mistake}: {told}");
        ensure!(secrets(sites).await? == before, "{mistake}: the Secrets of those that run were changed");
    }
    ports::release(nobody);
    Ok(())
}

/// What the bootstrap Job makes.
async fn secrets(sites: &Sites) -> Result<Vec<Value>> {
    let mut data = Vec::new();
    for name in ["etcd-sync-standby-etcd", "etcd-sync-encryption"] {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/secrets/{name}");
        data.push(sites.pair.standby.api().need(&path).await?["data"].take());
    }
    Ok(data)
}

/// The way into the standby's own etcd, as if it were a primary's.
async fn own_secret(sites: &Sites) -> Result<()> {
    let certs = sites.pair.link.standby.certs().context("certificates")?;
    let files = [("ca.crt", &certs.ca), ("tls.crt", &certs.client_cert), ("tls.key", &certs.client_key)];
    let files = files.map(|(key, file)| fs::read(file).map(|content| (key, content)));
    secret(&sites.pair, "own-etcd", &files.into_iter().collect::<Result<Vec<_>, _>>()?).await
}

/// On the worst day a limit, an image or a toleration must still be possible to change.
async fn a_primary_that_is_gone_forbids_nothing(sites: &Sites, helm: &Helm, values: &Path) -> Result<()> {
    sites.pair.link.primary.kill_all()?;
    await_until("the last contact with the primary is old, and the upgrade goes through", PATIENCE, || async {
        let (output, job) = attempt(sites, helm, &["upgrade"], &file(CHART), values).await?;
        let told = told(&job);
        let warned = told.contains("the preflight is incomplete") && told.contains("This pauses nothing here");
        Ok((!output.status.success() || !warned).then_some(told))
    })
    .await
}

/// The chart as an earlier version.
fn earlier(helm: &Helm) -> Result<PathBuf> {
    let (chart, folder) = (file(CHART), helm.home().to_string_lossy().into_owned());
    let version = ["--version", EARLIER, "--app-version", EARLIER, "--destination", &folder];
    succeeded(helm.run(&[&["package", &chart.to_string_lossy()], &version[..]].concat())?)?;
    Ok(helm.home().join(format!("etcd-sync-{EARLIER}.tgz")))
}

/// `helm install` or `upgrade`, where the node runs the bootstrap Job's pod.
async fn run(sites: &Sites, helm: &Helm, verb: &[&str], chart: &Path, values: &Path) -> Result<()> {
    let (output, job) = attempt(sites, helm, verb, chart, values).await?;
    succeeded(output).with_context(|| format!("the bootstrap Job says: {}", told(&job))).map(drop)
}

/// What helm says, and what the bootstrap Job's pod.
async fn attempt(sites: &Sites, helm: &Helm, verb: &[&str], chart: &Path, values: &Path) -> Result<(Output, Output)> {
    let (plane, chart, values) = (&sites.pair.standby, chart.to_string_lossy(), values.to_string_lossy());
    let args = [verb, &["etcd-sync", &chart, "--values", &values, "--timeout=5m"]].concat();
    let mut command = tokio::process::Command::from(helm.at(plane, &args)?);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn()?;
    let (ran, output) = tokio::join!(bootstrap(sites), child.wait_with_output());
    Ok((output?, ran?))
}

fn told(job: &Output) -> String {
    [&job.stdout, &job.stderr].map(|bytes| String::from_utf8_lossy(bytes)).concat()
}

/// Plays kubelet for the bootstrap Job's pod.
async fn bootstrap(sites: &Sites) -> Result<Output> {
    let plane = &sites.pair.standby;
    let pod = bootstrap_pod(plane.api(), NAMESPACE).await?;
    // The pod itself has more than the harness knows: its account's volume.
    let job = plane.api().need(&format!("/apis/batch/v1/namespaces/{NAMESPACE}/jobs/etcd-sync-bootstrap")).await?;
    let name = pod["metadata"]["name"].as_str().context("a pod has a name")?;
    let template = &job["spec"]["template"];
    let container = Container::new(plane, NAMESPACE, template, "bootstrap", name, &sites.node).await?;
    let output = container.run().await?;
    // The Job tries again after a 2, on another node perhaps: here there is only this one.
    end(plane.api(), &pod, output.status.code().map_or(137, |code| code.min(1))).await?;
    Ok(output)
}

/// ConfigMaps until `stop`; returns how many there are.
async fn keep_writing(api: &Api, stop: &AtomicBool) -> Result<usize> {
    let (mut written, mut ticks) = (0, tokio::time::interval(PAUSE));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !stop.load(Ordering::Relaxed) {
        api.create(&config_map(APPS, &format!("during-{written}"), &[])).await?;
        written += 1;
        ticks.tick().await;
    }
    ensure!(written > 0, "nothing was written meanwhile");
    Ok(written)
}

/// The chart's version that the pods are made of.
fn version(release: &Release<'_>) -> Result<String> {
    let labels: &Value = &release.template("etcd-sync")?["metadata"]["labels"];
    Ok(labels["app.kubernetes.io/version"].as_str().context("a label")?.to_owned())
}
