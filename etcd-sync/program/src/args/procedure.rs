//! The flags of `switchover`, `failover` and `journal`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::switch::Switch;
use super::values::{duration, number, some_text};
use super::{DnsArgs, ReadinessArgs, RestartArgs, TableOutput};

/// What all commands with a journal have in common.
#[derive(Clone, Debug, Args)]
pub struct ProcedureArgs {
    /// Form of the output on stdout; JSON cannot ask, so it needs --yes or --dry-run
    #[arg(short, long, value_name = "FORMAT", default_value = "table", help_heading = "Output")]
    pub output: TableOutput,

    /// Stop after the plan
    #[arg(long, switch = false, help_heading = "Guards")]
    pub dry_run: bool,

    /// Skip the confirmation
    #[arg(long, switch = false, help_heading = "Guards")]
    pub yes: bool,

    /// Go on although these checks of the preflight fail; not for missed keys
    #[arg(long, value_name = "CHECK,...", value_delimiter = ',', value_parser = some_text, help_heading = "Guards")]
    pub accept: Vec<String>,

    /// Folder for a copy of the journal; default: etcd-sync in the user's state folder (~/.local/state)
    #[arg(long, value_name = "FOLDER", help_heading = "Journal")]
    pub journal_folder: Option<PathBuf>,

    /// How long each comparison may take (1s to 1d)
    #[arg(
        long, value_name = "DURATION", default_value = "10m", value_parser = duration("1s", "1d"),
        help_heading = "Limits"
    )]
    pub timeout: Duration,

    /// What is looked at first.
    #[command(flatten)]
    pub readiness: ReadinessArgs,

    /// The domain.
    #[command(flatten)]
    pub dns: DnsArgs,

    /// What is restarted in the end.
    #[command(flatten)]
    pub restart: RestartArgs,
}

/// `etcd-sync switchover`.
#[derive(Clone, Debug, Args)]
pub struct SwitchoverArgs {
    /// Shared with `failover`.
    #[command(flatten)]
    pub procedure: ProcedureArgs,

    /// Mark the primary as handed over, in its own etcd: that needs the permission to write there
    #[arg(long, switch = true, help_heading = "Primary")]
    pub mark_primary_demoted: bool,

    /// Shell command that stops the primary's API servers; without it you are shown what to do, and waited for
    #[arg(long, value_name = "COMMAND", value_parser = some_text, help_heading = "Primary")]
    pub stop_writers_command: Option<String>,

    /// How long to wait until nobody writes to the primary any more (1s to 1d)
    #[arg(
        long, value_name = "DURATION", default_value = "15m", value_parser = duration("1s", "1d"),
        help_heading = "Limits"
    )]
    pub writers_timeout: Duration,

    /// How long to wait until the standby has the primary's last revision (1s to 1d)
    #[arg(
        long, value_name = "DURATION", default_value = "5m", value_parser = duration("1s", "1d"),
        help_heading = "Limits"
    )]
    pub drain_timeout: Duration,

    /// Go on although this many values differ, as the comparison has counted them
    #[arg(long, value_name = "KEYS", value_parser = number(1, u64::MAX), help_heading = "Guards")]
    pub accept_mismatched: Option<u64>,
}

/// `etcd-sync failover`.
#[derive(Clone, Debug, Args)]
pub struct FailoverArgs {
    /// Shared with `switchover`.
    #[command(flatten)]
    pub procedure: ProcedureArgs,

    /// Go on although this many keys were missed at the last check: what they own is deleted by the standby's garbage
    /// collector, and with Machine objects virtual machines are destroyed
    #[arg(long, value_name = "KEYS", value_parser = number(1, u64::MAX), help_heading = "Guards")]
    pub accept_missing: Option<u64>,

    /// Go on although nobody knows whether keys are missed
    #[arg(long, switch = false, help_heading = "Guards")]
    pub accept_unchecked: bool,

    /// Go on although the primary answers and takes writes; WORDS must be "lose its writes"
    #[arg(long, value_name = "WORDS", value_parser = some_text, help_heading = "Guards")]
    pub despite_live_primary: Option<String>,
}

/// `etcd-sync journal`.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Output")]
pub struct JournalArgs {
    /// The run to show; default: a list of all
    #[arg(value_name = "RUN")]
    pub run: Option<String>,

    /// Form of the output on stdout
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub output: TableOutput,

    /// Give up the run that is not finished, as long as nothing was promoted: the mark on the primary is cleared
    #[arg(long, switch = false, help_heading = "Guards")]
    pub abandon: bool,

    /// Folder with the copies of the journal, as with `switchover`
    #[arg(long, value_name = "FOLDER")]
    pub journal_folder: Option<PathBuf>,
}
