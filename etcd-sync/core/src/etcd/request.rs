//! The requests the core asks for and the answers it is given. The store carries them to a real etcd, the simulation to
//! a model of one.

use bytes::Bytes;

use crate::etcd::kv::{KeyRange, KeyValue, Revision};

/// A range read. Always linearizable, in key order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadRange {
    /// Which keys.
    pub range: KeyRange,
    /// At most so many keys; 0 is no limit.
    pub limit: i64,
    /// Without the values.
    pub keys_only: bool,
    /// The revision to read at; 0 is the newest.
    pub revision: Revision,
}

impl ReadRange {
    /// One key, at a revision (0: the newest).
    pub fn single(key: Bytes, keys_only: bool, revision: Revision) -> Self {
        ReadRange { range: KeyRange::single(key), limit: 1, keys_only, revision }
    }
}

/// The answer to a [`ReadRange`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The keys read, in key order.
    pub kvs: Vec<KeyValue>,
    /// Whether the range holds more keys behind the last one.
    pub more: bool,
    /// Keys in the whole range at the revision read, whatever the limit.
    pub count: i64,
    /// The cluster's revision at the time of the answer; what was read when the request named no revision.
    pub revision: Revision,
}

impl Page {
    /// Bytes of its keys and values.
    pub fn size_bytes(&self) -> usize {
        self.kvs.iter().map(|kv| kv.key.len() + kv.value.len()).sum()
    }
}

/// A transaction: when every compare holds, `success` is applied at one revision, else `failure` is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// All must hold.
    pub compares: Vec<Compare>,
    /// Done when they hold.
    pub success: Vec<Op>,
    /// Done when one does not.
    pub failure: Vec<Op>,
}

/// One condition of a transaction. A comparison of the value of a key that does not exist never holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compare {
    /// The key exists and holds exactly this value.
    Value {
        /// The key compared.
        key: Bytes,
        /// The value it must have.
        value: Bytes,
    },
    /// The key's creation revision; 0 means the key does not exist.
    CreateRevision {
        /// The key compared.
        key: Bytes,
        /// The revision it must have.
        revision: Revision,
    },
    /// The key's modification revision; 0 means the key does not exist.
    ModRevision {
        /// The key compared.
        key: Bytes,
        /// The revision it must have.
        revision: Revision,
    },
}

/// One operation of a transaction.
#[derive(Clone, PartialEq, Eq)]
pub enum Op {
    /// Write a value. `lease` is 0 for everything but an election's own key: lease ids mean nothing in another cluster.
    Put {
        /// The key written.
        key: Bytes,
        /// The value, verbatim.
        value: Bytes,
        /// Lease to hang the key on; 0 is none.
        lease: i64,
    },
    /// Delete one key; nothing happens when it does not exist.
    Delete {
        /// The key deleted.
        key: Bytes,
    },
    /// Read one key.
    Get {
        /// The key read.
        key: Bytes,
    },
}

/// Values hold secrets: even a debug print shows only their length.
impl std::fmt::Debug for Op {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Op::Put { key, value, .. } => write!(f, "Put({key:?}, {} bytes)", value.len()),
            Op::Delete { key } => write!(f, "Delete({key:?})"),
            Op::Get { key } => write!(f, "Get({key:?})"),
        }
    }
}

/// The answer to a [`Txn`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnReply {
    /// Whether the compares held.
    pub succeeded: bool,
    /// The cluster's revision after the transaction; its own revision when it wrote something.
    pub revision: Revision,
    /// The answers to the `Get` operations of the branch taken, in their order; `None` for a key that does not exist.
    pub gets: Vec<Option<KeyValue>>,
}
