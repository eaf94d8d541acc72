//! Drives one session: does what it wants done, hands it what happened, until it ends.

use std::time::Duration;

use etcd_sync_core::etcd::kv::{KeyValue, Revision};
use etcd_sync_core::etcd::request::{Op, Page, Txn, TxnReply};
use etcd_sync_core::link::fence::is_standby;
use etcd_sync_core::link::history::RaftReading;
use etcd_sync_core::link::side::{Side, Sides};
use etcd_sync_core::link::state::{Phase, PrimaryContact};
use etcd_sync_core::session::{Carried, Effect, Ended, Input, ReadFailure, Refusal, RequestId, Session};
use etcd_sync_kms::{Encryption, values};
use etcd_sync_program::{Stop, now_ms};
use etcd_sync_store::client::election::Leadership;
use etcd_sync_store::link::headroom;
use etcd_sync_store::{Error, Etcd, Identity, Watch, WatchError, WatchMessage, WriteError};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tracing::{debug, warn};

use super::condition::ConditionKey;
use super::health::Health;
use super::notes::NoteLimit;
use super::retry::{Asked, Commits, open, read};
use super::room::Room;
use super::time::clocks;
use crate::facts::start::standby_links;

const TICK: Duration = Duration::from_millis(100);
const HEAD_INTERVAL: Duration = Duration::from_secs(1);
const HEADROOM_INTERVAL: Duration = Duration::from_secs(15);

/// How often the raft log of each cluster is read: it shows a cluster that was restored from a backup.
const RAFT_INTERVAL: Duration = Duration::from_secs(5);

/// How often the primary is asked whether it is a standby itself: two clusters in a ring would write forever.
const RING_INTERVAL: Duration = Duration::from_secs(10);

/// How often the last contact with the primary is recorded, for whoever must know what a lost primary took with it:
/// while it moves, and while it does not.
const CONTACT_INTERVAL: Duration = Duration::from_secs(2);
const CONTACT_INTERVAL_QUIET: Duration = Duration::from_secs(5);

/// Why a session is over.
#[derive(Debug)]
pub enum Outcome {
    /// The machine ended it.
    Ended(Ended),
    /// A request failed in a way the machine does not handle.
    Failed(Error),
    /// Something outside of the machine forbids to go on: a short name, and what to do.
    Paused(&'static str, String),
    /// The lease is gone.
    LeadershipLost,
    /// We were asked to stop.
    Stopped,
}

/// What one leader works with.
pub struct Driver<'a> {
    pub primary: &'a Etcd,
    pub standby: &'a Etcd,
    pub leadership: &'a Leadership,
    pub health: &'a Health,
    pub encryption: &'a Encryption,
    pub condition: ConditionKey<'a>,
    pub(super) notes: &'a NoteLimit,
    pub(super) room: &'a Room,
}

/// The answer to something the session wanted done, or to a probe.
enum Answer {
    Read(Asked, Result<Page, Error>),
    /// Changes of the primary whose data keys a KMS has unwrapped, with the opening of the watch that they came on.
    Unwrapped(u64, Result<WatchMessage, WatchError>),
    Commit(RequestId, Result<TxnReply, WriteError>),
    /// A commit has failed, and a pause is over; whether it may have been applied.
    CommitFailed(RequestId, bool),
    Opened(Side, u64, Result<Watch, WatchError>),
    Head(Result<Identity, Error>),
    Headroom(Option<Revision>),
    Raft(Side, Result<Option<RaftReading>, Error>),
    /// Something outside of the session forbids to go on, or nothing does.
    Outside(Option<Outcome>),
    /// The contact with the primary was recorded, or not: the next one will be.
    ContactWritten,
}

/// Which contact with the primary is on record.
#[derive(Default)]
struct Contact {
    /// A new one, not written yet.
    new: Option<PrimaryContact>,
    written: Option<(Instant, Revision)>,
}

impl Contact {
    /// What is to be written now, if anything.
    fn due(&mut self, now: Instant) -> Option<PrimaryContact> {
        let revision = self.new.as_ref()?.revision;
        let due = self.written.is_none_or(|(at, written)| {
            now >= at + if written == revision { CONTACT_INTERVAL_QUIET } else { CONTACT_INTERVAL }
        });
        let contact = if due { self.new.take() } else { None }?;
        self.written = Some((now, revision));
        Some(contact)
    }
}

#[derive(Default)]
struct Watches {
    primary: Option<Watch>,
    standby: Option<Watch>,
    /// Counted up at each opening: an answer to an earlier one is dropped.
    opening: u64,
    wanted: Sides<u64>,
    /// The opening whose changes wait for a KMS; what follows them waits too.
    unwrapping: Option<u64>,
    /// The newest revision seen of each side.
    newest: Sides<Revision>,
    contact: Contact,
    commits: Commits,
}

impl Driver<'_> {
    /// Works until the session ends; gives the phase it came to. Transactions under way are abandoned then: whether they were applied is read from
    /// the record when the next session begins.
    pub async fn run(&self, mut session: Session, stop: &mut Stop) -> (Outcome, Phase, Carried) {
        let outcome = self.work(&mut session, stop).await;
        self.health.update_session(&session);
        (outcome, session.checkpoint().phase, session.carried())
    }

    async fn work(&self, session: &mut Session, stop: &mut Stop) -> Outcome {
        let mut answers = JoinSet::new();
        let mut watches = Watches::default();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut under_way = false;
        let (mut head_due, mut headroom_due) = (Instant::now(), Instant::now() + HEAD_INTERVAL);
        let mut raft_due = Instant::now() + RAFT_INTERVAL;
        let (mut room_due, mut ring_due) = (Instant::now(), Instant::now() + RING_INTERVAL);
        loop {
            while let Some(effect) = session.poll() {
                self.perform(effect, &mut answers, &mut watches);
            }
            self.health.update_session(session);
            // Not before: what paused replication may pause it again after a check.
            if !under_way && session.is_under_way() {
                under_way = true;
                self.health.set_paused(None);
                self.condition.clear(stop).await;
            }
            let handled = tokio::select! {
                () = stop.wanted() => return Outcome::Stopped,
                () = self.leadership.lost() => return Outcome::LeadershipLost,
                Some(answer) = answers.join_next() => match answer {
                    Ok(answer) => self.on_answer(answer, session, &mut answers, &mut watches),
                    Err(failed) => std::panic::resume_unwind(failed.into_panic()),
                },
                message = next(&mut watches.primary), if session.wants(Side::Primary) && watches.unwrapping.is_none() =>
                    match self.unwrap_keys(message, &mut answers, &mut watches) {
                        Some(message) => on_message(session, Side::Primary, message, &mut watches.primary),
                        None => Ok(()),
                    },
                message = next(&mut watches.standby), if session.wants(Side::Standby) =>
                    on_message(session, Side::Standby, message, &mut watches.standby),
                _ = tick.tick() => {
                    let now = Instant::now();
                    if now >= head_due {
                        head_due = now + HEAD_INTERVAL;
                        let primary = self.primary.clone();
                        answers.spawn(async move { Answer::Head(primary.identity().await) });
                    }
                    if now >= headroom_due {
                        headroom_due = now + HEADROOM_INTERVAL;
                        let (primary, known) = (self.primary.clone(), self.health.compacted());
                        let checkpoint = session.checkpoint().revision;
                        let key = session.scope().covering_range().start;
                        answers.spawn(async move {
                            Answer::Headroom(headroom::compacted(&primary, key, known, checkpoint).await)
                        });
                    }
                    if now >= raft_due {
                        raft_due = now + RAFT_INTERVAL;
                        for side in Side::BOTH {
                            let etcd = self.etcd(side).clone();
                            answers.spawn(async move { Answer::Raft(side, etcd.raft_reading().await) });
                        }
                    }
                    if now >= room_due {
                        room_due = now + self.room.interval(session.checkpoint().phase);
                        let (room, standby) = (self.room.clone(), self.standby.clone());
                        answers.spawn(async move {
                            Answer::Outside(room.look(&standby).await.map(|(label, why)| Outcome::Paused(label, why)))
                        });
                    }
                    if now >= ring_due {
                        ring_due = now + RING_INTERVAL;
                        let primary = self.primary.clone();
                        answers.spawn(async move { Answer::Outside(ring(&primary).await) });
                    }
                    if session.checkpoint().phase == Phase::Streaming
                        && let Some(contact) = watches.contact.due(now)
                    {
                        let standby = self.standby.clone();
                        let txn = self.write_contact(&contact);
                        answers.spawn(async move {
                            if let Err(failure) = standby.txn(txn).await {
                                debug!(error = %failure, "the last contact with the primary was not recorded");
                            }
                            Answer::ContactWritten
                        });
                    }
                    session.handle(clocks(), Input::Tick).map_err(Outcome::Ended)
                }
            };
            if let Err(outcome) = handled {
                return outcome;
            }
        }
    }

    fn perform(&self, effect: Effect, answers: &mut JoinSet<Answer>, watches: &mut Watches) {
        match effect {
            Effect::Read { id, side, request } => {
                let etcd = self.etcd(side).clone();
                let asked = Asked { id, side, newest: *watches.newest.get(side), is_page: request.limit > 1 };
                let encryption = (side == Side::Primary).then(|| self.encryption.clone());
                answers.spawn(async move {
                    let result = read(&etcd, request).await;
                    if let (Ok(page), Some(encryption)) = (&result, encryption) {
                        encryption.unwrap_keys(&page.kvs).await;
                    }
                    Answer::Read(asked, result)
                });
            }
            Effect::Commit { id, txn } => {
                let standby = self.standby.clone();
                answers.spawn(async move { Answer::Commit(id, standby.txn(txn).await) });
            }
            Effect::Watch { side, range, from } => {
                watches.opening += 1;
                let number = watches.opening;
                *watches.wanted.get_mut(side) = number;
                if side == Side::Primary {
                    watches.unwrapping = None;
                }
                *watches.of(side) = None;
                let etcd = self.etcd(side).clone();
                answers.spawn(async move { Answer::Opened(side, number, open(&etcd, range, from).await) });
            }
            Effect::Note(note) => self.notes.log(&note),
        }
    }

    /// Gives changes back that need no KMS. The others come as an answer when the KMS has unwrapped their data keys.
    fn unwrap_keys(
        &self,
        message: Result<WatchMessage, WatchError>,
        answers: &mut JoinSet<Answer>,
        watches: &mut Watches,
    ) -> Option<Result<WatchMessage, WatchError>> {
        let encrypted: Vec<KeyValue> = match &message {
            Ok(WatchMessage::Events { events, .. }) if self.encryption.needs_kms(values(events)) => {
                values(events).cloned().collect()
            }
            _ => return Some(message),
        };
        let (number, encryption) = (watches.wanted.primary, self.encryption.clone());
        watches.unwrapping = Some(number);
        answers.spawn(async move {
            encryption.unwrap_keys(&encrypted).await;
            Answer::Unwrapped(number, message)
        });
        None
    }

    fn write_contact(&self, contact: &PrimaryContact) -> Txn {
        let fence = self.condition.fence;
        let value = serde_json::to_vec(contact).unwrap_or_default().into();
        let success = vec![Op::Put { key: fence.keys.primary_contact.clone(), value, lease: 0 }];
        Txn { compares: vec![is_standby(&fence.keys), fence.is_leader()], success, failure: vec![] }
    }

    fn etcd(&self, side: Side) -> &Etcd {
        match side {
            Side::Primary => self.primary,
            Side::Standby => self.standby,
        }
    }

    fn on_answer(
        &self,
        answer: Answer,
        session: &mut Session,
        answers: &mut JoinSet<Answer>,
        watches: &mut Watches,
    ) -> Result<(), Outcome> {
        let input = match answer {
            Answer::Unwrapped(number, _) if watches.unwrapping != Some(number) => return Ok(()),
            Answer::Unwrapped(_, message) => {
                watches.unwrapping = None;
                return on_message(session, Side::Primary, message, &mut watches.primary);
            }
            // It was tried again over a restart, and what came back is not what went.
            Answer::Read(Asked { newest, .. }, Ok(page)) if page.revision < newest => {
                let why = "a cluster answers with an older revision than before";
                return Err(Outcome::Ended(Ended::Again { force_copy: false, why }));
            }
            Answer::Read(Asked { id, side, is_page, .. }, result) => {
                let result = match result {
                    Ok(page) => {
                        let newest = watches.newest.get_mut(side);
                        *newest = page.revision.max(*newest);
                        Ok(page)
                    }
                    Err(Error::Compacted { .. }) => Err(ReadFailure::Compacted),
                    Err(Error::MessageTooLarge { .. }) => Err(ReadFailure::TooLarge),
                    Err(Error::Timeout { .. }) if is_page => Err(ReadFailure::TimedOut),
                    Err(error) => return Err(Outcome::Failed(error)),
                };
                Input::Read { id, result }
            }
            Answer::Commit(id, Ok(reply)) => {
                watches.commits.on_answer();
                Input::Committed { id, reply }
            }
            Answer::Commit(id, Err(WriteError::NotApplied(Error::RequestTooLarge { .. }))) => {
                Input::CommitTooLarge { id }
            }
            Answer::Commit(id, Err(failure)) => {
                let is_copy = session.checkpoint().phase != Phase::Streaming;
                let (pause, unknown) = watches.commits.on_failure(failure, is_copy).map_err(Outcome::Failed)?;
                answers.spawn(async move {
                    sleep(pause).await;
                    Answer::CommitFailed(id, unknown)
                });
                return Ok(());
            }
            Answer::CommitFailed(id, unknown) => Input::CommitFailed { id, unknown },
            Answer::Opened(side, number, _) if *watches.wanted.get(side) != number => return Ok(()),
            Answer::Opened(side, _, Ok(watch)) => {
                *watches.of(side) = Some(watch);
                Input::Opened { side }
            }
            Answer::Opened(side, _, Err(WatchError::Compacted { compact_revision, .. })) => {
                Input::WatchCompacted { side, compact_revision }
            }
            Answer::Opened(_, _, Err(WatchError::Store(error))) => return Err(Outcome::Failed(error)),
            Answer::Opened(side, _, Err(error)) => {
                warn!(%error, "the watch cannot be opened");
                Input::WatchClosed { side }
            }
            Answer::Head(Ok(identity)) => {
                let newest = &mut watches.newest.primary;
                *newest = identity.revision.max(*newest);
                watches.contact.new = Some(PrimaryContact { revision: identity.revision, at_ms: now_ms() });
                self.health.update_head(identity.revision);
                return Ok(());
            }
            Answer::Head(Err(error)) => {
                debug!(%error, "the primary's revision is not known just now");
                return Ok(());
            }
            Answer::Headroom(compacted) => {
                self.health.update_headroom(compacted);
                return Ok(());
            }
            Answer::Raft(side, Ok(Some(reading))) => Input::Raft { side, reading },
            Answer::Raft(side, Err(error)) => {
                debug!(%side, %error, "the raft log cannot be read just now");
                return Ok(());
            }
            Answer::Outside(Some(outcome)) => return Err(outcome),
            Answer::Raft(_, Ok(None)) | Answer::Outside(None) | Answer::ContactWritten => return Ok(()),
        };
        session.handle(clocks(), input).map_err(Outcome::Ended)
    }
}

impl Watches {
    fn of(&mut self, side: Side) -> &mut Option<Watch> {
        match side {
            Side::Primary => &mut self.primary,
            Side::Standby => &mut self.standby,
        }
    }
}

/// Whether the primary has become a standby itself since the session began.
async fn ring(primary: &Etcd) -> Option<Outcome> {
    match standby_links(primary).await {
        Ok(links) if links.is_empty() => None,
        Ok(links) => Some(Outcome::Ended(Ended::Refused(Refusal::PrimaryIsStandby { links: links.join(", ") }))),
        Err(error) => {
            debug!(%error, "the primary's links cannot be read just now");
            None
        }
    }
}

async fn next(watch: &mut Option<Watch>) -> Result<WatchMessage, WatchError> {
    match watch {
        Some(watch) => watch.next().await,
        None => std::future::pending().await,
    }
}

/// A watch delivered something, or ended.
fn on_message(
    session: &mut Session,
    side: Side,
    message: Result<WatchMessage, WatchError>,
    watch: &mut Option<Watch>,
) -> Result<(), Outcome> {
    let input = match message {
        Ok(WatchMessage::Events { events, complete }) => Input::Events { side, events, complete },
        Ok(WatchMessage::Progress { revision }) => Input::Progress { side, revision },
        Err(error) => {
            *watch = None;
            match error {
                WatchError::Compacted { compact_revision, .. } => Input::WatchCompacted { side, compact_revision },
                error => {
                    warn!(%error, "a watch ended; it is opened again");
                    Input::WatchClosed { side }
                }
            }
        }
    };
    session.handle(clocks(), input).map_err(Outcome::Ended)
}
