//! The task behind a watch.

use std::sync::Arc;
use std::time::Duration;

use etcd_sync_core::etcd::kv::{Event, Revision};
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};
use tonic::{Code, Streaming};

use crate::client::cluster::{Etcd, Inner};
use crate::client::connection::{Connection, Method};
use crate::client::convert;
use crate::client::error::{Error, WatchError};
use crate::client::fault::{At, Fault, of_server};
use crate::client::pool::Member;
use crate::client::proto::watch_request::RequestUnion;
use crate::client::proto::{WatchProgressRequest, WatchRequest, WatchResponse};
use crate::client::watch_health::WatchHealth;

/// The method.
pub(crate) const WATCH: Method = Method { path: "/etcdserverpb.Watch/Watch", call: "a watch", needs_leader: true };

/// How often progress is requested while a silent watch is kept. An answer comes only when the watch has caught up.
const PROGRESS_REQUESTS: u32 = 15;

/// When our reader lets a message wait for so long, what follows it is as old.
const READER_PAUSES: Duration = Duration::from_secs(1);

/// What a watch gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchMessage {
    /// Changes, in the order of their revisions; those of one revision are neighbours.
    Events {
        /// The changes; never empty.
        events: Vec<Event>,
        /// Whether all of the last event's revision is here; false: it goes on in the next message.
        complete: bool,
    },
    /// Everything up to and including `revision` has been given. It may be below the start revision: then nothing has
    /// happened since.
    Progress {
        /// The revision.
        revision: Revision,
    },
}

/// One watch on one stream on one connection.
pub(crate) struct WatchStream {
    etcd: Etcd,
    member: Arc<Member>,
    health: WatchHealth,
    answers: Streaming<WatchResponse>,
    requests: mpsc::Sender<WatchRequest>,
    /// Held for the life of the stream.
    _connection: Arc<Connection>,
}

type Sender = mpsc::Sender<Result<WatchMessage, WatchError>>;

impl WatchStream {
    pub(crate) fn new(
        etcd: Etcd,
        member: Arc<Member>,
        health: WatchHealth,
        connection: Arc<Connection>,
        answers: Streaming<WatchResponse>,
        requests: mpsc::Sender<WatchRequest>,
    ) -> Self {
        WatchStream { etcd, member, health, answers, requests, _connection: connection }
    }

    /// Carries messages until the watch ends or nobody wants them any more. It reads from the network only when there
    /// is room for the message: HTTP/2's windows pass the back-pressure on to etcd.
    pub(crate) async fn run(mut self, out: Sender) {
        let mut ask = interval(self.etcd.inner.watch_silence / PROGRESS_REQUESTS);
        ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let full = Instant::now();
            let Ok(room) = out.reserve().await else { return };
            if full.elapsed() >= READER_PAUSES {
                self.health.on_pause();
            }
            let message = tokio::select! {
                message = self.read(&mut ask) => message,
                () = out.closed() => return,
            };
            let ended = message.is_err();
            room.send(message);
            if ended {
                return;
            }
        }
    }

    /// The next message worth passing on. Silence counts from here on: time in which it waits for our reader is not etcd's fault.
    async fn read(&mut self, ask: &mut Interval) -> Result<WatchMessage, WatchError> {
        loop {
            let patience = self.health.patience();
            let silent_at = Instant::now() + patience;
            let answer = loop {
                tokio::select! {
                    biased;
                    answer = self.answers.message() => break answer,
                    () = sleep_until(silent_at) => return Err(self.silent(patience)),
                    _ = ask.tick() => {
                        let request = RequestUnion::Progress(WatchProgressRequest {});
                        // When requests pile up the stream is stuck; the silence shows it.
                        let _ = self.requests.try_send(WatchRequest { request_union: Some(request) });
                    }
                }
            };
            if let Some(message) = self.message(answer)? {
                return Ok(message);
            }
        }
    }

    /// What an answer means; `None` for one that says nothing.
    fn message(
        &mut self,
        answer: Result<Option<WatchResponse>, tonic::Status>,
    ) -> Result<Option<WatchMessage>, WatchError> {
        let (etcd, member) = (self.etcd.clone(), Arc::clone(&self.member));
        let inner = &etcd.inner;
        let at = inner.at(&member, WATCH.call);
        let answer = match answer {
            Ok(Some(answer)) => answer,
            Ok(None) => return Err(self.failed(of_server(at, Code::Unavailable, "the stream ended"))),
            Err(status) => return Err(self.failed(Fault::from_status(at, &status).error)),
        };
        inner.check_cluster(&member, answer.header.as_ref()).map_err(|error| self.failed(error))?;
        if answer.canceled {
            return Err(match cancelled(inner, &member, &answer) {
                WatchError::Store(error) => self.failed(error),
                other => other,
            });
        }
        if !answer.events.is_empty() {
            let events: Vec<Event> = answer.events.into_iter().filter_map(convert::event).collect();
            let newest = answer.header.map_or(0, |header| header.revision);
            self.health.on_events(events.last().map_or(0, Event::revision), newest, !answer.fragment);
            return Ok(Some(WatchMessage::Events { events, complete: !answer.fragment }));
        }
        // Only an answer without events is progress: the header of one with events may be ahead of events to come.
        match answer.header {
            Some(header) if !answer.created => {
                self.health.on_progress(header.revision, Instant::now());
                self.still_applies()?;
                Ok(Some(WatchMessage::Progress { revision: header.revision }))
            }
            _ => Ok(None),
        }
    }

    fn silent(&self, after: Duration) -> WatchError {
        let at = self.etcd.inner.at(&self.member, WATCH.call);
        // The next watch should try another member.
        let error = Fault::timeout(at, after).error;
        self.etcd.inner.note(&self.member, &error);
        WatchError::Silent { side: at.side, endpoint: at.endpoint.to_owned(), after }
    }

    /// Fails when the member has stopped applying.
    fn still_applies(&self) -> Result<(), WatchError> {
        let inner = &self.etcd.inner;
        let stalled = self.health.stalled(&inner.heads(), Instant::now());
        let Some((revision, head)) = stalled else { return Ok(()) };
        let At { side, endpoint, .. } = inner.at(&self.member, WATCH.call);
        let after = inner.watch_silence;
        Err(self.failed(Error::Stalled { side, endpoint: endpoint.to_owned(), revision, head, after }))
    }

    fn failed(&self, error: Error) -> WatchError {
        self.etcd.inner.note(&self.member, &error);
        WatchError::Store(error)
    }
}

/// Why etcd cancelled a running watch.
fn cancelled(inner: &Inner, member: &Member, answer: &WatchResponse) -> WatchError {
    let at = inner.at(member, WATCH.call);
    if answer.compact_revision != 0 {
        return WatchError::Compacted { side: inner.side(), compact_revision: answer.compact_revision };
    }
    match of_server(at, Code::Unavailable, &answer.cancel_reason) {
        Error::Broken { endpoint, problem, .. } => {
            let reason = if problem.is_empty() { "no reason given".to_owned() } else { problem };
            WatchError::Cancelled { side: inner.side(), endpoint, reason }
        }
        error => WatchError::Store(error),
    }
}
