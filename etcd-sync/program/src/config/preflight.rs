//! What a look at both clusters before a switch works with.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use etcd_sync_operations::preflight::switch::{For, Limits};

use super::DnsConfig;
use crate::args::{ArgsError, PreflightArgs, PurposeArg, ReadinessArgs, TableOutput};

/// What every command that looks first needs.
#[derive(Clone, Debug)]
pub struct ReadinessConfig {
    /// From where on something is no longer good.
    pub limits: Limits,
    /// Where the last comparison can be had.
    pub monitor: Option<Monitor>,
    /// Addresses that the domain points at now; empty: that of the primary's API server, where it is one.
    pub dns_from: Vec<IpAddr>,
    /// Only warn when nobody knows whether the standby decrypts the primary's values.
    pub allow_unproved_encryption: bool,
    /// How long the comparison may take.
    pub timeout: Duration,
}

/// How to reach the monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Monitor {
    /// Without a slash at its end.
    pub url: String,
    /// File with its token.
    pub token_file: Option<PathBuf>,
}

/// `preflight`.
#[derive(Clone, Debug)]
pub struct PreflightConfig {
    /// The limits.
    pub readiness: ReadinessConfig,
    /// What is to follow.
    pub purpose: For,
    /// The platform's name.
    pub dns: DnsConfig,
    /// Form of the output.
    pub output: TableOutput,
}

impl ReadinessConfig {
    /// `timeout`: how long the comparison may take.
    pub fn new(args: ReadinessArgs, timeout: Duration) -> ReadinessConfig {
        let token_file = args.monitor_token_file;
        ReadinessConfig {
            limits: Limits {
                lag: args.max_lag,
                lag_revisions: args.max_lag_revisions,
                headroom: args.min_headroom,
                expiry: args.certificate_warning,
            },
            monitor: args.monitor.map(|url| Monitor { url, token_file }),
            dns_from: args.dns_from,
            allow_unproved_encryption: args.allow_unproved_encryption,
            timeout,
        }
    }
}

impl PreflightConfig {
    pub(super) fn new(args: PreflightArgs) -> Result<PreflightConfig, ArgsError> {
        Ok(PreflightConfig {
            readiness: ReadinessConfig::new(args.readiness, args.timeout),
            purpose: match args.purpose {
                PurposeArg::Switchover => For::Asked,
                PurposeArg::Failover => For::Failover,
                PurposeArg::Drill => For::Drill,
            },
            dns: DnsConfig::new(args.dns)?,
            output: args.output,
        })
    }
}
