//! The exact comparison, made by the tests' own means: the standby as of one of its revisions, the record as of that same
//! revision, and the primary as of the revision the record names. It holds while both sides change.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use etcd_sync_core::etcd::kv::{KeyRange, KeyValue, Revision, printable};
use etcd_sync_core::etcd::request::{Op, Txn};
use etcd_sync_core::link::state::{Checkpoint, Phase};
use etcd_sync_core::object::encryption::Keyring;
use etcd_sync_core::scope::content::{self, Kinds};
use etcd_sync_core::scope::{Decision, Scope, ScopeConfig};

use crate::client::Client;
use crate::compare::{Difference, await_until, dump};
use crate::etcd::{Cluster, ClusterOptions};
use crate::link::{Link, registry};
use crate::tools::EtcdVersion;

/// Longest wait for anything that a healthy link does within seconds: machines stall, and a wait that succeeds costs nothing.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// Keys with all that etcd says of them.
pub type Keys = BTreeMap<Bytes, KeyValue>;

/// The standby at one of its revisions.
#[derive(Clone, Debug)]
pub struct StandbyState {
    /// That revision.
    pub at: Revision,
    /// The record then: streaming, at the end of a revision.
    pub checkpoint: Checkpoint,
    /// Everything under `/registry/` then.
    pub keys: Keys,
}

/// One member of this release.
pub fn single(version: EtcdVersion) -> ClusterOptions {
    ClusterOptions { version, ..ClusterOptions::default() }
}

/// The scope without any flags.
pub fn default_scope() -> Result<Scope> {
    Scope::new(&ScopeConfig::default()).context("the default scope is valid")
}

/// Writes keys, each with a value of its own, and returns them as the cluster holds them.
pub async fn put_all<K: AsRef<[u8]>>(cluster: &Cluster, keys: &[K]) -> Result<Keys> {
    let mut held = Keys::new();
    for key in keys {
        let key = Bytes::copy_from_slice(key.as_ref());
        cluster.put(&key, format!("this cluster's own {}", printable(&key))).await?;
        let kv = cluster.get(&key).await?.context("just written")?;
        held.insert(key, kv);
    }
    Ok(held)
}

/// Deletes keys, many in a transaction.
pub async fn delete_all(client: &Client, keys: &[Bytes]) -> Result<Revision> {
    let mut revision = 0;
    for keys in keys.chunks(100) {
        let success = keys.iter().map(|key| Op::Delete { key: key.clone() }).collect();
        revision = client.txn(Txn { success, ..Txn::default() }).await?.revision;
    }
    Ok(revision)
}

/// Whether the standby shall hold a copy of `kv`: by its key, by its lease and by its content.
pub fn is_synchronized(scope: &Scope, kv: &KeyValue) -> bool {
    scope.decide_kv(kv) == Decision::InScope && !content::is_filtered(scope, &Kinds::default(), &Keyring::none(), kv)
}

impl Link {
    /// Deletes the election's keys, as the end of a killed leader's lease would: the next one leads at once.
    pub async fn expire_leader(&self) -> Result<()> {
        for candidate in self.candidates().await? {
            self.standby.delete(&candidate.key).await?;
        }
        Ok(())
    }

    /// Deletes what a killed command has left of its right to carry out a run, as the end of its lease would.
    pub async fn expire_runner(&self) -> Result<()> {
        let range = KeyRange::prefix(&self.keys.runner_prefix);
        for key in dump(&self.standby.client(), &range, 0).await?.into_keys() {
            self.standby.delete(&key).await?;
        }
        Ok(())
    }

    /// Waits until the link streams and its record is at or beyond a revision of the primary.
    pub async fn await_passed(&self, revision: Revision, timeout: Duration) -> Result<()> {
        let client = self.standby.client();
        await_until(&format!("the checkpoint passes revision {revision}"), timeout, || async {
            let (found, _) = client.get(&self.keys.checkpoint).await?;
            let Some(found) = found else { return Ok(Some("there is no checkpoint".to_owned())) };
            let Checkpoint { phase, revision: at, offset, .. } = Checkpoint::decode(&found.value)?;
            let passed = phase == Phase::Streaming && at >= revision && offset == 0;
            Ok((!passed).then(|| format!("{} at {at}, offset {offset}", phase.name())))
        })
        .await
    }

    /// Reads the standby and its record at one revision, at a moment when the record is consistent with one of the primary's.
    pub async fn standby_state(&self) -> Result<StandbyState> {
        let client = self.standby.client();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (found, at) = client.get(&self.keys.checkpoint).await?;
            let checkpoint = Checkpoint::decode(&found.context("there is no checkpoint")?.value)?;
            if checkpoint.phase == Phase::Streaming && checkpoint.offset == 0 {
                return Ok(StandbyState { at, checkpoint, keys: dump(&client, &registry(), at).await? });
            }
            ensure!(
                Instant::now() < deadline,
                "the standby is consistent with no revision of the primary: {checkpoint:?}"
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Fails unless the standby holds exactly the primary's keys in scope, by value, as of the revision its record names,
    /// and besides them exactly `local`: unchanged, revisions and all.
    pub async fn verify(&self, local: &Keys) -> Result<StandbyState> {
        self.verify_in(&default_scope()?, local).await
    }

    /// [`Link::verify`] with another scope.
    pub async fn verify_in(&self, scope: &Scope, local: &Keys) -> Result<StandbyState> {
        let primary = self.primary.client();
        let standby = self.standby_state().await?;
        let mut expected = dump(&primary, &registry(), standby.checkpoint.revision).await?;
        expected.retain(|_, kv| is_synchronized(scope, kv));
        let mut actual = standby.keys.clone();
        for (key, kv) in local {
            let found = actual.remove(key);
            let shown = printable(key);
            ensure!(found.as_ref() == Some(kv), "the local key {shown} was {kv:?}, now it is {found:?}");
        }
        let difference = Difference::between(&expected, &actual);
        if !difference.is_empty() {
            let (at, revision) = (standby.at, standby.checkpoint.revision);
            bail!("the standby at {at} is not the primary at {revision}:\n{difference}");
        }
        Ok(standby)
    }
}
