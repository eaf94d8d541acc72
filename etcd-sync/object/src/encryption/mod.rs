//! Decrypts values that the API server encrypted at rest, with the keys of its own configuration. Pure: what a KMS holds,
//! the caller asks for.
//!
//! An encrypted value begins with `k8s:enc:`, the provider, a version and the key's name, and is then the provider's own
//! (apiserver's `storage/value/encrypt`). Nothing secret reaches a debug print or an error.

mod aes;
mod config;
mod kms;
mod secretbox;
#[cfg(test)]
mod tests;

use std::fmt;

use bytes::Bytes;
use thiserror::Error;
use zeroize::Zeroizing;

pub use config::{EncryptionConfig, EncryptionConfigError, KmsPlugin};
pub use kms::{KmsRequest, MAX_DATA_KEYS};

use aes::{Cbc, Gcm};
use config::{CipherName, Key};
use kms::{DataKeys, Envelope};
use secretbox::Secretbox;

/// Keys that decrypt the values of one cluster. Shared between threads; it learns data keys of KMS plugins as it goes. The default
/// has no configuration.
#[derive(Default)]
pub struct Keyring {
    has_config: bool,
    keys: Vec<NamedCipher>,
    plugins: Vec<Plugin>,
    data_keys: DataKeys,
}

/// Which provider and key encrypted a value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EncryptedBy {
    /// `aescbc`, `aesgcm`, `secretbox`, `kms v2`; of others also the version, if it is not `v1`.
    pub provider: String,
    /// The name of the key in the configuration; of `kms` the name of the plugin.
    pub key: String,
}

impl fmt::Display for EncryptedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.provider.starts_with("kms") { "plugin" } else { "key" };
        write!(f, "{} {what} {}", self.provider, self.key)
    }
}

/// Why a value cannot be decrypted. Holds no byte of it beyond the names in its [`EncryptedBy`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Undecryptable {
    /// There is no configuration.
    #[error(
        "it is encrypted ({0}), and there is no encryption configuration: give the file that kube-apiserver gets as \
             --encryption-provider-config"
    )]
    NoConfig(EncryptedBy),
    /// The configuration has no such provider with a key of this name.
    #[error(
        "it is encrypted with {0}, which the encryption configuration does not have: give the API servers' current file"
    )]
    UnknownKey(EncryptedBy),
    /// The configuration has the name with another key. A damaged value looks the same, and so does a value that was
    /// copied from another etcd key.
    #[error(
        "it is encrypted with {0}, but not with the key that the encryption configuration has under this name, or damaged: \
             compare the file with the one kube-apiserver reads"
    )]
    WrongKey(EncryptedBy),
    /// A KMS plugin must be asked first; its answer goes to [`Keyring::learn`].
    #[error("it is encrypted with a key that KMS plugin {} must unwrap first", .0.provider)]
    NeedsKms(KmsRequest),
    /// The value is damaged; no key helps.
    #[error("its prefix names an encryption ({0}), and the value is damaged: the API server cannot read it either")]
    Malformed(EncryptedBy),
}

impl Keyring {
    /// A keyring without a configuration: it returns what is not encrypted.
    pub fn none() -> Keyring {
        Keyring::default()
    }

    /// The keyring of a configuration.
    pub fn new(config: &EncryptionConfig) -> Result<Keyring, EncryptionConfigError> {
        let keys = config.keys.iter().map(NamedCipher::new).collect::<Result<_, _>>()?;
        let plugins = config.kms_plugins().iter().map(|plugin| Plugin {
            prefix: format!("{ENCRYPTED}kms:v2:{}:", plugin.name),
            by: EncryptedBy { provider: "kms v2".to_owned(), key: plugin.name.clone() },
        });
        Ok(Keyring { has_config: true, keys, plugins: plugins.collect(), data_keys: DataKeys::default() })
    }

    /// The plain bytes of the value of the etcd key `key` (the whole key: some providers bind the value to it). A value that is not
    /// encrypted is returned as it is.
    pub fn decrypt(&self, key: &[u8], value: &Bytes) -> Result<Bytes, Undecryptable> {
        if !is_encrypted(value) {
            return Ok(value.clone());
        }
        if !self.has_config {
            return Err(Undecryptable::NoConfig(encrypted_by_or_unknown(value)));
        }
        if let Some((plugin, message)) = self.plugin_of(value) {
            return self.decrypt_envelope(key, plugin, message);
        }
        let mut why = None;
        // One name may stand for several keys, in one entry of the file or in two: as in the API server each is tried.
        for cipher in &self.keys {
            if let Some(encrypted) = value.strip_prefix(cipher.prefix.as_bytes()) {
                match cipher.cipher.decrypt(key, encrypted) {
                    Ok(plain) => return Ok(plain),
                    Err(failure) => why = Some(failure.because(&cipher.by)),
                }
            }
        }
        Err(why.unwrap_or_else(|| match Keyring::encrypted_by(value) {
            Some(by) => Undecryptable::UnknownKey(by),
            None => Undecryptable::Malformed(encrypted_by_or_unknown(value)),
        }))
    }

    /// Which provider and key encrypted a value, without decrypting it; `None` when it is not encrypted, or names no key. A key
    /// name with a colon is cut there.
    pub fn encrypted_by(value: &[u8]) -> Option<EncryptedBy> {
        let mut parts = value.strip_prefix(ENCRYPTED.as_bytes())?.splitn(4, |byte| *byte == b':');
        let (provider, version, key) = (name(parts.next()?)?, name(parts.next()?)?, name(parts.next()?)?);
        parts.next()?;
        let provider = match (provider, version) {
            (provider, "v1") if provider != "kms" => provider.to_owned(),
            (provider, version) => format!("{provider} {version}"),
        };
        Some(EncryptedBy { provider, key: key.to_owned() })
    }

    /// What a KMS plugin must be asked before this value can be decrypted; `None` when nothing. Costs a look at the first
    /// bytes for every value that no KMS plugin of the configuration encrypted.
    pub fn kms_request(&self, value: &[u8]) -> Option<KmsRequest> {
        let (plugin, message) = self.plugin_of(value)?;
        let request = Envelope::read(&plugin.by.key, message)?.request;
        self.data_keys.get(&request).is_none().then_some(request)
    }

    /// Takes what a KMS plugin unwrapped. Of more than [`MAX_DATA_KEYS`] the oldest is forgotten.
    pub fn learn(&self, request: &KmsRequest, unwrapped: Zeroizing<Vec<u8>>) {
        self.data_keys.put(request, unwrapped);
    }

    fn plugin_of<'a>(&self, value: &'a [u8]) -> Option<(&Plugin, &'a [u8])> {
        let mut plugins = self.plugins.iter();
        plugins.find_map(|plugin| Some((plugin, value.strip_prefix(plugin.prefix.as_bytes())?)))
    }

    fn decrypt_envelope(&self, key: &[u8], plugin: &Plugin, message: &[u8]) -> Result<Bytes, Undecryptable> {
        let envelope =
            Envelope::read(&plugin.by.key, message).ok_or_else(|| Undecryptable::Malformed(plugin.by.clone()))?;
        match self.data_keys.get(&envelope.request) {
            Some(source) => envelope.decrypt(key, &source).map_err(|failure| failure.because(&plugin.by)),
            None => Err(Undecryptable::NeedsKms(envelope.request)),
        }
    }
}

/// Names, no keys.
impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.keys.iter().map(|key| &key.by).chain(self.plugins.iter().map(|plugin| &plugin.by));
        f.debug_struct("Keyring").field("keys", &names.collect::<Vec<_>>()).finish_non_exhaustive()
    }
}

/// How every encrypted value begins.
const ENCRYPTED: &str = "k8s:enc:";

/// Longest name taken from a value, in bytes: what is longer is no name but a broken value.
const MAX_NAME_BYTES: usize = 253;

struct Plugin {
    prefix: String,
    by: EncryptedBy,
}

struct NamedCipher {
    prefix: String,
    by: EncryptedBy,
    cipher: Cipher,
}

enum Cipher {
    Cbc(Box<Cbc>),
    Gcm(Gcm),
    Secretbox(Secretbox),
}

/// Why a provider could not decrypt a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    TooShort,
    WrongKey,
}

impl Failure {
    fn because(self, by: &EncryptedBy) -> Undecryptable {
        match self {
            Failure::TooShort => Undecryptable::Malformed(by.clone()),
            Failure::WrongKey => Undecryptable::WrongKey(by.clone()),
        }
    }
}

impl NamedCipher {
    fn new(key: &Key) -> Result<NamedCipher, EncryptionConfigError> {
        let cipher = match key.cipher {
            CipherName::AesCbc => Cbc::new(&key.secret).map(|cipher| Cipher::Cbc(Box::new(cipher))),
            CipherName::AesGcm => Gcm::new(&key.secret).map(Cipher::Gcm),
            CipherName::Secretbox => Secretbox::new(&key.secret).map(Cipher::Secretbox),
        };
        let provider = key.cipher.as_str();
        let cipher = cipher.ok_or_else(|| EncryptionConfigError::Field {
            at: format!("{provider} key {}", key.name),
            problem: "is no key that its provider can use",
        })?;
        let by = EncryptedBy { provider: provider.to_owned(), key: key.name.clone() };
        Ok(NamedCipher { prefix: format!("{ENCRYPTED}{provider}:v1:{}:", key.name), by, cipher })
    }
}

impl Cipher {
    fn decrypt(&self, key: &[u8], encrypted: &[u8]) -> Result<Bytes, Failure> {
        match self {
            Cipher::Cbc(cbc) => cbc.decrypt(encrypted),
            Cipher::Gcm(gcm) => gcm.decrypt(key, encrypted),
            Cipher::Secretbox(secretbox) => secretbox.decrypt(encrypted),
        }
    }
}

fn is_encrypted(value: &[u8]) -> bool {
    value.starts_with(ENCRYPTED.as_bytes())
}

fn encrypted_by_or_unknown(value: &[u8]) -> EncryptedBy {
    let unknown = || EncryptedBy { provider: "unknown provider,".to_owned(), key: "unknown".to_owned() };
    Keyring::encrypted_by(value).unwrap_or_else(unknown)
}

/// A part of a value's prefix, if it can be a name.
fn name(part: &[u8]) -> Option<&str> {
    let name = str::from_utf8(part).ok()?;
    (1..=MAX_NAME_BYTES).contains(&name.len()).then_some(name).filter(|name| !name.contains(char::is_control))
}
