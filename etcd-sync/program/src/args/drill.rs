//! The flags of `drill`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::values::{domain, duration};
use super::{DnsArgs, ReadinessArgs, RestartArgs, TableOutput};

/// `etcd-sync drill`.
#[derive(Clone, Debug, Args)]
pub struct DrillArgs {
    /// Name that is created in the zone, switched, verified and deleted again, in place of --domain; without one the DNS is not
    /// rehearsed
    #[arg(long, value_name = "NAME", value_parser = domain, help_heading = "Drill")]
    pub drill_name: Option<String>,

    /// File for the report in Markdown; an older one is replaced
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub markdown: Option<PathBuf>,

    /// File for the report in JSON; an older one is replaced
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub json: Option<PathBuf>,

    /// Form of the output on stdout
    #[arg(short, long, value_name = "FORMAT", default_value = "table", help_heading = "Output")]
    pub output: TableOutput,

    /// How long the comparison may take (1s to 1d)
    #[arg(
        long, value_name = "DURATION", default_value = "10m", value_parser = duration("1s", "1d"),
        help_heading = "Limits"
    )]
    pub timeout: Duration,

    /// What is checked first.
    #[command(flatten)]
    pub readiness: ReadinessArgs,

    /// The domain.
    #[command(flatten)]
    pub dns: DnsArgs,

    /// What would be restarted in the end.
    #[command(flatten)]
    pub restart: RestartArgs,
}
