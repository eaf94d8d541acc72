//! The file of `--encryption-config`, and the keys that decrypt values with it.

use std::hash::{DefaultHasher, Hash, Hasher};
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

/// The same failure is logged again after so long.
const REPEATED_AFTER: Duration = Duration::from_secs(60);

/// Keys that decrypt the values of the pair. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Encryption {
    /// Decrypts values; what only a KMS knows it learns from [`Encryption::unwrap_keys`].
    pub keyring: Arc<Keyring>,
    /// What the file holds; `None`: there is none.
    pub config: Option<Arc<EncryptionConfig>>,
    kms: Option<Arc<Plugins>>,
    /// Of the file's text: whether it has changed.
    digest: u64,
}

#[derive(Debug)]
struct Plugins {
    kms: Kms,
    failed: Mutex<Option<Instant>>,
    /// The last failure that was logged, and when.
    told: Mutex<Option<(String, Instant)>>,
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
            return Ok(Encryption { keyring: Arc::new(Keyring::none()), config: None, kms: None, digest: 0 });
        };
        Encryption::parse(file, &read(file)?)
    }

    /// The keys of the file as it is now; `None`: it has not changed, and what was learnt of a KMS stays.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn renewed(&self, file: Option<&Path>) -> Result<Option<Encryption>, EncryptionError> {
        let Some(file) = file else { return Ok(None) };
        let text = read(file)?;
        if digest(&text) == self.digest {
            return Ok(None);
        }
        Encryption::parse(file, &text).map(Some)
    }

    fn parse(file: &Path, text: &str) -> Result<Encryption, EncryptionError> {
        let malformed = |source| EncryptionError::Malformed { file: file.to_owned(), source };
        let config = EncryptionConfig::parse(text).map_err(malformed)?;
        let keyring = Arc::new(Keyring::new(&config).map_err(malformed)?);
        let plugins = || Arc::new(Plugins { kms: Kms::new(&config), failed: Mutex::default(), told: Mutex::default() });
        let kms = (!config.kms_plugins().is_empty()).then(plugins);
        Ok(Encryption { keyring, config: Some(Arc::new(config)), kms, digest: digest(text) })
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
        if let Err(error) = outcome.as_ref().map_err(ToString::to_string)
            && plugins.is_news(&error)
        {
            warn!(%error, "cannot unwrap the data keys of encrypted values: they are not decrypted");
        }
    }
}

impl Plugins {
    /// Whether a failure is to be logged: another one than before, or a minute later.
    fn is_news(&self, error: &str) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let known = told.as_ref().is_some_and(|(known, at)| known == error && at.elapsed() < REPEATED_AFTER);
        if !known {
            *told = Some((error.to_owned(), Instant::now()));
        }
        !known
    }
}

fn read(file: &Path) -> Result<Zeroizing<String>, EncryptionError> {
    let unreadable = |source| EncryptionError::Unreadable { file: file.to_owned(), source };
    std::fs::read_to_string(file).map(Zeroizing::new).map_err(unreadable)
}

fn digest(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_again_only_when_it_has_changed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let write = |name: &str| {
            let text = format!(
                "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  \
                 providers:\n  - aescbc: {{keys: [{{name: {name}, secret: dGVzdC1vbmx5LWFlc2NiYw==}}]}}\n"
            );
            std::fs::write(file.path(), text).unwrap();
        };
        write("one");
        let known = Encryption::load(Some(file.path())).unwrap();
        assert!(known.renewed(Some(file.path())).unwrap().is_none());
        write("two");
        let renewed = known.renewed(Some(file.path())).unwrap().unwrap();
        assert!(renewed.renewed(Some(file.path())).unwrap().is_none());
        std::fs::write(file.path(), "nonsense").unwrap();
        assert!(renewed.renewed(Some(file.path())).is_err());
        assert!(Encryption::load(None).unwrap().renewed(None).unwrap().is_none());
    }

    #[test]
    fn the_same_failure_is_logged_once() {
        let config = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  \
                      providers:\n  - identity: {}\n";
        let kms = Kms::new(&EncryptionConfig::parse(config).unwrap());
        let plugins = Plugins { kms, failed: Mutex::default(), told: Mutex::default() };
        assert_eq!(["a", "a", "b", "a"].map(|error| plugins.is_news(error)), [true, false, true, true]);
    }
}
