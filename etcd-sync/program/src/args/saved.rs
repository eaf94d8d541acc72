//! The flags of `prune` and `restore`.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::{ArgAction, Args, ValueEnum};

use super::TableOutput;
use super::values::{boolean, duration, key, number, some_text};

/// `etcd-sync prune`.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Selection (what is given must all fit; of a list, one entry must)")]
pub struct PruneArgs {
    /// Only keys that begin with this. May be repeated
    #[arg(long, value_name = "PREFIX", value_parser = key)]
    pub below: Vec<Bytes>,

    /// Only keys in these namespaces, a namespace's own object included, comma separated or repeated
    #[arg(long, value_name = "NAMESPACE,...", value_delimiter = ',', value_parser = some_text)]
    pub namespace: Vec<String>,

    /// Only this key, written as `check` shows it. May be repeated
    #[arg(long, value_name = "KEY", value_parser = key)]
    pub key: Vec<Bytes>,

    /// Only objects made so long ago or longer (1s to 3650d); a key whose age cannot be told is not selected
    #[arg(long, value_name = "DURATION", value_parser = duration("1s", "3650d"))]
    pub older_than: Option<Duration>,

    /// Only keys of this origin: made on the standby (local), or mirrored once or unknown (leftover)
    #[arg(long, value_name = "ORIGIN", default_value = "all")]
    pub origin: OriginArg,

    /// Form of the output on stdout; JSON cannot ask, so it needs --yes or --dry-run
    #[arg(short, long, value_name = "FORMAT", default_value = "table", help_heading = "Output")]
    pub output: TableOutput,

    /// How many keys are shown, the first ones; 0: all. More than these may be selected
    #[arg(
        long, value_name = "KEYS", default_value = "100", value_parser = number(0, u64::MAX), help_heading = "Output"
    )]
    pub limit: u64,

    /// Stop after the plan
    #[arg(
        long, value_name = "BOOL", default_value = "false", value_parser = boolean, num_args = 0..=1,
        require_equals = true, default_missing_value = "true", action = ArgAction::Set, help_heading = "Guards"
    )]
    pub dry_run: bool,

    /// Do not ask
    #[arg(
        long, value_name = "BOOL", default_value = "false", value_parser = boolean, num_args = 0..=1,
        require_equals = true, default_missing_value = "true", action = ArgAction::Set, help_heading = "Guards"
    )]
    pub yes: bool,

    /// More keys than this are not deleted without --accept-deletions
    #[arg(
        long, value_name = "KEYS", default_value = "100", value_parser = number(0, u64::MAX), help_heading = "Guards"
    )]
    pub deletion_limit: u64,

    /// Delete up to this many keys although that is more than --deletion-limit; default: none
    #[arg(long, value_name = "KEYS", value_parser = number(1, u64::MAX), help_heading = "Guards")]
    pub accept_deletions: Option<u64>,

    /// File to save the keys in before they are deleted, with their values; it must not exist. Default:
    /// etcd-sync-prune-<link>-<time>.jsonl in the current directory
    #[arg(long, value_name = "FILE", help_heading = "Guards")]
    pub backup: Option<PathBuf>,

    /// How long the comparison may take before it gives up with exit code 2 (1s to 1d)
    #[arg(
        long, value_name = "DURATION", default_value = "60s", value_parser = duration("1s", "1d"),
        help_heading = "Guards"
    )]
    pub timeout: Duration,
}

/// `etcd-sync restore`.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Guards")]
pub struct RestoreArgs {
    /// File that `etcd-sync prune` has written
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Stop after the plan
    #[arg(
        long, value_name = "BOOL", default_value = "false", value_parser = boolean, num_args = 0..=1,
        require_equals = true, default_missing_value = "true", action = ArgAction::Set
    )]
    pub dry_run: bool,

    /// Do not ask
    #[arg(
        long, value_name = "BOOL", default_value = "false", value_parser = boolean, num_args = 0..=1,
        require_equals = true, default_missing_value = "true", action = ArgAction::Set
    )]
    pub yes: bool,

    /// Put keys back into another cluster than the one they were saved from
    #[arg(
        long, value_name = "BOOL", default_value = "false", value_parser = boolean, num_args = 0..=1,
        require_equals = true, default_missing_value = "true", action = ArgAction::Set
    )]
    pub accept_other_cluster: bool,

    /// Form of the output on stdout; JSON cannot ask, so it needs --yes or --dry-run
    #[arg(short, long, value_name = "FORMAT", default_value = "table", help_heading = "Output")]
    pub output: TableOutput,

    /// How many keys of each outcome are shown, the first ones; 0: all
    #[arg(
        long, value_name = "KEYS", default_value = "100", value_parser = number(0, u64::MAX), help_heading = "Output"
    )]
    pub limit: u64,
}

/// Where a surplus key comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OriginArg {
    /// Anywhere.
    All,
    /// Made on the standby.
    Local,
    /// Mirrored once and deleted on the primary since, or of unknown origin.
    Leftover,
}
