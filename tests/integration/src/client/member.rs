//! One member of a cluster and the connection to it. etcd-client chooses among several endpoints by itself, and goes on
//! choosing dead ones; so each member has a client of its own.

use std::error::Error as _;
use std::io::ErrorKind;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::anyhow;
use etcd_client::{Client as Etcd, ConnectOptions, Error};
use tonic::{Code, Status};

/// etcd closes the connection of a client that pings more often than every 5 seconds.
const PING_EVERY: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) struct Member {
    url: String,
    options: ConnectOptions,
    /// Longest wait for an answer.
    patience: Duration,
    connected: Mutex<Option<Etcd>>,
}

/// What became of a request.
pub(super) enum Failure {
    /// Nothing was sent.
    Unsent(anyhow::Error),
    /// etcd refused it.
    Refused(anyhow::Error),
    /// It may have reached etcd.
    Unknown(anyhow::Error),
}

impl Member {
    pub fn new(url: String, user: Option<(&str, &str)>, patience: Duration) -> Member {
        let mut options = ConnectOptions::new()
            .with_keep_alive(PING_EVERY, PING_TIMEOUT)
            .with_keep_alive_while_idle(false)
            .with_auto_token_refresh(true);
        if let Some((user, password)) = user {
            options = options.with_user(user, password);
        }
        Member { url, options, patience, connected: Mutex::default() }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Sends one request.
    pub async fn call<T, F>(&self, request: impl FnOnce(Etcd) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let connected = tokio::time::timeout(self.patience, self.connect()).await;
        let etcd = match connected {
            Ok(Ok(etcd)) => etcd,
            Ok(Err(error)) => return Err(Failure::Unsent(self.failed(error))),
            Err(_) => return Err(Failure::Unsent(self.timed_out())),
        };
        match tokio::time::timeout(self.patience, request(etcd)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) if nobody_listens(&error) => Err(Failure::Unsent(self.failed(error))),
            Ok(Err(error)) if is_answer(&error) => Err(Failure::Refused(error.into())),
            Ok(Err(error)) => Err(Failure::Unknown(self.failed(error))),
            Err(_) => Err(Failure::Unknown(self.timed_out())),
        }
    }

    /// The connection in use, or a new one: with a password, that is a login.
    async fn connect(&self) -> Result<Etcd, Error> {
        if let Some(etcd) = self.connected().clone() {
            return Ok(etcd);
        }
        let etcd = Etcd::connect([&self.url], Some(self.options.clone())).await?;
        *self.connected() = Some(etcd.clone());
        Ok(etcd)
    }

    fn failed(&self, error: Error) -> anyhow::Error {
        *self.connected() = None;
        anyhow!(error).context(format!("the member at {}", self.url))
    }

    fn timed_out(&self) -> anyhow::Error {
        // A restored cluster lets a token of its former life wait: the next connection logs in again.
        *self.connected() = None;
        anyhow!("the member at {} did not answer in {:?}", self.url, self.patience)
    }

    fn connected(&self) -> MutexGuard<'_, Option<Etcd>> {
        self.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the connection was refused, so that nothing can have been sent.
fn nobody_listens(error: &Error) -> bool {
    let mut cause = status(error).and_then(Status::source);
    while let Some(one) = cause {
        if one.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == ErrorKind::ConnectionRefused) {
            return true;
        }
        cause = one.source();
    }
    false
}

/// Whether etcd itself said no: another member would say the same.
fn is_answer(error: &Error) -> bool {
    status(error).is_some_and(|status| {
        matches!(
            status.code(),
            Code::InvalidArgument
                | Code::NotFound
                | Code::AlreadyExists
                | Code::PermissionDenied
                | Code::Unauthenticated
                | Code::ResourceExhausted
                | Code::FailedPrecondition
                | Code::OutOfRange
                | Code::Unimplemented
        )
    })
}

fn status(error: &Error) -> Option<&Status> {
    match error {
        Error::GRpcStatus(status) => Some(status),
        _ => None,
    }
}
