//! How fast comparisons may read: clusters that serve users must not feel them.

use std::ops::Add;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use etcd_sync_core::etcd::kv::KeyValue;
use tokio::time::Instant;

/// Work that may be done at once after a pause.
const BURST: Duration = Duration::from_millis(100);

/// What was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    keys: u64,
    bytes: u64,
}

impl Work {
    /// Of some keys, with their values where they were read.
    pub fn of(kvs: &[KeyValue]) -> Work {
        let bytes: usize = kvs.iter().map(|kv| kv.key.len() + kv.value.len()).sum();
        Work { keys: kvs.len() as u64, bytes: bytes as u64 }
    }
}

impl Add for Work {
    type Output = Work;

    fn add(self, other: Work) -> Work {
        Work { keys: self.keys + other.keys, bytes: self.bytes + other.bytes }
    }
}

/// A limit in keys and bytes a second, shared by everything that holds it.
#[derive(Debug)]
pub struct Pace {
    keys_per_second: u64,
    bytes_per_second: u64,
    /// When the urgent work so far is paid for, and when all work is.
    paid: Mutex<[Option<Instant>; 2]>,
}

impl Pace {
    /// 0 is no limit.
    pub fn new(keys_per_second: u64, bytes_per_second: u64) -> Self {
        Pace { keys_per_second, bytes_per_second, paid: Mutex::default() }
    }

    /// No limit at all.
    pub fn unlimited() -> Self {
        Pace::new(0, 0)
    }

    /// Waits until work done is paid for. Urgent work waits for urgent work only, other work for all.
    pub async fn pay(&self, work: Work, urgent: bool) {
        if let Some(until) = self.reserve(Instant::now(), work, urgent) {
            tokio::time::sleep_until(until).await;
        }
    }

    /// When work done at `now` is paid for; `None`: it costs nothing.
    fn reserve(&self, now: Instant, Work { keys, bytes }: Work, urgent: bool) -> Option<Instant> {
        let cost = cost(keys, self.keys_per_second).max(cost(bytes, self.bytes_per_second));
        if cost.is_zero() {
            return None;
        }
        let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        let [urgent_paid, all_paid] = &mut *paid;
        let after =
            |paid: Option<Instant>| paid.map_or(now, |paid| paid.max(now.checked_sub(BURST).unwrap_or(now))) + cost;
        let all = *all_paid.insert(after(*all_paid));
        Some(if urgent { *urgent_paid.insert(after(*urgent_paid)) } else { all })
    }
}

fn cost(units: u64, per_second: u64) -> Duration {
    match per_second {
        0 => Duration::ZERO,
        _ => Duration::from_secs_f64(units as f64 / per_second as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds that `pages` pages of 100 keys and 1,000 bytes take.
    fn seconds(pace: &Pace, pages: usize) -> f64 {
        let began = Instant::now();
        let end =
            (0..pages).fold(began, |now, _| pace.reserve(now, Work { keys: 100, bytes: 1_000 }, true).unwrap_or(now));
        (end - began).as_secs_f64()
    }

    #[test]
    fn the_slower_limit_counts() {
        for (keys, bytes, expected) in [(1_000, 0, 5.0), (1_000, 5_000, 10.0), (0, 0, 0.0)] {
            let found = seconds(&Pace::new(keys, bytes), 50);
            assert!((found - expected).abs() < 0.01, "{found} for {expected}");
        }
    }

    #[test]
    fn two_that_share_it_get_half_each() {
        let pace = Pace::new(1_000, 0);
        let now = Instant::now();
        let ends: Vec<Instant> =
            (0..20).filter_map(|_| pace.reserve(now, Work { keys: 100, bytes: 0 }, true)).collect();
        assert_eq!(ends[19] - now, Duration::from_secs(2));
    }

    #[test]
    fn urgent_work_passes_the_other() {
        let pace = Pace::new(1_000, 0);
        let now = Instant::now();
        let seconds = |urgent| (pace.reserve(now, Work { keys: 1_000, bytes: 0 }, urgent).unwrap() - now).as_secs();
        assert_eq!([seconds(false), seconds(false), seconds(true), seconds(true), seconds(false)], [1, 2, 1, 2, 5]);
    }

    #[test]
    fn a_pause_is_not_saved_up() {
        let pace = Pace::new(1_000, 0);
        let later = pace.reserve(Instant::now(), Work { keys: 1, bytes: 0 }, true).unwrap() + Duration::from_secs(60);
        assert!(
            pace.reserve(later, Work { keys: 1_000, bytes: 0 }, true).unwrap() - later
                >= Duration::from_secs(1) - BURST
        );
    }
}
