//! The members of one cluster as we see them, and which of them to use.
//!
//! One member is in use; it stays so as long as it works. A member that fails is not used for a while (back-off), longer each time.
//! Beside the members whose endpoints were given, which always stay, there are those that the cluster's own member list names: they are
//! used when none of those given works, so that a client outlives the replacement of every member it was given.

use std::mem::discriminant;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::client::connection::{Connection, Dial};
use crate::client::error::Error;

/// Back-off of a member after its first failure in a row; it doubles up to the second.
const FIRST_BACK_OFF: Duration = Duration::from_secs(1);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(10);

/// The same for a listed member that has never worked: what a cluster advertises need not be reachable from here.
const LONGEST_BACK_OFF_LISTED: Duration = Duration::from_secs(60);

pub(crate) struct Pool {
    given: Vec<Arc<Member>>,
    /// Of the member list, without those given.
    listed: Mutex<Vec<Arc<Member>>>,
    current: Mutex<Arc<Member>>,
}

pub(crate) struct Member {
    pub dial: Dial,
    listed: bool,
    connection: Mutex<Option<Arc<Connection>>>,
    health: Mutex<Health>,
}

#[derive(Default)]
struct Health {
    failures: u32,
    backs_off_until: Option<Instant>,
    worked: bool,
    /// The last failure since it worked: the same kind again is no news.
    failure: Option<Error>,
    /// It belongs to another cluster and is never used again.
    foreign: Option<Error>,
}

impl Pool {
    /// `given` must not be empty.
    pub(crate) fn new(given: Vec<Dial>) -> Self {
        let given: Vec<Arc<Member>> = given.into_iter().map(|dial| Member::new(dial, false)).collect();
        let current = Mutex::new(Arc::clone(&given[0]));
        Pool { given, listed: Mutex::default(), current }
    }

    /// The members whose endpoints were given.
    pub(crate) fn given(&self) -> &[Arc<Member>] {
        &self.given
    }

    /// What the member list names now, in place of what it named before. Those given are no news.
    pub(crate) fn set_listed(&self, dials: Vec<Dial>) {
        let mut listed = lock(&self.listed);
        let members = dials.into_iter().filter(|dial| self.given.iter().all(|given| given.url() != dial.address.url));
        let members = members.map(|dial| {
            let known = listed.iter().find(|known| known.url() == dial.address.url);
            known.map(Arc::clone).unwrap_or_else(|| {
                tracing::debug!(endpoint = %dial.address.url, "the member list names another endpoint");
                Member::new(dial, true)
            })
        });
        *listed = members.collect();
    }

    /// Takes over what another pool with the same endpoints knows of the members, apart from the cluster they belong to. No connection:
    /// it was made when another cluster may have been there.
    pub(crate) fn take_over(&self, other: &Pool) {
        let known = |member: &Member| {
            let Health { failures, backs_off_until, worked, ref failure, foreign: _ } = *lock(&member.health);
            Health { failures, backs_off_until, worked, failure: failure.clone(), foreign: None }
        };
        for (member, other) in self.given.iter().zip(&other.given) {
            *lock(&member.health) = known(other);
        }
        self.set_listed(lock(&other.listed).iter().map(|member| member.dial.clone()).collect());
        for (member, other) in lock(&self.listed).iter().zip(&*lock(&other.listed)) {
            *lock(&member.health) = known(other);
        }
        let current = Arc::clone(&lock(&other.current));
        let listed = lock(&self.listed).clone();
        if let Some(same) = self.given.iter().chain(&listed).find(|member| member.url() == current.url()) {
            *lock(&self.current) = Arc::clone(same);
        }
    }

    /// The endpoints of the member list that were not given.
    pub(crate) fn listed(&self) -> Vec<String> {
        lock(&self.listed).iter().map(|member| member.url().to_owned()).collect()
    }

    /// The member to use now, without those in `tried` and those of another cluster: the current one or the next of
    /// those given that does not back off, then one of the member list; when all back off, of those given the one whose back-off ends first.
    pub(crate) fn pick(&self, tried: &[Arc<Member>]) -> Option<Arc<Member>> {
        let now = Instant::now();
        let (current, listed) = (Arc::clone(&lock(&self.current)), lock(&self.listed).clone());
        let start = self.given.iter().position(|member| Arc::ptr_eq(member, &current)).unwrap_or(0);
        let (before, after) = self.given.split_at(start);
        let in_use = listed.iter().filter(|member| Arc::ptr_eq(member, &current));
        let backs_off = |member: &Member| member.backs_off_until().filter(|&until| until > now);
        in_use
            .chain(after)
            .chain(before)
            .chain(&listed)
            .filter(|member| !tried.iter().any(|tried| Arc::ptr_eq(tried, member)) && !member.is_foreign())
            .filter(|member| !member.listed || backs_off(member).is_none())
            // The first of equal ones wins: ring order from the current member on.
            .min_by_key(|member| backs_off(member))
            .map(Arc::clone)
    }

    /// The member answered.
    pub(crate) fn worked(&self, member: &Arc<Member>) {
        let before = std::mem::replace(&mut *lock(&self.current), Arc::clone(member));
        let mut health = lock(&member.health);
        (health.failures, health.backs_off_until, health.failure, health.worked) = (0, None, None, true);
        drop(health);
        match (before.listed, member.listed) {
            (false, true) => tracing::warn!(
                endpoint = member.url(),
                "no endpoint that was given works; going on with one of the cluster's member list. Correct the endpoints \
                 before the next start, which knows only those given"
            ),
            (true, false) => tracing::info!(endpoint = member.url(), "an endpoint that was given works again"),
            _ => {}
        }
    }

    /// The member failed in a way that is its own.
    pub(crate) fn failed(&self, member: &Member, error: &Error) {
        let now = Instant::now();
        let mut health = lock(&member.health);
        if let Error::ClusterChanged { .. } = error {
            match (health.foreign.is_some(), member.listed) {
                (false, false) => tracing::error!(%error, "endpoint belongs to another cluster; it is not used again"),
                (false, true) => tracing::warn!(%error, "listed endpoint belongs to another cluster; it is not used"),
                (true, _) => {}
            }
            health.foreign = Some(error.clone());
        } else if health.backs_off_until.is_none_or(|until| until <= now) {
            // Requests that were under way together fail together: that counts once.
            let longest = if member.listed && !health.worked { LONGEST_BACK_OFF_LISTED } else { LONGEST_BACK_OFF };
            let back_off = FIRST_BACK_OFF.saturating_mul(1 << health.failures.min(6)).min(longest);
            health.failures += 1;
            health.backs_off_until = Some(now + back_off);
            let known = health.failure.replace(error.clone());
            if known.is_some_and(|known| discriminant(&known) == discriminant(error)) {
                tracing::debug!(%error, back_off_s = back_off.as_secs(), "endpoint failed again; backing off");
            } else {
                tracing::warn!(%error, back_off_s = back_off.as_secs(), "endpoint failed; backing off");
            }
        }
        drop(health);
        // What hangs or broke once is not trusted with the next request. A member without a leader still answers.
        if !matches!(error, Error::LostQuorum { .. }) {
            *lock(&member.connection) = None;
        }
    }

    /// Why no member is left, when all belong to another cluster.
    pub(crate) fn foreign(&self) -> Option<Error> {
        self.given.iter().find_map(|member| lock(&member.health).foreign.clone())
    }
}

impl Pool {
    /// Why no endpoint that was given is ever used again: all belong to another cluster.
    pub(crate) fn replaced(&self) -> Option<Error> {
        self.given.iter().all(|member| member.is_foreign()).then(|| self.foreign()).flatten()
    }
}

impl Member {
    pub(crate) fn new(dial: Dial, listed: bool) -> Arc<Self> {
        Arc::new(Member { dial, listed, connection: Mutex::default(), health: Mutex::default() })
    }

    pub(crate) fn url(&self) -> &str {
        &self.dial.address.url
    }

    /// Whether only the member list names it.
    pub(crate) fn is_listed(&self) -> bool {
        self.listed
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

    fn dials(names: &[&str]) -> Vec<Dial> {
        let endpoints = names.iter().map(|name| (*name).to_owned()).collect();
        let addresses = parse_all(&Options::new(Side::Primary, endpoints)).unwrap();
        let dial =
            |address| Dial { address: Arc::new(address), tls: None, known: None, timeout: Duration::from_secs(1) };
        addresses.into_iter().map(dial).collect()
    }

    fn pool(count: usize) -> Pool {
        Pool::new(dials(&["a", "b", "c"][..count]))
    }

    fn pick(pool: &Pool, tried: &[&Arc<Member>]) -> Option<String> {
        let tried: Vec<_> = tried.iter().map(|&member| Arc::clone(member)).collect();
        pool.pick(&tried).map(|member| member.dial.address.host.clone())
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
        let [a, b, _] = pool.given() else { panic!("three") };
        assert_eq!(pick(&pool, &[]).unwrap(), "a");
        pool.failed(a, &broken());
        assert_eq!(pick(&pool, &[a]).unwrap(), "b");
        pool.worked(b);
        pool.worked(b);
        assert_eq!(pick(&pool, &[]).unwrap(), "b");
        assert_eq!(pick(&pool, &[b]).unwrap(), "c", "the one that backs off comes last");
    }

    #[test]
    fn uses_a_member_that_backs_off_when_there_is_no_other() {
        let pool = pool(2);
        let [a, b] = pool.given() else { panic!("two") };
        pool.failed(b, &broken());
        pool.failed(a, &broken());
        assert_eq!(pick(&pool, &[]).unwrap(), "b", "its back-off ends first");
        assert_eq!(pick(&pool, &[b]).unwrap(), "a");
        assert_eq!(pick(&pool, &[a, b]), None);
    }

    #[test]
    fn failures_at_the_same_time_count_once() {
        let pool = pool(1);
        let a = &pool.given()[0];
        for _ in 0..10 {
            pool.failed(a, &broken());
        }
        assert_eq!(lock(&a.health).failures, 1);
        pool.worked(a);
        assert_eq!(lock(&a.health).failures, 0);
    }

    #[test]
    fn a_member_of_another_cluster_is_never_used_again() {
        let pool = pool(2);
        let [a, b] = pool.given() else { panic!("two") };
        pool.failed(a, &foreign());
        pool.worked(a);
        assert_eq!(pick(&pool, &[]).unwrap(), "b");
        assert_eq!(pick(&pool, &[b]), None);
        pool.failed(b, &foreign());
        assert_eq!(pick(&pool, &[]), None);
        assert!(matches!(pool.foreign(), Some(Error::ClusterChanged { .. })));
    }

    #[test]
    fn listed_members_are_used_when_those_given_fail() {
        let pool = pool(2);
        let [a, b] = pool.given() else { panic!("two") };
        pool.set_listed(dials(&["b", "x", "y"]));
        assert_eq!(pool.listed(), ["http://x:2379", "http://y:2379"]);
        assert_eq!(pick(&pool, &[a]).unwrap(), "b");
        pool.failed(a, &broken());
        pool.failed(b, &broken());
        let x = pool.pick(&[]).unwrap();
        assert_eq!(x.url(), "http://x:2379");
        pool.worked(&x);
        assert_eq!(pick(&pool, &[]).unwrap(), "x", "it works, so it stays in use");
        pool.worked(a);
        pool.worked(&x);
        // One that fails is left alone for a while, unlike those given.
        pool.failed(&x, &broken());
        assert_eq!(pick(&pool, &[]).unwrap(), "a");
        assert_eq!(pick(&pool, &[a]).unwrap(), "y");
        pool.failed(&pool.pick(&[Arc::clone(a)]).unwrap(), &broken());
        pool.failed(a, &broken());
        assert_eq!(pick(&pool, &[a]).unwrap(), "b");
        assert_eq!(pick(&pool, &[a, b]), None);
        // A pool that takes its place knows the same, but not which cluster it was.
        pool.failed(b, &foreign());
        let next = Pool::new(dials(&["a", "b"]));
        next.take_over(&pool);
        assert_eq!(next.listed(), pool.listed());
        let [next_a, _] = next.given() else { panic!("two") };
        assert_eq!(pick(&next, &[next_a]).unwrap(), "b");
        next.worked(&next.given()[1]);
        next.failed(&next.given()[1], &broken());
        assert_eq!(pick(&next, &[]).unwrap(), "a", "both back off, and it began earlier");
        // A member that left the cluster is forgotten; what is known of the others stays.
        pool.set_listed(dials(&["x"]));
        assert_eq!(pool.listed(), ["http://x:2379"]);
        assert_eq!(pick(&pool, &[a]), None, "it still backs off");
    }
}
