//! What must be known of both clusters before anything is looked at key by key.

use anyhow::{Context, Result};
use etcd_sync_core::etcd::kv::{KeyValue, Revision, printable};
use etcd_sync_core::link::rejoining::Rejoining;
use etcd_sync_core::link::role::{Promotion, Role};
use etcd_sync_core::link::state::{Checkpoint, cluster_id_text};
use etcd_sync_operations::preflight::{judge, refusal};
use etcd_sync_operations::rejoin::{Facts, Refusal, Stand, stand};
use etcd_sync_store::link::record::{Record, ask_witness};

use super::Rejoin;
use crate::facts::preflight;
use crate::output::refuse;

/// What is known of both.
#[derive(Debug)]
pub struct Known {
    /// What is to be done.
    pub stand: Stand,
    /// The ids of the old primary and the new one, in hexadecimal.
    pub clusters: [String; 2],
    /// How the new one was promoted; there is one whenever the histories are to be looked at.
    pub promotion: Option<Promotion>,
    /// The old primary's role as it was read.
    pub(super) role: Option<KeyValue>,
    /// What the old primary's own checkpoint counted up to.
    pub(super) writes: u64,
    /// What the new primary recorded while it was the standby, and its latest write of that time.
    pub(super) new_checkpoint: Option<Checkpoint>,
    pub(super) new_last_write: Revision,
}

impl Rejoin<'_> {
    /// Reads the records of both clusters and decides what is to be done.
    ///
    /// # Errors
    /// A [`Refusal`]; or a cluster cannot be read.
    pub async fn know(&self) -> Result<Known> {
        let (old, new, keys) = (&self.pair.standby, &self.pair.primary, &self.pair.keys);
        let new_identity = new.identity().await.context("the new primary cannot be read")?;
        let new_record = Record::read(new, keys).await.context("the new primary's record cannot be read")?;
        let promotion = new.get(&keys.promotion).await.context("the new primary's record cannot be read")?.0;
        let old_identity = old.identity().await.context("the old primary cannot be read")?;
        let old_record = Record::read(old, keys).await.context("the old primary's record cannot be read")?;
        let rejoining = old.get(&keys.rejoin).await.context("the old primary's record cannot be read")?.0;
        let new_checkpoint = new_record.checkpoint().context("the new primary's record cannot be used")?;
        // What an earlier life has left matters only where this one goes on with it.
        let old_checkpoint = old_record.checkpoint().ok().flatten();
        let promotion = match promotion {
            Some(kv) => Some((Promotion::decode(&kv.value)?, kv.mod_revision)),
            None => None,
        };
        let witness = new_checkpoint.as_ref().and_then(|checkpoint| checkpoint.witness.as_ref());
        let witness_recognized = match witness {
            Some(witness) => ask_witness(old, witness).await.context("the old primary cannot be read")?,
            None => None,
        };
        let facts = Facts {
            old_cluster: old_identity.cluster_id,
            new_cluster: new_identity.cluster_id,
            old_revision: old_identity.revision,
            old_role: Role::of_key(old_record.role.as_ref()),
            new_role: Role::of_key(new_record.role.as_ref()),
            old_checkpoint,
            rejoining: rejoining.and_then(|kv| Rejoining::decode(&kv.value).ok()),
            promotion,
            new_checkpoint,
            witness_recognized,
            scope: self.config.scope.fingerprint(),
            accept_other_history: self.options.accept_other_history,
        };
        let stand = stand(&facts, &printable(&keys.role), &printable(&keys.promotion)).or_else(refuse)?;
        // Users may still be on the old primary: the domain is switched behind the promotion.
        if matches!(stand, Stand::Apart(_))
            && let Some(run) = &new_record.open_run
        {
            return refuse(Refusal::UnfinishedRun { run: printable(&run.value) });
        }
        if matches!(stand, Stand::Apart(_))
            && let Some(why) = self.preflight().await?
        {
            return refuse(Refusal::Preflight(why));
        }
        Ok(Known {
            stand,
            clusters: [facts.old_cluster, facts.new_cluster].map(cluster_id_text),
            promotion: facts.promotion.map(|(promotion, _)| promotion),
            role: old_record.role,
            writes: facts.old_checkpoint.map_or(0, |checkpoint| checkpoint.writes),
            new_last_write: new_record.last_write(),
            new_checkpoint: facts.new_checkpoint,
        })
    }

    /// What would pause the copy is reported before the role is changed.
    async fn preflight(&self) -> Result<Option<String>> {
        let pair = preflight::Pair::new(self.config, &self.pair, &self.encryption, false);
        let facts = preflight::facts(pair, self.options.allow_unproved_encryption).await;
        Ok(refusal(&judge(&facts.context("the preflight is incomplete")?)))
    }
}
