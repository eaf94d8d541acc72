//! The listeners of both programs.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::TcpListener;

/// EAFNOSUPPORT on Linux: the kernel has no IPv6.
const NO_IPV6: i32 = 97;

/// Listens. On a host without IPv6, "every address" is every IPv4 address.
///
/// # Errors
/// The address is taken, or not of this host.
pub async fn bind(listen: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(listen).await {
        Err(error) if error.raw_os_error() == Some(NO_IPV6) && listen.ip() == Ipv6Addr::UNSPECIFIED => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, listen.port())).await
        }
        bound => bound,
    }
}
