//! Commands that operators give for what this program cannot know how to do.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

/// Why a command did not do what it should. Its text follows the command's name, and holds nothing of what the command wrote:
/// journals keep it.
#[derive(Debug, thiserror::Error)]
pub enum ShellError {
    /// There is no shell.
    #[error("cannot be run through sh: {0}")]
    Start(#[from] std::io::Error),
    /// It failed.
    #[error("failed ({0}); what it wrote is above")]
    Failed(ExitStatus),
    /// It took too long.
    #[error(
        "did not end within {0} s, and its shell was killed; what it wrote is above; check whether something it started is still running"
    )]
    Timeout(u64),
}

/// Runs a command line with `sh -c`, in our own folder and among our own processes: an interrupt from the keyboard reaches it too.
/// What it writes goes to our standard error, where the log is: standard output is for data. `args` are its `$1`, `$2`, ...;
/// `name` is the shell's own name in its messages.
///
/// # Errors
/// It cannot be started, takes too long, or fails.
pub async fn run(
    text: &str,
    name: &str,
    args: &[String],
    variables: &[(&str, String)],
    limit: Duration,
) -> Result<(), ShellError> {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(text).arg(name).args(args).envs(variables.iter().map(|(name, value)| (name, value)));
    shell.stdin(Stdio::null()).stdout(Stdio::from(std::io::stderr())).kill_on_drop(true);
    let mut child = shell.spawn()?;
    match timeout(limit, child.wait()).await {
        Ok(status) => match status? {
            status if status.success() => Ok(()),
            status => Err(ShellError::Failed(status)),
        },
        Err(_) => {
            let _ = child.kill().await;
            Err(ShellError::Timeout(limit.as_secs()))
        }
    }
}
