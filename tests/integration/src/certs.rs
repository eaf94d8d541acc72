//! A throw-away certificate authority for one etcd cluster or one control plane.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType, date_time_ymd,
};

/// PEM files of one cluster.
#[derive(Clone, Debug)]
pub struct Certs {
    /// The authority's certificate.
    pub ca: PathBuf,
    /// The members' certificate, for clients and peers: names `localhost` and 127.0.0.1.
    pub server_cert: PathBuf,
    /// The members' key.
    pub server_key: PathBuf,
    /// A client's certificate.
    pub client_cert: PathBuf,
    /// A client's key.
    pub client_key: PathBuf,
    /// A client's certificate that expired at the end of 2020.
    pub expired_cert: PathBuf,
    /// Its key.
    pub expired_key: PathBuf,
}

impl Certs {
    /// Makes an authority and its certificates in `folder`, which must exist.
    pub fn create(folder: &Path) -> Result<Certs> {
        Certs::create_at(folder, &[])
    }

    /// As [`Certs::create`]; the members' certificate carries these addresses too.
    pub fn create_at(folder: &Path, addresses: &[IpAddr]) -> Result<Certs> {
        let certs = Certs {
            ca: folder.join("ca.crt"),
            server_cert: folder.join("server.crt"),
            server_key: folder.join("server.key"),
            client_cert: folder.join("client.crt"),
            client_key: folder.join("client.key"),
            expired_cert: folder.join("expired.crt"),
            expired_key: folder.join("expired.key"),
        };
        let authority = Authority::create(&certs.ca)?;
        authority.issue_at(addresses, "etcd", None, &certs.server_cert, &certs.server_key)?;
        // Not an etcd user's name: with authentication on, etcd would else take the certificate's name for a login.
        authority.issue("etcd-sync-client", None, &certs.client_cert, &certs.client_key)?;
        authority.issue_expired("etcd-sync-client", &certs.expired_cert, &certs.expired_key)?;
        Ok(certs)
    }
}

/// An authority that signs certificates while the test lays out its files.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes one and writes its certificate, in PEM form.
    pub fn create(file: &Path) -> Result<Authority> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "etcd-sync test CA");
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().context("make the authority's key")?;
        let certificate = params.self_signed(&key).context("sign the authority's certificate")?;
        write(file, &certificate.pem())?;
        Ok(Authority { issuer: Issuer::new(params, key) })
    }

    /// Writes a certificate and its key for servers and clients at `localhost` and 127.0.0.1. To Kubernetes `name` is
    /// the user and `group` a group of theirs.
    pub fn issue(&self, name: &str, group: Option<&str>, cert_file: &Path, key_file: &Path) -> Result<()> {
        self.issue_at(&[], name, group, cert_file, key_file)
    }

    /// As [`Authority::issue`], at these addresses too.
    pub fn issue_at(
        &self,
        addresses: &[IpAddr],
        name: &str,
        group: Option<&str>,
        cert_file: &Path,
        key_file: &Path,
    ) -> Result<()> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
        params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
        self.sign(params, name, group, cert_file, key_file)
    }

    /// As [`Authority::issue`], expired at the end of 2020.
    pub fn issue_expired(&self, name: &str, cert_file: &Path, key_file: &Path) -> Result<()> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2020, 12, 31));
        self.sign(params, name, None, cert_file, key_file)
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        name: &str,
        group: Option<&str>,
        cert_file: &Path,
        key_file: &Path,
    ) -> Result<()> {
        params.subject_alt_names.push(SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        params.distinguished_name.push(DnType::CommonName, name);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // A member is its own gateway's client, and every peer is both.
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().with_context(|| format!("make the key of {name}"))?;
        let certificate =
            params.signed_by(&key, &self.issuer).with_context(|| format!("sign the certificate of {name}"))?;
        write(cert_file, &certificate.pem())?;
        write(key_file, &key.serialize_pem())
    }
}

/// Writes a certificate that nobody has signed but itself, and its key, for servers and clients at `localhost` and 127.0.0.1. With
/// `authority` it is a CA's (CA:TRUE), as `openssl req -x509` makes it.
pub fn self_signed(name: &str, authority: bool, cert_file: &Path, key_file: &Path) -> Result<()> {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
    params.is_ca = if authority { IsCa::Ca(BasicConstraints::Unconstrained) } else { IsCa::ExplicitNoCa };
    params.subject_alt_names.push(SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().with_context(|| format!("make the key of {name}"))?;
    write(cert_file, &params.self_signed(&key).with_context(|| format!("sign {name}"))?.pem())?;
    write(key_file, &key.serialize_pem())
}

/// Writes a key pair that signs tokens: the private and the public half, in PEM form.
pub fn signing_key(private_file: &Path, public_file: &Path) -> Result<()> {
    let key = KeyPair::generate().context("make a signing key")?;
    write(private_file, &key.serialize_pem())?;
    write(public_file, &key.public_key_pem())
}

fn write(file: &Path, text: &str) -> Result<()> {
    std::fs::write(file, text).with_context(|| format!("write {file:?}"))
}
