//! A value that the standby's etcd refuses, because one request may not be so large: on record beside the mirrored keys that others have
//! changed, so that everybody who finds the key missed can say why, and what to do.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// etcd's `--max-request-bytes` where nobody sets it. No request tells what it is set to.
pub const DEFAULT_REQUEST_BYTES: u64 = 1_572_864;

/// What a request holds beside the value: the key, the checkpoint, what is compared.
const BESIDE_BYTES: u64 = 16 * 1024;

/// The entry of such a key on the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TooLarge {
    /// Length of the value that was refused.
    pub value_bytes: u64,
}

impl TooLarge {
    /// As it is stored.
    pub fn encode(self) -> Bytes {
        serde_json::to_vec(&self).unwrap_or_default().into()
    }

    /// `None`: an entry of a key that is on record for another reason.
    pub fn decode(entry: &[u8]) -> Option<TooLarge> {
        serde_json::from_slice(entry).ok()
    }

    /// Whether a value of the key is refused for the same reason. It may have become smaller, and was written then.
    pub fn refuses(self, value: &[u8]) -> bool {
        value.len() as u64 >= self.value_bytes
    }
}

/// Why the key is missed, in a few words.
pub const REASON: &str = "too large for one request of the standby's etcd";

/// What to do about a value of so many bytes, in words that begin small.
pub fn remedy(value_bytes: u64) -> String {
    format!(
        "set --max-request-bytes of the standby's etcd, which is {DEFAULT_REQUEST_BYTES} by default, to {} or more, then restart the \
         synchronizer; or exclude the key (--exclude-key)",
        value_bytes + BESIDE_BYTES
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_tells_its_size_and_others_tell_nothing() {
        let entry = TooLarge { value_bytes: 100_000 };
        assert_eq!(TooLarge::decode(&entry.encode()), Some(entry));
        assert_eq!(TooLarge::decode(b""), None);
        assert!(entry.refuses(&[0; 100_000]) && !entry.refuses(&[0; 99_999]));
        assert!(remedy(100_000).contains("to 116384 or more"));
    }
}
