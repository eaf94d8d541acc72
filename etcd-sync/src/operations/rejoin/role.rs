//! The change of the old primary's role, and the record of it.

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use etcd_sync_core::etcd::request::{Compare, Op, Txn};
use etcd_sync_core::link::fence::is_standby;
use etcd_sync_core::link::rejoining::{Rejoining, ledger_changes, take_role};
use etcd_sync_program::now_ms;
use etcd_sync_store::WriteError;
use etcd_sync_store::link::record::local_keys;

use super::{Known, Rejoin, Saved};

/// Ledger entries changed in one transaction: etcd takes 128 operations.
const ENTRIES_AT_ONCE: usize = 120;

impl Rejoin<'_> {
    /// Makes the old primary a standby. `deletions` is what the operator accepted.
    pub async fn take_role(&self, known: &Known, saved: &Saved, deletions: u64, run: &str) -> Result<Rejoining> {
        self.prepare_ledger(known, &saved.own).await?;
        let rejoining = Rejoining {
            format: Rejoining::FORMAT,
            primary: known.clusters[1].clone(),
            from: saved.from,
            file: saved.file.as_ref().map(|file| file.display().to_string()).unwrap_or_default(),
            saved: saved.keys,
            at_ms: now_ms(),
            done: false,
        };
        let scope = self.config.scope.fingerprint();
        let keys = &self.pair.keys;
        let mut txn = take_role(keys, known.role.as_ref(), &rejoining, &scope, known.writes, deletions);
        // A run that was given up changes nothing any more.
        txn.compares.push(Compare::Value { key: keys.open_run.clone(), value: run.to_owned().into_bytes().into() });
        match self.pair.standby.txn(txn).await {
            Ok(reply) if reply.succeeded => return Ok(rejoining),
            Ok(_) => {}
            Err(WriteError::NotApplied(error)) => return Err(error).context("the role could not be changed"),
            // Whether it was applied is read, never tried again blind.
            Err(WriteError::Unknown(error)) => tracing::warn!(%error, "the outcome of the change of role is not known"),
        }
        let (found, _) =
            self.pair.standby.get(&self.pair.keys.rejoin).await.context("whether the role changed is not known")?;
        match found.and_then(|kv| Rejoining::decode(&kv.value).ok()) {
            Some(found) if found == rejoining => Ok(rejoining),
            _ => bail!(
                "the role of this cluster was changed by another client meanwhile, or the run was given up: nothing was done; look at `etcd-sync status`, \
                 then run it again"
            ),
        }
    }

    /// The ledger holds exactly the old primary's own keys afterwards. Nobody heeds it before the role changes.
    async fn prepare_ledger(&self, known: &Known, own: &[Bytes]) -> Result<()> {
        let failed = "the record of local keys cannot be made new";
        loop {
            let found = local_keys(&self.pair.standby, &self.pair.keys).await.context(failed)?;
            let wanted: std::collections::HashSet<&Bytes> = own.iter().collect();
            let remove = found.iter().filter(|key| !wanted.contains(key)).map(|key| (key.clone(), false));
            let add = own.iter().filter(|key| !found.contains(*key)).map(|key| (key.clone(), true));
            let changes: Vec<(Bytes, bool)> = remove.chain(add).collect();
            if changes.is_empty() {
                return Ok(());
            }
            for some in changes.chunks(ENTRIES_AT_ONCE) {
                let pick =
                    |added: bool| some.iter().filter(move |change| change.1 == added).map(|change| change.0.clone());
                let txn = ledger_changes(&self.pair.keys, known.role.as_ref(), pick(false), pick(true));
                match self.pair.standby.txn(txn).await {
                    Ok(reply) if !reply.succeeded => {
                        bail!("the role of this cluster was changed by another client meanwhile")
                    }
                    Ok(_) => {}
                    // Putting and deleting entries may be done twice; the loop looks again.
                    Err(WriteError::Unknown(error)) if error.is_transient() => break,
                    Err(error) => return Err(anyhow::Error::new(error).context(failed)),
                }
            }
        }
    }

    /// Writes down that nothing is left to do.
    pub async fn finish(&self, rejoining: &Rejoining) -> Result<()> {
        let done = Rejoining { done: true, ..rejoining.clone() };
        let put = Op::Put { key: self.pair.keys.rejoin.clone(), value: done.encode(), lease: 0 };
        let txn = Txn { compares: vec![is_standby(&self.pair.keys)], success: vec![put], failure: vec![] };
        self.pair.standby.txn(txn).await.context("the end could not be written down: run it once more")?;
        Ok(())
    }
}
