//! How far the standby is behind, and how long the primary's history still reaches, from what was seen of both over time.
//! Moments are times since any fixed one, by a clock that never goes back.

use std::collections::VecDeque;
use std::time::Duration;

use crate::etcd::kv::Revision;

/// Readings of the primary's revision that wait for the standby to come as far; about one a second.
const HEADS_MAX: usize = 3_600;

/// Readings that the primary's pace is taken from: ten minutes of one a second.
const PACES_MAX: usize = 600;

/// Without contact for so long, the primary may have gone on meanwhile.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// What was seen.
#[derive(Debug, Default)]
pub struct Lag {
    head: Option<Revision>,
    applied: Revision,
    /// The readings that the standby has not caught up with.
    heads: VecDeque<(Duration, Revision)>,
    /// The latest readings, caught up with or not.
    paces: VecDeque<(Duration, Revision)>,
    caught_up: Option<Duration>,
}

impl Lag {
    /// The primary was at `revision`.
    pub fn head(&mut self, now: Duration, revision: Revision) {
        // Another history: nothing seen before says anything about it.
        if self.head.is_some_and(|head| head > revision) {
            let applied = self.applied;
            *self = Lag { applied, ..Lag::default() };
        }
        self.head = Some(revision);
        // The lag is measured from the oldest one, so it stays.
        push(&mut self.heads, HEADS_MAX, 1, (now, revision));
        push(&mut self.paces, PACES_MAX, 0, (now, revision));
        self.catch_up();
    }

    /// The standby is consistent with the primary up to `revision`.
    pub fn applied(&mut self, revision: Revision) {
        self.applied = revision;
        self.catch_up();
    }

    /// Forgets what was seen, after an interruption of the readings.
    pub fn forget(&mut self) {
        self.heads.clear();
        self.paces.clear();
        self.caught_up = None;
    }

    /// Revisions of the primary the standby lacks; `None` before the first reading.
    pub fn revisions(&self) -> Option<u64> {
        self.head.map(|head| head.saturating_sub(self.applied).max(0) as u64)
    }

    /// How long ago the standby was known to be where the primary was; `None` before it was seen there once.
    pub fn time(&self, now: Duration) -> Option<Duration> {
        let since = |at: Duration| now.saturating_sub(at);
        // Before it ever caught up, the oldest reading says when the looking began, not when the lag did.
        let caught_up = self.caught_up?;
        match self.heads.front() {
            Some((asked, _)) => Some(since(*asked)),
            None if since(caught_up) > SILENCE_MAX => Some(since(caught_up)),
            None => Some(Duration::ZERO),
        }
    }

    /// How long until compaction, now at `compacted`, passes `checkpoint` at the primary's pace: (revisions, time); the time
    /// is `None` while the primary is quiet, and where nothing was ever compacted (0).
    pub fn headroom(&self, compacted: Revision, checkpoint: Revision) -> (u64, Option<Duration>) {
        let revisions = (checkpoint - compacted).max(0) as u64;
        let pace = self.paces.front().zip(self.paces.back()).map(|((since, from), (until, to))| {
            (to - from) as f64 / until.saturating_sub(*since).as_secs_f64().max(1.0)
        });
        let time = pace.filter(|pace| *pace > 0.0 && compacted > 0).map(|pace| revisions as f64 / pace);
        (revisions, time.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()))
    }

    fn catch_up(&mut self) {
        while let Some((at, _)) = self.heads.front().filter(|(_, head)| *head <= self.applied) {
            self.caught_up = Some(*at);
            self.heads.pop_front();
        }
    }
}

fn push(to: &mut VecDeque<(Duration, Revision)>, most: usize, gives_way: usize, reading: (Duration, Revision)) {
    if to.len() == most {
        to.remove(gives_way);
    }
    to.push_back(reading);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_lag_is_the_age_of_the_oldest_reading_that_is_not_reached() {
        let mut lag = Lag::default();
        assert_eq!((lag.revisions(), lag.time(at(0))), (None, None));
        lag.applied(10);
        lag.head(at(1), 10);
        assert_eq!((lag.revisions(), lag.time(at(1))), (Some(0), Some(at(0))));
        lag.head(at(2), 12);
        lag.head(at(3), 15);
        assert_eq!((lag.revisions(), lag.time(at(4))), (Some(5), Some(at(2))));
        lag.applied(12);
        assert_eq!(lag.time(at(4)), Some(at(1)));
        lag.applied(15);
        assert_eq!((lag.revisions(), lag.time(at(4))), (Some(0), Some(at(0))));
    }

    #[test]
    fn a_lag_that_was_there_before_anybody_looked_is_not_measured() {
        let mut lag = Lag::default();
        lag.applied(10);
        lag.head(at(100), 5_000);
        assert_eq!((lag.revisions(), lag.time(at(160))), (Some(4_990), None));
    }

    #[test]
    fn a_long_lag_is_not_cut_off() {
        let mut lag = Lag::default();
        (0..2 * HEADS_MAX as u64).for_each(|second| lag.head(at(second), second as i64));
        assert_eq!(lag.time(at(2 * HEADS_MAX as u64)), Some(at(2 * HEADS_MAX as u64 - 1)));
    }

    #[test]
    fn a_silent_primary_makes_the_lag_grow() {
        let mut lag = Lag::default();
        lag.applied(10);
        lag.head(at(1), 10);
        assert_eq!(lag.time(at(4)), Some(at(0)));
        assert_eq!(lag.time(at(60)), Some(at(59)));
    }

    #[test]
    fn headroom_is_in_time_at_the_primarys_pace() {
        let mut lag = Lag::default();
        lag.head(at(0), 1_000);
        assert_eq!(lag.headroom(400, 1_000), (600, None));
        lag.head(at(10), 1_100);
        assert_eq!(lag.headroom(400, 1_000), (600, Some(at(60))));
        assert_eq!(lag.headroom(1_200, 1_000), (0, Some(at(0))));
        assert_eq!(lag.headroom(0, 1_000), (1_000, None));
    }

    #[test]
    fn a_primary_that_goes_back_starts_again() {
        let mut lag = Lag::default();
        lag.applied(100);
        lag.head(at(0), 100);
        lag.head(at(1), 5);
        assert_eq!((lag.revisions(), lag.headroom(0, 5)), (Some(0), (5, None)));
    }
}
