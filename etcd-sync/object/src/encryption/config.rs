//! The API server's encryption configuration: what `--encryption-provider-config` of kube-apiserver names.
//!
//! It is read as strictly as the API server does (apiserver's `options/encryptionconfig` and
//! `apis/apiserver/validation`): a file that it refuses is refused here too. Which resources an entry is for is kept only
//! for values that are not encrypted: the others name their provider and key themselves.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use thiserror::Error;
use zeroize::Zeroizing;

/// An encryption configuration: every key and every KMS plugin of all its entries, in their order.
#[derive(Clone, Debug)]
pub struct EncryptionConfig {
    pub(super) keys: Vec<Key>,
    plugins: Vec<KmsPlugin>,
    /// Whether the providers for a resource, as the file names it, include identity.
    identity: BTreeMap<String, bool>,
}

/// One key of the file.
#[derive(Clone)]
pub(super) struct Key {
    pub cipher: CipherName,
    pub name: String,
    pub secret: Zeroizing<Vec<u8>>,
}

/// A provider whose keys are in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CipherName {
    AesCbc,
    AesGcm,
    Secretbox,
}

impl CipherName {
    /// As the file and stored values name it.
    pub fn as_str(self) -> &'static str {
        match self {
            CipherName::AesCbc => "aescbc",
            CipherName::AesGcm => "aesgcm",
            CipherName::Secretbox => "secretbox",
        }
    }

    fn key_lengths(self) -> &'static [usize] {
        match self {
            CipherName::AesCbc | CipherName::AesGcm => &[16, 24, 32],
            CipherName::Secretbox => &[32],
        }
    }
}

/// A KMS v2 plugin of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KmsPlugin {
    /// Its name, which stored values repeat.
    pub name: String,
    /// The path of its unix socket; one that begins with `@` is in Linux's abstract namespace.
    pub socket: String,
    /// How long one of its answers may take.
    pub timeout: Duration,
}

/// Why an encryption configuration cannot be used. Never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EncryptionConfigError {
    /// Not YAML, or not of the right shape. The parser's own message is not part of it: it quotes the file.
    #[error(
        "line {line}, column {column} is not what an EncryptionConfiguration has there: correct the file, or compare \
             it with the one kube-apiserver reads"
    )]
    Syntax {
        /// Counted from 1; 0 when the parser does not say.
        line: u64,
        /// Counted from 1; 0 when the parser does not say.
        column: u64,
    },
    /// Another kind of file.
    #[error(
        "it is no EncryptionConfiguration of apiserver.config.k8s.io/v1: give the file that kube-apiserver gets as \
             --encryption-provider-config"
    )]
    Kind,
    /// A field holds what kube-apiserver would refuse.
    #[error("{at} {problem}: correct the file as kube-apiserver would ask")]
    Field {
        /// `resources[0].providers[1].aescbc.keys[0].secret`.
        at: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// KMS v1, which kube-apiserver itself only reads behind a feature gate.
    #[error(
        "{at} is a KMS v1 provider, which etcd-sync cannot read: migrate to KMS v2 (apiVersion: v2) and rewrite \
             the values"
    )]
    KmsV1 {
        /// Where it is.
        at: String,
    },
}

impl EncryptionConfig {
    /// Reads the file's text.
    pub fn parse(yaml: &str) -> Result<EncryptionConfig, EncryptionConfigError> {
        let file: File = serde_saphyr::from_str(yaml).map_err(|error| {
            let location = error.location();
            EncryptionConfigError::Syntax {
                line: location.map_or(0, |location| location.line()),
                column: location.map_or(0, |location| location.column()),
            }
        })?;
        let kind = (file.api_version.as_str(), file.kind.as_str());
        // The second pair is what an old documentation had; kube-apiserver reads it too.
        if !matches!(kind, ("apiserver.config.k8s.io/v1", "EncryptionConfiguration") | ("v1", "EncryptionConfig")) {
            return Err(EncryptionConfigError::Kind);
        }
        let mut config = EncryptionConfig { keys: Vec::new(), plugins: Vec::new(), identity: BTreeMap::new() };
        let entries = file.resources.unwrap_or_default();
        check(!entries.is_empty(), "resources", "has no entry")?;
        for (index, entry) in entries.into_iter().enumerate() {
            let at = format!("resources[{index}]");
            let resources = entry.resources.unwrap_or_default();
            check(!resources.is_empty(), &format!("{at}.resources"), "is empty")?;
            let providers = entry.providers.unwrap_or_default();
            check(!providers.is_empty(), &format!("{at}.providers"), "is empty")?;
            let identity = providers.iter().any(|provider| provider.identity.is_some());
            for resource in resources {
                // A resource of two entries has the providers of both.
                *config.identity.entry(resource).or_default() |= identity;
            }
            for (index, provider) in providers.into_iter().enumerate() {
                config.add(provider, &format!("{at}.providers[{index}]"))?;
            }
        }
        Ok(config)
    }

    /// The KMS plugins that hold keys, in the order of the file.
    pub fn kms_plugins(&self) -> &[KmsPlugin] {
        &self.plugins
    }

    /// Whether an API server with this file reads values of a resource that are not encrypted. The entry that names it counts,
    /// else the one of its whole group, else the one of all; without any it is not encrypted. `group` is empty for the core.
    pub fn reads_plain(&self, resource: &str, group: &str) -> bool {
        let named = if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") };
        let entries = [named, format!("*.{group}"), "*.*".to_owned()];
        entries.iter().find_map(|entry| self.identity.get(entry).copied()).unwrap_or(true)
    }

    fn add(&mut self, provider: Provider, at: &str) -> Result<(), EncryptionConfigError> {
        let ciphers = [
            (CipherName::AesCbc, provider.aescbc),
            (CipherName::AesGcm, provider.aesgcm),
            (CipherName::Secretbox, provider.secretbox),
        ];
        let mut found = usize::from(provider.identity.is_some());
        for (cipher, keys) in ciphers {
            if let Some(keys) = keys {
                found += 1;
                self.add_keys(cipher, keys, &format!("{at}.{}.keys", cipher.as_str()))?;
            }
        }
        if let Some(kms) = provider.kms {
            found += 1;
            self.add_plugin(kms, &format!("{at}.kms"))?;
        }
        check(found == 1, at, "must be exactly one of aescbc, aesgcm, secretbox, kms and identity")
    }

    fn add_keys(&mut self, cipher: CipherName, keys: Keys, at: &str) -> Result<(), EncryptionConfigError> {
        let keys = keys.keys.unwrap_or_default();
        check(!keys.is_empty(), at, "is empty")?;
        for (index, key) in keys.into_iter().enumerate() {
            let at = format!("{at}[{index}]");
            check(!key.name.is_empty(), &format!("{at}.name"), "is empty")?;
            let at = format!("{at}.secret");
            let secret = key.secret.decode();
            check(secret.is_some(), &at, "is not base64")?;
            let secret = secret.unwrap_or_default();
            let problem = match cipher {
                CipherName::Secretbox => "is not of 32 bytes",
                _ => "is not of 16, 24 or 32 bytes",
            };
            check(cipher.key_lengths().contains(&secret.len()), &at, problem)?;
            self.keys.push(Key { cipher, name: key.name, secret });
        }
        Ok(())
    }

    fn add_plugin(&mut self, kms: Kms, at: &str) -> Result<(), EncryptionConfigError> {
        match kms.api_version.as_deref().unwrap_or_default() {
            "v2" => {}
            "" | "v1" => return Err(EncryptionConfigError::KmsV1 { at: at.to_owned() }),
            _ => check(false, &format!("{at}.apiVersion"), "is neither v1 nor v2")?,
        }
        let name_at = format!("{at}.name");
        check(!kms.name.is_empty(), &name_at, "is empty")?;
        check(!kms.name.contains(':'), &name_at, "contains a colon")?;
        check(self.plugins.iter().all(|other| other.name != kms.name), &name_at, "is the name of another provider")?;
        check(kms.cachesize.is_none(), &format!("{at}.cachesize"), "is only for KMS v1")?;
        let path = kms.endpoint.strip_prefix("unix://").filter(|path| path.starts_with('/') && path.len() > 1);
        check(path.is_some(), &format!("{at}.endpoint"), "is not unix:///path/of/a/socket")?;
        let path = path.unwrap_or_default();
        let socket = if path.starts_with("/@") { &path[1..] } else { path };
        let timeout = kms.timeout.as_deref().map_or(Some(DEFAULT_TIMEOUT), go_duration);
        check(timeout.is_some(), &format!("{at}.timeout"), "is not a positive time, as 3s")?;
        let timeout = timeout.unwrap_or(DEFAULT_TIMEOUT);
        self.plugins.push(KmsPlugin { name: kms.name, socket: socket.to_owned(), timeout });
        Ok(())
    }
}

/// How long a KMS plugin's answer may take when the file does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(3);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("cipher", &self.cipher).field("name", &self.name).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    resources: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    resources: Option<Vec<String>>,
    providers: Option<Vec<Provider>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Provider {
    aescbc: Option<Keys>,
    aesgcm: Option<Keys>,
    secretbox: Option<Keys>,
    identity: Option<Identity>,
    kms: Option<Kms>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    keys: Option<Vec<NamedSecret>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedSecret {
    #[serde(default)]
    name: String,
    #[serde(default)]
    secret: Secret,
}

/// A secret as the file has it.
#[derive(Default, Deserialize)]
#[serde(transparent)]
struct Secret(Zeroizing<String>);

impl Secret {
    /// As Go decodes base64: line breaks are skipped, unused bits are not checked. Nothing is no secret.
    fn decode(&self) -> Option<Zeroizing<Vec<u8>>> {
        let config = GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true);
        let engine = GeneralPurpose::new(&STANDARD, config);
        let text: Zeroizing<Vec<u8>> =
            self.0.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect::<Vec<_>>().into();
        engine.decode(&*text).ok().filter(|secret| !secret.is_empty()).map(Zeroizing::new)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Kms {
    api_version: Option<String>,
    #[serde(default)]
    name: String,
    #[serde(default)]
    endpoint: String,
    timeout: Option<String>,
    cachesize: Option<i32>,
}

fn check(is_right: bool, at: &str, problem: &'static str) -> Result<(), EncryptionConfigError> {
    if is_right { Ok(()) } else { Err(EncryptionConfigError::Field { at: at.to_owned(), problem }) }
}

/// A positive duration as Go writes it: `3s`, `1m30s`, `1.5s`.
fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (count, tail) = rest.split_at(number);
        let unit = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let factor = match &tail[..unit] {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += count.parse::<f64>().ok()? * factor;
        rest = &tail[unit..];
    }
    Duration::try_from_secs_f64(seconds).ok().filter(|duration| !duration.is_zero())
}
