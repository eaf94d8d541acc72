//! A standby that is far behind: to follow every change, or to copy what is there now. etcd reads the whole backlog of a watch
//! into memory before it sends the first change of it, whether it is in scope or not (`syncWatchers` in its
//! server/storage/mvcc/watchable_store.go).

use super::Ended;
use crate::etcd::kv::Revision;

/// Fewer changes than this are always followed.
pub const BACKLOG_LEAST: u64 = 100_000;

/// And fewer revisions than this also where watches break: that is the network's fault.
const FRUITLESS_FROM: Revision = 1_000;

/// A watch that broke so often before the first change of a backlog came is not tried once more.
const FRUITLESS_MOST: u32 = 2;

/// What the sessions before have learnt about following a backlog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CatchUp {
    /// Changes in one revision, rounded down. An API server makes one; who deletes a prefix makes many.
    per_revision: u64,
    /// Watches in a row that broke before anything came.
    fruitless: u32,
}

impl Default for CatchUp {
    fn default() -> Self {
        CatchUp { per_revision: 1, fruitless: 0 }
    }
}

impl CatchUp {
    /// About how many changes so many revisions hold.
    pub fn changes(&self, revisions: Revision) -> u64 {
        revisions.max(0).unsigned_abs().saturating_mul(self.per_revision)
    }

    /// The same after the last revisions were seen: so many of them hold so many changes.
    pub fn after(self, revisions: Revision, events: u64) -> Self {
        let per_revision = events / revisions.max(1).unsigned_abs();
        CatchUp { per_revision: per_revision.max(self.per_revision), ..self }
    }

    /// Whether a copy is the cheaper way over so many revisions, or the only one. `keys`: how many keys a copy compares, if they were
    /// counted.
    pub(super) fn prefers_copy(&self, revisions: Revision, keys: Option<u64>) -> bool {
        let is_fruitless = self.fruitless >= FRUITLESS_MOST && revisions >= FRUITLESS_FROM;
        revisions > 0 && (is_fruitless || keys.is_some_and(|keys| self.changes(revisions) >= keys))
    }
}

/// A backlog that is being followed.
#[derive(Debug)]
pub(super) struct Backlog {
    known: CatchUp,
    from: Revision,
    /// The primary's revision when the session began.
    until: Revision,
    least: u64,
    /// A copy was found to be the more expensive way.
    is_decided: bool,
}

impl Backlog {
    pub(super) fn new(known: CatchUp, from: Revision, until: Revision, least: u64, is_decided: bool) -> Self {
        Backlog { known, from, until, least, is_decided }
    }

    /// So many changes have come, up to this revision. An error where the rest is so long that a copy has to be considered.
    pub(super) fn on_received(&mut self, events: u64, received: Revision) -> Result<(), Ended> {
        self.known.fruitless = 0;
        if self.is_decided || events < self.least || received >= self.until {
            return Ok(());
        }
        self.known = self.known.after(received - self.from, events);
        if self.known.changes(self.until - received) < self.least {
            return Ok(());
        }
        Err(Ended::Again { force_copy: false, why: "the backlog is much longer than its revisions told" })
    }

    /// The watch broke.
    pub(super) fn on_watch_broke(&mut self, received: Revision) {
        let brought_nothing = received <= self.from && self.until > self.from;
        self.known.fruitless = if brought_nothing { self.known.fruitless + 1 } else { 0 };
    }

    /// What the next session should know.
    pub(super) fn known(&self) -> CatchUp {
        self.known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_preferred_where_it_compares_fewer_keys() {
        let known = CatchUp::default();
        assert!(known.prefers_copy(5_000_000, Some(501)));
        assert!(!known.prefers_copy(200_000, Some(300_000)));
        assert!(!known.prefers_copy(5_000_000, None), "it was not long enough to count them");
        assert!(!known.prefers_copy(0, Some(0)));
    }

    #[test]
    fn a_backlog_of_large_revisions_is_noticed_on_the_way() {
        let mut backlog = Backlog::new(CatchUp::default(), 1_000, 41_000, 1_000, false);
        assert_eq!(backlog.on_received(900, 1_009), Ok(()));
        assert!(backlog.on_received(1_000, 1_010).is_err());
        assert_eq!(backlog.known().changes(400), 40_000);
        assert!(backlog.known().prefers_copy(40_000, Some(4_000_000)));
        assert!(!backlog.known().prefers_copy(40_000, Some(4_000_001)));
    }

    #[test]
    fn what_was_decided_is_not_decided_again() {
        let mut backlog = Backlog::new(CatchUp::default(), 1_000, 41_000, 1_000, true);
        assert_eq!(backlog.on_received(1_000_000, 1_010), Ok(()));
    }

    #[test]
    fn the_end_of_a_backlog_is_followed() {
        let mut backlog = Backlog::new(CatchUp::default(), 1_000, 1_019, 1_000, false);
        assert_eq!(backlog.on_received(1_000, 1_010), Ok(()), "900 changes are left");
        assert_eq!(backlog.on_received(10_000, 1_019), Ok(()));
    }

    #[test]
    fn the_third_watch_is_not_opened_if_two_brought_nothing() {
        let mut known = CatchUp::default();
        for broken in 1..=2 {
            assert!(!known.prefers_copy(5_000, None), "after {} watches", broken - 1);
            let mut backlog = Backlog::new(known, 1_000, 6_000, 1_000, false);
            backlog.on_watch_broke(1_000);
            known = backlog.known();
        }
        assert!(known.prefers_copy(5_000, None));
        assert!(!known.prefers_copy(999, None), "it is short");
        let mut backlog = Backlog::new(known, 1_000, 6_000, 1_000, false);
        assert_eq!(backlog.on_received(1, 1_001), Ok(()));
        backlog.on_watch_broke(1_001);
        assert!(!backlog.known().prefers_copy(5_000, None));
    }

    #[test]
    fn a_watch_that_had_nothing_to_bring_says_nothing() {
        let mut known = CatchUp::default();
        for _ in 0..5 {
            let mut backlog = Backlog::new(known, 1_000, 1_000, 1_000, false);
            backlog.on_watch_broke(1_000);
            known = backlog.known();
        }
        assert!(!known.prefers_copy(5_000, None));
    }
}
