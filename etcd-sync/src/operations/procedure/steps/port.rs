//! Whether the old primary's etcd can still be reached.

use std::time::Duration;

use etcd_sync_operations::procedure::Outcome;
use futures_util::future::join_all;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::operations::procedure::Context;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const CLIENT_PORT: &str = "2379";

/// Only tells: nobody but the operator can close it, and the role keeps every synchronizer from writing.
pub async fn client_port(context: &Context<'_>) -> Outcome {
    let tried =
        join_all(context.pair.primary.addresses().into_iter().map(async |at| (is_open(&at.host, at.port).await, at)));
    let open: Vec<String> =
        tried.await.into_iter().filter(|(open, _)| *open).map(|(_, at)| at.authority().to_owned()).collect();
    if open.is_empty() {
        return Outcome::Done("the old primary's etcd cannot be reached from here".into());
    }
    Outcome::Warned(format!(
        "the old primary's etcd still answers at {}: stop forwarding port {CLIENT_PORT} on the virtual IPs of both clusters \
         (the promoted cluster is safe meanwhile: no synchronizer can write to it)",
        open.join(", ")
    ))
}

async fn is_open(host: &str, port: u16) -> bool {
    matches!(timeout(CONNECT_TIMEOUT, TcpStream::connect((host, port))).await, Ok(Ok(_)))
}
