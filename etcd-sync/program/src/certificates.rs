//! The certificates that connections are made with, and when they end.

use std::path::{Path, PathBuf};
use std::time::Duration;

use etcd_sync_core::etcd::kv::printable;
use etcd_sync_operations::preflight::switch::Certificate;
use etcd_sync_store::{Side, TlsFiles};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::parse_x509_certificate;

use crate::config::{Config, Connection};
use crate::metrics::Page;

/// How long files may take.
const FILES: Duration = Duration::from_secs(2);

/// The files of both connections, whose end the metrics tell.
#[derive(Clone, Debug)]
pub struct Watched {
    primary: TlsFiles,
    standby: TlsFiles,
}

/// When each side's [`expiry`] is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    primary: Option<i64>,
    standby: Option<i64>,
}

impl Watched {
    /// The files that the flags of both sides name.
    pub fn new<C>(config: &Config<C>) -> Self {
        let of = |connection: &Connection| connection.options().tls.unwrap_or_default();
        Watched { primary: of(&config.primary), standby: of(&config.standby) }
    }

    /// Reads the files. A disk that hangs is no reason to be silent: then nothing is known.
    pub async fn ends(&self) -> Ends {
        let files = self.clone();
        let read = tokio::task::spawn_blocking(move || Ends {
            primary: expiry(&files.primary),
            standby: expiry(&files.standby),
        });
        tokio::time::timeout(FILES, read).await.ok().and_then(Result::ok).unwrap_or_default()
    }
}

impl Ends {
    /// Sets the gauge of both sides; what is not known is NaN, which no alert takes for zero.
    pub fn show(self, page: &Page, name: &'static str) {
        for (side, at) in [(Side::Primary, self.primary), (Side::Standby, self.standby)] {
            page.gauge(name, Some(("side", side.name())), at.map_or(f64::NAN, |at| at as f64));
        }
    }
}

/// When the first thing of these files ends without which nobody connects: Unix time in seconds. `None`: there is no
/// certificate, or one cannot be read. Blocks on the disk.
fn expiry(files: &TlsFiles) -> Option<i64> {
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

/// Every certificate of a PEM file. Blocks on the disk.
pub fn read(file: &Path) -> Vec<Result<Certificate, String>> {
    match std::fs::read(file) {
        Err(error) => vec![Err(error.to_string())],
        Ok(pem) => of_pem(&pem),
    }
}

/// Every certificate of a PEM text; at least one result.
pub fn of_pem(pem: &[u8]) -> Vec<Result<Certificate, String>> {
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
