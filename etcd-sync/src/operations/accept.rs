//! What a yes to a question would take away: both clusters key by key.

use anyhow::{Context, Result};
use etcd_sync_core::etcd::kv::{KeyRange, KeyValue};
use etcd_sync_core::link::provenance::Moments;
use etcd_sync_core::link::question::{Question, Topic};
use etcd_sync_core::link::side::Side;
use etcd_sync_core::link::state::Checkpoint;
use etcd_sync_core::scope::Scope;
use etcd_sync_core::scope::content::{CRDS, Kinds, NAMESPACES};
use etcd_sync_core::session::walk::{Chunk, Joined, Walk, WalkOptions, join};
use etcd_sync_kms::Encryption;
use etcd_sync_operations::accept::{Going, Judge, Loss, Replaced};
use etcd_sync_store::link::pair::Pair;
use etcd_sync_store::link::record::{Record, edited_keys, local_keys};

/// A comparison that finds what would be lost.
pub struct Look<'a> {
    pair: &'a Pair,
    encryption: &'a Encryption,
    judge: Judge<'a>,
}

impl<'a> Look<'a> {
    /// Gathers what judging needs, for a link that has this record.
    pub async fn begin(
        pair: &'a Pair,
        scope: &'a Scope,
        encryption: &'a Encryption,
        record: &Record,
        checkpoint: &Checkpoint,
        question: &Question,
    ) -> Result<Look<'a>> {
        let moments = Moments {
            base: checkpoint.base,
            // As the copy itself will see it: of a wider scope nothing was looked at before.
            seen: if checkpoint.scope == scope.fingerprint() { checkpoint.seen } else { 0 },
            last_write: record.last_write(),
            began: record.revision,
        };
        let judge = Judge {
            scope,
            keyring: &encryption.keyring,
            kinds: Kinds::default(),
            moments,
            local: local_keys(&pair.standby, &pair.keys).await?,
            edited: edited_keys(&pair.standby, &pair.keys).await?,
            replaced: Replaced::of(question, checkpoint),
            going: None,
        };
        let mut look = Look { pair, encryption, judge };
        let (mut kinds, mut going) = (Kinds::default(), Going::default());
        look.pages(&scope.ranges_below(CRDS), async |chunk| {
            let plain = chunk.follow.iter().filter_map(|kv| encryption.keyring.decrypt(&kv.key, &kv.value).ok());
            plain.for_each(|plain| kinds.learn(&plain));
            for joined in join(chunk) {
                match joined {
                    Joined::Both(_, primary) => going.learn(scope, &encryption.keyring, &primary),
                    Joined::Lead(standby) => going.add(scope, &standby.key),
                    Joined::Follow(_) => {}
                }
            }
            Ok(())
        })
        .await?;
        look.judge.kinds = kinds;
        // Of a copy, only what it writes itself is shown.
        if question.topic == Topic::Brake {
            look.pages(&scope.ranges_below(NAMESPACES), async |chunk| {
                chunk.follow.iter().for_each(|kv| going.learn(scope, &encryption.keyring, kv));
                Ok(())
            })
            .await?;
            look.judge.going = Some(going);
        }
        Ok(look)
    }

    /// Gives every value of the standby that would be lost, in key order.
    ///
    /// # Errors
    /// Why one of the clusters cannot be read, or what `each` gave.
    pub async fn losses(&self, mut each: impl AsyncFnMut(&KeyValue, Loss) -> Result<()>) -> Result<()> {
        let judge = &self.judge;
        self.pages(judge.scope.ranges(), async |mut chunk| {
            chunk.lead.retain(|kv| judge.is_in_scope(kv));
            chunk.follow.retain(|kv| judge.is_in_scope(kv));
            for joined in join(chunk) {
                let (standby, primary) = match joined {
                    Joined::Both(standby, primary) => (standby, Some(primary)),
                    Joined::Lead(standby) => (standby, None),
                    Joined::Follow(_) => continue,
                };
                if let Some(loss) = judge.judge(&standby, primary.as_ref()) {
                    each(&standby, loss).await?;
                }
            }
            Ok(())
        })
        .await
    }

    /// Both sides in lockstep at their newest revisions, the standby first.
    async fn pages(&self, ranges: &[KeyRange], mut each: impl AsyncFnMut(Chunk) -> Result<()>) -> Result<()> {
        let mut walk = Walk::new(ranges, WalkOptions::new(Side::Standby));
        let mut chunks = self.pair.chunks(&mut walk);
        while let Some(chunk) = chunks.next().await.context("the clusters cannot be compared")? {
            self.encryption.unwrap_keys(&chunk.follow).await;
            each(chunk).await?;
        }
        Ok(())
    }
}
