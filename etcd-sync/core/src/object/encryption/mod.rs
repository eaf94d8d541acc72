//! Opens values that the API server encrypted at rest, with the keys of its own configuration. Pure: what a KMS holds,
//! the caller asks for.
//!
//! A sealed value begins with `k8s:enc:`, the provider, a version and the key's name, and is then the provider's own
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

/// What opens the values of one cluster. Shared between threads; it learns data keys of KMS plugins as it goes. The default
/// has no configuration.
#[derive(Default)]
pub struct Keyring {
    has_config: bool,
    keys: Vec<NamedCipher>,
    plugins: Vec<Plugin>,
    data_keys: DataKeys,
}

/// Which provider and key sealed a value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seal {
    /// `aescbc`, `aesgcm`, `secretbox`, `kms v2`; of others also the version, if it is not `v1`.
    pub provider: String,
    /// The name of the key in the configuration; of `kms` the name of the plugin.
    pub key: String,
}

impl fmt::Display for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.provider.starts_with("kms") { "plugin" } else { "key" };
        write!(f, "{} {what} {}", self.provider, self.key)
    }
}

/// Why a value stays closed. Holds no byte of it beyond the names in its [`Seal`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Locked {
    /// There is no configuration.
    #[error(
        "it is encrypted ({0}), and there is no encryption configuration: give the file that kube-apiserver gets as \
             --encryption-provider-config"
    )]
    NoConfig(Seal),
    /// The configuration has no such provider with a key of this name.
    #[error(
        "it is encrypted with {0}, which the encryption configuration does not have: give the API servers' current file"
    )]
    UnknownKey(Seal),
    /// The configuration has the name with another key. A damaged value looks the same, and so does a value that was
    /// copied from another etcd key.
    #[error(
        "it is encrypted with {0}, but not with the key that the encryption configuration has under this name, or damaged: \
             compare the file with the one kube-apiserver reads"
    )]
    WrongKey(Seal),
    /// A KMS plugin must be asked first; its answer goes to [`Keyring::learn`].
    #[error("it is encrypted with a key that KMS plugin {} must unseal first", .0.provider)]
    NeedsKms(KmsRequest),
    /// The value is broken before any key matters.
    #[error("it says to be encrypted ({0}) and is broken: the API server cannot read it either")]
    Malformed(Seal),
}

impl Keyring {
    /// A keyring without a configuration: it opens what is not sealed.
    pub fn none() -> Keyring {
        Keyring::default()
    }

    /// The keyring of a configuration.
    pub fn new(config: &EncryptionConfig) -> Result<Keyring, EncryptionConfigError> {
        let keys = config.keys.iter().map(NamedCipher::new).collect::<Result<_, _>>()?;
        let plugins = config.kms_plugins().iter().map(|plugin| Plugin {
            prefix: format!("{SEALED}kms:v2:{}:", plugin.name),
            seal: Seal { provider: "kms v2".to_owned(), key: plugin.name.clone() },
        });
        Ok(Keyring { has_config: true, keys, plugins: plugins.collect(), data_keys: DataKeys::default() })
    }

    /// The plain bytes of the value of the etcd key `key` (the whole key: some providers seal it in). A value that is not
    /// sealed is returned as it is.
    pub fn open(&self, key: &[u8], value: &Bytes) -> Result<Bytes, Locked> {
        if !is_sealed(value) {
            return Ok(value.clone());
        }
        if !self.has_config {
            return Err(Locked::NoConfig(seal_or_unknown(value)));
        }
        if let Some((plugin, message)) = self.plugin_of(value) {
            return self.open_envelope(key, plugin, message);
        }
        let mut locked = None;
        // One name may stand for several keys, in one entry of the file or in two: as in the API server each is tried.
        for cipher in &self.keys {
            if let Some(sealed) = value.strip_prefix(cipher.prefix.as_bytes()) {
                match cipher.cipher.open(key, sealed) {
                    Ok(plain) => return Ok(plain),
                    Err(unopened) => locked = Some(unopened.because(&cipher.seal)),
                }
            }
        }
        Err(locked.unwrap_or_else(|| match Keyring::seal_of(value) {
            Some(seal) => Locked::UnknownKey(seal),
            None => Locked::Malformed(seal_or_unknown(value)),
        }))
    }

    /// Which provider and key sealed a value, without opening it; `None` when it is not sealed, or names no key. A key
    /// name with a colon is cut there.
    pub fn seal_of(value: &[u8]) -> Option<Seal> {
        let mut parts = value.strip_prefix(SEALED.as_bytes())?.splitn(4, |byte| *byte == b':');
        let (provider, version, key) = (name(parts.next()?)?, name(parts.next()?)?, name(parts.next()?)?);
        parts.next()?;
        let provider = match (provider, version) {
            (provider, "v1") if provider != "kms" => provider.to_owned(),
            (provider, version) => format!("{provider} {version}"),
        };
        Some(Seal { provider, key: key.to_owned() })
    }

    /// What a KMS plugin must be asked before this value can be opened; `None` when nothing. Costs a look at the first
    /// bytes for every value that no KMS plugin of the configuration sealed.
    pub fn kms_request(&self, value: &[u8]) -> Option<KmsRequest> {
        let (plugin, message) = self.plugin_of(value)?;
        let request = Envelope::read(&plugin.seal.key, message)?.request;
        self.data_keys.get(&request).is_none().then_some(request)
    }

    /// Takes what a KMS plugin unsealed. Of more than [`MAX_DATA_KEYS`] the oldest is forgotten.
    pub fn learn(&self, request: &KmsRequest, unsealed: Zeroizing<Vec<u8>>) {
        self.data_keys.put(request, unsealed);
    }

    fn plugin_of<'a>(&self, value: &'a [u8]) -> Option<(&Plugin, &'a [u8])> {
        let mut plugins = self.plugins.iter();
        plugins.find_map(|plugin| Some((plugin, value.strip_prefix(plugin.prefix.as_bytes())?)))
    }

    fn open_envelope(&self, key: &[u8], plugin: &Plugin, message: &[u8]) -> Result<Bytes, Locked> {
        let envelope =
            Envelope::read(&plugin.seal.key, message).ok_or_else(|| Locked::Malformed(plugin.seal.clone()))?;
        match self.data_keys.get(&envelope.request) {
            Some(source) => envelope.open(key, &source).map_err(|unopened| unopened.because(&plugin.seal)),
            None => Err(Locked::NeedsKms(envelope.request)),
        }
    }
}

/// Names, no keys.
impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seals = self.keys.iter().map(|key| &key.seal).chain(self.plugins.iter().map(|plugin| &plugin.seal));
        f.debug_struct("Keyring").field("seals", &seals.collect::<Vec<_>>()).finish_non_exhaustive()
    }
}

/// How every sealed value begins.
const SEALED: &str = "k8s:enc:";

/// Longest name taken from a value, in bytes: what is longer is no name but a broken value.
const MAX_NAME_BYTES: usize = 253;

struct Plugin {
    prefix: String,
    seal: Seal,
}

struct NamedCipher {
    prefix: String,
    seal: Seal,
    cipher: Cipher,
}

enum Cipher {
    Cbc(Box<Cbc>),
    Gcm(Gcm),
    Secretbox(Secretbox),
}

/// Why a provider did not open a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unopened {
    TooShort,
    WrongKey,
}

impl Unopened {
    fn because(self, seal: &Seal) -> Locked {
        match self {
            Unopened::TooShort => Locked::Malformed(seal.clone()),
            Unopened::WrongKey => Locked::WrongKey(seal.clone()),
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
        let seal = Seal { provider: provider.to_owned(), key: key.name.clone() };
        Ok(NamedCipher { prefix: format!("{SEALED}{provider}:v1:{}:", key.name), seal, cipher })
    }
}

impl Cipher {
    fn open(&self, key: &[u8], sealed: &[u8]) -> Result<Bytes, Unopened> {
        match self {
            Cipher::Cbc(cbc) => cbc.open(sealed),
            Cipher::Gcm(gcm) => gcm.open(key, sealed),
            Cipher::Secretbox(secretbox) => secretbox.open(sealed),
        }
    }
}

fn is_sealed(value: &[u8]) -> bool {
    value.starts_with(SEALED.as_bytes())
}

fn seal_or_unknown(value: &[u8]) -> Seal {
    let unknown = || Seal { provider: "unknown provider,".to_owned(), key: "unknown".to_owned() };
    Keyring::seal_of(value).unwrap_or_else(unknown)
}

/// A part of a value's prefix, if it can be a name.
fn name(part: &[u8]) -> Option<&str> {
    let name = str::from_utf8(part).ok()?;
    (1..=MAX_NAME_BYTES).contains(&name.len()).then_some(name).filter(|name| !name.contains(char::is_control))
}
