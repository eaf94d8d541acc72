//! How tests and programs reach a cluster: the tools, the flags, a client.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use etcd_sync_core::etcd::kv::{KeyValue, Revision};
use etcd_sync_core::etcd::request::{Op, Txn};
use etcd_sync_store::{Auth, Etcd, Options, Side, TlsFiles};
use tokio::process::Command;

use super::{Cluster, PASSWORD, USER};
use crate::client::Client;

/// Longest run of an etcd tool: a snapshot of a full cluster on a busy machine.
const TOOL_TIMEOUT: Duration = Duration::from_secs(120);
/// Longest time until members that live have agreed on a leader, and answer again.
const ELECTION_TIMEOUT: Duration = Duration::from_secs(30);

impl Cluster {
    /// The client URL of every member, running or not.
    pub fn endpoints(&self) -> Vec<String> {
        (0..self.members.len()).map(|index| self.endpoint(index)).collect()
    }

    /// The client URL of one member.
    pub fn endpoint(&self, index: usize) -> String {
        format!("{}://127.0.0.1:{}", self.plan.scheme(), self.members[index].client_port)
    }

    /// The flags that make `etcd-sync` use this cluster as its primary or its standby.
    pub fn flags(&self, side: Side) -> Vec<String> {
        let mut flags = vec![format!("--{side}-endpoints={}", self.endpoints().join(","))];
        if let Some(certs) = &self.plan.certs {
            flags.push(format!("--{side}-cacert={}", certs.ca.display()));
            flags.push(format!("--{side}-cert={}", certs.client_cert.display()));
            flags.push(format!("--{side}-key={}", certs.client_key.display()));
        }
        if self.plan.options.auth {
            flags.push(format!("--{side}-user={USER}"));
            flags.push(format!("--{side}-password-file={}", self.password_file().display()));
        }
        flags
    }

    /// The options of a client of this cluster as `etcd-sync` has it, for tests of the store.
    pub fn store_options(&self, side: Side) -> Options {
        let tls = self.plan.certs.as_ref().map(|certs| TlsFiles {
            ca: Some(certs.ca.clone()),
            cert: Some(certs.client_cert.clone()),
            key: Some(certs.client_key.clone()),
        });
        let auth = self.plan.options.auth;
        let auth = auth.then(|| Auth { user: USER.to_owned(), password_file: self.password_file() });
        // The default 10 s can be short on a test machine that builds something else.
        Options { tls, auth, request_timeout: Duration::from_secs(30), ..Options::new(side, self.endpoints()) }
    }

    /// A new client of this cluster as `etcd-sync` has it, with connections of its own, for tests of the store.
    pub fn store(&self, side: Side) -> Result<Etcd> {
        Etcd::new(self.store_options(side)).context("make a client of the cluster")
    }

    /// Runs `etcdctl` against all members and returns its standard output. etcdctl fails over between endpoints.
    pub async fn etcdctl(&self, args: &[&str]) -> Result<String> {
        self.etcdctl_with(&self.endpoints().join(","), args, self.plan.options.auth).await
    }

    /// Runs `etcdctl` against one member.
    pub async fn etcdctl_at(&self, index: usize, args: &[&str]) -> Result<String> {
        self.etcdctl_with(&self.endpoint(index), args, self.plan.options.auth).await
    }

    /// Runs `etcdutl`, which works on files.
    pub async fn etcdutl(&self, args: &[&str]) -> Result<String> {
        let mut command = Command::new(self.plan.options.version.program("etcdutl")?);
        command.env_clear().args(args);
        run_tool("etcdutl", command, args).await
    }

    async fn etcdctl_with(&self, endpoints: &str, args: &[&str], login: bool) -> Result<String> {
        let mut command = Command::new(self.plan.options.version.program("etcdctl")?);
        command.env_clear().env("ETCDCTL_ENDPOINTS", endpoints);
        if let Some(certs) = &self.plan.certs {
            command.env("ETCDCTL_CACERT", &certs.ca).env("ETCDCTL_CERT", &certs.client_cert);
            command.env("ETCDCTL_KEY", &certs.client_key);
        }
        if login {
            command.env("ETCDCTL_USER", USER).env("ETCDCTL_PASSWORD", PASSWORD);
        }
        command.arg("--command-timeout=60s").args(args);
        run_tool("etcdctl", command, args).await
    }

    pub(super) async fn enable_auth(&self) -> Result<()> {
        let endpoints = self.endpoints().join(",");
        let add = format!("{USER}:{PASSWORD}");
        for args in [&["user", "add", &add][..], &["user", "grant-role", USER, "root"], &["auth", "enable"]] {
            self.etcdctl_with(&endpoints, args, false).await.context("switch authentication on")?;
        }
        Ok(())
    }

    pub(super) fn write_password(folder: &Path) -> Result<()> {
        // With the line end that every editor leaves: programs must not take it for a part of the password.
        std::fs::write(folder.join("password"), format!("{PASSWORD}\n")).context("write the password file")
    }

    fn password_file(&self) -> std::path::PathBuf {
        self.plan.folder.join("password")
    }

    /// What an operator does when it is full: deletes everything below a prefix, compacts, defragments and disarms the alarm.
    pub async fn make_space(&self, prefix: &str) -> Result<()> {
        self.etcdctl(&["del", "--prefix", prefix]).await?;
        self.compact(self.revision().await?).await?;
        self.etcdctl(&["defrag"]).await?;
        self.etcdctl(&["alarm", "disarm"]).await.map(drop)
    }

    /// Compacts the history up to and including `revision`, and waits until it is physically gone.
    pub async fn compact(&self, revision: Revision) -> Result<()> {
        match self.etcdctl(&["compaction", "--physical=true", &revision.to_string()]).await {
            // Asked again by etcdctl, because the first answer was lost.
            Err(error) if error.to_string().contains("has been compacted") => Ok(()),
            other => other.map(drop),
        }
    }

    /// The tests' own client of this cluster: what writes and judges in a test.
    pub fn client(&self) -> Client {
        let mut client = self.client.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let user = self.plan.options.auth.then_some((USER, PASSWORD));
        client.get_or_insert_with(|| self.client_as(user)).clone()
    }

    /// A client of its own, with another user and password, or without.
    pub fn client_as(&self, user: Option<(&str, &str)>) -> Client {
        Client::new(self.members.iter().map(|member| member.plain_url(&self.plan)).collect(), user)
    }

    /// The next use makes a new client.
    pub(super) fn forget_client(&self) {
        *self.client.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = None;
    }

    async fn write(&self, op: Op) -> Result<Revision> {
        let txn = Txn { success: vec![op], ..Txn::default() };
        let (client, deadline) = (self.client(), Instant::now() + ELECTION_TIMEOUT);
        loop {
            match client.txn(txn.clone()).await {
                // Several members may be electing; a lone one means what it says.
                Err(_) if self.members.len() > 1 && Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                answer => return Ok(answer?.revision),
            }
        }
    }

    /// Writes one key; returns its revision. With several members it is sent again when an answer is lost.
    pub async fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<Revision> {
        let (key, value) = (Bytes::copy_from_slice(key.as_ref()), Bytes::copy_from_slice(value.as_ref()));
        self.write(Op::Put { key, value, lease: 0 }).await
    }

    /// Deletes one key; returns the revision after it.
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<Revision> {
        self.write(Op::Delete { key: Bytes::copy_from_slice(key.as_ref()) }).await
    }

    /// Reads one key.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<KeyValue>> {
        Ok(self.client().get(key.as_ref()).await?.0)
    }

    /// The cluster's revision now.
    pub async fn revision(&self) -> Result<Revision> {
        Ok(self.client().get(b"\0").await?.1)
    }
}

async fn run_tool(name: &str, mut command: Command, args: &[&str]) -> Result<String> {
    // Only the leading words: what follows may be a value or a password.
    let shown = args.iter().take(2).copied().collect::<Vec<_>>().join(" ");
    command.kill_on_drop(true).stdin(Stdio::null());
    let output = tokio::time::timeout(TOOL_TIMEOUT, command.output()).await;
    let output = output.with_context(|| format!("{name} {shown} took longer than {TOOL_TIMEOUT:?}"))?;
    let output = output.with_context(|| format!("start {name}"))?;
    if !output.status.success() {
        bail!("{name} {shown} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("{name} {shown} printed bytes that are not UTF-8"))
}
