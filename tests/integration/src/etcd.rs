//! Real etcd clusters on loopback, with the faults a test needs.
//!
//! Every method takes `&self`: a test can kill a member while a writer uses the cluster.

mod access;
mod change;
mod member;
mod options;
mod restore;

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::certs::Certs;
use crate::client::Client;
use crate::ports;

use member::{Member, Plan};
pub use options::{ClusterOptions, PASSWORD, USER};

/// How long a member may take to serve. Generous: test machines are small and busy.
const START_TIMEOUT: Duration = Duration::from_secs(180);
/// Starts tried with new ports when another process took one in between.
const START_ATTEMPTS: usize = 5;

/// A running cluster. Dropping it kills its members and removes its folder, on a panic too. With the environment
/// variable `ETCD_SYNC_KEEP` set, the folder (data, logs, certificates) stays and its path is printed.
#[derive(Debug)]
pub struct Cluster {
    members: Vec<Member>,
    plan: Plan,
    /// For the harness's own reads and writes; made at the first one.
    client: Mutex<Option<Client>>,
    // Last: it goes after the processes that write into it.
    folder: Option<TempDir>,
}

impl Cluster {
    /// Starts a cluster and waits until every member serves.
    pub async fn start(options: ClusterOptions) -> Result<Cluster> {
        let cluster = Cluster::retry_start(&options, None).await?;
        if options.auth {
            cluster.enable_auth().await?;
        }
        Ok(cluster)
    }

    /// Tries until no port is taken. `snapshot` is restored into the data folders first.
    async fn retry_start(options: &ClusterOptions, snapshot: Option<&std::path::Path>) -> Result<Cluster> {
        let mut attempt = 1;
        loop {
            let cluster = Cluster::lay_out(options.clone())?;
            if let Some(snapshot) = snapshot {
                cluster.restore_data(snapshot, &[]).await?;
            }
            match cluster.start_members().await {
                Ok(()) => return Ok(cluster),
                Err(error) if attempt < START_ATTEMPTS && cluster.lost_a_port() => {
                    eprintln!("start {attempt} of a cluster lost a port, trying others: {error:#}");
                }
                Err(error) => return Err(error.context("start an etcd cluster")),
            }
            attempt += 1;
        }
    }

    /// Chooses ports, makes folders and certificates; starts nothing.
    fn lay_out(options: ClusterOptions) -> Result<Cluster> {
        ensure!(options.members >= 1, "a cluster has at least one member");
        let folder = tempfile::Builder::new().prefix("etcd-sync-cluster-").tempdir().context("make a folder")?;
        let ports = ports::free(4 * options.members)?;
        let members: Vec<Member> = ports.chunks(4).enumerate().map(|(i, ports)| Member::new(i, ports)).collect();
        Cluster::write_password(folder.path())?;
        let certs = options.tls.then(|| Certs::create_at(folder.path(), &options.addresses)).transpose()?;
        // The folder's name is unique on the machine, and the cluster id is a hash of token and peer addresses.
        let token = options.token.clone().unwrap_or_else(|| folder.path().to_string_lossy().into_owned());
        let path = folder.path().to_owned();
        let mut plan = Plan { options, folder: path, certs, token, initial_cluster: String::new() };
        let peers = members.iter().map(|member| format!("{}={}", member.name, member.peer_url(plan.scheme())));
        plan.initial_cluster = peers.collect::<Vec<_>>().join(",");
        Ok(Cluster { members, plan, client: Mutex::default(), folder: Some(folder) })
    }

    async fn start_members(&self) -> Result<()> {
        for member in &self.members {
            member.spawn(&self.plan)?;
        }
        for member in &self.members {
            member.await_health(&self.plan, START_TIMEOUT).await?;
        }
        Ok(())
    }

    fn lost_a_port(&self) -> bool {
        self.members.iter().any(|member| member.log_tail(&self.plan.folder).contains("address already in use"))
    }

    /// How many members the cluster has, running or not.
    pub fn members(&self) -> usize {
        self.members.len()
    }

    /// Its certificates; `None` without TLS.
    pub fn certs(&self) -> Option<&Certs> {
        self.plan.certs.as_ref()
    }

    /// The data folder of a member.
    pub fn data_dir(&self, index: usize) -> PathBuf {
        self.members[index].data_dir(&self.plan)
    }

    /// The process of a member that runs.
    pub fn process_id(&self, index: usize) -> Result<u32> {
        self.members[index].process().as_ref().map(|process| process.id()).context("the member does not run")
    }

    /// SIGKILL. Its memory is gone, its disk stays.
    pub fn kill_member(&self, index: usize) -> Result<()> {
        self.members[index].kill()
    }

    /// SIGSTOP: connections stay open and nobody answers, as with a cut network or a frozen machine.
    pub fn pause_member(&self, index: usize) -> Result<()> {
        self.members[index].signal(Signal::SIGSTOP)
    }

    /// SIGCONT, after [`Cluster::pause_member`].
    pub fn resume_member(&self, index: usize) -> Result<()> {
        self.members[index].signal(Signal::SIGCONT)
    }

    /// Starts a member again on its ports and data, killing it first if it runs, and waits until it serves. Without
    /// a quorum it cannot: bring members back together with [`Cluster::restart_members`].
    pub async fn restart_member(&self, index: usize) -> Result<()> {
        self.restart_members(&[index]).await
    }

    /// Restarts several members, then waits for all of them.
    pub async fn restart_members(&self, indexes: &[usize]) -> Result<()> {
        for &index in indexes {
            self.members[index].kill()?;
            self.members[index].spawn(&self.plan)?;
        }
        for &index in indexes {
            self.members[index].await_health(&self.plan, START_TIMEOUT).await.context("restart a member")?;
        }
        Ok(())
    }

    /// Kills every member: the whole cluster is gone, as in a disaster.
    pub fn kill_all(&self) -> Result<()> {
        self.members.iter().try_for_each(Member::kill)
    }

    /// Restarts every member.
    pub async fn restart_all(&self) -> Result<()> {
        self.restart_members(&(0..self.members.len()).collect::<Vec<_>>()).await
    }

    /// Whether a member serves linearizable reads right now.
    pub async fn healthy(&self, index: usize) -> bool {
        self.members[index].healthy().await
    }

    /// Lets the members run on and keeps the folder, for somebody to look at. Returns the process ids and the folder.
    pub fn disarm(mut self) -> (Vec<u32>, PathBuf) {
        let processes = self.members.iter().filter_map(|member| member.process().take());
        let ids = processes.map(crate::process::Process::disarm).collect();
        let folder = self.folder.take().map(TempDir::keep).unwrap_or_default();
        (ids, folder)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // An error here has nobody to go to; each process is killed once more when its handle goes.
        let _ = self.kill_all();
        ports::release(self.members.iter().flat_map(Member::ports));
        if std::env::var_os("ETCD_SYNC_KEEP").is_some()
            && let Some(folder) = self.folder.take()
        {
            eprintln!("ETCD_SYNC_KEEP: {}", folder.keep().display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::EtcdVersion;

    #[tokio::test]
    async fn a_lost_port_is_noticed() -> Result<()> {
        for version in [EtcdVersion::V3_5, EtcdVersion::V3_6] {
            let cluster = Cluster::lay_out(ClusterOptions { version, ..ClusterOptions::three() })?;
            let _thief = std::net::TcpListener::bind(("127.0.0.1", cluster.members[1].client_port))?;
            assert!(cluster.start_members().await.is_err());
            assert!(cluster.lost_a_port());
        }
        Ok(())
    }
}
