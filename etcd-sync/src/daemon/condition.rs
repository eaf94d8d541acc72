//! Why replication is paused, in the standby, for `status` and the monitor.

use bytes::Bytes;
use etcd_sync_core::etcd::request::{Compare, Op, Txn};
use etcd_sync_core::link::fence::{Fence, is_standby};
use etcd_sync_core::link::question::Question;
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
    /// Writes why replication is paused, and what is asked of the operator with it. A question that stands already stays where
    /// there is no new one: it is answered, or replication goes on.
    pub async fn write(&self, why: &str, question: Option<&Question>, stop: &mut Stop) -> bool {
        let condition = Condition { paused: why.to_owned(), since_ms: now_ms(), holder: self.holder.to_owned() };
        let value = serde_json::to_vec(&condition).unwrap_or_default().into();
        let mut changes = vec![Op::Put { key: self.fence.keys.condition.clone(), value, lease: 0 }];
        let key = self.fence.keys.question.clone();
        changes.extend(question.map(|question| Op::Put { key, value: question.encode(), lease: 0 }));
        self.commit(changes, stop).await
    }

    /// Writes that replication is not paused, and that nothing is asked.
    pub async fn clear(&self, stop: &mut Stop) -> bool {
        let keys = [&self.fence.keys.condition, &self.fence.keys.question];
        self.commit(keys.map(|key| Op::Delete { key: key.clone() }).to_vec(), stop).await
    }

    /// Fenced like every write: on a promoted standby not even this is written. False: it could not be written.
    async fn commit(&self, changes: Vec<Op>, stop: &mut Stop) -> bool {
        let keys = &self.fence.keys;
        let absent = |key: &Bytes| Compare::CreateRevision { key: key.clone(), revision: 0 };
        let standby = vec![is_standby(keys)];
        // A link that was refused from the beginning has no role yet.
        let never_ran = vec![absent(&keys.role), absent(&keys.checkpoint)];
        for mut compares in [standby, never_ran] {
            compares.push(self.fence.is_leader());
            let txn = Txn { compares, success: changes.clone(), failure: vec![] };
            let written = tokio::select! {
                // A standby that hangs must not block the end.
                () = stop.wanted() => return false,
                written = self.standby.txn(txn) => written,
            };
            match written {
                Ok(reply) if !reply.succeeded => {}
                Ok(_) => return true,
                Err(failure) => {
                    warn!(error = %failure, "cannot record in the standby why replication is paused");
                    return false;
                }
            }
        }
        // Promoted, or no longer the leader: it is for others to write.
        true
    }
}
