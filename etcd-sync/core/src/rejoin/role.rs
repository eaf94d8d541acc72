//! The change of role, in one transaction.

use bytes::Bytes;

use super::Rejoining;
use crate::kv::{KeyValue, Revision};
use crate::request::{Compare, Op, Txn};
use crate::state::{Checkpoint, Phase, ROLE_STANDBY, StateKeys};

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
    let gone = [&keys.copied, &keys.promotion, &keys.condition, &keys.primary_seen];
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
