//! A synchronizer that is cut off while its standby is promoted, and healed later.
//!
//! It runs in a network namespace of its own, which takes CAP_NET_ADMIN and Linux's `ip`: without them the test fails and
//! says so. What it sends meanwhile waits in its sockets and arrives when the link is healed.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use etcd_sync_integration::daemon::Daemon;
use etcd_sync_integration::load::{Writer, WriterOptions};
use etcd_sync_integration::tools;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_synchronizer_that_was_cut_off_writes_nothing_after_the_promotion() -> Result<()> {
    let link = Link::start(ClusterOptions::default(), ClusterOptions::default()).await?;
    let keys = config_keys(40);
    for key in &keys {
        link.primary.put(key, "first").await?;
    }
    let folder = tempfile::tempdir()?;
    let network = Network::new()?;
    let (primary, standby) = (network.forward(&link.primary).await?, network.forward(&link.standby).await?);
    let program = network.wrapper(folder.path(), &tools::etcd_sync()?)?;
    let flags = [
        format!("--primary-endpoints={primary}"),
        format!("--standby-endpoints={standby}"),
        "--leader-ttl=60s".to_owned(),
    ];
    let daemon = Daemon::start_program(&program, &flags, &[])?;
    daemon.wait_line("Start Sync update", PATIENCE).await?;
    let writer =
        Writer::start(link.primary.client(), WriterOptions { per_second: 500.0, ..WriterOptions::new(keys.clone()) });
    link.await_passed(link.primary.revision().await?, PATIENCE).await?;

    // In the middle of its work. Its lease still lives, so it believes to be the leader.
    network.cut()?;
    let candidates = link.candidates().await?.len();
    ensure!(candidates == 1, "{candidates} candidates");
    let flags = ["--yes", "--accept-unchecked", "--despite-live-primary=lose its writes"];
    let output = run(&link, "failover", folder.path(), &flags).await?;
    ensure!(output.code == Some(0), "{output:?}");
    let promoted = link.synchronized_state().await?;

    network.heal()?;
    // It receives from the primary again, and everything it sent and tried arrives.
    daemon.wait_line("was promoted", PATIENCE).await?;
    ensure!(writer.stop().await?.errors == 0, "the writer had trouble");
    let log = daemon.lines();
    ensure!(link.synchronized_state().await? == promoted, "it wrote to the promoted cluster:\n{}", log.join("\n"));
    ensure!(role(&link.standby, &link).await? == "primary");
    Ok(())
}

/// A namespace, and a link between it and this one.
struct Network {
    name: String,
    outside: String,
    /// Ours on the link.
    address: String,
    forwards: std::sync::Mutex<JoinSet<()>>,
}

impl Network {
    fn new() -> Result<Network> {
        let id = std::process::id() % 4_096;
        let (name, outside) = (format!("etcd-sync-{id}"), format!("es{id}o"));
        let (net, inside) = (format!("10.{}.{}", 200 + id / 256, id % 256), format!("es{id}i"));
        let network = Network {
            name: name.clone(),
            outside: outside.clone(),
            address: format!("{net}.1"),
            forwards: Default::default(),
        };
        let (here, there) = (format!("{net}.1/24"), format!("{net}.2/24"));
        ip(&["netns", "add", &name])?;
        ip(&["link", "add", &outside, "type", "veth", "peer", "name", &inside, "netns", &name])?;
        ip(&["address", "add", &here, "dev", &outside])?;
        ip(&["link", "set", &outside, "up"])?;
        ip(&["-n", &name, "address", "add", &there, "dev", &inside])?;
        ip(&["-n", &name, "link", "set", &inside, "up"])?;
        ip(&["-n", &name, "link", "set", "lo", "up"])?;
        Ok(network)
    }

    /// The URL under which a cluster of this machine's loopback is reached from inside.
    async fn forward(&self, cluster: &etcd_sync_integration::etcd::Cluster) -> Result<String> {
        let to: SocketAddr = cluster.endpoint(0).trim_start_matches("http://").parse()?;
        let listener = TcpListener::bind((self.address.as_str(), 0)).await.context("listen on the link")?;
        let url = format!("http://{}", listener.local_addr()?);
        let forward = async move {
            let mut connections = JoinSet::new();
            while let Ok((mut from, _)) = listener.accept().await {
                connections.spawn(async move {
                    if let Ok(mut to) = TcpStream::connect(to).await {
                        let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
                    }
                });
            }
        };
        self.forwards.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).spawn(forward);
        Ok(url)
    }

    /// A program that runs another one inside.
    fn wrapper(&self, folder: &Path, program: &Path) -> Result<std::path::PathBuf> {
        let path = folder.join("inside");
        std::fs::write(&path, format!("#!/bin/sh\nexec ip netns exec {} '{}' \"$@\"\n", self.name, program.display()))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        Ok(path)
    }

    fn cut(&self) -> Result<()> {
        ip(&["link", "set", &self.outside, "down"])
    }

    fn heal(&self) -> Result<()> {
        ip(&["link", "set", &self.outside, "up"])
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Its end of the link goes with it.
        let _ = ip(&["netns", "delete", &self.name]);
        let _ = ip(&["link", "delete", &self.outside]);
    }
}

fn ip(args: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(args).stdin(Stdio::null()).output();
    let output = output.context("run `ip`: install the package iproute2")?;
    match output.status.success() {
        true => Ok(()),
        false => {
            bail!("ip {}: {} (it takes CAP_NET_ADMIN)", args.join(" "), String::from_utf8_lossy(&output.stderr).trim())
        }
    }
}
