//! What is tried again before a session is given up: reads, the opening of a watch, the commits of a copy.

use std::time::Duration;

use etcd_sync_core::etcd::kv::{KeyRange, Revision};
use etcd_sync_core::etcd::request::{Page, ReadRange};
use etcd_sync_store::{Error, Etcd, Watch, WatchError, WriteError};
use tokio::time::{Instant, sleep};
use tracing::warn;

/// How long a broken watch is opened again before the session gives up.
const OPEN_TIMEOUT: Duration = Duration::from_secs(20);
const OPEN_PAUSE: Duration = Duration::from_millis(500);

/// How long a read that fails for a moment is tried again before the session gives up: a copy that begins again is expensive.
const READ_PATIENCE: Duration = Duration::from_secs(30);
const READ_PAUSE: Duration = Duration::from_millis(200);
const READ_PAUSE_MOST: Duration = Duration::from_secs(3);

/// How long the commits of a copy may fail before the session gives up.
const COMMIT_PATIENCE: Duration = Duration::from_secs(60);

/// Reads, patiently.
pub(super) async fn read(etcd: &Etcd, request: ReadRange) -> Result<Page, Error> {
    let (deadline, mut pause) = (Instant::now() + READ_PATIENCE, READ_PAUSE);
    loop {
        match etcd.read(request.clone()).await {
            // As it is it would fail again on a slow link.
            Err(error @ Error::Timeout { .. }) if request.limit > 1 => {
                warn!(%error, keys = request.limit, "a page did not come in time; it is read again with fewer keys");
                return Err(error);
            }
            Err(error) if error.is_transient() && Instant::now() + pause < deadline => {
                warn!(%error, "a read failed and is tried again");
                sleep(pause).await;
                pause = (pause * 2).min(READ_PAUSE_MOST);
            }
            result => return result,
        }
    }
}

pub(super) async fn open(etcd: &Etcd, range: KeyRange, from: Revision) -> Result<Watch, WatchError> {
    let deadline = Instant::now() + OPEN_TIMEOUT;
    loop {
        match etcd.watch(range.clone(), from).await {
            Err(error) if error.is_transient() && Instant::now() < deadline => {
                warn!(%error, "the watch cannot be opened yet");
                sleep(OPEN_PAUSE).await;
            }
            opened => return opened,
        }
    }
}

/// Commits that failed, since the last one that did not.
#[derive(Debug, Default)]
pub(super) struct Commits {
    failing_since: Option<Instant>,
}

impl Commits {
    /// One was answered.
    pub(super) fn on_answer(&mut self) {
        self.failing_since = None;
    }

    /// One failed: after which pause the session is informed, and whether it may have been applied or may still be. In a copy,
    /// which is expensive to begin again, the session finds out what became of it. A stream that ends costs nothing, but
    /// what was not applied for certain may simply be sent again.
    ///
    /// # Errors
    /// The failure, when it does not pass, or lasts.
    pub(super) fn on_failure(&mut self, failure: WriteError, is_copy: bool) -> Result<(Duration, bool), Error> {
        let (unknown, error) = match failure {
            WriteError::NotApplied(error) => (false, error),
            WriteError::Unknown(error) => (true, error),
        };
        let passes = error.is_transient() && !matches!(error, Error::NoSpace { .. });
        let now = Instant::now();
        let since = *self.failing_since.get_or_insert(now);
        if !passes || (unknown && !is_copy) || now - since > COMMIT_PATIENCE {
            return Err(error);
        }
        if now == since {
            warn!(%error, "a commit failed; the session finds out what became of it");
        }
        Ok(((now - since).clamp(READ_PAUSE, READ_PAUSE_MOST), unknown))
    }
}
