//! The operator's own command that changes the name.

use std::collections::VecDeque;
use std::io::{Write, stderr};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use etcd_sync_core::dns::{Records, Target};
use tokio::io::AsyncReadExt;
use tokio::process::{ChildStderr, Command};
use tokio::time::timeout;

use super::error::DnsError;

/// How much of its standard error is remembered, in bytes.
const REMEMBERED: usize = 4 << 10;

/// A child of the command may hold the pipe for longer than the command lives.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What the command is to do.
#[derive(Clone, Copy, Debug)]
pub enum Action {
    /// Give the name its addresses.
    Set,
    /// Take the name away.
    Remove,
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Action::Set => "set",
            Action::Remove => "remove",
        }
    }
}

/// Runs it, among our own processes: an interrupt from the keyboard reaches it too. What it writes goes to our standard error, where the log is: standard output is for data.
///
/// # Errors
/// It cannot be started, takes too long, or fails.
pub async fn run(
    text: &str,
    limit: Duration,
    action: Action,
    target: &Target,
    old: Option<&Records>,
    run: &str,
) -> Result<(), DnsError> {
    let joined = |addresses: &std::collections::BTreeSet<std::net::IpAddr>| {
        addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    };
    let mut command = Command::new("sh");
    // The word behind the text is the shell's own name, in its messages.
    command.arg("-c").arg(text).arg("dns-command").arg(action.name()).arg(&target.name);
    command.args(target.addresses.iter().map(ToString::to_string));
    command
        .env("ETCD_SYNC_DNS_ACTION", action.name())
        .env("ETCD_SYNC_DNS_NAME", &target.name)
        .env("ETCD_SYNC_DNS_ADDRESSES", joined(&target.addresses))
        .env("ETCD_SYNC_DNS_TTL", target.ttl_s.to_string())
        .env("ETCD_SYNC_DNS_OLD_ADDRESSES", old.map(|old| joined(&old.addresses)).unwrap_or_default())
        .env("ETCD_SYNC_DNS_RUN", run);
    command.stdin(Stdio::null()).stdout(Stdio::from(stderr())).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(DnsError::CommandStart)?;
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
        Err(_) => Err(DnsError::CommandTimeout { limit_s: limit.as_secs(), last }),
        Ok(Err(error)) => Err(DnsError::CommandStart(error)),
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(DnsError::Command { status, last }),
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
