//! The keys changed last and the keys created last, thinned out with their age: whatever happens while nobody follows the
//! primary, some of them stay as they are.

use super::record::{Changed, Created};
use super::witness::{content_hash, witness_key};
use crate::etcd::kv::{KeyValue, Revision};

/// Entries of one list at most.
const ENTRIES_MAX: usize = 16;

/// A live update becomes an entry at most so often.
const PACE_MS: u64 = 1_000;

/// Both lists of one history, exact as of the newest change they were given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recent {
    changed: Vec<Timed<Changed>>,
    created: Vec<Timed<Created>>,
    /// The newest change given.
    newest: Revision,
    /// Counted up when an entry comes or goes.
    version: u64,
}

/// An entry and when it came, in milliseconds of the session's clock. Newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Timed<T> {
    entry: T,
    at_ms: u64,
}

trait Entry {
    fn key(&self) -> &str;
    fn revision(&self) -> Revision;
}

impl Entry for Changed {
    fn key(&self) -> &str {
        &self.key
    }

    fn revision(&self) -> Revision {
        self.revision
    }
}

impl Entry for Created {
    fn key(&self) -> &str {
        &self.key
    }

    fn revision(&self) -> Revision {
        self.revision
    }
}

impl Recent {
    /// Goes on from lists on record.
    pub fn resume(changed: Vec<Changed>, created: Vec<Created>, now_ms: u64) -> Self {
        let newest = changed.iter().map(|entry| entry.revision).max().unwrap_or(0);
        Recent { changed: timed(changed, now_ms), created: timed(created, now_ms), newest, version: 0 }
    }

    /// The lists, as far as their entries are not newer than `revision`.
    pub fn lists(&self, revision: Revision) -> (Vec<Changed>, Vec<Created>) {
        (up_to(&self.changed, revision), up_to(&self.created, revision))
    }

    /// Differs from an earlier one when an entry has come or gone since.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// A live put in scope. `standby_revision`: everything committed on the standby by then is older than this change.
    pub fn update_put(&mut self, kv: &KeyValue, standby_revision: Revision, now_ms: u64) {
        self.newest = self.newest.max(kv.mod_revision);
        let is_new = kv.create_revision == kv.mod_revision;
        self.remove(&kv.key, is_new);
        let due = |last: Option<u64>| last.is_none_or(|at| now_ms >= at + PACE_MS);
        if due(self.changed.first().map(|entry| entry.at_ms))
            && let Some(entry) = changed(kv, standby_revision)
        {
            add(&mut self.changed, entry, now_ms);
            self.version += 1;
        }
        if is_new
            && due(self.created.first().map(|entry| entry.at_ms))
            && let Some(entry) = created(kv, standby_revision)
        {
            add(&mut self.created, entry, now_ms);
            self.version += 1;
        }
    }

    /// A live deletion in scope.
    pub fn update_delete(&mut self, key: &[u8], revision: Revision) {
        self.newest = self.newest.max(revision);
        self.remove(key, true);
    }

    /// Keys of a page of a copy, which come in no order of time.
    pub fn offer_page<'a>(&mut self, kvs: impl Iterator<Item = &'a KeyValue> + Clone) {
        self.newest = kvs.clone().map(|kv| kv.mod_revision).chain([self.newest]).max().unwrap_or(0);
        // Of one page only the newest are hashed: a bulk load makes every key newer than the one before.
        for kv in newest_of(kvs.clone(), |kv| kv.mod_revision) {
            if wants(&self.changed, kv.mod_revision)
                && let Some(entry) = changed(kv, 0)
            {
                insert(&mut self.changed, entry);
            }
        }
        for kv in newest_of(kvs, |kv| kv.create_revision) {
            if wants(&self.created, kv.create_revision)
                && let Some(entry) = created(kv, 0)
            {
                insert(&mut self.created, entry);
            }
        }
        self.version += 1;
    }

    /// A copy is complete: everything on the standby up to `standby_revision` is older than the newest change, if that is an
    /// entry.
    pub fn complete(&mut self, standby_revision: Revision, now_ms: u64) {
        for entry in &mut self.changed {
            entry.at_ms = now_ms;
            if entry.entry.revision == self.newest {
                entry.entry.standby_revision = standby_revision;
            }
        }
        self.created.iter_mut().for_each(|entry| entry.at_ms = now_ms);
    }

    fn remove(&mut self, key: &[u8], is_new: bool) {
        let before = self.changed.len() + self.created.len();
        self.changed.retain(|entry| entry.entry.key.as_bytes() != key);
        if is_new {
            self.created.retain(|entry| entry.entry.key.as_bytes() != key);
        }
        self.version += u64::from(self.changed.len() + self.created.len() < before);
    }
}

fn changed(kv: &KeyValue, standby_revision: Revision) -> Option<Changed> {
    let key = witness_key(&kv.key)?;
    Some(Changed { key, revision: kv.mod_revision, hash: content_hash(&kv.value), standby_revision })
}

fn created(kv: &KeyValue, standby_revision: Revision) -> Option<Created> {
    Some(Created { key: witness_key(&kv.key)?, revision: kv.create_revision, standby_revision })
}

fn timed<T>(entries: Vec<T>, at_ms: u64) -> Vec<Timed<T>> {
    entries.into_iter().map(|entry| Timed { entry, at_ms }).collect()
}

fn up_to<T: Entry + Clone>(list: &[Timed<T>], revision: Revision) -> Vec<T> {
    list.iter().map(|timed| &timed.entry).filter(|entry| entry.revision() <= revision).cloned().collect()
}

/// Puts an entry in its place, mostly in front. When the list is full, the entry goes whose neighbours are closest to each other
/// for their age, so that what stays is spread over minutes, hours and days.
fn add<T: Entry>(list: &mut Vec<Timed<T>>, entry: T, now_ms: u64) {
    let index = list.partition_point(|timed| timed.entry.revision() > entry.revision());
    list.insert(index, Timed { entry, at_ms: now_ms });
    if list.len() <= ENTRIES_MAX {
        return;
    }
    let crowding = |index: usize| {
        let gap = list[index - 1].at_ms.saturating_sub(list[index + 1].at_ms);
        let age = now_ms.saturating_sub(list[index].at_ms) + PACE_MS;
        gap.saturating_mul(1_000) / age
    };
    if let Some(index) = (1..list.len() - 1).min_by_key(|index| crowding(*index)) {
        list.remove(index);
    }
}

/// Whether an entry of that revision would stay in a list ordered by revision.
fn wants<T: Entry>(list: &[Timed<T>], revision: Revision) -> bool {
    list.len() < ENTRIES_MAX || list.last().is_some_and(|last| last.entry.revision() < revision)
}

fn insert<T: Entry>(list: &mut Vec<Timed<T>>, entry: T) {
    list.retain(|timed| timed.entry.key() != entry.key());
    let index = list.partition_point(|timed| timed.entry.revision() > entry.revision());
    list.insert(index, Timed { entry, at_ms: 0 });
    list.truncate(ENTRIES_MAX);
}

fn newest_of<'a>(
    kvs: impl Iterator<Item = &'a KeyValue>,
    revision: impl Fn(&KeyValue) -> Revision,
) -> Vec<&'a KeyValue> {
    let mut kvs: Vec<&KeyValue> = kvs.collect();
    if kvs.len() > ENTRIES_MAX {
        kvs.select_nth_unstable_by_key(ENTRIES_MAX, |kv| -revision(kv));
        kvs.truncate(ENTRIES_MAX);
    }
    kvs
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn kv(key: &str, create_revision: Revision, mod_revision: Revision) -> KeyValue {
        let (key, value) = (Bytes::copy_from_slice(key.as_bytes()), Bytes::from(format!("{key}{mod_revision}")));
        KeyValue { key, value, create_revision, mod_revision, lease: 0 }
    }

    fn keys<T: Entry>(list: &[T]) -> Vec<&str> {
        list.iter().map(Entry::key).collect()
    }

    #[test]
    fn a_key_stands_once_and_not_after_it_was_changed_or_deleted() {
        let mut recent = Recent::default();
        recent.update_put(&kv("a", 1, 1), 0, 0);
        recent.update_put(&kv("b", 2, 2), 0, 1_000);
        recent.update_put(&kv("a", 1, 3), 0, 1_500);
        // It was changed, and the next entry is not due: it is on the list of creations only.
        let (changed, created) = recent.lists(9);
        assert_eq!((keys(&changed), keys(&created)), (vec!["b"], vec!["b", "a"]));
        recent.update_delete(b"b", 4);
        let (changed, created) = recent.lists(9);
        assert_eq!((keys(&changed), keys(&created)), (vec![], vec!["a"]));
    }

    #[test]
    fn what_stays_is_spread_over_time() {
        let mut recent = Recent::default();
        let day_s = 24 * 3_600;
        for second in 0..day_s {
            recent.update_put(&kv(&format!("k{second}"), second, second), second, second as u64 * 1_000);
        }
        let (changed, _) = recent.lists(Revision::MAX);
        assert_eq!(changed.len(), ENTRIES_MAX);
        let ages: Vec<i64> = changed.iter().map(|entry| day_s - entry.revision).collect();
        assert!(ages.iter().filter(|age| **age <= 10).count() >= 3, "{ages:?}");
        assert!(ages.iter().filter(|age| (60..3_600).contains(*age)).count() >= 3, "{ages:?}");
        assert!(ages.iter().any(|age| *age > 3_600), "{ages:?}");
    }

    #[test]
    fn of_a_copy_the_newest_stay() {
        let mut recent = Recent::default();
        let page: Vec<KeyValue> = (1..=100).map(|n| kv(&format!("k{n}"), 101 - n, n)).collect();
        recent.offer_page(page.iter());
        recent.complete(77, 0);
        let (changed, created) = recent.lists(99);
        assert_eq!(keys(&changed)[..2], ["k99", "k98"]);
        assert_eq!(keys(&created)[..2], ["k2", "k3"], "created at 99 and 98");
        let newest = &recent.lists(100).0[0];
        assert_eq!((newest.revision, newest.standby_revision), (100, 77));
        assert_eq!(changed[0].standby_revision, 0, "what is older than it, nobody knows");
    }
}
