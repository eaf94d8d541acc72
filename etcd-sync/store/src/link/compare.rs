//! The exact comparison over both clusters.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use etcd_sync_core::compare::check::{
    Basis, Checked, ComparedAt, Comparison, Difference, KEPT_MAX, Object, Report, Suspect, difference,
};
use etcd_sync_core::compare::drift::Drift;
use etcd_sync_core::etcd::kv::{KeyRange, KeyValue, Revision, successor};
use etcd_sync_core::etcd::request::ReadRange;
use etcd_sync_core::link::provenance::{Moments, Origin};
use etcd_sync_core::link::side::Side;
use etcd_sync_core::link::state::{BadRecord, Checkpoint, Phase, ROLE_PRIMARY, cluster_id_text};
use etcd_sync_core::link::too_large::TooLarge;
use etcd_sync_core::scope::content::{self, CRDS, Decoded, Kinds};
use etcd_sync_core::scope::{Decision, Scope};
use etcd_sync_core::session::walk::{Walk, WalkOptions};
use futures_util::stream::{self, StreamExt};

use crate::client::WatchMessage;
use crate::client::{Error, WatchError};
use crate::link::headroom;
use crate::link::pace::{Pace, Work};
use crate::link::pair::Pair;
use crate::link::record::{Record, ask_witness, local_keys, too_large_keys};
use etcd_sync_kms::Encryption;

/// Differences checked, and so many at once; beyond it they are only counted.
const SUSPECTS_MAX: usize = KEPT_MAX;
const SUSPECTS_AT_ONCE: usize = 64;

/// CRDs read at once: they are large.
const CRDS_PAGE: i64 = 50;

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
    /// It was last synchronized with another scope.
    #[error(
        "the synchronizer has another scope than this command: give the same --prefix, --plain-prefix, --exclude-namespace, --cluster-local-add, --cluster-local-remove, --include-key and --exclude-key (one --config file serves both), or wait until it has restarted with the new flags"
    )]
    OtherScope,
    /// The primary is not the one it was.
    #[error(
        "the primary's history is not the one that the standby was synchronized from (perhaps it was restored from a backup), so single keys cannot be compared: see `etcd-sync status`"
    )]
    OtherHistory,
    /// The standby has a part of one large change.
    #[error(
        "the standby has only a part of one large change of the primary (revision {revision}), and the checkpoint did not move in time: see `etcd-sync status`"
    )]
    Inside {
        /// That revision.
        revision: Revision,
    },
    /// A copy is under way: the standby is not consistent with any revision of the primary.
    #[error(
        "{phase} is under way, so the standby is not consistent with one revision of the primary yet: try again when `etcd-sync status` shows streaming"
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
    /// It serves users now, and the moment of the promotion cannot be read any more.
    #[error(
        "this cluster was promoted and has had its own history since: there is nothing left to compare (the moment of the promotion, revision {promoted} here and revision {revision} of the old primary, is compacted)"
    )]
    Promoted {
        /// The standby's revision of the promotion.
        promoted: Revision,
        /// The checkpoint's revision.
        revision: Revision,
    },
    /// The record is unusable.
    #[error(transparent)]
    Checkpoint(#[from] BadRecord),
    /// A cluster cannot be read.
    #[error(transparent)]
    Store(#[from] Error),
}

/// How to compare.
pub struct CompareOptions<'a> {
    /// What is synchronized.
    pub scope: &'a Scope,
    /// The keys that decrypt encrypted values.
    pub encryption: &'a Encryption,
    /// Compare values too.
    pub deep: bool,
    /// How long the comparison may take. The caller ends it then; what is not checked shortly before is only counted.
    pub limit: Duration,
    /// How long to wait for a moment at which the two can be compared.
    pub patience: Duration,
    /// How fast to read.
    pub pace: &'a Pace,
    /// Receives (keys of the primary walked, keys in all as far as known).
    pub progress: &'a (dyn Fn(u64, u64) + Sync),
}

/// A pair of revisions that can be compared.
#[derive(Clone, Debug)]
struct Moment {
    basis: Basis,
    primary: Revision,
    standby: Revision,
    head: Revision,
    synchronizer: bool,
    paused: Option<String>,
    /// Revision of the checkpoint's last write.
    checkpoint: Revision,
    /// What the record says about the origin of a key.
    moments: Moments,
}

/// One comparison under way.
struct Run<'a> {
    pair: &'a Pair,
    options: &'a CompareOptions<'a>,
    /// When to stop checking differences.
    check_until: Instant,
    /// What the primary's CRDs define, once they are needed.
    kinds: Kinds,
    local: HashSet<Bytes>,
    /// Values that the standby refuses, once something differs.
    too_large: HashMap<Bytes, TooLarge>,
    moment: Moment,
    moments: u32,
}

impl Pair {
    /// Compares the scope on both sides, exactly: see [`Basis`]. What differs is read again with its values, because content
    /// may take an object out of scope, and because it may be compared at a later moment than it was found at.
    ///
    /// # Errors
    /// Why there is no verdict.
    pub async fn compare(&self, options: &CompareOptions<'_>) -> Result<Report, CheckError> {
        let began = Instant::now();
        let check_until = began + options.limit * 3 / 4;
        loop {
            let moment = self.moment(options).await?;
            let local = local_keys(&self.standby, &self.keys).await?;
            let (kinds, too_large) = (Kinds::default(), HashMap::new());
            let mut run = Run { pair: self, options, check_until, kinds, local, too_large, moment, moments: 1 };
            let comparison = run.compare().await?;
            if run.is_stale().await? {
                continue;
            }
            let Run { moment, moments, .. } = run;
            return Ok(comparison.report(ComparedAt {
                basis: moment.basis,
                primary_revision: moment.primary,
                standby_revision: moment.standby,
                primary_head: moment.head,
                synchronizer: moment.synchronizer,
                paused: moment.paused,
                moments,
                took_ms: began.elapsed().as_millis() as u64,
            }));
        }
    }

    /// Waits for a moment at which the two can be compared.
    async fn moment(&self, options: &CompareOptions<'_>) -> Result<Moment, CheckError> {
        let (scope, deadline) = (options.scope, Instant::now() + options.patience);
        loop {
            let record = Record::read(&self.standby, &self.keys).await?;
            let Some(checkpoint) = record.checkpoint()? else {
                let link = String::from_utf8_lossy(&self.keys.root).into_owned();
                return Err(CheckError::NeverSynchronized { link });
            };
            let head = self.primary.identity().await?;
            let found = cluster_id_text(head.cluster_id);
            if found != checkpoint.primary {
                return Err(CheckError::OtherPrimary { recorded: checkpoint.primary, found });
            }
            if checkpoint.scope != scope.fingerprint() {
                return Err(CheckError::OtherScope);
            }
            if let Some(witness) = &checkpoint.witness
                && ask_witness(&self.primary, witness).await? == Some(false)
            {
                return Err(CheckError::OtherHistory);
            }
            let paused = record.condition.as_ref().map(|condition| condition.paused.clone());
            let moment = |basis, primary, standby| Moment {
                basis,
                primary,
                standby,
                head: head.revision,
                synchronizer: !record.candidates.is_empty(),
                paused: paused.clone(),
                checkpoint: record.checkpoint.as_ref().map_or(0, |kv| kv.mod_revision),
                moments: Moments {
                    base: checkpoint.base,
                    seen: checkpoint.seen,
                    last_write: record.last_write(),
                    began: standby,
                },
            };
            let stands = checkpoint.phase == Phase::Streaming && checkpoint.offset == 0;
            let readable = stands && self.readable(Side::Primary, scope, checkpoint.revision).await?;
            if let Some(role) = record.role.as_ref().filter(|role| role.value == ROLE_PRIMARY) {
                let promoted = role.mod_revision;
                if readable && self.readable(Side::Standby, scope, promoted).await? {
                    return Ok(moment(Basis::Promotion, checkpoint.revision, promoted));
                }
                return Err(match stands {
                    true => CheckError::Promoted { promoted, revision: checkpoint.revision },
                    false => no_moment(&checkpoint),
                });
            }
            // Nothing is in flight then: whatever the primary has now and the standby has not is missed.
            if record.candidates.is_empty() || (paused.is_some() && stands) {
                return Ok(moment(Basis::Head, head.revision, record.revision));
            }
            if readable {
                return Ok(moment(Basis::Checkpoint, checkpoint.revision, record.revision));
            }
            if !self.checkpoint_moves(record.revision + 1, deadline).await? {
                return Err(no_moment(&checkpoint));
            }
        }
    }

    async fn readable(&self, side: Side, scope: &Scope, revision: Revision) -> Result<bool, Error> {
        headroom::readable(self.etcd(side), scope.covering_range().start, revision).await
    }

    /// Whether the checkpoint is written from the standby's revision `from` on, before the deadline.
    ///
    /// # Errors
    /// Why the standby cannot be watched.
    pub async fn checkpoint_moves(&self, from: Revision, deadline: Instant) -> Result<bool, Error> {
        let range = KeyRange::single(self.keys.checkpoint.clone());
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
            // Whatever ended the watch, the record is read again.
            Ok(Err(WatchError::Store(error))) if !error.is_transient() => Err(error),
            Ok(Err(_)) => Ok(Instant::now() < deadline),
        }
    }
}

impl Run<'_> {
    async fn compare(&mut self) -> Result<Comparison, CheckError> {
        let CompareOptions { scope, deep, pace, progress, .. } = *self.options;
        let mut comparison = Comparison::new(deep);
        let mut walk = Walk::new(
            scope.ranges(),
            WalkOptions {
                keys_only: !deep,
                lead_revision: self.moment.primary,
                follow_revision: self.moment.standby,
                prefetch: true,
                ..WalkOptions::new(Comparison::LEAD)
            },
        );
        let mut suspects = Vec::new();
        loop {
            let each = |chunk, (done, total)| {
                for suspect in comparison.chunk(chunk, scope, |kv| self.is_local(kv)) {
                    match suspects.len() < SUSPECTS_MAX {
                        true => suspects.push(suspect),
                        false => comparison.unproved(&suspect, scope),
                    }
                }
                progress(done, total);
            };
            if self.pair.walk(&mut walk, pace, !deep, each).await? {
                break;
            }
            // Keys already compared stay compared: each was judged at a moment when the two could be.
            self.next_moment().await?;
            walk.rebase(self.moment.primary, self.moment.standby);
        }
        self.judge(&mut comparison, suspects).await?;
        Ok(comparison)
    }

    /// On record, or made while no synchronizer wrote.
    fn is_local(&self, kv: &KeyValue) -> bool {
        let known = self.local.contains(&kv.key);
        self.moment.moments.origin(known, kv.create_revision, kv.mod_revision) == Origin::Local
    }

    async fn next_moment(&mut self) -> Result<(), CheckError> {
        self.moment = self.pair.moment(self.options).await?;
        self.local = local_keys(&self.pair.standby, &self.pair.keys).await?;
        self.moments += 1;
        Ok(())
    }

    /// Checks every suspect at the last moment; those that history was compacted under, at a later one.
    async fn judge(&mut self, comparison: &mut Comparison, mut suspects: Vec<Suspect>) -> Result<(), CheckError> {
        let scope = self.options.scope;
        if !suspects.is_empty() {
            self.learn_kinds().await?;
            self.too_large = too_large_keys(&self.pair.standby, &self.pair.keys).await?;
        }
        loop {
            let mut again = Vec::new();
            let this = &*self;
            let mut judged = stream::iter(suspects)
                .map(|suspect| async {
                    match Instant::now() < this.check_until {
                        true => (this.check(&suspect).await, suspect),
                        false => (Ok(Verdict::Unproved), suspect),
                    }
                })
                .buffered(SUSPECTS_AT_ONCE);
            while let Some((verdict, mut suspect)) = judged.next().await {
                match verdict {
                    Ok(Verdict::Same) => {}
                    Ok(Verdict::OutOfScope) => comparison.out_of_scope(&suspect, scope),
                    Ok(Verdict::Unproved) => comparison.unproved(&suspect, scope),
                    Ok(Verdict::Differs(difference, checked)) => {
                        suspect.difference = difference;
                        comparison.confirm(&suspect, scope, checked);
                    }
                    Err(Error::Compacted { .. }) => again.push(suspect),
                    Err(error) => return Err(error.into()),
                }
            }
            drop(judged);
            if again.is_empty() {
                return Ok(());
            }
            suspects = again;
            self.next_moment().await?;
        }
    }

    async fn check(&self, suspect: &Suspect) -> Result<Verdict, Error> {
        let CompareOptions { scope, encryption, deep, .. } = *self.options;
        let (primary, standby) = tokio::try_join!(
            self.value(Side::Primary, &suspect.key, self.moment.primary),
            self.value(Side::Standby, &suspect.key, self.moment.standby)
        )?;
        let found = difference(primary.as_ref(), standby.as_ref(), deep, |kv| self.is_local(kv));
        let (Some(mut found), Some(kv)) = (found, primary.as_ref().or(standby.as_ref())) else {
            return Ok(Verdict::Same);
        };
        let keyring = &encryption.keyring;
        if content::is_filtered(scope, &self.kinds, keyring, kv) {
            return Ok(Verdict::OutOfScope);
        }
        if let (Difference::Mismatched(drift), Some(primary), Some(standby)) = (&mut found, &primary, &standby) {
            *drift = Drift::between(keyring, &suspect.key, &primary.value, &standby.value);
        }
        let Decoded { header, undecryptable } = content::decode(keyring, kv);
        let value = primary.as_ref().map(|kv| &kv.value);
        let refused = value.filter(|value| self.too_large.get(&suspect.key).is_some_and(|one| one.refuses(value)));
        let (object, too_large) = (header.as_ref().map(Object::new), refused.map(|value| value.len() as u64));
        Ok(Verdict::Differs(found, Checked { object, undecryptable, too_large }))
    }

    /// Owners are found by what the primary's CRDs define, as the synchronizer finds them.
    async fn learn_kinds(&mut self) -> Result<(), Error> {
        let keyring = &self.options.encryption.keyring;
        for mut range in self.options.scope.ranges_below(CRDS) {
            loop {
                let request = ReadRange { range: range.clone(), limit: CRDS_PAGE, keys_only: false, revision: 0 };
                let page = self.pair.primary.read(request).await?;
                self.options.pace.pay(Work::of(&page.kvs), !self.options.deep).await;
                self.options.encryption.unwrap_keys(&page.kvs).await;
                let plain = page.kvs.iter().filter_map(|kv| keyring.decrypt(&kv.key, &kv.value).ok());
                plain.for_each(|plain| self.kinds.learn(&plain));
                match page.kvs.last() {
                    Some(last) if page.more => range = range.from(successor(&last.key)),
                    _ => break,
                }
            }
        }
        Ok(())
    }

    /// The key in scope at a revision of a side.
    async fn value(&self, side: Side, key: &Bytes, revision: Revision) -> Result<Option<KeyValue>, Error> {
        let page = self.pair.etcd(side).read(ReadRange::single(key.clone(), false, revision)).await?;
        self.options.pace.pay(Work::of(&page.kvs), !self.options.deep).await;
        self.options.encryption.unwrap_keys(&page.kvs).await;
        Ok(page.kvs.into_iter().next().filter(|kv| self.options.scope.decide_kv(kv) == Decision::InScope))
    }

    /// Whether a synchronizer has written behind a comparison that counted on none doing so.
    async fn is_stale(&self) -> Result<bool, Error> {
        if self.moment.basis != Basis::Head {
            return Ok(false);
        }
        let record = Record::read(&self.pair.standby, &self.pair.keys).await?;
        Ok(record.checkpoint.as_ref().map_or(0, |kv| kv.mod_revision) != self.moment.checkpoint)
    }
}

/// Result of the check of one suspect.
enum Verdict {
    Same,
    OutOfScope,
    Unproved,
    Differs(Difference, Checked),
}

fn no_moment(checkpoint: &Checkpoint) -> CheckError {
    match checkpoint.phase {
        Phase::Streaming if checkpoint.offset > 0 => CheckError::Inside { revision: checkpoint.revision },
        Phase::Streaming => CheckError::Behind { revision: checkpoint.revision },
        phase => CheckError::Copying { phase: phase.name() },
    }
}
