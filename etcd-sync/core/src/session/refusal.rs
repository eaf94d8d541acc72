//! The reasons for which a session does not begin or does not go on, each with what to do.

use bytes::Bytes;

use crate::etcd::kv::Revision;
use crate::link::question::{Losses, Question, Topic};
use crate::link::side::Side;
use crate::link::state::BadRecord;

/// A value that cannot be decrypted: where it is on the primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encrypted {
    /// Its key.
    pub key: Bytes,
    /// The revision it was written with.
    pub revision: Revision,
}

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
    /// The primary was made from this standby's own data.
    #[error(
        "the primary is a copy of this standby, or this one of it (both have the identity {identity}, in the key /etcd-sync/identity): one was \
         restored from the other's backup; check --primary-endpoints and --standby-endpoints. If that is intended, delete the key in the \
         one that was restored"
    )]
    CopyOfStandby {
        /// The identity of both.
        identity: String,
    },
    /// The primary is itself a standby.
    #[error(
        "the primary is itself a standby (link {links}): synchronizing from it would be backwards; check --primary-endpoints. If a synchronizer was installed there by mistake, uninstall it and delete the key /etcd-sync/<link>/role of that link there"
    )]
    PrimaryIsStandby {
        /// Those links.
        links: String,
    },
    /// Another cluster than the recorded one.
    #[error(
        "the primary is cluster {found}, but this link was made with cluster {recorded}: wrong endpoints, or the primary was rebuilt or restored; if it is the right one, run `etcd-sync accept`: it shows what this standby would lose, and asks. If the standby holds the newer data, `etcd-sync failover` keeps it"
    )]
    OtherPrimary {
        /// Recorded id.
        recorded: String,
        /// Id found.
        found: String,
    },
    /// The primary is another one behind the same cluster id.
    #[error(
        "the primary's history is not the one this standby was synchronized from: {evidence}; it was restored from a backup most likely; if the standby shall follow it, run `etcd-sync accept`: it shows what this standby would lose, and asks. If the standby holds the newer data, `etcd-sync failover` keeps it"
    )]
    OtherHistory {
        /// What shows it.
        evidence: String,
    },
    /// What a cluster's raft log shows contradicts the record, but one more log entry is needed to be sure.
    #[error(
        "the {side}'s raft log may be another one than before ({evidence}); it was restored from a backup, or the member that answers has just joined; its next change shows which"
    )]
    HistoryInDoubt {
        /// Which cluster.
        side: Side,
        /// What shows it.
        evidence: String,
    },
    /// The standby's own etcd was restored from a backup, and this link's record with it.
    #[error(
        "the standby's etcd was restored from a backup ({evidence}), and this link's record with it: that is from {from}. If this cluster was promoted since then, do not stream into it: uninstall this synchronizer; if it was not, run `etcd-sync accept`"
    )]
    StandbyRestored {
        /// What shows it.
        evidence: String,
        /// When the record was written, in UTC.
        from: String,
    },
    /// The primary has nothing in scope.
    #[error(
        "the primary holds no key below the synchronized prefixes: wrong endpoints or wrong --prefix; if it is really empty, run `etcd-sync accept`: it shows what this standby would lose, and asks"
    )]
    EmptyPrimary,
    /// The guard of a copy.
    #[error(
        "this copy would delete {} and overwrite with older data {} of {scope} mirrored keys on the standby, more than the limit; nothing of it was done; check it with `etcd-sync plan`, and if it is right, run `etcd-sync accept`",
        losses.deletions, losses.overwrites
    )]
    Deletions {
        /// What would be lost, as far as counted.
        losses: Box<Losses>,
        /// Out of how many keys.
        scope: u64,
    },
    /// More would be taken away without proof than can be saved.
    #[error(
        "nothing proves that the primary's history is the one this standby was synchronized from, and this copy would take away more than can be saved on the standby ({} keys deleted, {} overwritten with older data); check it with `etcd-sync plan`, and if it is right, run `etcd-sync accept`",
        losses.deletions, losses.overwrites
    )]
    Unproved {
        /// What would be lost, as far as counted.
        losses: Box<Losses>,
    },
    /// The brake on live updates.
    #[error(
        "the brake is on: {evidence}; {} more keys would go with what has come so far ({}); nothing of these was applied. If it is right, run `etcd-sync accept`: it shows what this standby would lose, and asks. If it is a mistake, this standby still has them: `etcd-sync failover` keeps them",
        losses.deletions, losses.summary()
    )]
    Brake {
        /// Which limit is passed, and what is gone here already.
        evidence: String,
        /// What would go, as far as it has come.
        losses: Box<Losses>,
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
        /// Where the value is.
        encrypted: Encrypted,
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
            Refusal::CopyOfStandby { .. } => "copy_of_standby",
            Refusal::PrimaryIsStandby { .. } => "primary_is_standby",
            Refusal::OtherPrimary { .. } => "other_primary",
            Refusal::OtherHistory { .. } => "other_history",
            Refusal::HistoryInDoubt { .. } => "history_in_doubt",
            Refusal::StandbyRestored { .. } => "standby_restored",
            Refusal::EmptyPrimary => "empty_primary",
            Refusal::Deletions { .. } => "deletion_guard",
            Refusal::Unproved { .. } => "unproved",
            Refusal::Brake { .. } => "brake",
            Refusal::Undecryptable { .. } => "undecryptable_value",
            Refusal::TooManyLocalKeys { .. } => "too_many_local_keys",
            Refusal::Checkpoint(_) => "bad_checkpoint",
        }
    }

    /// What is asked of the operator with it: the topic, the evidence, and what would be lost; `None`: no answer helps.
    fn topic(&self) -> Option<(Topic, String, Option<Losses>)> {
        Some(match self {
            Refusal::OtherPrimary { recorded, found } => {
                (Topic::OtherPrimary, format!("the primary is cluster {found}, the record names {recorded}"), None)
            }
            Refusal::OtherHistory { evidence } => (Topic::OtherHistory, evidence.clone(), None),
            Refusal::StandbyRestored { evidence, from } => {
                (Topic::StandbyRestored, format!("{evidence}; the record is from {from}"), None)
            }
            Refusal::EmptyPrimary => (Topic::EmptyPrimary, "the primary has no key in scope".into(), None),
            Refusal::Deletions { losses, .. } => {
                (Topic::Deletions, "a copy would take away more than the limit".into(), Some((**losses).clone()))
            }
            Refusal::Unproved { losses } => {
                let evidence =
                    "nothing proves the primary's history, and a copy would take away more than can be saved";
                (Topic::Unproved, evidence.into(), Some((**losses).clone()))
            }
            Refusal::Brake { evidence, losses } => (Topic::Brake, evidence.clone(), Some((**losses).clone())),
            _ => return None,
        })
    }

    /// The question to put on record; `None`: no answer of the operator helps. `primary` is the cluster id found.
    pub fn question(&self, primary: &str, now_ms: u64, holder: &str) -> Option<Question> {
        let (topic, evidence, losses) = self.topic()?;
        let (primary, holder) = (primary.to_owned(), holder.to_owned());
        Some(Question { format: Question::FORMAT, topic, evidence, primary, losses, asked_ms: now_ms, holder })
    }
}
