//! From a host name to a TCP connection, by RFC 8305: several addresses are tried with a short delay between them, and the first one that
//! connects is used. A dead address so costs a moment, not the connection.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpStream;
use tokio::time::sleep;

/// How long an attempt has before the next one starts beside it: RFC 8305's recommended "Connection Attempt Delay".
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Connects to the first of these addresses that answers. An attempt that fails starts the next one at once; those that hang go on beside it.
pub(crate) async fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut waiting = interleave(addresses).into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut problems = Vec::new();
    loop {
        match waiting.next() {
            Some(address) => attempts.push(async move { (address, TcpStream::connect(address).await) }),
            None if attempts.is_empty() => return Err(io::Error::other(failure(&problems))),
            None => {}
        }
        tokio::select! {
            Some((address, connected)) = attempts.next() => match connected {
                Ok(stream) => return Ok(stream),
                Err(error) => problems.push((address, error)),
            },
            () = sleep(ATTEMPT_DELAY), if waiting.len() > 0 => {}
        }
    }
}

/// The families take turns, beginning with that of the first address, so that a broken one costs one delay at most.
fn interleave(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let first_is_ipv6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (mut first, mut second): (Vec<_>, Vec<_>) = (Vec::new(), Vec::new());
    for &address in addresses {
        let family = if address.is_ipv6() == first_is_ipv6 { &mut first } else { &mut second };
        // A resolver gives an address once for each socket type it was asked for.
        if !family.contains(&address) {
            family.push(address);
        }
    }
    let mut ordered = Vec::with_capacity(first.len() + second.len());
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    loop {
        let pair = [first.next(), second.next()];
        if pair == [None, None] {
            return ordered;
        }
        ordered.extend(pair.into_iter().flatten());
    }
}

fn failure(problems: &[(SocketAddr, io::Error)]) -> String {
    match problems {
        [] => "the name has no address".to_owned(),
        [(_, error)] => error.to_string(),
        several => several.iter().map(|(address, error)| format!("{address}: {error}")).collect::<Vec<_>>().join("; "),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};
    use tokio::time::timeout;

    use super::*;

    /// An address that answers nothing: its queue of connections is full, so the system drops what comes.
    async fn hole() -> (SocketAddr, TcpListener, Vec<TcpStream>) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut queued = Vec::new();
        while let Ok(connected) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
            queued.push(connected.unwrap());
        }
        (address, listener, queued)
    }

    #[tokio::test]
    async fn dead_addresses_cost_a_moment() {
        let (first, _listener, _queued) = hole().await;
        let (second, _other_listener, _also_queued) = hole().await;
        let live = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let refused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let to = live.local_addr().unwrap();
        let connected = timeout(Duration::from_secs(2), connect(&[first, refused, second, to])).await;
        assert_eq!(connected.unwrap().unwrap().peer_addr().unwrap(), to);
    }

    #[tokio::test]
    async fn every_address_that_failed_is_named() {
        let refused: Vec<SocketAddr> = vec!["127.0.0.1:1".parse().unwrap(), "127.0.0.2:1".parse().unwrap()];
        let error = connect(&refused).await.unwrap_err().to_string();
        assert!(error.contains("127.0.0.1:1: ") && error.contains("; 127.0.0.2:1: "), "{error}");
        let one = connect(&refused[..1]).await.unwrap_err().to_string();
        assert!(!one.contains("127.0.0.1"), "the endpoint is named already: {one}");
        assert_eq!(connect(&[]).await.unwrap_err().to_string(), "the name has no address");
    }

    #[test]
    fn families_take_turns() {
        let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let ordered = interleave(&parse(&["[::1]:1", "[::2]:1", "[::1]:1", "[::3]:1", "10.0.0.1:1", "10.0.0.2:1"]));
        assert_eq!(ordered, parse(&["[::1]:1", "10.0.0.1:1", "[::2]:1", "10.0.0.2:1", "[::3]:1"]));
        assert_eq!(interleave(&parse(&["10.0.0.1:1", "[::1]:1"])), parse(&["10.0.0.1:1", "[::1]:1"]));
    }
}
