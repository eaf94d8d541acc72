//! The state of each member.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use crate::client::cluster::{Etcd, Inner, STATUS};
use crate::client::connection::Method;
use crate::client::error::Error;
use crate::client::pool::Member;
use crate::client::proto::{ALARM_NOSPACE, AlarmRequest, AlarmResponse, StatusRequest, StatusResponse};

const ALARM: Method = Method { path: "/etcdserverpb.Maintenance/Alarm", call: "the alarm list", needs_leader: true };

/// What one member reports about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its version, such as `3.6.16`; see [`crate::version_warning`].
    pub version: String,
    /// Id of its cluster.
    pub cluster_id: u64,
    /// Its own id.
    pub member_id: u64,
    /// Size of its database file.
    pub db_size_bytes: i64,
    /// The part of it that is in use; the rest waits for a defragmentation.
    pub db_size_in_use_bytes: i64,
    /// Its quota; `None` before etcd 3.6, which does not report it.
    pub db_quota_bytes: Option<i64>,
    /// Whether it is a learner: it serves neither watches nor linearizable reads.
    pub is_learner: bool,
    /// Id of the member it takes for the leader; 0 is none.
    pub leader: u64,
    /// Its newest revision.
    pub revision: i64,
    /// Its election term.
    pub raft_term: u64,
    /// Alarms and errors, as etcd words them.
    pub errors: Vec<String>,
}

impl Etcd {
    /// Reads the state of every endpoint, all at the same time, each with its URL, in the order of the options.
    /// A failure here does not change which member other requests use.
    pub async fn member_statuses(&self) -> Vec<(String, Result<MemberStatus, Error>)> {
        let inner = &*self.inner;
        let members = inner.pool.given().iter();
        join_all(members.map(async |member| (member.url().to_owned(), inner.member_status(member).await))).await
    }

    /// The state of those members that answer within `patience`, with their URLs: one that hangs blocks nothing.
    pub async fn answering_members(&self, patience: Duration) -> Vec<(String, MemberStatus)> {
        let inner = &*self.inner;
        let members = inner.pool.given().iter().map(async |member| {
            let status = tokio::time::timeout(patience, inner.member_status(member)).await.ok()?.ok()?;
            Some((member.url().to_owned(), status))
        });
        join_all(members).await.into_iter().flatten().collect()
    }

    /// Whether the alarm NOSPACE is raised anywhere in the cluster: every write is refused.
    ///
    /// # Errors
    /// Why no member answered.
    pub async fn nospace(&self) -> Result<bool, Error> {
        let answer: AlarmResponse = self.inner.call(ALARM, AlarmRequest {}, self.inner.request_timeout).await?;
        Ok(answer.alarms.iter().any(|member| member.alarm == ALARM_NOSPACE))
    }
}

impl Inner {
    async fn member_status(&self, member: &Arc<Member>) -> Result<MemberStatus, Error> {
        let mut again = true;
        let status: StatusResponse = loop {
            let connection = member.connection().await;
            let asked = self.send_unchecked(member, &connection, STATUS, StatusRequest {}, self.request_timeout).await;
            match asked {
                Ok(status) => break status,
                Err(fault) if again && (fault.stale || fault.stale_token) => again = false,
                Err(fault) => {
                    member.discard(&connection);
                    return Err(fault.error);
                }
            }
        };
        // Only a known cluster is compared: the first answer of several must not decide which one is right.
        if self.known_cluster().is_some() {
            self.check_cluster(member, status.header.as_ref())?;
        }
        let header = status.header.unwrap_or_default();
        Ok(MemberStatus {
            version: status.version,
            cluster_id: header.cluster_id,
            member_id: header.member_id,
            db_size_bytes: status.db_size,
            db_size_in_use_bytes: status.db_size_in_use,
            db_quota_bytes: (status.db_size_quota > 0).then_some(status.db_size_quota),
            is_learner: status.is_learner,
            leader: status.leader,
            revision: header.revision,
            raft_term: header.raft_term,
            errors: status.errors,
        })
    }
}
