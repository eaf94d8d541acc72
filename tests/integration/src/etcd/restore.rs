//! Snapshots, and clusters made from them.

use std::path::Path;

use anyhow::{Context, Result};

use super::member::Member;
use super::{Cluster, ClusterOptions};

impl Cluster {
    /// Saves a snapshot of the first running member.
    pub async fn snapshot_save(&self, path: &Path) -> Result<()> {
        let running = self.members.iter().position(|member| member.running()).context("no member runs")?;
        let path = path.to_str().context("the snapshot's path is not UTF-8")?;
        self.etcdctl_at(running, &["snapshot", "save", path]).await.map(drop)
    }

    /// Starts a new cluster (another cluster id) from a snapshot. Authentication is part of a snapshot:
    /// `options.auth` must say whether it was on.
    pub async fn restore(snapshot: &Path, options: ClusterOptions) -> Result<Cluster> {
        Cluster::retry_start(&options, Some(snapshot)).await
    }

    /// Puts this cluster back to a snapshot, the way an operator does it: same addresses, same cluster id, and a
    /// history that goes back. All members are killed and start again.
    pub async fn restore_in_place(&self, snapshot: &Path) -> Result<()> {
        self.restore_in_place_with(snapshot, &[]).await
    }

    /// The same with more flags for `etcdutl snapshot restore`, such as `--bump-revision`.
    pub async fn restore_in_place_with(&self, snapshot: &Path, flags: &[&str]) -> Result<()> {
        self.kill_all()?;
        for member in &self.members {
            std::fs::remove_dir_all(member.data_dir(&self.plan)).context("remove a member's data")?;
        }
        self.restore_data(snapshot, flags).await?;
        // etcd makes a request with an older token wait until its log is as long as it was at the authentication: forever.
        self.forget_client();
        self.start_members().await.context("start the restored members")
    }

    /// Puts each member back to a snapshot of its own: from then on they disagree, and do not know it. The snapshots should be of clusters
    /// that differ in little: a member that applies another one's changes ends where it cannot.
    pub async fn restore_apart(&self, snapshots: &[&Path]) -> Result<()> {
        self.kill_all()?;
        for (member, snapshot) in self.members.iter().zip(snapshots) {
            std::fs::remove_dir_all(member.data_dir(&self.plan)).context("remove a member's data")?;
            self.restore_member(member, snapshot, &[]).await?;
        }
        self.forget_client();
        self.start_members().await.context("start the restored members")
    }

    pub(super) async fn restore_data(&self, snapshot: &Path, flags: &[&str]) -> Result<()> {
        for member in &self.members {
            self.restore_member(member, snapshot, flags).await?;
        }
        Ok(())
    }

    async fn restore_member(&self, member: &Member, snapshot: &Path, flags: &[&str]) -> Result<()> {
        let mut args = vec![
            "snapshot".to_owned(),
            "restore".to_owned(),
            snapshot.display().to_string(),
            format!("--name={}", member.name),
            format!("--data-dir={}", member.data_dir(&self.plan).display()),
            format!("--initial-cluster={}", self.plan.initial_cluster),
            format!("--initial-cluster-token={}", self.plan.token),
            format!("--initial-advertise-peer-urls={}", member.peer_url(self.plan.scheme())),
        ];
        args.extend(flags.iter().map(|&flag| flag.to_owned()));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        self.etcdutl(&args).await.context("restore a member's data").map(drop)
    }
}
