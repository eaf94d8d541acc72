//! The last change applied: what the checkpoint carries of the primary's history.

use aws_lc_rs::digest::{SHA256, digest};
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
    /// [`content_hash`] of the value it was given; `None` for a deletion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
}

impl Witness {
    /// The checkpoint rides in every transaction, so its key must be short.
    pub const KEY_BYTES_MAX: usize = 300;

    /// A witness of a change, if its key can be one. `value` is `None` for a deletion.
    pub fn new(key: &[u8], revision: Revision, value: Option<&[u8]>, last: bool) -> Option<Self> {
        let key = witness_key(key)?;
        Some(Witness { key, revision, deleted: value.is_none(), last, hash: value.map(content_hash) })
    }

    /// Whether the primary shows the same change. `at` is the key at the witness's revision, `before` at the revision before
    /// it, which only a deletion needs.
    pub fn recognizes(&self, at: Option<&KeyValue>, before: Option<&KeyValue>) -> bool {
        match at {
            // Also a key that came to hang on a lease: for us that is a deletion.
            Some(kv) => {
                let same_value = self.hash.as_ref().is_none_or(|hash| *hash == content_hash(&kv.value));
                kv.mod_revision == self.revision && same_value
            }
            // A key that was not there before was not deleted then.
            None => self.deleted && before.is_some(),
        }
    }
}

/// The key as text, if it may be recorded.
pub(super) fn witness_key(key: &[u8]) -> Option<String> {
    let key = str::from_utf8(key).ok().filter(|key| key.len() <= Witness::KEY_BYTES_MAX)?;
    Some(key.into())
}

/// A short name of a value: half of its SHA-256, in hexadecimal. It lies in the standby's etcd, where the value lies too.
pub fn content_hash(value: &[u8]) -> String {
    digest(&SHA256, value).as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}
