//! What the raft log of a cluster tells about its history.
//!
//! Every revision costs a log entry, so D = applied index - revision never falls in the life of one log; a restore from a
//! snapshot begins a new log. D cannot be read at one moment, only bounded by two statuses of one member.

use serde::{Deserialize, Serialize};

use crate::etcd::kv::Revision;

/// One status of a member: both numbers are read one after the other, the revision first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RaftStatus {
    /// Its newest revision.
    pub revision: Revision,
    /// The last log entry that it has applied.
    pub applied_index: u64,
}

/// Two statuses of one member, one after the other, behind a linearizable read over the same connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RaftReading {
    /// The member's id.
    pub member: u64,
    /// The first status.
    pub first: RaftStatus,
    /// The second one.
    pub second: RaftStatus,
}

impl RaftReading {
    /// D is at least this.
    pub fn lower(&self) -> i64 {
        self.first.applied_index as i64 - self.second.revision
    }

    /// D is at most this.
    pub fn upper(&self) -> i64 {
        self.second.applied_index as i64 - self.first.revision
    }
}

/// The farthest that a history was seen at. Only readings of one and the same history may be put into it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RaftMark {
    /// The highest lower bound of D.
    pub distance: i64,
    /// The highest applied index.
    pub index: u64,
    /// The highest revision.
    pub revision: Revision,
}

/// How a reading contradicts a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contradiction {
    /// The revision is below one that was seen.
    RevisionBack {
        /// The revision now.
        now: Revision,
        /// The one seen.
        seen: Revision,
    },
    /// The applied index is below one that was seen.
    IndexBack {
        /// The index now.
        now: u64,
        /// The one seen.
        seen: u64,
    },
    /// D has fallen.
    DistanceFell {
        /// D is at most this now.
        now: i64,
        /// It was at least this.
        seen: i64,
    },
}

impl std::fmt::Display for Contradiction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Contradiction::RevisionBack { now, seen } => {
                write!(f, "its revision went back from {seen} to {now}")
            }
            Contradiction::IndexBack { now, seen } => write!(f, "its raft log went back from entry {seen} to {now}"),
            Contradiction::DistanceFell { now, seen } => write!(
                f,
                "its raft log is another one (applied index - revision was at least {seen}, and is at most {now})"
            ),
        }
    }
}

impl RaftMark {
    /// The mark that one reading makes.
    pub fn of(reading: &RaftReading) -> Self {
        RaftMark { distance: reading.lower(), index: reading.second.applied_index, revision: reading.second.revision }
    }

    /// Takes a reading of the same history.
    pub fn update(&mut self, reading: &RaftReading) {
        let new = RaftMark::of(reading);
        self.distance = self.distance.max(new.distance);
        self.index = self.index.max(new.index);
        self.revision = self.revision.max(new.revision);
    }

    /// How a reading contradicts the mark, if it does.
    pub fn contradiction(&self, reading: &RaftReading) -> Option<Contradiction> {
        /// The entry being applied: its revision may be visible before its index.
        const SLACK: i64 = 1;
        let RaftReading { first, second, .. } = reading;
        if second.revision < self.revision {
            return Some(Contradiction::RevisionBack { now: second.revision, seen: self.revision });
        }
        if second.applied_index < self.index {
            return Some(Contradiction::IndexBack { now: second.applied_index, seen: self.index });
        }
        let upper = reading.upper();
        debug_assert!(first.revision <= second.revision, "one member, one connection: revisions do not go back");
        (upper < self.distance - SLACK).then_some(Contradiction::DistanceFell { now: upper, seen: self.distance })
    }
}

/// Follows the readings of one cluster. One contradiction is a suspicion; the second one of the same member, after its applied
/// index has moved, proves another history: a member that has just received a snapshot reports a stale index until it applies
/// the next entry. A revision that is still too low at the next reading needs no movement: a cluster that nobody writes to
/// has none.
#[derive(Clone, Debug, Default)]
pub struct Observer {
    mark: Option<RaftMark>,
    suspect: Option<(RaftReading, Contradiction)>,
}

impl Observer {
    /// Goes on from a mark on record.
    pub fn new(mark: Option<RaftMark>) -> Self {
        Observer { mark, suspect: None }
    }

    /// The mark now.
    pub fn mark(&self) -> Option<RaftMark> {
        self.mark
    }

    /// How the last reading contradicts the mark: take another one soon.
    pub fn suspicion(&self) -> Option<Contradiction> {
        self.suspect.map(|(_, contradiction)| contradiction)
    }

    /// Takes a reading; gives the contradiction that proves another history.
    pub fn observe(&mut self, reading: &RaftReading) -> Option<Contradiction> {
        let Some(mark) = &mut self.mark else {
            self.mark = Some(RaftMark::of(reading));
            return None;
        };
        let Some(contradiction) = mark.contradiction(reading) else {
            mark.update(reading);
            self.suspect = None;
            return None;
        };
        let Some((before, _)) = self.suspect.filter(|(before, _)| before.member == reading.member) else {
            self.suspect = Some((*reading, contradiction));
            return None;
        };
        let moved = reading.second.applied_index > before.second.applied_index;
        (moved || matches!(contradiction, Contradiction::RevisionBack { .. })).then_some(contradiction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(member: u64, first: (Revision, u64), second: (Revision, u64)) -> RaftReading {
        let status = |(revision, applied_index)| RaftStatus { revision, applied_index };
        RaftReading { member, first: status(first), second: status(second) }
    }

    fn quiet(revision: Revision, index: u64) -> RaftReading {
        reading(1, (revision, index), (revision, index))
    }

    #[test]
    fn the_bounds_hold_the_distance_while_it_moves() {
        // Ten entries were applied between the two statuses.
        let reading = reading(1, (100, 109), (110, 119));
        assert_eq!((reading.lower(), reading.upper()), (-1, 19));
    }

    #[test]
    fn a_restore_is_proved_by_the_second_reading_that_has_moved() {
        let mut observer = Observer::new(None);
        assert_eq!(observer.observe(&quiet(201, 210)), None);
        // Restored, and ahead of everything seen before, index included.
        assert_eq!(observer.observe(&quiet(1_000_201, 1_211)), None);
        assert!(observer.suspicion().is_some());
        assert_eq!(observer.observe(&quiet(1_000_201, 1_211)), None, "it has not moved");
        let proof = observer.observe(&quiet(1_000_202, 1_212));
        assert_eq!(proof, Some(Contradiction::DistanceFell { now: -998_990, seen: 9 }));
        // Nothing of it has gone into the mark.
        assert_eq!(observer.mark(), Some(RaftMark { distance: 9, index: 210, revision: 201 }));
    }

    #[test]
    fn another_member_does_not_confirm_the_suspicion_of_the_first() {
        let mut observer = Observer::new(Some(RaftMark { distance: 9, index: 210, revision: 201 }));
        assert_eq!(observer.observe(&reading(1, (300, 20), (300, 20))), None);
        assert_eq!(observer.observe(&reading(2, (301, 21), (301, 21))), None);
        assert_eq!(observer.observe(&reading(2, (302, 311), (302, 311))), None);
        assert_eq!(observer.suspicion(), None);
    }

    #[test]
    fn a_revision_gone_back_on_a_quiet_cluster_is_proved_by_looking_twice() {
        let mut observer = Observer::new(Some(RaftMark { distance: 9, index: 210, revision: 201 }));
        assert_eq!(observer.observe(&quiet(150, 5)), None);
        assert_eq!(observer.observe(&quiet(150, 5)), Some(Contradiction::RevisionBack { now: 150, seen: 201 }));
    }

    #[test]
    fn the_distance_grows_and_may_seem_to_shrink_by_the_entry_being_applied() {
        let mut observer = Observer::new(None);
        for (revision, index) in [(10, 20), (11, 21), (11, 25), (30, 44), (31, 44)] {
            assert_eq!(observer.observe(&quiet(revision, index)), None);
            assert_eq!(observer.suspicion(), None, "at {revision}");
        }
        assert_eq!(observer.mark().unwrap().distance, 14);
    }
}
