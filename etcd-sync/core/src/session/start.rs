//! What a session must know before it begins, and the decision whether it resumes or copies.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;

use super::brake::{BrakeLimits, Counted};
use super::catch_up::CatchUp;
use super::clock::Now;
use super::facts::{HistoryFacts, Trust};
use super::refusal::Refusal;
use crate::etcd::kv::{Revision, printable};
use crate::etcd::request::{Compare, Op, Txn};
use crate::link::fence::Fence;
use crate::link::history::{Contradiction, Verdict, judge};
use crate::link::question::Topic;
use crate::link::side::Side;
use crate::link::state::{Checkpoint, Phase, ROLE_STANDBY, StateKeys, cluster_id_text};
use crate::object::encryption::Keyring;
use crate::scope::content::Kinds;
use crate::session::batch::BatchLimits;
use crate::session::walk::PageBudget;

/// What the operator decides about a link.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// Size of a transaction.
    pub limits: BatchLimits,
    /// Most transactions under way at once while copying.
    pub in_flight_max: usize,
    /// Bytes a second that a copy reads of the primary at most; 0: no limit.
    pub copy_bytes_per_second: u64,
    /// Keys a second that a copy writes into the standby at most; 0: no limit.
    pub copy_writes_per_second: u64,
    /// Bytes of objects that a copy buffers for their families, see [`super::BUFFERED_BYTES_MAX`].
    pub buffered_bytes_max: usize,
    /// Whether to copy is only considered with so many changes to follow, [`super::BACKLOG_LEAST`].
    pub backlog_least: u64,
    /// How often the checkpoint of an idle link is moved, in milliseconds.
    pub checkpoint_interval_ms: u64,
    /// When a resync must stop and wait for the operator's confirmation.
    pub deletion_guard: DeletionGuard,
    /// When live updates must stop and wait for the operator's confirmation.
    pub brake: BrakeLimits,
    /// Decrypts values that the API servers encrypt at rest.
    pub keyring: Arc<Keyring>,
    /// Synchronize also what cannot be decrypted with it: the operator answers for the standby's API server being able to.
    pub accept_undecryptable: bool,
    /// Report every key written.
    pub detail: bool,
}

/// The limit on deletions of one resync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeletionGuard {
    /// So many deletions are always allowed.
    pub count: u64,
    /// And so many percent of the mirrored keys.
    pub percent: u64,
}

impl DeletionGuard {
    /// Whether `deletions` out of `scope` keys may be done without a further confirmation.
    pub fn allows(&self, deletions: u64, scope: u64) -> bool {
        deletions <= self.count.max(scope * self.percent / 100)
    }
}

/// What one session leaves to the next one of the same process; the default for a process that knows nothing yet but
/// [`Carried::first`].
#[derive(Clone, Debug, Default)]
pub struct Carried {
    /// The kinds that CRDs define.
    pub kinds: Kinds,
    /// Whether these are all.
    pub kinds_known: bool,
    /// Keys that are lost on the standby and not back yet.
    pub lost: Vec<Bytes>,
    /// Compare all keys beside live updates.
    pub audit: bool,
    /// What the pages of a copy came to.
    pub page_budget: PageBudget,
    /// How a backlog is followed.
    pub catch_up: CatchUp,
    /// What the brake has counted.
    pub(super) brake: Counted,
}

impl Carried {
    /// For the first session of a term: operators restart a pod to have everything compared.
    pub fn first() -> Self {
        Carried { audit: true, ..Carried::default() }
    }
}

/// Everything read from both clusters before a session, after leadership was won.
#[derive(Clone, Debug)]
pub struct Start {
    /// The leader's fence.
    pub fence: Fence,
    /// Value of the role key; `None` is right only as long as there is no checkpoint either.
    pub role: Option<Bytes>,
    /// Value of the checkpoint key.
    pub checkpoint: Option<Bytes>,
    /// The latest modification revision of the marks (checkpoint and copied); 0 when there are none.
    pub last_write: Revision,
    /// The modification revision of the mark of a copy under way; 0 when there is none.
    pub copied_revision: Revision,
    /// The ledger of local keys.
    pub local_keys: Vec<Bytes>,
    /// Mirrored keys that others have changed on the standby.
    pub edited_keys: Vec<Bytes>,
    /// The standby's revision when all this was read.
    pub standby_revision: Revision,
    /// The standby's cluster id.
    pub standby_cluster: u64,
    /// The primary's cluster id.
    pub primary_cluster: u64,
    /// The identity of our own that both clusters have ([`crate::link::state::IDENTITY`]): one is a copy of the other.
    pub same_identity: Option<String>,
    /// The primary's newest revision.
    pub primary_revision: Revision,
    /// How many keys the standby has below the synchronized prefixes. Only counted where the primary may be
    /// [`SessionConfig::backlog_least`] changes or more ahead of a checkpoint that could be resumed.
    pub standby_keys: Option<u64>,
    /// Whether the primary has no key below the synchronized prefixes.
    pub primary_is_empty: bool,
    /// Whether the primary recognizes the checkpoint's witness; `None` when that revision is compacted or there is none.
    pub witness_recognized: Option<bool>,
    /// What else shows which histories these are.
    pub history: HistoryFacts,
    /// Links whose role on the *primary* is standby.
    pub primary_standby_links: Vec<String>,
    /// The cluster that the primary was promoted over (its id in hexadecimal), if it was.
    pub promoted_over: Option<String>,
    /// The primary was promoted, and nobody wrote down over which cluster.
    pub promoted_unrecorded: bool,
    /// Other links of the *standby* whose role is not that of a standby: it serves users, or did. Only read for a link
    /// without a role.
    pub served_links: Vec<String>,
    /// From the session before.
    pub carried: Carried,
    /// Copy by difference even if the checkpoint could be resumed: history before it is gone on one side.
    pub force_copy: bool,
    /// When.
    pub now: Now,
}

/// Creates the role of a link that has never run. Does nothing when there is a role or a checkpoint. Only for a start that
/// was judged good: a role left on a cluster that was named by mistake would forbid reading from it ever after.
pub fn init_role(keys: &StateKeys) -> Txn {
    Txn {
        compares: vec![
            Compare::CreateRevision { key: keys.role.clone(), revision: 0 },
            Compare::CreateRevision { key: keys.checkpoint.clone(), revision: 0 },
        ],
        success: vec![Op::Put { key: keys.role.clone(), value: Bytes::from_static(ROLE_STANDBY), lease: 0 }],
        failure: vec![],
    }
}

/// How a session begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// Go on behind the checkpoint.
    Resume(Checkpoint),
    /// Copy by difference; the record to write first.
    Copy {
        /// The first record of this copy.
        begin: Checkpoint,
        /// No synchronizer has ever written here.
        never_synchronized: bool,
        /// How far the primary's history is proved.
        trust: Trust,
        /// So many revisions could have been followed instead.
        backlog: Option<Revision>,
    },
}

/// What is recorded on the primary about its own promotion: with it the two histories diverged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diverged {
    /// The cluster that it was promoted over (its id in hexadecimal), if it was.
    pub over: Option<String>,
    /// It was promoted, and nobody wrote down over which cluster.
    pub unrecorded: bool,
}

/// Whether the role of the standby lets a synchronizer write at all. `ran`: there is a checkpoint.
pub fn role_allows(
    keys: &StateKeys,
    role: Option<&[u8]>,
    ran: bool,
    diverged: &Diverged,
    standby_cluster: u64,
) -> Result<(), Refusal> {
    match role {
        Some(role) if role == ROLE_STANDBY => Ok(()),
        Some(role) => Err(Refusal::Promoted { found: format!("\"{}\"", printable(role)) }),
        None if diverged.over.as_ref() == Some(&cluster_id_text(standby_cluster)) => {
            Err(Refusal::OldPrimary { cluster: cluster_id_text(standby_cluster) })
        }
        None if diverged.unrecorded => Err(Refusal::PromotionUnrecorded { key: printable(&keys.promotion) }),
        // It is made when everything else is judged good, see init_role.
        None if !ran => Ok(()),
        None => Err(Refusal::RoleMissing { key: printable(&keys.role) }),
    }
}

/// Judges the facts.
pub fn open(start: &Start, scope_fingerprint: &str) -> Result<Beginning, Refusal> {
    let cluster = cluster_id_text(start.primary_cluster);
    if start.primary_cluster == start.standby_cluster {
        return Err(Refusal::SameCluster { cluster });
    }
    let diverged = Diverged { over: start.promoted_over.clone(), unrecorded: start.promoted_unrecorded };
    role_allows(
        &start.fence.keys,
        start.role.as_deref(),
        start.checkpoint.is_some(),
        &diverged,
        start.standby_cluster,
    )?;
    if start.role.is_none() && !start.served_links.is_empty() {
        return Err(Refusal::PromotedElsewhere { links: start.served_links.join(", ") });
    }
    if let Some(identity) = &start.same_identity {
        return Err(Refusal::CopyOfStandby { identity: identity.clone() });
    }
    if !start.primary_standby_links.is_empty() {
        return Err(Refusal::PrimaryIsStandby { links: start.primary_standby_links.join(", ") });
    }
    let recorded = start.checkpoint.as_deref().map(Checkpoint::decode).transpose()?;
    let accepted = |topic| start.history.accepted(topic, &cluster, start.now.unix_ms);
    let known = match &recorded {
        Some(recorded) => judge_history(start, recorded, &cluster)?,
        None => Known { history: true, trust: Trust::WHOLE },
    };
    let known_history = known.history;
    let mut backlog = None;
    if let Some(recorded) = &recorded
        && recorded.phase == Phase::Streaming
        && recorded.scope == scope_fingerprint
        && known_history
        && start.witness_recognized == Some(true)
        && !start.force_copy
    {
        let revisions = start.primary_revision - recorded.revision;
        if !start.carried.catch_up.prefers_copy(revisions, start.standby_keys) {
            return Ok(Beginning::Resume(recorded.clone()));
        }
        backlog = Some(revisions);
    }
    if start.primary_is_empty && accepted(Topic::EmptyPrimary).is_none() {
        return Err(Refusal::EmptyPrimary);
    }
    let same_scope = recorded.as_ref().is_some_and(|recorded| recorded.scope == scope_fingerprint);
    // A copy under another scope begins with nothing seen, and may be interrupted.
    let other_scope =
        !same_scope || recorded.as_ref().is_some_and(|recorded| recorded.phase == Phase::Resync && recorded.seen == 0);
    let streamed = recorded.as_ref().is_some_and(|recorded| recorded.phase == Phase::Streaming);
    let trust = match accepted(Topic::Unproved) {
        Some(_) => Trust::WHOLE,
        // What has come into scope was never followed: on the standby it may be of any history.
        None if other_scope && known.trust.floor > 0 => {
            Trust { proved: 0, proves_by_value: false, other_scope, ..known.trust }
        }
        None => Trust { proves_by_value: known.trust.proves_by_value && same_scope && streamed, ..known.trust },
    };
    let first = recorded.as_ref().is_none_or(|recorded| recorded.phase == Phase::FirstSync);
    let begin = Checkpoint {
        format: Checkpoint::FORMAT,
        primary: cluster,
        phase: if first { Phase::FirstSync } else { Phase::Resync },
        // Of a revision that was applied in part only what is before it is whole.
        revision: recorded
            .as_ref()
            .filter(|_| known_history)
            .map_or(0, |recorded| recorded.revision - Revision::from(recorded.offset > 0)),
        offset: 0,
        epoch: start.fence.epoch,
        writes: recorded.as_ref().map_or(0, |recorded| recorded.writes) + 1,
        witness: None,
        scope: scope_fingerprint.into(),
        // What was out of scope then was never checked, however old it is.
        seen: recorded
            .as_ref()
            .filter(|recorded| recorded.scope == scope_fingerprint)
            .map_or(0, |recorded| recorded.seen),
        base: recorded.as_ref().map_or(start.standby_revision, |recorded| recorded.base),
        at_ms: start.now.unix_ms,
        accepted_deletions: recorded
            .as_ref()
            .filter(|recorded| known_history && recorded.phase != Phase::Streaming)
            .and_then(|recorded| recorded.accepted_deletions),
    };
    Ok(Beginning::Copy { begin, never_synchronized: recorded.is_none(), trust, backlog })
}

struct Known {
    /// The primary's revisions can be compared with the record's.
    history: bool,
    trust: Trust,
}

/// Which history the primary and the standby show, beside the record. There are three answers: another one, the same, neither.
fn judge_history(start: &Start, recorded: &Checkpoint, cluster: &str) -> Result<Known, Refusal> {
    let facts = &start.history;
    let accepted = |topic| facts.accepted(topic, cluster, start.now.unix_ms);
    if let Some(contradiction) = facts.standby.contradiction
        && accepted(Topic::StandbyRestored).is_none()
    {
        let (side, evidence) = (Side::Standby, contradiction.to_string());
        let from = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(recorded.at_ms)).to_string();
        return Err(match facts.standby.proved {
            true => Refusal::StandbyRestored { evidence, from },
            false => Refusal::HistoryInDoubt { side, evidence },
        });
    }
    if recorded.primary != cluster {
        return match accepted(Topic::OtherPrimary) {
            Some(_) => Ok(Known { history: false, trust: Trust::WHOLE }),
            None => Err(Refusal::OtherPrimary { recorded: recorded.primary.clone(), found: cluster.to_owned() }),
        };
    }
    let told = match &facts.record {
        Some(record) if record.primary == cluster => judge(record, &facts.sightings),
        _ => Verdict::Neither,
    };
    let verdict = match (start.witness_recognized, told) {
        // A witness that was deleted has no value to be recognized by: two histories may have deleted it at one revision.
        (_, another @ Verdict::Another(_)) => another,
        (Some(true), _) => Verdict::Same { revision: recorded.revision, standby_revision: Revision::MAX },
        (_, told) => told,
    };
    let evidence = evidence_of_another(start, recorded, cluster, &verdict);
    if let Some(evidence) = evidence {
        return match accepted(Topic::OtherHistory) {
            Some(answer) if answer.evidence_on(Topic::OtherHistory).any(|seen| seen == evidence) => {
                Ok(Known { history: false, trust: Trust::WHOLE })
            }
            _ => Err(Refusal::OtherHistory { evidence }),
        };
    }
    if let Some(contradiction) = facts.primary.contradiction {
        return Err(Refusal::HistoryInDoubt { side: Side::Primary, evidence: contradiction.to_string() });
    }
    let floor = match (recorded.phase, &facts.record) {
        // Of a revision that was applied in part only what is before it is whole.
        (Phase::Streaming, _) => recorded.revision - Revision::from(recorded.offset > 0),
        (Phase::FirstSync | Phase::Resync, Some(record)) if record.primary == cluster => record.consistent,
        (Phase::FirstSync | Phase::Resync, _) => 0,
    };
    let trust = match verdict {
        _ if recorded.phase == Phase::FirstSync => Trust::WHOLE,
        // Nothing of this history was followed yet: what goes was shown to the operator, or to rejoin.
        _ if floor <= 0
            && (is_answered(facts, cluster, start.now.unix_ms) || recorded.accepted_deletions.is_some()) =>
        {
            Trust::WHOLE
        }
        _ if floor <= 0 => Trust::NOTHING,
        Verdict::Same { standby_revision: Revision::MAX, .. } => Trust { floor, ..Trust::WHOLE },
        Verdict::Same { revision, standby_revision } => Trust {
            floor,
            proved: revision,
            proved_on_standby: standby_revision,
            proves_by_value: true,
            ..Trust::NOTHING
        },
        Verdict::Neither | Verdict::Another(_) => Trust { floor, proves_by_value: true, ..Trust::NOTHING },
    };
    Ok(Known { history: true, trust })
}

/// Whether the copy that is under way goes on under the operator's answer.
fn is_answered(facts: &HistoryFacts, cluster: &str, now_ms: u64) -> bool {
    [Topic::OtherPrimary, Topic::OtherHistory].iter().any(|&topic| facts.accepted(topic, cluster, now_ms).is_some())
}

/// What proves that the primary's history is another one. What was proved once stands until the operator has answered.
fn evidence_of_another(start: &Start, recorded: &Checkpoint, cluster: &str, verdict: &Verdict) -> Option<String> {
    let standing = start.history.question.as_ref();
    if let Some(question) = standing.filter(|asked| asked.topic == Topic::OtherHistory && asked.primary == cluster) {
        return Some(question.evidence.clone());
    }
    if let Some(contradiction) = start.history.primary.contradiction.filter(|_| start.history.primary.proved) {
        return Some(contradiction.to_string());
    }
    if start.primary_revision < recorded.revision && start.history.primary.reading.is_none() {
        let (now, seen) = (start.primary_revision, recorded.revision);
        return Some(Contradiction::RevisionBack { now, seen }.to_string());
    }
    if start.witness_recognized == Some(false) {
        let witness = recorded.witness.as_ref().map(|witness| (witness.revision, witness.key.as_str()));
        let (revision, key) = witness.unwrap_or_default();
        return Some(format!("its revision {revision} is not the change of {key} that was followed"));
    }
    match verdict {
        Verdict::Another(evidence) => Some(evidence.clone()),
        Verdict::Same { .. } | Verdict::Neither => None,
    }
}
