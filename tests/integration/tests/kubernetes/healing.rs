//! What is deleted on the standby comes back, whoever deleted it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use etcd_sync_core::etcd::kv::{Event, printable};
use etcd_sync_integration::compare::await_true;
use etcd_sync_integration::daemon::Daemon;
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::kube::objects::{APPS, GROUP, create_crds, key_of};
use etcd_sync_integration::kube::{KubePair, PairOptions, path};
use serde_json::Value;

use crate::owners::{prepare, present, ready_to_collect};

/// All keys must be there for this long before a wave is over: the collector works in waves too.
const CALM: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_dependents_come_back() -> Result<()> {
    let (pair, family) = families(16).await?;
    // It leads on when it wakes: only the replay is looked at here.
    let daemon = pair.sync(&["--leader-ttl=60s"]).await?;
    let outcome = waves(&pair, &daemon, &family).await;
    pair.explain(Some(&daemon), outcome)
}

async fn waves(pair: &KubePair, daemon: &Daemon, family: &[Value]) -> Result<()> {
    let standby = pair.standby.api();
    let (widgets, dependents): (Vec<_>, Vec<_>) = family.iter().partition(|object| object["kind"] == "Widget");

    let begun = pair.link.standby.revision().await?;
    for object in &dependents {
        // Each is deleted at most once by hand, for the collector takes what belonged to it.
        let answer = standby.request("DELETE", &path(object)?, None).await?;
        ensure!(matches!(answer.status, 200 | 404), "{}", answer.text());
    }
    came_back(pair, begun, family, "dependents deleted by hand").await?;

    // kubectl deletes in the background: the collector takes what it finds without an owner.
    let begun = pair.link.standby.revision().await?;
    let names: Vec<&str> = widgets.iter().filter_map(|widget| widget["metadata"]["name"].as_str()).collect();
    let mut args = vec!["delete", "widgets", "-n", APPS, "--wait=false"];
    args.extend(&names);
    pair.standby.kubectl(&args).await?;
    came_back(pair, begun, family, "owners deleted by hand").await?;

    // A collector that starts again finds owners absent, for the daemon had no chance to bring them back.
    daemon.pause()?;
    pair.standby.kill_controllers()?;
    for widget in &widgets {
        standby.delete(&path(widget)?).await?;
    }
    let before = collected(pair)?;
    pair.standby.start_controllers()?;
    let took = || async { Ok(collected(pair)? >= before + dependents.len()) };
    await_true("the new collector has taken all dependents", PATIENCE, took).await?;
    let begun = pair.link.standby.revision().await?;
    daemon.resume()?;
    came_back(pair, begun, family, "dependents deleted by a restarted collector").await?;
    ensure!(daemon.exited()?.is_none(), "the daemon ended");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_replays_what_was_deleted_meanwhile() -> Result<()> {
    let (pair, family) = families(8).await?;
    let daemon = pair.sync(&[]).await?;
    daemon.terminate(PATIENCE).await?;
    drop(daemon);
    // Owners: the collector then takes whole families.
    let listed = format!("/apis/{GROUP}/v1/namespaces/{APPS}/widgets");
    pair.standby.api().delete(&listed).await?;
    let owners = family.iter().filter(|object| object["kind"] == "Widget").count();
    let took = || async { Ok(collected(&pair)? >= family.len() - owners) };
    await_true("the collector has taken all dependents", PATIENCE, took).await?;
    let begun = pair.link.standby.revision().await?;
    let daemon = pair.sync(&[]).await?;
    let outcome = came_back(&pair, begun, &family, "after a restart of the daemon").await;
    pair.explain(Some(&daemon), outcome)
}

async fn families(owners: usize) -> Result<(KubePair, Vec<Value>)> {
    let pair = KubePair::start(PairOptions::new()).await?;
    create_crds(pair.primary.api()).await?;
    let family = prepare(&pair, owners).await?;
    ready_to_collect(&pair.standby).await?;
    Ok((pair, family))
}

fn collected(pair: &KubePair) -> Result<usize> {
    let events = pair.standby.audit()?;
    Ok(events.iter().filter(|event| event.is_collected() && event.namespace == APPS).count())
}

/// Waits until everything is there and stays there; fails when a key is away for too long. Prints the longest time.
async fn came_back(pair: &KubePair, begun: i64, family: &[Value], what: &str) -> Result<()> {
    let keys: Vec<Bytes> = family.iter().map(key_of).collect::<Result<_>>()?;
    let mut away: BTreeMap<&Bytes, Instant> = BTreeMap::new();
    let (mut longest, mut calm) = (Duration::ZERO, Instant::now());
    while calm.elapsed() < CALM {
        let now = Instant::now();
        let there = pair.standby_keys().await?;
        for key in &keys {
            if there.contains_key(key) {
                longest = longest.max(away.remove(key).map_or(Duration::ZERO, |since| since.elapsed()));
            } else {
                away.entry(key).or_insert(now);
                calm = now;
            }
        }
        if let Some((key, since)) = away.iter().find(|(_, since)| now - **since > PATIENCE) {
            let (lost, all) = (away.len(), keys.len());
            bail!("{what}: {lost} of {all} keys are away, {} for {:?}", printable(key), now - *since);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let history = pair.link.standby_history(begun + 1).await?;
    let deletions =
        history.iter().filter(|event| matches!(event, Event::Delete { .. }) && keys.contains(event.key())).count();
    println!("{what}: {deletions} deletions, the longest absence was {longest:?}");
    present(pair, family).await.with_context(|| what.to_owned())
}
