//! The flags of every command that shows a plan and asks before it changes anything.

use clap::Args;

use super::TableOutput;
use super::switch::Switch;

/// How the plan is shown, and whether it is asked for.
#[derive(Clone, Copy, Debug, Args)]
pub struct ConfirmArgs {
    /// Form of the output on stdout; JSON cannot ask, so it needs --yes or --dry-run
    #[arg(short, long, value_name = "FORMAT", default_value = "table", help_heading = "Output")]
    pub output: TableOutput,

    /// Stop after the plan
    #[arg(long, switch = false, help_heading = "Guards")]
    pub dry_run: bool,

    /// Skip the confirmation
    #[arg(long, switch = false, help_heading = "Guards")]
    pub yes: bool,
}
