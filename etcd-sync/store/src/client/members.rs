//! The cluster's own list of its members: where to go when every endpoint that was given is gone, and what a gRPC proxy looks like.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::client::cluster::Inner;
use crate::client::connection::{Connection, Dial, Method};
use crate::client::endpoint::{Address, parse};
use crate::client::error::Error;
use crate::client::fault::Fault;
use crate::client::pool::Member;
use crate::client::proto::{MemberListRequest, MemberListResponse};

pub(crate) const MEMBER_LIST: Method =
    Method { path: "/etcdserverpb.Cluster/MemberList", call: "the member list", needs_leader: true };

/// How often the list is read while requests are made. Members read it from memory.
const LIST_EVERY: Duration = Duration::from_secs(5);

/// Time for it; nothing waits for it.
const LIST_TIMEOUT: Duration = Duration::from_secs(5);

impl Inner {
    /// Reads the member list in the background, now and then. `member` has just answered. A failure is no news: a user may lack the
    /// right, and those given are enough for most of a cluster's life.
    pub(crate) fn list_now_and_then(&self, member: &Arc<Member>) {
        let due = {
            let mut listed_at = self.listed_at();
            let due = listed_at.is_none_or(|at| at.elapsed() >= LIST_EVERY);
            if due {
                *listed_at = Some(Instant::now());
            }
            due
        };
        if let (true, Some(inner)) = (due, self.this.upgrade()) {
            let member = Arc::clone(member);
            tokio::spawn(async move { inner.list(&member).await });
        }
    }

    async fn list(&self, member: &Arc<Member>) {
        let connection = member.connection().await;
        // Not yet verified, or gone meanwhile.
        if !matches!(connection.verified.get(), Some(Ok(()))) {
            return;
        }
        let answer: Result<MemberListResponse, Fault> =
            self.send(member, &connection, MEMBER_LIST, MemberListRequest {}, LIST_TIMEOUT).await;
        match answer {
            Ok(answer) => self.pool.set_listed(self.usable(member, &connection, &answer)),
            Err(fault) => tracing::debug!(error = %fault.error, "the member list is not known"),
        }
    }

    /// The endpoints of a list that may be used from here: none, unless the endpoint that answered is one of them. Behind a virtual IP, a load
    /// balancer or a forwarded port the members' own addresses are not what was given, and whoever closes that way means us, too.
    pub(crate) fn usable(&self, member: &Member, connection: &Connection, answer: &MemberListResponse) -> Vec<Dial> {
        let listed = answer.members.iter().filter(|listed| !listed.is_learner).flat_map(|listed| &listed.client_urls);
        let listed: Vec<Address> =
            listed.filter_map(|url| parse(self.side(), url, self.dialer.with_tls_files).ok()).collect();
        let here = &member.dial.address;
        let peer = connection.peer();
        let is_here = |address: &Address| {
            let same_ip = peer.is_some_and(|peer| ip(address) == Some(peer.ip()));
            address.port == here.port && address.tls == here.tls && (address.host == here.host || same_ip)
        };
        if !listed.iter().any(is_here) {
            return Vec::new();
        }
        let from_loopback = peer.is_some_and(|peer| peer.ip().is_loopback());
        listed
            .into_iter()
            // What one member listens at, or calls itself, means another one from here.
            .filter(|address| match ip(address) {
                Some(ip) => !ip.is_unspecified() && (from_loopback || !ip.is_loopback()),
                None => from_loopback || address.host != "localhost",
            })
            .filter_map(|address| self.dialer.dial(address))
            .collect()
    }

    /// Fails for a gRPC proxy. It answers with a list of its own, without a header and without ids; everything else it forwards.
    pub(crate) async fn check_no_proxy(
        &self,
        member: &Arc<Member>,
        connection: &Arc<Connection>,
        timeout: Duration,
    ) -> Result<(), Fault> {
        let method = Method { needs_leader: false, ..MEMBER_LIST };
        let answer: Result<MemberListResponse, Fault> =
            self.send_unchecked(member, connection, method, MemberListRequest {}, timeout).await;
        match answer {
            Ok(answer) if is_of_proxy(&answer) => {
                Err(Fault::unsent(Error::GrpcProxy { side: self.side(), endpoint: member.url().to_owned() }))
            }
            // Why the list is refused says nothing of the member.
            _ => Ok(()),
        }
    }
}

fn is_of_proxy(answer: &MemberListResponse) -> bool {
    let unnamed = answer.header.is_none_or(|header| header.cluster_id == 0);
    unnamed || (!answer.members.is_empty() && answer.members.iter().all(|member| member.id == 0))
}

fn ip(address: &Address) -> Option<IpAddr> {
    address.host.parse().ok()
}
