//! The flags of each command.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::switch::Switch;
use super::values::{bytes, duration, listen, number, some_text};

/// `etcd-sync run`.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Synchronization")]
pub struct RunArgs {
    /// Address and port of /healthz, /readyz and /metrics
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:8080", value_parser = listen)]
    pub listen: SocketAddr,

    /// Identity of this replica in the election; default: the environment's POD_NAME, else host name and process id
    #[arg(long, value_name = "NAME", value_parser = some_text)]
    pub holder: Option<String>,

    /// Lease (coordination.k8s.io) in the namespace of this pod that names the leader by its --holder; `none`: no Lease; outside
    /// of a cluster there is none [default: etcd-sync-mirror]
    #[arg(long, value_name = "NAME", value_parser = some_text)]
    pub lease: Option<String>,

    /// Leader lease TTL: the time after which another replica takes over from a leader that is gone (5s to 60s)
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration("5s", "60s"))]
    pub leader_ttl: Duration,

    /// Transactions in flight to the standby (1 to 64)
    #[arg(long, value_name = "N", default_value = "8", value_parser = number(1, 64))]
    pub transactions_in_flight: u64,

    /// Maximum bytes per second that a copy (first sync, resync) reads from the primary, as in 500K, 16M or 1G (powers of 1024);
    /// 0: no limit
    #[arg(long, value_name = "BYTES", default_value = "0", value_parser = bytes)]
    pub copy_bytes_per_second: u64,

    /// Maximum keys per second that a copy (first sync, resync) writes into the standby; 0: no limit
    #[arg(long, value_name = "KEYS", default_value = "0", value_parser = number(0, u64::MAX))]
    pub copy_writes_per_second: u64,

    /// How often the checkpoint of an idle link is moved (100ms to 10m)
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration("100ms", "10m"))]
    pub checkpoint_interval: Duration,

    /// Lag above which /readyz fails (1s to 1d)
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration("1s", "1d"))]
    pub ready_lag: Duration,

    /// A resync that would delete, or overwrite with older data, more than this part of the keys in scope, in percent, AND more
    /// than --deletion-limit-count keys pauses and waits for `etcd-sync accept`
    #[arg(
        long, value_name = "PERCENT", default_value = "10", value_parser = number(0, 100),
        help_heading = "Guards"
    )]
    pub deletion_limit_percent: u64,

    /// See --deletion-limit-percent
    #[arg(
        long, value_name = "KEYS", default_value = "100", value_parser = number(0, u64::MAX),
        help_heading = "Guards"
    )]
    pub deletion_limit_count: u64,

    /// Live updates that would take more than so many keys from the standby within 60 seconds (deletions, and marks for deletion: of
    /// a namespace or a CRD with all that it contains there), AND more than --brake-percent, pause before that is written and wait
    /// for `etcd-sync accept`; 0: any number passes
    #[arg(
        long, value_name = "KEYS", default_value = "1000", value_parser = number(0, u64::MAX),
        help_heading = "Guards"
    )]
    pub brake_keys: u64,

    /// See --brake-keys: part of the keys that the standby has below the synchronized prefixes, in percent
    #[arg(
        long, value_name = "PERCENT", default_value = "5", value_parser = number(0, 100),
        help_heading = "Guards"
    )]
    pub brake_percent: u64,

    /// The same pause when a resource that has so many objects on the standby, or more, would lose all of them within 60 seconds,
    /// unless its kind turns over by itself, as Jobs do; 0: it may
    #[arg(
        long, value_name = "KEYS", default_value = "20", value_parser = number(0, u64::MAX),
        help_heading = "Guards"
    )]
    pub brake_resource_keys: u64,

    /// The same pause when a CRD is deleted, or marked for deletion, that has objects on the standby
    #[arg(long, switch = true, help_heading = "Guards")]
    pub brake_crd: bool,

    /// Pause before the database of a member of the standby's etcd has less than this part of its quota left, in percent (0 to 50): at
    /// the quota etcd refuses every write, also those of the standby's API server. 0: do not look. etcd before 3.6 does not tell its
    /// quota
    #[arg(
        long, value_name = "PERCENT", default_value = "10", value_parser = number(0, 50),
        help_heading = "Guards"
    )]
    pub standby_quota_reserve: u64,

    /// Continue although it cannot be proved that the standby's API server decrypts what the primary's has encrypted
    #[arg(long, switch = false, help_heading = "Guards")]
    pub allow_unproved_encryption: bool,
}

/// `etcd-sync status`.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Output")]
pub struct StatusArgs {
    /// Form of the output on stdout
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub output: TableOutput,
}

/// `etcd-sync plan`.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Output")]
pub struct PlanArgs {
    /// Form of the output on stdout
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub output: TableOutput,

    /// Number of keys shown of each outcome; 0: all
    #[arg(long, value_name = "KEYS", default_value = "10", value_parser = number(0, u64::MAX))]
    pub limit: u64,
}

/// `etcd-sync check`.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Output")]
pub struct CheckArgs {
    /// Form of the output on stdout
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: CheckOutput,

    /// Number of keys shown of each difference; 0: all
    #[arg(long, value_name = "KEYS", default_value = "100", value_parser = number(0, u64::MAX))]
    pub limit: u64,

    /// Compare values too, not only the presence of keys
    #[arg(long, switch = false, help_heading = "Check")]
    pub deep: bool,

    /// How long the check may take before it gives up with exit code 2 (1s to 1d)
    #[arg(
        long, value_name = "DURATION", default_value = "60s", value_parser = duration("1s", "1d"),
        help_heading = "Check"
    )]
    pub timeout: Duration,
}

/// Form of a table's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TableOutput {
    /// For people.
    Table,
    /// One JSON document.
    Json,
}

/// Form of a check's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CheckOutput {
    /// The report as `/check` gives it to people.
    Text,
    /// One JSON document.
    Json,
}
