//! A command on a terminal, so that it asks and can be answered.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::pty::openpty;

use crate::compare::await_true;
use crate::daemon::clean_command;
use crate::process::Process;
use crate::tools;

/// An `etcd-sync` command whose three streams are one terminal.
#[derive(Debug)]
pub struct Terminal {
    process: Process,
    keyboard: File,
    shown: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
}

impl Terminal {
    /// Starts a command.
    pub fn start(args: &[String]) -> Result<Terminal> {
        let pty = openpty(None, None).context("open a terminal")?;
        let mut command = clean_command(&tools::etcd_sync()?, &[]);
        let stream = || anyhow::Ok(Stdio::from(pty.slave.try_clone()?));
        command.args(args).stdin(stream()?).stdout(stream()?).stderr(stream()?);
        let process = Process::spawn("etcd-sync on a terminal", command)?;
        drop(pty.slave);
        let mut screen = File::from(pty.master);
        let keyboard = screen.try_clone()?;
        let shown = Arc::new(Mutex::new(String::new()));
        let sink = Arc::clone(&shown);
        // Ends with the process: then nobody holds the other side.
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = screen.read(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                sink.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
            }
        });
        Ok(Terminal { process, keyboard, shown, reader })
    }

    /// All that was shown so far, with the terminal's line ends.
    pub fn shown(&self) -> String {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until the screen shows this text.
    pub async fn wait_for(&self, text: &str, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        while !self.shown().contains(text) {
            if Instant::now() >= deadline {
                bail!("the terminal does not show {text:?} within {timeout:?}:\n{}", self.shown());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Types a line.
    pub fn type_line(&mut self, line: &str) -> Result<()> {
        self.keyboard.write_all(format!("{line}\n").as_bytes()).context("type a line")
    }

    /// Waits for the end; gives the status and all that was shown.
    pub async fn wait(mut self, timeout: Duration) -> Result<(ExitStatus, String)> {
        let status = self.process.wait(timeout).await.with_context(|| self.shown())?;
        // The reading thread may lag behind the end of the process.
        await_true("all is read", timeout, || async { Ok(self.reader.is_finished()) }).await?;
        Ok((status, self.shown()))
    }
}
