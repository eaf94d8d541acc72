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

    /// A wish of its own for a part of the process: it is there when the switch is dropped, or when the process should end.
    pub fn part(&self) -> (Switch, Stop) {
        let (sender, receiver) = watch::channel(false);
        let (wanted, mut whole) = (sender.clone(), self.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = whole.wanted() => drop(wanted.send(true)),
                // Nobody listens any more, or the switch was dropped.
                () = wanted.closed() => {}
            }
        });
        (Switch(sender), Stop(receiver))
    }

    /// Waits until the process should end.
    pub async fn wanted(&mut self) {
        // The sender lives as long as the process.
        let _ = self.0.wait_for(|wanted| *wanted).await;
    }
}

/// Ends what was given the [`Stop`] that came with it, when it is dropped.
#[derive(Debug)]
pub struct Switch(watch::Sender<bool>);

impl Drop for Switch {
    fn drop(&mut self) {
        // Nobody is left when this fails.
        let _ = self.0.send(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_ends_with_its_switch_or_with_the_whole() {
        let (whole, receiver) = watch::channel(false);
        let stop = Stop(receiver);
        let ((first, mut ends), (_second, mut goes)) = (stop.part(), stop.part());
        drop(first);
        ends.wanted().await;
        assert!(!*goes.0.borrow());
        let _ = whole.send(true);
        goes.wanted().await;
    }
}
