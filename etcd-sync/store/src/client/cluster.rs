//! One cluster through all its endpoints: which member a request goes to, and what happens when it fails.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use etcd_sync_core::etcd::kv::Revision;
use tokio::time::Instant;

use crate::client::attempts::Attempts;
use crate::client::auth::Authenticator;
use crate::client::connection::{Connection, Dialer, Method, Token};
use crate::client::endpoint::{self, Address};
use crate::client::error::{Error, Replaced};
use crate::client::fault::{At, Fault};
use crate::client::options::{Options, Side};
use crate::client::patience::{self, Patience};
use crate::client::pool::{Member, Pool};
use crate::client::proto::{Answer, ResponseHeader, StatusRequest, StatusResponse};
use crate::client::tls;
use crate::client::watch_health::Heads;

/// One etcd cluster. Cheap to clone; all clones share their connections.
///
/// It remembers the cluster id of the first answer for its whole life: a member of another cluster is never used
/// ([`Error::ClusterChanged`]). Before anything else is sent over a new connection, the member behind it is queried
/// which cluster it belongs to, so not even the first write can reach a wrong one.
#[derive(Clone)]
pub struct Etcd {
    pub(crate) inner: Arc<Inner>,
}

/// Which cluster this is, and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// etcd's id of the cluster.
    pub cluster_id: u64,
    /// Its newest revision.
    pub revision: Revision,
    /// Its election term.
    pub raft_term: u64,
}

pub(crate) struct Inner {
    pub(crate) this: Weak<Inner>,
    side: Side,
    pub(crate) pool: Pool,
    pub(crate) dialer: Dialer,
    options: Options,
    /// When the member list was last asked for.
    listed_at: Mutex<Option<Instant>>,
    pub(crate) request_timeout: Duration,
    connect_timeout: Duration,
    pub(crate) watch_silence: Duration,
    heads: Mutex<Heads>,
    auth: Option<Authenticator>,
    cluster: OnceLock<u64>,
}

/// Works without a leader, and on learners.
pub(crate) const STATUS: Method =
    Method { path: "/etcdserverpb.Maintenance/Status", call: "the status", needs_leader: false };

/// Time for a member to report its cluster; it needs no disk and no peer for that.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(3);

impl Etcd {
    /// Checks the options and reads the TLS files once, so that an error in them shows at once. Connects to
    /// nothing; the first request does. Requests must run inside a tokio runtime.
    ///
    /// # Errors
    /// [`Error::NoEndpoints`], [`Error::BadEndpoint`], [`Error::MissingCa`], [`Error::TlsFile`],
    /// [`Error::PasswordFile`].
    pub fn new(options: Options) -> Result<Etcd, Error> {
        let known = options.clone();
        let addresses = endpoint::parse_all(&options)?;
        let settings = match addresses.iter().find(|address| address.tls) {
            None => None,
            Some(address) => {
                let settings = tls::Settings::new(&options, &address.url)?;
                settings.load()?;
                Some(Arc::new(settings))
            }
        };
        let dialer = Dialer {
            tls: settings,
            with_tls_files: options.tls.is_some(),
            known: options.addresses,
            timeout: options.connect_timeout,
        };
        let auth = options.auth.map(|auth| Authenticator::new(options.side, auth));
        if let Some(auth) = &auth {
            auth.check_file()?;
        }
        Ok(Etcd {
            inner: Arc::new_cyclic(|this| Inner {
                this: Weak::clone(this),
                side: options.side,
                pool: Pool::new(addresses.into_iter().filter_map(|address| dialer.dial(address)).collect()),
                dialer,
                options: known,
                listed_at: Mutex::default(),
                request_timeout: options.request_timeout,
                connect_timeout: options.connect_timeout,
                watch_silence: options.watch_silence,
                heads: Mutex::default(),
                auth,
                cluster: OnceLock::new(),
            }),
        })
    }

    /// A client made from the same options, which takes again the first cluster that it meets for the right one. What is known of the
    /// members is known to it: which of them work, and those of the member list.
    ///
    /// # Errors
    /// As [`Etcd::new`].
    pub fn renewed(&self) -> Result<Etcd, Error> {
        let renewed = Etcd::new(self.inner.options.clone())?;
        renewed.inner.pool.take_over(&self.inner.pool);
        Ok(renewed)
    }

    /// Why this client is of no more use, once every endpoint that it was given leads to another cluster: that cluster was rebuilt, or
    /// restored with other members, or replaced. Only a new client finds out what is there now.
    pub fn replaced(&self) -> Option<Replaced> {
        match self.inner.pool.replaced()? {
            Error::ClusterChanged { side, expected: known, got: found, .. } => Some(Replaced { side, known, found }),
            _ => None,
        }
    }

    /// The client addresses of the members, in the order of the options.
    pub fn addresses(&self) -> Vec<Address> {
        self.inner.pool.given().iter().map(|member| (*member.dial.address).clone()).collect()
    }

    /// Endpoints beside those of the options, which the cluster's member list named lately; used when those of the options fail.
    pub fn listed_endpoints(&self) -> Vec<String> {
        self.inner.pool.listed()
    }

    /// Which cluster the options named.
    pub fn side(&self) -> Side {
        self.inner.side
    }
}

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoints: Vec<&str> = self.inner.pool.given().iter().map(|member| member.url()).collect();
        f.debug_struct("Etcd").field("side", &self.inner.side).field("endpoints", &endpoints).finish_non_exhaustive()
    }
}

impl Inner {
    /// A request that may be sent more than once: to one member after the other, until one answers, all have failed,
    /// or twice the time of `per_member` has passed.
    pub(crate) async fn call<Q, A>(
        &self,
        method: Method,
        request: Q,
        per_member: impl Into<Patience>,
    ) -> Result<A, Error>
    where
        Q: prost::Message + Clone + 'static,
        A: Answer,
    {
        let per_member: Patience = per_member.into();
        let mut attempts = self.attempts(per_member.silence);
        while let Some((member, timeout)) = attempts.next() {
            let patience = per_member.within(timeout);
            let attempt = self.attempt(&member, method, &request, patience);
            let answer = match tokio::time::timeout(patience.most, attempt).await {
                Ok(answer) => answer,
                Err(_) => Err(self.timed_out(self.at(&member, method.call), patience.most).await),
            };
            match answer {
                Ok(answer) => {
                    self.pool.worked(&member);
                    self.list_now_and_then(&member);
                    return Ok(answer);
                }
                Err(fault) => attempts.failed(&member, fault)?,
            }
        }
        Err(attempts.error())
    }

    /// A request that is sent once. Another member is tried only as long as nothing was sent.
    pub(crate) async fn call_once<Q, A>(&self, method: Method, request: Q) -> Result<A, Fault>
    where
        Q: prost::Message + Clone + 'static,
        A: Answer,
    {
        let mut chosen = self.any_connection(method.call).await.map_err(Fault::unsent)?;
        let (mut again, timeout) = (true, self.request_timeout + patience::to_send(request.encoded_len()));
        loop {
            let (member, connection) = &chosen;
            let fault = match self.send(member, connection, method, request.clone(), timeout).await {
                Ok(answer) => {
                    self.pool.worked(member);
                    self.list_now_and_then(member);
                    return Ok(answer);
                }
                Err(fault) => fault,
            };
            if !(again && fault.no_effect && (fault.stale || fault.stale_token)) {
                self.note(member, &fault.error);
                return Err(fault);
            }
            // Nothing was applied: the connection had ended before, or our token was refused. Once more.
            again = false;
            chosen = self.any_connection(method.call).await.map_err(Fault::unsent)?;
        }
    }

    pub(crate) fn attempts(&self, per_member: Duration) -> Attempts<'_> {
        Attempts::new(self.side, &self.pool, per_member)
    }

    /// A member that can be reached, and the connection to it.
    async fn any_connection(&self, call: &'static str) -> Result<(Arc<Member>, Arc<Connection>), Error> {
        let mut attempts = self.attempts(self.request_timeout);
        while let Some((member, _)) = attempts.next() {
            match self.verified_connection(&member, call).await {
                Ok(connection) => return Ok((member, connection)),
                Err(fault) => attempts.failed(&member, fault)?,
            }
        }
        Err(attempts.error())
    }

    /// One request to one member, over a connection known to lead to the right cluster.
    async fn attempt<Q, A>(
        &self,
        member: &Arc<Member>,
        method: Method,
        request: &Q,
        patience: Patience,
    ) -> Result<A, Fault>
    where
        Q: prost::Message + Clone + 'static,
        A: Answer,
    {
        let mut again = true;
        loop {
            let connection = self.verified_connection(member, method.call).await?;
            match self.send(member, &connection, method, request.clone(), patience).await {
                Err(fault) if again && (fault.stale || fault.stale_token) => again = false,
                answer => return answer,
            }
        }
    }

    /// The connection shared by requests to a member.
    pub(crate) async fn verified_connection(
        &self,
        member: &Arc<Member>,
        call: &'static str,
    ) -> Result<Arc<Connection>, Fault> {
        let connection = member.connection().await;
        match self.verify(member, &connection, call).await {
            Ok(()) => Ok(connection),
            Err(fault) if fault.stale => {
                let connection = member.connection().await;
                self.verify(member, &connection, call).await.map(|()| connection)
            }
            Err(fault) => Err(fault),
        }
    }

    /// Queries which cluster the member behind a connection belongs to, once per connection. A failure means that
    /// nothing else was sent over it.
    pub(crate) async fn verify(
        &self,
        member: &Arc<Member>,
        connection: &Arc<Connection>,
        call: &'static str,
    ) -> Result<(), Fault> {
        let ask = || async {
            let timeout = self.request_timeout.min(self.connect_timeout + VERIFY_TIMEOUT);
            // Failures are reported in terms of the call that needs the connection.
            let method = Method { call, ..STATUS };
            let mut answer: Result<StatusResponse, Fault> =
                self.send(member, connection, method, StatusRequest {}, timeout).await;
            if matches!(&answer, Err(fault) if fault.stale_token) {
                answer = self.send(member, connection, method, StatusRequest {}, timeout).await;
            }
            let status = answer.map_err(|fault| Fault { no_effect: true, ..fault })?;
            if status.is_learner {
                let endpoint = member.url().to_owned();
                return Err(Fault::unsent(Error::Learner { side: self.side, endpoint }));
            }
            self.check_no_proxy(member, connection, timeout).await
        };
        // A failure is kept, so that requests waiting for the same connection fail with it instead of querying again one
        // by one; the next request makes a new connection.
        let verified = connection.verified.get_or_init(ask).await.clone();
        if verified.is_err() {
            member.discard(connection);
        }
        verified
    }

    /// Sends one request over one connection, with the token in use, and checks which cluster answers.
    pub(crate) async fn send<Q, A>(
        &self,
        member: &Arc<Member>,
        connection: &Arc<Connection>,
        method: Method,
        request: Q,
        patience: impl Into<Patience>,
    ) -> Result<A, Fault>
    where
        Q: prost::Message + 'static,
        A: Answer,
    {
        let answer: A = self.send_unchecked(member, connection, method, request, patience).await?;
        self.check_cluster(member, answer.header()).map_err(Fault::unknown)?;
        Ok(answer)
    }

    /// Like [`Inner::send`], whatever cluster answers.
    pub(crate) async fn send_unchecked<Q, A>(
        &self,
        member: &Arc<Member>,
        connection: &Arc<Connection>,
        method: Method,
        request: Q,
        patience: impl Into<Patience>,
    ) -> Result<A, Fault>
    where
        Q: prost::Message + 'static,
        A: Answer,
    {
        let patience: Patience = patience.into();
        let at = self.at(member, method.call);
        let token = match self.token(member, connection, patience.silence).await {
            Err(fault) if fault.stale => {
                member.discard(connection);
                return Err(fault);
            }
            token => token?,
        };
        let answer = connection.unary(method, request, token.clone());
        let fault = match connection.received().wait(patience, answer).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(status)) => Fault::from_status(at, &status),
            Err(waited) => self.timed_out(at, waited).await,
        };
        if fault.stale {
            member.discard(connection);
        }
        Err(self.forget_if_stale(fault, &token).await)
    }

    pub(crate) async fn token(
        &self,
        member: &Arc<Member>,
        connection: &Connection,
        timeout: Duration,
    ) -> Result<Token, Fault> {
        match &self.auth {
            None => Ok(None),
            Some(auth) => auth.token(connection, member.url(), timeout).await,
        }
    }

    /// No answer in time. A cluster restored from a backup lets a request with a token of its former life wait until its
    /// log has come as far again, so the next request gets a new one.
    async fn timed_out(&self, at: At<'_>, after: Duration) -> Fault {
        if let Some(auth) = &self.auth {
            auth.forget_any().await;
        }
        Fault::timeout(at, after)
    }

    /// A refused token is given up; without a user to get a new one for, it is an ordinary refusal.
    pub(crate) async fn forget_if_stale(&self, mut fault: Fault, token: &Token) -> Fault {
        if fault.stale_token {
            match &self.auth {
                Some(auth) => auth.forget(token).await,
                None => fault.stale_token = false,
            }
        }
        fault
    }

    /// Compares an answer's cluster with the first one's; an answer without a header proves nothing.
    pub(crate) fn check_cluster(&self, member: &Member, header: Option<&ResponseHeader>) -> Result<(), Error> {
        let Some(got) = header.map(|header| header.cluster_id).filter(|&id| id != 0) else {
            return Ok(());
        };
        let expected = *self.cluster.get_or_init(|| got);
        if expected == got {
            return Ok(());
        }
        let endpoint = member.url().to_owned();
        Err(Error::ClusterChanged { side: self.side, endpoint, expected, got })
    }

    /// A linearizable read or a write was answered with this header.
    pub(crate) fn note_head(&self, header: Option<&ResponseHeader>) {
        if let Some(header) = header {
            self.heads().note(header.revision, Instant::now(), self.watch_silence);
        }
    }

    /// The newest revisions that linearizable reads have shown.
    pub(crate) fn heads(&self) -> MutexGuard<'_, Heads> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the member list was last asked for.
    pub(crate) fn listed_at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.listed_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The cluster id of the first answer.
    pub(crate) fn known_cluster(&self) -> Option<u64> {
        self.cluster.get().copied()
    }

    /// Remembers a failure of a member, when it is the member's own.
    pub(crate) fn note(&self, member: &Member, error: &Error) {
        if error.is_of_endpoint() {
            self.pool.failed(member, error);
        }
    }

    pub(crate) fn at<'a>(&self, member: &'a Member, call: &'static str) -> At<'a> {
        At { side: self.side, endpoint: member.url(), call }
    }

    pub(crate) fn side(&self) -> Side {
        self.side
    }
}
