//! TLS settings from PEM files. The crypto provider is always named, never taken from the process.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use x509_parser::parse_x509_certificate;

use crate::client::error::Error;
use crate::client::options::{Options, Side};

/// Which files one cluster's connections are made with.
#[derive(Debug)]
pub(crate) struct Settings {
    side: Side,
    ca: PathBuf,
    pair: Option<(PathBuf, PathBuf)>,
    server_name: Option<ServerName<'static>>,
}

/// What the files held at one moment.
pub(crate) struct Material {
    pub config: Arc<ClientConfig>,
    /// Changes when any file's content does.
    pub fingerprint: u64,
    /// Whether nobody but itself has signed our certificate.
    pub self_signed: bool,
}

impl Settings {
    /// Checks that the files fit together; `endpoint` is an https one, for the error message. Does not read them.
    pub(crate) fn new(options: &Options, endpoint: &str) -> Result<Self, Error> {
        let side = options.side;
        let files = options.tls.clone().unwrap_or_default();
        let ca = files.ca.ok_or_else(|| Error::MissingCa { side, endpoint: endpoint.to_owned() })?;
        let alone =
            |what, flag, path, problem: &str| Error::TlsFile { side, what, flag, path, problem: problem.into() };
        let pair = match (files.cert, files.key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(cert), None) => return Err(alone(CERT, "key", cert, "its private key is not given")),
            (None, Some(key)) => return Err(alone(KEY, "cert", key, "its certificate is not given")),
        };
        let server_name = options.server_name.clone().map(ServerName::try_from).transpose().map_err(|_| {
            let endpoint = options.server_name.clone().unwrap_or_default();
            Error::BadEndpoint { side, endpoint, problem: format!("--{side}-server-name is not a host name") }
        })?;
        Ok(Settings { side, ca, pair, server_name })
    }

    /// The name the server's certificate must carry: the one configured, else the endpoint's host.
    pub(crate) fn server_name(&self, host: &str) -> Option<ServerName<'static>> {
        self.server_name.clone().or_else(|| ServerName::try_from(host.to_owned()).ok())
    }

    /// Reads all files; blocks on the disk.
    pub(crate) fn load(&self) -> Result<Material, Error> {
        let mut hasher = DefaultHasher::new();
        let roots = self.roots(&mut hasher)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| self.bad(CA, "cacert", &self.ca, error))?
            .with_root_certificates(roots);
        let mut self_signed = false;
        let mut config = match &self.pair {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let chain = self.certificates(CERT, "cert", cert, &mut hasher)?;
                self_signed = chain.first().is_some_and(is_self_signed);
                let private = self.private_key(key, &mut hasher)?;
                builder.with_client_auth_cert(chain, private).map_err(|error| self.bad(KEY, "key", key, error))?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Material { config: Arc::new(config), fingerprint: hasher.finish(), self_signed })
    }

    fn roots(&self, hasher: &mut DefaultHasher) -> Result<RootCertStore, Error> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates(CA, "cacert", &self.ca, hasher)? {
            roots.add(certificate).map_err(|error| self.bad(CA, "cacert", &self.ca, error))?;
        }
        Ok(roots)
    }

    fn certificates(
        &self,
        what: &'static str,
        flag: &'static str,
        path: &Path,
        hasher: &mut DefaultHasher,
    ) -> Result<Vec<CertificateDer<'static>>, Error> {
        let bytes = std::fs::read(path).map_err(|error| self.bad(what, flag, path, error))?;
        bytes.hash(hasher);
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
            .collect::<Result<_, _>>()
            .map_err(|error| self.bad(what, flag, path, format!("not PEM: {error}")))?;
        if certificates.is_empty() {
            return Err(self.bad(what, flag, path, "it holds no certificate; expected -----BEGIN CERTIFICATE-----"));
        }
        Ok(certificates)
    }

    fn private_key(&self, path: &Path, hasher: &mut DefaultHasher) -> Result<PrivateKeyDer<'static>, Error> {
        let bytes = std::fs::read(path).map_err(|error| self.bad(KEY, "key", path, error))?;
        bytes.hash(hasher);
        PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
            let expected = "expected an unencrypted PKCS#8, PKCS#1 or SEC1 key in PEM form";
            self.bad(KEY, "key", path, format!("{error}; {expected}"))
        })
    }

    fn bad(&self, what: &'static str, flag: &'static str, path: &Path, problem: impl ToString) -> Error {
        Error::TlsFile { side: self.side, what, flag, path: path.to_owned(), problem: problem.to_string() }
    }
}

/// Names its own subject as its issuer.
fn is_self_signed(certificate: &CertificateDer<'_>) -> bool {
    parse_x509_certificate(certificate).is_ok_and(|(_, certificate)| certificate.issuer() == certificate.subject())
}

const CA: &str = "CA file";
const CERT: &str = "client certificate";
const KEY: &str = "client key";
