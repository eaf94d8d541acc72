//! Both clusters key by key: what the old primary would lose, counted, and saved.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use etcd_sync_core::etcd::kv::{KeyRange, KeyValue, Revision};
use etcd_sync_core::etcd::request::ReadRange;
use etcd_sync_core::link::provenance::LOCAL_KEYS_MAX;
use etcd_sync_core::link::side::Side;
use etcd_sync_core::scope::Decision;
use etcd_sync_core::scope::content::{self, CRDS, Kinds};
use etcd_sync_core::session::walk::{Chunk, Joined, Walk, WalkOptions, join};
use etcd_sync_operations::rejoin::{self, Divergence, Found, Origin, Plan};
use etcd_sync_operations::saved::{FORMAT, Head, What};
use etcd_sync_program::now_ms;
use etcd_sync_store::Error;
use etcd_sync_store::link::record::local_keys;
use futures_util::stream::{StreamExt, iter};

use super::follow::Follower;
use super::{Known, Rejoin};
use crate::operations::saved_file::Saving;

/// Keys asked of the new primary's history at once.
const READS_AT_ONCE: usize = 16;

/// What is saved.
#[derive(Debug)]
pub struct Saved {
    /// The old primary's revision before the first page was read: what is written later, the follower tells.
    pub from: Revision,
    /// The file; `None` when there was nothing to save.
    pub file: Option<PathBuf>,
    /// Values in it.
    pub keys: u64,
    /// The old primary's own keys, which go on record as local.
    pub own: Vec<Bytes>,
    /// Saves what is written there from now on.
    pub follower: Follower,
}

/// One key that is on either side.
struct Judged {
    found: Found,
    key: Bytes,
    /// The revision that wrote it last.
    revision: Revision,
    old: Option<KeyValue>,
}

/// What judging needs to know.
struct Judge {
    divergence: Divergence,
    old_kinds: Kinds,
    new_kinds: Kinds,
    /// The new primary's own keys from the time it was the standby.
    local: HashSet<Bytes>,
}

impl Rejoin<'_> {
    /// Counts what would happen. Writes nothing.
    pub async fn look(&self, known: &Known, divergence: Divergence) -> Result<Plan> {
        let Some(promotion) = known.promotion.clone() else { bail!("the new primary has no record of its promotion") };
        let judge = self.judge(divergence).await.context("both clusters cannot be compared")?;
        let mut plan = Plan::new(&self.config.link, known.clusters.clone(), divergence, promotion);
        plan.looked_at = self.pair.standby.identity().await?.revision;
        plan.now_ms = now_ms();
        let walked = self.walk(known, &judge, async |judged| {
            let origins = self.origins(&judged, divergence).await?;
            for (Judged { found, key, revision, .. }, origin) in judged.iter().zip(origins) {
                plan.add(key, *found, *revision, origin);
            }
            Ok(())
        });
        walked.await.context("both clusters cannot be compared")?;
        Ok(plan)
    }

    /// Saves every value that the old primary loses, as it is now. `to_save` is how many there were in the plan.
    pub async fn save(
        &self,
        known: &Known,
        divergence: Divergence,
        path: &Path,
        at: String,
        to_save: u64,
    ) -> Result<Saved> {
        let judge = self.judge(divergence).await?;
        let identity = self.pair.standby.identity().await?;
        let from = identity.revision;
        let head = Head {
            etcd_sync_saved_keys: FORMAT,
            what: What::Rejoin,
            link: self.config.link.clone(),
            cluster: known.clusters[0].clone(),
            revision: from,
            at,
            keys: to_save,
        };
        let mut file = Saving::create(path, &head)?;
        // Before the first page: whatever is written behind a page is told.
        let follower = self.follow(path, &known.clusters[0], from + 1);
        let (mut own, mut keys) = (Vec::new(), 0);
        let walked = self.walk(known, &judge, async |judged| {
            for Judged { found, key, old, .. } in judged {
                match old {
                    Some(kv) if found.is_lost() => {
                        file.add(&kv)?;
                        keys += 1;
                    }
                    _ if found == Found::Own => own.push(Bytes::copy_from_slice(&key)),
                    _ => {}
                }
            }
            if own.len() > LOCAL_KEYS_MAX {
                bail!("more than {LOCAL_KEYS_MAX} keys are this cluster's own by their content: narrow the scope");
            }
            Ok(())
        });
        walked.await.context("the keys cannot be saved: nothing was changed")?;
        let file = match keys {
            0 => None,
            _ => {
                file.finish()?;
                Some(path.to_owned())
            }
        };
        Ok(Saved { from, file, keys, own, follower })
    }

    async fn judge(&self, divergence: Divergence) -> Result<Judge> {
        let (mut old_kinds, mut new_kinds) = (Kinds::default(), Kinds::default());
        self.pages(&self.config.scope.ranges_below(CRDS), async |chunk| {
            let plain = |kvs: &[KeyValue], kinds: &mut Kinds| {
                let open = kvs.iter().filter_map(|kv| self.encryption.keyring.decrypt(&kv.key, &kv.value).ok());
                open.for_each(|plain| kinds.learn(&plain));
            };
            plain(&chunk.lead, &mut old_kinds);
            plain(&chunk.follow, &mut new_kinds);
            Ok(())
        })
        .await?;
        Ok(Judge { divergence, old_kinds, new_kinds, local: local_keys(&self.pair.primary, &self.pair.keys).await? })
    }

    /// Gives every key of either side, page by page.
    async fn walk(
        &self,
        known: &Known,
        judge: &Judge,
        mut each: impl AsyncFnMut(Vec<Judged>) -> Result<()>,
    ) -> Result<()> {
        let scope = &self.config.scope;
        self.pages(scope.ranges(), async |mut chunk| {
            chunk.lead.retain(|kv| scope.decide_kv(kv) == Decision::InScope);
            chunk.follow.retain(|kv| scope.decide_kv(kv) == Decision::InScope);
            let judged = join(chunk).map(|joined| {
                let (old, new) = match joined {
                    Joined::Both(old, new) => (Some(old), Some(new)),
                    Joined::Lead(old) => (Some(old), None),
                    Joined::Follow(new) => (None, Some(new)),
                };
                self.judge_key(known, judge, old, new)
            });
            each(judged.collect()).await
        })
        .await
    }

    fn judge_key(&self, known: &Known, judge: &Judge, old: Option<KeyValue>, new: Option<KeyValue>) -> Judged {
        let keyring = &self.encryption.keyring;
        let filtered = |kv: &Option<KeyValue>, kinds: &Kinds| {
            kv.as_ref().is_some_and(|kv| content::is_filtered(&self.config.scope, kinds, keyring, kv))
        };
        let pair = rejoin::Pair {
            old: old.as_ref(),
            new: new.as_ref(),
            old_filtered: filtered(&old, &judge.old_kinds),
            new_filtered: filtered(&new, &judge.new_kinds),
            new_is_local: new.as_ref().is_some_and(|kv| {
                let made = kv.create_revision;
                // As it was when the cluster was promoted: what no synchronizer wrote is its own.
                let own = known.new_checkpoint.as_ref().is_some_and(|record| made <= record.base);
                judge.local.contains(&kv.key) || own || made > known.new_last_write
            }),
        };
        let found = rejoin::judge(pair, &judge.divergence);
        let (key, revision) =
            old.as_ref().or(new.as_ref()).map_or_else(Default::default, |kv| (kv.key.clone(), kv.mod_revision));
        Judged { found, key, revision, old }
    }

    /// Both sides in lockstep at their newest revisions, the old primary first.
    async fn pages(&self, ranges: &[KeyRange], mut each: impl AsyncFnMut(Chunk) -> Result<()>) -> Result<()> {
        let mut walk = Walk::new(ranges, WalkOptions::new(Side::Standby));
        while let Some((ask, request)) = walk.next_read() {
            let etcd = match ask.side {
                Side::Primary => &self.pair.primary,
                Side::Standby => &self.pair.standby,
            };
            match etcd.read(request).await {
                Ok(page) => {
                    if let Some(chunk) = walk.page(ask, page) {
                        self.encryption.unwrap_keys(&chunk.lead).await;
                        self.encryption.unwrap_keys(&chunk.follow).await;
                        each(chunk).await?;
                    }
                }
                Err(Error::MessageTooLarge { .. }) => walk.too_large(ask),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Why only the old primary has a key: asks what the new one had at the moment of its promotion.
    async fn origins(&self, judged: &[Judged], divergence: Divergence) -> Result<Vec<Origin>> {
        let ask = |(found, key): (Found, Bytes)| async move {
            if found != Found::OnlyOld {
                return Ok(Origin::Unknown);
            }
            match self.pair.primary.read(ReadRange::single(key, true, divergence.promoted)).await {
                Ok(page) if page.kvs.is_empty() => Ok(Origin::Missed),
                Ok(_) => Ok(Origin::DeletedThere),
                Err(Error::Compacted { .. }) => Ok(Origin::Unknown),
                Err(error) => Err(error.into()),
            }
        };
        let asked: Vec<(Found, Bytes)> = judged.iter().map(|judged| (judged.found, judged.key.clone())).collect();
        let origins: Vec<Result<Origin>> = iter(asked).map(ask).buffered(READS_AT_ONCE).collect().await;
        origins.into_iter().collect()
    }
}
