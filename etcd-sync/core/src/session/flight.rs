//! A transaction that is under way, and what it is for.

use bytes::Bytes;

use crate::etcd::request::Txn;
use crate::link::state::Checkpoint;
use crate::session::batch::Write;

/// A commit under way.
#[derive(Debug)]
pub(super) enum Flight {
    /// A part of a copy: does not move the checkpoint.
    Puts { writes: Vec<Write>, sent_ms: u64 },
    /// Everything that moves the checkpoint.
    Batch(Box<Batch>),
}

impl Flight {
    /// The data in it.
    pub(super) fn writes(&self) -> &[Write] {
        match self {
            Flight::Puts { writes, .. } => writes,
            Flight::Batch(batch) => &batch.writes,
        }
    }
}

/// A commit that moves the checkpoint.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) checkpoint: Checkpoint,
    /// The record's value in it, which no other commit ever writes.
    pub(super) value: Bytes,
    pub(super) writes: Vec<Write>,
    pub(super) purpose: Purpose,
    /// As it was sent, in case that it must be sent again.
    pub(super) txn: Txn,
    pub(super) sent: Sent,
}

/// How often a commit was sent, and what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Once,
    /// Again, after the record showed that the first one was not applied by then. It may still arrive: then the fence refuses
    /// the other.
    Again,
    /// Again, and the answer was that a compare does not hold: perhaps because the first one was applied after all.
    Refused,
}

/// What a commit that moves the checkpoint is for, as far as it matters when it fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Purpose {
    #[default]
    Changes,
    /// Deletes surplus keys that others may change.
    Sweep,
    /// Puts back what was lost.
    Replay,
}
