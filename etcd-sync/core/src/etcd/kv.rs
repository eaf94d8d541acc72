//! What etcd stores and what it tells its watchers, in the words the whole project uses.

use std::fmt;

use bytes::Bytes;

/// An etcd revision: one counter for a whole cluster, moved by every change. Never comparable between two clusters.
pub type Revision = i64;

/// One key with its value, as a range request returns it. `value` is empty in a keys-only read.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// The whole key.
    pub key: Bytes,
    /// The value, verbatim.
    pub value: Bytes,
    /// Revision of the creation of this key (of its latest life, when it was deleted in between).
    pub create_revision: Revision,
    /// Revision of the last change of this key.
    pub mod_revision: Revision,
    /// Lease the key hangs on in its own cluster; 0 is none.
    pub lease: i64,
}

/// One change, as a watch tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The key was created or changed.
    Put(KeyValue),
    /// The key was deleted at `revision`.
    Delete {
        /// The whole key.
        key: Bytes,
        /// Revision of the deletion.
        revision: Revision,
    },
}

impl Event {
    /// The key that changed.
    pub fn key(&self) -> &Bytes {
        match self {
            Event::Put(kv) => &kv.key,
            Event::Delete { key, .. } => key,
        }
    }

    /// The revision of the change.
    pub fn revision(&self) -> Revision {
        match self {
            Event::Put(kv) => kv.mod_revision,
            Event::Delete { revision, .. } => *revision,
        }
    }

    /// The value that the change gives its key; `None`: it deletes it.
    pub fn value(&self) -> Option<&[u8]> {
        match self {
            Event::Put(kv) => Some(&kv.value),
            Event::Delete { .. } => None,
        }
    }

    /// Bytes held in memory for this event.
    pub fn size_bytes(&self) -> usize {
        match self {
            Event::Put(kv) => kv.key.len() + kv.value.len(),
            Event::Delete { key, .. } => key.len(),
        }
    }
}

/// Values hold secrets: even a debug print shows only their length.
impl fmt::Debug for KeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyValue")
            .field("key", &self.key)
            .field("value_bytes", &self.value.len())
            .field("create_revision", &self.create_revision)
            .field("mod_revision", &self.mod_revision)
            .field("lease", &self.lease)
            .finish()
    }
}

/// A half-open range of keys: `start` included, `end` excluded; an empty `end` means no upper bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// First key of the range.
    pub start: Bytes,
    /// First key behind the range; empty for "to the last key".
    pub end: Bytes,
}

impl KeyRange {
    /// All keys that begin with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Self {
        KeyRange { start: Bytes::copy_from_slice(prefix), end: prefix_end(prefix) }
    }

    /// One key and no other.
    pub fn single(key: Bytes) -> Self {
        KeyRange { end: successor(&key), start: key }
    }

    /// Whether `key` lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= &self.start[..] && (self.end.is_empty() || key < &self.end[..])
    }

    /// The part of the range from `start` on.
    pub fn from(&self, start: Bytes) -> Self {
        KeyRange { start, end: self.end.clone() }
    }
}

/// The smallest key behind every key that begins with `prefix`; empty when there is none.
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    let Some(last) = prefix.iter().rposition(|&byte| byte != 0xff) else {
        return Bytes::new();
    };
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    end.into()
}

/// The smallest key behind `key`.
pub fn successor(key: &[u8]) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into()
}

/// Shows a key to people: printable ASCII as it is, every other byte as `\xNN`, a backslash doubled.
pub fn printable(key: &[u8]) -> String {
    let mut text = String::with_capacity(key.len());
    for &byte in key {
        match byte {
            b'\\' => text.push_str("\\\\"),
            0x20..=0x7e => text.push(byte as char),
            _ => text.push_str(&format!("\\x{byte:02x}")),
        }
    }
    text
}

/// The key that is written as [`printable`] shows it; `None` when the text is no such writing.
pub fn from_printable(text: &str) -> Option<Bytes> {
    let mut key = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = match (first, tail) {
            (b'\\', [b'\\', tail @ ..]) => {
                key.push(b'\\');
                tail
            }
            (b'\\', [b'x', high, low, tail @ ..]) => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                key.push((digit(high)? << 4 | digit(low)?) as u8);
                tail
            }
            (0x20..=0x7e, tail) if *first != b'\\' => {
                key.push(*first);
                tail
            }
            _ => return None,
        };
    }
    Some(key.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_end_skips_trailing_ff() {
        assert_eq!(prefix_end(b"/registry/"), Bytes::from_static(b"/registry0"));
        assert_eq!(prefix_end(b"a\xff\xff"), Bytes::from_static(b"b"));
        assert_eq!(prefix_end(b"\xff\xff"), Bytes::new());
        assert_eq!(prefix_end(b""), Bytes::new());
    }

    #[test]
    fn a_range_without_end_reaches_to_the_last_key() {
        let all = KeyRange { start: Bytes::from_static(b"b"), end: Bytes::new() };
        assert!(all.contains(b"\xff\xff"));
        assert!(!all.contains(b"a"));
    }

    #[test]
    fn printable_is_unambiguous() {
        let key = Bytes::from_static(b"/a b\\\x00\xfe");
        assert_eq!(printable(&key), "/a b\\\\\\x00\\xfe");
        assert_eq!(from_printable(&printable(&key)), Some(key));
        for none in ["\\", "\\x0", "\\xg0", "\\y", "a\nb", "ü"] {
            assert_eq!(from_printable(none), None, "{none}");
        }
    }

    #[test]
    fn debug_never_shows_a_value() {
        let kv = KeyValue {
            key: Bytes::from_static(b"k"),
            value: Bytes::from_static(b"hunter2"),
            create_revision: 1,
            mod_revision: 2,
            lease: 0,
        };
        assert!(!format!("{kv:?}").contains("hunter2"));
    }
}
