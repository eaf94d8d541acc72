//! The old primary becomes a standby: what is recorded meanwhile, and the change of its role, in one transaction.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::etcd::kv::{KeyValue, Revision};
use crate::etcd::request::{Compare, Op, Txn};
use crate::link::state::{BadRecord, Checkpoint, Phase, ROLE_STANDBY, StateKeys};

/// What is written down in the old primary while it rejoins, so that another run can go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rejoining {
    /// [`Rejoining::FORMAT`].
    pub format: u32,
    /// The new primary's cluster id, in hexadecimal.
    pub primary: String,
    /// Up to this revision of its own everything that goes is in the file.
    pub from: Revision,
    /// The file, as it was named; empty when nothing had to be saved.
    pub file: String,
    /// Keys in it.
    pub saved: u64,
    /// When the role changed, in Unix milliseconds.
    pub at_ms: u64,
    /// Everything was copied and proved.
    pub done: bool,
}

impl Rejoining {
    /// The format this program reads and writes.
    pub const FORMAT: u32 = 1;

    /// The value written to etcd.
    pub fn encode(&self) -> Bytes {
        serde_json::to_vec(self).expect("it has only plain fields").into()
    }

    /// Reads a value from etcd.
    ///
    /// # Errors
    /// It is none, or another version's.
    pub fn decode(value: &[u8]) -> Result<Self, BadRecord> {
        BadRecord::decode("record of the rejoin", Self::FORMAT, value)
    }
}

/// Makes the old primary a standby whose first copy is one by difference, in which everything as old as `rejoining.from`
/// counts as mirrored. Holds only for the role as it was read (`None`: it has none).
///
/// `scope` is the scope's fingerprint, `writes` what the old primary's own checkpoint counted up to, `deletions` what the
/// operator accepted.
pub fn take_role(
    keys: &StateKeys,
    role: Option<&KeyValue>,
    rejoining: &Rejoining,
    scope: &str,
    writes: u64,
    deletions: u64,
) -> Txn {
    let checkpoint = Checkpoint {
        format: Checkpoint::FORMAT,
        primary: rejoining.primary.clone(),
        phase: Phase::Resync,
        revision: 0,
        offset: 0,
        epoch: 0,
        writes: writes + 1,
        witness: None,
        scope: scope.to_owned(),
        // Whatever was made here later is in no file, and stays as this cluster's own.
        seen: rejoining.from,
        // As after a complete first sync: what is older may be mirrored.
        base: 0,
        at_ms: rejoining.at_ms,
        accepted_deletions: Some(deletions),
    };
    let put = |key: &Bytes, value: Bytes| Op::Put { key: key.clone(), value, lease: 0 };
    // Of an earlier life: what was seen then was another primary.
    let gone = [
        &keys.copied,
        &keys.promotion,
        &keys.condition,
        &keys.primary_contact,
        &keys.history,
        &keys.question,
        &keys.acceptance,
    ];
    let mut success = vec![
        put(&keys.role, Bytes::from_static(ROLE_STANDBY)),
        put(&keys.checkpoint, checkpoint.encode()),
        put(&keys.rejoin, rejoining.encode()),
    ];
    success.extend(gone.map(|key| Op::Delete { key: key.clone() }));
    Txn {
        compares: vec![role_unchanged(keys, role)],
        success,
        failure: vec![Op::Get { key: keys.role.clone() }, Op::Get { key: keys.rejoin.clone() }],
    }
}

/// Changes of the ledger before the role changes: nobody heeds it as long as the cluster is no standby.
pub fn ledger_changes(
    keys: &StateKeys,
    role: Option<&KeyValue>,
    remove: impl Iterator<Item = Bytes>,
    add: impl Iterator<Item = Bytes>,
) -> Txn {
    let removals = remove.map(|key| Op::Delete { key: keys.local_entry(&key) });
    let additions = add.map(|key| Op::Put { key: keys.local_entry(&key), value: Bytes::new(), lease: 0 });
    Txn {
        compares: vec![role_unchanged(keys, role)],
        success: removals.chain(additions).collect(),
        failure: vec![Op::Get { key: keys.role.clone() }],
    }
}

fn role_unchanged(keys: &StateKeys, role: Option<&KeyValue>) -> Compare {
    let revision: Revision = role.map_or(0, |role| role.mod_revision);
    Compare::ModRevision { key: keys.role.clone(), revision }
}
