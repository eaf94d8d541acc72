//! Endpoints as the user writes them.

use std::net::Ipv6Addr;

use http::Uri;

use crate::client::error::Error;
use crate::client::options::{Options, Side};

/// One member's client address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// `scheme://host:port`, as shown to people.
    pub url: String,
    pub(crate) uri: Uri,
    /// Host without the brackets of an IPv6 address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whether it is an https one.
    pub tls: bool,
}

impl Address {
    /// `host:port`, as one would dial it.
    pub fn authority(&self) -> &str {
        self.url.split_once("://").map_or(&self.url, |(_, authority)| authority)
    }
}

/// etcd's client port.
const DEFAULT_PORT: u16 = 2379;

/// Reads all endpoints of `options`; the same address twice counts once.
pub(crate) fn parse_all(options: &Options) -> Result<Vec<Address>, Error> {
    let mut addresses: Vec<Address> = Vec::with_capacity(options.endpoints.len());
    for text in &options.endpoints {
        let address = parse(options.side, text, options.tls.is_some())?;
        if !addresses.iter().any(|known| known.url == address.url) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return Err(Error::NoEndpoints { side: options.side });
    }
    Ok(addresses)
}

/// Reads one endpoint. `with_tls_files`: certificates are configured.
pub(crate) fn parse(side: Side, text: &str, with_tls_files: bool) -> Result<Address, Error> {
    let bad = |problem: &str| Error::BadEndpoint { side, endpoint: text.to_owned(), problem: problem.to_owned() };
    let text_trimmed = text.trim();
    if text_trimmed.is_empty() {
        return Err(bad("it is empty"));
    }
    if text_trimmed.contains(',') {
        return Err(bad("it holds a comma: give every endpoint on its own"));
    }
    let (scheme, rest) = match text_trimmed.split_once("://") {
        Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest.to_owned()),
        None => {
            // As Kubernetes tells a pod the address of its node: without brackets.
            let bare = text_trimmed.parse::<Ipv6Addr>().map(|address| format!("[{address}]"));
            if bare.is_ok() && text_trimmed.ends_with(":2379") {
                return Err(bad("is 2379 a part of the address or the port? Write [ADDRESS]:2379"));
            }
            (
                (if with_tls_files { "https" } else { "http" }).to_owned(),
                bare.unwrap_or_else(|_| text_trimmed.to_owned()),
            )
        }
    };
    let tls = match scheme.as_str() {
        "https" => true,
        "http" => false,
        _ => return Err(bad("the scheme must be http or https")),
    };
    if !tls && with_tls_files {
        return Err(bad("certificates are configured, but an http endpoint would not use them: write https"));
    }
    let uri: Uri =
        format!("{scheme}://{}", rest.trim_end_matches('/')).parse().map_err(|_| bad("it is not host:port"))?;
    let authority = uri.authority().ok_or_else(|| bad("it names no host"))?;
    if authority.as_str().contains('@') {
        return Err(bad("it holds a user: give user and password file on their own"));
    }
    if uri.path() != "/" || uri.query().is_some() {
        return Err(bad("it must not hold a path"));
    }
    let host = authority.host();
    if host.is_empty() {
        return Err(bad("it names no host"));
    }
    let port = match authority.as_str().strip_prefix(host) {
        Some("") => DEFAULT_PORT,
        _ => authority.port_u16().ok_or_else(|| bad("the port is not a number from 1 to 65535"))?,
    };
    let url = format!("{scheme}://{host}:{port}");
    let uri: Uri = url.parse().map_err(|_| bad("it is not host:port"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok(Address { url, uri, host, port, tls })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str, with_tls_files: bool) -> Result<String, String> {
        parse(Side::Primary, text, with_tls_files).map(|address| address.url).map_err(|error| error.to_string())
    }

    #[test]
    fn a_bare_address_follows_the_certificates() {
        assert_eq!(url("etcd-0:2379", false).unwrap(), "http://etcd-0:2379");
        assert_eq!(url("etcd-0:2379", true).unwrap(), "https://etcd-0:2379");
        assert_eq!(url("10.0.0.1", true).unwrap(), "https://10.0.0.1:2379");
        assert_eq!(url("fd00::11", true).unwrap(), "https://[fd00::11]:2379");
        assert_eq!(url("[fd00::11]:4001", true).unwrap(), "https://[fd00::11]:4001");
    }

    #[test]
    fn urls_are_taken_as_they_are() {
        assert_eq!(url("HTTPS://Etcd.example/", true).unwrap(), "https://Etcd.example:2379");
        assert_eq!(url(" http://127.0.0.1:12379 ", false).unwrap(), "http://127.0.0.1:12379");
        let six = parse(Side::Standby, "https://[fd00::1]:4001", true).unwrap();
        assert_eq!((six.host.as_str(), six.port, six.tls), ("fd00::1", 4001, true));
    }

    #[test]
    fn bad_endpoints_say_what_is_wrong() {
        for (text, with_tls_files, expected) in [
            ("", false, "empty"),
            ("a:1,b:2", false, "comma"),
            ("unix:///run/etcd.sock", false, "scheme"),
            ("http://a:2379", true, "write https"),
            ("http://a:2379/v3", false, "path"),
            ("http://user@a:2379", false, "user"),
            ("http://a:99999", false, "port"),
            ("http://a:x", false, "port"),
            ("http://", false, "host"),
            ("fd00::11:2379", true, "[ADDRESS]:2379"),
        ] {
            let error = url(text, with_tls_files).unwrap_err();
            assert!(error.contains(expected), "{text:?}: {error}");
            assert!(error.contains("--primary-endpoints"), "{text:?}: {error}");
        }
    }

    #[test]
    fn one_address_twice_counts_once() {
        let options = Options::new(Side::Primary, vec!["a:2379".into(), "http://a:2379".into(), "b".into()]);
        assert_eq!(parse_all(&options).unwrap().len(), 2);
        let none = parse_all(&Options::new(Side::Standby, vec![])).unwrap_err();
        assert!(none.to_string().contains("--standby-endpoints"));
    }
}
