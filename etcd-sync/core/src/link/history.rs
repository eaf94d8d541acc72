//! Which history of the primary this is: what is recorded of it, to recognize it by.

use serde::{Deserialize, Serialize};

use crate::etcd::kv::{KeyValue, Revision};

/// One change of the primary. A primary that was restored from a backup and written to again may have the same cluster id
/// and a revision beyond the checkpoint; it does not have the same change at the same revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Witness {
    /// The key, when it is text of at most [`Witness::KEY_BYTES_MAX`] bytes: others are passed over as witnesses.
    pub key: String,
    /// The revision that changed it.
    pub revision: Revision,
    /// Whether that revision deleted it.
    pub deleted: bool,
    /// No other change in scope lies between it and the checkpoint.
    pub last: bool,
}

impl Witness {
    /// The checkpoint rides in every transaction, so its key must be short.
    pub const KEY_BYTES_MAX: usize = 300;

    /// A witness of a change, if its key can be one.
    pub fn new(key: &[u8], revision: Revision, deleted: bool, last: bool) -> Option<Self> {
        let key = str::from_utf8(key).ok().filter(|key| key.len() <= Self::KEY_BYTES_MAX)?;
        Some(Witness { key: key.into(), revision, deleted, last })
    }

    /// Whether the primary, read at the witness's revision, shows the same change.
    pub fn recognizes(&self, found: Option<&KeyValue>) -> bool {
        match found {
            // Also a key that came to hang on a lease: for us that is a deletion.
            Some(kv) => kv.mod_revision == self.revision,
            None => self.deleted,
        }
    }
}
