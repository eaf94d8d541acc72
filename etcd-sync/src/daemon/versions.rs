//! Members that are not used, or whose version has known bugs: named once, when the process starts.

use etcd_sync_store::{Etcd, version_warning};
use tracing::warn;

/// Logs what is wrong with the members of both sides.
pub(super) async fn warn_of(primary: Etcd, standby: Etcd) {
    let (primary, standby) = tokio::join!(primary.member_statuses(), standby.member_statuses());
    for (side, members) in [("primary", primary), ("standby", standby)] {
        for (endpoint, status) in members {
            match status {
                Ok(status) if status.is_learner => {
                    warn!(
                        side,
                        endpoint, "this member is a learner and is not used; promote it, or remove its endpoint"
                    );
                }
                Ok(status) => {
                    if let Some(warning) = version_warning(&status.version) {
                        warn!(side, endpoint, "{warning}");
                    }
                }
                Err(error) => warn!(side, endpoint, %error, "this member does not answer"),
            }
        }
    }
}
