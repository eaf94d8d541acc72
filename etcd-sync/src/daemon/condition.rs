//! Why replication is paused, in the standby, for `status` and the monitor.

use bytes::Bytes;
use etcd_sync_core::etcd::request::{Compare, Op, Txn};
use etcd_sync_core::link::fence::{Fence, is_standby};
use etcd_sync_core::link::state::Condition;
use etcd_sync_program::{Stop, now_ms};
use etcd_sync_store::Etcd;
use tracing::warn;

/// The key and who may write it.
pub struct ConditionKey<'a> {
    pub standby: &'a Etcd,
    pub fence: &'a Fence,
    pub holder: &'a str,
}

impl ConditionKey<'_> {
    /// Writes why replication is paused, or that it is not. Fenced like every write: on a promoted standby not even this is
    /// written.
    pub async fn write(&self, why: Option<&str>, stop: &mut Stop) {
        let key = self.fence.keys.condition.clone();
        let change = match why {
            Some(why) => {
                let condition =
                    Condition { paused: why.to_owned(), since_ms: now_ms(), holder: self.holder.to_owned() };
                let value = serde_json::to_vec(&condition).unwrap_or_default().into();
                Op::Put { key, value, lease: 0 }
            }
            None => Op::Delete { key },
        };
        let keys = &self.fence.keys;
        let absent = |key: &Bytes| Compare::CreateRevision { key: key.clone(), revision: 0 };
        let standby = vec![is_standby(keys)];
        // A link that was refused from the beginning has no role yet.
        let never_ran = vec![absent(&keys.role), absent(&keys.checkpoint)];
        for mut compares in [standby, never_ran] {
            compares.push(self.fence.is_leader());
            let txn = Txn { compares, success: vec![change.clone()], failure: vec![] };
            let written = tokio::select! {
                // A standby that hangs must not block the end.
                () = stop.wanted() => return,
                written = self.standby.txn(txn) => written,
            };
            match written {
                Ok(reply) if !reply.succeeded => {}
                Ok(_) => return,
                Err(failure) => {
                    warn!(error = %failure, "cannot record in the standby why replication is paused");
                    return;
                }
            }
        }
    }
}
