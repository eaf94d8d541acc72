//! Members that come and go.

use anyhow::{Context, Result};

use super::member::Member;
use super::{Cluster, START_TIMEOUT};
use crate::ports;

impl Cluster {
    /// Starts every member again with other flags in place of those of [`super::ClusterOptions::extra_args`].
    pub async fn restart_with(&mut self, extra_args: &[&str]) -> Result<()> {
        self.plan.options.extra_args = extra_args.iter().map(|&arg| arg.to_owned()).collect();
        self.restart_all().await
    }

    /// Adds a member with another name, other ports and no data, takes this one out of the cluster, and kills it. Returns when the others
    /// serve. The cluster needs the flag `--strict-reconfig-check=false`: a change so soon after another one is refused otherwise.
    pub async fn replace_member(&mut self, index: usize) -> Result<()> {
        let list = self.etcdctl(&["member", "list"]).await?;
        let name = &self.members[index].name;
        // ID, status, name, peer URLs, client URLs, is learner
        let line =
            list.lines().find(|line| line.split(", ").nth(2) == Some(name)).context("a member that is listed")?;
        let id = line.split(", ").next().unwrap_or_default().to_owned();
        let scheme = self.plan.scheme();
        let others = self.members.iter().map(|member| format!("{}={}", member.name, member.peer_url(scheme)));
        let others = others.collect::<Vec<_>>().join(",");
        let new = Member::joining(format!("{name}-new"), &ports::free(4)?, &others, scheme);
        let urls = format!("--peer-urls={}", new.peer_url(scheme));
        self.etcdctl(&["member", "add", &new.name, &urls]).await?;
        new.spawn(&self.plan)?;
        new.await_health(&self.plan, START_TIMEOUT).await.context("start the new member")?;
        self.etcdctl(&["member", "remove", &id]).await?;
        let old = std::mem::replace(&mut self.members[index], new);
        old.kill()?;
        ports::release(old.ports());
        self.forget_client();
        // It may have been the leader.
        for member in &self.members {
            member.await_health(&self.plan, START_TIMEOUT).await.context("go on without the old member")?;
        }
        Ok(())
    }
}
