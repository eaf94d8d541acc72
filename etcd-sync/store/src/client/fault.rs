//! From gRPC's failures to ours.
//!
//! etcd's own errors are told apart by their text: their codes overlap (a lost quorum and a broken connection are both
//! Unavailable, a compacted revision and an over-long answer both OutOfRange). The texts are those of etcd's
//! `api/v3rpc/rpctypes/error.go`, the same in 3.4 to 3.6.

use std::error::Error as _;
use std::time::Duration;

use tonic::{Code, Status};

use crate::client::error::Error;
use crate::client::options::Side;

/// Where and during what a failure happened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At<'a> {
    pub side: Side,
    pub endpoint: &'a str,
    pub call: &'static str,
}

/// Why a connection could not be made. It travels through tonic's error chain.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// The channel's one connection has ended.
    #[error("the connection has ended")]
    Stale,
    #[error("{0}")]
    Tcp(String),
    #[error("{problem}")]
    Tls {
        problem: String,
        /// As in `Alert`: an older TLS tells of it in the handshake.
        self_signed: bool,
    },
    /// The server ended the connection with a TLS alert; in TLS 1.3 so it refuses our certificate.
    #[error("{problem}")]
    Alert {
        problem: String,
        /// Nobody but itself has signed the certificate we showed.
        self_signed: bool,
    },
    #[error("no connection within {0:?}")]
    Slow(Duration),
    #[error("{0}")]
    Files(Box<Error>),
}

impl Refused {
    pub(crate) fn to_error(&self, at: At<'_>) -> Error {
        match self {
            Refused::Tls { problem, self_signed } | Refused::Alert { problem, self_signed } => {
                handshake(at, problem.clone(), *self_signed)
            }
            Refused::Files(error) => (**error).clone(),
            Refused::Stale | Refused::Tcp(_) | Refused::Slow(_) => {
                Error::Connect { side: at.side, endpoint: at.endpoint.to_owned(), problem: self.to_string() }
            }
        }
    }
}

/// One failed attempt on one endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub error: Error,
    /// The request cannot have had an effect.
    pub no_effect: bool,
    /// The connection had already ended before the request: make a new one, nothing was sent.
    pub stale: bool,
    /// etcd refused our token; a new one may help.
    pub stale_token: bool,
}

impl Fault {
    /// A failure before anything was sent.
    pub(crate) fn unsent(error: Error) -> Self {
        Fault { error, no_effect: true, stale: false, stale_token: false }
    }

    /// A failure that leaves it open whether the request had an effect.
    pub(crate) fn unknown(error: Error) -> Self {
        Fault { error, no_effect: false, stale: false, stale_token: false }
    }

    pub(crate) fn timeout(at: At<'_>, after: Duration) -> Self {
        let At { side, endpoint, call } = at;
        Fault::unknown(Error::Timeout { side, endpoint: endpoint.to_owned(), call, after })
    }

    /// Reads a status: ours (connecting failed), the transport's, or etcd's.
    pub(crate) fn from_status(at: At<'_>, status: &Status) -> Self {
        if let Some(refused) = find_refused(status) {
            let error = refused.to_error(at);
            return match refused {
                // It may come later than the first request.
                Refused::Alert { .. } => Fault::unknown(error),
                refused => Fault { stale: matches!(refused, Refused::Stale), ..Fault::unsent(error) },
            };
        }
        let message = status.message();
        let error = of_server(at, status.code(), message);
        // NOSPACE is not among them: the request that fills the database up is applied, and then answered with this error
        // (quotaApplierV3 in etcd's apply.go).
        let no_effect = match &error {
            Error::RequestTooLarge { .. }
            | Error::TooManyOps { .. }
            | Error::InvalidRequest { .. }
            | Error::PermissionDenied { .. }
            | Error::Unauthenticated { .. }
            | Error::LeaseGone { .. }
            | Error::Learner { .. } => true,
            // etcd says so before it proposes anything to its peers.
            Error::Rpc { .. } => message.contains("etcdserver: too many requests"),
            _ => false,
        };
        Fault { error, no_effect, stale: false, stale_token: is_stale_token(message) }
    }
}

/// A TLS failure with a hint at its cause. `self_signed`: so is our own certificate.
pub(crate) fn handshake(at: At<'_>, problem: String, self_signed: bool) -> Error {
    let At { side, endpoint, .. } = at;
    let text = problem.to_ascii_lowercase().replace([' ', '_'], "");
    let distrusted = text.contains("alert:unknownca") || text.contains("alert:badcertificate");
    let hint = if distrusted && self_signed {
        format!(
            "etcd does not trust our client certificate, which is signed by itself: give --{side}-cert a certificate signed by etcd's \
             --trusted-ca-file, or add this one to that file"
        )
    } else if text.contains("causedasendentity") {
        format!(
            "etcd's server certificate is the certificate of a CA (CA:TRUE), as `openssl req -x509` makes it, and such a one is not \
             accepted from a server: make a CA, sign a certificate with CA:FALSE for etcd's --cert-file with it, and give the CA in \
             --{side}-cacert; or make the self-signed one with CA:FALSE"
        )
    } else if distrusted {
        format!("etcd does not trust our client certificate: --{side}-cert must be signed by etcd's --trusted-ca-file")
    } else if text.contains("alert:certificaterequired") || text.contains("alert:handshakefailure") {
        format!("etcd asks for a client certificate: set --{side}-cert and --{side}-key")
    } else if text.contains("alert:certificateexpired") {
        format!("our client certificate ran out: renew --{side}-cert")
    } else if text.contains("unknownissuer") || text.contains("badsignature") {
        format!("etcd's certificate is not signed by the CA in --{side}-cacert")
    } else if text.contains("notvalidforname") {
        format!("etcd's certificate does not name this host: use a name it holds, or set --{side}-server-name")
    } else if text.contains("expired") || text.contains("notvalidyet") {
        "etcd's certificate is not valid now: renew it, and check both clocks".to_owned()
    } else if text.contains("invalidcontenttype") || text.contains("corruptmessage") || text.contains("eof") {
        "the endpoint may not speak TLS: check whether it is http".to_owned()
    } else {
        format!("check --{side}-cacert, --{side}-cert and --{side}-key against etcd's own settings")
    };
    Error::Handshake { side, endpoint: endpoint.to_owned(), problem, hint }
}

/// Reads an error text of etcd's: of a status, or the reason a watch was cancelled for.
pub(crate) fn of_server(at: At<'_>, code: Code, message: &str) -> Error {
    let At { side, endpoint, call } = at;
    let endpoint = endpoint.to_owned();
    let problem = message.to_owned();
    let says = |text: &str| message.contains(text);
    if says("required revision has been compacted") {
        Error::Compacted { side }
    } else if says("required revision is a future revision") {
        Error::FutureRevision { side }
    } else if says("database space exceeded") {
        Error::NoSpace { side }
    } else if says("request is too large") || says("grpc: received message larger than max") {
        Error::RequestTooLarge { side, call }
    } else if says("too many operations in txn request") {
        Error::TooManyOps { side, call }
    } else if code == Code::OutOfRange && says("message length too large") {
        Error::MessageTooLarge { side, call }
    } else if says("rpc not supported for learner") {
        Error::Learner { side, endpoint }
    } else if LOST_QUORUM.iter().any(|text| says(text)) {
        Error::LostQuorum { side, endpoint, problem }
    } else if says("requested lease not found") {
        Error::LeaseGone { side }
    } else if UNAUTHENTICATED.iter().any(|text| says(text)) || code == Code::Unauthenticated {
        Error::Unauthenticated { side, endpoint, problem }
    } else if says("etcdserver: permission denied") || code == Code::PermissionDenied {
        Error::PermissionDenied { side, endpoint, call }
    } else {
        of_code(at, code, problem)
    }
}

/// etcd's ways to say that it cannot reach agreement.
const LOST_QUORUM: &[&str] = &[
    "etcdserver: no leader",
    "etcdserver: leader changed",
    "etcdserver: not leader",
    "etcdserver: request timed out",
    "etcdserver: unhealthy cluster",
    "raft proposal dropped",
];

const UNAUTHENTICATED: &[&str] = &[
    "invalid auth token",
    "revision of auth store is old",
    "user name is empty",
    "authentication failed, invalid user ID or password",
];

fn of_code(at: At<'_>, code: Code, problem: String) -> Error {
    let At { side, endpoint, call } = at;
    let endpoint = endpoint.to_owned();
    match code {
        Code::InvalidArgument => Error::InvalidRequest { side, call, problem },
        // Unknown, Internal and Cancelled are also what the HTTP/2 layer makes of a broken connection.
        Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled | Code::Aborted => {
            Error::Broken { side, endpoint, call, problem }
        }
        Code::DeadlineExceeded => Error::LostQuorum { side, endpoint, problem },
        _ => Error::Rpc { side, endpoint, call, code: words(code), problem },
    }
}

/// The last one: authentication was switched on after we found it off.
fn is_stale_token(message: &str) -> bool {
    ["invalid auth token", "revision of auth store is old", "user name is empty"]
        .iter()
        .any(|text| message.contains(text))
}

fn words(code: Code) -> &'static str {
    match code {
        Code::Ok => "ok",
        Code::NotFound => "not found",
        Code::AlreadyExists => "already exists",
        Code::ResourceExhausted => "resource exhausted",
        Code::FailedPrecondition => "failed precondition",
        Code::OutOfRange => "out of range",
        Code::Unimplemented => "unimplemented",
        Code::DataLoss => "data loss",
        _ => "error",
    }
}

/// The connector's own refusal, when the request failed because no connection could be made.
fn find_refused(status: &Status) -> Option<&Refused> {
    let mut source = status.source();
    while let Some(error) = source {
        if let Some(refused) = error.downcast_ref::<Refused>() {
            return Some(refused);
        }
        source = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: At<'_> = At { side: Side::Standby, endpoint: "http://a:2379", call: "a transaction" };

    fn fault(code: Code, message: &str) -> Fault {
        Fault::from_status(AT, &Status::new(code, message))
    }

    #[test]
    fn refusals_had_no_effect() {
        for (code, message) in [
            (Code::InvalidArgument, "etcdserver: request is too large"),
            (Code::ResourceExhausted, "grpc: received message larger than max (2097170 vs. 2097152)"),
            (Code::InvalidArgument, "etcdserver: too many operations in txn request"),
            (Code::InvalidArgument, "etcdserver: duplicate key given in txn request"),
            (Code::ResourceExhausted, "etcdserver: too many requests"),
            (Code::PermissionDenied, "etcdserver: permission denied"),
            (Code::Unauthenticated, "etcdserver: invalid auth token"),
            (Code::InvalidArgument, "etcdserver: revision of auth store is old"),
            (Code::NotFound, "etcdserver: requested lease not found"),
            (Code::Unavailable, "etcdserver: rpc not supported for learner"),
        ] {
            assert!(fault(code, message).no_effect, "{message}");
        }
    }

    #[test]
    fn everything_else_is_unknown() {
        for (code, message) in [
            (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded"),
            (Code::Unavailable, "etcdserver: request timed out"),
            (Code::Unavailable, "etcdserver: request timed out, possibly due to previous leader failure"),
            (Code::Unavailable, "etcdserver: no leader"),
            (Code::Unavailable, "etcdserver: leader changed"),
            (Code::Unavailable, "etcdserver: server stopped"),
            (Code::Unavailable, "transport is closing"),
            (Code::Cancelled, "etcdserver: request canceled"),
            (Code::Unknown, "h2 protocol error: broken pipe"),
            (Code::OutOfRange, "Error, decoded message length too large: found 9 bytes, the limit is: 8 bytes"),
            (Code::DataLoss, "etcdserver: corrupt cluster"),
        ] {
            assert!(!fault(code, message).no_effect, "{message}");
        }
    }

    #[test]
    fn a_full_disk_and_a_lost_quorum_differ() {
        let full = fault(Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded").error;
        assert!(matches!(full, Error::NoSpace { .. }) && full.to_string().contains("disarm"));
        let alone = fault(Code::Unavailable, "etcdserver: request timed out, possibly due to connection lost").error;
        assert!(matches!(alone, Error::LostQuorum { .. }) && alone.to_string().contains("majority"));
        assert!(alone.is_transient() && alone.is_of_endpoint());
        assert!(!full.is_of_endpoint());
    }

    #[test]
    fn a_transaction_can_be_too_large_in_two_ways() {
        let error = |message| fault(Code::InvalidArgument, message).error;
        assert!(matches!(error("etcdserver: request is too large"), Error::RequestTooLarge { .. }));
        let many = error("etcdserver: too many operations in txn request");
        assert!(matches!(many, Error::TooManyOps { .. }) && !many.is_transient());
        assert!(many.to_string().contains("--max-txn-ops"));
        assert!(matches!(error("etcdserver: duplicate key given in txn request"), Error::InvalidRequest { .. }));
    }

    #[test]
    fn out_of_range_has_three_meanings() {
        let error = |message| fault(Code::OutOfRange, message).error;
        let compacted = error("etcdserver: mvcc: required revision has been compacted");
        assert!(matches!(compacted, Error::Compacted { .. }));
        let future = error("etcdserver: mvcc: required revision is a future revision");
        assert!(matches!(future, Error::FutureRevision { .. }));
        let long = error("Error, decoded message length too large: found 70000000 bytes, the limit is: 67108864 bytes");
        assert!(matches!(long, Error::MessageTooLarge { .. }));
    }

    #[test]
    fn only_tokens_are_worth_a_new_token() {
        assert!(fault(Code::Unauthenticated, "etcdserver: invalid auth token").stale_token);
        assert!(fault(Code::InvalidArgument, "etcdserver: revision of auth store is old").stale_token);
        let wrong = "etcdserver: authentication failed, invalid user ID or password";
        assert!(!fault(Code::InvalidArgument, wrong).stale_token);
        let error = fault(Code::InvalidArgument, wrong).error;
        assert!(matches!(error, Error::Unauthenticated { .. }) && !error.is_transient());
        assert!(error.to_string().contains("--standby-user"));
    }

    #[test]
    fn tls_failures_name_the_flag_to_correct() {
        for (problem, expected) in [
            ("invalid peer certificate: UnknownIssuer", "--standby-cacert"),
            ("invalid peer certificate: certificate not valid for name \"b\"", "--standby-server-name"),
            ("received fatal alert: CertificateRequired", "--standby-key"),
            ("received fatal alert: BadCertificate", "--trusted-ca-file"),
            ("received corrupt message of type InvalidContentType", "speak TLS"),
            ("invalid peer certificate: Expired", "clocks"),
            ("invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))", "CA:FALSE"),
        ] {
            let text = handshake(AT, problem.to_owned(), false).to_string();
            assert!(text.contains(expected), "{text}");
        }
        for problem in ["received fatal alert: BadCertificate", "received fatal alert: UnknownCA"] {
            let text = handshake(AT, problem.to_owned(), true).to_string();
            assert!(text.contains("signed by itself") && text.contains("--standby-cert"), "{text}");
        }
    }
}
