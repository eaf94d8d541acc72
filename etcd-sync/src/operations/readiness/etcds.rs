//! What the two etcds tell: roles, the link's record, lag, history, and whether the clusters fit together.

use std::time::{Duration, Instant};

use etcd_sync_core::etcd::kv::printable;
use etcd_sync_core::link::lag::Lag;
use etcd_sync_core::link::members::Agreement;
use etcd_sync_core::link::role::Role;
use etcd_sync_core::link::state::{Checkpoint, Phase, cluster_id_text};
use etcd_sync_core::scope::Scope;
use etcd_sync_kms::Encryption;
use etcd_sync_operations::preflight::switch::{For, HistoryFact, LagFact, PrimaryFact, Sides, StandbyFact};
use etcd_sync_operations::preflight::{self as judged, Check, Finding, Level};
use etcd_sync_store::link::headroom;
use etcd_sync_store::link::pair::Pair;
use etcd_sync_store::link::record::Record;
use etcd_sync_store::{Error, Etcd, WatchError};

use super::{Context, within};
use crate::facts::preflight;
use crate::facts::start::standby_links;
use crate::operations::procedure::facts::{BROKEN_PAUSE, BROKEN_TRIES};
use crate::operations::procedure::quiet::everything;

/// A cluster that takes longer for a few small reads is away.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Looking at values of every resource takes some rounds, each as long as the way is.
const FIT_LIMIT: Duration = Duration::from_secs(10);

/// Finding the end of the history takes some thirty questions, one after the other.
const HISTORY_LIMIT: Duration = Duration::from_secs(8);

/// Each member reads its whole database, one after the other.
const MEMBERS_LIMIT: Duration = Duration::from_secs(20);

/// How often the standby is asked whether it has caught up.
const LAG_INTERVAL: Duration = Duration::from_millis(100);

/// The primary's pace is taken from this many readings, so far apart.
const PACE_READINGS: u32 = 3;
const PACE_INTERVAL: Duration = Duration::from_millis(500);

/// What both say, or why they do not.
pub struct Etcds {
    /// The standby and the link's record in it.
    pub standby: Result<StandbyFact, String>,
    /// The primary.
    pub primary: Result<PrimaryFact, String>,
}

impl Etcds {
    /// Asks both.
    pub async fn ask(pair: &Pair, purpose: For) -> Etcds {
        let (standby, primary) = tokio::join!(
            within(ANSWER_LIMIT, with_reason(|| standby(pair))),
            within(ANSWER_LIMIT, with_reason(|| primary(pair, purpose)))
        );
        Etcds { standby, primary }
    }

    /// The checkpoint of a link that streams.
    fn streaming(&self) -> Option<&Checkpoint> {
        let checkpoint = self.standby.as_ref().ok()?.checkpoint.as_ref().ok()?.as_ref()?;
        (checkpoint.phase == Phase::Streaming).then_some(checkpoint)
    }

    /// Waits until the standby is where the primary was when it was asked, at most as long as it may take.
    pub async fn lag(&self, pair: &Pair, limit: Duration) -> Option<LagFact> {
        let (primary, standby) = (self.primary.as_ref().ok()?, self.standby.as_ref().ok()?);
        let checkpoint = self.streaming()?;
        let revisions = u64::try_from(primary.revision - checkpoint.revision).unwrap_or(0);
        let began = Instant::now();
        if reached(checkpoint, primary.revision) {
            return Some(LagFact { revisions, reached: Some(Duration::ZERO), waited: Duration::ZERO });
        }
        if standby.leader.is_none() || standby.paused.is_some() {
            return Some(LagFact { revisions, reached: None, waited: Duration::ZERO });
        }
        let wait = async {
            loop {
                tokio::time::sleep(LAG_INTERVAL).await;
                // A failure is as good as no progress: the time runs out.
                let Ok((Some(kv), _)) = pair.standby.get(&pair.keys.checkpoint).await else { continue };
                if Checkpoint::decode(&kv.value).is_ok_and(|checkpoint| reached(&checkpoint, primary.revision)) {
                    return began.elapsed();
                }
            }
        };
        let reached = tokio::time::timeout(limit, wait).await.ok();
        Some(LagFact { revisions, reached, waited: began.elapsed() })
    }

    /// How long the primary's history reaches behind the checkpoint.
    pub async fn history(&self, pair: &Pair, scope: &Scope) -> Option<HistoryFact> {
        self.primary.as_ref().ok()?;
        let mut checkpoint = self.streaming()?.revision;
        let key = scope.covering_range().start;
        let look = async {
            let (pace, compacted) =
                tokio::join!(pace(pair), headroom::compacted(&pair.primary, key.clone(), 0, checkpoint));
            let mut compacted = compacted?;
            if compacted > checkpoint {
                // It may have moved on before the compaction came.
                let (kv, _) = pair.standby.get(&pair.keys.checkpoint).await.ok()?;
                checkpoint = Checkpoint::decode(&kv?.value).ok()?.revision;
                compacted = headroom::compacted(&pair.primary, key, compacted, checkpoint).await?;
            }
            let (revisions, time) = pace.headroom(compacted, checkpoint);
            Some(HistoryFact { gone: compacted > checkpoint, revisions, time })
        };
        tokio::time::timeout(HISTORY_LIMIT, look).await.ok()?
    }

    /// Whether the members of each side hold the same. Before a failover only the standby's: it is what will serve.
    pub async fn members(&self, pair: &Pair, purpose: For) -> Sides<Agreement> {
        let primary = async {
            match (&self.primary, purpose) {
                (Ok(_), For::Asked | For::Switchover | For::Drill) => agreement(&pair.primary).await,
                (Ok(_), For::Failover) => Agreement::NotAsked("it matters no more".into()),
                (Err(_), _) => Agreement::NotAsked("it does not answer".into()),
            }
        };
        let standby = async {
            match &self.standby {
                Ok(_) => agreement(&pair.standby).await,
                Err(_) => Agreement::NotAsked("it does not answer".into()),
            }
        };
        let (primary, standby) = tokio::join!(primary, standby);
        Sides { primary, standby }
    }

    /// Whether the clusters fit together, as the daemon judges it before a copy, and which of them hold Kubernetes. Of a
    /// primary that is silent its copies on the standby tell what they can.
    pub async fn fit(
        &self,
        context: &Context<'_>,
        pair: &Pair,
        encryption: &Encryption,
        purpose: For,
    ) -> (Vec<Finding>, Sides<bool>) {
        let first = self.standby.as_ref().is_ok_and(|standby| matches!(standby.checkpoint, Ok(None)));
        let looked_at = preflight::Pair::new(context.config, pair, encryption, first);
        let accept = context.readiness.allow_unproved_encryption;
        let unknown = Sides { primary: true, standby: true };
        if let Err(why) = &self.standby {
            return (not_looked_at(why, purpose), unknown);
        }
        let facts = match &self.primary {
            Ok(_) => within(FIT_LIMIT, preflight::facts(looked_at, accept)).await,
            Err(_) => within(FIT_LIMIT, preflight::facts_of_standby(looked_at, accept)).await,
        };
        let facts = match facts {
            Ok(facts) => facts,
            Err(why) => return (not_looked_at(&why, purpose), unknown),
        };
        let mut findings = judged::judge(&facts);
        if let Err(why) = &self.primary {
            findings.retain(|finding| finding.check != Check::Prefix);
            findings.push(Finding {
                check: Check::Prefix,
                level: Level::Warn,
                evidence: format!("the primary does not answer ({why}), so its prefixes are not known"),
                fix: Some("what the synchronizer found at its first sync still holds; see its log".into()),
            });
        }
        let holds = |side: fn(&judged::PrefixFact) -> bool| facts.prefixes.iter().any(side);
        let primary = self.primary.is_err() || holds(|fact| fact.primary);
        (findings, Sides { primary, standby: holds(|fact| fact.standby) })
    }
}

async fn agreement(etcd: &Etcd) -> Agreement {
    within(MEMBERS_LIMIT, etcd.members_agree()).await.unwrap_or_else(Agreement::NotAsked)
}

/// A server that refuses our certificate ends the connection right behind the handshake, and its reason is seen only now and
/// then: what broke is asked again.
async fn with_reason<T>(ask: impl AsyncFn() -> Result<T, Error>) -> Result<T, Error> {
    for _ in 1..BROKEN_TRIES {
        match ask().await {
            Err(Error::Broken { .. }) => tokio::time::sleep(BROKEN_PAUSE).await,
            asked => return asked,
        }
    }
    ask().await
}

async fn standby(pair: &Pair) -> Result<StandbyFact, Error> {
    let (record, identity) = tokio::try_join!(Record::read(&pair.standby, &pair.keys), pair.standby.identity())?;
    let checkpoint = record.checkpoint().map_err(|error| error.to_string());
    let mut candidates = record.candidates.into_iter();
    Ok(StandbyFact {
        cluster: cluster_id_text(identity.cluster_id),
        role: Role::of_key(record.role.as_ref()),
        checkpoint,
        leader: candidates.next().map(|leader| (leader.holder, leader.epoch)),
        others: candidates.map(|other| other.holder).collect(),
        paused: record.condition.map(|condition| condition.paused),
        primary_contact: record.primary_contact,
        open_run: record.open_run.map(|run| printable(&run.value)),
    })
}

async fn primary(pair: &Pair, purpose: For) -> Result<PrimaryFact, Error> {
    let (identity, role, standby_of) =
        tokio::try_join!(pair.primary.identity(), pair.primary.get(&pair.keys.role), standby_links(&pair.primary))?;
    Ok(PrimaryFact {
        cluster: cluster_id_text(identity.cluster_id),
        revision: identity.revision,
        role: Role::of_key(role.0.as_ref()),
        standby_of,
        unwatchable: purpose == For::Switchover && is_watch_denied(&pair.primary).await,
    })
}

/// Whether the watch that sees the last writer stop would be refused. Else it would be found out when the primary is already marked.
async fn is_watch_denied(etcd: &Etcd) -> bool {
    match etcd.watch(everything(), 0).await {
        Ok(_) => false,
        Err(error) => matches!(error, WatchError::Store(Error::PermissionDenied { .. })),
    }
}

/// Whether all of the primary up to `head` is applied.
fn reached(checkpoint: &Checkpoint, head: i64) -> bool {
    let whole = checkpoint.revision > head || (checkpoint.revision == head && checkpoint.offset == 0);
    checkpoint.phase == Phase::Streaming && whole
}

/// Readings of the primary's revision, for its pace.
async fn pace(pair: &Pair) -> Lag {
    let (mut lag, began) = (Lag::default(), Instant::now());
    for reading in 0..PACE_READINGS {
        if reading > 0 {
            tokio::time::sleep(PACE_INTERVAL).await;
        }
        if let Ok(identity) = pair.primary.identity().await {
            lag.head(began.elapsed(), identity.revision);
        }
    }
    lag
}

/// One finding for what the daemon's own preflight would have told.
fn not_looked_at(why: &str, purpose: For) -> Vec<Finding> {
    let level = if purpose == For::Failover { Level::Warn } else { Level::Fail };
    [Check::Encryption, Check::Quota, Check::Alarms]
        .map(|check| Finding {
            check,
            level,
            evidence: format!("it is not known ({why})"),
            fix: Some("see that both etcds answer, and run this again".into()),
        })
        .into()
}
