//! A primary, a standby, and what a test wants to know about the link between them.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use etcd_sync_core::etcd::kv::{Event, KeyRange, KeyValue, Revision};
use etcd_sync_core::etcd::request::{Op, Txn};
use etcd_sync_core::link::state::{Checkpoint, Phase, StateKeys};
use etcd_sync_core::scope::{Scope, ScopeConfig};
use etcd_sync_store::Side;

use crate::client::Client;
use crate::compare::{Difference, await_until, dump};
use crate::daemon::{Daemon, Output, run_command};
use crate::etcd::{Cluster, ClusterOptions};
use crate::exact::is_synchronized;
use crate::toxiproxy::Toxiproxy;

/// Everything Kubernetes keeps.
pub fn registry() -> KeyRange {
    KeyRange::prefix(b"/registry/")
}

/// Two clusters and the names of the default link between them.
#[derive(Debug)]
pub struct Link {
    /// The cluster that is read.
    pub primary: Cluster,
    /// The cluster that is written.
    pub standby: Cluster,
    /// Where the link's state lies.
    pub keys: StateKeys,
}

impl Link {
    /// Starts both clusters.
    pub async fn start(primary: ClusterOptions, standby: ClusterOptions) -> Result<Link> {
        let (primary, standby) = tokio::try_join!(Cluster::start(primary), Cluster::start(standby))?;
        Ok(Link { primary, standby, keys: StateKeys::new("default") })
    }

    /// The flags that name both clusters, and these.
    pub fn flags(&self, more: &[&str]) -> Vec<String> {
        let mut flags = self.primary.flags(Side::Primary);
        flags.extend(self.standby.flags(Side::Standby));
        flags.extend(more.iter().map(|&flag| flag.to_owned()));
        flags
    }

    /// The same, with ways to these sides.
    pub fn flags_over(&self, ways: &[(Side, &Toxiproxy)], more: &[&str]) -> Vec<String> {
        let mut flags = self.flags(more);
        for (side, way) in ways {
            flags.retain(|flag| !flag.starts_with(&format!("--{side}-endpoints=")));
            flags.push(format!("--{side}-endpoints=http://127.0.0.1:{}", way.port()));
        }
        flags
    }

    /// Starts a daemon for the link.
    pub fn daemon(&self, more: &[&str]) -> Result<Daemon> {
        Daemon::start(&self.flags(more), &[])
    }

    /// Runs a command for the link to its end.
    pub async fn run(&self, command: &str, more: &[&str]) -> Result<Output> {
        let mut args = vec![command.to_owned()];
        args.extend(self.flags(more));
        run_command(&args).await
    }

    /// Starts a monitor of the link.
    pub fn monitor(&self, more: &[&str]) -> Result<Daemon> {
        Daemon::start_monitor("127.0.0.1", &self.flags(more), &[])
    }

    /// The record as it stands; `None` before the first one.
    pub async fn checkpoint(&self) -> Result<Option<Checkpoint>> {
        let found = self.standby.get(&self.keys.checkpoint).await?;
        Ok(found.map(|kv| Checkpoint::decode(&kv.value)).transpose()?)
    }

    /// How the standby differs now from the primary's keys in scope. Meaningful only while nobody writes.
    pub async fn difference(&self) -> Result<Difference> {
        let scope = Scope::new(&ScopeConfig::default())?;
        let (primary, standby) = (self.primary.client(), self.standby.client());
        let range = registry();
        let (mut expected, mut actual) = tokio::try_join!(dump(&primary, &range, 0), dump(&standby, &range, 0))?;
        expected.retain(|_, kv| is_synchronized(&scope, kv));
        actual.retain(|_, kv| is_synchronized(&scope, kv));
        Ok(Difference::between(&expected, &actual))
    }

    /// Waits until the record says that the standby is consistent with exactly the primary's present revision. Nobody may write.
    pub async fn await_caught_up(&self, timeout: Duration) -> Result<()> {
        let head = self.primary.revision().await?;
        await_until("the checkpoint reaches the primary", timeout, || async {
            let Some(checkpoint) = self.checkpoint().await? else { return Ok(Some("no checkpoint".to_owned())) };
            // With an offset, a part of that revision is still to come.
            let reached = checkpoint.phase == Phase::Streaming && (checkpoint.revision, checkpoint.offset) == (head, 0);
            let (phase, at) = (checkpoint.phase.name(), checkpoint.revision);
            Ok((!reached).then(|| format!("{phase} at {at} of {head}")))
        })
        .await
    }

    /// Waits until the link has caught up, then fails unless both sides hold the same. Nobody may write.
    pub async fn await_equal(&self, timeout: Duration) -> Result<()> {
        self.await_caught_up(timeout).await?;
        let difference = self.difference().await?;
        if !difference.is_empty() {
            bail!("the record says caught up, but the standby differs:\n{difference}");
        }
        Ok(())
    }

    /// Everything synchronized, and the record: what must not move while replication is paused.
    pub async fn synchronized_state(&self) -> Result<BTreeMap<Bytes, KeyValue>> {
        let mut all = dump(&self.standby.client(), &registry(), 0).await?;
        for key in [&self.keys.checkpoint, &self.keys.copied] {
            all.extend(self.standby.get(key).await?.map(|kv| (key.clone(), kv)));
        }
        Ok(all)
    }

    /// Every change of the standby from `from` on, as its history tells it.
    pub async fn standby_history(&self, from: Revision) -> Result<Vec<Event>> {
        history(&self.standby.client(), from).await
    }

    /// The records of a history, in their order, each with the revision that wrote it.
    pub fn checkpoints(&self, history: &[Event]) -> Result<Vec<(Revision, Checkpoint)>> {
        let puts = history.iter().filter_map(|event| match event {
            Event::Put(kv) if kv.key == self.keys.checkpoint => Some(kv),
            _ => None,
        });
        puts.map(|kv| Ok((kv.mod_revision, Checkpoint::decode(&kv.value)?))).collect()
    }

    /// The election's keys now, oldest first: the first one leads.
    pub async fn candidates(&self) -> Result<Vec<KeyValue>> {
        let found = dump(&self.standby.client(), &KeyRange::prefix(&self.keys.leader_prefix), 0).await?;
        let mut found: Vec<KeyValue> = found.into_values().collect();
        found.sort_by_key(|kv| kv.create_revision);
        Ok(found)
    }
}

/// Every change of a cluster from `from` on up to now. Writes one key outside of everything, as the end.
pub async fn history(client: &Client, from: Revision) -> Result<Vec<Event>> {
    let end = Bytes::from_static(b"end-of-history");
    let mark = Op::Put { key: end.clone(), value: Bytes::new(), lease: 0 };
    let last = client.txn(Txn { success: vec![mark], ..Txn::default() }).await?.revision;
    let everything = KeyRange { start: Bytes::from_static(b"\0"), end: Bytes::new() };
    let mut watch = client.watch(everything, from).await?;
    let mut all = Vec::new();
    loop {
        let next = tokio::time::timeout(Duration::from_secs(30), watch.next()).await;
        for event in next.context("the history does not end")?? {
            if event.revision() >= last {
                return Ok(all);
            }
            if event.key() != &end {
                all.push(event);
            }
        }
    }
}

/// Waits until `/readyz` answers with this status and a text that holds `text`.
pub async fn await_ready(daemon: &Daemon, status: u16, text: &str, timeout: Duration) -> Result<()> {
    await_until(&format!("/readyz is {status} with {text:?}"), timeout, || async {
        let (got, body) = daemon.http("/readyz").await?;
        Ok((got != status || !body.contains(text)).then(|| format!("{got}: {body}")))
    })
    .await
}

/// Keys like a team's ConfigMaps: in scope.
pub fn config_keys(count: usize) -> Vec<Bytes> {
    (0..count).map(|i| Bytes::from(format!("/registry/configmaps/team-a/settings-{i:04}"))).collect()
}
