//! The certificates in the files that flags name.

use std::path::{Path, PathBuf};

use etcd_sync_cluster::{Access, Cluster, KubeconfigFile, authorities};
use etcd_sync_core::kv::printable;
use etcd_sync_core::preflight::switch::{Certificate, CertificateFact, CertificateUse};
use etcd_sync_program::config::{ApiServer, Config};
use etcd_sync_store::{Side, TlsFiles};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::parse_x509_certificate;

use super::Clusters;

/// Every certificate of every file that a connection is made with.
pub fn of_files(config: &Config, clusters: &Clusters, now_ms: u64) -> Vec<CertificateFact> {
    let mut facts = Vec::new();
    for (side, connection) in [(Side::Primary, &config.primary), (Side::Standby, &config.standby)] {
        let files = connection.options().tls.unwrap_or_default();
        if let Some(file) = &files.ca {
            facts.extend(of_authorities(&format!("--{side}-cacert"), file, now_ms));
        }
        if let Some(file) = &files.cert {
            let found = |found| fact(&format!("--{side}-cert"), file, CertificateUse::Identity, found);
            facts.extend(read(file).into_iter().map(found));
        }
    }
    for (_, cluster) in clusters.each() {
        match cluster.as_ref().ok().and_then(Option::as_ref).map(Cluster::access) {
            Some(Access::Server(server)) => facts.extend(of_server(server, now_ms)),
            Some(Access::Kubeconfig(held)) => facts.extend(of_kubeconfig(held, now_ms)),
            None => {}
        }
    }
    facts
}

/// When the first thing of these files ends without which nobody connects: Unix time in seconds. `None`: there is no
/// certificate, or one cannot be read. Blocks on the disk.
pub fn expiry(files: &TlsFiles) -> Option<i64> {
    let ends = |file: &PathBuf| -> Option<Vec<i64>> {
        read(file).into_iter().map(|found| Some(found.ok()?.not_after_s)).collect()
    };
    let identity = files.cert.as_ref().map(|file| ends(file)?.into_iter().min());
    // Of authorities that lie together, one may be a leftover.
    let authority = files.ca.as_ref().map(|file| ends(file)?.into_iter().max());
    let all: Option<Vec<i64>> = [identity, authority].into_iter().flatten().collect();
    all?.into_iter().min()
}

/// When the first certificate of a PEM file ends: Unix time in seconds. `None`: there is none.
pub fn end(pem: &[u8]) -> Option<i64> {
    of_pem(pem).into_iter().next()?.ok().map(|certificate| certificate.not_after_s)
}

fn of_server(server: &ApiServer, now_ms: u64) -> Vec<CertificateFact> {
    let flag = match server.flag {
        Some("active-cluster-vip") => "--active-cluster-cacert",
        Some(_) => "--standby-api-cacert",
        None => "the service account's",
    };
    authorities(server).map(|file| of_authorities(flag, &file, now_ms)).unwrap_or_default()
}

fn of_kubeconfig(held: &KubeconfigFile, now_ms: u64) -> Vec<CertificateFact> {
    let flag = "--standby-kubeconfig";
    let authorities = held.authorities.iter().map(|der| parse(der)).collect();
    let mut facts = judged_together(flag, &held.file, authorities, now_ms);
    let client =
        held.client.as_ref().map(|pem| pem.as_ref().map_or_else(|why| vec![Err(why.clone())], |pem| of_pem(pem)));
    let identity = |found| fact(flag, &held.file, CertificateUse::Identity, found);
    facts.extend(client.into_iter().flatten().map(identity));
    facts
}

/// One certificate in its binary form.
///
/// # Errors
/// It is none.
pub fn parse(der: &[u8]) -> Result<Certificate, String> {
    let (_, parsed) = parse_x509_certificate(der).map_err(|error| error.to_string())?;
    let (subject, validity) = (parsed.subject().to_string(), parsed.validity());
    Ok(Certificate {
        // Others chose it.
        subject: if subject.is_empty() { "no subject".to_owned() } else { printable(subject.as_bytes()) },
        not_before_s: validity.not_before.timestamp(),
        not_after_s: validity.not_after.timestamp(),
    })
}

fn of_authorities(flag: &str, file: &Path, now_ms: u64) -> Vec<CertificateFact> {
    judged_together(flag, file, read(file), now_ms)
}

/// Of authorities that lie together, one that has expired may be a leftover.
fn judged_together(
    flag: &str,
    file: &Path,
    found: Vec<Result<Certificate, String>>,
    now_ms: u64,
) -> Vec<CertificateFact> {
    let now_s = (now_ms / 1_000) as i64;
    let valid = |one: &Certificate| (one.not_before_s..=one.not_after_s).contains(&now_s);
    let others_valid = found.iter().flatten().any(valid);
    let use_ = CertificateUse::Authority { others_valid };
    found.into_iter().map(|found| fact(flag, file, use_, found)).collect()
}

fn fact(flag: &str, file: &Path, use_: CertificateUse, found: Result<Certificate, String>) -> CertificateFact {
    CertificateFact { place: format!("{flag} {}", file.display()), use_, found }
}

fn read(file: &Path) -> Vec<Result<Certificate, String>> {
    match std::fs::read(file) {
        Err(error) => vec![Err(error.to_string())],
        Ok(pem) => of_pem(&pem),
    }
}

fn of_pem(pem: &[u8]) -> Vec<Result<Certificate, String>> {
    let found = CertificateDer::pem_slice_iter(pem);
    let found: Vec<_> = found.map(|der| parse(&der.map_err(|error| error.to_string())?)).collect();
    if found.is_empty() { vec![Err("it holds none".to_owned())] } else { found }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_thing_to_end_counts_and_of_authorities_the_last() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, years: &[i32]| {
            let pems = years.iter().map(|year| {
                let mut params = rcgen::CertificateParams::new(vec!["test".into()]).unwrap();
                params.not_after = rcgen::date_time_ymd(*year, 1, 1);
                params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
            });
            let path = folder.path().join(name);
            std::fs::write(&path, pems.collect::<String>()).unwrap();
            Some(path)
        };
        let year = |files: &TlsFiles| expiry(files).map(|at| 1970 + at / 31_556_952);
        let mut files = TlsFiles { ca: file("ca", &[2041, 2051]), ..TlsFiles::default() };
        assert_eq!(year(&files), Some(2051));
        files.cert = file("cert", &[2046, 2045]);
        assert_eq!(year(&files), Some(2045));
        files.cert = Some(folder.path().join("none"));
        assert_eq!(year(&files), None);
        assert_eq!(year(&TlsFiles::default()), None);
    }

    #[test]
    fn what_is_no_certificate_is_told_without_its_bytes() {
        for der in [&b""[..], b"0\x82\xff\xff", b"secret words", &[0x30; 300]] {
            let error = parse(der).unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("empty.pem");
        std::fs::write(&file, "nothing").unwrap();
        assert_eq!(read(&file), [Err("it holds none".to_owned())]);
        assert!(read(&folder.path().join("none.pem"))[0].is_err());
    }
}
