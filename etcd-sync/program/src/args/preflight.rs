//! The flags of `preflight`, and those of every command that looks at the same things first.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::switch::Switch;
use super::values::{duration, monitor, number};
use super::{DnsArgs, TableOutput};

/// What a look at both clusters before a switch needs to know. Commands that look flatten it into their flags.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Preflight")]
pub struct ReadinessArgs {
    /// How long the standby may take to catch up with the primary (100ms to 10m)
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration("100ms", "10m"))]
    pub max_lag: Duration,

    /// Revisions that the standby may be behind without a warning
    #[arg(long, value_name = "REVISIONS", default_value = "10000", value_parser = number(0, u64::MAX))]
    pub max_lag_revisions: u64,

    /// Warn when compaction would pass the checkpoint within this time, at the primary's pace (0s to 1d)
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = duration("0s", "1d"))]
    pub min_headroom: Duration,

    /// Certificates that expire sooner are warned of (0s to 3650d)
    #[arg(long, value_name = "DURATION", default_value = "30d", value_parser = duration("0s", "3650d"))]
    pub certificate_warning: Duration,

    /// URL of etcd-sync-monitor: its last comparison is used when the clusters cannot be compared any more
    #[arg(long, value_name = "URL", value_parser = monitor)]
    pub monitor: Option<String>,

    /// File with the monitor's token
    #[arg(long, value_name = "FILE", requires = "monitor")]
    pub monitor_token_file: Option<PathBuf>,

    /// Addresses that the domain points at before the switch; default: --active-cluster-vip, where that is an IP address
    #[arg(long, value_name = "IP,...", value_delimiter = ',')]
    pub dns_from: Vec<IpAddr>,

    /// Only warn when it cannot be proved that the standby's API server decrypts what the primary's has encrypted
    #[arg(long, switch = false)]
    pub allow_unproved_encryption: bool,
}

/// `etcd-sync preflight`.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Preflight")]
pub struct PreflightArgs {
    /// The limits.
    #[command(flatten)]
    pub readiness: ReadinessArgs,

    /// The platform's name.
    #[command(flatten)]
    pub dns: DnsArgs,

    /// What will follow. Before a failover the primary need not answer: what only it could report is a warning
    #[arg(long = "for", id = "for", value_name = "PURPOSE", default_value = "switchover")]
    pub purpose: PurposeArg,

    /// How long the comparison may take before it is given up (1s to 1d)
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration("1s", "1d"))]
    pub timeout: Duration,

    /// Form of the output on stdout
    #[arg(short, long, value_name = "FORMAT", default_value = "table", help_heading = "Output")]
    pub output: TableOutput,
}

/// What is to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PurposeArg {
    /// A planned switch, both clusters alive.
    Switchover,
    /// The primary is gone.
    Failover,
    /// A rehearsal.
    Drill,
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use etcd_sync_operations::preflight::switch::For;

    use super::super::{Environment, parse_from};
    use crate::config::{CommandConfig, Config, PreflightConfig};

    fn preflight(args: &[&str], variables: &[(&str, &str)]) -> Result<PreflightConfig, String> {
        let environment: Environment =
            variables.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value))).collect();
        let reach = ["etcd-sync", "--primary-endpoints=p", "--standby-endpoints=s", "preflight"];
        let made = parse_from(reach.iter().chain(args), &environment).and_then(|cli| Config::new(cli, &environment));
        match made.map_err(|error| error.to_string())?.command {
            CommandConfig::Preflight(preflight) => Ok(preflight),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_limits_have_sane_defaults() {
        let made = preflight(&[], &[]).unwrap();
        let limits = made.readiness.limits;
        assert_eq!((limits.lag.as_secs(), limits.headroom.as_secs(), limits.expiry.as_secs()), (10, 60, 30 * 86_400));
        assert_eq!((made.purpose, made.readiness.timeout.as_secs()), (For::Asked, 60));
        assert!(made.readiness.monitor.is_none() && !made.readiness.allow_unproved_encryption);
    }

    #[test]
    fn what_is_given_is_taken_and_slips_are_refused() {
        let made = preflight(
            &["--for=failover", "--monitor=http://[fd00::1]:8081/", "--dns-from=10.0.0.1,fd00::2"],
            &[("ETCD_SYNC_MONITOR_TOKEN_FILE", "/token"), ("ETCD_SYNC_MAX_LAG", "2s")],
        )
        .unwrap();
        let monitor = made.readiness.monitor.unwrap();
        assert_eq!((monitor.url.as_str(), monitor.token_file.is_some()), ("http://[fd00::1]:8081", true));
        assert_eq!((made.purpose, made.readiness.limits.lag.as_secs()), (For::Failover, 2));
        assert_eq!(made.readiness.dns_from.len(), 2);
        for (bad, expected) in [
            ("--monitor=monitor:80", "expected http://HOST"),
            ("--for=fun", "possible values: switchover, failover, drill"),
            ("--dns-from=vip", "invalid IP address"),
            ("--max-lag=1h", "expected a duration from 100ms to 10m"),
            ("--monitor-token-file=/t", "--monitor"),
        ] {
            let error = preflight(&[bad], &[]).unwrap_err();
            assert!(error.contains(expected), "{bad}: {error}");
        }
    }
}
