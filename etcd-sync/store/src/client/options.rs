//! How to reach one cluster.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use etcd_sync_core::link::side::Side;

/// How to reach one cluster.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which cluster this is.
    pub side: Side,
    /// Client URLs of its members: `https://host:port`, `http://host:port`, or a bare `host:port`, which means https
    /// when `tls` is given and http when it is not. The default port is 2379.
    pub endpoints: Vec<String>,
    /// Certificates; needed for https endpoints.
    pub tls: Option<TlsFiles>,
    /// User and password, when etcd's authentication is enabled and no client certificate names the user.
    pub auth: Option<Auth>,
    /// How long one request may take on one endpoint. A read moves on to other endpoints until twice this time.
    pub request_timeout: Duration,
    /// How long name resolution, TCP and TLS may take together. A name with several addresses is tried as RFC 8305 says.
    pub connect_timeout: Duration,
    /// The name the server's certificate must carry, instead of the endpoint's host.
    pub server_name: Option<String>,
    /// Addresses of host names that are known otherwise, as with curl's `--resolve`: the system is not asked for these.
    pub addresses: BTreeMap<String, Vec<IpAddr>>,
    /// How long a watch that has caught up may be silent, although its progress is requested fifteen times meanwhile.
    pub watch_silence: Duration,
}

impl Options {
    /// Options with the default time-outs (requests 10 s, connecting 2 s, a silent watch 15 s), neither TLS nor authentication.
    pub fn new(side: Side, endpoints: Vec<String>) -> Self {
        Options {
            side,
            endpoints,
            tls: None,
            auth: None,
            request_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(2),
            server_name: None,
            addresses: BTreeMap::new(),
            watch_silence: Duration::from_secs(15),
        }
    }
}

/// PEM files for https endpoints. They are read again at every new connection, so renewed certificates are taken up
/// without a restart.
#[derive(Clone, Debug, Default)]
pub struct TlsFiles {
    /// Certificates of the authorities that signed the servers' certificates.
    pub ca: Option<PathBuf>,
    /// The client certificate, with its intermediates; needs `key`.
    pub cert: Option<PathBuf>,
    /// The private key of `cert`: PKCS#8, PKCS#1 or SEC1.
    pub key: Option<PathBuf>,
}

/// An etcd user.
#[derive(Clone, Debug)]
pub struct Auth {
    /// The user's name.
    pub user: String,
    /// File with the password; read again at every authentication, one trailing newline is ignored.
    pub password_file: PathBuf,
}
