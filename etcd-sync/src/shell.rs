//! Commands that operators give for what this program cannot know how to do.

use std::collections::VecDeque;
use std::io::{Write, stderr};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::{ChildStderr, Command};
use tokio::time::timeout;

/// How much of its standard error is remembered, in bytes.
const REMEMBERED: usize = 4 << 10;

/// A child of the command may hold the pipe for longer than the command lives.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Why a command did not do what it should. Its text follows the command's name.
#[derive(Debug, thiserror::Error)]
pub enum ShellError {
    /// There is no shell.
    #[error("cannot be run through sh: {0}")]
    Start(#[from] std::io::Error),
    /// It failed.
    #[error("failed ({status}): {last}")]
    Failed {
        /// How it ended.
        status: ExitStatus,
        /// The last line it wrote to its standard error.
        last: String,
    },
    /// It took too long.
    #[error(
        "did not end within {limit_s} s, and its shell was killed; its last word: {last}. Look whether something it started still runs"
    )]
    Timeout {
        /// The limit in seconds.
        limit_s: u64,
        /// The last line it wrote to its standard error.
        last: String,
    },
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
    shell.stdin(Stdio::null()).stdout(Stdio::from(stderr())).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = shell.spawn()?;
    let tail = Arc::new(Mutex::new(VecDeque::new()));
    let reading = child.stderr.take().map(|pipe| tokio::spawn(copy(pipe, Arc::clone(&tail))));
    let ended = timeout(limit, child.wait()).await;
    if ended.is_err() {
        let _ = child.kill().await;
    }
    if let Some(reading) = reading {
        let stop = reading.abort_handle();
        if timeout(LAST_WORDS, reading).await.is_err() {
            stop.abort();
        }
    }
    let last = last_line(&tail);
    match ended {
        Err(_) => Err(ShellError::Timeout { limit_s: limit.as_secs(), last }),
        Ok(status) => match status? {
            status if status.success() => Ok(()),
            status => Err(ShellError::Failed { status, last }),
        },
    }
}

async fn copy(mut pipe: ChildStderr, tail: Arc<Mutex<VecDeque<u8>>>) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = pipe.read(&mut buffer).await {
        let _ = stderr().write_all(&buffer[..length]);
        let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.extend(&buffer[..length]);
        let surplus = tail.len().saturating_sub(REMEMBERED);
        tail.drain(..surplus);
    }
}

fn last_line(tail: &Mutex<VecDeque<u8>>) -> String {
    let bytes: Vec<u8> = tail.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
    let text = String::from_utf8_lossy(&bytes);
    let last = text.lines().map(str::trim).rfind(|line| !line.is_empty());
    last.map_or_else(|| "it said nothing".to_owned(), str::to_owned)
}
