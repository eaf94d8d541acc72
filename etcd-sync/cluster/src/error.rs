//! Why a request to an API server failed.

use std::error::Error as StdError;
use std::path::PathBuf;
use std::time::Duration;

use etcd_sync_operations::text::causes;

/// Longest wait for one answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Why a request to an API server failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address of the standby's API server is not known.
    #[error(
        "the address of the standby's API server is not known: give --standby-kubeconfig FILE, or --standby-api-server and \
         --standby-api-token-file, or run this command in a pod of the standby"
    )]
    NoApiServer,
    /// A kubeconfig that cannot be used.
    #[error("the kubeconfig {} cannot be used: {}", file.display(), chain(&**source))]
    Kubeconfig {
        /// The file.
        file: PathBuf,
        /// Why.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The files for an API server cannot be used.
    #[error("the client of the {cluster}'s API server cannot be made: {}", chain(source.as_ref()))]
    Client {
        /// The cluster.
        cluster: String,
        /// Why.
        source: anyhow::Error,
    },
    /// No answer in time.
    #[error("{cluster}: cannot {what}: no answer within {}s; check that its API server runs and that this host can reach it", TIMEOUT.as_secs())]
    Late {
        /// The cluster.
        cluster: String,
        /// What was to be done.
        what: String,
    },
    /// The token or certificate is not accepted, or lacks a permission.
    #[error(
        "{cluster}: cannot {what}: {message}; grant that permission to the user of this token or kubeconfig, or use another user"
    )]
    Forbidden {
        /// The cluster.
        cluster: String,
        /// What was to be done.
        what: String,
        /// The API server's message.
        message: String,
    },
    /// The API server refuses for another reason.
    #[error("{cluster}: cannot {what}: {message} ({code})")]
    Refused {
        /// The cluster.
        cluster: String,
        /// What was to be done.
        what: String,
        /// The HTTP status.
        code: u16,
        /// The API server's message.
        message: String,
    },
    /// There was no valid answer.
    #[error(
        "{cluster}: cannot {what}: {}; check that its API server runs and that this host can reach it",
        chain(source)
    )]
    Unreachable {
        /// The cluster.
        cluster: String,
        /// What was to be done.
        what: String,
        /// Why.
        source: kube::Error,
    },
    /// A plan names a cluster that is not given.
    #[error("the plan names the cluster {0}, which is not given now: give the same kubeconfigs as when it was made")]
    UnknownCluster(String),
    /// There is no ready pod to run a command in.
    #[error("{cluster}: {pod} has no ready pod to run nslookup in; name another one with --lookup-pod")]
    NoPod {
        /// The cluster.
        cluster: String,
        /// What was asked for.
        pod: String,
    },
    /// A command could not be run in a pod.
    #[error("{cluster}: nslookup cannot be run in the pod {pod}: {why}; name a pod that has it with --lookup-pod")]
    Exec {
        /// The cluster.
        cluster: String,
        /// The pod.
        pod: String,
        /// Why.
        why: String,
    },
}

impl Error {
    /// Whether the same may succeed a moment later.
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Late { .. } | Error::Unreachable { .. } => true,
            Error::Refused { code, .. } => *code == 429 || *code >= 500,
            _ => false,
        }
    }

    /// The HTTP status, when the API server answered with one.
    pub fn status(&self) -> Option<u16> {
        match self {
            Error::Refused { code, .. } => Some(*code),
            Error::Forbidden { .. } => Some(403),
            _ => None,
        }
    }

    pub(crate) fn new(cluster: &str, what: &str, error: kube::Error) -> Error {
        let (cluster, what) = (cluster.to_owned(), what.to_owned());
        match error {
            kube::Error::Api(status) => {
                let code = status.code;
                let message = if status.message.is_empty() { status.reason } else { status.message };
                if matches!(code, 401 | 403) {
                    Error::Forbidden { cluster, what, message }
                } else {
                    Error::Refused { cluster, what, code, message }
                }
            }
            source => Error::Unreachable { cluster, what, source },
        }
    }
}

/// Waits for an answer, and describes an error.
pub(crate) async fn ask<T>(
    cluster: &str,
    what: &str,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(TIMEOUT, request).await {
        Ok(answer) => answer.map_err(|error| Error::new(cluster, what, error)),
        Err(_) => Err(Error::Late { cluster: cluster.to_owned(), what: what.to_owned() }),
    }
}

/// An error with all that caused it, each part once: many say their source's words too.
fn chain(error: &(dyn StdError + 'static)) -> String {
    // The client's own words for "the request got no answer".
    causes(error).trim_start_matches("ServiceError: ").to_owned()
}
