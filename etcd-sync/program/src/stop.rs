//! The wish to stop, from SIGTERM or SIGINT, seen by everything that waits.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Resolves when the process should end. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Listens for the signals.
    pub fn on_signals() -> io::Result<Stop> {
        let (sender, receiver) = watch::channel(false);
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            // Nobody listens any more when this fails: the process is ending already.
            let _ = sender.send(true);
            std::future::pending::<()>().await;
        });
        Ok(Stop(receiver))
    }

    /// Waits until the process should end.
    pub async fn wanted(&mut self) {
        // The sender lives as long as the process.
        let _ = self.0.wait_for(|wanted| *wanted).await;
    }
}
