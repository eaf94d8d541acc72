//! What can go wrong, in words that tell the reader what to do next.

use std::path::PathBuf;
use std::time::Duration;

use etcd_sync_core::etcd::kv::Revision;

use crate::client::options::Side;

/// A failure of the store. Messages name the side, the endpoint and the next step; values and passwords are never in
/// them.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No endpoint was given.
    #[error("no endpoint of the {side} etcd is given: set --{side}-endpoints")]
    NoEndpoints {
        /// Which cluster.
        side: Side,
    },
    /// An endpoint cannot be read.
    #[error("the {side} endpoint {endpoint:?} cannot be used: {problem}; correct --{side}-endpoints")]
    BadEndpoint {
        /// Which cluster.
        side: Side,
        /// The endpoint as it was given.
        endpoint: String,
        /// What is wrong with it.
        problem: String,
    },
    /// An https endpoint without a CA to verify its certificate.
    #[error(
        "the {side} endpoint {endpoint} is https, but no CA is given to verify its certificate: set --{side}-cacert"
    )]
    MissingCa {
        /// Which cluster.
        side: Side,
        /// The endpoint.
        endpoint: String,
    },
    /// A certificate or key file cannot be used.
    #[error("the {side} {what} {path:?} cannot be used: {problem}; correct the file or --{side}-{flag}", path = path)]
    TlsFile {
        /// Which cluster.
        side: Side,
        /// `CA file`, `client certificate` or `client key`.
        what: &'static str,
        /// The end of the flag's name: `cacert`, `cert` or `key`.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it and what was expected.
        problem: String,
    },
    /// The password file cannot be read.
    #[error("the {side} password file {path:?} cannot be read: {problem}; correct the file or --{side}-password-file", path = path)]
    PasswordFile {
        /// Which cluster.
        side: Side,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// No connection could be made; nothing was sent.
    #[error(
        "cannot connect to the {side} etcd at {endpoint}: {problem}; check that etcd runs and that the network allows the connection"
    )]
    Connect {
        /// Which cluster.
        side: Side,
        /// The endpoint.
        endpoint: String,
        /// What the system said.
        problem: String,
    },
    /// TLS was refused by one of the two ends.
    #[error("TLS with the {side} etcd at {endpoint} failed: {problem}; {hint}")]
    Handshake {
        /// Which cluster.
        side: Side,
        /// The endpoint.
        endpoint: String,
        /// What the TLS library said.
        problem: String,
        /// What to check.
        hint: String,
    },
    /// The connection broke, or the member went away, after the request was sent.
    #[error(
        "the connection to the {side} etcd at {endpoint} broke during {call}: {problem}; if this goes on, check that etcd runs and whether the endpoint is http or https"
    )]
    Broken {
        /// Which cluster.
        side: Side,
        /// The endpoint.
        endpoint: String,
        /// The call.
        call: &'static str,
        /// What gRPC said.
        problem: String,
    },
    /// etcd does not know the user, or the password is wrong.
    #[error(
        "authentication failed at the {side} etcd at {endpoint}: {problem}; check --{side}-user and \
         --{side}-password-file, or the client certificate's common name"
    )]
    Unauthenticated {
        /// Which cluster.
        side: Side,
        /// The endpoint.
        endpoint: String,
        /// What etcd said.
        problem: String,
    },
    /// The user lacks a permission.
    #[error(
        "the {side} etcd at {endpoint} denies {call} to the user of etcd-sync; grant its role the prefixes named in docs/security.md"
    )]
    PermissionDenied {
        /// Which cluster.
        side: Side,
        /// The endpoint.
        endpoint: String,
        /// The call.
        call: &'static str,
    },
    /// The requested revision was compacted away.
    #[error("the requested revision is already compacted on the {side} etcd: read again at a newer revision")]
    Compacted {
        /// Which cluster.
        side: Side,
    },
    /// The requested revision does not exist yet.
    #[error(
        "the requested revision is ahead of the {side} etcd: its history went back, as after a restore from a backup"
    )]
    FutureRevision {
        /// Which cluster.
        side: Side,
    },
    /// etcd's database reached its quota: it refuses every write until space is made.
    #[error(
        "the {side} etcd is out of space (alarm NOSPACE) and refuses writes: compact it, run etcdctl defrag on every \
         member, then etcdctl alarm disarm; or raise --quota-backend-bytes"
    )]
    NoSpace {
        /// Which cluster.
        side: Side,
    },
    /// The cluster has no leader, or no majority to agree with.
    #[error(
        "the {side} etcd has no quorum as seen by {endpoint}: {problem}; bring back a majority of its members, or \
         check the network between them"
    )]
    LostQuorum {
        /// Which cluster.
        side: Side,
        /// The endpoint.
        endpoint: String,
        /// What etcd said.
        problem: String,
    },
    /// No answer in time.
    #[error(
        "the {side} etcd at {endpoint} did not answer {call} within {after:?}; it hangs, or the network drops packets"
    )]
    Timeout {
        /// Which cluster.
        side: Side,
        /// The endpoint.
        endpoint: String,
        /// The call.
        call: &'static str,
        /// How long we waited.
        after: Duration,
    },
    /// The answer is longer than [`crate::client::MAX_ANSWER_BYTES`].
    #[error(
        "an answer of the {side} etcd to {call} is longer than {} MiB: request fewer keys at once",
        crate::client::MAX_ANSWER_BYTES >> 20
    )]
    MessageTooLarge {
        /// Which cluster.
        side: Side,
        /// The call.
        call: &'static str,
    },
    /// etcd refused a request for its size.
    #[error("the {side} etcd refuses {call} as too large: send less at once, or raise its --max-request-bytes")]
    RequestTooLarge {
        /// Which cluster.
        side: Side,
        /// The call.
        call: &'static str,
    },
    /// etcd refused a transaction for the number of its operations or compares.
    #[error(
        "the {side} etcd refuses {call}: it holds more operations than its --max-txn-ops allows; send fewer at once, or raise it (etcd's \
         default is 128)"
    )]
    TooManyOps {
        /// Which cluster.
        side: Side,
        /// The call.
        call: &'static str,
    },
    /// etcd refused a request as malformed: a key twice, an empty key.
    #[error("the {side} etcd refuses {call}: {problem}")]
    InvalidRequest {
        /// Which cluster.
        side: Side,
        /// The call.
        call: &'static str,
        /// What etcd said.
        problem: String,
    },
    /// The lease is unknown to etcd: it ran out or was revoked.
    #[error("the lease on the {side} etcd ran out or was revoked; a new one has to be taken")]
    LeaseGone {
        /// Which cluster.
        side: Side,
    },
    /// An endpoint belongs to another cluster than the first answer did. It is not used again.
    #[error(
        "{endpoint} belongs to cluster {got:x}, but the {side} etcd is cluster {expected:x}; correct --{side}-endpoints \
         so that all belong to one cluster, or restart when the cluster was rebuilt"
    )]
    ClusterChanged {
        /// Which cluster.
        side: Side,
        /// The endpoint.
        endpoint: String,
        /// Cluster id of the first answer.
        expected: u64,
        /// Cluster id of this endpoint.
        got: u64,
    },
    /// The endpoint is a learner, which serves neither watches nor linearizable reads.
    #[error(
        "{endpoint} of the {side} etcd is a learner, which cannot serve watches and linearizable reads: promote it (etcdctl member promote), or \
         give the endpoints of voting members in --{side}-endpoints"
    )]
    Learner {
        /// Which cluster.
        side: Side,
        /// The endpoint.
        endpoint: String,
    },
    /// The endpoint is not a member but `etcd grpc-proxy`, or something else that stands in for one.
    #[error(
        "{endpoint} of the {side} etcd is a gRPC proxy (etcd grpc-proxy) and no member: it answers no question for the progress of a watch, \
         so nobody can know whether a change is missing; give the client URLs of the members themselves in --{side}-endpoints"
    )]
    GrpcProxy {
        /// Which cluster.
        side: Side,
        /// The endpoint.
        endpoint: String,
    },
    /// A member answers, but what the rest of the cluster has agreed on does not reach it.
    #[error(
        "the {side} etcd at {endpoint} stands at revision {revision}, while the cluster has been at {head} for {after:?}: the member has \
         stopped applying what is written; check its disk and its log. Another member is used"
    )]
    Stalled {
        /// Which cluster.
        side: Side,
        /// The endpoint.
        endpoint: String,
        /// The revision of its watches.
        revision: Revision,
        /// A revision of the cluster.
        head: Revision,
        /// How long, at least.
        after: Duration,
    },
    /// Anything else.
    #[error("{call} on the {side} etcd at {endpoint} failed: {problem} ({code})")]
    Rpc {
        /// Which cluster.
        side: Side,
        /// The endpoint.
        endpoint: String,
        /// The call.
        call: &'static str,
        /// The gRPC code, in words.
        code: &'static str,
        /// What etcd said.
        problem: String,
    },
}

/// All endpoints of a client lead to another cluster than the one that it was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the {side}'s endpoints lead to another cluster now ({found:x}, it was {known:x}): it was rebuilt, or restored with other members; \
     this process ends, and the next start judges the new one from the beginning"
)]
pub struct Replaced {
    /// Which cluster.
    pub side: Side,
    /// The cluster id that the client began with.
    pub known: u64,
    /// The one found now.
    pub found: u64,
}

impl Error {
    /// Whether the same request may succeed later, or on another member, without anybody changing a setting, a file,
    /// a permission or the request itself.
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Connect { .. }
            | Error::Handshake { .. }
            | Error::Broken { .. }
            | Error::LostQuorum { .. }
            | Error::Timeout { .. }
            | Error::LeaseGone { .. }
            | Error::Stalled { .. }
            | Error::GrpcProxy { .. }
            | Error::NoSpace { .. }
            | Error::Learner { .. } => true,
            Error::Rpc { code, .. } => *code == "resource exhausted",
            _ => false,
        }
    }

    /// Whether another endpoint may do better.
    pub(crate) fn is_of_endpoint(&self) -> bool {
        match self {
            Error::NoSpace { .. } | Error::LeaseGone { .. } => false,
            Error::ClusterChanged { .. } => true,
            _ => self.is_transient(),
        }
    }

    /// Which of the errors of several endpoints is most informative about the cluster: the highest.
    pub(crate) fn weight(&self) -> u8 {
        match self {
            Error::Connect { .. } => 0,
            Error::Broken { .. } => 1,
            Error::Timeout { .. } | Error::Stalled { .. } => 2,
            Error::Learner { .. } | Error::GrpcProxy { .. } => 3,
            Error::Handshake { .. } => 4,
            Error::LostQuorum { .. } => 5,
            _ => 6,
        }
    }
}

/// How a write failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WriteError {
    /// etcd refused it, or it was never sent: nothing was applied.
    #[error("not applied: {0}")]
    NotApplied(#[source] Error),
    /// It may have been applied, or may still be: read before writing again.
    #[error("the outcome is unknown: {0}")]
    Unknown(#[source] Error),
}

impl WriteError {
    /// The error.
    pub fn error(&self) -> &Error {
        match self {
            WriteError::NotApplied(error) | WriteError::Unknown(error) => error,
        }
    }
}

/// How a watch ended.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WatchError {
    /// The history after the watch's position is compacted: events were missed, a new read is needed.
    #[error("the {side} etcd compacted its history up to revision {compact_revision}, beyond the watch: read again")]
    Compacted {
        /// Which cluster.
        side: Side,
        /// The oldest revision still there.
        compact_revision: Revision,
    },
    /// Neither events nor progress for a while, although we were reading.
    #[error("the watch on the {side} etcd at {endpoint} was silent for {after:?}: it is opened again")]
    Silent {
        /// Which cluster.
        side: Side,
        /// The endpoint.
        endpoint: String,
        /// How long nothing came.
        after: Duration,
    },
    /// etcd ended the watch by itself.
    #[error("the {side} etcd at {endpoint} ended the watch: {reason}")]
    Cancelled {
        /// Which cluster.
        side: Side,
        /// The endpoint.
        endpoint: String,
        /// What etcd said.
        reason: String,
    },
    /// The watch has ended before, or its task is gone; open a new one.
    #[error("the watch has ended")]
    Ended,
    /// The request or its connection failed.
    #[error(transparent)]
    Store(#[from] Error),
}

impl WatchError {
    /// Whether opening the watch again at the same revision may succeed.
    pub fn is_transient(&self) -> bool {
        match self {
            WatchError::Compacted { .. } => false,
            WatchError::Silent { .. } | WatchError::Cancelled { .. } | WatchError::Ended => true,
            WatchError::Store(error) => error.is_transient(),
        }
    }
}
