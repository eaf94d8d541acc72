//! What a session wants done, and what it is informed of.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::refusal::Refusal;
use crate::etcd::kv::{Event, KeyRange, Revision};
use crate::etcd::request::{Page, ReadRange, Txn, TxnReply};
use crate::link::fence::Fenced;
use crate::link::history::RaftReading;
use crate::link::side::Side;

/// Names one request so that its answer is not taken for another's.
pub type RequestId = u64;

/// Something to do. Reads and commits run concurrently; their answers may come in any order.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Read a range.
    Read {
        /// Comes back with the answer.
        id: RequestId,
        /// From which cluster.
        side: Side,
        /// What to read.
        request: ReadRange,
    },
    /// Watch a range from a revision on, in place of any earlier watch of that side.
    Watch {
        /// Of which cluster.
        side: Side,
        /// Which keys.
        range: KeyRange,
        /// First revision to receive.
        from: Revision,
    },
    /// Commit a transaction on the standby. Only the session may send it again.
    Commit {
        /// Comes back with the answer.
        id: RequestId,
        /// The transaction.
        txn: Txn,
    },
    /// Inform people.
    Note(Note),
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// The answer to a read.
    Read {
        /// Of this request.
        id: RequestId,
        /// What was read.
        result: Result<Page, ReadFailure>,
    },
    /// A watch stands.
    Opened {
        /// Of which cluster.
        side: Side,
    },
    /// Changes, in order.
    Events {
        /// Of which cluster.
        side: Side,
        /// The changes.
        events: Vec<Event>,
        /// False when the last revision goes on in the next input.
        complete: bool,
    },
    /// Every change up to this revision has been delivered.
    Progress {
        /// Of which cluster.
        side: Side,
        /// That revision.
        revision: Revision,
    },
    /// The revisions to be watched are compacted.
    WatchCompacted {
        /// Of which cluster.
        side: Side,
        /// Up to here.
        compact_revision: Revision,
    },
    /// The stream broke, for a reason other than compaction.
    WatchClosed {
        /// Of which cluster.
        side: Side,
    },
    /// The answer to a commit.
    Committed {
        /// Of this request.
        id: RequestId,
        /// The answer; perhaps that a compare failed.
        reply: TxnReply,
    },
    /// The raft log of a cluster was read.
    Raft {
        /// Of which cluster.
        side: Side,
        /// What it shows.
        reading: RaftReading,
    },
    /// The standby refused a commit for its size; nothing of it was applied.
    CommitTooLarge {
        /// Of this request.
        id: RequestId,
    },
    /// A commit failed for a reason that passes, or its answer did not come.
    CommitFailed {
        /// Of this request.
        id: RequestId,
        /// It may have been applied, or may still be.
        unknown: bool,
    },
    /// Time has passed; send at least every 200 ms.
    Tick,
}

/// Why a read gave no page. Every other failure ends the session, outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFailure {
    /// The revision is compacted.
    Compacted,
    /// The answer is larger than may be received.
    TooLarge,
    /// The answer did not come in time: it is too large for a slow link, or the cluster hangs. Only for reads of more than
    /// one key.
    TimedOut,
}

/// Why a session is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// A write was refused by its fence.
    Fenced(Fenced),
    /// It will not go on.
    Refused(Refusal),
    /// The standby takes only smaller transactions than these: begin again with half the bytes.
    ShrinkTransactions,
    /// Begin again from the record in the standby.
    Again {
        /// By a copy, even if the checkpoint could be resumed.
        force_copy: bool,
        /// For the log.
        why: &'static str,
    },
}

impl Ended {
    pub(super) const PRIMARY_COMPACTED: Ended =
        Ended::Again { force_copy: true, why: "the primary compacted its history before it was read" };
    pub(super) const STANDBY_COMPACTED: Ended =
        Ended::Again { force_copy: true, why: "the standby compacted its history before it was read" };
    pub(super) const CHECKPOINT_MOVED: Ended = Ended::Again { force_copy: false, why: "the checkpoint moved under us" };
    pub(super) const WATCH_BROKE: Ended = Ended::Again { force_copy: false, why: "a watch broke" };
}

/// What people are informed of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A copy begins.
    CopyBegan {
        /// Whether it is the first.
        first: bool,
    },
    /// The resync begins although every change could be followed, which would take longer.
    LongBacklog {
        /// The changes, about; 0 where a watch never brought the first one.
        changes: u64,
        /// The keys to compare, if they were counted.
        keys: Option<u64>,
    },
    /// What the resync takes away was counted, before anything was written.
    Planned {
        /// Keys it would delete.
        deletions: u64,
        /// Keys it would overwrite with older data, if that was counted.
        overwrites: Option<u64>,
        /// Mirrored keys on the standby.
        scope: u64,
    },
    /// All values are copied; surplus keys are checked next.
    Copied {
        /// Keys written.
        written: u64,
        /// Keys that were equal already.
        equal: u64,
    },
    /// Live updates from here on.
    Streaming {
        /// The primary's revision that the standby is consistent with.
        revision: Revision,
    },
    /// One key was written (only with detailed logs).
    Wrote {
        /// The key.
        key: Bytes,
        /// Deleted rather than put.
        deleted: bool,
        /// The primary's revision it came with; 0 while copying.
        revision: Revision,
    },
    /// The value does not fit a transaction of the standby: the key is missed.
    TooLarge {
        /// The key.
        key: Bytes,
        /// Its value's length.
        bytes: usize,
    },
    /// The value cannot be decoded, so its owners are not known: it is synchronized as it is.
    Undecodable {
        /// The key.
        key: Bytes,
        /// What is wrong with it.
        why: String,
    },
    /// Keys that somebody deleted on the standby are back.
    Replayed {
        /// The first of them.
        first: Bytes,
        /// How many, in one transaction.
        keys: u64,
    },
    /// A key was put back again and again, and does not stay.
    KeepsVanishing {
        /// The key.
        key: Bytes,
        /// How often it was put back lately.
        times: u32,
        /// What is likely to delete it, and what to do.
        cause: String,
    },
    /// All keys were compared beside live updates.
    Audited {
        /// Keys of the primary.
        compared: u64,
        /// Those the standby seemed to lack; the replay checks each once more.
        missed: u64,
    },
    /// The primary deleted a key that is local on the standby; it stays.
    KeptLocal {
        /// The key.
        key: Bytes,
    },
    /// A value was saved on the standby before it was deleted or overwritten: nothing proves that this was right.
    Saved {
        /// The key.
        key: Bytes,
    },
    /// Only the standby has it, and whether it is local is no longer known; it stays.
    UnknownOrigin {
        /// The key.
        key: Bytes,
    },
}

/// Counters and positions of one session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Changes of the primary received.
    pub events: u64,
    /// Those filtered, by reason.
    pub skipped: BTreeMap<&'static str, u64>,
    /// Transactions committed.
    pub transactions: u64,
    /// Keys put.
    pub puts: u64,
    /// Keys deleted.
    pub deletes: u64,
    /// Bytes of keys and values written.
    pub bytes: u64,
    /// Keys found equal while copying.
    pub equal: u64,
    /// Keys too large for a transaction.
    pub too_large: u64,
    /// Values of objects that could not be decoded, synchronized as they are.
    pub undecodable: u64,
    /// Keys put back that somebody deleted on the standby.
    pub replays: u64,
    /// Keys lost on the standby that are not back yet.
    pub lost: u64,
    /// Keys that were put back again and again lately.
    pub vanishing: u64,
    /// Local keys kept although the primary deleted theirs.
    pub kept_local: u64,
    /// Keys of unknown origin kept.
    pub unknown_origin: u64,
    /// Values saved on the standby before they were taken away without proof.
    pub saved: u64,
    /// Keys of the copy under way: done, and in all.
    pub copied: (u64, u64),
    /// Local keys on record.
    pub local_keys: u64,
    /// The primary's revision up to which every change was received.
    pub received_revision: Revision,
}
