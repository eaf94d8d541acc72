//! How long paused replication waits before it checks again whether the reason is gone.

use std::time::Duration;

use etcd_sync_core::etcd::kv::Revision;
use etcd_sync_core::link::state::{Phase, StateKeys};
use etcd_sync_store::Etcd;
use tokio::time::{Instant, sleep, timeout};

/// At least so long, and so often the operator's answer is looked for.
pub(super) const INTERVAL: Duration = Duration::from_secs(5);
const INTERVAL_MOST: Duration = Duration::from_secs(300);

/// A standby that hangs delays nothing longer.
const READ_TIMEOUT: Duration = Duration::from_secs(1);

/// A check that walks all keys of both clusters may take a tenth of the time.
const TIMES: u32 = 10;

/// `phase`: what the session came to that ended after `took`. Only one that counted or compared keys was a burden.
pub(super) fn interval(phase: Option<Phase>, took: Duration) -> Duration {
    match phase {
        None | Some(Phase::Streaming) => INTERVAL,
        Some(Phase::FirstSync | Phase::Resync) => (took * TIMES).clamp(INTERVAL, INTERVAL_MOST),
    }
}

/// What ends a pause when somebody writes it: the operator's answer, and the role. The revisions of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Words(Revision, Revision);

impl Words {
    /// `None`: they cannot be read just now.
    pub(super) async fn read(standby: &Etcd, keys: &StateKeys) -> Option<Words> {
        let revision = async |key| Some(standby.get(key).await.ok()?.0.map_or(0, |kv| kv.mod_revision));
        let read = async { Some(Words(revision(&keys.acceptance).await?, revision(&keys.role).await?)) };
        timeout(READ_TIMEOUT, read).await.ok().flatten()
    }
}

/// Waits so long, or, where that is long, until there are other words than those `known` when the session began.
pub(super) async fn wait(standby: &Etcd, keys: &StateKeys, known: Option<Words>, interval: Duration) {
    let end = Instant::now() + interval;
    loop {
        sleep(INTERVAL.min(end - Instant::now())).await;
        if Instant::now() >= end {
            return;
        }
        let found = Words::read(standby, keys).await;
        if found.is_some() && found != known {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_check_is_made_rarely() {
        let seconds = Duration::from_secs;
        assert_eq!(interval(None, seconds(3)), seconds(5), "refused before anything was counted");
        assert_eq!(interval(Some(Phase::Streaming), seconds(3_600)), seconds(5));
        assert_eq!(interval(Some(Phase::Resync), Duration::from_millis(100)), seconds(5));
        assert_eq!(interval(Some(Phase::Resync), seconds(24)), seconds(240));
        assert_eq!(interval(Some(Phase::FirstSync), seconds(112)), seconds(300));
    }
}
