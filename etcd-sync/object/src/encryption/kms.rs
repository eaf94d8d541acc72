//! The provider `kms` v2: each value holds its data key, encrypted by a KMS plugin.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk};
use bytes::Bytes;
use zeroize::Zeroizing;

use super::Failure;
use super::aes::Gcm;
use crate::wire::{Broken, fields};

/// How many data keys a keyring holds; the oldest goes first. An API server makes one per start and change of key, so
/// that a page of values rarely has more than a few.
pub const MAX_DATA_KEYS: usize = 1_000;

/// What the KMS plugin is asked to unwrap so that a value can be decrypted.
#[derive(Clone, PartialEq, Eq)]
pub struct KmsRequest {
    /// The plugin's name in the configuration.
    pub provider: String,
    /// The KMS's name of the key that encrypted the data key.
    pub key_id: String,
    /// The encrypted data key, or seed of data keys.
    pub encrypted_dek_source: Bytes,
    /// What the plugin stored beside it and wants to see again.
    pub annotations: BTreeMap<String, Bytes>,
}

impl KmsRequest {
    /// A hash over all of it: two requests with the same digest have the same answer.
    pub fn digest(&self) -> [u8; 32] {
        let mut context = Context::new(&SHA256);
        let mut add = |bytes: &[u8]| {
            context.update(&(bytes.len() as u64).to_be_bytes());
            context.update(bytes);
        };
        add(self.provider.as_bytes());
        add(self.key_id.as_bytes());
        add(&self.encrypted_dek_source);
        for (key, value) in &self.annotations {
            add(key.as_bytes());
            add(value);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        digest
    }
}

/// The encrypted key is of no use to a reader.
impl fmt::Debug for KmsRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KmsRequest")
            .field("provider", &self.provider)
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

/// A value after its prefix.
pub(super) struct Envelope<'a> {
    pub request: KmsRequest,
    encrypted: &'a [u8],
    is_seed: bool,
}

/// The limits that the API server checks (`ValidateEncryptedObject`).
const MAX_KEY_ID_BYTES: usize = 1 << 10;
const MAX_SOURCE_BYTES: usize = 1 << 10;
const MAX_ANNOTATIONS_BYTES: usize = 32 << 10;

impl<'a> Envelope<'a> {
    /// Reads an `EncryptedObject`. None when the API server would refuse it.
    pub fn read(provider: &str, message: &'a [u8]) -> Option<Envelope<'a>> {
        Envelope::parse(provider, message).ok().filter(|envelope| {
            let request = &envelope.request;
            let annotations: usize = request.annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
            (1..=MAX_KEY_ID_BYTES).contains(&request.key_id.len())
                && (1..=MAX_SOURCE_BYTES).contains(&request.encrypted_dek_source.len())
                && annotations <= MAX_ANNOTATIONS_BYTES
                && !envelope.encrypted.is_empty()
        })
    }

    fn parse(provider: &str, message: &'a [u8]) -> Result<Envelope<'a>, Broken> {
        let (mut encrypted, mut source): (&[u8], &[u8]) = (&[], &[]);
        let (mut key_id, mut annotations, mut kind) = (String::new(), BTreeMap::new(), 0);
        for field in fields(message) {
            match field? {
                (1, bytes) => encrypted = bytes.bytes()?,
                (2, text) => key_id = str::from_utf8(text.bytes()?).map_err(|_| Broken)?.to_owned(),
                (3, bytes) => source = bytes.bytes()?,
                (4, entry) => {
                    let (mut key, mut value): (&[u8], &[u8]) = (&[], &[]);
                    for field in fields(entry.bytes()?) {
                        match field? {
                            (1, text) => key = text.bytes()?,
                            (2, bytes) => value = bytes.bytes()?,
                            _ => {}
                        }
                    }
                    let key = str::from_utf8(key).map_err(|_| Broken)?;
                    annotations.insert(key.to_owned(), Bytes::copy_from_slice(value));
                }
                (5, number) => kind = number.number()?,
                _ => {}
            }
        }
        let encrypted_dek_source = Bytes::copy_from_slice(source);
        let request = KmsRequest { provider: provider.to_owned(), key_id, encrypted_dek_source, annotations };
        Ok(Envelope { request, encrypted, is_seed: is_seed(kind)? })
    }

    /// Decrypts the value with the data key or seed that the KMS unwrapped.
    pub fn decrypt(&self, etcd_key: &[u8], source: &[u8]) -> Result<Bytes, Failure> {
        if !self.is_seed {
            return Gcm::new(source).ok_or(Failure::WrongKey)?.decrypt(etcd_key, self.encrypted);
        }
        let (info, encrypted) = self.encrypted.split_first_chunk::<32>().ok_or(Failure::TooShort)?;
        let gcm = derive(source, info).and_then(|key| Gcm::new(&*key)).ok_or(Failure::WrongKey)?;
        gcm.decrypt(etcd_key, encrypted)
    }
}

/// `EncryptedDEKSourceType`: 0 is an AES-GCM key, 1 a seed.
fn is_seed(kind: u64) -> Result<bool, Broken> {
    match kind {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Broken),
    }
}

/// The value's own key: HKDF-Expand with SHA-256. None for a seed that the API server would not take (below 32 bytes)
/// or never makes (above 64).
fn derive(seed: &[u8], info: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    if !(32..=64).contains(&seed.len()) {
        return None;
    }
    let mut key = Zeroizing::new([0; 32]);
    Prk::new_less_safe(HKDF_SHA256, seed).expand(&[info], KeyLength).ok()?.fill(&mut *key).ok()?;
    Some(key)
}

struct KeyLength;

impl KeyType for KeyLength {
    fn len(&self) -> usize {
        32
    }
}

/// The data keys that KMS plugins unwrapped, by the digests of their requests.
#[derive(Default)]
pub(super) struct DataKeys(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    keys: HashMap<[u8; 32], Arc<Zeroizing<Vec<u8>>>>,
    /// In the order they came.
    order: VecDeque<[u8; 32]>,
}

impl DataKeys {
    pub fn get(&self, request: &KmsRequest) -> Option<Arc<Zeroizing<Vec<u8>>>> {
        let digest = request.digest();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).keys.get(&digest).cloned()
    }

    pub fn put(&self, request: &KmsRequest, key: Zeroizing<Vec<u8>>) {
        let digest = request.digest();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.keys.insert(digest, Arc::new(key)).is_none() {
            kept.order.push_back(digest);
        }
        if kept.order.len() > MAX_DATA_KEYS
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.keys.remove(&oldest);
        }
    }
}
