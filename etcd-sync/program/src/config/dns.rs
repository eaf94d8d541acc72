//! What is known about the platform's name in the DNS.

use std::path::PathBuf;
use std::time::Duration;

use etcd_sync_operations::dns::{NameServer, Target};

use crate::args::{ArgsError, DnsArgs, DnsCommandArgs, TableOutput};

/// The group of flags that several commands share.
#[derive(Clone, Debug)]
pub struct DnsConfig {
    /// The name and where it must point; `None`: no name is given, and nothing is done about the DNS.
    pub target: Option<Target>,
    /// How it is changed.
    pub change: DnsChange,
    /// The zone it is in, if given; it is for [`DnsChange::Update`].
    pub zone: Option<String>,
    /// Servers of the zone to ask; empty: the one that takes updates, else those of the zone's NS records.
    pub authoritative: Vec<NameServer>,
    /// Resolvers to ask; empty: those of `/etc/resolv.conf`.
    pub resolvers: Vec<NameServer>,
    /// How long to wait until all say the target; zero: one look.
    pub verify_timeout: Duration,
}

/// How the name is changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsChange {
    /// By update messages (RFC 2136).
    Update {
        /// The zone's primary server.
        server: NameServer,
        /// The zone.
        zone: String,
        /// File with the key that signs them.
        key_file: Option<PathBuf>,
    },
    /// By a command of the operator's.
    Command {
        /// The text for the shell.
        command: String,
        /// How long it may take.
        timeout: Duration,
    },
    /// By people.
    Manual,
}

/// `dns verify` or `dns switch`.
#[derive(Clone, Debug)]
pub struct DnsCommandConfig {
    /// Which of them.
    pub action: DnsAction,
    /// The name is given here always.
    pub dns: DnsConfig,
    /// Form of the output.
    pub output: TableOutput,
}

/// What `etcd-sync dns` is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsAction {
    /// Look.
    Verify,
    /// Change, then look.
    Switch {
        /// Stop after showing the change.
        dry_run: bool,
        /// Skip the confirmation.
        yes: bool,
    },
}

impl DnsConfig {
    /// Validates what the flags say together.
    pub fn new(args: DnsArgs) -> Result<DnsConfig, ArgsError> {
        let given = [
            ("dns-address", !args.dns_address.is_empty()),
            ("dns-server", args.dns_server.is_some()),
            ("dns-zone", args.dns_zone.is_some()),
            ("dns-tsig-key-file", args.dns_tsig_key_file.is_some()),
            ("dns-command", args.dns_command.is_some()),
            ("dns-authoritative", !args.dns_authoritative.is_empty()),
            ("dns-resolver", !args.dns_resolver.is_empty()),
        ];
        // Else a switch would leave the name alone although somebody meant it to be changed.
        if let (None, Some((given, _))) = (&args.domain, given.iter().find(|(_, given)| *given)) {
            return Err(ArgsError::Useless { given: (*given).to_owned(), missing: "domain".to_owned() });
        }
        if args.domain.is_some() && args.dns_address.is_empty() {
            let what = "every address that the name must have after the switch, like the standby's virtual IP";
            return Err(ArgsError::Missing { flag: "dns-address".to_owned(), what });
        }
        let target = args.domain.map(|name| Target {
            name,
            addresses: args.dns_address.into_iter().collect(),
            ttl_s: args.dns_ttl,
        });
        if let (Some(target), Some(zone)) = (&target, &args.dns_zone) {
            let wrong = |error: etcd_sync_operations::dns::NotInZone| ArgsError::Value {
                origin: "--domain, --dns-zone".to_owned(),
                problem: error.to_string(),
            };
            target.check_zone(zone).map_err(wrong)?;
        }
        let change = match (args.dns_server, args.dns_command) {
            (Some(_), Some(_)) => return Err(ArgsError::Both { one: "dns-server", other: "dns-command" }),
            (None, _) if args.dns_tsig_key_file.is_some() => {
                let (given, missing) = ("dns-tsig-key-file".to_owned(), "dns-server".to_owned());
                return Err(ArgsError::Useless { given, missing });
            }
            (Some(server), None) => {
                let what = "the zone that --dns-server is to change, like example.com";
                let missing = || ArgsError::Missing { flag: "dns-zone".to_owned(), what };
                let zone = args.dns_zone.clone().ok_or_else(missing)?;
                DnsChange::Update { server, zone, key_file: args.dns_tsig_key_file }
            }
            (None, Some(command)) => DnsChange::Command { command, timeout: args.dns_command_timeout },
            (None, None) => DnsChange::Manual,
        };
        Ok(DnsConfig {
            target,
            change,
            zone: args.dns_zone,
            authoritative: args.dns_authoritative,
            resolvers: args.dns_resolver,
            verify_timeout: args.dns_verify_timeout,
        })
    }
}

impl DnsCommandConfig {
    pub(super) fn new(args: DnsCommandArgs) -> Result<DnsCommandConfig, ArgsError> {
        let (action, dns, output) = match args {
            DnsCommandArgs::Verify(args) => (DnsAction::Verify, args.dns, args.output),
            DnsCommandArgs::Switch(args) => {
                (DnsAction::Switch { dry_run: args.dry_run, yes: args.yes }, args.dns, args.output)
            }
        };
        let dns = DnsConfig::new(dns)?;
        if dns.target.is_none() {
            let what = "the name that users reach the platform by, like global.example.com";
            return Err(ArgsError::Missing { flag: "domain".to_owned(), what });
        }
        Ok(DnsCommandConfig { action, dns, output })
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::io::Write;

    use super::*;
    use crate::args::{Environment, parse_from};
    use crate::config::{CommandConfig, Config};

    fn config(args: &[&str], variables: &[(&str, &str)]) -> Result<DnsCommandConfig, String> {
        let environment: Environment =
            variables.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value))).collect();
        let args = ["etcd-sync", "dns"].iter().chain(args);
        let made = parse_from(args, &environment).and_then(|cli| Config::new(cli, &environment));
        match made.map(|made| made.command) {
            Ok(CommandConfig::Dns(dns)) => Ok(dns),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        }
    }

    const NAME: [&str; 2] = ["--domain=Global.Example.com.", "--dns-address=10.0.0.2,fd00::2"];

    #[test]
    fn a_name_and_an_address_are_enough_and_no_etcd_is_needed() {
        let made = config(&[&["verify"], &NAME[..]].concat(), &[]).unwrap();
        let target = made.dns.target.unwrap();
        assert_eq!((target.name.as_str(), target.addresses.len(), target.ttl_s), ("global.example.com", 2, 60));
        assert_eq!((made.dns.change, made.dns.verify_timeout), (DnsChange::Manual, Duration::from_secs(300)));
        assert_eq!(made.action, DnsAction::Verify);
    }

    #[test]
    fn every_source_reaches_a_command_of_a_command() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"dns-server: '[fd00::53]:5353'\ndns-zone: example.com\ndns-ttl: 30\nyes: true\nlink: filed\n")
            .unwrap();
        let flag = format!("--config={}", file.path().display());
        let variables = [
            ("ETCD_SYNC_DNS_TTL", "2m"),
            ("ETCD_SYNC_DOMAIN", "a.example.com"),
            ("ETCD_SYNC_DNS_ADDRESS", "10.0.0.2,10.0.0.3"),
            ("ETCD_SYNC_DNS_RESOLVER", ""),
        ];
        let made = config(&["switch", &flag, "--domain=b.example.com", "-o", "json"], &variables).unwrap();
        let target = made.dns.target.unwrap();
        assert_eq!((target.name.as_str(), target.addresses.len(), target.ttl_s), ("b.example.com", 2, 120));
        let server = NameServer { host: "fd00::53".into(), port: 5353 };
        assert_eq!(server.to_string(), "[fd00::53]:5353");
        assert_eq!(made.dns.change, DnsChange::Update { server, zone: "example.com".into(), key_file: None });
        assert_eq!((made.action, made.output), (DnsAction::Switch { dry_run: false, yes: true }, TableOutput::Json));
        // The keys of one command are known to the others, and a wrong value is the file's fault.
        let error = config(&["verify"], &[("ETCD_SYNC_DNS_TTL", "0")]).unwrap_err();
        assert!(error.starts_with("ETCD_SYNC_DNS_TTL: ") && error.contains("from 1s to 1d"), "{error}");
    }

    #[test]
    fn what_belongs_together_is_asked_for() {
        for (given, part) in [
            (&[][..], "--domain is missing (ETCD_SYNC_DOMAIN"),
            (&["--domain=a.b"], "--dns-address is missing"),
            (&["--dns-address=10.0.0.1"], "--dns-address does nothing without --domain"),
            (&["--dns-command=x"], "--dns-command does nothing without --domain"),
            (&[NAME[0], NAME[1], "--dns-server=ns1"], "--dns-zone is missing"),
            (&[NAME[0], NAME[1], "--dns-tsig-key-file=f"], "--dns-tsig-key-file does nothing without --dns-server"),
            (&[NAME[0], NAME[1], "--dns-server=n", "--dns-zone=com", "--dns-command=x"], "are both given"),
            (&[NAME[0], NAME[1], "--dns-zone=example.org"], "does not lie in the zone example.org"),
            (&["--domain=*.b"], "expected a domain name"),
            (&[NAME[0], "--dns-address=ns1"], "expected an IP address"),
            (&[NAME[0], NAME[1], "--dns-server=a:0"], "expected HOST or HOST:PORT"),
            (&[NAME[0], NAME[1], "--dns-ttl=soon"], "expected a time to live"),
        ] {
            let error = config(&[&["switch"], given].concat(), &[]).unwrap_err();
            assert!(error.contains(part), "{given:?}: {error}");
        }
        assert!(config(&[], &[]).is_err());
    }
}
