//! A value that cannot be decrypted pauses the link: it goes on as soon as the file of `--encryption-config`, or a KMS plugin, knows the key.
//!
//! The API servers' keys are rotated while the synchronizer runs, and its copy of their file follows later. Only the value itself is tried
//! again meanwhile, without a session: a session would show replication as running, and pause it again a moment later.

use std::sync::Arc;

use etcd_sync_core::etcd::kv::KeyValue;
use etcd_sync_core::etcd::request::ReadRange;
use etcd_sync_core::link::fence::{Fence, other_role};
use etcd_sync_core::link::state::Phase;
use etcd_sync_core::session::{Encrypted, Refusal};
use etcd_sync_kms::EncryptionError;
use etcd_sync_store::Error;
use etcd_sync_store::client::election::Leadership;
use tokio::time::sleep;
use tracing::info;

use super::{Daemon, Term, pause};

/// What one more try of the value has shown.
enum Tried {
    /// A session may begin: it can be decrypted, or the session finds out what else is the matter.
    GoOn,
    /// It cannot be decrypted yet.
    Undecryptable,
}

impl Daemon {
    /// Waits until the value that ended a session can be decrypted; `phase`: what that session was at. `Some`: the term is over.
    pub(super) async fn await_key(
        &mut self,
        leadership: &Leadership,
        fence: &Fence,
        refusal: &Refusal,
        encrypted: &Encrypted,
        phase: Option<Phase>,
    ) -> Option<Term> {
        loop {
            let mut stop = self.stop.clone();
            let tried = tokio::select! {
                () = stop.wanted() => return Some(Term::Stopped),
                () = leadership.lost() => return Some(Term::Lost),
                tried = self.try_again(encrypted, phase) => tried,
            };
            match tried {
                Ok(Tried::GoOn) => return None,
                Ok(Tried::Undecryptable) => self.pause(fence, refusal.label(), &refusal.to_string(), None).await,
                Err(error) => self.pause(fence, "encryption_config", &error.to_string(), None).await,
            }
            tokio::select! {
                () = self.stop.wanted() => return Some(Term::Stopped),
                () = leadership.lost() => return Some(Term::Lost),
                () = sleep(pause::INTERVAL) => {}
            }
        }
    }

    async fn try_again(&mut self, encrypted: &Encrypted, phase: Option<Phase>) -> Result<Tried, EncryptionError> {
        self.renew_encryption()?;
        // Whoever was promoted meanwhile waits for no key.
        if let Ok((Some(role), _)) = self.standby.get(&self.keys.role).await
            && other_role(Some(&role.value)).is_some()
        {
            return Ok(Tried::GoOn);
        }
        // A stream comes to this very value again, a copy reads what is there now.
        let revision = if phase == Some(Phase::Streaming) { encrypted.revision } else { 0 };
        let mut read = self.primary.read(ReadRange::single(encrypted.key.clone(), false, revision)).await;
        // The key is put back on the standby with what is there now.
        if let Err(Error::Compacted { .. }) = read {
            read = self.primary.read(ReadRange::single(encrypted.key.clone(), false, 0)).await;
        }
        let Ok(page) = read else { return Ok(Tried::GoOn) };
        self.encryption.unwrap_keys(&page.kvs).await;
        let undecryptable = |kv: &KeyValue| self.encryption.keyring.decrypt(&kv.key, &kv.value).is_err();
        Ok(if page.kvs.iter().any(undecryptable) { Tried::Undecryptable } else { Tried::GoOn })
    }

    /// Reads the file again if it has changed.
    pub(super) fn renew_encryption(&mut self) -> Result<(), EncryptionError> {
        if let Some(renewed) = self.encryption.renewed(self.encryption_config.as_deref())? {
            info!("the file of --encryption-config has changed and is in use");
            self.encryption = renewed;
            self.session.keyring = Arc::clone(&self.encryption.keyring);
        }
        Ok(())
    }
}
