//! The reasons for which a session does not begin or does not go on, each with what to do.

use crate::etcd::kv::Revision;
use crate::link::state::BadRecord;

/// Why a synchronizer will not go on. It stays harmless and checks again later; each text names what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The standby's role forbids writing.
    #[error(
        "the role of this standby is {found}, not \"standby\": it was promoted and serves users now, or it did before it was demoted; if that is intended, uninstall this synchronizer; to make it the standby of this primary, run `etcd-sync rejoin` with the same flags: it first saves what only this cluster has"
    )]
    Promoted {
        /// What the role key holds, for people.
        found: String,
    },
    /// The standby was promoted under another link's name, which this one does not know of.
    #[error(
        "this cluster is no standby on its link {links}: it was promoted and serves users now, or it did before it was demoted; \
         is --link (`link` in the chart) missing or misspelled? To make this cluster the standby of this primary, run \
         `etcd-sync rejoin` with the same flags: it first saves what only this cluster has"
    )]
    PromotedElsewhere {
        /// Those links.
        links: String,
    },
    /// It served users before its standby was promoted: what it took meanwhile would be overwritten.
    #[error(
        "this cluster ({cluster}) is the old primary that the new one was promoted over: what was written here since would be lost; run `etcd-sync rejoin` with the same flags: it shows and saves that first, then makes this cluster the standby"
    )]
    OldPrimary {
        /// Its id.
        cluster: String,
    },
    /// The primary was promoted by hand: this cluster may be the old primary, whose writes a copy would overwrite.
    #[error(
        "the primary was promoted, but its {key} is missing, which names the cluster that it was promoted over: this one may be the old primary; write it (docs/runbook.md, Promotion by hand), then run `etcd-sync rejoin` if it is"
    )]
    PromotionUnrecorded {
        /// The key.
        key: String,
    },
    /// The role was removed by hand.
    #[error(
        "the role of this standby is missing although the link has run before: somebody deleted {key}; find out who promoted or cleaned this cluster, then put \"standby\" there to go on"
    )]
    RoleMissing {
        /// The role's key.
        key: String,
    },
    /// Both sides are one cluster.
    #[error(
        "primary and standby are the same etcd cluster (id {cluster}): check --primary-endpoints and --standby-endpoints"
    )]
    SameCluster {
        /// Its id.
        cluster: String,
    },
    /// The primary is itself a standby.
    #[error(
        "the primary is itself a standby (link {links}): synchronizing from it would be backwards; check --primary-endpoints"
    )]
    PrimaryIsStandby {
        /// Those links.
        links: String,
    },
    /// Another cluster than the recorded one.
    #[error(
        "the primary is cluster {found}, but this link was made with cluster {recorded}: wrong endpoints, or the primary was rebuilt; if it is the right one, give --accept-new-primary {found}"
    )]
    OtherPrimary {
        /// Recorded id.
        recorded: String,
        /// Id found.
        found: String,
    },
    /// The primary is older than what was already taken from it.
    #[error(
        "the primary's history went back: it is at revision {revision}, but revision {checkpoint} of it was already applied here; it was restored from an older snapshot; if the standby should follow it, give --accept-new-primary {cluster}"
    )]
    HistoryWentBack {
        /// The primary's revision.
        revision: Revision,
        /// The checkpoint's.
        checkpoint: Revision,
        /// The primary's id.
        cluster: String,
    },
    /// The primary is another one behind the same cluster id.
    #[error(
        "the primary's history is not the one this standby was synchronized from: {evidence}; it was restored from an older \
         snapshot and written to since; if the standby should follow it, give --accept-new-primary {cluster}"
    )]
    HistoryDiffers {
        /// What shows it.
        evidence: String,
        /// The primary's id.
        cluster: String,
    },
    /// The primary has nothing in scope.
    #[error(
        "the primary holds no key below the synchronized prefixes: wrong endpoints or wrong --prefix; if it is really empty, give --accept-empty-primary"
    )]
    EmptyPrimary,
    /// The deletion guard.
    #[error(
        "this resync would delete {deletions} of {scope} mirrored keys on the standby, more than the limit; nothing was changed; check it with `etcd-sync plan`, and if it is right, give --accept-deletions {deletions}"
    )]
    Deletions {
        /// How many.
        deletions: u64,
        /// Out of how many.
        scope: u64,
    },
    /// The standby's API server could not serve it.
    #[error(
        "the value of {key} cannot be decrypted ({why}): the standby's API server could not either, and one such value makes all \
         objects of its kind unreadable there; nothing of it was written; give both API servers the same encryption configuration, \
         and this program with --encryption-config"
    )]
    Undecryptable {
        /// The key, printable.
        key: String,
        /// What is wrong, without any of the value.
        why: String,
    },
    /// The standby has too many keys of its own.
    #[error(
        "the standby holds more than {limit} keys in scope that the primary does not have: it looks like a cluster in use; check --standby-endpoints, or narrow the scope"
    )]
    TooManyLocalKeys {
        /// The limit.
        limit: usize,
    },
    /// The record cannot be used.
    #[error(transparent)]
    Checkpoint(#[from] BadRecord),
}

impl Refusal {
    /// A short name for metrics and JSON.
    pub fn label(&self) -> &'static str {
        match self {
            Refusal::Promoted { .. } => "promoted",
            Refusal::PromotedElsewhere { .. } => "promoted_elsewhere",
            Refusal::OldPrimary { .. } => "old_primary",
            Refusal::PromotionUnrecorded { .. } => "promotion_unrecorded",
            Refusal::RoleMissing { .. } => "role_missing",
            Refusal::SameCluster { .. } => "same_cluster",
            Refusal::PrimaryIsStandby { .. } => "primary_is_standby",
            Refusal::OtherPrimary { .. } => "other_primary",
            Refusal::HistoryWentBack { .. } => "history_went_back",
            Refusal::HistoryDiffers { .. } => "history_differs",
            Refusal::EmptyPrimary => "empty_primary",
            Refusal::Deletions { .. } => "deletion_guard",
            Refusal::Undecryptable { .. } => "undecryptable_value",
            Refusal::TooManyLocalKeys { .. } => "too_many_local_keys",
            Refusal::Checkpoint(_) => "bad_checkpoint",
        }
    }
}
