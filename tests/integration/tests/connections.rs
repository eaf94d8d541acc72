//! Real etcds that are unlike others: dead addresses, replaced members, proxies, odd certificates, small transactions.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use bytes::Bytes;
use etcd_sync_core::etcd::kv::KeyRange;
use etcd_sync_core::etcd::request::{Op, Txn};
use etcd_sync_integration::certs::{Authority, self_signed};
use etcd_sync_integration::compare::{await_true, await_until};
use etcd_sync_integration::etcd::{Cluster, ClusterOptions};
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::link::{Link, config_keys};
use etcd_sync_integration::ports;
use etcd_sync_integration::process::Process;
use etcd_sync_integration::tools::EtcdVersion;
use etcd_sync_integration::virtual_ip::VirtualIp;
use etcd_sync_store::{Error, Etcd, Options, Side, TlsFiles, WatchError, WatchMessage};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

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

/// A member that answers and applies nothing is what a hanging disk makes of it. Here it is played by another cluster with the same id, to which
/// nobody writes; a proxy leads there first, and to the one that is written for every later connection.
#[tokio::test]
async fn a_member_that_has_stopped_applying_loses_its_watch() -> Result<()> {
    let peer = "http://127.0.0.1:9";
    let extra_args = vec![format!("--initial-advertise-peer-urls={peer}"), format!("--initial-cluster=m0={peer}")];
    let alike =
        || ClusterOptions { token: Some("alike".to_owned()), extra_args: extra_args.clone(), ..Default::default() };
    let (stalled, moving) = tokio::try_join!(Cluster::start(alike()), Cluster::start(alike()))?;
    assert_eq!(stalled.client().cluster_id().await?, moving.client().cluster_id().await?);
    stalled.put(b"/registry/a", b"1").await?;
    for _ in 0..10 {
        moving.put(b"/registry/a", b"2").await?;
    }
    let address =
        |cluster: &Cluster| -> Result<SocketAddr> { Ok(cluster.endpoint(0).trim_start_matches("http://").parse()?) };
    let (first, later) = (address(&stalled)?, address(&moving)?);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let url = format!("http://{}", listener.local_addr()?);
    let proxy = tokio::spawn(async move {
        let (mut to, mut connections) = (first, JoinSet::new());
        while let Ok((mut client, _)) = listener.accept().await {
            connections.spawn(async move { copy_bidirectional(&mut client, &mut TcpStream::connect(to).await?).await });
            to = later;
        }
    });
    let mut options = Options::new(Side::Primary, vec![url]);
    options.watch_silence = Duration::from_secs(2);
    let client = Etcd::new(options)?;
    let mut watch = client.watch(KeyRange::prefix(b"/registry/"), 0).await?;
    let ended = tokio::time::timeout(PATIENCE, async {
        loop {
            client.identity().await?;
            match watch.next().await {
                Ok(WatchMessage::Progress { revision: 2 }) => {}
                ended => return anyhow::Ok(ended),
            }
        }
    });
    let ended = ended.await??;
    proxy.abort();
    let Err(WatchError::Store(error @ Error::Stalled { revision: 2, head: 11, .. })) = ended else {
        bail!("{ended:?}")
    };
    ensure!(error.to_string().contains("stopped applying"), "{error}");
    Ok(())
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

/// Three members, each of which a test replaces soon after another.
fn replaceable() -> ClusterOptions {
    let extra_args = vec!["--strict-reconfig-check=false".to_owned()];
    ClusterOptions { extra_args, ..ClusterOptions::three() }
}

#[tokio::test]
async fn a_client_outlives_the_replacement_of_every_member_that_it_was_given() -> Result<()> {
    let mut cluster = Cluster::start(ClusterOptions { tls: true, auth: true, ..replaceable() }).await?;
    let client = cluster.store(Side::Primary)?;
    let given = cluster.endpoints();
    cluster.put(b"/registry/a", b"1").await?;
    for index in 0..cluster.members() {
        cluster.replace_member(index).await?;
        let new = cluster.endpoint(index);
        await_true("the client knows the new member", PATIENCE, || async {
            // The member in use may be the one that has just gone.
            let _ = client.identity().await;
            Ok(client.listed_endpoints().contains(&new))
        })
        .await?;
    }
    assert!(cluster.endpoints().iter().all(|endpoint| !given.contains(endpoint)));
    let revision = cluster.put(b"/registry/a", b"2").await?;
    assert_eq!(client.identity().await?.revision, revision);
    let mut watch = client.watch(KeyRange::prefix(b"/registry/"), revision).await?;
    let message = tokio::time::timeout(PATIENCE, watch.next()).await??;
    ensure!(matches!(message, WatchMessage::Events { .. }), "{message:?}");
    let mut listed = client.listed_endpoints();
    listed.sort();
    let mut endpoints = cluster.endpoints();
    endpoints.sort();
    assert_eq!(listed, endpoints, "those that left are forgotten");
    Ok(())
}

/// Both sides of a running link.
#[tokio::test]
async fn a_running_link_outlives_the_replacement_of_every_member() -> Result<()> {
    let mut link = Link::start(replaceable(), replaceable()).await?;
    let daemon = link.daemon(&["--log-level=debug"])?;
    link.primary.put(&config_keys(1)[0], "first").await?;
    link.await_equal(PATIENCE).await?;
    let given = [link.primary.endpoints(), link.standby.endpoints()].concat();
    for index in 0..3 {
        let mark = daemon.mark();
        tokio::try_join!(link.primary.replace_member(index), link.standby.replace_member(index))?;
        for endpoint in [link.primary.endpoint(index), link.standby.endpoint(index)] {
            let named = format!("the member list names another endpoint endpoint={endpoint}");
            daemon.wait_line_from(mark, &named, PATIENCE).await?;
        }
    }
    link.primary.put(&config_keys(2)[1], "second").await?;
    link.await_equal(PATIENCE).await?;
    let lines = daemon.lines();
    let warned = lines.iter().filter(|line| line.contains("no endpoint that was given works")).count();
    ensure!((2..10).contains(&warned), "said {warned} times that it uses others:\n{}", daemon.tail());
    for endpoint in given {
        let failed = lines.iter().filter(|line| line.contains("WARN endpoint failed") && line.contains(&endpoint));
        let failed = failed.count();
        ensure!(failed <= 4, "{failed} warnings for {endpoint}:\n{}", daemon.tail());
    }
    Ok(())
}

/// A forwarded port or a virtual IP is closed to keep us out, too: what the members call themselves is no way around it.
#[tokio::test]
async fn members_behind_a_forwarded_port_are_not_gone_to_directly() -> Result<()> {
    let cluster = Cluster::start(ClusterOptions::default()).await?;
    let port: u16 = cluster.endpoint(0).rsplit_once(':').expect("a port").1.parse()?;
    let mut front = VirtualIp::new();
    front.open(2379, (Ipv4Addr::LOCALHOST, port).into()).await?;
    let mut options = cluster.store_options(Side::Primary);
    options.endpoints = vec![format!("http://{}:2379", front.address())];
    options.request_timeout = Duration::from_secs(2);
    let client = Etcd::new(options)?;
    // More than the list needs.
    for _ in 0..8 {
        client.identity().await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(client.listed_endpoints(), Vec::<String>::new());
    front.close(2379).await;
    let error = client.identity().await.expect_err("the port is closed").to_string();
    ensure!(error.contains(&format!("{}:2379", front.address())), "{error}");
    Ok(())
}

/// A gRPC proxy in front of the first member of a cluster; the URL at which it listens.
async fn grpc_proxy(cluster: &Cluster, version: EtcdVersion) -> Result<(Process, String)> {
    let [port] = ports::free(1)?[..] else { bail!("one port was asked for") };
    let member = cluster.endpoint(0);
    let mut command = Command::new(version.program("etcd")?);
    command.env_clear().args(["grpc-proxy", "start", &format!("--endpoints={member}")]);
    command.args([format!("--listen-addr=127.0.0.1:{port}"), format!("--advertise-client-url=127.0.0.1:{port}")]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let process = Process::spawn("etcd grpc-proxy", command)?;
    await_true("the proxy listens", PATIENCE, || async {
        Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok())
    })
    .await?;
    Ok((process, format!("http://127.0.0.1:{port}")))
}

/// It answers no request for progress, so its watches would look dead whenever the cluster is quiet.
#[tokio::test]
async fn a_grpc_proxy_is_refused_by_name() -> Result<()> {
    for version in [EtcdVersion::V3_6, EtcdVersion::V3_5] {
        let cluster = Cluster::start(ClusterOptions { version, ..ClusterOptions::default() }).await?;
        let revision = cluster.put(b"/registry/a", b"1").await?;
        let (_proxy, url) = grpc_proxy(&cluster, version).await?;
        let mut options = cluster.store_options(Side::Standby);
        options.endpoints = vec![url.clone()];
        let client = Etcd::new(options.clone())?;
        let error = client.identity().await.expect_err("a proxy is no member");
        let text = error.to_string();
        ensure!(matches!(error, Error::GrpcProxy { .. }) && text.contains(&url), "{text}");
        ensure!(text.contains("etcd grpc-proxy") && text.contains("--standby-endpoints"), "{text}");
        let watched = client.watch(KeyRange::prefix(b"/registry/"), 0).await;
        ensure!(matches!(watched, Err(WatchError::Store(Error::GrpcProxy { .. }))), "{watched:?}");
        // Beside a member it is passed by.
        options.endpoints.push(cluster.endpoint(0));
        assert_eq!(Etcd::new(options)?.identity().await?.revision, revision);
    }
    Ok(())
}

/// A cluster whose members serve clients with this certificate and trust those of `trusted`.
async fn served_with(cert: &Path, key: &Path, trusted: &Path) -> Result<Cluster> {
    let flags = [("cert", cert), ("key", key), ("trusted-ca", trusted)];
    let extra_args = flags.iter().map(|(flag, file)| format!("--{flag}-file={}", file.display())).collect();
    Cluster::start(ClusterOptions { tls: true, extra_args, ..ClusterOptions::default() }).await
}

/// `openssl req -x509` makes a certificate that is its own CA; many a small etcd is served with one.
#[tokio::test]
async fn a_server_certificate_that_is_its_own_ca_is_called_so() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = |name: &str| folder.path().join(name);
    let authority = Authority::create(&file("ca.crt"))?;
    authority.issue("a client", None, &file("client.crt"), &file("client.key"))?;
    for is_authority in [true, false] {
        self_signed("etcd", is_authority, &file("self.crt"), &file("self.key"))?;
        let cluster = served_with(&file("self.crt"), &file("self.key"), &file("ca.crt")).await?;
        let mut options = cluster.store_options(Side::Primary);
        let (cert, key) = (Some(file("client.crt")), Some(file("client.key")));
        options.tls = Some(TlsFiles { ca: Some(file("self.crt")), cert, key });
        let asked = Etcd::new(options)?.identity().await;
        if is_authority {
            let text = asked.expect_err("a CA's certificate").to_string();
            ensure!(text.contains("CA:TRUE") && text.contains("CA:FALSE") && text.contains("--cert-file"), "{text}");
            ensure!(text.contains("give the CA in --primary-cacert"), "{text}");
        } else {
            asked?;
        }
    }
    Ok(())
}

/// The other direction: etcd takes any certificate that its file holds, and ours is named when the file does not.
#[tokio::test]
async fn a_client_certificate_that_is_its_own_ca_works_or_is_called_so() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = |name: &str| folder.path().join(name);
    let authority = Authority::create(&file("ca.crt"))?;
    authority.issue("etcd", None, &file("server.crt"), &file("server.key"))?;
    for is_authority in [true, false] {
        self_signed("a client", is_authority, &file("self.crt"), &file("self.key"))?;
        let both = [std::fs::read(file("ca.crt"))?, std::fs::read(file("self.crt"))?].concat();
        std::fs::write(file("both.crt"), both)?;
        for trusted in ["both.crt", "ca.crt"] {
            let cluster = served_with(&file("server.crt"), &file("server.key"), &file(trusted)).await?;
            let mut options = cluster.store_options(Side::Primary);
            let (cert, key) = (Some(file("self.crt")), Some(file("self.key")));
            options.tls = Some(TlsFiles { ca: Some(file("ca.crt")), cert, key });
            let client = Etcd::new(options)?;
            if trusted == "both.crt" {
                client.identity().await?;
                continue;
            }
            // etcd's reason is lost when it closes the connection before we have read it: now and then, and not the next time.
            await_until("our certificate is named", PATIENCE, || async {
                let text = client.identity().await.expect_err("etcd does not know it").to_string();
                let named = text.contains("signed by itself") && text.contains("--primary-cert");
                Ok((!named).then_some(text))
            })
            .await?;
        }
    }
    Ok(())
}

/// What a first sync, changes, what is put back, and a resync with deletions send: all of it fits.
#[tokio::test]
async fn a_standby_that_takes_few_operations_gets_smaller_transactions() -> Result<()> {
    // The least that goes, and something in between.
    tokio::try_join!(few_operations(9), few_operations(16)).map(drop)
}

async fn few_operations(max: usize) -> Result<()> {
    let standby = ClusterOptions { extra_args: vec![format!("--max-txn-ops={max}")], ..ClusterOptions::default() };
    let link = Link::start(ClusterOptions::default(), standby).await?;
    let keys = config_keys(300);
    let put_all = async |value: &'static str| {
        for part in keys.chunks(100) {
            let put = |key: &Bytes| Op::Put { key: key.clone(), value: value.into(), lease: 0 };
            let success = part.iter().map(put).collect();
            link.primary.client().txn(Txn { success, ..Txn::default() }).await?;
        }
        anyhow::Ok(())
    };
    put_all("first").await?;
    let daemon = link.daemon(&[])?;
    link.await_equal(PATIENCE).await?;
    let line = daemon.wait_line("the standby accepts only transactions of fewer operations", PATIENCE).await?;
    ensure!(line.contains("WARN"), "{line}");
    put_all("second").await?;
    link.await_equal(PATIENCE).await?;
    // Put back, each with a compare of its own.
    let lost = |key: &Bytes| Op::Delete { key: key.clone() };
    let success = keys[..100].iter().map(lost).collect::<Vec<_>>();
    for part in success.chunks(8) {
        link.standby.client().txn(Txn { success: part.to_vec(), ..Txn::default() }).await?;
    }
    await_true("what was lost is put back", PATIENCE, || async { Ok(link.difference().await?.is_empty()) }).await?;
    let shrunk = daemon.lines().iter().filter(|line| line.contains("fewer operations")).count();
    // To 63, 31, 15 and 8.
    ensure!(shrunk <= 4, "shrunk {shrunk} times:\n{}", daemon.tail());
    // Deleted while nobody looked, and the history is gone: a resync by difference deletes them.
    daemon.terminate(PATIENCE).await?;
    let success = keys[..100].iter().map(lost).collect();
    link.primary.client().txn(Txn { success, ..Txn::default() }).await?;
    link.primary.put(&keys[0], "third").await?;
    link.primary.compact(link.primary.revision().await?).await?;
    let daemon = link.daemon(&[])?;
    link.await_equal(PATIENCE).await?;
    let begun = daemon.lines().iter().any(|line| line.contains("resync by difference begins"));
    ensure!(begun, "{}", daemon.tail());
    Ok(())
}
