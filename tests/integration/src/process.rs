//! A child process that never outlives its handle.

use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

/// A running program. Dropping the handle kills it, on a panic too: the wait is blocking, so no runtime is needed.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    status: Option<ExitStatus>,
    armed: bool,
}

impl Process {
    /// Starts `command`; `name` appears in errors.
    pub fn spawn(name: impl Into<String>, mut command: Command) -> Result<Process> {
        let name = name.into();
        let child = command.spawn().with_context(|| format!("start {name} ({:?})", command.get_program()))?;
        Ok(Process { name, child, status: None, armed: true })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The child itself, to take its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// How it ended, when it has.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = self.child.try_wait().with_context(|| format!("look after {}", self.name))?;
        }
        Ok(self.status)
    }

    /// Sends a signal. An error when the process has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        // Asking first keeps the id valid: a child that was not waited for keeps it.
        if let Some(status) = self.exited()? {
            bail!("{} cannot be sent {signal}: it ended ({status})", self.name);
        }
        let pid = Pid::from_raw(i32::try_from(self.child.id()).context("a process id beyond pid_t")?);
        nix::sys::signal::kill(pid, signal).with_context(|| format!("send {signal} to {}", self.name))
    }

    /// SIGKILL, and waits for the end. Nothing happens when it has ended already.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.exited()? {
            return Ok(status);
        }
        self.child.kill().with_context(|| format!("kill {}", self.name))?;
        let status = self.child.wait().with_context(|| format!("wait for {}", self.name))?;
        self.status = Some(status);
        Ok(status)
    }

    /// Waits for the process to end by itself.
    pub async fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.exited()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                bail!("{} did not end within {timeout:?}", self.name);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Lets the process live on when the handle goes.
    pub fn disarm(mut self) -> u32 {
        self.armed = false;
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.armed && self.status.is_none() {
            // Nobody is left to tell about an error, and a second panic would abort the test.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
