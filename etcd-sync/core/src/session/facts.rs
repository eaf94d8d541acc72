//! What was found out about the two histories before a session, and how far the primary's is to be trusted.

use crate::etcd::kv::Revision;
use crate::link::history::{Contradiction, HistoryRecord, RaftMark, RaftReading, Sightings};
use crate::link::question::{Acceptance, Question, Topic};

/// What the raft log of one cluster shows beside the record.
#[derive(Clone, Copy, Debug, Default)]
pub struct RaftFacts {
    /// The last reading; `None`: its members cannot be queried one by one.
    pub reading: Option<RaftReading>,
    /// The farthest seen, with the reading, when it is of the history on record.
    pub mark: Option<RaftMark>,
    /// How it contradicts the record.
    pub contradiction: Option<Contradiction>,
    /// Whether the contradiction is proved: it was seen again after the log had moved.
    pub proved: bool,
}

/// What was read about both histories.
#[derive(Clone, Debug, Default)]
pub struct HistoryFacts {
    /// The record, if there is one.
    pub record: Option<HistoryRecord>,
    /// Of the primary.
    pub primary: RaftFacts,
    /// Of the standby.
    pub standby: RaftFacts,
    /// The recorded keys as the primary has them now. Empty without a record of this primary.
    pub sightings: Sightings,
    /// What stands as a question to the operator.
    pub question: Option<Question>,
    /// The operator's answer.
    pub acceptance: Option<Acceptance>,
    /// Values saved on the standby already: keys, and bytes.
    pub saved: (u64, u64),
}

impl HistoryFacts {
    /// The answer on this topic, if there is one that is good for the primary as it is now.
    pub fn accepted(&self, topic: Topic, primary: &str, now_ms: u64) -> Option<&Acceptance> {
        self.answer(primary, now_ms).filter(|answer| answer.evidence_on(topic).next().is_some())
    }

    /// The answer, whatever it is about, if it is good for the primary as it is now.
    pub(super) fn answer(&self, primary: &str, now_ms: u64) -> Option<&Acceptance> {
        let answer = self.acceptance.as_ref().filter(|answer| answer.is_good(primary, now_ms))?;
        let contradiction =
            answer.primary_raft.zip(self.primary.reading).and_then(|(mark, reading)| mark.contradiction(&reading));
        contradiction.is_none().then_some(answer)
    }
}

/// How far the primary's history is proved to be the one that was followed, for a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trust {
    /// Data of the primary last changed at or below this revision is not newer than what was mirrored; 0: revisions cannot be
    /// compared.
    pub floor: Revision,
    /// Proved up to this revision of the primary.
    pub proved: Revision,
    /// What was written to the standby up to this revision of the standby came from the proved part. What is newer is saved
    /// before it is deleted, or overwritten with data at or below the floor.
    pub proved_on_standby: Revision,
    /// Whether an untouched copy that differs from the primary's older value proves another history.
    pub proves_by_value: bool,
    /// Other keys are in scope than when that was proved. Only those on record as changed by others were in scope then for sure.
    pub other_scope: bool,
}

impl Trust {
    /// Everything is proved, or accepted by the operator, or there is nothing to lose.
    pub const WHOLE: Trust = Trust {
        floor: 0,
        proved: Revision::MAX,
        proved_on_standby: Revision::MAX,
        proves_by_value: false,
        other_scope: false,
    };

    /// Nothing is proved, and no revision of the primary can be compared with what was mirrored.
    pub const NOTHING: Trust =
        Trust { floor: Revision::MAX, proved: 0, proved_on_standby: 0, proves_by_value: false, other_scope: false };

    /// Whether the loss of a key that was changed on the standby at `mod_revision` is proved to be right.
    pub fn covers(&self, mod_revision: Revision) -> bool {
        mod_revision <= self.proved_on_standby
    }
}
