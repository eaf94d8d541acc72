//! A transaction that is under way, and what it is for.

use bytes::Bytes;

use crate::link::state::Checkpoint;
use crate::session::batch::Write;

/// A commit under way.
#[derive(Debug)]
pub(super) enum Flight {
    /// A part of a copy: does not move the checkpoint.
    Puts(Vec<Write>),
    /// Everything that moves the checkpoint.
    Batch { checkpoint: Box<Checkpoint>, value: Bytes, writes: Vec<Write>, purpose: Purpose },
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
