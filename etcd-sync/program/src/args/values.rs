//! How values are read. Every error says what was expected; clap puts the flag and what was given in front.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use etcd_sync_core::etcd::kv::from_printable;
use etcd_sync_operations::dns::{self, NameServer};
use etcd_sync_operations::nslookup::PodRef;

/// A duration within bounds, written like `10s` or `1m30s`.
pub fn duration(least: &'static str, most: &'static str) -> impl Fn(&str) -> Result<Duration, String> + Clone {
    move |text| {
        let bound = |text| humantime::parse_duration(text).expect("bounds are written in the source");
        match humantime::parse_duration(text) {
            Ok(value) if (bound(least)..=bound(most)).contains(&value) => Ok(value),
            Ok(_) => Err(format!("expected a duration from {least} to {most}")),
            Err(_) => Err(format!("expected a duration from {least} to {most}, like 500ms, 10s or 1m30s")),
        }
    }
}

/// As [`duration`], or `0` for never.
pub fn duration_or_never(least: &'static str, most: &'static str) -> impl Fn(&str) -> Result<Duration, String> + Clone {
    let within = duration(least, most);
    move |text| match text.trim_end_matches(char::is_alphabetic) {
        "0" => Ok(Duration::ZERO),
        _ => within(text).map_err(|error| format!("{error}, or 0 for never")),
    }
}

/// A number of bytes, with or without a unit.
pub fn bytes(text: &str) -> Result<u64, String> {
    let upper = text.to_ascii_uppercase();
    let units = [("K", 10), ("M", 20), ("G", 30)];
    let (digits, shift) =
        units.iter().find_map(|(unit, shift)| Some((upper.strip_suffix(unit)?, *shift))).unwrap_or((&upper, 0));
    let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    number.ok_or_else(|| "expected a number of bytes, like 65536, 500K, 16M or 1G".to_owned())
}

/// A whole number within bounds.
pub fn number(least: u64, most: u64) -> impl Fn(&str) -> Result<u64, String> + Clone {
    move |text| match text.parse() {
        Ok(value) if (least..=most).contains(&value) => Ok(value),
        _ if most == u64::MAX => Err(format!("expected a whole number, {least} or more")),
        _ => Err(format!("expected a whole number from {least} to {most}")),
    }
}

/// The name of a link.
pub fn link(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte == b'-' || byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if (1..=40).contains(&text.len()) && text.bytes().all(allowed) {
        return Ok(text.to_owned());
    }
    Err("expected 1 to 40 lower-case letters, digits and dashes".to_owned())
}

/// An address to listen on.
pub fn listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "expected ADDR:PORT with an IP address, like 0.0.0.0:8080 or [::]:8080".to_owned())
}

/// The address of an API server, completed to `host:port`; an IPv6 address comes out in brackets.
pub fn vip(text: &str) -> Result<String, String> {
    let (host, port) = host_port(text, API_PORT)
        .ok_or("expected HOST or HOST:PORT, like 10.0.0.10, 10.0.0.10:6443 or [fd00::10]:6443")?;
    Ok(format!("{host}:{port}"))
}

/// A name server.
pub fn name_server(text: &str) -> Result<NameServer, String> {
    let (host, port) = host_port(text, dns::PORT)
        .ok_or("expected HOST or HOST:PORT, like 10.0.0.53, ns1.example.com:5353 or [fd00::53]:53")?;
    Ok(NameServer { host: host.trim_matches(['[', ']']).to_owned(), port })
}

/// The name of a host or zone.
pub fn domain(text: &str) -> Result<String, String> {
    dns::name(text).map_err(|error| error.to_string())
}

/// An address of a host.
pub fn address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| "expected an IP address, like 10.0.0.20 or fd00::20".to_owned())
}

/// A time to live, in seconds: a number of them, or a duration.
pub fn ttl(text: &str) -> Result<u32, String> {
    let seconds = match text.parse::<u64>() {
        Ok(seconds) => Some(seconds),
        Err(_) => {
            humantime::parse_duration(text).ok().filter(|value| value.subsec_nanos() == 0).map(|value| value.as_secs())
        }
    };
    let seconds =
        seconds.and_then(|seconds| u32::try_from(seconds).ok()).filter(|seconds| (1..=86_400).contains(seconds));
    seconds.ok_or_else(|| "expected a time to live from 1s to 1d, like 60, 60s or 5m".to_owned())
}

/// A host, an IPv6 address in brackets, and a port.
fn host_port(text: &str, default: u16) -> Option<(String, u16)> {
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        return Some((format!("[{address}]"), default));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (text, default),
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let allowed = |byte: u8| byte == b'-' || byte == b'.' || byte.is_ascii_alphanumeric();
    let good = match bare {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(allowed),
    };
    (good && port != 0).then(|| (host.to_owned(), port))
}

/// The URL of an API server.
pub fn api_server(text: &str) -> Result<String, String> {
    match text.strip_prefix("https://").map(|address| address.strip_suffix('/').unwrap_or(address)) {
        Some(address) if !address.is_empty() && !address.contains(['/', '@', ' ']) => Ok(format!("https://{address}")),
        _ => Err("expected https://HOST:PORT".to_owned()),
    }
}

/// The URL of the monitor.
pub fn monitor(text: &str) -> Result<String, String> {
    let url = text.strip_suffix('/').unwrap_or(text);
    match url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")) {
        Some(address) if !address.is_empty() && !address.contains(['/', '@', ' ', '?']) => Ok(url.to_owned()),
        _ => Err("expected http://HOST[:PORT] or https://HOST[:PORT]".to_owned()),
    }
}

/// Where API servers listen unless told otherwise.
const API_PORT: u16 = 6443;

/// A key, or the beginning of one, as reports show it: `\xNN` for a byte that cannot be shown, `\\` for a backslash.
pub fn key(text: &str) -> Result<Bytes, String> {
    let key = if text.is_ascii() { from_printable(text) } else { Some(Bytes::copy_from_slice(text.as_bytes())) };
    let key = key.filter(|key| !key.is_empty());
    key.ok_or_else(|| {
        r"expected a key as `check` shows it, with \xNN for other bytes and \\ for a backslash".to_owned()
    })
}

/// A pod, or what has pods.
pub fn pod(text: &str) -> Result<PodRef, String> {
    text.parse()
}

/// A text that is not empty.
pub fn some_text(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("expected a value that is not empty".to_owned()),
        _ => Ok(text.to_owned()),
    }
}
