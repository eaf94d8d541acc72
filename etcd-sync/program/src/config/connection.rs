//! How to reach one etcd cluster.

use std::path::Path;

use etcd_sync_store::{Auth, Etcd, Options, Side, TlsFiles};

use crate::args::{ArgsError, ConnectionArgs};

/// How to reach one cluster.
#[derive(Clone, Debug)]
pub struct Connection {
    side: Side,
    flags: ConnectionArgs,
}

/// The certificates for one cluster.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionFiles<'a> {
    /// The authorities of its servers.
    pub cacert: Option<&'a Path>,
    /// Our certificate.
    pub cert: Option<&'a Path>,
    /// Its key.
    pub key: Option<&'a Path>,
}

impl Connection {
    /// A command that does without this etcd needs no endpoints either.
    pub(super) fn new(side: Side, flags: ConnectionArgs, needed: bool) -> Result<Connection, ArgsError> {
        let flag = |name: &str| format!("{side}-{name}");
        if needed && flags.endpoints.is_empty() {
            let what = "the client URLs of the etcd members, like https://10.0.0.1:2379,https://10.0.0.2:2379";
            return Err(ArgsError::Missing { flag: flag("endpoints"), what });
        }
        let pairs = [
            ("cert", flags.cert.is_some(), "key", flags.key.is_some()),
            ("user", flags.user.is_some(), "password-file", flags.password_file.is_some()),
        ];
        for (one, has_one, other, has_other) in pairs {
            match (has_one, has_other) {
                (true, false) => return Err(ArgsError::Alone { given: flag(one), missing: flag(other) }),
                (false, true) => return Err(ArgsError::Alone { given: flag(other), missing: flag(one) }),
                _ => {}
            }
        }
        Ok(Connection { side, flags })
    }

    /// The endpoints, as they were given.
    pub fn endpoints(&self) -> &[String] {
        &self.flags.endpoints
    }

    /// The same in the words of the store.
    pub fn options(&self) -> Options {
        let ConnectionArgs { endpoints, cacert, cert, key, user, password_file, server_name } = self.flags.clone();
        let mut options = Options::new(self.side, endpoints);
        if cacert.is_some() || cert.is_some() {
            options.tls = Some(TlsFiles { ca: cacert, cert, key });
        }
        options.auth = user.zip(password_file).map(|(user, password_file)| Auth { user, password_file });
        options.server_name = server_name;
        options
    }

    /// The files that the flags name.
    pub fn files(&self) -> ConnectionFiles<'_> {
        let ConnectionArgs { cacert, cert, key, .. } = &self.flags;
        ConnectionFiles { cacert: cacert.as_deref(), cert: cert.as_deref(), key: key.as_deref() }
    }

    /// The cluster's client; nothing is sent yet.
    pub fn etcd(&self) -> Result<Etcd, etcd_sync_store::Error> {
        Etcd::new(self.options())
    }
}
