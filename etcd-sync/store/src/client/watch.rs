//! Watches: one per stream, with fragments and progress, back-pressure, and detection of silent streams.

use std::sync::Arc;

use etcd_sync_core::etcd::kv::{KeyRange, Revision};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::Code;

use crate::client::cluster::Etcd;
use crate::client::connection::Connection;
use crate::client::convert::bounds;
use crate::client::error::WatchError;
use crate::client::fault::{At, Fault, of_server};
use crate::client::pool::Member;
use crate::client::proto::watch_request::RequestUnion;
use crate::client::proto::{WatchCreateRequest, WatchRequest, WatchResponse};
use crate::client::watch_health::WatchHealth;
use crate::client::watch_stream::{WATCH, WatchMessage, WatchStream};

/// Answers that wait for a slow reader. With fragments an answer is at most 2 MiB, unless one event alone is longer.
const BUFFERED_ANSWERS: usize = 4;

/// Progress requests that wait for the stream; more would only be answered later.
const BUFFERED_REQUESTS: usize = 2;

/// A running watch. It owns its connection, so a slow reader does not delay others; dropping it ends both.
#[derive(Debug)]
pub struct Watch {
    messages: mpsc::Receiver<Result<WatchMessage, WatchError>>,
    task: JoinHandle<()>,
}

impl Watch {
    /// The next message. Cancel safe: a message is never lost when the future is dropped.
    ///
    /// # Errors
    /// The watch is over: open a new one at the revision behind the last complete one, or, on
    /// [`WatchError::Compacted`], read everything again.
    pub async fn next(&mut self) -> Result<WatchMessage, WatchError> {
        self.messages.recv().await.unwrap_or(Err(WatchError::Ended))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Etcd {
    /// Watches a range from `start_revision` on (included; 0 is "from now"). Returns when etcd has created the watch.
    /// Progress is requested every second; a watch that has caught up and reports none is over ([`WatchError::Silent`]), and so is
    /// that of a member that has stopped applying ([`Error::Stalled`](crate::Error::Stalled)).
    ///
    /// # Errors
    /// Why no member took the watch. A start revision that is already compacted shows as the first message.
    pub async fn watch(&self, range: KeyRange, start_revision: Revision) -> Result<Watch, WatchError> {
        let (key, range_end) = bounds(&range);
        let create = WatchCreateRequest { key, range_end, start_revision, progress_notify: true, fragment: true };
        let inner = &self.inner;
        let mut attempts = inner.attempts(inner.request_timeout);
        while let Some((member, timeout)) = attempts.next() {
            let opened = match tokio::time::timeout(timeout, self.open(&member, &create)).await {
                Ok(opened) => opened,
                Err(_) => Err(Fault::timeout(inner.at(&member, WATCH.call), timeout)),
            };
            match opened {
                Ok(stream) => {
                    inner.pool.worked(&member);
                    let (sender, messages) = mpsc::channel(BUFFERED_ANSWERS);
                    let task = tokio::spawn(stream.run(sender));
                    return Ok(Watch { messages, task });
                }
                Err(fault) => attempts.failed(&member, fault)?,
            }
        }
        Err(attempts.error().into())
    }

    /// Opens the watch on one member, over a connection of its own: what a stalled reader leaves unread fills the
    /// whole HTTP/2 connection's window.
    async fn open(&self, member: &Arc<Member>, create: &WatchCreateRequest) -> Result<WatchStream, Fault> {
        let inner = &self.inner;
        let connection = Connection::new(&member.dial);
        inner.verify(member, &connection, WATCH.call).await?;
        let mut again = true;
        let (wanted, mut start) = (create.start_revision, create.start_revision);
        loop {
            let create = WatchCreateRequest { start_revision: start, ..create.clone() };
            let token = inner.token(member, &connection, inner.request_timeout).await?;
            let (requests, queue) = mpsc::channel(BUFFERED_REQUESTS);
            let first = WatchRequest { request_union: Some(RequestUnion::Create(create.clone())) };
            // The queue is empty and has room.
            let _ = requests.try_send(first);
            let queue =
                futures_util::stream::unfold(queue, async |mut queue| queue.recv().await.map(|next| (next, queue)));
            let at = inner.at(member, WATCH.call);
            let opened = async {
                let mut answers = connection.streaming::<_, WatchResponse, _>(WATCH, queue, token.clone()).await?;
                let created = answers.message().await?;
                Ok((answers, created))
            };
            let fault = match opened.await {
                Ok((answers, Some(created))) => {
                    inner.check_cluster(member, created.header.as_ref()).map_err(Fault::unknown)?;
                    let next = created.header.as_ref().map_or(0, |header| header.revision + 1);
                    if let Some(instead) = start_instead(wanted, start, next) {
                        start = instead;
                        continue;
                    }
                    let health = WatchHealth::new(inner.watch_silence, start, next - 1);
                    match refusal(at, &created) {
                        None => {
                            return Ok(WatchStream::new(
                                self.clone(),
                                Arc::clone(member),
                                health,
                                connection,
                                answers,
                                requests,
                            ));
                        }
                        Some(fault) => fault,
                    }
                }
                Ok((_, None)) => {
                    let problem = "the stream ended before the watch was created".to_owned();
                    Fault::unknown(of_server(at, Code::Unavailable, &problem))
                }
                Err(status) => Fault::from_status(at, &status),
            };
            let fault = inner.forget_if_stale(fault, &token).await;
            if !(again && fault.stale_token) {
                return Err(fault);
            }
            again = false;
        }
    }
}

/// etcd reports no progress to a watch whose start is still to come, so on a quiet cluster one opened behind the newest
/// revision would look dead. One "from now" gets progress, and is the same as long as now is the revision before the start.
/// `next` is the revision that follows the newest one; gives what to start at instead, if anything.
fn start_instead(wanted: Revision, start: Revision, next: Revision) -> Option<Revision> {
    match (wanted, start) {
        (0, _) => None,
        // Something happened in between: "from now" would miss it.
        (_, 0) if next != wanted => Some(wanted),
        (_, 0) => None,
        _ if next == wanted => Some(0),
        _ => None,
    }
}

/// Why the first answer is not the creation of a watch.
fn refusal(at: At<'_>, answer: &WatchResponse) -> Option<Fault> {
    (answer.canceled && answer.compact_revision == 0)
        .then(|| Fault::from_status(at, &tonic::Status::new(Code::Unavailable, answer.cancel_reason.as_str())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_behind_the_newest_revision_starts_now_unless_something_happened() {
        // Nothing is there yet at revision 8: from now on is the same.
        assert_eq!(start_instead(8, 8, 8), Some(0));
        assert_eq!(start_instead(8, 0, 8), None);
        // Revision 8 came before the second answer: back to requesting it.
        assert_eq!(start_instead(8, 0, 9), Some(8));
        assert_eq!(start_instead(8, 8, 9), None);
        // Requested from now on, or from the past, or from far ahead: as it is.
        assert_eq!(start_instead(0, 0, 8), None);
        assert_eq!(start_instead(3, 3, 8), None);
        assert_eq!(start_instead(20, 20, 8), None);
    }
}
