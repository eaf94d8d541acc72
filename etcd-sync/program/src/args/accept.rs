//! The flags of `accept`.

use clap::Args;

use super::ConfirmArgs;
use super::values::{number, some_text};

/// `etcd-sync accept`.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Guards")]
pub struct AcceptArgs {
    /// File for the values that go, written before the answer is given; it must not exist. `-`: to stdout, and everything else to
    /// stderr, for `kubectl exec`. Default: etcd-sync-accept-<link>-<time>.jsonl in the current directory; in a pod, whose own
    /// files are lost with it, there is no default
    #[arg(long, value_name = "FILE|-", value_parser = some_text)]
    pub backup: Option<String>,

    /// The plan and the confirmation.
    #[command(flatten)]
    pub confirm: ConfirmArgs,

    /// How many keys and groups are shown, the first ones; 0: all
    #[arg(
        long, value_name = "KEYS", default_value = "20", value_parser = number(0, u64::MAX), help_heading = "Output"
    )]
    pub limit: u64,
}
