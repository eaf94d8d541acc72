//! What a command works with: the command line, validated once and turned into plain values.

mod accept;
mod api_servers;
mod bootstrap;
mod connection;
mod dns;
mod drill;
mod environment;
mod preflight;
mod procedure;
mod rejoin;
mod restart;
mod run;
mod saved;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use etcd_sync_core::link::state::StateKeys;
use etcd_sync_core::scope::{Scope, ScopeConfig, ScopeError};
use etcd_sync_kms::{Encryption, EncryptionError};
use etcd_sync_operations::api_server::ApiServers;
use etcd_sync_store::Side;
use etcd_sync_store::link::pair::Pair;

use crate::args::{
    ArgsError, CheckOutput, Cli, CommandArgs, Environment, GlobalArgs, LogFormat, LogLevel, MonitorCli, TableOutput,
};

pub use accept::{AcceptConfig, BackupPlace};
pub use bootstrap::BootstrapConfig;
pub use connection::{Connection, ConnectionFiles};
pub use dns::{DnsAction, DnsChange, DnsCommandConfig, DnsConfig};
pub use drill::DrillConfig;
pub use preflight::{Monitor, PreflightConfig, ReadinessConfig};
pub use procedure::{FailoverConfig, JournalConfig, ProcedureConfig, SwitchoverConfig};
pub use rejoin::RejoinConfig;
pub use restart::{RestartConfig, RestartServicesConfig};
pub use run::{DeletionLimits, LeaseConfig, RunConfig};
pub use saved::{PruneConfig, RestoreConfig, RestoreSource};

/// One run of a program. `C` says what it is to do: one of `etcd-sync`'s commands, or the monitor's work.
#[derive(Debug)]
pub struct Config<C = CommandConfig> {
    /// Name of the link; its state lies below `/etcd-sync/<link>/`.
    pub link: String,
    /// What is logged, and how.
    pub log: LogConfig,
    /// The cluster that is read.
    pub primary: Connection,
    /// The cluster that is written.
    pub standby: Connection,
    /// What is synchronized.
    pub scope: Arc<Scope>,
    /// File with the API servers' EncryptionConfiguration.
    pub encryption_config: Option<PathBuf>,
    /// The two API servers, as far as they are known.
    pub api_servers: ApiServers,
    /// What to do.
    pub command: C,
}

/// What is logged, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Form of the lines.
    pub format: LogFormat,
    /// Minimum log level.
    pub level: LogLevel,
    /// Whether to log a line for every key.
    pub detail: bool,
}

/// What to do.
#[derive(Clone, Debug)]
pub enum CommandConfig {
    /// `run`
    Run(RunConfig),
    /// `status`
    Status(StatusConfig),
    /// `plan`
    Plan(PlanConfig),
    /// `check`
    Check(CheckConfig),
    /// `preflight`
    Preflight(PreflightConfig),
    /// `bootstrap`
    Bootstrap(BootstrapConfig),
    /// `prune`
    Prune(PruneConfig),
    /// `restore`
    Restore(RestoreConfig),
    /// `accept`
    Accept(AcceptConfig),
    /// `switchover`
    Switchover(SwitchoverConfig),
    /// `failover`
    Failover(FailoverConfig),
    /// `drill`
    Drill(DrillConfig),
    /// `journal`
    Journal(JournalConfig),
    /// `dns verify` and `dns switch`
    Dns(DnsCommandConfig),
    /// `rejoin`
    Rejoin(RejoinConfig),
    /// `restart-services`
    RestartServices(RestartServicesConfig),
}

/// `status`.
#[derive(Clone, Copy, Debug)]
pub struct StatusConfig {
    /// Form of the output.
    pub output: TableOutput,
}

/// `plan`.
#[derive(Clone, Copy, Debug)]
pub struct PlanConfig {
    /// Form of the output.
    pub output: TableOutput,
    /// Keys shown of each outcome; `None`: all.
    pub limit: Option<usize>,
}

/// `check`.
#[derive(Clone, Copy, Debug)]
pub struct CheckConfig {
    /// Form of the output.
    pub output: CheckOutput,
    /// Keys shown of each difference; `None`: all.
    pub limit: Option<usize>,
    /// Compare values too.
    pub deep: bool,
    /// How long the check may take.
    pub timeout: Duration,
}

/// The monitor's work.
#[derive(Clone, Debug)]
pub struct MonitorConfig {
    /// Address of the HTTP server.
    pub listen: std::net::SocketAddr,
    /// How often the keys are compared.
    pub check_interval: Duration,
    /// How often the values are compared too; `None`: only when asked to.
    pub deep_check_interval: Option<Duration>,
    /// How often the members of each etcd are compared with one another; `None`: never.
    pub members_check_interval: Option<Duration>,
    /// How long a comparison may take.
    pub check_timeout: Duration,
    /// Most keys a second that comparisons read from the two clusters together; 0: as fast as they answer.
    pub keys_per_second: u64,
    /// Most bytes a second, likewise.
    pub bytes_per_second: u64,
    /// File with the token that callers must know.
    pub token_file: Option<PathBuf>,
}

impl Config {
    /// Reads and validates the command line, environment and file of this process.
    pub fn load() -> Result<Config, ArgsError> {
        Config::new(crate::args::parse()?, &crate::args::environment())
    }

    /// Validates what the flags say together. `environment` names this replica and the cluster around it.
    pub fn new(cli: Cli, environment: &Environment) -> Result<Config, ArgsError> {
        let command = match cli.command {
            CommandArgs::Run(args) => CommandConfig::Run(RunConfig::new(args, environment)),
            CommandArgs::Status(args) => CommandConfig::Status(StatusConfig { output: args.output }),
            CommandArgs::Plan(args) => {
                CommandConfig::Plan(PlanConfig { output: args.output, limit: limit(args.limit) })
            }
            CommandArgs::Check(args) => CommandConfig::Check(CheckConfig {
                output: args.output,
                limit: limit(args.limit),
                deep: args.deep,
                timeout: args.timeout,
            }),
            CommandArgs::Preflight(args) => CommandConfig::Preflight(PreflightConfig::new(args)?),
            CommandArgs::Bootstrap(args) => CommandConfig::Bootstrap(BootstrapConfig::new(args, environment)),
            CommandArgs::Prune(args) => CommandConfig::Prune(PruneConfig::new(args, environment)),
            CommandArgs::Restore(args) => CommandConfig::Restore(RestoreConfig::new(args)?),
            CommandArgs::Accept(args) => CommandConfig::Accept(AcceptConfig::new(args, environment)),
            CommandArgs::Switchover(args) => CommandConfig::Switchover(SwitchoverConfig::new(args, environment)?),
            CommandArgs::Failover(args) => CommandConfig::Failover(FailoverConfig::new(args, environment)?),
            CommandArgs::Drill(args) => CommandConfig::Drill(DrillConfig::new(args, environment)?),
            CommandArgs::Journal(args) => CommandConfig::Journal(JournalConfig::new(args, environment)),
            CommandArgs::Dns(args) => CommandConfig::Dns(DnsCommandConfig::new(args)?),
            CommandArgs::Rejoin(args) => CommandConfig::Rejoin(RejoinConfig::new(args, environment)),
            CommandArgs::RestartServices(args) => CommandConfig::RestartServices(args.into()),
        };
        let needs = match &command {
            CommandConfig::Dns(_) | CommandConfig::RestartServices(_) => NeedsEtcd { primary: false, standby: false },
            // The journal lies in the standby, and is read when the primary is gone.
            CommandConfig::Journal(journal) => NeedsEtcd { primary: journal.abandon, standby: true },
            _ => NeedsEtcd::BOTH,
        };
        Config::with(cli.global, command, needs, environment)
    }
}

/// The etcds that a command cannot do without.
struct NeedsEtcd {
    primary: bool,
    standby: bool,
}

impl NeedsEtcd {
    const BOTH: NeedsEtcd = NeedsEtcd { primary: true, standby: true };
}

impl Config<MonitorConfig> {
    /// As [`Config::load`], for the monitor.
    pub fn load_monitor() -> Result<Self, ArgsError> {
        Config::monitor(crate::args::parse()?, &crate::args::environment())
    }

    /// As [`Config::new`], for the monitor.
    pub fn monitor(cli: MonitorCli, environment: &Environment) -> Result<Self, ArgsError> {
        let args = cli.monitor;
        let command = MonitorConfig {
            listen: args.listen,
            check_interval: args.check_interval,
            deep_check_interval: (!args.deep_check_interval.is_zero()).then_some(args.deep_check_interval),
            members_check_interval: (!args.members_check_interval.is_zero()).then_some(args.members_check_interval),
            check_timeout: args.check_timeout,
            keys_per_second: args.check_keys_per_second,
            bytes_per_second: args.check_bytes_per_second,
            token_file: args.token_file,
        };
        Config::with(cli.global, command, NeedsEtcd::BOTH, environment)
    }
}

impl<C> Config<C> {
    fn with(global: GlobalArgs, command: C, needs: NeedsEtcd, environment: &Environment) -> Result<Self, ArgsError> {
        let scope = ScopeConfig::from(global.scope);
        let scope = Scope::new(&scope).map_err(|source| ArgsError::Scope { flags: scope_flags(&source), source })?;
        Ok(Config {
            link: global.link,
            log: LogConfig { format: global.log_format, level: global.log_level, detail: global.detail },
            primary: Connection::new(Side::Primary, global.primary.into(), needs.primary)?,
            standby: Connection::new(Side::Standby, global.standby.into(), needs.standby)?,
            scope: Arc::new(scope),
            encryption_config: global.kubernetes.encryption_config.clone(),
            api_servers: api_servers::api_servers(global.kubernetes, environment)?,
            command,
        })
    }

    /// The keys that decrypt encrypted values, from the file as it is now.
    pub fn encryption(&self) -> Result<Encryption, EncryptionError> {
        Encryption::load(self.encryption_config.as_deref())
    }

    /// The clients of both clusters; nothing is sent yet.
    pub fn pair(&self) -> Result<Pair, etcd_sync_store::Error> {
        let (primary, standby) = (self.primary.etcd()?, self.standby.etcd()?);
        Ok(Pair { primary, standby, keys: StateKeys::new(&self.link) })
    }
}

/// 0 on the command line means all.
fn limit(keys: u64) -> Option<usize> {
    (keys != 0).then(|| usize::try_from(keys).unwrap_or(usize::MAX))
}

/// The flags that a mistake in the scope comes from.
fn scope_flags(error: &ScopeError) -> &'static str {
    match error {
        ScopeError::NoPrefix
        | ScopeError::EmptyPrefix
        | ScopeError::OverlappingPrefixes { .. }
        | ScopeError::ForbiddenPrefix { .. } => "--prefix, --plain-prefix",
        ScopeError::BadNamespace(_) => "--exclude-namespace",
        ScopeError::BadPattern { .. } => "--cluster-local-add",
        ScopeError::UnknownPattern { .. } => "--cluster-local-remove",
        ScopeError::Contradiction(_) => "--include-key, --exclude-key",
        ScopeError::IncludeOutsidePrefixes(_) => "--include-key",
    }
}
