//! The old primary becomes the standby of the cluster that was promoted over it: where their histories diverge, what only the
//! old one has, and the transaction that changes its role.

mod found;
mod plan;
mod steps;
#[cfg(test)]
mod tests;
mod text;

pub use self::found::{Change, Found, Origin, Pair, judge};
pub use self::plan::{Kept, Line, Note, Plan};
pub use self::steps::{remaining_steps, settled_before};
pub use self::text::{Outcome, Proof};

use etcd_sync_core::etcd::kv::{KeyValue, Revision};
use etcd_sync_core::link::rejoining::Rejoining;
use etcd_sync_core::link::role::{Promotion, Role};
use etcd_sync_core::link::state::{BadRecord, Checkpoint, Phase, cluster_id_text};

/// Where the history of the old primary parts from what the new one took of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// Everything up to this revision of the old primary is on the new one. 0: nothing is known to be.
    pub revision: Revision,
    /// When not 0: of `revision` itself only so many changes are.
    pub offset: u64,
    /// The new primary's revision of its promotion.
    pub promoted: Revision,
}

impl Divergence {
    /// Whether it is known where they part.
    pub fn is_known(&self) -> bool {
        self.revision > 0
    }

    /// Whether the old primary's key was last written after the point of divergence. Of a revision that arrived in parts every key
    /// counts as later: which of its changes arrived is not told by the key, and its value is compared anyway.
    pub fn is_later(&self, kv: &KeyValue) -> bool {
        kv.mod_revision > self.revision || (self.offset > 0 && kv.mod_revision == self.revision)
    }
}

/// What was read of both clusters.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The old primary's cluster id.
    pub old_cluster: u64,
    /// The new primary's.
    pub new_cluster: u64,
    /// The old primary's newest revision.
    pub old_revision: Revision,
    /// The old primary's role.
    pub old_role: Role,
    /// The new primary's.
    pub new_role: Role,
    /// The old primary's own record as a standby, if it has one that can be read.
    pub old_checkpoint: Option<Checkpoint>,
    /// What an earlier run has written down in the old primary.
    pub rejoining: Option<Rejoining>,
    /// How the new primary was promoted, and its revision of that moment.
    pub promotion: Option<(Promotion, Revision)>,
    /// What the new primary last recorded of the old one.
    pub new_checkpoint: Option<Checkpoint>,
    /// Whether the old primary still shows the change that record names; `None`: that is compacted, or not recorded.
    pub witness_recognized: Option<bool>,
    /// Fingerprint of the scope asked for.
    pub scope: String,
    /// The operator's word that the old primary's history need not be the one that was synchronized.
    pub accept_other_history: bool,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stand {
    /// Everything: the histories diverge here.
    Apart(Divergence),
    /// An earlier run has changed the role and was interrupted.
    Begun(Rejoining),
    /// Nothing: it is a standby of that cluster already.
    Standby(Phase),
}

/// Why nothing is done. Each text says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Both sides are one cluster.
    #[error(
        "both sides are the same etcd cluster (id {cluster}): --primary-endpoints must name the new primary, \
         --standby-endpoints the old one"
    )]
    SameCluster {
        /// Its id.
        cluster: String,
    },
    /// The cluster named as the new primary is none.
    #[error(
        "the cluster of --primary-endpoints is not the promoted one: its role is {found}; if the two are swapped, name the new \
         primary with --primary-endpoints and the old one with --standby-endpoints; if it was never promoted, see `etcd-sync failover`"
    )]
    NotPromoted {
        /// Its role, for people.
        found: String,
    },
    /// Its role says primary, but nothing says since when.
    #[error(
        "the new primary has the role \"primary\" but no record of its promotion ({key}): it was not promoted by this program; \
         where the histories diverge cannot be told. If this cluster's data may go: save it with `etcdctl snapshot save`, then begin \
         with an empty etcd"
    )]
    NoPromotion {
        /// Where it should be.
        key: String,
    },
    /// It was promoted over a third cluster.
    #[error(
        "the new primary was promoted over cluster {recorded}, and this one is {found}: it never was its primary; check \
         --standby-endpoints"
    )]
    OtherCluster {
        /// Recorded id.
        recorded: String,
        /// This cluster's.
        found: String,
    },
    /// It is the standby of a third cluster.
    #[error(
        "this cluster is already the standby of cluster {recorded}, not of {found}: check --primary-endpoints and --link"
    )]
    OtherPrimary {
        /// Recorded id.
        recorded: String,
        /// The one named.
        found: String,
    },
    /// Its role is one that none of our programs writes.
    #[error(
        "the role of this cluster is {found}, which no program of ours writes: find out who did, then delete the key {key}"
    )]
    UnknownRole {
        /// It, for people.
        found: String,
        /// Where it is.
        key: String,
    },
    /// Another scope.
    #[error(
        "the scope is not the one that the new primary was synchronized with, so what is missing there cannot be told: give the \
         same --prefix, --plain-prefix, --exclude-namespace, --cluster-local-add, --cluster-local-remove, --include-key and \
         --exclude-key (one --config file serves all commands)"
    )]
    OtherScope,
    /// Another history.
    #[error(
        "this cluster's history is not the one that the new primary was synchronized from: {evidence}; it was restored from a \
         backup, perhaps. Which of its keys the new primary had cannot be told; with --accept-other-history all that differ \
         count as never copied, and are saved"
    )]
    OtherHistory {
        /// What shows it.
        evidence: String,
    },
    /// A record cannot be used.
    #[error(transparent)]
    Record(#[from] BadRecord),
}

/// Judges the facts. `role_key` and `promotion_key` are for messages.
///
/// # Errors
/// Why nothing may be done.
pub fn stand(facts: &Facts, role_key: &str, promotion_key: &str) -> Result<Stand, Refusal> {
    let (old, new) = (cluster_id_text(facts.old_cluster), cluster_id_text(facts.new_cluster));
    if old == new {
        return Err(Refusal::SameCluster { cluster: old });
    }
    if facts.new_role != Role::Primary {
        return Err(Refusal::NotPromoted { found: role_text(&facts.new_role) });
    }
    if facts.old_role == Role::Standby {
        return match (&facts.rejoining, &facts.old_checkpoint) {
            (Some(rejoining), _) if rejoining.primary == new && !rejoining.done => Ok(Stand::Begun(rejoining.clone())),
            (_, Some(checkpoint)) if checkpoint.primary == new => Ok(Stand::Standby(checkpoint.phase)),
            (_, Some(checkpoint)) => {
                Err(Refusal::OtherPrimary { recorded: checkpoint.primary.clone(), found: new.clone() })
            }
            // It has the role, and nothing was copied yet: `run` begins.
            (_, None) => Ok(Stand::Standby(Phase::FirstSync)),
        };
    }
    if let Role::Other(found) = &facts.old_role {
        return Err(Refusal::UnknownRole { found: found.clone(), key: role_key.to_owned() });
    }
    let Some((promotion, promoted)) = &facts.promotion else {
        return Err(Refusal::NoPromotion { key: promotion_key.to_owned() });
    };
    if promotion.primary != old {
        return Err(Refusal::OtherCluster { recorded: promotion.primary.clone(), found: old });
    }
    if facts.new_checkpoint.as_ref().is_some_and(|checkpoint| checkpoint.scope != facts.scope) {
        return Err(Refusal::OtherScope);
    }
    let divergence = Divergence { revision: promotion.revision, offset: promotion.offset, promoted: *promoted };
    match other_history(facts, promotion) {
        None => Ok(Stand::Apart(divergence)),
        Some(_) if facts.accept_other_history => Ok(Stand::Apart(Divergence { revision: 0, offset: 0, ..divergence })),
        Some(evidence) => Err(Refusal::OtherHistory { evidence }),
    }
}

fn role_text(role: &Role) -> String {
    match role {
        Role::None => "none at all".into(),
        Role::Standby => "\"standby\"".into(),
        Role::Primary => "\"primary\"".into(),
        Role::Demoted { token } => format!("\"demoted:{token}\" (it was handed over itself)"),
        Role::Other(other) => format!("\"{other}\""),
    }
}

/// What shows that the old primary is not what it was.
fn other_history(facts: &Facts, promotion: &Promotion) -> Option<String> {
    if facts.old_revision < promotion.revision {
        return Some(format!(
            "it is at revision {}, but revision {} of it was copied",
            facts.old_revision, promotion.revision
        ));
    }
    let witness = facts.new_checkpoint.as_ref().and_then(|checkpoint| checkpoint.witness.as_ref())?;
    (facts.witness_recognized == Some(false))
        .then(|| format!("its revision {} is not the change of {} that was copied", witness.revision, witness.key))
}
