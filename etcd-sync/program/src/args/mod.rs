//! The command lines of both programs. Every flag has an environment variable (`ETCD_SYNC_` and the flag in capitals) and a key in the
//! YAML file of `--config` (the flag without its dashes); flag wins over environment, environment over file, file over
//! the default.

mod accept;
mod bootstrap;
mod commands;
mod confirm;
mod connection;
mod dns;
mod drill;
mod error;
mod file;
mod kubernetes;
mod monitor;
mod preflight;
mod procedure;
#[cfg(test)]
mod reference;
mod rejoin;
mod restart;
mod saved;
mod scope;
mod sources;
mod switch;
#[cfg(test)]
mod tests;
mod values;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

pub use accept::AcceptArgs;
pub use bootstrap::BootstrapArgs;
pub use commands::{CheckArgs, CheckOutput, PlanArgs, RunArgs, StatusArgs, TableOutput};
pub use confirm::ConfirmArgs;
pub use connection::{ConnectionArgs, PrimaryArgs, StandbyArgs};
pub use dns::{DnsArgs, DnsCommandArgs, DnsSwitchArgs, DnsVerifyArgs};
pub use drill::DrillArgs;
pub use error::ArgsError;
pub use kubernetes::KubernetesArgs;
pub use monitor::MonitorArgs;
pub use preflight::{PreflightArgs, PurposeArg, ReadinessArgs};
pub use procedure::{FailoverArgs, JournalArgs, ProcedureArgs, SwitchoverArgs};
pub use rejoin::RejoinArgs;
pub use restart::{RestartArgs, RestartServicesArgs};
pub use saved::{OriginArg, PruneArgs, RestoreArgs};
pub use scope::ScopeArgs;

pub(crate) use scope::or_none;
use switch::Switch;
use values::link;

/// Keeps the etcd of a standby Kubernetes cluster equal to its primary's.
///
/// Every flag may also be given in the environment or in the file of --config, where its key is the flag without the
/// dashes in front. The flag wins over the environment, the environment over the file. An empty environment variable
/// counts as not given; in the environment, a list that cannot be written with commas takes one entry a line.
#[derive(Clone, Debug, Parser)]
#[command(name = "etcd-sync", version, max_term_width = 120, disable_help_subcommand = true)]
pub struct Cli {
    /// What every command needs.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: CommandArgs,
}

/// Shows which keys of the primary are missing in the standby's etcd: /check for scripts, / for people, /metrics.
///
/// It only reads. Every flag may also be given in the environment or in the file of --config, where its key is the flag
/// without the dashes in front. The flag wins over the environment, the environment over the file. An empty environment
/// variable counts as not given; in the environment, a list that cannot be written with commas takes one entry a line.
#[derive(Clone, Debug, Parser)]
#[command(name = "etcd-sync-monitor", version, max_term_width = 120)]
pub struct MonitorCli {
    /// The same as for `etcd-sync`.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// The monitor's own.
    #[command(flatten)]
    pub monitor: MonitorArgs,
}

/// The flags of every command; they are allowed before and after its name.
#[derive(Clone, Debug, clap::Args)]
pub struct GlobalArgs {
    /// YAML file with flags: a mapping from the flag without its dashes to its value or list of values
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Name of this link, 1 to 40 lower-case letters, digits and dashes: its state is in the standby's etcd below
    /// /etcd-sync/<link>/
    #[arg(long, global = true, value_name = "NAME", default_value = "default", value_parser = link)]
    pub link: String,

    /// Form of the log lines on stderr
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text", help_heading = "Logging")]
    pub log_format: LogFormat,

    /// Minimum log level
    #[arg(long, global = true, value_name = "LEVEL", default_value = "info", help_heading = "Logging")]
    pub log_level: LogLevel,

    /// Log a line for every key that is written, deleted or buffered (never its value)
    #[arg(long, global = true, switch = false, help_heading = "Logging")]
    pub detail: bool,

    /// The cluster that is read.
    #[command(flatten)]
    pub primary: PrimaryArgs,

    /// The cluster that is written.
    #[command(flatten)]
    pub standby: StandbyArgs,

    /// What is synchronized.
    #[command(flatten)]
    pub scope: ScopeArgs,

    /// Encryption at rest and the API servers.
    #[command(flatten)]
    pub kubernetes: KubernetesArgs,
}

/// The commands.
#[derive(Clone, Debug, Subcommand)]
pub enum CommandArgs {
    /// Synchronize: copy the primary into the standby and keep it up to date, until stopped
    Run(RunArgs),
    /// Show how far the standby is, which replica leads and what blocks replication
    Status(StatusArgs),
    /// Show what a synchronization would create, overwrite, delete and leave unchanged, writing nothing
    Plan(PlanArgs),
    /// Compare both clusters key by key; exit code 0: consistent, 1: they differ, 2: no verdict
    Check(CheckArgs),
    /// Check everything that must be true before the roles are switched; exit code 0: all passed, 1: warnings, 2: a check failed
    Preflight(PreflightArgs),
    /// Prepare the Secrets that the pods of the Helm chart need: its hook runs this before they start
    Bootstrap(BootstrapArgs),
    /// Delete surplus keys from the standby: plan, save them in a file, delete; exit code 1: refused, or some keys remain
    Prune(PruneArgs),
    /// Put keys back into the standby that `prune` or `accept` has saved in a file, or the synchronizer on the standby itself; exit
    /// code 1: refused, or some keys are left unchanged
    Restore(RestoreArgs),
    /// Answer what a paused synchronizer asks: show what the standby would lose, save it, let replication go on, once; exit code 1:
    /// refused or not confirmed
    Accept(AcceptArgs),
    /// Switch the roles while both clusters run, without data loss; exit code 1: refused, or stopped at a step
    Switchover(SwitchoverArgs),
    /// Promote the standby because the primary is gone; exit code 1: refused, or stopped at a step
    Failover(FailoverArgs),
    /// Rehearse a switch without changes to what serves users; exit code 1: a failover would probably fail
    Drill(DrillArgs),
    /// Show the runs of the failover commands; exit code 1: a run is not finished
    Journal(JournalArgs),
    /// Check which cluster the platform domain resolves to, or change it to another cluster
    #[command(subcommand)]
    Dns(DnsCommandArgs),
    /// Make the old primary (--standby-endpoints) the standby of the promoted cluster (--primary-endpoints): show what only the
    /// old one has, save it in a file, change its role, copy by difference; exit code 1: refused, or not complete
    Rejoin(RejoinArgs),
    /// Restart pods that have old state after a switch, and wait until they are ready; exit code 1: refused, or some are not ready
    RestartServices(RestartServicesArgs),
}

/// Form of the log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Minimum log level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// What failed.
    Error,
    /// What needs attention.
    Warn,
    /// What happened.
    Info,
    /// How it happened.
    Debug,
    /// Everything.
    Trace,
}

/// The environment variables that matter: ours, and those that name this replica, its user and the API server around it.
pub type Environment = BTreeMap<String, OsString>;

/// What others set: the pod's name and namespace, the host's name, where a pod finds the API server of its cluster, and the user and
/// where that user's files are.
const AROUND: [&str; 10] = [
    "POD_NAME",
    "POD_NAMESPACE",
    "HOSTNAME",
    "KUBERNETES_SERVICE_HOST",
    "KUBERNETES_SERVICE_PORT",
    "SUDO_USER",
    "USER",
    "LOGNAME",
    "HOME",
    "XDG_STATE_HOME",
];

/// Reads the variables of [`Environment`] from this process.
pub fn environment() -> Environment {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| name.starts_with("ETCD_SYNC_") || AROUND.contains(&name.as_str()))
        .collect()
}

/// Reads the command line, environment and file of this process. The caller prints an error with
/// [`ArgsError::report`], which gives the exit code too (help and version are errors in this sense, with code 0).
pub fn parse<C: Parser>() -> Result<C, ArgsError> {
    parse_from(std::env::args_os(), &environment())
}

/// As [`parse`], with everything given. The first argument is the program's name.
pub fn parse_from<C, I>(args: I, environment: &Environment) -> Result<C, ArgsError>
where
    C: Parser,
    I: IntoIterator,
    I::Item: AsRef<OsStr>,
{
    sources::parse(args.into_iter().map(|arg| arg.as_ref().to_owned()).collect(), environment)
}
