//! The file of `--encryption-config`, and the keys that decrypt values with it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use etcd_sync_core::etcd::kv::{Event, KeyValue};
use etcd_sync_core::object::encryption::{EncryptionConfig, EncryptionConfigError, Keyring};
use tracing::warn;
use zeroize::Zeroizing;

use crate::plugin::Kms;

/// After a failure the plugins are left alone for so long: every page and every change would wait for them.
const KMS_PAUSE: Duration = Duration::from_secs(5);

/// Keys that decrypt the values of the pair. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Encryption {
    /// Decrypts values; what only a KMS knows it learns from [`Encryption::unwrap_keys`].
    pub keyring: Arc<Keyring>,
    /// What the file holds; `None`: there is none.
    pub config: Option<Arc<EncryptionConfig>>,
    kms: Option<Arc<Plugins>>,
}

#[derive(Debug)]
struct Plugins {
    kms: Kms,
    failed: Mutex<Option<Instant>>,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EncryptionError {
    /// It cannot be read.
    #[error(
        "cannot read {} (--encryption-config): {source}; it is the file that kube-apiserver gets as \
         --encryption-provider-config, and this process must be allowed to read it", file.display()
    )]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not what an API server takes.
    #[error("{} (--encryption-config): {source}", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        source: EncryptionConfigError,
    },
}

impl Encryption {
    /// Reads the file, if there is one.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn load(file: Option<&Path>) -> Result<Encryption, EncryptionError> {
        let Some(file) = file else {
            return Ok(Encryption { keyring: Arc::new(Keyring::none()), config: None, kms: None });
        };
        let unreadable = |source| EncryptionError::Unreadable { file: file.to_owned(), source };
        let text = Zeroizing::new(std::fs::read_to_string(file).map_err(unreadable)?);
        let malformed = |source| EncryptionError::Malformed { file: file.to_owned(), source };
        let config = EncryptionConfig::parse(&text).map_err(malformed)?;
        let keyring = Arc::new(Keyring::new(&config).map_err(malformed)?);
        let plugins = || Arc::new(Plugins { kms: Kms::new(&config), failed: Mutex::default() });
        let kms = (!config.kms_plugins().is_empty()).then(plugins);
        Ok(Encryption { keyring, config: Some(Arc::new(config)), kms })
    }

    /// Whether a KMS must be asked before these values can be decrypted.
    pub fn needs_kms<'a>(&self, mut values: impl Iterator<Item = &'a KeyValue>) -> bool {
        self.kms.is_some() && values.any(|kv| self.keyring.kms_request(&kv.value).is_some())
    }

    /// Lets the KMS plugins unwrap the data keys of these values. A failure is logged, and whoever decrypts the values sees it again.
    pub async fn unwrap_keys(&self, values: &[KeyValue]) {
        let Some(plugins) = &self.kms else { return };
        let failed = *plugins.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if failed.is_some_and(|at| at.elapsed() < KMS_PAUSE) {
            return;
        }
        let outcome = plugins.kms.unwrap_keys(&self.keyring, values).await;
        *plugins.failed.lock().unwrap_or_else(PoisonError::into_inner) = outcome.is_err().then(Instant::now);
        if let Err(error) = outcome {
            warn!(%error, "cannot unwrap the data keys of encrypted values: they are not decrypted");
        }
    }
}

/// The values among changes.
pub fn values(events: &[Event]) -> impl Iterator<Item = &KeyValue> {
    events.iter().filter_map(|event| match event {
        Event::Put(kv) => Some(kv),
        Event::Delete { .. } => None,
    })
}

/// The file holds keys: a warning when every user of the machine may read it.
pub fn warn_of_mode(file: Option<&Path>) {
    let mode = file.and_then(|file| Some((file, std::fs::metadata(file).ok()?.permissions().mode())));
    if let Some((file, mode)) = mode.filter(|(_, mode)| mode & 0o004 != 0) {
        let mode = format!("{:04o}", mode & 0o7777);
        warn!(file = %file.display(), mode, "every user of this machine can read the encryption keys in this file: run chmod 0600");
    }
}
