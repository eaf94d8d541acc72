//! The file of saved keys, made before keys are taken away: JSON lines, a [`Head`], one line for each key with its value as
//! it is stored (encrypted values stay encrypted), and an end that tells a whole file from one that was cut off.

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use etcd_sync_core::etcd::kv::{KeyValue, Revision};

/// The version of the format that this program writes and reads.
pub const FORMAT: u32 = 1;

/// Which command saved the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// Surplus keys, before `prune` deleted them.
    Prune,
    /// What only the old primary had, before it became a standby.
    Rejoin,
    /// What a copy takes away, before it is accepted.
    Accept,
}

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Head {
    /// [`FORMAT`].
    pub etcd_sync_saved_keys: u32,
    /// Which command saved them.
    pub what: What,
    /// The link.
    pub link: String,
    /// The cluster they were read from: its id, in hexadecimal.
    pub cluster: String,
    /// The revision of that cluster from which on they were read. Each key says its own.
    pub revision: Revision,
    /// When, in UTC.
    pub at: String,
    /// How many keys were to be saved. The end says how many were.
    pub keys: u64,
}

/// One key's line. `keyBase64` stands for a key that is not text.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    create_revision: Revision,
    mod_revision: Revision,
    value: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    /// How many keys were saved.
    end: u64,
    /// Of every byte before this line, in hexadecimal.
    sha256: String,
}

/// Why a file of saved keys cannot be used. Holds nothing of its values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFile {
    /// Something else.
    #[error("it is no file of saved keys: its first line is not the one that `etcd-sync prune` writes")]
    NotSavedKeys,
    /// Written by another version.
    #[error("its format is {found}, this program knows only {FORMAT}: run the version that wrote it")]
    OtherFormat {
        /// The format found.
        found: u64,
    },
    /// A line that is no key.
    #[error("line {line} is damaged: take another copy of the file")]
    Damaged {
        /// Its number, from 1.
        line: u64,
    },
    /// The end is missing.
    #[error(
        "it is cut off after line {line}: the program that wrote it was stopped, and deleted nothing; or the copy is incomplete"
    )]
    CutOff {
        /// The number of the last line.
        line: u64,
    },
    /// The checksum or the count does not hold.
    #[error(
        "its checksum does not match: it was changed or damaged after it was written; take another copy of the file"
    )]
    Checksum,
}

/// Writes a file, line by line.
#[derive(Clone, Debug)]
pub struct Encoder {
    hash: Hash,
    keys: u64,
}

impl Encoder {
    /// The first line.
    pub fn begin(head: &Head) -> (Encoder, Vec<u8>) {
        let mut encoder = Encoder { hash: Hash::new(), keys: 0 };
        let line = encoder.line(head);
        (encoder, line)
    }

    /// One key.
    pub fn key(&mut self, kv: &KeyValue) -> Vec<u8> {
        self.keys += 1;
        let text = str::from_utf8(&kv.key).ok();
        self.line(&Line {
            key: text.map(str::to_owned),
            key_base64: text.is_none().then(|| STANDARD.encode(&kv.key)),
            create_revision: kv.create_revision,
            mod_revision: kv.mod_revision,
            value: STANDARD.encode(&kv.value),
        })
    }

    /// How many keys there are so far.
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// The last line.
    pub fn end(mut self) -> Vec<u8> {
        let end = End { end: self.keys, sha256: self.hash.clone().finish() };
        self.line(&end)
    }

    fn line(&mut self, content: &impl Serialize) -> Vec<u8> {
        let mut line = serde_json::to_vec(content).expect("a line has only plain fields");
        line.push(b'\n');
        self.hash.0.update(&line);
        line
    }
}

/// Reads a file, line by line.
#[derive(Debug, Default)]
pub struct Decoder {
    hash: Option<Hash>,
    line: u64,
    keys: u64,
    ended: bool,
}

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// The first line.
    Head(Head),
    /// A key. Its lease is 0.
    Key(KeyValue),
    /// The last line; count and checksum hold.
    End,
}

impl Decoder {
    /// Takes the next line, with the line feed behind it.
    ///
    /// # Errors
    /// Why the file cannot be used.
    pub fn line(&mut self, line: &[u8]) -> Result<Said, BadFile> {
        self.line += 1;
        let Some(hash) = &mut self.hash else {
            let head = head(line)?;
            let mut hash = Hash::new();
            hash.0.update(line);
            self.hash = Some(hash);
            return Ok(Said::Head(head));
        };
        let number = self.line;
        if self.ended {
            return Err(BadFile::Damaged { line: number });
        }
        if !line.ends_with(b"\n") {
            return Err(BadFile::CutOff { line: number });
        }
        if let Ok(End { end, sha256 }) = serde_json::from_slice(line) {
            if (end, sha256) != (self.keys, hash.clone().finish()) {
                return Err(BadFile::Checksum);
            }
            self.ended = true;
            return Ok(Said::End);
        }
        hash.0.update(line);
        self.keys += 1;
        key(line).map(Said::Key).ok_or(BadFile::Damaged { line: number })
    }

    /// Nothing follows.
    ///
    /// # Errors
    /// The end was missing.
    pub fn finish(self) -> Result<(), BadFile> {
        match (self.ended, self.line) {
            (true, _) => Ok(()),
            (false, 0) => Err(BadFile::NotSavedKeys),
            (false, line) => Err(BadFile::CutOff { line }),
        }
    }
}

/// The key that a single line holds; `None` when it holds none.
pub fn key(line: &[u8]) -> Option<KeyValue> {
    let line: Line = serde_json::from_slice(line).ok()?;
    let key = match (line.key, line.key_base64) {
        (Some(text), None) => text.into(),
        (None, Some(coded)) => Bytes::from(STANDARD.decode(coded).ok()?),
        _ => return None,
    };
    let value = STANDARD.decode(line.value).ok()?.into();
    let (create_revision, mod_revision) = (line.create_revision, line.mod_revision);
    (!key.is_empty()).then_some(KeyValue { key, value, create_revision, mod_revision, lease: 0 })
}

/// The name of a file of saved keys. `at` is a time as RFC 3339 has it, in UTC.
pub fn file_name(what: What, link: &str, at: &str) -> String {
    let what = match what {
        What::Prune => "prune",
        What::Rejoin => "rejoin",
        What::Accept => "accept",
    };
    format!("etcd-sync-{what}-{link}-{}.jsonl", at.replace([':', '-'], ""))
}

/// A digest of a value, to know it again.
pub fn fingerprint(value: &[u8]) -> [u8; 32] {
    let mut whole = [0; 32];
    whole.copy_from_slice(aws_lc_rs::digest::digest(&SHA256, value).as_ref());
    whole
}

fn head(line: &[u8]) -> Result<Head, BadFile> {
    let any: serde_json::Value = serde_json::from_slice(line).map_err(|_| BadFile::NotSavedKeys)?;
    match any.get("etcdSyncSavedKeys").and_then(serde_json::Value::as_u64) {
        Some(found) if found != u64::from(FORMAT) => Err(BadFile::OtherFormat { found }),
        Some(_) => serde_json::from_value(any).map_err(|_| BadFile::Damaged { line: 1 }),
        None => Err(BadFile::NotSavedKeys),
    }
}

#[derive(Clone)]
struct Hash(Context);

impl Hash {
    fn new() -> Self {
        Hash(Context::new(&SHA256))
    }

    fn finish(self) -> String {
        self.0.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hash")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kv(key: &[u8], value: &[u8]) -> KeyValue {
        let (key, value) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        KeyValue { key, value, create_revision: 3, mod_revision: 7, lease: 0 }
    }

    fn file(keys: &[KeyValue]) -> Vec<u8> {
        let head = Head {
            etcd_sync_saved_keys: FORMAT,
            what: What::Prune,
            link: "default".into(),
            cluster: "c1".into(),
            revision: 9,
            at: "2026-01-02T03:04:05.678Z".into(),
            keys: keys.len() as u64,
        };
        let (mut encoder, mut whole) = Encoder::begin(&head);
        keys.iter().for_each(|kv| whole.extend(encoder.key(kv)));
        assert_eq!(encoder.keys(), keys.len() as u64);
        whole.extend(encoder.end());
        whole
    }

    fn read(file: &[u8]) -> Result<Vec<KeyValue>, BadFile> {
        let (mut decoder, mut keys) = (Decoder::default(), Vec::new());
        for line in file.split_inclusive(|byte| *byte == b'\n') {
            if let Said::Key(kv) = decoder.line(line)? {
                keys.push(kv);
            }
        }
        decoder.finish().map(|()| keys)
    }

    #[test]
    fn the_lines_are_as_documented() {
        let file = String::from_utf8(file(&[kv(b"/registry/a", b"\x00v"), kv(b"\xff", b"")])).unwrap();
        let lines: Vec<&str> = file.lines().collect();
        assert_eq!(
            lines[..3],
            [
                r#"{"etcdSyncSavedKeys":1,"what":"prune","link":"default","cluster":"c1","revision":9,"at":"2026-01-02T03:04:05.678Z","keys":2}"#,
                r#"{"key":"/registry/a","createRevision":3,"modRevision":7,"value":"AHY="}"#,
                r#"{"keyBase64":"/w==","createRevision":3,"modRevision":7,"value":""}"#,
            ]
        );
        assert!(lines[3].starts_with(r#"{"end":2,"sha256":""#) && lines.len() == 4, "{}", lines[3]);
        assert_eq!(
            file_name(What::Prune, "a", "2026-01-02T03:04:05.678Z"),
            "etcd-sync-prune-a-20260102T030405.678Z.jsonl"
        );
    }

    #[test]
    fn whatever_is_cut_off_is_noticed() {
        let whole = file(&[kv(b"/registry/a", b"one"), kv(b"/registry/b", b"two")]);
        assert_eq!(read(&whole).map(|keys| keys.len()), Ok(2));
        for length in 0..whole.len() {
            let found = read(&whole[..length]);
            assert!(found.is_err(), "{length} of {} bytes were taken for a whole file", whole.len());
        }
    }

    #[test]
    fn whatever_is_changed_is_noticed() {
        let whole = file(&[kv(b"/registry/a", b"one")]);
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert!(read(&changed).is_err(), "byte {at} was changed unnoticed");
        }
        assert_eq!(read(&[&whole[..], b"{}\n"].concat()), Err(BadFile::Damaged { line: 4 }));
        let newer = String::from_utf8(whole).unwrap().replace("Keys\":1", "Keys\":2");
        assert_eq!(read(newer.as_bytes()), Err(BadFile::OtherFormat { found: 2 }));
        assert_eq!(read(b"{\"a\":1}\n"), Err(BadFile::NotSavedKeys));
    }

    proptest! {
        #[test]
        fn every_key_comes_back(keys in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 1..9), proptest::collection::vec(any::<u8>(), 0..40)), 0..9)) {
            let keys: Vec<KeyValue> = keys.iter().map(|(key, value)| kv(key, value)).collect();
            prop_assert_eq!(read(&file(&keys)), Ok(keys));
        }

        #[test]
        fn no_bytes_make_it_panic(file in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (read(&file), key(&file));
        }
    }
}
