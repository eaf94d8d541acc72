//! A lease that is kept alive by a task, and how long it can be believed.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::client::cluster::{Etcd, Inner};
use crate::client::connection::Method;
use crate::client::error::Error;
use crate::client::proto::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseRevokeRequest,
    LeaseRevokeResponse,
};

const GRANT: Method = Method { path: "/etcdserverpb.Lease/LeaseGrant", call: "a lease grant", needs_leader: true };
const REVOKE: Method =
    Method { path: "/etcdserverpb.Lease/LeaseRevoke", call: "a lease revocation", needs_leader: true };

/// A stream on the server's side; one request and one answer fit a unary call.
const KEEP_ALIVE: Method =
    Method { path: "/etcdserverpb.Lease/LeaseKeepAlive", call: "a lease keep-alive", needs_leader: true };

/// A granted lease. Dropping it stops the keep-alive; the lease then runs out by itself.
#[derive(Debug)]
pub(crate) struct Lease {
    id: i64,
    belief: watch::Receiver<Belief>,
    task: JoinHandle<()>,
}

/// Until when the lease certainly lives, by our own clock.
#[derive(Clone, Copy, Debug)]
enum Belief {
    Until(Instant),
    Gone,
}

impl Lease {
    /// Takes a lease of `ttl` (whole seconds, rounded up; etcd may grant more) and keeps it alive.
    pub(crate) async fn grant(etcd: &Etcd, ttl: Duration) -> Result<Self, Error> {
        let ttl = Duration::from_secs(ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0)).max(Duration::from_secs(1));
        let seconds = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
        let sent = Instant::now();
        let request = LeaseGrantRequest { ttl: seconds, id: 0 };
        let granted: LeaseGrantResponse = etcd.inner.call(GRANT, request, etcd.inner.request_timeout).await?;
        // The granted time may be longer than ours; ours is the safe one.
        let ttl = ttl.min(Duration::from_secs(granted.ttl.max(1).unsigned_abs()));
        let (sender, belief) = watch::channel(Belief::Until(sent + ttl));
        let keeper = Keeper { etcd: etcd.clone(), id: granted.id, ttl, belief: sender };
        Ok(Lease { id: granted.id, belief, task: tokio::spawn(keeper.run(sent + ttl)) })
    }

    pub(crate) fn id(&self) -> i64 {
        self.id
    }

    /// Resolves when the lease can no longer be believed; at once when that is already so.
    pub(crate) async fn lost(&self) {
        let mut belief = self.belief.clone();
        loop {
            let until = match *belief.borrow_and_update() {
                Belief::Gone => return,
                Belief::Until(until) => until,
            };
            tokio::select! {
                changed = belief.changed() => if changed.is_err() {
                    return sleep_until(until).await;
                },
                () = sleep_until(until) => return,
            }
        }
    }

    /// Ends the lease and deletes its keys.
    pub(crate) async fn revoke(self, etcd: &Etcd) -> Result<(), Error> {
        self.task.abort();
        let request = LeaseRevokeRequest { id: self.id };
        let revoked = etcd.inner.call::<_, LeaseRevokeResponse>(REVOKE, request, etcd.inner.request_timeout).await;
        match revoked {
            // It ran out before, or a first attempt did it.
            Ok(_) | Err(Error::LeaseGone { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Keeper {
    etcd: Etcd,
    id: i64,
    ttl: Duration,
    belief: watch::Sender<Belief>,
}

impl Keeper {
    /// Keeps the lease alive every third of its time. Once it could not be believed for a moment it is gone for good:
    /// others may have acted on that already.
    async fn run(self, mut until: Instant) {
        let mut next = until - self.ttl + self.ttl / 3;
        loop {
            sleep_until(next).await;
            let sent = Instant::now();
            let kept = tokio::select! {
                kept = self.etcd.inner.keep_alive(self.id, self.ttl / 6) => kept,
                () = sleep_until(until) => break,
            };
            match kept {
                Ok(()) => {
                    until = sent + self.ttl;
                    next = sent + self.ttl / 3;
                    self.belief.send_replace(Belief::Until(until));
                }
                Err(Error::LeaseGone { .. }) => break,
                Err(error) => {
                    // The failure is logged where the back-off of the member begins.
                    tracing::debug!(%error, "lease keep-alive failed");
                    next = Instant::now() + self.ttl / 20;
                }
            }
        }
        tracing::warn!(side = %self.etcd.side(), "the leader lease may have expired");
        self.belief.send_replace(Belief::Gone);
    }
}

impl Inner {
    /// Renews a lease once, on whichever member answers; each has `per_member`.
    async fn keep_alive(&self, id: i64, per_member: Duration) -> Result<(), Error> {
        let request = LeaseKeepAliveRequest { id };
        let kept: LeaseKeepAliveResponse = self.call(KEEP_ALIVE, request, per_member).await?;
        if kept.ttl > 0 { Ok(()) } else { Err(Error::LeaseGone { side: self.side() }) }
    }
}
