//! The primary's word on a single key, right before something is written that it may forbid.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use etcd_sync_core::etcd::request::ReadRange;
use etcd_sync_core::link::state::cluster_id_text;
use etcd_sync_core::scope::{Decision, Scope};
use etcd_sync_store::link::compare::CheckError;
use etcd_sync_store::{Error, Etcd};

/// A primary that is gone for good shall not be waited for long.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Whether the primary has a key in scope. One that hangs on a lease there is not: no copy of it belongs on the standby.
///
/// # Errors
/// Why the primary cannot be read.
pub async fn on_primary(primary: &Etcd, scope: &Scope, key: &Bytes) -> Result<bool, Error> {
    Ok(primary
        .read(ReadRange::single(key.clone(), true, 0))
        .await?
        .kvs
        .iter()
        .any(|kv| scope.decide_kv(kv) == Decision::InScope))
}

/// A primary that may be gone for good, if the operator says so.
pub struct Primary<'a> {
    etcd: &'a Etcd,
    scope: &'a Scope,
    /// The operator said that it may be silent.
    may_be_silent: bool,
    silent: AtomicBool,
}

impl<'a> Primary<'a> {
    /// Makes sure that it is the cluster on record, or that nobody counts on it; else gives the reason not to go on.
    pub async fn find(
        etcd: &'a Etcd,
        scope: &'a Scope,
        recorded: &str,
        may_be_silent: bool,
    ) -> Result<Primary<'a>, String> {
        let primary = Primary { etcd, scope, may_be_silent, silent: AtomicBool::new(false) };
        let silence = match tokio::time::timeout(TIMEOUT, etcd.identity()).await {
            Ok(Ok(identity)) => {
                let found = cluster_id_text(identity.cluster_id);
                return match found == recorded {
                    true => Ok(primary),
                    false => Err(CheckError::OtherPrimary { recorded: recorded.to_owned(), found }.to_string()),
                };
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {TIMEOUT:?}"),
        };
        if !may_be_silent {
            return Err(format!(
                "the primary cannot be queried for the keys it has ({silence}): check --primary-endpoints, or if it is gone \
                 for good, give --without-primary"
            ));
        }
        primary.fell_silent(&silence);
        Ok(primary)
    }

    /// Whether it has a key in scope; once it is silent and may be, it has none.
    ///
    /// # Errors
    /// It cannot be read, and nobody said that it need not.
    pub async fn has(&self, key: &Bytes) -> Result<bool> {
        if self.silent.load(Ordering::Relaxed) {
            return Ok(false);
        }
        match on_primary(self.etcd, self.scope, key).await {
            Err(error) if self.may_be_silent => {
                self.fell_silent(&error.to_string());
                Ok(false)
            }
            found => found.context("the primary cannot be queried for a key (--without-primary goes on)"),
        }
    }

    fn fell_silent(&self, error: &str) {
        if !self.silent.swap(true, Ordering::Relaxed) {
            tracing::warn!(error, "the primary does not answer: keys that it has are put back too");
        }
    }
}
