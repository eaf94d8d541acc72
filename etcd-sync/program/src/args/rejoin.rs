//! The flags of `rejoin`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::ConfirmArgs;
use super::switch::Switch;
use super::values::{duration, number};

/// `etcd-sync rejoin`.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Guards")]
pub struct RejoinArgs {
    /// File for everything that the old primary loses, with the values; it must not exist. Default:
    /// etcd-sync-rejoin-<link>-<time>.jsonl in the current directory; in a pod, whose own files go with it, there is no
    /// default: name a file on a volume that stays. What is written there meanwhile goes to a second file, with .later behind the name
    #[arg(long, value_name = "FILE")]
    pub backup: Option<PathBuf>,

    /// Go on although the old primary's history is not the one that was synchronized, as after a restore from a backup: all that
    /// differs counts as never copied
    #[arg(long, switch = false)]
    pub accept_other_history: bool,

    /// Go on although it cannot be proved that this cluster's API server decrypts what the new primary's has encrypted
    #[arg(long, switch = false)]
    pub allow_unproved_encryption: bool,

    /// How long the copy and the proof may take each before the command gives up with exit code 2; another run goes on (1s to 7d)
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration("1s", "7d"))]
    pub timeout: Duration,

    /// Folder for a copy of the journal; default: etcd-sync in the user's state folder (~/.local/state)
    #[arg(long, value_name = "FOLDER", help_heading = "Journal")]
    pub journal_folder: Option<PathBuf>,

    /// The plan and the confirmation.
    #[command(flatten)]
    pub confirm: ConfirmArgs,

    /// How many keys of each list are shown, the first ones; 0: all
    #[arg(
        long, value_name = "KEYS", default_value = "100", value_parser = number(0, u64::MAX), help_heading = "Output"
    )]
    pub limit: u64,
}
