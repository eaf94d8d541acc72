//! An address of its own on the loopback network, whose ports lead elsewhere: a load balancer's virtual IP, or a node.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// The address and what it forwards. Dropping it closes everything.
#[derive(Debug)]
pub struct VirtualIp {
    address: Ipv4Addr,
    open: BTreeMap<u16, JoinHandle<()>>,
}

impl VirtualIp {
    /// An address that nobody else has: one of 16 million, so well-known ports are free there.
    pub fn new() -> VirtualIp {
        let [a, b, c, ..] = RandomState::new().hash_one(std::process::id()).to_be_bytes();
        // Not 127.0.*, where name servers of the machine may listen.
        VirtualIp { address: Ipv4Addr::new(127, a.max(1), b, c.clamp(1, 254)), open: BTreeMap::new() }
    }

    /// The address, of 127.0.0.0/8.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Forwards connections to one of its ports, until [`VirtualIp::close`].
    pub async fn open(&mut self, port: u16, to: SocketAddr) -> Result<()> {
        let listener = TcpListener::bind((self.address, port)).await;
        let listener = listener.with_context(|| format!("listen on {}:{port}", self.address))?;
        self.open.insert(port, tokio::spawn(forward(listener, to)));
        Ok(())
    }

    /// Refuses connections to this port from now on, and breaks those that there are.
    pub async fn close(&mut self, port: u16) {
        if let Some(task) = self.open.remove(&port) {
            task.abort();
            // Its listener and its connections go with it.
            let _ = task.await;
        }
    }
}

impl Default for VirtualIp {
    fn default() -> Self {
        VirtualIp::new()
    }
}

impl Drop for VirtualIp {
    fn drop(&mut self) {
        self.open.values().for_each(JoinHandle::abort);
    }
}

/// Forwards every connection, until the task is aborted: then they break.
pub async fn forward(listener: TcpListener, to: SocketAddr) {
    let mut connections = JoinSet::new();
    while let Ok((mut client, _)) = listener.accept().await {
        connections.spawn(async move {
            // An error breaks the connection, and so the client sees it.
            let mut server = TcpStream::connect(to).await?;
            tokio::io::copy_bidirectional(&mut client, &mut server).await
        });
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn it_leads_there_until_it_is_closed() -> Result<()> {
        let (mut vip, there) = (VirtualIp::new(), TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?);
        vip.open(2379, there.local_addr()?).await?;
        let mut here = TcpStream::connect((vip.address(), 2379)).await?;
        let (mut other, _) = there.accept().await?;
        other.write_all(b"hello").await?;
        let mut received = [0; 5];
        here.read_exact(&mut received).await?;
        assert_eq!(&received, b"hello");
        vip.close(2379).await;
        assert!(matches!(here.read(&mut received).await, Ok(0) | Err(_)));
        assert!(TcpStream::connect((vip.address(), 2379)).await.is_err());
        Ok(())
    }
}
