//! The flags about the platform's name in the DNS.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use etcd_sync_operations::dns::NameServer;

use super::TableOutput;
use super::switch::Switch;
use super::values::{address, domain, duration, duration_or_never, name_server, some_text, ttl};

/// Which name, where it must point, how it is changed and which servers are queried: a group of several commands.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "DNS")]
pub struct DnsArgs {
    /// Name that users reach the platform by
    #[arg(long, value_name = "NAME", value_parser = domain)]
    pub domain: Option<String>,

    /// Every address that --domain must have after the switch and no other, IPv4 and IPv6, comma separated or repeated: the
    /// standby's virtual IP
    #[arg(long, value_name = "IP,...", value_delimiter = ',', value_parser = address)]
    pub dns_address: Vec<IpAddr>,

    /// Time to live of the records that are written (1s to 1d), in seconds or as a duration
    #[arg(long, value_name = "TTL", default_value = "60s", value_parser = ttl)]
    pub dns_ttl: u32,

    /// Primary server of the zone, to be sent the change as an update message (RFC 2136). Without this and without
    /// --dns-command the name is changed by people: the change is shown, and waited for
    #[arg(long, value_name = "HOST[:PORT]", value_parser = name_server)]
    pub dns_server: Option<NameServer>,

    /// Zone that --domain is in; needed with --dns-server, else found out
    #[arg(long, value_name = "NAME", value_parser = domain)]
    pub dns_zone: Option<String>,

    /// File with the TSIG key that signs updates, as tsig-keygen writes it; without one they are not signed
    #[arg(long, value_name = "FILE")]
    pub dns_tsig_key_file: Option<PathBuf>,

    /// Command that changes the name, run as sh -c COMMAND. It is told what to do by ETCD_SYNC_DNS_ACTION (set, or remove),
    /// _NAME, _ADDRESSES (comma separated), _TTL (seconds), _OLD_ADDRESSES (empty if unknown) and _RUN; "$@" in it is
    /// ACTION NAME ADDRESS... It must be safe to run twice; an exit code other than 0 is a failure
    #[arg(long, value_name = "COMMAND", value_parser = some_text)]
    pub dns_command: Option<String>,

    /// How long --dns-command may take (1s to 1h)
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = duration("1s", "1h"))]
    pub dns_command_timeout: Duration,

    /// Servers of the zone to ask where the name points, comma separated or repeated; default: --dns-server, else those that
    /// the zone's NS records name
    #[arg(long, value_name = "HOST[:PORT],...", value_delimiter = ',', value_parser = name_server)]
    pub dns_authoritative: Vec<NameServer>,

    /// Resolvers to ask where the name points, comma separated or repeated; default: those of /etc/resolv.conf
    #[arg(long, value_name = "HOST[:PORT],...", value_delimiter = ',', value_parser = name_server)]
    pub dns_resolver: Vec<NameServer>,

    /// How long to wait until they all say where the name must point (1s to 1d); 0: look once
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration_or_never("1s", "1d"))]
    pub dns_verify_timeout: Duration,
}

/// `etcd-sync dns`.
#[derive(Clone, Debug, Subcommand)]
pub enum DnsCommandArgs {
    /// Ask every name server where the name points, until all say the target; exit code 1: some do not, or do not answer
    Verify(DnsVerifyArgs),
    /// Point the name at the target and wait until every name server says so; exit code 1: some do not, or refused
    Switch(DnsSwitchArgs),
}

/// `etcd-sync dns verify`.
#[derive(Clone, Debug, Args)]
pub struct DnsVerifyArgs {
    /// The shared ones.
    #[command(flatten)]
    pub dns: DnsArgs,

    /// Form of the output on stdout
    #[arg(short, long, value_name = "FORMAT", default_value = "table", help_heading = "Output")]
    pub output: TableOutput,
}

/// `etcd-sync dns switch`.
#[derive(Clone, Debug, Args)]
pub struct DnsSwitchArgs {
    /// The shared ones.
    #[command(flatten)]
    pub dns: DnsArgs,

    /// Form of the output on stdout; JSON cannot ask, so it needs --yes or --dry-run
    #[arg(short, long, value_name = "FORMAT", default_value = "table", help_heading = "Output")]
    pub output: TableOutput,

    /// Stop after showing the change
    #[arg(long, switch = false, help_heading = "Guards")]
    pub dry_run: bool,

    /// Skip the confirmation
    #[arg(long, switch = false, help_heading = "Guards")]
    pub yes: bool,
}
