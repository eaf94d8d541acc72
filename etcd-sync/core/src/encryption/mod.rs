//! Encryption at rest: opens values that the API servers seal.

use std::fmt;

use bytes::Bytes;
use thiserror::Error;

/// What every sealed value begins with.
const SEALED: &[u8] = b"k8s:enc:";

/// What opens sealed values.
#[derive(Debug, Default)]
pub struct Keyring {}

/// Provider and key that sealed a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// `aescbc`
    pub provider: String,
    /// Name of the key.
    pub key: String,
}

impl fmt::Display for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} key {}", self.provider, self.key)
    }
}

/// Why a value stays sealed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Locked {
    /// No configuration was given.
    #[error("it is sealed with {0}, and no encryption configuration is given")]
    NoConfig(Seal),
}

impl Keyring {
    /// Opens nothing.
    pub fn none() -> Self {
        Keyring::default()
    }

    /// The plain bytes of a value; those that are not sealed are plain already.
    ///
    /// # Errors
    /// Why it stays sealed.
    pub fn open(&self, _key: &[u8], value: &Bytes) -> Result<Bytes, Locked> {
        let Some(rest) = value.strip_prefix(SEALED) else { return Ok(value.clone()) };
        let mut parts = rest.split(|&byte| byte == b':');
        let mut part = || String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
        let (provider, _version, key) = (part(), part(), part());
        Err(Locked::NoConfig(Seal { provider, key }))
    }
}
