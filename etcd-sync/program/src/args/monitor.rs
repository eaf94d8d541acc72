//! The flags of `etcd-sync-monitor`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::values::{bytes, duration, duration_or_never, listen, number};

/// What and how often the monitor compares, and for whom.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Monitor")]
pub struct MonitorArgs {
    /// Address and port of the dashboard, /check, /metrics, /healthz and /readyz; `[::]` accepts IPv4 too
    #[arg(long, value_name = "ADDR:PORT", default_value = "[::]:8081", value_parser = listen)]
    pub listen: SocketAddr,

    /// How often the keys of both clusters are compared (1s to 1d)
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = duration("1s", "1d"))]
    pub check_interval: Duration,

    /// How often the values are compared too (10s to 7d); 0: only on request
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration_or_never("10s", "7d"))]
    pub deep_check_interval: Duration,

    /// How often the members of each etcd are compared with one another (1s to 30d); 0: never. Each reads its whole database for it, one
    /// after the other
    #[arg(long, value_name = "DURATION", default_value = "1d", value_parser = duration_or_never("1s", "30d"))]
    pub members_check_interval: Duration,

    /// Time limit of a comparison (1s to 1d)
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration("1s", "1d"))]
    pub check_timeout: Duration,

    /// Maximum keys per second that comparisons read, from the two clusters together; 0: no limit
    #[arg(long, value_name = "KEYS", default_value = "200000", value_parser = number(0, u64::MAX))]
    pub check_keys_per_second: u64,

    /// Maximum bytes per second that comparisons read, from the two clusters together, as in 500K, 16M or 1G (powers of 1024);
    /// 0: no limit
    #[arg(long, value_name = "BYTES", default_value = "32M", value_parser = bytes)]
    pub check_bytes_per_second: u64,

    /// File with a token; with it, everything but /healthz and /readyz needs `Authorization: Bearer TOKEN` (a browser shows
    /// a login page). Read again at every use
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}
