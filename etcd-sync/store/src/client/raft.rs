//! Where the raft log of a cluster is: two statuses of one member, behind a linearizable read over the same connection.

use std::sync::Arc;

use etcd_sync_core::link::history::{RaftReading, RaftStatus};

use crate::client::cluster::{Etcd, Inner, STATUS};
use crate::client::error::Error;
use crate::client::fault::Fault;
use crate::client::pool::Member;
use crate::client::proto::{RangeRequest, RangeResponse, StatusRequest, StatusResponse};
use crate::client::read::{IDENTITY_KEY, RANGE};

impl Etcd {
    /// A reading of the raft log from the member in use. `None`: what answers is no single member (a proxy).
    ///
    /// # Errors
    /// Why no member answered.
    pub async fn raft_reading(&self) -> Result<Option<RaftReading>, Error> {
        let inner = &self.inner;
        let mut attempts = inner.attempts(inner.request_timeout);
        while let Some((member, timeout)) = attempts.next() {
            let read = match tokio::time::timeout(timeout, inner.raft_reading(&member)).await {
                Ok(read) => read,
                Err(_) => Err(Fault::timeout(inner.at(&member, STATUS.call), timeout)),
            };
            match read {
                Ok(reading) => {
                    inner.pool.worked(&member);
                    return Ok(reading);
                }
                Err(fault) => attempts.failed(&member, fault)?,
            }
        }
        Err(attempts.error())
    }
}

impl Inner {
    async fn raft_reading(&self, member: &Arc<Member>) -> Result<Option<RaftReading>, Fault> {
        let connection = self.verified_connection(member, STATUS.call).await?;
        let request = RangeRequest { key: IDENTITY_KEY, keys_only: true, limit: 1, ..Default::default() };
        // Once it has answered, the member has applied everything that was committed before.
        let _: RangeResponse = self.send(member, &connection, RANGE, request, self.request_timeout).await?;
        let first: StatusResponse =
            self.send(member, &connection, STATUS, StatusRequest {}, self.request_timeout).await?;
        let second: StatusResponse =
            self.send(member, &connection, STATUS, StatusRequest {}, self.request_timeout).await?;
        let of = |status: &StatusResponse| {
            let header = status.header.unwrap_or_default();
            (header.member_id, RaftStatus { revision: header.revision, applied_index: status.raft_applied_index })
        };
        let ((id, first), (same, second)) = (of(&first), of(&second));
        let usable = id == same && id != 0 && first.applied_index > 0 && first.revision <= second.revision;
        Ok(usable.then_some(RaftReading { member: id, first, second }))
    }
}
