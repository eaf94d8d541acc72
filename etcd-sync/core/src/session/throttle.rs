//! How fast a copy may go: the limits that the operator sets, and giving way to a standby that is slow.

/// What may be done at once after a pause, in milliseconds of the limit: more than two ticks apart.
const BURST_MS: u64 = 500;

/// A limit in units a second. What was done is paid for afterwards, so one large step goes through and the next one waits.
#[derive(Debug)]
pub(super) struct Throttle {
    /// 0: no limit.
    per_second: u64,
    /// Thousandths of a unit that may be done now; negative when more was done than the time allows.
    balance: i64,
    at_ms: u64,
}

impl Throttle {
    pub(super) fn new(per_second: u64, now_ms: u64) -> Self {
        Throttle { per_second, balance: 1, at_ms: now_ms }
    }

    /// Whether something may be done now.
    pub(super) fn allows(&mut self, now_ms: u64) -> bool {
        if self.per_second == 0 {
            return true;
        }
        let passed = self.per_second.saturating_mul(now_ms.saturating_sub(self.at_ms));
        let most = self.per_second.saturating_mul(BURST_MS).max(1_000);
        self.balance = self.balance.saturating_add_unsigned(passed).min(i64::try_from(most).unwrap_or(i64::MAX));
        self.at_ms = self.at_ms.max(now_ms);
        self.balance > 0
    }

    /// So much was done.
    pub(super) fn spend(&mut self, units: u64) {
        if self.per_second > 0 {
            self.balance = self.balance.saturating_sub_unsigned(units.saturating_mul(1_000));
        }
    }

    /// `units`, or as many as make a quarter of a second.
    pub(super) fn step(&self, units: usize) -> usize {
        let quarter = usize::try_from(self.per_second / 4).unwrap_or(usize::MAX);
        if self.per_second == 0 { units } else { units.min(quarter.max(1)) }
    }
}

/// A commit that takes longer is slow, unless even the fastest ones take a good part of it.
const SLOW_MS: u64 = 500;

/// And so many times as long as the fastest one.
const SLOW_TIMES: u64 = 4;

/// How many transactions of a copy may be under way: half as many after a slow or a refused one, one more after each round of
/// quick ones.
#[derive(Debug)]
pub(super) struct Window {
    now: usize,
    most: usize,
    quick: usize,
    fastest_ms: u64,
    /// Those sent before it was halved say nothing about the smaller number.
    halved_ms: u64,
}

impl Window {
    pub(super) fn new(most: usize) -> Self {
        Window { now: most.max(1), most: most.max(1), quick: 0, fastest_ms: u64::MAX, halved_ms: 0 }
    }

    pub(super) fn now(&self) -> usize {
        self.now
    }

    /// A transaction was answered.
    pub(super) fn on_answer(&mut self, sent_ms: u64, now_ms: u64) {
        let took_ms = now_ms.saturating_sub(sent_ms);
        self.fastest_ms = self.fastest_ms.min(took_ms.max(1));
        if took_ms > SLOW_MS.max(SLOW_TIMES * self.fastest_ms) {
            return self.on_failure(sent_ms, now_ms);
        }
        self.quick += 1;
        if self.quick >= self.now && self.now < self.most {
            (self.now, self.quick) = (self.now + 1, 0);
        }
    }

    /// The standby did not take a transaction.
    pub(super) fn on_failure(&mut self, sent_ms: u64, now_ms: u64) {
        self.quick = 0;
        if sent_ms >= self.halved_ms {
            (self.now, self.halved_ms) = ((self.now / 2).max(1), now_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How much is done in `seconds` by someone who looks every 100 ms and does `step` at a time.
    fn done(per_second: u64, step: u64, seconds: u64) -> u64 {
        let (mut throttle, mut done) = (Throttle::new(per_second, 5_000), 0);
        for tick in 0..seconds * 10 {
            while throttle.allows(5_000 + tick * 100) && done < 1_000_000 {
                throttle.spend(step);
                done += step;
            }
        }
        done
    }

    #[test]
    fn no_more_is_done_than_the_limit_allows() {
        for (per_second, step) in [(1_000, 127), (10, 1), (10, 127), (50_000, 7_000)] {
            let (most, done) = (per_second * 20, done(per_second, step, 20));
            assert!(done <= most + step, "{done} of {most} in steps of {step}");
            assert!(done + step + per_second / 2 >= most, "only {done} of {most} in steps of {step}");
        }
        assert_eq!(done(0, 1_000, 1), 1_000_000, "0 is no limit");
    }

    /// After a pause not everything that was not done meanwhile is done at once.
    #[test]
    fn a_pause_is_not_made_up_for() {
        let mut throttle = Throttle::new(1_000, 0);
        assert!(throttle.allows(3_600_000));
        throttle.spend(1_000);
        assert!(!throttle.allows(3_600_100));
    }

    #[test]
    fn a_slow_standby_gets_fewer_at_once_and_a_quick_one_more() {
        let mut window = Window::new(8);
        for _ in 0..20 {
            window.on_answer(1_000, 1_040);
        }
        assert_eq!(window.now(), 8);
        // All that were under way are slow: that counts once.
        for _ in 0..8 {
            window.on_answer(2_000, 4_000);
        }
        assert_eq!(window.now(), 4);
        window.on_failure(4_100, 4_200);
        window.on_failure(4_300, 4_400);
        window.on_failure(4_500, 4_600);
        assert_eq!(window.now(), 1);
        for round in 0..40 {
            window.on_answer(5_000 + round * 100, 5_040 + round * 100);
        }
        assert_eq!(window.now(), 8);
    }

    /// A long way to the standby is no reason to give way.
    #[test]
    fn a_long_round_trip_is_not_slow() {
        let mut window = Window::new(8);
        for round in 0..20 {
            window.on_answer(round * 1_000, round * 1_000 + 600);
        }
        assert_eq!(window.now(), 8);
    }
}
