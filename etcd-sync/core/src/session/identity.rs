//! What the two histories of a link are recognized by, while a session runs.

use super::HistoryFacts;
use crate::etcd::kv::{Event, Revision};
use crate::link::history::{Contradiction, HistoryRecord, Observer, RaftMark, RaftReading, Recent, Witness, survivors};
use crate::link::side::{Side, Sides};

/// The record follows the lists so often, and what only the raft logs show so often, in milliseconds: a pair at rest must come
/// to rest.
const WRITE_INTERVAL_MS: u64 = 5_000;
const RAFT_INTERVAL_MS: u64 = 10 * 60_000;

/// What the two histories are recognized by.
#[derive(Debug, Default)]
pub(super) struct Identity {
    pub(super) recent: Recent,
    observers: Sides<Observer>,
    written: Option<Written>,
    /// The last change of a message of the primary's watch that ended with a whole revision, in scope or not.
    last_event: Option<Witness>,
}

#[derive(Debug)]
struct Written {
    at_ms: u64,
    version: u64,
    raft: Sides<Option<RaftMark>>,
}

impl Identity {
    /// `is_same`: the record is of the history that is followed now, and its lists go on.
    pub(super) fn new(facts: &HistoryFacts, is_same: bool, now_ms: u64) -> Self {
        let record = facts.record.as_ref().filter(|_| is_same);
        let recent = record.map_or_else(Recent::default, |record| {
            // The others may have changed after the record was written, and before the checkpoint.
            let (changed, created) = survivors(record, &facts.sightings);
            Recent::resume(changed, created, now_ms)
        });
        let observers =
            Sides { primary: Observer::new(facts.primary.mark), standby: Observer::new(facts.standby.mark) };
        let raft = record
            .map_or_else(Sides::default, |record| Sides { primary: record.primary_raft, standby: record.standby_raft });
        let written = record.map(|_| Written { at_ms: now_ms, version: recent.version(), raft });
        Identity { recent, observers, written, last_event: None }
    }

    /// A message of the primary's watch has come.
    pub(super) fn on_events(&mut self, events: &[Event], complete: bool) {
        let Some(last) = events.last().filter(|_| complete) else {
            self.last_event = None;
            return;
        };
        self.last_event = Witness::new(last.key(), last.revision(), last.value(), true);
    }

    /// The witness of a checkpoint at `revision`, when the last change received is the last one up to there.
    pub(super) fn witness_at(&self, revision: Revision, received: Revision) -> Option<&Witness> {
        self.last_event.as_ref().filter(|last| last.revision == revision || received <= revision)
    }

    /// Takes a reading of a raft log; gives what proves that it is another one.
    pub(super) fn observe(&mut self, side: Side, reading: &RaftReading) -> Option<Contradiction> {
        self.observers.get_mut(side).observe(reading)
    }

    /// Whether the record is to be written.
    pub(super) fn is_due(&self, now_ms: u64) -> bool {
        self.written.as_ref().is_none_or(|written| {
            let since_ms = now_ms.saturating_sub(written.at_ms);
            let lists_moved = written.version != self.recent.version() && since_ms >= WRITE_INTERVAL_MS;
            lists_moved || (written.raft != self.raft() && since_ms >= RAFT_INTERVAL_MS)
        })
    }

    /// The record with the lists as of `revision`, now that it is written. `consistent`: see
    /// [`HistoryRecord::consistent`].
    pub(super) fn write(
        &mut self,
        primary: String,
        revision: Revision,
        consistent: Revision,
        now_ms: u64,
        unix_ms: u64,
    ) -> HistoryRecord {
        let (changed, created) = self.recent.lists(revision);
        let raft = self.raft();
        self.written = Some(Written { at_ms: now_ms, version: self.recent.version(), raft });
        HistoryRecord {
            format: HistoryRecord::FORMAT,
            primary,
            primary_raft: raft.primary,
            standby_raft: raft.standby,
            revision,
            consistent,
            changed,
            created,
            at_ms: unix_ms,
        }
    }

    fn raft(&self) -> Sides<Option<RaftMark>> {
        let Sides { primary, standby } = &self.observers;
        Sides { primary: primary.mark(), standby: standby.mark() }
    }
}
