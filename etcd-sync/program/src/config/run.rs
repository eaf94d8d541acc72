//! `run`.

use std::time::Duration;

use etcd_sync_core::session::BrakeLimits;

use super::environment::{host, namespace, service_host, variable};
use crate::args::{Environment, RunArgs};

/// `run`.
#[derive(Clone, Debug)]
pub struct RunConfig {
    /// Address of the HTTP server.
    pub listen: std::net::SocketAddr,
    /// Identity of this replica in the election.
    pub holder: String,
    /// The Lease that the leader holds beside its place in etcd; `None`: it holds none.
    pub lease: Option<LeaseConfig>,
    /// Leader lease TTL.
    pub leader_ttl: Duration,
    /// Transactions under way at once.
    pub transactions_in_flight: usize,
    /// Bytes a second that a copy reads of the primary; 0: no limit.
    pub copy_bytes_per_second: u64,
    /// Keys a second that a copy writes into the standby; 0: no limit.
    pub copy_writes_per_second: u64,
    /// How often the checkpoint of an idle link is moved.
    pub checkpoint_interval: Duration,
    /// Lag above which the replica is not ready.
    pub ready_lag: Duration,
    /// When a resync pauses.
    pub deletions: DeletionLimits,
    /// When live updates pause.
    pub brake: BrakeLimits,
    /// Part of the standby's quota that stays free, in percent; 0: nothing is looked at.
    pub standby_quota_reserve: u64,
    /// Go on although it is not known whether the standby decrypts the primary's values.
    pub allow_unproved_encryption: bool,
}

/// A Lease of the cluster that this program runs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseConfig {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// When a resync pauses: it would delete more than both limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeletionLimits {
    /// Part of the scope, in percent.
    pub percent: u64,
    /// Number of keys.
    pub count: u64,
}

/// The name that runbooks and scripts know.
const LEASE: &str = "etcd-sync-mirror";

impl RunConfig {
    pub(super) fn new(args: RunArgs, environment: &Environment) -> RunConfig {
        RunConfig {
            listen: args.listen,
            holder: args.holder.unwrap_or_else(|| holder(environment)),
            lease: lease(args.lease, environment),
            leader_ttl: args.leader_ttl,
            transactions_in_flight: usize::try_from(args.transactions_in_flight).unwrap_or(usize::MAX),
            copy_bytes_per_second: args.copy_bytes_per_second,
            copy_writes_per_second: args.copy_writes_per_second,
            checkpoint_interval: args.checkpoint_interval,
            ready_lag: args.ready_lag,
            deletions: DeletionLimits { percent: args.deletion_limit_percent, count: args.deletion_limit_count },
            brake: BrakeLimits {
                keys: args.brake_keys,
                percent: args.brake_percent,
                resource_keys: args.brake_resource_keys,
                crd: args.brake_crd,
            },
            standby_quota_reserve: args.standby_quota_reserve,
            allow_unproved_encryption: args.allow_unproved_encryption,
        }
    }
}

/// In Kubernetes the pod's name; elsewhere the process id keeps two replicas on one host apart.
pub(super) fn holder(environment: &Environment) -> String {
    let pod = variable(environment, "POD_NAME").map(str::trim).filter(|name| !name.is_empty());
    pod.map_or_else(|| format!("{}-{}", host(environment), std::process::id()), str::to_owned)
}

/// The Lease that scripts read, where there is a cluster around.
fn lease(given: Option<String>, environment: &Environment) -> Option<LeaseConfig> {
    let name = given.unwrap_or_else(|| LEASE.to_owned());
    service_host(environment).filter(|_| name != "none")?;
    Some(LeaseConfig { namespace: namespace(environment)?, name })
}
