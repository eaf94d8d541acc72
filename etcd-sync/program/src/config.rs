//! What a command works with: the command line, validated once and turned into plain values.

mod bootstrap;
mod dns;
mod drill;
mod preflight;
mod procedure;
mod rejoin;
mod restart;
mod saved;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use etcd_sync_core::scope::{Scope, ScopeConfig, ScopeError};
use etcd_sync_core::state::StateKeys;
use etcd_sync_store::encryption::{Encryption, EncryptionError};
use etcd_sync_store::pair::Pair;
use etcd_sync_store::{Auth, Etcd, Options, Side, TlsFiles};

use crate::args::{
    ArgsError, CheckOutput, Cli, CommandArgs, ConnectionArgs, Environment, GlobalArgs, KubernetesArgs, LogFormat,
    LogLevel, MonitorCli, RunArgs, TableOutput,
};

pub use bootstrap::BootstrapConfig;
pub use dns::{DnsChange, DnsCommandConfig, DnsConfig, DnsDeed};
pub use drill::DrillConfig;
pub use preflight::{Monitor, PreflightConfig, ReadinessConfig};
pub use procedure::{FailoverConfig, JournalConfig, ProcedureConfig, SwitchoverConfig};
pub use rejoin::RejoinConfig;
pub use restart::{RestartConfig, RestartServicesConfig};
pub use saved::{PruneConfig, RestoreConfig};

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
    /// The two API servers, as far as they can be asked.
    pub api_servers: ApiServers,
    /// What to do.
    pub command: C,
}

/// What is logged, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Form of the lines.
    pub format: LogFormat,
    /// Least important lines to log.
    pub level: LogLevel,
    /// Whether to log a line for every key.
    pub detail: bool,
}

/// How to reach one cluster.
#[derive(Clone, Debug)]
pub struct Connection {
    side: Side,
    flags: ConnectionArgs,
}

/// The certificates for one cluster.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionFiles<'a> {
    /// The authorities of its servers.
    pub cacert: Option<&'a Path>,
    /// Our certificate.
    pub cert: Option<&'a Path>,
    /// Its key.
    pub key: Option<&'a Path>,
}

/// The API servers of both clusters; `None`: nobody said where it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiServers {
    /// The primary's.
    pub primary: Option<ApiServer>,
    /// The standby's.
    pub standby: Option<ApiServer>,
    /// A kubeconfig of the standby; the failover commands prefer it.
    pub standby_kubeconfig: Option<PathBuf>,
}

/// How to reach an API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiServer {
    /// `https://host:port`.
    pub url: String,
    /// File with a token; without one the server is asked as nobody in particular.
    pub token_file: Option<PathBuf>,
    /// PEM file with the authorities; `None`: `ca.crt` beside the token if it exists, else the system's.
    pub cacert: Option<PathBuf>,
    /// The flag that names it, for messages; `None` for the cluster this program runs in.
    pub flag: Option<&'static str>,
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

/// `run`.
#[derive(Clone, Debug)]
pub struct RunConfig {
    /// Address of the HTTP server.
    pub listen: std::net::SocketAddr,
    /// Identity of this replica in the election.
    pub holder: String,
    /// The Lease that the leader holds beside its place in etcd; `None`: it holds none.
    pub lease: Option<LeaseConfig>,
    /// How long a leader that vanished blocks the next one.
    pub leader_ttl: Duration,
    /// Transactions under way at once.
    pub transactions_in_flight: usize,
    /// How often the checkpoint of an idle link is moved.
    pub checkpoint_interval: Duration,
    /// Lag above which the replica is not ready.
    pub ready_lag: Duration,
    /// When a resync has to ask.
    pub deletions: DeletionLimits,
    /// Go on although the primary holds no key in scope.
    pub accept_empty_primary: bool,
    /// Go on although nobody knows whether the standby decrypts the primary's values.
    pub accept_unproved_encryption: bool,
    /// Id of the cluster to take as the new primary.
    pub accept_new_primary: Option<u64>,
}

/// A Lease of the cluster that this program runs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseConfig {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// When a resync has to ask: it would delete more than both limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeletionLimits {
    /// Part of the scope, in percent.
    pub percent: u64,
    /// Number of keys.
    pub count: u64,
    /// Deletions that were allowed beforehand.
    pub accepted: Option<u64>,
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
            CommandArgs::Restore(args) => CommandConfig::Restore(args.into()),
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
            api_servers: ApiServers::new(global.kubernetes, environment)?,
            command,
        })
    }

    /// What opens encrypted values, from the file as it is now.
    pub fn encryption(&self) -> Result<Encryption, EncryptionError> {
        Encryption::load(self.encryption_config.as_deref())
    }

    /// The clients of both clusters; nothing is sent yet.
    pub fn pair(&self) -> Result<Pair, etcd_sync_store::Error> {
        let (primary, standby) = (self.primary.etcd()?, self.standby.etcd()?);
        Ok(Pair { primary, standby, keys: StateKeys::new(&self.link) })
    }
}

impl Connection {
    /// A command that does without this etcd needs no endpoints either.
    fn new(side: Side, flags: ConnectionArgs, needed: bool) -> Result<Connection, ArgsError> {
        let flag = |name: &str| format!("{side}-{name}");
        if needed && flags.endpoints.is_empty() {
            let what = "the client URLs of the etcd members, like https://10.0.0.1:2379,https://10.0.0.2:2379";
            return Err(ArgsError::Missing { flag: flag("endpoints"), what });
        }
        let pairs = [
            ("cert", flags.cert.is_some(), "key", flags.key.is_some()),
            ("user", flags.user.is_some(), "password-file", flags.password_file.is_some()),
        ];
        for (one, has_one, other, has_other) in pairs {
            match (has_one, has_other) {
                (true, false) => return Err(ArgsError::Alone { given: flag(one), missing: flag(other) }),
                (false, true) => return Err(ArgsError::Alone { given: flag(other), missing: flag(one) }),
                _ => {}
            }
        }
        Ok(Connection { side, flags })
    }

    /// The endpoints, as they were given.
    pub fn endpoints(&self) -> &[String] {
        &self.flags.endpoints
    }

    /// The same in the words of the store.
    pub fn options(&self) -> Options {
        let ConnectionArgs { endpoints, cacert, cert, key, user, password_file, server_name } = self.flags.clone();
        let mut options = Options::new(self.side, endpoints);
        if cacert.is_some() || cert.is_some() {
            options.tls = Some(TlsFiles { ca: cacert, cert, key });
        }
        options.auth = user.zip(password_file).map(|(user, password_file)| Auth { user, password_file });
        options.server_name = server_name;
        options
    }

    /// The files that the flags name.
    pub fn files(&self) -> ConnectionFiles<'_> {
        let ConnectionArgs { cacert, cert, key, .. } = &self.flags;
        ConnectionFiles { cacert: cacert.as_deref(), cert: cert.as_deref(), key: key.as_deref() }
    }

    /// The cluster's client; nothing is sent yet.
    pub fn etcd(&self) -> Result<Etcd, etcd_sync_store::Error> {
        Etcd::new(self.options())
    }
}

/// The name that runbooks and scripts know.
const LEASE: &str = "etcd-sync-mirror";

/// What every pod finds in itself, unless its service account is not mounted.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

impl ApiServers {
    /// As a pod reaches them: a kubeconfig that a shared --config names lies on the operators' machines.
    pub fn of_pod(&self) -> ApiServers {
        ApiServers { standby_kubeconfig: None, ..self.clone() }
    }

    fn new(args: KubernetesArgs, environment: &Environment) -> Result<ApiServers, ArgsError> {
        let server = |flag: &'static str, url: Option<String>, files: [(&'static str, Option<PathBuf>); 2]| {
            let Some(url) = url else {
                let given = files.into_iter().find(|(_, file)| file.is_some());
                return given.map_or(Ok(None), |(given, _)| {
                    Err(ArgsError::Useless { given: given.to_owned(), missing: flag.to_owned() })
                });
            };
            let [(_, token_file), (_, cacert)] = files;
            Ok(Some(ApiServer { url, token_file, cacert, flag: Some(flag) }))
        };
        let primary = server(
            "active-cluster-vip",
            args.active_cluster_vip.map(|address| format!("https://{address}")),
            [
                ("active-cluster-token-file", args.active_cluster_token_file),
                ("active-cluster-cacert", args.active_cluster_cacert),
            ],
        )?;
        let standby = server(
            "standby-api-server",
            args.standby_api_server,
            [("standby-api-token-file", args.standby_api_token_file), ("standby-api-cacert", args.standby_api_cacert)],
        )?;
        Ok(ApiServers {
            primary,
            standby: standby.or_else(|| around(environment)),
            standby_kubeconfig: args.standby_kubeconfig,
        })
    }
}

/// The API server of the cluster this program runs in. A synchronizer runs in the standby.
fn around(environment: &Environment) -> Option<ApiServer> {
    let host = service_host(environment)?;
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let port = variable(environment, "KUBERNETES_SERVICE_PORT").unwrap_or("443");
    let file = |name: &str| Some(PathBuf::from(SERVICE_ACCOUNT).join(name));
    Some(ApiServer {
        url: format!("https://{host}:{port}"),
        token_file: file("token"),
        cacert: file("ca.crt"),
        flag: None,
    })
}

/// Where the API server of the cluster around is; only a pod is told.
fn service_host(environment: &Environment) -> Option<&str> {
    variable(environment, "KUBERNETES_SERVICE_HOST")
}

fn variable<'a>(environment: &'a Environment, name: &str) -> Option<&'a str> {
    environment.get(name)?.to_str().filter(|value| !value.is_empty())
}

impl RunConfig {
    fn new(args: RunArgs, environment: &Environment) -> RunConfig {
        RunConfig {
            listen: args.listen,
            holder: args.holder.unwrap_or_else(|| holder(environment)),
            lease: lease(args.lease, environment),
            leader_ttl: args.leader_ttl,
            transactions_in_flight: usize::try_from(args.transactions_in_flight).unwrap_or(usize::MAX),
            checkpoint_interval: args.checkpoint_interval,
            ready_lag: args.ready_lag,
            deletions: DeletionLimits {
                percent: args.deletion_limit_percent,
                count: args.deletion_limit_count,
                accepted: args.accept_deletions,
            },
            accept_empty_primary: args.accept_empty_primary,
            accept_unproved_encryption: args.accept_unproved_encryption,
            accept_new_primary: args.accept_new_primary,
        }
    }
}

/// In Kubernetes the pod's name; elsewhere the process id keeps two replicas on one host apart.
fn holder(environment: &Environment) -> String {
    let pod = variable(environment, "POD_NAME").map(str::trim).filter(|name| !name.is_empty());
    pod.map_or_else(|| format!("{}-{}", host(environment), std::process::id()), str::to_owned)
}

/// The Lease that scripts look at, where there is a cluster around.
fn lease(given: Option<String>, environment: &Environment) -> Option<LeaseConfig> {
    let name = given.unwrap_or_else(|| LEASE.to_owned());
    service_host(environment).filter(|_| name != "none")?;
    Some(LeaseConfig { namespace: namespace(environment)?, name })
}

/// The namespace of this pod; `None` outside of a cluster.
fn namespace(environment: &Environment) -> Option<String> {
    service_host(environment)?;
    let told = variable(environment, "POD_NAMESPACE").map(str::to_owned);
    let mounted = || std::fs::read_to_string(PathBuf::from(SERVICE_ACCOUNT).join("namespace")).ok();
    told.or_else(mounted).map(|name| name.trim().to_owned()).filter(|name| !name.is_empty())
}

/// The name of this host.
fn host(environment: &Environment) -> String {
    let kernel = || std::fs::read_to_string(PathBuf::from("/proc/sys/kernel/hostname")).ok();
    let name = variable(environment, "HOSTNAME").map(str::to_owned).or_else(kernel).unwrap_or_default();
    match name.trim() {
        "" => "unknown-host".to_owned(),
        name => name.to_owned(),
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
