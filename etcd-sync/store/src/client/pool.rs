//! The members of one cluster as we see them, and which of them to use.
//!
//! One member is in use; it stays so as long as it works. A member that fails is not used for a while (back-off), longer each time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::client::connection::{Connection, Dial};
use crate::client::error::Error;

/// Back-off of a member after its first failure in a row; it doubles up to the second.
const FIRST_BACK_OFF: Duration = Duration::from_secs(1);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(10);

pub(crate) struct Pool {
    members: Vec<Member>,
    current: AtomicUsize,
}

pub(crate) struct Member {
    pub dial: Dial,
    connection: Mutex<Option<Arc<Connection>>>,
    health: Mutex<Health>,
}

#[derive(Default)]
struct Health {
    failures: u32,
    backs_off_until: Option<Instant>,
    /// It belongs to another cluster and is never used again.
    foreign: Option<Error>,
}

impl Pool {
    /// `dials` must not be empty.
    pub(crate) fn new(dials: Vec<Dial>) -> Self {
        let member = |dial| Member { dial, connection: Mutex::default(), health: Mutex::default() };
        Pool { members: dials.into_iter().map(member).collect(), current: AtomicUsize::new(0) }
    }

    pub(crate) fn members(&self) -> &[Member] {
        &self.members
    }

    /// The member to use now, by its index, without those in `tried` and those of another cluster: the current one
    /// or the next that does not back off; when all do, the one whose back-off ends first.
    pub(crate) fn pick(&self, tried: &[usize]) -> Option<usize> {
        let now = Instant::now();
        let current = self.current.load(Ordering::Relaxed);
        let count = self.members.len();
        (0..count)
            .map(|step| (current + step) % count)
            .filter(|index| !tried.contains(index) && !self.members[*index].is_foreign())
            // The first of equal ones wins: ring order from the current member on.
            .min_by_key(|&index| self.members[index].backs_off_until().filter(|&until| until > now))
    }

    /// The member answered.
    pub(crate) fn worked(&self, index: usize) {
        self.current.store(index, Ordering::Relaxed);
        let mut health = lock(&self.members[index].health);
        health.failures = 0;
        health.backs_off_until = None;
    }

    /// The member failed in a way that is its own.
    pub(crate) fn failed(&self, index: usize, error: &Error) {
        let member = &self.members[index];
        let now = Instant::now();
        let mut health = lock(&member.health);
        if let Error::ClusterChanged { .. } = error {
            if health.foreign.is_none() {
                tracing::error!(%error, "endpoint belongs to another cluster; it is not used again");
            }
            health.foreign = Some(error.clone());
        } else if health.backs_off_until.is_none_or(|until| until <= now) {
            // Requests that were under way together fail together: that counts once.
            let back_off = FIRST_BACK_OFF.saturating_mul(1 << health.failures.min(4)).min(LONGEST_BACK_OFF);
            health.failures += 1;
            health.backs_off_until = Some(now + back_off);
            tracing::warn!(%error, back_off_s = back_off.as_secs(), "endpoint failed; backing off");
        }
        drop(health);
        // What hangs or broke once is not trusted with the next request. A member without a leader still answers.
        if !matches!(error, Error::LostQuorum { .. }) {
            *lock(&member.connection) = None;
        }
    }

    /// Why no member is left, when all belong to another cluster.
    pub(crate) fn foreign(&self) -> Option<Error> {
        self.members.iter().find_map(|member| lock(&member.health).foreign.clone())
    }
}

impl Member {
    pub(crate) fn url(&self) -> &str {
        &self.dial.address.url
    }

    /// The connection shared by all requests; a new one when there is none or it is no longer fresh.
    pub(crate) async fn connection(&self) -> Arc<Connection> {
        let known = lock(&self.connection).clone();
        if let Some(connection) = known {
            if connection.is_fresh().await {
                return connection;
            }
            self.discard(&connection);
        }
        Arc::clone(lock(&self.connection).get_or_insert_with(|| Connection::new(&self.dial)))
    }

    /// Forgets a connection, unless another one has taken its place already.
    pub(crate) fn discard(&self, connection: &Arc<Connection>) {
        let mut slot = lock(&self.connection);
        if slot.as_ref().is_some_and(|known| Arc::ptr_eq(known, connection)) {
            *slot = None;
        }
    }

    fn is_foreign(&self) -> bool {
        lock(&self.health).foreign.is_some()
    }

    fn backs_off_until(&self) -> Option<Instant> {
        lock(&self.health).backs_off_until
    }
}

/// A panic while one of these was locked leaves nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::endpoint::parse_all;
    use crate::client::options::{Options, Side};

    fn pool(count: usize) -> Pool {
        let endpoints = (0..count).map(|index| format!("member-{index}")).collect();
        let addresses = parse_all(&Options::new(Side::Primary, endpoints)).unwrap();
        let dial =
            |address| Dial { address: Arc::new(address), tls: None, known: None, timeout: Duration::from_secs(1) };
        Pool::new(addresses.into_iter().map(dial).collect())
    }

    fn broken() -> Error {
        Error::Connect { side: Side::Primary, endpoint: "http://member:2379".into(), problem: "refused".into() }
    }

    fn foreign() -> Error {
        Error::ClusterChanged { side: Side::Primary, endpoint: "http://member:2379".into(), expected: 1, got: 2 }
    }

    #[test]
    fn goes_on_with_the_member_that_works() {
        let pool = pool(3);
        assert_eq!(pool.pick(&[]), Some(0));
        pool.failed(0, &broken());
        assert_eq!(pool.pick(&[0]), Some(1));
        pool.worked(1);
        pool.worked(1);
        assert_eq!(pool.pick(&[]), Some(1));
        assert_eq!(pool.pick(&[1]), Some(2), "the one that backs off comes last");
    }

    #[test]
    fn uses_a_member_that_backs_off_when_there_is_no_other() {
        let pool = pool(2);
        pool.failed(1, &broken());
        pool.failed(0, &broken());
        assert_eq!(pool.pick(&[]), Some(1), "its back-off ends first");
        assert_eq!(pool.pick(&[1]), Some(0));
        assert_eq!(pool.pick(&[0, 1]), None);
    }

    #[test]
    fn failures_at_the_same_time_count_once() {
        let pool = pool(1);
        for _ in 0..10 {
            pool.failed(0, &broken());
        }
        assert_eq!(lock(&pool.members[0].health).failures, 1);
        pool.worked(0);
        assert_eq!(lock(&pool.members[0].health).failures, 0);
    }

    #[test]
    fn a_member_of_another_cluster_is_never_used_again() {
        let pool = pool(2);
        pool.failed(0, &foreign());
        pool.worked(0);
        assert_eq!(pool.pick(&[]), Some(1));
        assert_eq!(pool.pick(&[1]), None);
        pool.failed(1, &foreign());
        assert_eq!(pool.pick(&[]), None);
        assert!(matches!(pool.foreign(), Some(Error::ClusterChanged { .. })));
    }
}
