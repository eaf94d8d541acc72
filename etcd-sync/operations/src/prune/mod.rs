//! `prune`: which surplus keys are deleted, what that will do, and the transaction that deletes one of them.

mod report;
mod select;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use serde::Serialize;

use etcd_sync_core::compare::check::SurplusReason;
use etcd_sync_core::etcd::kv::{KeyValue, Revision, printable};
use etcd_sync_core::etcd::request::{Compare, Op, Txn, TxnReply};
use etcd_sync_core::link::fence::{is_standby, other_role};
use etcd_sync_core::link::state::{Phase, StateKeys};
use etcd_sync_core::object::Header;
use etcd_sync_core::scope::Scope;
use etcd_sync_core::scope::content;
use etcd_sync_core::session::families::generations;

pub use report::Outcome;
pub use select::{Origin, Selection};

/// A surplus key, with what a plan must know of it; not its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The key.
    pub key: Bytes,
    /// Why only the standby has it.
    pub reason: SurplusReason,
    /// Its last change; one that was changed since is not deleted.
    pub mod_revision: Revision,
    /// What its value says; `None`: it is no object, or cannot be opened or decoded.
    pub about: Option<About>,
}

/// What an object's header says that matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// `Deployment`.
    pub kind: String,
    /// Its UID.
    pub uid: String,
    /// When it was made, in Unix seconds.
    pub created: Option<i64>,
    /// UIDs of its owners.
    pub owners: Vec<String>,
    /// Whether it has finalizers.
    pub has_finalizers: bool,
}

impl Candidate {
    /// A key as it was read, with its header if it has one.
    pub fn new(kv: &KeyValue, reason: SurplusReason, header: Option<&Header>) -> Self {
        let about = header.map(|header| About {
            kind: header.kind.clone(),
            uid: header.uid.clone(),
            created: header.created,
            owners: content::owners(header).into_iter().map(|owner| owner.uid).collect(),
            has_finalizers: !header.finalizers.is_empty(),
        });
        // A slice would keep the whole answer in memory.
        Candidate { key: Bytes::copy_from_slice(&kv.key), reason, mod_revision: kv.mod_revision, about }
    }

    /// Its age at a time in Unix seconds.
    fn age_s(&self, now_s: i64) -> Option<u64> {
        let created = self.about.as_ref()?.created?;
        Some(u64::try_from(now_s - created).unwrap_or(0))
    }
}

/// What is known of the clusters a plan is made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedAt {
    /// The link.
    pub link: String,
    /// The primary's revision compared.
    pub primary_revision: Revision,
    /// The standby's revision compared.
    pub standby_revision: Revision,
    /// All surplus keys that the comparison counted, whether it kept them or not.
    pub surplus: u64,
    /// Now, in Unix seconds.
    pub now_s: i64,
}

/// What is going to be deleted, and what that will do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// When, and of what.
    pub at: PlannedAt,
    /// The keys to delete, owners before what they own.
    pub selected: Vec<Row>,
    /// Surplus keys that fit but for their age, which cannot be told.
    pub age_unknown: u64,
    /// Keys named one by one that are not surplus.
    pub not_surplus: Vec<String>,
    /// What will happen besides.
    pub warnings: Vec<Warning>,
}

/// One key to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The key.
    pub candidate: Candidate,
    /// Kind of the object, or its resource where the value does not tell; empty for keys of other programs.
    pub kind: String,
    /// Its namespace; empty when it has none.
    pub namespace: String,
}

/// Something that a deletion does besides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// What it is.
    pub kind: WarningKind,
    /// The keys concerned, with a word about each.
    pub keys: Vec<(String, String)>,
}

/// What a deletion does besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WarningKind {
    /// It owns objects that the collector will delete.
    Owner,
    /// A namespace whose content stays.
    Namespace,
    /// A CRD whose custom resources stay.
    Definition,
    /// A claim whose volume may be destroyed.
    Claim,
    /// Its finalizers never run.
    Finalizers,
}

impl Plan {
    /// Chooses among the surplus keys that were read.
    pub fn new(candidates: Vec<Candidate>, selection: &Selection, scope: &Scope, at: PlannedAt) -> Plan {
        let not_surplus = selection.named_but_not_in(&candidates);
        let (mut selected, mut others, mut age_unknown) = (Vec::new(), Vec::new(), 0);
        for candidate in candidates {
            // Whatever the comparison says: what is not in scope is nobody's to delete.
            let fits = scope.in_scope(&candidate.key) && selection.takes(scope, &candidate);
            let old = selection.is_old(&candidate, at.now_s);
            age_unknown += u64::from(fits && old.is_none());
            if fits && old == Some(true) { selected.push(candidate) } else { others.push(candidate) }
        }
        let kin = |candidate: &Candidate| {
            let about = candidate.about.as_ref();
            (
                about.map_or("", |about| &about.uid[..]).to_owned(),
                about.map_or(Vec::new(), |about| about.owners.clone()),
            )
        };
        let kin: Vec<_> = selected.iter().map(kin).collect();
        let generation = generations(&kin);
        let warnings = report::warnings(scope, &selected, &others);
        let mut rows: Vec<(u32, Row)> =
            generation.into_iter().zip(selected.into_iter().map(|candidate| Row::new(scope, candidate))).collect();
        // Stable: by key within a generation.
        rows.sort_by_key(|(generation, _)| *generation);
        let selected = rows.into_iter().map(|(_, row)| row).collect();
        Plan { at, selected, age_unknown, not_surplus, warnings }
    }

    /// How many keys it deletes.
    pub fn count(&self) -> u64 {
        self.selected.len() as u64
    }
}

/// A transaction that deletes a key as it was saved, and takes it off the record of local keys.
pub fn deletion(keys: &StateKeys, key: &Bytes, mod_revision: Revision) -> Txn {
    Txn {
        compares: vec![is_standby(keys), Compare::ModRevision { key: key.clone(), revision: mod_revision }],
        success: vec![Op::Delete { key: key.clone() }, Op::Delete { key: keys.local_entry(key) }],
        failure: vec![Op::Get { key: keys.role.clone() }, Op::Get { key: key.clone() }],
    }
}

/// What became of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It was deleted, and is saved.
    Deleted,
    /// Somebody else deleted it meanwhile.
    Gone,
    /// It was changed since the plan: it stays.
    Changed,
    /// The primary has it now: it stays.
    OnPrimary,
}

impl Fate {
    /// What a failed transaction of [`deletion`] found.
    ///
    /// # Errors
    /// The cluster is no standby any more.
    pub fn of(reply: &TxnReply) -> Result<Fate, NotStandby> {
        if reply.succeeded {
            return Ok(Fate::Deleted);
        }
        let get = |index: usize| reply.gets.get(index).and_then(Option::as_ref);
        standby(get(0).map(|role| &role.value[..]))?;
        Ok(if get(1).is_some() { Fate::Changed } else { Fate::Gone })
    }
}

/// Why nothing is pruned. Each text says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The standby has no record of the link.
    #[error("nothing was ever synchronized into this standby by link {link}: check --standby-endpoints and --link")]
    NeverSynchronized {
        /// The link.
        link: String,
    },
    /// Only a standby is pruned.
    #[error(transparent)]
    Role(#[from] NotStandby),
    /// What the synchronizer does not trust cannot show which keys are surplus.
    #[error(
        "nothing was deleted: replication is paused, and which keys are surplus is certain only when it is not (a running `etcd-sync \
         run` clears this state as soon as its reason is gone): {why}"
    )]
    Paused {
        /// Why.
        why: String,
    },
    /// What only the standby has is not known yet.
    #[error(
        "the first sync is not complete: what only the standby has is known when `etcd-sync status` says streaming"
    )]
    FirstSync,
    /// More than the limit.
    #[error("{count} keys are more than --deletion-limit {limit}: read the plan, then give --accept-deletions {count}")]
    TooMany {
        /// Keys of the plan.
        count: u64,
        /// The limit.
        limit: u64,
    },
    /// It runs where files do not last.
    #[error(
        "nothing was deleted: this runs in a pod, and a file that is created here is lost with it; give --backup FILE on a volume \
         that stays, or run `etcd-sync prune` on a machine whose files stay"
    )]
    InPod,
}

/// Whether a standby may be pruned: its role as it was read, why replication is paused, and its phase.
///
/// # Errors
/// Why not.
pub fn may_prune(link: &str, role: Option<&[u8]>, paused: Option<&str>, phase: Option<Phase>) -> Result<(), Refusal> {
    let Some(phase) = phase else { return Err(Refusal::NeverSynchronized { link: link.to_owned() }) };
    standby(role)?;
    match paused {
        Some(why) => Err(Refusal::Paused { why: why.to_owned() }),
        None if phase == Phase::FirstSync => Err(Refusal::FirstSync),
        None => Ok(()),
    }
}

/// Whether so many keys may be deleted. `accepted` is the number given with `--accept-deletions`.
///
/// # Errors
/// They are too many.
pub fn may_delete(count: u64, limit: u64, accepted: Option<u64>) -> Result<(), Refusal> {
    if count > limit.max(accepted.unwrap_or(0)) { Err(Refusal::TooMany { count, limit }) } else { Ok(()) }
}

/// Only a standby may be written to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the link's role in this cluster must be \"standby\", and is {found}: it was promoted and serves users, or it is the wrong \
     cluster; nothing is deleted from it or put back into it (check --standby-endpoints and --link)"
)]
pub struct NotStandby {
    /// What the role key holds, for people.
    pub found: String,
}

/// Whether a role, as it was read, allows writes.
///
/// # Errors
/// It does not.
pub fn standby(role: Option<&[u8]>) -> Result<(), NotStandby> {
    other_role(role).map_or(Ok(()), |found| Err(NotStandby { found }))
}

impl Row {
    fn new(scope: &Scope, candidate: Candidate) -> Row {
        let relative = scope.split(&candidate.key).map(|(_, relative)| relative);
        let resource =
            relative.and_then(etcd_sync_core::object::object_key::resource_of).map(printable).unwrap_or_default();
        let namespace =
            relative.and_then(etcd_sync_core::object::object_key::namespace_of).map(printable).unwrap_or_default();
        let kind = candidate.about.as_ref().map_or(resource, |about| about.kind.clone());
        Row { candidate, kind, namespace }
    }
}
