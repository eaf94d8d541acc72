//! The fence around every write: role, leader epoch and checkpoint, compared in the transaction itself.

use bytes::Bytes;

use crate::etcd::kv::{KeyValue, Revision, printable};
use crate::etcd::request::{Compare, Op, Txn, TxnReply};
use crate::link::state::{ROLE_STANDBY, StateKeys};

/// What every write to a standby compares, whoever makes it: that the cluster was not promoted.
pub fn is_standby(keys: &StateKeys) -> Compare {
    Compare::Value { key: keys.role.clone(), value: Bytes::from_static(ROLE_STANDBY) }
}

/// The role found in place of "standby", for people; `None` when it is "standby".
pub fn other_role(role: Option<&[u8]>) -> Option<String> {
    match role {
        Some(role) if role == ROLE_STANDBY => None,
        Some(role) => Some(format!("\"{}\"", printable(role))),
        None => Some("no role at all".into()),
    }
}

/// What a transaction of this leader must find, or nothing of it is applied.
#[derive(Clone, Debug)]
pub struct Fence {
    /// The link's state keys.
    pub keys: StateKeys,
    /// The leader's own election key.
    pub leader_key: Bytes,
    /// Creation revision of that key.
    pub epoch: Revision,
}

/// Why a fenced transaction was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fenced {
    /// The standby was promoted.
    #[error(
        "the role of this standby is no longer \"standby\" (found {found}): it was promoted, and nothing may write to it any more; uninstall this synchronizer, or if the cluster shall become a standby again, run `etcd-sync rejoin`"
    )]
    Role {
        /// What the role key holds, shown for people.
        found: String,
    },
    /// Another leader has taken over, or our lease ran out.
    #[error("this replica is no longer the leader: its lease ran out or was revoked")]
    Epoch,
    /// The checkpoint is not the one expected: a transaction with unknown outcome was applied after all.
    #[error("the checkpoint is not the one this transaction was built on")]
    Checkpoint,
}

impl Fence {
    /// A fenced transaction. `checkpoint` is the value it must find (`None`: the key must not exist).
    pub fn txn(&self, checkpoint: Option<&Bytes>, success: Vec<Op>) -> Txn {
        let checkpoint = match checkpoint {
            Some(value) => Compare::Value { key: self.keys.checkpoint.clone(), value: value.clone() },
            None => Compare::CreateRevision { key: self.keys.checkpoint.clone(), revision: 0 },
        };
        let compares = vec![is_standby(&self.keys), self.is_leader(), checkpoint];
        // Only what tells the reasons apart: a refused transaction must stay small.
        let failure = vec![Op::Get { key: self.keys.role.clone() }, Op::Get { key: self.leader_key.clone() }];
        Txn { compares, success, failure }
    }

    /// That this leader still leads.
    pub fn is_leader(&self) -> Compare {
        Compare::CreateRevision { key: self.leader_key.clone(), revision: self.epoch }
    }

    /// What stopped a transaction made by [`Fence::txn`] that did not succeed.
    pub fn diagnose(&self, reply: &TxnReply) -> Fenced {
        let get = |index: usize| -> Option<&KeyValue> { reply.gets.get(index).and_then(Option::as_ref) };
        if let Some(found) = other_role(get(0).map(|role| &role.value[..])) {
            return Fenced::Role { found };
        }
        match get(1) {
            Some(leader) if leader.create_revision == self.epoch => Fenced::Checkpoint,
            _ => Fenced::Epoch,
        }
    }
}
