//! Commands that operators give for what this program cannot know how to do.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::process::Command;
use tokio::time::timeout;

/// Runs a command line with `sh -c`, in our own folder, its output on our stderr. `Err` says how it ended, if not well; it
/// is killed when the time is over.
///
/// # Errors
/// It cannot be run at all.
pub async fn run(command: &str, variables: &[(&str, &str)], limit: Duration) -> Result<Result<(), String>> {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).envs(variables.iter().copied());
    // Data of ours goes to stdout.
    shell.stdin(Stdio::null()).stdout(std::io::stderr()).kill_on_drop(true);
    let mut child = shell.spawn().context("cannot run sh")?;
    Ok(match timeout(limit, child.wait()).await {
        Ok(status) => match status.context("cannot wait for sh")? {
            status if status.success() => Ok(()),
            status => Err(format!("failed ({status})")),
        },
        Err(_) => Err(format!("did not end within {}", humantime::format_duration(limit))),
    })
}
