//! Connections to real etcds on bad days: long backlogs, dead addresses, replaced members, proxies, odd certificates.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bytes::Bytes;
use etcd_sync_core::etcd::kv::{KeyRange, Revision};
use etcd_sync_core::etcd::request::{Op, Txn};
use etcd_sync_integration::etcd::{Cluster, ClusterOptions};
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_store::{Etcd, Side, WatchMessage};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Changes few keys very often; returns the revision before the first change.
async fn change_often(cluster: &Cluster, keys: usize, changes: usize) -> Result<Revision> {
    const AT_ONCE: usize = 125;
    let before = cluster.put(b"/registry/first", b"").await?;
    let client = cluster.client();
    let txns = (0..changes / AT_ONCE).map(|number| {
        let keys = (0..AT_ONCE).map(move |i| (number * AT_ONCE + i) % keys);
        let put = |key| Op::Put {
            key: format!("/registry/busy/{key:04}").into(),
            value: Bytes::from(vec![b'x'; 1_000]),
            lease: 0,
        };
        let txn = Txn { success: keys.map(put).collect(), ..Txn::default() };
        let client = client.clone();
        async move { client.txn(txn).await.map(drop) }
    });
    stream::iter(txns).buffer_unordered(16).try_collect::<()>().await?;
    Ok(before)
}

/// etcd reads the whole backlog of a watch before it sends anything.
#[tokio::test]
async fn a_watch_with_a_long_backlog_is_waited_for() -> Result<()> {
    let cluster = Cluster::start(ClusterOptions::default()).await?;
    let start = change_often(&cluster, 500, 200_000).await? + 1;
    let head = cluster.revision().await?;
    let mut options = cluster.store_options(Side::Primary);
    options.watch_silence = Duration::from_millis(150);
    let client = Etcd::new(options)?;
    let began = Instant::now();
    let mut watch = client.watch(KeyRange::prefix(b"/registry/"), start).await?;
    let mut longest = Duration::ZERO;
    loop {
        let asked = Instant::now();
        let message = tokio::time::timeout(PATIENCE, watch.next()).await?;
        longest = longest.max(asked.elapsed());
        match message? {
            WatchMessage::Events { events, .. } if events.last().is_some_and(|event| event.revision() >= head) => break,
            WatchMessage::Events { .. } => {}
            WatchMessage::Progress { revision } => bail!("progress at {revision} before the last change at {head}"),
        }
    }
    eprintln!("longest silence {longest:?}, all after {:?}", began.elapsed());
    Ok(())
}

/// Where silence says nothing, the pings of the connection do.
#[tokio::test]
async fn a_member_that_freezes_loses_its_watch_however_long_silence_may_be() -> Result<()> {
    let cluster = Cluster::start(ClusterOptions::default()).await?;
    let head = cluster.put(b"/registry/a", b"1").await?;
    let mut options = cluster.store_options(Side::Primary);
    options.watch_silence = Duration::from_secs(3_600);
    let client = Etcd::new(options)?;
    let mut watch = client.watch(KeyRange::prefix(b"/registry/"), head).await?;
    cluster.pause_member(0)?;
    let ended = tokio::time::timeout(PATIENCE, async { while watch.next().await.is_ok() {} }).await;
    cluster.resume_member(0)?;
    Ok(ended?)
}

/// An address that answers nothing: its queue of connections is full, so the system drops what comes.
#[derive(Debug)]
struct Hole {
    address: SocketAddr,
    _listener: TcpListener,
    _queued: Vec<TcpStream>,
}

impl Hole {
    async fn open(address: SocketAddr) -> Result<Hole> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(address)?;
        let listener = socket.listen(1)?;
        let mut queued = Vec::new();
        while let Ok(connected) = tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
            queued.push(connected?);
        }
        Ok(Hole { address, _listener: listener, _queued: queued })
    }
}

/// A rescheduled member behind a headless Service, a site whose IPv6 is broken: the name has a dead address too, and first.
#[tokio::test]
async fn a_name_with_a_dead_address_connects_through_the_other_one() -> Result<()> {
    let cluster = Cluster::start(ClusterOptions { tls: true, ..ClusterOptions::default() }).await?;
    let port = cluster.endpoint(0).rsplit_once(':').expect("a port").1.parse()?;
    let dead = Hole::open((Ipv4Addr::new(127, 0, 0, 9), port).into()).await?;
    let mut options = cluster.store_options(Side::Primary);
    options.endpoints = vec![format!("https://localhost:{port}")];
    options.connect_timeout = Duration::from_secs(2);
    options.addresses.insert("localhost".to_owned(), vec![dead.address.ip(), Ipv4Addr::LOCALHOST.into()]);
    let revision = cluster.put(b"/registry/a", b"1").await?;
    let identity = Etcd::new(options)?.identity().await?;
    assert_eq!(identity.revision, revision);
    Ok(())
}
