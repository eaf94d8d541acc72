//! Whether a watch lives, judged by its answers: after which silence it is dead, and when its member has stopped applying.
//!
//! That the process at the other end lives is proved by the HTTP/2 pings of the connection. Here it is about the watch itself.

use std::time::Duration;

use etcd_sync_core::etcd::kv::Revision;
use tokio::time::Instant;

/// How many times longer a watch may be silent that has not caught up. etcd reads the whole backlog of a watch before it sends
/// anything, which takes minutes for millions of changes. There is a limit at all because a watch that etcd has lost would be
/// waited for without end.
const CATCHING_UP: u32 = 120;

/// The newest revisions that linearizable reads have shown.
#[derive(Debug, Default)]
pub(crate) struct Heads {
    older: Option<(Revision, Instant)>,
    newer: Option<(Revision, Instant)>,
}

impl Heads {
    /// A linearizable read or a write was answered at `revision`. `every`: how old a revision must be to count.
    pub(crate) fn note(&mut self, revision: Revision, now: Instant, every: Duration) {
        if self.older.is_some_and(|(known, _)| revision < known) {
            // The history went back: a restored cluster.
            (self.older, self.newer) = (None, None);
        }
        match self.newer {
            None => self.newer = Some((revision, now)),
            Some((_, at)) if now >= at + every => {
                self.older = self.newer;
                self.newer = Some((revision, now));
            }
            Some(_) => {}
        }
    }

    /// A revision that the cluster had reached at least `age` before `now`.
    fn reached(&self, now: Instant, age: Duration) -> Option<Revision> {
        [self.newer, self.older].into_iter().flatten().find(|&(_, at)| now >= at + age).map(|(revision, _)| revision)
    }
}

/// What the answers of one watch have shown.
#[derive(Debug)]
pub(crate) struct WatchHealth {
    silence: Duration,
    /// Nothing of the history is left to be read for it, so progress is answered.
    caught_up: bool,
    /// The revision of the last progress, and since when it has been that one without a change in between.
    stands: Option<(Revision, Instant)>,
}

impl WatchHealth {
    /// `silence`: how long a watch that has caught up may be silent. `start`: the first revision it was asked for, 0 for "from
    /// now"; `newest`: the member's newest one at that time.
    pub(crate) fn new(silence: Duration, start: Revision, newest: Revision) -> Self {
        // To a start that is still to come etcd reports nothing, but there is nothing to be read for it either: a member that
        // lags must not be waited for.
        WatchHealth { silence, caught_up: start == 0 || start > newest, stands: None }
    }

    /// Changes came, `last` being the revision of the last one, while the member was at `newest`.
    pub(crate) fn on_events(&mut self, last: Revision, newest: Revision, complete: bool) {
        self.caught_up = complete && last >= newest;
        self.stands = None;
    }

    /// Progress came.
    pub(crate) fn on_progress(&mut self, revision: Revision, now: Instant) {
        self.caught_up = true;
        if self.stands.is_none_or(|(known, _)| known != revision) {
            self.stands = Some((revision, now));
        }
    }

    /// It had to wait for our reader: what comes next may have been on its way for as long.
    pub(crate) fn on_pause(&mut self) {
        self.stands = None;
    }

    /// How long silence is no sign of death now.
    pub(crate) fn patience(&self) -> Duration {
        if self.caught_up { self.silence } else { self.silence * CATCHING_UP }
    }

    /// The revision it stands at and the one the cluster had reached before that, when the member has stopped applying: it answers,
    /// its progress has not moved for as long as a silent watch is kept, and the cluster has been further for as long.
    pub(crate) fn stalled(&self, heads: &Heads, now: Instant) -> Option<(Revision, Revision)> {
        let (stands, since) = self.stands?;
        let reached = heads.reached(now, self.silence)?;
        (now >= since + self.silence && reached > stands).then_some((stands, reached))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SILENCE: Duration = Duration::from_secs(15);

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn silence_is_a_sign_once_a_watch_has_caught_up() {
        let mut health = WatchHealth::new(SILENCE, 5, 9);
        assert!(health.patience() > Duration::from_secs(1_000));
        health.on_events(7, 9, true);
        assert!(health.patience() > Duration::from_secs(1_000), "8 and 9 may still be to come");
        health.on_events(9, 9, false);
        assert!(health.patience() > Duration::from_secs(1_000), "the rest of revision 9 is to come");
        health.on_events(9, 9, true);
        assert_eq!(health.patience(), SILENCE);
        // It was slow and is read from the history again.
        health.on_events(12, 30, true);
        assert!(health.patience() > SILENCE);
        health.on_progress(30, Instant::now());
        assert_eq!(health.patience(), SILENCE);
        for (start, newest) in [(0, 9), (10, 9), (12, 9)] {
            assert_eq!(WatchHealth::new(SILENCE, start, newest).patience(), SILENCE, "nothing to read from {start} on");
        }
    }

    /// A cluster that moves on from revision 10 by 10 a second, and a watch that stands at 10.
    #[test]
    fn a_member_that_answers_but_applies_nothing_is_found() {
        let start = Instant::now();
        let (mut heads, mut health) = (Heads::default(), WatchHealth::new(SILENCE, 0, 10));
        let mut found = None;
        for second in 0..60 {
            let now = at(start, second);
            heads.note(10 + 10 * second as Revision, now, SILENCE);
            health.on_progress(10, now);
            if found.is_none() && health.stalled(&heads, now).is_some() {
                found = Some(second);
            }
        }
        assert_eq!(found, Some(30), "a head that is 15 s old, above the watch's");
    }

    #[test]
    fn quiet_lagging_and_late_watches_are_kept() {
        let start = Instant::now();
        let (mut heads, mut quiet) = (Heads::default(), WatchHealth::new(SILENCE, 0, 10));
        let (mut lags, mut late) = (WatchHealth::new(SILENCE, 0, 10), WatchHealth::new(SILENCE, 0, 10));
        for second in 0..100 {
            let now = at(start, second);
            heads.note(100, now, SILENCE);
            quiet.on_progress(100, now);
            lags.on_progress(second as Revision, now);
            // Its reader is slow, so its answers are old.
            late.on_pause();
            late.on_progress(50, now);
            for health in [&quiet, &lags, &late] {
                assert_eq!(health.stalled(&heads, now), None);
            }
        }
        // Changes are on their way to it.
        late.on_progress(50, at(start, 100));
        late.on_events(60, 60, true);
        late.on_progress(60, at(start, 120));
        assert_eq!(late.stalled(&heads, at(start, 120)), None);
        assert_eq!(late.stalled(&heads, at(start, 135)), Some((60, 100)));
    }

    #[test]
    fn a_history_that_went_back_is_no_stalled_member() {
        let start = Instant::now();
        let (mut heads, mut health) = (Heads::default(), WatchHealth::new(SILENCE, 0, 50));
        for second in 0..40 {
            heads.note(100, at(start, second), SILENCE);
        }
        for second in 40..100 {
            heads.note(50, at(start, second), SILENCE);
            health.on_progress(50, at(start, second));
            assert_eq!(health.stalled(&heads, at(start, second)), None);
        }
    }
}
