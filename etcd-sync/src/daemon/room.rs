//! Room in the standby's etcd. One that has reached its quota refuses every write (alarm NOSPACE), also those of its own API server:
//! replication stops before that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use etcd_sync_core::link::state::Phase;
use etcd_sync_store::{Etcd, MemberStatus};
use tracing::{info, warn};

/// How often the members are asked.
const INTERVAL: Duration = Duration::from_secs(5);
/// The same in a copy, which may write tens of MiB a second, and with less than twice the reserve left.
const INTERVAL_NEAR: Duration = Duration::from_secs(1);
/// How long a member may take to tell its state.
const PATIENCE: Duration = Duration::from_secs(1);

/// Watches it, for all sessions of a process. Clones share what they know.
#[derive(Clone, Debug)]
pub(super) struct Room {
    /// The part of the quota that stays free, in percent; 0: nothing is looked at.
    reserve: u64,
    seen: Arc<Seen>,
}

/// What the last look showed.
#[derive(Debug, Default)]
struct Seen {
    near: AtomicBool,
    full: AtomicBool,
    /// That a member does not tell its quota was logged.
    told: AtomicBool,
}

/// How much room there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Left {
    Enough,
    /// Less than twice the reserve.
    Near,
    /// Less than the reserve; once it came to that, less than one and a half of it.
    TooLittle,
}

impl Room {
    pub(super) fn new(reserve: u64) -> Room {
        Room { reserve, seen: Arc::default() }
    }

    /// When to look again.
    pub(super) fn interval(&self, phase: Phase) -> Duration {
        let near = phase != Phase::Streaming || self.seen.near.load(Ordering::Relaxed);
        if near { INTERVAL_NEAR } else { INTERVAL }
    }

    /// Looks at the members that answer: why nothing may be written (a short name, and what to do), if so.
    pub(super) async fn look(&self, standby: &Etcd) -> Option<(&'static str, String)> {
        if self.reserve == 0 {
            return None;
        }
        let mut most = Left::Enough;
        for (endpoint, member) in standby.answering_members(PATIENCE).await {
            // Too late: the first write says so, with what else is to be done then.
            if member.errors.iter().any(|error| error.contains("NOSPACE")) {
                return None;
            }
            let Some(quota) = member.db_quota_bytes else {
                if !self.seen.told.swap(true, Ordering::Relaxed) {
                    info!(
                        endpoint,
                        version = member.version,
                        "this member of the standby does not tell its quota (etcd 3.6 and later do): \
                         --standby-quota-reserve does not heed it"
                    );
                }
                continue;
            };
            let left = self.judge(&member, quota);
            if left == Left::TooLittle && !self.is_full() {
                let (size, in_use) = (member.db_size_bytes, member.db_size_in_use_bytes);
                warn!(endpoint, size, in_use, quota, "this member of the standby is near its quota");
            }
            most = most.max(left);
        }
        self.seen.near.store(most >= Left::Near, Ordering::Relaxed);
        self.seen.full.store(most == Left::TooLittle, Ordering::Relaxed);
        (most == Left::TooLittle).then(|| ("quota_reserve", self.text()))
    }

    fn is_full(&self) -> bool {
        self.seen.full.load(Ordering::Relaxed)
    }

    fn judge(&self, member: &MemberStatus, quota: i64) -> Left {
        judge(member.db_size_bytes, quota, self.reserve, self.is_full())
    }

    /// Without sizes: they move, and each new text would be logged and recorded.
    fn text(&self) -> String {
        format!(
            "the database of the standby's etcd has less than {}% of its quota left (--standby-quota-reserve): at the quota etcd would \
             refuse every write (alarm NOSPACE), also those of the standby's own API server; compact it and run etcdctl defrag on \
             every member (the size of the file counts, not what is in use), or raise --quota-backend-bytes; replication goes on by \
             itself when {}% are free",
            self.reserve,
            enough_again(self.reserve)
        )
    }
}

/// What must be free before replication goes on, in percent: clearly more than the reserve, or it would stop again at once.
fn enough_again(reserve: u64) -> u64 {
    (reserve + reserve.div_ceil(2)).min(99)
}

/// Judges one member as etcd does: by the size of its database, free pages in it included. `was_full`: replication has stopped for
/// this.
fn judge(size: i64, quota: i64, reserve: u64, was_full: bool) -> Left {
    let free = i128::from(quota.saturating_sub(size)) * 100;
    let less_than = |percent: u64| free < i128::from(quota) * i128::from(percent);
    let limit = if was_full { enough_again(reserve) } else { reserve };
    match () {
        () if less_than(limit) => Left::TooLittle,
        () if less_than(reserve * 2) => Left::Near,
        () => Left::Enough,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stops_below_the_reserve_and_goes_on_clearly_above() {
        let judge = |size, was_full| judge(size, 1_000, 10, was_full);
        assert_eq!([100, 800, 801, 900, 901].map(|size| judge(size, false)), {
            use Left::{Enough, Near, TooLittle};
            [Enough, Enough, Near, Near, TooLittle]
        });
        assert_eq!([901, 851, 850].map(|size| judge(size, true)), [Left::TooLittle, Left::TooLittle, Left::Near]);
        // Over the quota, and quotas of every size.
        assert_eq!(judge(2_000, false), Left::TooLittle);
        assert_eq!(super::judge(i64::MAX / 2, i64::MAX, 50, true), Left::TooLittle);
        assert_eq!(super::judge(0, i64::MAX, 10, false), Left::Enough);
    }

    #[test]
    fn the_text_says_when_it_goes_on() {
        let text = Room::new(5).text();
        assert!(text.contains("less than 5% of its quota") && text.contains("when 8% are free"), "{text}");
        assert_eq!(enough_again(90), 99);
    }
}
