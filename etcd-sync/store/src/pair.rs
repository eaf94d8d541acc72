//! Both clusters together: walks them in lockstep, and compares them exactly.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use etcd_sync_core::check::{Basis, ComparedAt, Comparison, Difference, KEPT_MAX, Report, Suspect};
use etcd_sync_core::content::{self, Kinds};
use etcd_sync_core::drift::Drift;
use etcd_sync_core::kv::{KeyRange, KeyValue, Revision};
use etcd_sync_core::request::{Page, ReadRange};
use etcd_sync_core::scope::{Decision, Scope};
use etcd_sync_core::state::{BadCheckpoint, Checkpoint, Phase, StateKeys};
use etcd_sync_core::walk::{Chunk, Side, Walk, WalkOptions};
use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::client::Etcd;
use crate::encryption::Encryption;
use crate::error::{Error, WatchError};
use crate::record::{Record, local_keys};
use crate::watch::WatchMessage;

/// Differences looked at once more, and so many at once; beyond it they are taken as they are.
const SUSPECTS_MAX: usize = KEPT_MAX;
const SUSPECTS_AT_ONCE: usize = 16;

/// The two clusters of a link.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The cluster that serves users.
    pub primary: Etcd,
    /// The cluster that is kept ready.
    pub standby: Etcd,
    /// The link's state keys.
    pub keys: StateKeys,
}

/// Why a comparison has no verdict.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CheckError {
    /// No link was ever made here.
    #[error(
        "nothing was ever synchronized into this standby (link {link}): start `etcd-sync run` first, or check --link"
    )]
    NeverSynchronized {
        /// The link's state directory.
        link: String,
    },
    /// A copy is under way: the standby stands for no revision of the primary.
    #[error(
        "{phase} is under way, so the standby stands for no single revision of the primary yet: try again when `etcd-sync status` says streaming"
    )]
    Copying {
        /// Its name.
        phase: &'static str,
    },
    /// Both are one cluster, or not the recorded pair.
    #[error(
        "the primary is cluster {found}, but the standby was synchronized from cluster {recorded}: check --primary-endpoints"
    )]
    OtherPrimary {
        /// Recorded id.
        recorded: String,
        /// Id found.
        found: String,
    },
    /// The primary compacts its history before it can be read.
    #[error(
        "the primary's history at the checkpoint (revision {revision}) is compacted, and the checkpoint did not move in time: the synchronizer is far behind or stuck; see `etcd-sync status`"
    )]
    Behind {
        /// The checkpoint's revision.
        revision: Revision,
    },
    /// The record is unusable.
    #[error(transparent)]
    Checkpoint(#[from] BadCheckpoint),
    /// A cluster cannot be read.
    #[error(transparent)]
    Store(#[from] Error),
}

/// A pair of revisions that can be compared.
#[derive(Clone, Copy, Debug)]
struct Moment {
    basis: Basis,
    primary: Revision,
    standby: Revision,
}

impl Pair {
    /// Walks `walk` to its end and gives each chunk to `each`. A page of a compacted revision ends it early with
    /// `Ok(false)`; go on with [`Walk::rebase`].
    ///
    /// # Errors
    /// Why one of the clusters cannot be read.
    pub async fn walk(&self, walk: &mut Walk, mut each: impl FnMut(Chunk)) -> Result<bool, Error> {
        let mut reads = FuturesUnordered::new();
        loop {
            while let Some((side, request)) = walk.next_read() {
                reads.push(async move { (side, self.etcd(side).read(request).await) });
            }
            let Some((side, page)) = reads.next().await else { return Ok(true) };
            match page {
                Ok(page) => walk.page(side, page).map(&mut each).unwrap_or_default(),
                Err(Error::MessageTooLarge { .. }) => walk.too_large(side),
                Err(Error::Compacted { .. }) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    /// Compares the scope on both sides, exactly: see [`Basis`]. What differs is read with its value, because content may
    /// take an object out of scope. Gives up waiting for a comparable moment after `patience`.
    ///
    /// # Errors
    /// Why there is no verdict.
    pub async fn compare(
        &self,
        scope: &Scope,
        encryption: &Encryption,
        deep: bool,
        patience: Duration,
    ) -> Result<Report, CheckError> {
        let began = Instant::now();
        let deadline = began + patience;
        let head = self.primary.identity().await?;
        let mut moment = self.moment(scope, deadline).await?;
        let local = local_keys(&self.standby, &self.keys).await?;
        let mut comparison = Comparison::new(deep);
        let mut walk = Walk::new(
            scope.ranges(),
            WalkOptions {
                lead: Comparison::LEAD,
                keys_only: !deep,
                lead_revision: moment.primary,
                follow_revision: moment.standby,
                prefetch: true,
            },
        );
        let mut suspects = Vec::new();
        loop {
            let found = |chunk| {
                for suspect in compare_chunk(&mut comparison, chunk, scope, &local) {
                    match suspects.len() < SUSPECTS_MAX {
                        true => suspects.push(suspect),
                        false => comparison.confirm(&suspect),
                    }
                }
            };
            if self.walk(&mut walk, found).await? {
                break;
            }
            // Keys already compared stay compared: each was judged at a moment when the two could be.
            moment = self.moment(scope, deadline).await?;
            walk.rebase(moment.primary, moment.standby);
        }
        let mut judged = futures_util::stream::iter(suspects)
            .map(|suspect| self.look_into(suspect, moment, scope, encryption))
            .buffered(SUSPECTS_AT_ONCE);
        while let Some(judged) = judged.next().await {
            if let Some(suspect) = judged? {
                comparison.confirm(&suspect);
            }
        }
        Ok(comparison.report(ComparedAt {
            basis: moment.basis,
            primary_revision: moment.primary,
            standby_revision: moment.standby,
            primary_head: head.revision,
            took_ms: began.elapsed().as_millis() as u64,
        }))
    }

    /// Looks at a suspect's value: gives it back unless its object's content takes it out of scope.
    async fn look_into(
        &self,
        suspect: Suspect,
        moment: Moment,
        scope: &Scope,
        encryption: &Encryption,
    ) -> Result<Option<Suspect>, Error> {
        let Suspect { key, mut difference } = suspect;
        let Some(kv) = self.value(difference.side(), &key, moment, encryption).await? else {
            return Ok(Some(Suspect { key, difference }));
        };
        if content::leaves_out(scope, &Kinds::default(), &encryption.keyring, &kv) {
            return Ok(None);
        }
        if let Difference::Mismatched(drift) = &mut difference
            && let Some(standby) = self.value(Side::Standby, &key, moment, encryption).await?
        {
            *drift = Drift::between(&encryption.keyring, &key, &kv.value, &standby.value);
        }
        Ok(Some(Suspect { key, difference }))
    }

    async fn value(
        &self,
        side: Side,
        key: &Bytes,
        moment: Moment,
        encryption: &Encryption,
    ) -> Result<Option<KeyValue>, Error> {
        let range = KeyRange::single(key.clone());
        let read = |revision| {
            let request = ReadRange { range: range.clone(), limit: 1, keys_only: false, revision };
            self.etcd(side).read(request)
        };
        let revision = if side == Side::Primary { moment.primary } else { moment.standby };
        let page = match read(revision).await {
            // What the object is seldom changes: the newest value tells as well.
            Err(Error::Compacted { .. }) => read(0).await?,
            page => page?,
        };
        encryption.prime(&page.kvs).await;
        Ok(page.kvs.into_iter().next())
    }

    /// Waits for a moment at which the two can be compared.
    async fn moment(&self, scope: &Scope, deadline: Instant) -> Result<Moment, CheckError> {
        loop {
            let record = Record::read(&self.standby, &self.keys).await?;
            let Some(checkpoint) = record.checkpoint()? else {
                let link = String::from_utf8_lossy(&self.keys.root).into_owned();
                return Err(CheckError::NeverSynchronized { link });
            };
            let head = self.primary.identity().await?;
            let found = etcd_sync_core::state::cluster_id_text(head.cluster_id);
            if found != checkpoint.primary {
                return Err(CheckError::OtherPrimary { recorded: checkpoint.primary, found });
            }
            let standby = record.revision;
            let stands = checkpoint.phase == Phase::Streaming && checkpoint.offset == 0;
            if stands && self.readable(scope, checkpoint.revision).await? {
                return Ok(Moment { basis: Basis::Checkpoint, primary: checkpoint.revision, standby });
            }
            if record.candidates.is_empty() {
                return Ok(Moment { basis: Basis::Head, primary: head.revision, standby });
            }
            if !self.checkpoint_moves(standby + 1, deadline).await? {
                return Err(no_moment(&checkpoint));
            }
        }
    }

    async fn readable(&self, scope: &Scope, revision: Revision) -> Result<bool, Error> {
        let key = scope.covering_range().start;
        let range = KeyRange::single(key);
        match self.primary.read(ReadRange { range, limit: 1, keys_only: true, revision }).await {
            Ok(Page { .. }) => Ok(true),
            Err(Error::Compacted { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether the checkpoint is written from the standby's revision `from` on, before the deadline.
    async fn checkpoint_moves(&self, from: Revision, deadline: Instant) -> Result<bool, Error> {
        let key = self.keys.checkpoint.clone();
        let range = KeyRange::single(key);
        let moved = async {
            let mut watch = self.standby.watch(range, from).await?;
            loop {
                if let WatchMessage::Events { .. } = watch.next().await? {
                    return Ok(());
                }
            }
        };
        match tokio::time::timeout_at(deadline.into(), moved).await {
            Err(_) => Ok(false),
            Ok(Ok(())) => Ok(true),
            // Whatever ended the watch, reading the record again tells more.
            Ok(Err(WatchError::Store(error))) if !error.is_transient() => Err(error),
            Ok(Err(_)) => Ok(Instant::now() < deadline),
        }
    }

    fn etcd(&self, side: Side) -> &Etcd {
        match side {
            Side::Primary => &self.primary,
            Side::Standby => &self.standby,
        }
    }
}

fn no_moment(checkpoint: &Checkpoint) -> CheckError {
    match checkpoint.phase {
        Phase::Streaming => CheckError::Behind { revision: checkpoint.revision },
        phase => CheckError::Copying { phase: phase.name() },
    }
}

fn compare_chunk(comparison: &mut Comparison, mut chunk: Chunk, scope: &Scope, local: &HashSet<Bytes>) -> Vec<Suspect> {
    chunk.lead.retain(|kv| scope.decide_kv(kv) == Decision::InScope);
    chunk.follow.retain(|kv| scope.decide_kv(kv) == Decision::InScope);
    comparison.chunk(chunk, |key| local.contains(key))
}
