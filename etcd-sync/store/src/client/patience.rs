//! How long a request may take: as long as its answer keeps coming. A large page over a slow link needs minutes, a member
//! that hangs is noticed within seconds.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, timeout_at};

/// Fewer bytes than this within the time of a request are no answer that comes slowly: answered pings come to less.
const COMING_BYTES: u64 = 4 * 1024;

/// Longest answer that keeps coming.
const LONGEST: Duration = Duration::from_secs(120);

/// A link that carries less in a second is too slow to send full transactions over.
const SENT_PER_SECOND: usize = 64 * 1024;

/// The time that a request of so many bytes gets on top of what any request gets.
pub(crate) fn to_send(bytes: usize) -> Duration {
    Duration::from_millis((bytes * 1_000 / SENT_PER_SECOND) as u64)
}

/// How long a request may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Patience {
    /// While nothing comes over its connection.
    pub silence: Duration,
    /// In all.
    pub most: Duration,
}

impl Patience {
    /// For an answer that may be large.
    pub(crate) fn while_it_comes(silence: Duration) -> Self {
        Patience { silence, most: silence.max(LONGEST) }
    }

    /// The same with a shorter time of silence.
    pub(crate) fn within(self, silence: Duration) -> Self {
        if self.most == self.silence { Patience::from(silence) } else { Patience { silence, ..self } }
    }
}

impl From<Duration> for Patience {
    fn from(most: Duration) -> Self {
        Patience { silence: most, most }
    }
}

/// Bytes that came over a connection.
#[derive(Debug, Default)]
pub(crate) struct Received(AtomicU64);

impl Received {
    fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Waits for an answer as long as `patience` says. What comes over the connection for other requests counts as well: the
    /// answers share it.
    ///
    /// # Errors
    /// How long it has waited.
    pub(crate) async fn wait<F: Future>(&self, patience: Patience, answer: F) -> Result<F::Output, Duration> {
        let (mut wait, mut answer) = (Wait::begin(patience, Instant::now(), self.bytes()), pin!(answer));
        loop {
            if let Ok(answer) = timeout_at(wait.until, answer.as_mut()).await {
                return Ok(answer);
            }
            wait.go_on(Instant::now(), self.bytes())?;
        }
    }
}

/// One wait for an answer.
#[derive(Debug)]
struct Wait {
    patience: Patience,
    began: Instant,
    /// When to check whether anything has come, and what had come before.
    until: Instant,
    before: u64,
}

impl Wait {
    fn begin(patience: Patience, now: Instant, received: u64) -> Self {
        Wait { patience, began: now, until: now + patience.silence, before: received }
    }

    /// Waits on when something has come.
    fn go_on(&mut self, now: Instant, received: u64) -> Result<(), Duration> {
        let last = self.began + self.patience.most;
        if now >= last || received - self.before < COMING_BYTES {
            return Err(now - self.began);
        }
        (self.until, self.before) = ((now + self.patience.silence).min(last), received);
        Ok(())
    }
}

/// A stream whose incoming bytes are counted.
pub(crate) struct Counted<S> {
    stream: S,
    received: Arc<Received>,
}

impl<S> Counted<S> {
    pub(crate) fn new(stream: S, received: Arc<Received>) -> Self {
        Counted { stream, received }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        let came = buf.filled().len().saturating_sub(before) as u64;
        self.received.0.fetch_add(came, Ordering::Relaxed);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SILENCE: Duration = Duration::from_secs(10);

    /// How long an answer is waited for that never comes, while `per_second` bytes come for `seconds`.
    fn waited(per_second: u64, seconds: u64, patience: Patience) -> Duration {
        let began = Instant::now();
        let mut wait = Wait::begin(patience, began, 0);
        loop {
            let now = wait.until;
            if let Err(waited) = wait.go_on(now, per_second * (now - began).as_secs().min(seconds)) {
                return waited;
            }
        }
    }

    #[test]
    fn an_answer_may_take_long_as_long_as_it_comes() {
        let patience = Patience::while_it_comes(SILENCE);
        assert_eq!(waited(10_000, 1_000, patience), LONGEST);
        assert_eq!(waited(10_000, 1_000, patience.within(SILENCE / 2)), LONGEST);
        assert_eq!(waited(10_000, 1_000, SILENCE.into()), SILENCE);
    }

    #[test]
    fn silence_and_pings_are_no_answer() {
        let patience = Patience::while_it_comes(SILENCE);
        assert_eq!(waited(0, 1_000, patience), SILENCE);
        assert_eq!(waited(17, 1_000, patience), SILENCE);
        // It came for a while, and then no more.
        assert!(waited(10_000, 25, patience) <= Duration::from_secs(25) + 2 * SILENCE);
    }
}
