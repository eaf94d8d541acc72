//! Runs of the failover commands: the journal, the order in which steps are taken, and the steps themselves.

mod execute;
pub mod facts;
pub mod journal;
pub mod quiet;
pub mod steps;

use std::time::Duration;

use etcd_sync_core::scope::Scope;
use etcd_sync_program::config::{ApiServers, ProcedureConfig};
use etcd_sync_store::encryption::Encryption;
use etcd_sync_store::pair::Pair;

pub use execute::{execute, go_on_or_begin};

/// A primary that may be gone is not waited for longer.
pub const PRIMARY_PATIENCE: Duration = Duration::from_secs(5);

/// What the steps work with.
pub struct Context<'a> {
    /// Both clusters.
    pub pair: &'a Pair,
    /// Name of the link.
    pub link: &'a str,
    /// What is synchronized.
    pub scope: &'a Scope,
    /// What opens encrypted values.
    pub encryption: &'a Encryption,
    /// Both API servers.
    pub api_servers: &'a ApiServers,
    /// The endpoints of the primary's etcd, as they were given.
    pub primary_endpoints: &'a [String],
    /// How the command was called.
    pub procedure: &'a ProcedureConfig,
}
