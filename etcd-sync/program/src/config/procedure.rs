//! What `switchover`, `failover` and `journal` work with, and where every journal's copy goes.

use std::path::PathBuf;
use std::time::Duration;

use crate::args::{
    ArgsError, DnsArgs, Environment, FailoverArgs, JournalArgs, ProcedureArgs, ReadinessArgs, RestartArgs,
    SwitchoverArgs, TableOutput,
};

use super::environment::{host, variable};
use super::{DnsConfig, ReadinessConfig, RestartConfig};

/// What all commands with a journal have in common.
#[derive(Clone, Debug)]
pub struct ProcedureConfig {
    /// Form of the output.
    pub output: TableOutput,
    /// Stop after the plan.
    pub dry_run: bool,
    /// Skip the confirmation.
    pub yes: bool,
    /// Names of preflight checks whose failure is accepted.
    pub accept: Vec<String>,
    /// Where a copy of the journal goes; `None`: there is no place for it.
    pub journal_folder: Option<PathBuf>,
    /// How long a comparison may take.
    pub timeout: Duration,
    /// What is looked at first.
    pub readiness: ReadinessConfig,
    /// The domain.
    pub dns: DnsConfig,
    /// What is restarted.
    pub restart: RestartConfig,
    /// Who runs it: user and host.
    pub by: String,
}

/// `switchover`.
#[derive(Clone, Debug)]
pub struct SwitchoverConfig {
    /// Shared with `failover`.
    pub procedure: ProcedureConfig,
    /// Mark the primary as handed over.
    pub mark_primary_demoted: bool,
    /// What stops the primary's writers.
    pub stop_writers_command: Option<String>,
    /// How long to wait for them to stop.
    pub writers_timeout: Duration,
    /// How long to wait for the standby to come as far as the primary.
    pub drain_timeout: Duration,
    /// Values that may differ.
    pub accept_mismatched: Option<u64>,
}

/// `failover`.
#[derive(Clone, Debug)]
pub struct FailoverConfig {
    /// Shared with `switchover`.
    pub procedure: ProcedureConfig,
    /// Keys that may be missed.
    pub accept_missing: Option<u64>,
    /// Also when nobody knows which are.
    pub accept_unchecked: bool,
    /// The words that are asked for while the primary answers.
    pub despite_live_primary: Option<String>,
}

/// `journal`.
#[derive(Clone, Debug)]
pub struct JournalConfig {
    /// The run to show; `None`: all, in a list.
    pub run: Option<String>,
    /// Form of the output.
    pub output: TableOutput,
    /// Give up the run that is not finished.
    pub abandon: bool,
    /// Where the copies of the journal lie.
    pub journal_folder: Option<PathBuf>,
    /// Who runs it: user and host.
    pub by: String,
}

impl ProcedureConfig {
    pub(super) fn new(args: ProcedureArgs, environment: &Environment) -> Result<ProcedureConfig, ArgsError> {
        Ok(ProcedureConfig {
            output: args.output,
            dry_run: args.dry_run,
            yes: args.yes,
            accept: args.accept,
            journal_folder: args.journal_folder.or_else(|| journal_folder(environment)),
            timeout: args.timeout,
            readiness: ReadinessConfig::new(args.readiness, args.timeout),
            dns: DnsConfig::new(args.dns)?,
            restart: args.restart.into(),
            by: by(environment),
        })
    }
}

impl ProcedureConfig {
    /// For a rehearsal: nothing is asked, written down or changed.
    pub(super) fn rehearsal(
        output: TableOutput,
        timeout: Duration,
        readiness: ReadinessArgs,
        dns: DnsArgs,
        restart: RestartArgs,
        environment: &Environment,
    ) -> Result<ProcedureConfig, ArgsError> {
        let (accept, journal_folder) = (Vec::new(), None);
        let (dry_run, yes) = (true, false);
        let args = ProcedureArgs { output, dry_run, yes, accept, journal_folder, timeout, readiness, dns, restart };
        ProcedureConfig::new(args, environment)
    }
}

impl SwitchoverConfig {
    pub(super) fn new(args: SwitchoverArgs, environment: &Environment) -> Result<SwitchoverConfig, ArgsError> {
        Ok(SwitchoverConfig {
            procedure: ProcedureConfig::new(args.procedure, environment)?,
            mark_primary_demoted: args.mark_primary_demoted,
            stop_writers_command: args.stop_writers_command,
            writers_timeout: args.writers_timeout,
            drain_timeout: args.drain_timeout,
            accept_mismatched: args.accept_mismatched,
        })
    }
}

impl FailoverConfig {
    pub(super) fn new(args: FailoverArgs, environment: &Environment) -> Result<FailoverConfig, ArgsError> {
        Ok(FailoverConfig {
            procedure: ProcedureConfig::new(args.procedure, environment)?,
            accept_missing: args.accept_missing,
            accept_unchecked: args.accept_unchecked,
            despite_live_primary: args.despite_live_primary,
        })
    }
}

impl JournalConfig {
    pub(super) fn new(args: JournalArgs, environment: &Environment) -> JournalConfig {
        let JournalArgs { run, output, abandon, journal_folder: folder } = args;
        let journal_folder = folder.or_else(|| journal_folder(environment));
        JournalConfig { run, output, abandon, journal_folder, by: by(environment) }
    }
}

/// Where a user's programs keep what they must remember.
pub(super) fn journal_folder(environment: &Environment) -> Option<PathBuf> {
    let named = variable(environment, "XDG_STATE_HOME").map(PathBuf::from);
    let home = || Some(PathBuf::from(variable(environment, "HOME")?).join(".local/state"));
    Some(named.or_else(home)?.join("etcd-sync"))
}

/// User and host, for the journal.
pub(super) fn by(environment: &Environment) -> String {
    let user = ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(|name| variable(environment, name));
    format!("{}@{}", user.unwrap_or("unknown"), host(environment))
}
