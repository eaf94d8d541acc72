//! Results of the comparisons, and since when each difference is known. Pure.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Instant;

use etcd_sync_core::compare::check::{Finding, Kept, Report, Situation};

use crate::view::{CheckResult, Verdict};

/// Results kept: a day of one a minute.
pub const RESULTS_MAX: usize = 1_440;

/// What the comparisons have told so far.
#[derive(Debug, Default)]
pub struct History {
    results: VecDeque<CheckResult>,
    next_id: u64,
    since: Since,
    /// The newest report, deep or not, and its result's number.
    latest: Option<(u64, Arc<Report>)>,
    latest_began: Option<Instant>,
    latest_ended_ms: u64,
    /// The newest deep one.
    latest_deep: Option<(u64, Arc<Report>)>,
    latest_deep_ended_ms: u64,
    last_success_ms: Option<u64>,
    counts: HashMap<(Verdict, bool), u64>,
}

/// Since when a difference is known, in Unix milliseconds. Only a hash of the key is kept: there may be many.
#[derive(Debug, Default)]
struct Since {
    hasher: RandomState,
    by_hash: HashMap<u64, u64>,
    deep_by_hash: HashMap<u64, u64>,
}

/// A comparison that has ended.
pub struct Ended {
    /// By a clock that never goes back.
    pub began: Instant,
    pub started_ms: u64,
    pub took_ms: u64,
    pub deep: bool,
    /// Or why there is no verdict.
    pub report: Result<Arc<Report>, String>,
}

impl History {
    /// Takes a comparison in; gives its result.
    pub fn add(&mut self, ended: Ended) -> &CheckResult {
        self.next_id += 1;
        let id = self.next_id;
        let Ended { began, started_ms, took_ms, deep, report } = ended;
        let mut result = CheckResult {
            id,
            started_ms,
            took_ms,
            deep,
            verdict: Verdict::Unknown,
            error: None,
            basis: None,
            primary_revision: None,
            standby_revision: None,
            keys_compared: 0,
            missed: 0,
            surplus: 0,
            mismatched: None,
            own_status: None,
            unproved: 0,
            healed: 0,
        };
        match report {
            Err(error) => result.error = Some(error),
            Ok(report) => {
                result.verdict = if report.consistent() { Verdict::Consistent } else { Verdict::Different };
                result.basis = Some(report.at.basis);
                result.primary_revision = Some(report.at.primary_revision);
                result.standby_revision = Some(report.at.standby_revision);
                result.keys_compared = report.compared;
                (result.missed, result.surplus) = (report.missed.count, report.surplus.count);
                result.mismatched = deep.then_some(report.mismatched.count);
                result.own_status = deep.then_some(report.status.count);
                result.unproved = report.unproved;
                self.last_success_ms = self.last_success_ms.max(Some(started_ms + took_ms));
                // One over values takes long: what another one began after it has found is newer.
                let newest = self.latest_began.is_none_or(|latest| latest <= began);
                if newest {
                    result.healed = self.since.keys(&report, started_ms);
                    (self.latest_began, self.latest) = (Some(began), Some((id, Arc::clone(&report))));
                    self.latest_ended_ms = started_ms + took_ms;
                }
                if deep {
                    result.healed += self.since.values(&report, started_ms);
                    self.latest_deep = Some((id, report));
                    self.latest_deep_ended_ms = started_ms + took_ms;
                }
            }
        }
        *self.counts.entry((result.verdict, deep)).or_default() += 1;
        if self.results.len() == RESULTS_MAX {
            self.results.pop_front();
        }
        self.results.push_back(result);
        &self.results[self.results.len() - 1]
    }

    /// Oldest first.
    pub fn results(&self) -> impl Iterator<Item = &CheckResult> {
        self.results.iter()
    }

    /// The newest report, with its result's number.
    pub fn latest(&self) -> Option<&(u64, Arc<Report>)> {
        self.latest.as_ref()
    }

    /// The newest deep report.
    pub fn latest_deep(&self) -> Option<&(u64, Arc<Report>)> {
        self.latest_deep.as_ref()
    }

    /// The newest report, or the newest deep one, with its result's number and when it ended.
    pub fn last(&self, deep: bool) -> Option<(u64, u64, Arc<Report>)> {
        let (latest, ended_ms) = match deep {
            true => (self.latest_deep(), self.latest_deep_ended_ms),
            false => (self.latest(), self.latest_ended_ms),
        };
        latest.map(|(id, report)| (*id, ended_ms, Arc::clone(report)))
    }

    /// Whether the newest deep report has values that differ.
    pub fn values_differ(&self) -> bool {
        self.latest_deep.as_ref().is_some_and(|(_, report)| report.mismatched.count > 0)
    }

    /// When a comparison last came to a verdict.
    pub fn last_success_ms(&self) -> Option<u64> {
        self.last_success_ms
    }

    /// Comparisons so far, by outcome and depth.
    pub fn count(&self, verdict: Verdict, deep: bool) -> u64 {
        self.counts.get(&(verdict, deep)).copied().unwrap_or(0)
    }

    /// The known differences: missed and surplus from the newest report, the others from the newest deep one.
    pub fn known(&self) -> Known {
        Known {
            latest: self.latest.as_ref().map(|(_, report)| Arc::clone(report)),
            deep: self.latest_deep.as_ref().map(|(_, report)| Arc::clone(report)),
        }
    }

    /// Since when a difference is known.
    pub fn since_ms(&self, finding: &Finding) -> Option<u64> {
        let hash = self.since.hash(finding);
        self.since.by_hash.get(&hash).or(self.since.deep_by_hash.get(&hash)).copied()
    }

    /// Since when the oldest difference is known that is still there; the standby's own status is none.
    pub fn oldest_ms(&self) -> Option<u64> {
        self.oldest_of(&["missed", "surplus", "mismatched"])
    }

    /// The same of missed keys.
    pub fn oldest_missed_ms(&self) -> Option<u64> {
        self.oldest_of(&["missed"])
    }

    fn oldest_of(&self, kinds: &[&str]) -> Option<u64> {
        let known = self.known();
        let lists = known.lists().filter(|(name, ..)| kinds.contains(name));
        lists.flat_map(|(_, kept, _)| &kept.first).filter_map(|finding| self.since_ms(finding)).min()
    }
}

/// See [`History::known`].
#[derive(Clone)]
pub struct Known {
    latest: Option<Arc<Report>>,
    deep: Option<Arc<Report>>,
}

impl Known {
    /// The lists, each with the name of its kind and who could repair it.
    pub fn lists(&self) -> impl Iterator<Item = (&'static str, &Kept, Situation)> {
        let latest = self.latest.iter().flat_map(|report| {
            let situation = report.situation();
            [("missed", &report.missed, situation), ("surplus", &report.surplus, situation)]
        });
        let deep = self.deep.iter().flat_map(|report| {
            let situation = report.situation();
            [("mismatched", &report.mismatched, situation), ("status", &report.status, situation)]
        });
        latest.chain(deep)
    }
}

impl Since {
    /// Takes in what keys alone tell; gives how many of these differences known before are gone.
    fn keys(&mut self, report: &Report, now_ms: u64) -> u64 {
        renew(&self.hasher, &mut self.by_hash, [&report.missed, &report.surplus], now_ms)
    }

    /// The same for what only values tell.
    fn values(&mut self, report: &Report, now_ms: u64) -> u64 {
        renew(&self.hasher, &mut self.deep_by_hash, [&report.mismatched, &report.status], now_ms)
    }

    fn hash(&self, finding: &Finding) -> u64 {
        hash(&self.hasher, finding)
    }
}

fn renew(hasher: &RandomState, known: &mut HashMap<u64, u64>, kinds: [&Kept; 2], now_ms: u64) -> u64 {
    let before = std::mem::take(known);
    for finding in kinds.iter().flat_map(|kept| &kept.first) {
        let hash = hash(hasher, finding);
        known.insert(hash, before.get(&hash).copied().unwrap_or(now_ms));
    }
    before.keys().filter(|hash| !known.contains_key(hash)).count() as u64
}

fn hash(hasher: &RandomState, finding: &Finding) -> u64 {
    hasher.hash_one((finding.difference.name(), &finding.key))
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;
    use std::time::Duration;

    use etcd_sync_core::compare::check::{Basis, Checked, ComparedAt, Comparison, Difference, SurplusReason, Suspect};
    use etcd_sync_core::compare::drift::Drift;
    use etcd_sync_core::scope::{Scope, ScopeConfig};

    use super::*;

    fn report(deep: bool, found: &[(&'static str, Difference)]) -> Arc<Report> {
        let scope = Scope::new(&ScopeConfig::default()).unwrap();
        let mut comparison = Comparison::new(deep);
        for (key, difference) in found {
            comparison.confirm(&Suspect { key: (*key).into(), difference: *difference }, &scope, Checked::default());
        }
        let at = ComparedAt {
            basis: Basis::Checkpoint,
            primary_revision: 1,
            standby_revision: 1,
            primary_head: 1,
            synchronizer: true,
            paused: None,
            moments: 1,
            took_ms: 1,
        };
        Arc::new(comparison.report(at))
    }

    static CLOCK: LazyLock<Instant> = LazyLock::new(Instant::now);

    fn add(history: &mut History, now_ms: u64, deep: bool, found: &[(&'static str, Difference)]) -> CheckResult {
        history.add(ended(now_ms, deep, Ok(report(deep, found)))).clone()
    }

    fn ended(now_ms: u64, deep: bool, report: Result<Arc<Report>, String>) -> Ended {
        Ended { began: *CLOCK + Duration::from_millis(now_ms), started_ms: now_ms, took_ms: 1, deep, report }
    }

    const SURPLUS: Difference = Difference::Surplus(SurplusReason::Local);
    const CHANGED: Difference = Difference::Mismatched(Drift::Content);

    fn since(history: &History, kind: &str, key: &str) -> Option<u64> {
        let known = history.known();
        let found = known
            .lists()
            .find(|(name, ..)| *name == kind)
            .and_then(|(_, kept, _)| kept.first.iter().find(|one| &*one.key == key));
        history.since_ms(found?)
    }

    #[test]
    fn a_difference_keeps_the_time_it_was_first_seen_and_one_that_comes_back_does_not() {
        let mut history = History::default();
        add(&mut history, 10, false, &[("/a", Difference::Missed)]);
        let second = add(&mut history, 20, false, &[("/a", Difference::Missed), ("/b", SURPLUS)]);
        assert_eq!((second.missed, second.surplus, second.healed), (1, 1, 0));
        assert_eq!((since(&history, "missed", "/a"), since(&history, "surplus", "/b")), (Some(10), Some(20)));
        assert_eq!(history.oldest_ms(), Some(10));
        assert_eq!(add(&mut history, 30, false, &[("/b", SURPLUS)]).healed, 1);
        add(&mut history, 40, false, &[("/a", Difference::Missed)]);
        assert_eq!(since(&history, "missed", "/a"), Some(40));
    }

    #[test]
    fn what_only_values_tell_stays_known_between_deep_comparisons() {
        let mut history = History::default();
        add(&mut history, 10, true, &[("/v", CHANGED), ("/s", Difference::Mismatched(Drift::Status))]);
        assert_eq!(add(&mut history, 20, false, &[]).healed, 0);
        assert_eq!(since(&history, "mismatched", "/v"), Some(10));
        assert_eq!(history.oldest_ms(), Some(10));
        assert_eq!(add(&mut history, 30, true, &[]).healed, 2);
        assert_eq!(history.oldest_ms(), None);
    }

    #[test]
    fn a_slow_comparison_does_not_bring_back_what_a_later_one_saw_healed() {
        let mut history = History::default();
        add(&mut history, 10, false, &[("/a", Difference::Missed)]);
        add(&mut history, 30, false, &[]);
        add(&mut history, 20, true, &[("/a", Difference::Missed), ("/v", CHANGED)]);
        assert_eq!((since(&history, "missed", "/a"), since(&history, "mismatched", "/v")), (None, Some(20)));
        assert_eq!(history.latest().map(|(id, _)| *id), Some(2));
    }

    #[test]
    fn no_verdict_changes_nothing_that_is_known() {
        let mut history = History::default();
        add(&mut history, 10, false, &[("/a", Difference::Missed)]);
        let away = ended(20, false, Err("the primary is away".into()));
        assert_eq!(history.add(away).verdict, Verdict::Unknown);
        assert_eq!((history.last_success_ms(), since(&history, "missed", "/a")), (Some(11), Some(10)));
        let last = |deep| history.last(deep).map(|(id, ended_ms, _)| (id, ended_ms));
        assert_eq!((last(false), last(true)), (Some((1, 11)), None));
        assert_eq!(history.count(Verdict::Unknown, false), 1);
    }

    #[test]
    fn the_results_are_bounded() {
        let mut history = History::default();
        for now in 0..RESULTS_MAX as u64 + 5 {
            add(&mut history, now, false, &[]);
        }
        assert_eq!(history.results().count(), RESULTS_MAX);
        assert_eq!(history.results().next().map(|result| result.id), Some(6));
    }
}
