//! etcd's own users: a token from a name and a password.

use std::time::Duration;

use tokio::sync::Mutex;
use tonic::metadata::AsciiMetadataValue;

use crate::client::connection::{Connection, Method, Token};
use crate::client::error::Error;
use crate::client::fault::{At, Fault};
use crate::client::options::{Auth, Side};
use crate::client::proto;

const AUTHENTICATE: Method =
    Method { path: "/etcdserverpb.Auth/Authenticate", call: "the authentication", needs_leader: true };

pub(crate) struct Authenticator {
    side: Side,
    auth: Auth,
    token: Mutex<Held>,
}

#[derive(Default)]
enum Held {
    #[default]
    Nothing,
    Token(AsciiMetadataValue),
    /// etcd's authentication is off: go on without a token, as etcdctl does.
    NotEnabled,
}

impl Authenticator {
    pub(crate) fn new(side: Side, auth: Auth) -> Self {
        Authenticator { side, auth, token: Mutex::default() }
    }

    /// Whether the password can be read now.
    pub(crate) fn check_file(&self) -> Result<(), Error> {
        std::fs::read_to_string(&self.auth.password_file).map(drop).map_err(|error| self.unreadable(&error))
    }

    /// The token in use; a new one over `connection` when there is none.
    pub(crate) async fn token(
        &self,
        connection: &Connection,
        endpoint: &str,
        timeout: Duration,
    ) -> Result<Token, Fault> {
        let mut held = self.token.lock().await;
        match &*held {
            Held::Token(token) => return Ok(Some(token.clone())),
            Held::NotEnabled => return Ok(None),
            Held::Nothing => {}
        }
        let at = At { side: self.side, endpoint, call: AUTHENTICATE.call };
        let password = self.password().await.map_err(Fault::unsent)?;
        let request = proto::AuthenticateRequest { name: self.auth.user.clone(), password };
        let sent = connection.unary::<_, proto::AuthenticateResponse>(AUTHENTICATE, request, None);
        let answer = match tokio::time::timeout(timeout, sent).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(status)) if status.message().contains("authentication is not enabled") => {
                tracing::warn!(side = %self.side, "etcd's authentication is off: --{}-user is not used", self.side);
                *held = Held::NotEnabled;
                return Ok(None);
            }
            // The request behind it was not sent, whatever became of the authentication.
            Ok(Err(status)) => return Err(Fault { no_effect: true, ..Fault::from_status(at, &status) }),
            Err(_) => return Err(Fault { no_effect: true, ..Fault::timeout(at, timeout) }),
        };
        let token = AsciiMetadataValue::try_from(answer.token).map_err(|_| {
            let problem = "the token it gave is not printable".to_owned();
            Fault::unsent(Error::Unauthenticated { side: self.side, endpoint: endpoint.to_owned(), problem })
        })?;
        *held = Held::Token(token.clone());
        Ok(Some(token))
    }

    /// etcd refused `stale`; the next request gets a new token, unless there is one already.
    pub(crate) async fn forget(&self, stale: &Token) {
        let mut held = self.token.lock().await;
        let same = match &*held {
            Held::Token(token) => stale.as_ref() == Some(token),
            Held::NotEnabled => stale.is_none(),
            Held::Nothing => true,
        };
        if same {
            *held = Held::Nothing;
        }
    }

    /// Whatever is held is no longer trusted.
    pub(crate) async fn forget_any(&self) {
        *self.token.lock().await = Held::Nothing;
    }

    async fn password(&self) -> Result<String, Error> {
        let path = &self.auth.password_file;
        let text = tokio::fs::read_to_string(path).await.map_err(|error| self.unreadable(&error))?;
        let text = text.strip_suffix('\n').unwrap_or(&text);
        Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
    }

    fn unreadable(&self, error: &std::io::Error) -> Error {
        let path = self.auth.password_file.clone();
        Error::PasswordFile { side: self.side, path, problem: error.to_string() }
    }
}
