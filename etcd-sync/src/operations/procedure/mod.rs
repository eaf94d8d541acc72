//! Runs of the failover commands: the journal, the order in which steps are taken, and the steps themselves.

mod execute;
pub mod facts;
pub mod journal;
pub mod look;
pub mod quiet;
pub mod runner;
pub mod steps;

use std::time::Duration;

use anyhow::{Context as _, Result};
use etcd_sync_cluster::Cluster;
use etcd_sync_core::scope::Scope;
use etcd_sync_kms::Encryption;
use etcd_sync_operations::api_server::ApiServers;
use etcd_sync_operations::procedure::{Command, DnsHow, Domain, Intent, WritersHow};
use etcd_sync_operations::restart::ELASTICSEARCH;
use etcd_sync_program::config::{Config, DnsChange, ProcedureConfig};
use etcd_sync_program::now_ms;
use etcd_sync_store::link::pair::Pair;
use etcd_sync_store::link::record::Record;

use crate::operations::dns::Dns;

pub use execute::{conduct, go_on_or_begin, other_command, show_copy};

/// A primary that may be gone is not waited for longer.
pub const PRIMARY_PATIENCE: Duration = Duration::from_secs(5);

/// What a command is made of, before anything is asked.
pub struct Equipment {
    pair: Pair,
    encryption: Encryption,
    dns: Option<Dns>,
    standby: Option<Cluster>,
    called_ms: u64,
}

/// What the steps work with.
pub struct Context<'a> {
    /// Everything that was given.
    pub config: &'a Config,
    /// How the command was called.
    pub procedure: &'a ProcedureConfig,
    /// And when, in Unix milliseconds.
    pub called_ms: u64,
    /// Both clusters' etcds.
    pub pair: &'a Pair,
    /// What is synchronized.
    pub scope: &'a Scope,
    /// What decrypts encrypted values.
    pub encryption: &'a Encryption,
    /// Both API servers.
    pub api_servers: &'a ApiServers,
    /// The domain; `None`: none is given.
    pub dns: Option<&'a Dns>,
    /// The standby's API server; `None`: nobody said where it is.
    pub standby: Option<&'a Cluster>,
}

impl Equipment {
    /// Reads the files that flags name; nothing is sent yet.
    ///
    /// # Errors
    /// A file or a flag that cannot be used.
    pub async fn new(config: &Config, procedure: &ProcedureConfig) -> Result<Equipment> {
        let called_ms = now_ms();
        let standby = Cluster::standby(&config.api_servers).await?;
        let dns = Dns::new(&procedure.dns)?;
        Ok(Equipment { pair: config.pair()?, encryption: config.encryption()?, dns, standby, called_ms })
    }

    /// All of it for the steps.
    pub fn context<'a>(&'a self, config: &'a Config, procedure: &'a ProcedureConfig) -> Context<'a> {
        Context {
            config,
            procedure,
            called_ms: self.called_ms,
            pair: &self.pair,
            scope: &config.scope,
            encryption: &self.encryption,
            api_servers: &config.api_servers,
            dns: self.dns.as_ref(),
            standby: self.standby.as_ref(),
        }
    }
}

impl Context<'_> {
    /// The link's record in the standby, now.
    ///
    /// # Errors
    /// The standby cannot be read.
    pub async fn record(&self) -> Result<Record> {
        Record::read(&self.pair.standby, &self.pair.keys).await.context("the standby's record cannot be read")
    }
}

/// What the operator asks for.
pub fn intent(config: &Config, procedure: &ProcedureConfig, command: Command) -> Intent {
    let knows_standby = knows_standby(config);
    let (dns, restart) = (&procedure.dns, &procedure.restart);
    let mut labels = if knows_standby { restart.labels.clone() } else { Vec::new() };
    let first = labels.iter().any(|label| label == ELASTICSEARCH);
    if knows_standby && !restart.workload_kubeconfigs.is_empty() {
        let labels_there = restart.workload_labels.join("; ");
        labels.push(format!("{labels_there} in {} workload clusters", restart.workload_kubeconfigs.len()));
    }
    Intent {
        command,
        primary: config.primary.endpoints().join(", "),
        standby: config.standby.endpoints().join(", "),
        mark_primary_demoted: false,
        writers: WritersHow::Manual,
        dns: dns.target.as_ref().map(|target| Domain {
            name: target.name.clone(),
            addresses: target.addresses.iter().map(ToString::to_string).collect(),
            how: match &dns.change {
                DnsChange::Update { server, .. } => DnsHow::Update { server: server.to_string() },
                DnsChange::Command { command, .. } => DnsHow::Command(command.clone()),
                DnsChange::Manual => DnsHow::Manual,
            },
        }),
        inside: knows_standby.then(|| restart.lookup_pod.to_string()),
        restart_first: if first { vec![ELASTICSEARCH.to_owned()] } else { Vec::new() },
        restart: labels,
    }
}

fn knows_standby(config: &Config) -> bool {
    config.api_servers.standby.is_some() || config.api_servers.standby_kubeconfig.is_some()
}
