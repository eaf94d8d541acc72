//! Whether the old primary's etcd can still be reached.

use std::time::Duration;

use etcd_sync_core::procedure::Outcome;
use futures_util::future::join_all;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::procedure::Context;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const CLIENT_PORT: &str = "2379";

/// Only tells: nobody but the operator can close it, and the role keeps every synchronizer from writing.
pub async fn client_port(context: &Context<'_>) -> Outcome {
    let addresses = context.config.primary.endpoints().iter().map(|endpoint| address(endpoint));
    let tried = join_all(addresses.map(async |address| (is_open(&address).await, address))).await;
    let open: Vec<String> = tried.into_iter().filter(|(open, _)| *open).map(|(_, address)| address).collect();
    if open.is_empty() {
        return Outcome::Done("the old primary's etcd cannot be reached from here".into());
    }
    Outcome::Warned(format!(
        "the old primary's etcd still answers at {}: stop forwarding port {CLIENT_PORT} on the virtual IPs of both clusters \
         (the promoted cluster is safe meanwhile: no synchronizer can write to it)",
        open.join(", ")
    ))
}

async fn is_open(address: &str) -> bool {
    matches!(timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await, Ok(Ok(_)))
}

/// Host and port of an endpoint.
fn address(endpoint: &str) -> String {
    let bare = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest).trim_end_matches('/');
    let has_port = bare.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if has_port { bare.to_owned() } else { format!("{bare}:{CLIENT_PORT}") }
}

#[cfg(test)]
mod tests {
    use super::address;

    #[test]
    fn an_endpoint_has_an_address() {
        assert_eq!(address("https://10.0.0.1:2379"), "10.0.0.1:2379");
        assert_eq!(address("http://[fd00::1]:12379/"), "[fd00::1]:12379");
        assert_eq!(address("https://[fd00::1]"), "[fd00::1]:2379");
        assert_eq!(address("etcd.example.com"), "etcd.example.com:2379");
    }
}
