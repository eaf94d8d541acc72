//! What the brake asks the standby, and what the answers mean.

use bytes::Bytes;

use super::Brake;
use super::rules::not_applied_from;
use crate::etcd::kv::{KeyRange, KeyValue, Revision, prefix_end, successor};
use crate::etcd::request::{Page, ReadRange};
use crate::link::side::Side;
use crate::object;
use crate::session::brake::{About, Contents, Query, container_of_crd, directory_of};
use crate::session::shared::{ReadFor, Shared};
use crate::session::{Ended, ReadFailure};

/// Reads under way at once.
const QUERIES_MAX: usize = 8;

/// Keys read at once.
const PAGE_KEYS: i64 = 1_000;

/// A Namespace or a CRD that is to go.
#[derive(Debug)]
pub(super) struct Container {
    /// Its key.
    pub(super) key: Bytes,
    /// What its contents are known by: a namespace by its key, a CRD by the directory of its objects.
    pub(super) going: Bytes,
    revision: Revision,
    is_mark: bool,
    progress: Progress,
}

#[derive(Debug)]
enum Progress {
    New,
    /// It is not known yet whether it is marked on the standby too, or what resources there are.
    Asked,
    /// So many answers are due.
    Counting(usize, Contents),
}

impl Container {
    pub(super) fn new(key: &Bytes, going: Bytes, revision: Revision, is_mark: bool) -> Self {
        Container { key: Bytes::copy_from_slice(key), going, revision, is_mark, progress: Progress::New }
    }
}

impl Brake {
    /// Begins to count the contents of the first container that waits.
    pub(super) fn count_next_container(&mut self, shared: &Shared) {
        let Some(container) = self.containers.front_mut().filter(|one| matches!(one.progress, Progress::New)) else {
            return;
        };
        container.progress = Progress::Asked;
        if container.is_mark {
            let request = ReadRange::single(container.key.clone(), false, 0);
            self.queries.push_back(Query { about: About::Container, request });
        } else {
            self.ask_contents(shared);
        }
    }

    /// Asks for the contents of the first container; for the resources that there are before, if they are not known.
    fn ask_contents(&mut self, shared: &Shared) {
        let Some(container) = self.containers.front_mut() else { return };
        let ranges: Vec<KeyRange> = if container_of_crd(&shared.scope, &container.key).is_some() {
            vec![KeyRange::prefix(&container.going)]
        } else {
            if !self.counted.resources_known {
                // A namespace has a key below one.
                if let Some(prefix) = shared.scope.kubernetes_prefixes().next() {
                    self.ask_resources(KeyRange::prefix(prefix.as_bytes()), 1);
                }
                return;
            }
            let name = directory_of(&shared.scope, &container.key)
                .map_or(&b""[..], |directory| &container.key[directory.len()..]);
            let inside = |directory: &Bytes| [directory, name, b"/"].concat();
            // What belongs to one cluster, as pods do, is not counted, however much it is.
            let is_synchronized = |folder: &Vec<u8>| shared.scope.in_scope(&[folder, &b"any"[..]].concat());
            self.counted
                .resources
                .iter()
                .map(inside)
                .filter(is_synchronized)
                .map(|folder| KeyRange::prefix(&folder))
                .collect()
        };
        let contents = Contents { of: container.going.clone(), ..Contents::default() };
        container.progress = Progress::Counting(ranges.len(), contents);
        self.queries.extend(ranges.into_iter().map(|range| keys(About::Contents, range)));
    }

    fn ask_resources(&mut self, range: KeyRange, limit: i64) {
        let request = ReadRange { range, limit, keys_only: true, revision: 0 };
        self.queries.push_back(Query { about: About::Resources, request });
    }

    pub(super) fn ask_rest(&mut self, directory: Bytes) {
        self.searched.insert(directory.clone());
        let range = KeyRange::prefix(&directory);
        self.queries.push_back(keys(About::Rest(directory), range));
    }

    pub(super) fn ask_size(&mut self, shared: &Shared) {
        if self.size.answers_due > 0 {
            return;
        }
        self.size.keys = 0;
        for range in shared.scope.ranges() {
            self.size.answers_due += 1;
            let request = ReadRange { range: range.clone(), limit: 1, keys_only: true, revision: 0 };
            self.queries.push_back(Query { about: About::Size, request });
        }
    }

    pub(super) fn send_queries(&mut self, shared: &mut Shared) {
        while self.under_way < QUERIES_MAX
            && let Some(query) = self.queries.pop_front()
        {
            self.under_way += 1;
            shared.read(Side::Standby, query.request.clone(), ReadFor::Brake(query));
        }
    }

    /// An answer of the standby has come.
    pub(in crate::session) fn on_read(
        &mut self,
        shared: &mut Shared,
        query: Query,
        result: Result<Page, ReadFailure>,
    ) -> Result<(), Ended> {
        self.under_way -= 1;
        let Query { about, request } = query;
        match (result, about) {
            (Ok(page), About::Container) => self.on_container(shared, page.kvs.first()),
            (Ok(page), About::Resources) => self.on_resources(shared, &request.range, &page),
            (Ok(page), About::Contents) => self.on_contents(shared, request.range, &page)?,
            (Ok(page), About::Rest(directory)) => self.on_rest(shared, directory, request.range, &page)?,
            (Ok(page), About::Size) => self.on_size(shared, page.count),
            // One value that is too large to be read: it counts as not marked yet.
            (Err(_), About::Container) => self.on_container(shared, None),
            (Err(_), about) => {
                let request = ReadRange { limit: (request.limit / 4).max(1), ..request };
                self.queries.push_back(Query { about, request });
            }
        }
        self.judge(shared)
    }

    /// The container as the standby has it.
    fn on_container(&mut self, shared: &Shared, found: Option<&KeyValue>) {
        let plain = found.and_then(|kv| shared.config.keyring.decrypt(&kv.key, &kv.value).ok());
        let is_known = plain.and_then(|plain| object::header(&plain).ok()).is_some_and(|header| header.deleting);
        if is_known {
            // A change of one that is going already, perhaps since long ago.
            if let Some(container) = self.containers.pop_front() {
                self.counted.window.forget(&container.key, &shared.scope);
            }
        } else {
            self.ask_contents(shared);
        }
    }

    /// The first keys behind the resources that are known.
    fn on_resources(&mut self, shared: &Shared, range: &KeyRange, page: &Page) {
        page.kvs.iter().for_each(|kv| self.counted.learn(&shared.scope, &kv.key));
        if let Some(last) = page.kvs.last() {
            match directory_of(&shared.scope, &last.key) {
                Some(directory) => self.ask_resources(range.from(prefix_end(directory)), 1),
                // Others than API servers may keep many keys there.
                None => self.ask_resources(range.from(successor(&last.key)), PAGE_KEYS),
            }
            return;
        }
        let prefixes = shared.scope.kubernetes_prefixes().map(|prefix| KeyRange::prefix(prefix.as_bytes()));
        match prefixes.skip_while(|prefix| prefix.end != range.end).nth(1) {
            Some(range) => self.ask_resources(range, 1),
            None => {
                self.counted.resources_known = true;
                self.ask_contents(shared);
            }
        }
    }

    /// Some keys of the first container.
    fn on_contents(&mut self, shared: &Shared, range: KeyRange, page: &Page) -> Result<(), Ended> {
        // Of two that wait and overlap, the first one counts what lies in both.
        let waits = |container: &[u8]| self.containers.iter().any(|one| one.going == container);
        let stay: Vec<&Bytes> =
            page.kvs.iter().map(|kv| &kv.key).filter(|key| self.stays(shared, key, waits)).collect();
        let Some(Container { key, going, revision, progress: Progress::Counting(due, mut contents), is_mark }) =
            self.containers.pop_front()
        else {
            debug_assert!(false, "a container waits for its answers");
            return Ok(());
        };
        for key in stay {
            if !self.touch_accepted(shared, key, revision) {
                contents.add(&shared.scope, key);
            }
        }
        let due = match rest(range, page) {
            Some(range) => {
                self.queries.push_back(keys(About::Contents, range));
                due
            }
            None => due - 1,
        };
        if due > 0 {
            let progress = Progress::Counting(due, contents);
            self.containers.push_front(Container { key, going, revision, is_mark, progress });
            return Ok(());
        }
        let (is_crd, objects) = (key != going, contents.losses.count());
        self.counted.window.lose_contents(contents, revision, shared.now_ms);
        if is_crd && objects > 0 && shared.config.brake.crd {
            return Err(self.stop_for_crd(shared, &key, objects));
        }
        Ok(())
    }

    /// Some keys of a resource that may have lost everything.
    fn on_rest(&mut self, shared: &Shared, directory: Bytes, range: KeyRange, page: &Page) -> Result<(), Ended> {
        // Not the first, which in a deletion by key is the next one to go.
        if let Some(kv) = page.kvs.iter().rev().find(|kv| self.stays(shared, &kv.key, |_| false)) {
            self.searched.remove(&directory);
            self.survivors.insert(directory, Bytes::copy_from_slice(&kv.key));
            return Ok(());
        }
        match rest(range, page) {
            Some(range) => {
                self.queries.push_back(keys(About::Rest(directory), range));
                Ok(())
            }
            None => {
                self.searched.remove(&directory);
                self.judge_resource(shared, &directory)
            }
        }
    }

    fn on_size(&mut self, shared: &Shared, count: i64) {
        self.size.keys += u64::try_from(count).unwrap_or(0);
        self.size.answers_due -= 1;
        if self.size.answers_due == 0 {
            // As it was when the window began.
            self.size.keys += self.counted.window.gone(not_applied_from(shared));
            self.size.at_ms = Some(shared.now_ms);
        }
    }

    /// Whether a key that the standby has is mirrored, was there when the window began, and is not to go; what lies in a container
    /// of `except` is not to go by that.
    pub(super) fn stays(&self, shared: &Shared, key: &Bytes, except: impl Fn(&[u8]) -> bool) -> bool {
        shared.scope.in_scope(key)
            && !shared.ledger.holds(key)
            && self.counted.window.knows_nothing_of(key)
            && !self.counted.is_going(&shared.scope, key, except)
    }
}

fn keys(about: About, range: KeyRange) -> Query {
    Query { about, request: ReadRange { range, limit: PAGE_KEYS, keys_only: true, revision: 0 } }
}

/// What of a range is not read yet.
fn rest(range: KeyRange, page: &Page) -> Option<KeyRange> {
    page.kvs.last().filter(|_| page.more).map(|last| range.from(successor(&last.key)))
}
