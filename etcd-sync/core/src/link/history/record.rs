//! What is on record of the two histories of a link, to recognize them by.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::raft::RaftMark;
use crate::etcd::kv::Revision;
use crate::link::state::BadRecord;

/// A key of the primary as it was changed last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Changed {
    /// The key.
    pub key: String,
    /// The primary's revision of the change.
    pub revision: Revision,
    /// [`super::content_hash`] of its value.
    pub hash: String,
    /// Everything that was written to the standby up to this revision of the standby is older on the primary than this
    /// change; 0: not known.
    pub standby_revision: Revision,
}

/// A key of the primary as it was created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Created {
    /// The key.
    pub key: String,
    /// The primary's revision of the creation.
    pub revision: Revision,
    /// As in [`Changed::standby_revision`].
    pub standby_revision: Revision,
}

/// The record, in the standby's etcd. It moves in transactions that write the checkpoint too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HistoryRecord {
    /// [`HistoryRecord::FORMAT`].
    pub format: u32,
    /// The primary's cluster id, in hexadecimal.
    pub primary: String,
    /// The farthest that the primary was seen at; `None`: its members could not be queried one by one.
    pub primary_raft: Option<RaftMark>,
    /// The same of the standby.
    pub standby_raft: Option<RaftMark>,
    /// The primary's revision at which the lists were exact.
    pub revision: Revision,
    /// The primary's revision that the standby was consistent with last: an interrupted copy moves the checkpoint, and does not
    /// make it true. 0: with none of this history.
    pub consistent: Revision,
    /// Keys changed last, newest first.
    pub changed: Vec<Changed>,
    /// Keys created last, newest first.
    pub created: Vec<Created>,
    /// When it was written, in Unix milliseconds.
    pub at_ms: u64,
}

impl HistoryRecord {
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
        BadRecord::decode("record of the histories", Self::FORMAT, value)
    }

    /// The keys whose state on the primary tells about its history.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        let changed = self.changed.iter().map(|entry| entry.key.as_str());
        changed.chain(self.created.iter().map(|entry| entry.key.as_str()))
    }
}
