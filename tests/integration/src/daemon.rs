//! The real `etcd-sync` and `etcd-sync-monitor` as processes.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::exact::PATIENCE;
use crate::http::{self, Response};
use crate::kube::pod::{self, Container};
use crate::process::Process;
use crate::{ports, tools};

/// Longest wait for an answer of the daemon's own HTTP server.
const HTTP_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest run of a command, unless a test says otherwise.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(300);
/// How long a process runs that is let run in slices.
const SLICE: Duration = Duration::from_millis(10);

/// A running `etcd-sync run`, or a running `etcd-sync-monitor`. Dropping it kills it; a panicking test then also shows its last log lines.
#[derive(Debug)]
pub struct Daemon {
    process: Mutex<Process>,
    lines: Arc<Mutex<Vec<String>>>,
    reader: JoinHandle<()>,
    port: u16,
    folder: TempDir,
    // The volumes of the container that it is.
    _container: Option<TempDir>,
}

impl Daemon {
    /// Starts `etcd-sync run --listen 127.0.0.1:<free port> <args>` and returns at once. Variables of this process do
    /// not reach it, apart from `PATH` and `RUST_BACKTRACE`; `env` is added.
    pub fn start(args: &[String], env: &[(&str, &str)]) -> Result<Daemon> {
        Daemon::start_program(&tools::etcd_sync()?, args, env)
    }

    /// [`Daemon::start`] with another program in its place.
    pub fn start_program(program: &Path, args: &[String], env: &[(&str, &str)]) -> Result<Daemon> {
        let args: Vec<String> = std::iter::once("run".to_owned()).chain(args.iter().cloned()).collect();
        Daemon::spawn("etcd-sync run", program, "127.0.0.1", &args, env)
    }

    /// Starts `etcd-sync-monitor --listen <host>:<free port> <args>` likewise; the methods below talk to 127.0.0.1.
    pub fn start_monitor(host: &str, args: &[String], env: &[(&str, &str)]) -> Result<Daemon> {
        Daemon::spawn("etcd-sync-monitor", &tools::etcd_sync_monitor()?, host, args, env)
    }

    /// Starts a container's program; only its listener is moved to a free port of 127.0.0.1.
    pub fn start_container(name: &str, container: Container) -> Result<Daemon> {
        let mut env: Vec<(&str, &str)> =
            container.environment.iter().map(|(name, value)| (&name[..], &value[..])).collect();
        env.push(("PATH", pod::PATH));
        let (program, args) = container.command.split_first().context("a container has a command")?;
        let mut daemon = Daemon::spawn(name, Path::new(program), "127.0.0.1", args, &env)?;
        daemon._container = Some(container.into_folder());
        Ok(daemon)
    }

    fn spawn(name: &str, program: &Path, host: &str, args: &[String], env: &[(&str, &str)]) -> Result<Daemon> {
        let port = ports::free(1)?[0];
        let folder = tempfile::Builder::new().prefix("etcd-sync-daemon-").tempdir().context("make a folder")?;
        let mut command = clean_command(program, env);
        command.args(args).arg(format!("--listen={host}:{port}")).current_dir(folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = Process::spawn(name, command)?;
        let stderr = process.child().stderr.take().context("the standard error was asked for")?;
        let mut copy = File::create(folder.path().join("stderr.log")).context("make the log file")?;
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&lines);
        // Ends with the process: then the pipe does.
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n').map_while(|line| line.ok()) {
                let line = String::from_utf8_lossy(&line).into_owned();
                let _ = writeln!(copy, "{line}");
                lock(&sink).push(line);
            }
        });
        Ok(Daemon { process: Mutex::new(process), lines, reader, port, folder, _container: None })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        lock(&self.process).id()
    }

    /// The file with a copy of the standard error.
    pub fn log_file(&self) -> PathBuf {
        self.folder.path().join("stderr.log")
    }

    /// All lines of standard error so far.
    pub fn lines(&self) -> Vec<String> {
        lock(&self.lines).clone()
    }

    /// How many lines there are: a mark for [`Daemon::wait_line_from`].
    pub fn mark(&self) -> usize {
        lock(&self.lines).len()
    }

    /// Waits for a line that holds `text`, old lines included; returns it.
    pub async fn wait_line(&self, text: &str, timeout: Duration) -> Result<String> {
        self.wait_line_from(0, text, timeout).await
    }

    /// Waits for a line that holds `text` and was written after `mark`. Fails early when the process ends.
    pub async fn wait_line_from(&self, mark: usize, text: &str, timeout: Duration) -> Result<String> {
        let deadline = Instant::now() + timeout;
        loop {
            // Before the search: a last line written in between must still be found.
            let ended = self.ended()?;
            if let Some(line) = lock(&self.lines)[mark..].iter().find(|line| line.contains(text)) {
                return Ok(line.clone());
            }
            if let Some(status) = ended {
                bail!("etcd-sync ended ({status}) without the line {text:?}:\n{}", self.tail());
            }
            if Instant::now() >= deadline {
                bail!("no line {text:?} within {timeout:?}:\n{}", self.tail());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The last 30 lines, for messages.
    pub fn tail(&self) -> String {
        let lines = lock(&self.lines);
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// How the process ended; `None` while it runs.
    pub fn exited(&self) -> Result<Option<ExitStatus>> {
        lock(&self.process).exited()
    }

    /// As [`Daemon::exited`], once its last line is read too.
    fn ended(&self) -> Result<Option<ExitStatus>> {
        Ok(self.exited()?.filter(|_| self.reader.is_finished()))
    }

    /// Waits for the process to end by itself; all its lines are there then.
    pub async fn wait(&self, timeout: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                bail!("etcd-sync still runs after {timeout:?}:\n{}", self.tail());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&self) -> Result<()> {
        lock(&self.process).kill().map(drop)
    }

    /// SIGTERM, and waits for the end.
    pub async fn terminate(&self, timeout: Duration) -> Result<ExitStatus> {
        lock(&self.process).signal(Signal::SIGTERM)?;
        self.wait(timeout).await
    }

    /// SIGSTOP: it holds its connections and leases, and does nothing.
    pub fn pause(&self) -> Result<()> {
        lock(&self.process).signal(Signal::SIGSTOP)
    }

    /// SIGCONT.
    pub fn resume(&self) -> Result<()> {
        lock(&self.process).signal(Signal::SIGCONT)
    }

    /// Lets it run for a moment at a time until the condition holds, and leaves it paused: it comes that far and hardly
    /// further, however fast the machine, and however late anybody looks.
    pub async fn run_in_slices(&self, what: &str, condition: impl AsyncFn() -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.pause()?;
            if condition().await? {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "waited {PATIENCE:?} in vain until {what}");
            self.resume()?;
            tokio::time::sleep(SLICE).await;
        }
    }

    /// The port of its HTTP server.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `GET path`: the status and the body.
    pub async fn http(&self, path: &str) -> Result<(u16, String)> {
        self.http_with(path, &[], HTTP_TIMEOUT).await
    }

    /// [`Daemon::http`] with header lines and a time limit of its own.
    pub async fn http_with(&self, path: &str, headers: &[(&str, &str)], timeout: Duration) -> Result<(u16, String)> {
        let Response { status, body } = http::get(self.port, path, headers, timeout).await?;
        Ok((status, body))
    }

    /// A metric's value now. A bare name is the sum over all its labels; `name{label="x"}` is that series alone.
    /// `None` when there is none, or the daemon does not answer.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        let (_, text) = self.http("/metrics").await.ok()?;
        metric_in(&text, name)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- last lines of etcd-sync ---\n{}", self.tail());
        }
        ports::release([self.port]);
    }
}

/// How a command ended and what it printed.
#[derive(Clone, Debug)]
pub struct Output {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs any `etcd-sync` command to its end, for at most five minutes.
pub async fn run_command(args: &[String]) -> Result<Output> {
    run_command_with(args, &[], COMMAND_TIMEOUT).await
}

/// [`run_command`] with variables and a time limit of its own.
pub async fn run_command_with(args: &[String], env: &[(&str, &str)], timeout: Duration) -> Result<Output> {
    let mut command = tokio::process::Command::from(clean_command(&tools::etcd_sync()?, env));
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    let shown = args.first().map_or("", String::as_str);
    let output = tokio::time::timeout(timeout, command.output()).await;
    let output = output.with_context(|| format!("etcd-sync {shown} took longer than {timeout:?}"))?;
    let output = output.with_context(|| format!("start etcd-sync {shown}"))?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Output { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) })
}

pub(crate) fn clean_command(program: &Path, env: &[(&str, &str)]) -> Command {
    let mut command = Command::new(program);
    command.env_clear();
    for name in ["PATH", "RUST_BACKTRACE"] {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    command.envs(env.iter().copied());
    command
}

fn metric_in(text: &str, name: &str) -> Option<f64> {
    let series = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        // Behind the name: the value, or the labels of one of its series.
        let rest = if rest.starts_with('{') { rest.rsplit_once("} ")?.1 } else { rest.strip_prefix(' ')? };
        rest.split(' ').next()?.parse::<f64>().ok()
    });
    series.reduce(|sum, value| sum + value)
}

/// A test that panicked while holding the lock has done its harm already.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_summed_over_labels_or_picked_by_them() {
        let text = "# TYPE a counter\na{kind=\"x\"} 2\na{kind=\"y z\"} 3\nab 7\nb 1.5e3 1700000000\n";
        assert_eq!(metric_in(text, "a"), Some(5.0));
        assert_eq!(metric_in(text, "a{kind=\"y z\"}"), Some(3.0));
        assert_eq!(metric_in(text, "b"), Some(1500.0));
        assert_eq!(metric_in(text, "c"), None);
    }
}
