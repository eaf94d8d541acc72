//! What the synchronizer keeps in the standby's etcd, under `/etcd-sync/<link>/`, outside every synchronized prefix.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::history::Witness;
use crate::etcd::kv::Revision;

/// `role` of a cluster that receives: the only role under which a synchronizer may write.
pub const ROLE_STANDBY: &[u8] = b"standby";

/// `role` of a cluster that serves users: every transaction of every synchronizer is refused.
pub const ROLE_PRIMARY: &[u8] = b"primary";

/// An id of our own of a cluster that is, or was, a standby: random, made once before its first role. It tells a cluster apart where
/// etcd's cluster id does not: a restore with other initial members has another cluster id, and the same identity.
pub const IDENTITY: &[u8] = b"/etcd-sync/identity";

/// The names of one link's state keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateKeys {
    /// `standby` or `primary`.
    pub role: Bytes,
    /// Which keys the link takes for its own ([`super::overlap::ScopeRecord`]).
    pub scope: Bytes,
    /// The [`Checkpoint`].
    pub checkpoint: Bytes,
    /// Written by every transaction of a copy: marks its revision as ours, shows progress to `status`.
    pub copied: Bytes,
    /// Why replication is paused, for people ([`Condition`]); absent when it is not.
    pub condition: Bytes,
    /// Where the histories of the two clusters diverge, once it was promoted ([`crate::link::role::Promotion`]).
    pub promotion: Bytes,
    /// How it became a standby again after it was the primary ([`super::rejoining::Rejoining`]).
    pub rejoin: Bytes,
    /// What was last seen of the primary ([`PrimaryContact`]).
    pub primary_contact: Bytes,
    /// What both histories are recognized by ([`super::history::HistoryRecord`]).
    pub history: Bytes,
    /// What is asked of the operator ([`super::question::Question`]); absent when nothing is.
    pub question: Bytes,
    /// The operator's answer ([`super::question::Acceptance`]), until it is used up.
    pub acceptance: Bytes,
    /// Name of the run of a failover command that is not finished; absent when there is none.
    pub open_run: Bytes,
    /// Prefix of the journal: one entry for each run of a failover command (`etcd_sync_operations::procedure::Run`).
    pub journal_prefix: Bytes,
    /// Prefix of the keys of whoever carries a run out.
    pub runner_prefix: Bytes,
    /// Prefix of the election's keys.
    pub leader_prefix: Bytes,
    /// Prefix of the ledger of local keys: one empty key for each.
    pub local_prefix: Bytes,
    /// Prefix of the record of mirrored keys that others have changed on the standby: one empty key for each; and of those whose value the
    /// standby refuses ([`super::too_large::TooLarge`]).
    pub edited_prefix: Bytes,
    /// Prefix of values that were saved before they were deleted or overwritten without proof that this was right.
    pub saved_prefix: Bytes,
    /// Prefix of all of them.
    pub root: Bytes,
}

impl StateKeys {
    /// The names for the link called `link`.
    pub fn new(link: &str) -> Self {
        let name = |suffix: &str| Bytes::from(format!("/etcd-sync/{link}/{suffix}"));
        StateKeys {
            role: name("role"),
            scope: name("scope"),
            checkpoint: name("checkpoint"),
            copied: name("copied"),
            condition: name("condition"),
            promotion: name("promotion"),
            rejoin: name("rejoin"),
            primary_contact: name("primary-contact"),
            history: name("history"),
            question: name("question"),
            acceptance: name("acceptance"),
            open_run: name("open-run"),
            journal_prefix: name("journal/"),
            runner_prefix: name("runner/"),
            leader_prefix: name("leader/"),
            local_prefix: name("local/"),
            edited_prefix: name("edited/"),
            saved_prefix: name("saved/"),
            root: name(""),
        }
    }

    /// The journal's entry for a run.
    pub fn journal_entry(&self, run: &str) -> Bytes {
        [&self.journal_prefix[..], run.as_bytes()].concat().into()
    }

    /// The ledger's entry for a local key.
    pub fn local_entry(&self, key: &[u8]) -> Bytes {
        [&self.local_prefix[..], key].concat().into()
    }

    /// The local key that a ledger entry stands for.
    pub fn local_key(&self, entry: &Bytes) -> Option<Bytes> {
        entry.starts_with(&self.local_prefix).then(|| entry.slice(self.local_prefix.len()..))
    }

    /// The entry of a mirrored key that others have changed.
    pub fn edited_entry(&self, key: &[u8]) -> Bytes {
        [&self.edited_prefix[..], key].concat().into()
    }

    /// Where the value of a key is saved.
    pub fn saved_entry(&self, key: &[u8]) -> Bytes {
        [&self.saved_prefix[..], key].concat().into()
    }

    /// Whether a change of `key` proves that the transaction it came in was a synchronizer's.
    pub fn marks_own_revision(&self, key: &[u8]) -> bool {
        key == &self.checkpoint[..] || key == &self.copied[..]
    }
}

/// How far the link has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The first copy is not complete: the standby is not consistent with any revision of the primary yet.
    FirstSync,
    /// A later copy by difference is under way: the standby is not consistent with one single revision just now.
    Resync,
    /// The standby is consistent with exactly the checkpoint's revision.
    Streaming,
}

impl Phase {
    /// The name shown to people and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Phase::FirstSync => "first-sync",
            Phase::Resync => "resync",
            Phase::Streaming => "streaming",
        }
    }
}

/// The record that moves only in the transaction that carries its data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// Format of this record: [`Checkpoint::FORMAT`].
    pub format: u32,
    /// The primary's cluster id, in hexadecimal.
    pub primary: String,
    /// Phase of the link.
    pub phase: Phase,
    /// Everything up to this revision of the primary is applied (all of it when `offset` is 0).
    pub revision: Revision,
    /// When not 0: only the first `offset` changes of `revision` are applied.
    pub offset: u64,
    /// Epoch of the leader that wrote it.
    pub epoch: Revision,
    /// Counted up by every write of this record, so that no two of its values are ever equal: the fence compares values.
    pub writes: u64,
    /// The last change applied, to recognize the primary's history by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witness: Option<Witness>,
    /// Fingerprint of the scope it was written under.
    pub scope: String,
    /// Every foreign creation on the standby up to this revision of the standby is in the ledger of local keys.
    pub seen: Revision,
    /// The standby's revision before this link wrote anything: what is older was never ours.
    pub base: Revision,
    /// When it was written, in Unix milliseconds, by the writer's clock.
    pub at_ms: u64,
    /// Deletions that the operator has seen and accepted for the copy under way, beside what is always allowed. `rejoin`
    /// writes it; it ends with the copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_deletions: Option<u64>,
}

impl Checkpoint {
    /// The format this program reads and writes.
    pub const FORMAT: u32 = 1;

    /// The value written to etcd.
    pub fn encode(&self) -> Bytes {
        serde_json::to_vec(self).expect("a checkpoint has only plain fields").into()
    }

    /// Reads a value from etcd.
    ///
    /// # Errors
    /// It is none, or another version's.
    pub fn decode(value: &[u8]) -> Result<Self, BadRecord> {
        BadRecord::decode("checkpoint", Self::FORMAT, value)
    }
}

/// The newest contact that the leader had with the primary. It is written now and then, not with every change: what the primary
/// took after it is not known here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrimaryContact {
    /// Its newest revision then.
    pub revision: Revision,
    /// When, in Unix milliseconds, by the leader's clock.
    pub at_ms: u64,
}

/// A record of ours that cannot be used. Nothing is changed while it is there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// Written by another version.
    #[error("the {what} has format {found}, this program knows only {known}: run the version that wrote it")]
    OtherFormat {
        /// Which record.
        what: &'static str,
        /// The format found.
        found: u32,
        /// The format known.
        known: u32,
    },
    /// Not a record of ours.
    #[error("the {what} cannot be read ({problem}): something else wrote to the link's state directory")]
    Unreadable {
        /// Which record.
        what: &'static str,
        /// What is wrong.
        problem: String,
    },
}

impl BadRecord {
    /// Reads a JSON record that names its format.
    ///
    /// # Errors
    /// It is none, or its format is not the `known` one.
    pub fn decode<T: DeserializeOwned>(what: &'static str, known: u32, value: &[u8]) -> Result<T, Self> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let unreadable = |error: serde_json::Error| BadRecord::Unreadable { what, problem: error.to_string() };
        let Format { format: found } = serde_json::from_slice(value).map_err(unreadable)?;
        if found != known {
            return Err(BadRecord::OtherFormat { what, found, known });
        }
        serde_json::from_slice(value).map_err(unreadable)
    }
}

/// Why replication is paused, as `status` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// The refusal, in words, with what to do.
    pub paused: String,
    /// Since when, in Unix milliseconds.
    pub since_ms: u64,
    /// The replica that reports it.
    pub holder: String,
}

/// Shows a cluster id the way etcd's own tools do in JSON-free output: hexadecimal.
pub fn cluster_id_text(id: u64) -> String {
    format!("{id:x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint() -> Checkpoint {
        Checkpoint {
            format: Checkpoint::FORMAT,
            primary: cluster_id_text(0xcdf8_18a1_94e3_a8f1),
            phase: Phase::Streaming,
            revision: 12,
            offset: 3,
            epoch: 7,
            writes: 1,
            witness: Witness::new(b"/registry/a", 12, Some(b"v"), true),
            scope: "00".into(),
            seen: 9,
            base: 1,
            at_ms: 1,
            accepted_deletions: None,
        }
    }

    #[test]
    fn a_checkpoint_survives_the_round_trip() {
        assert_eq!(Checkpoint::decode(&checkpoint().encode()), Ok(checkpoint()));
        // Programs that do not know the field read every record but that of a rejoin's copy.
        assert!(!String::from_utf8_lossy(&checkpoint().encode()).contains("accepted"));
        let accepted = Checkpoint { accepted_deletions: Some(7), ..checkpoint() };
        assert_eq!(Checkpoint::decode(&accepted.encode()), Ok(accepted));
    }

    #[test]
    fn another_format_and_garbage_are_told_apart() {
        let newer = String::from_utf8(checkpoint().encode().to_vec()).unwrap().replace("\"format\":1", "\"format\":2");
        assert_eq!(
            Checkpoint::decode(newer.as_bytes()),
            Err(BadRecord::OtherFormat { what: "checkpoint", found: 2, known: 1 })
        );
        assert!(matches!(Checkpoint::decode(b"rubbish"), Err(BadRecord::Unreadable { .. })));
    }

    #[test]
    fn a_ledger_entry_names_its_key() {
        let keys = StateKeys::new("default");
        let entry = keys.local_entry(b"/registry/\xff");
        assert_eq!(keys.local_key(&entry), Some(Bytes::from_static(b"/registry/\xff")));
        assert_eq!(keys.local_key(&keys.role), None);
    }
}
