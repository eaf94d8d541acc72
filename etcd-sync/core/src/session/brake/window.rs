//! What the standby would lose within the last minute: each key once, net of what was created again.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use bytes::Bytes;

use crate::etcd::kv::Revision;
use crate::link::question::Losses;
use crate::object::object_key::resource_of;
use crate::scope::Scope;
use crate::scope::content::{CRDS, NAMESPACES};
use crate::session::refusal::Refusal;

/// How far back losses are counted together, in milliseconds.
pub const WINDOW_MS: u64 = 60_000;

/// Keys remembered in the window; beyond that the oldest are forgotten.
const ENTRIES_MAX: usize = 200_000;

/// Objects remembered that are marked for deletion; of more, the deletion counts as well as the mark.
const MARKED_MAX: usize = 100_000;

/// Namespaces and kinds remembered that are to go; of more, the deletion of each object counts.
const GOING_MAX: usize = 10_000;

/// What the brake has counted and learnt. One session leaves it to the next.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    /// The last minute.
    pub window: Window,
    /// Why it has stopped; it stays so until the operator has answered.
    pub stopped: Option<Refusal>,
    /// Directories of the resources that the standby has, as far as their keys have passed.
    pub resources: BTreeSet<Bytes>,
    /// Whether these are all.
    pub resources_known: bool,
    /// Objects whose mark was counted: their deletion is not counted again.
    marked: HashSet<Bytes>,
    /// Namespaces, by their keys, and directories of kinds whose contents were counted as a whole.
    going: HashSet<Bytes>,
}

impl Counted {
    /// The operator has answered: counting begins again.
    pub fn answered(self) -> Self {
        Counted { resources: self.resources, resources_known: self.resources_known, ..Counted::default() }
    }

    /// An object has a mark for deletion. True: it is new.
    pub fn mark(&mut self, key: &Bytes) -> bool {
        !self.marked.contains(key) && {
            if self.marked.len() < MARKED_MAX {
                self.marked.insert(own(key));
            }
            true
        }
    }

    /// An object is gone, or made again. True: its mark was counted.
    pub fn unmark(&mut self, key: &[u8]) -> bool {
        self.marked.remove(key)
    }

    /// Everything in this container is counted as a whole from now on.
    pub fn add_going(&mut self, container: &Bytes) {
        if self.going.len() < GOING_MAX {
            self.going.insert(own(container));
        }
    }

    /// What lies in this container is counted one by one again.
    pub fn remove_going(&mut self, container: &[u8]) {
        self.going.remove(container);
    }

    /// Whether the key lies in a namespace, or is of a kind, that was counted as a whole; `except` tells those that count as not
    /// counted.
    pub fn is_going(&self, scope: &Scope, key: &[u8], except: impl Fn(&[u8]) -> bool) -> bool {
        if self.going.is_empty() {
            return false;
        }
        let is_going = |container: &[u8]| self.going.contains(container) && !except(container);
        directory_of(scope, key).is_some_and(is_going)
            || namespace_key(scope, key).is_some_and(|namespace| is_going(&namespace))
    }

    /// A key passes: the resources that the standby has become known.
    pub fn learn(&mut self, scope: &Scope, key: &[u8]) {
        if let Some(directory) = directory_of(scope, key)
            && !self.resources.contains(directory)
        {
            self.resources.insert(Bytes::copy_from_slice(directory));
        }
    }
}

/// What all keys of an object's resource begin with: `/registry/deployments/`.
pub fn directory_of<'a>(scope: &Scope, key: &'a [u8]) -> Option<&'a [u8]> {
    let (prefix, relative) = scope.split(key)?;
    let resource = resource_of(relative)?;
    key.get(..prefix.len() + resource.len() + 1)
}

/// The directory of the objects of a CRD; `None`: the key is no CRD's.
pub fn container_of_crd(scope: &Scope, key: &[u8]) -> Option<Bytes> {
    let (prefix, relative) = scope.split(key)?;
    let name = std::str::from_utf8(relative.strip_prefix(CRDS.as_bytes())?).ok()?;
    let (plural, group) = name.split_once('.')?;
    Some(format!("{prefix}{group}/{plural}/").into())
}

/// The key of the namespace that an object lies in.
fn namespace_key(scope: &Scope, key: &[u8]) -> Option<Vec<u8>> {
    let (prefix, relative) = scope.split(key)?;
    let namespace = crate::object::object_key::namespace_of(relative)?;
    // A namespace does not lie in itself.
    (relative.strip_prefix(NAMESPACES.as_bytes()) != Some(namespace))
        .then(|| [prefix.as_bytes(), NAMESPACES.as_bytes(), namespace].concat())
}

/// What the standby has in a namespace, or of a kind, that is to go.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// Which one: the namespace's key, the kind's directory.
    pub of: Bytes,
    /// By kind and namespace.
    pub losses: Losses,
    /// By directory.
    pub directories: BTreeMap<Bytes, u64>,
}

impl Contents {
    /// Counts a key.
    pub fn add(&mut self, scope: &Scope, key: &[u8]) {
        self.losses.add_deletion(scope, key);
        if let Some(directory) = directory_of(scope, key) {
            *self.directories.entry(Bytes::copy_from_slice(directory)).or_default() += 1;
        }
    }
}

/// The last minute.
#[derive(Clone, Debug, Default)]
pub struct Window {
    entries: HashMap<Bytes, Entry>,
    /// By age. One that its key's entry does not name any more is void.
    order: VecDeque<(u64, Bytes)>,
    contents: VecDeque<(u64, Revision, Contents)>,
    lost: u64,
    by_directory: BTreeMap<Bytes, u64>,
}

#[derive(Clone, Debug)]
struct Entry {
    at_ms: u64,
    state: State,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// The standby loses it with this revision of the primary.
    Lost(Revision),
    /// The operator's answer covers that it goes.
    Accepted,
    /// It was not there before: no loss when it goes.
    Created,
}

impl Window {
    /// Forgets what is older than a minute.
    pub fn expire(&mut self, now_ms: u64, scope: &Scope) {
        while let Some((at_ms, key)) = self.order.front()
            && (at_ms + WINDOW_MS <= now_ms || self.order.len() > ENTRIES_MAX)
        {
            let (at_ms, key) = (*at_ms, key.clone());
            self.order.pop_front();
            if self.entries.get(&key).is_some_and(|entry| entry.at_ms == at_ms) {
                self.forget(&key, scope);
            }
        }
        while let Some((at_ms, _, _)) = self.contents.front()
            && at_ms + WINDOW_MS <= now_ms
        {
            self.forget_contents(0);
        }
    }

    /// A key goes.
    pub fn lose(&mut self, key: &Bytes, revision: Revision, now_ms: u64, scope: &Scope) {
        match self.entries.get(key).map(|entry| &entry.state) {
            Some(State::Created) => self.forget(key, scope),
            Some(State::Lost(_) | State::Accepted) => {}
            None => {
                self.lost += 1;
                if let Some(directory) = directory_of(scope, key) {
                    match self.by_directory.get_mut(directory) {
                        Some(keys) => *keys += 1,
                        None => drop(self.by_directory.insert(Bytes::copy_from_slice(directory), 1)),
                    }
                }
                self.insert(key, now_ms, State::Lost(revision));
            }
        }
    }

    /// A key goes, and the operator's answer covers it.
    pub fn accept(&mut self, key: &Bytes, now_ms: u64, scope: &Scope) {
        self.forget(key, scope);
        self.insert(key, now_ms, State::Accepted);
    }

    /// A key is put that was not there on the primary: a new one, or one that is made again.
    pub fn create(&mut self, key: &Bytes, now_ms: u64, scope: &Scope) {
        match self.entries.get(key).map(|entry| &entry.state) {
            Some(State::Lost(_) | State::Accepted) => self.forget(key, scope),
            Some(State::Created) => {}
            None => self.insert(key, now_ms, State::Created),
        }
    }

    /// Forgets a key.
    pub fn forget(&mut self, key: &[u8], scope: &Scope) {
        let Some(Entry { state: State::Lost(_), .. }) = self.entries.remove(key) else { return };
        self.lost -= 1;
        if let Some(directory) = directory_of(scope, key) {
            self.subtract(directory, 1);
        }
    }

    /// What lies in a namespace, or is of a kind, goes as a whole.
    pub fn lose_contents(&mut self, contents: Contents, revision: Revision, now_ms: u64) {
        // It came before, and comes again.
        if let Some(index) = self.contents.iter().position(|(_, _, other)| other.of == contents.of) {
            self.forget_contents(index);
        }
        self.lost += contents.losses.count();
        for (directory, keys) in &contents.directories {
            *self.by_directory.entry(directory.clone()).or_default() += keys;
        }
        self.contents.push_back((now_ms, revision, contents));
    }

    /// Whether the window says nothing about a key: it was there before, and is not to go.
    pub fn knows_nothing_of(&self, key: &[u8]) -> bool {
        !self.entries.contains_key(key)
    }

    /// How many keys are lost.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// How many keys are lost, by directory.
    pub fn directories(&self) -> impl Iterator<Item = (&Bytes, u64)> {
        self.by_directory.iter().map(|(directory, &keys)| (directory, keys))
    }

    /// How many keys are gone already, with revisions of the primary before `from`.
    pub fn gone(&self, from: Revision) -> u64 {
        let is_gone = |entry: &&Entry| matches!(entry.state, State::Lost(revision) if revision < from);
        let contents = self.contents.iter().filter(|(_, revision, _)| *revision < from);
        self.entries.values().filter(is_gone).count() as u64
            + contents.map(|(_, _, contents)| contents.losses.count()).sum::<u64>()
    }

    /// What would go with revisions of the primary from `from` on, and how many keys are gone already: of all, or of one
    /// directory.
    pub fn losses(&self, scope: &Scope, from: Revision, directory: Option<&Bytes>) -> (Losses, u64) {
        let mut keys: Vec<(&Bytes, Revision)> = Vec::new();
        for (key, entry) in &self.entries {
            if let State::Lost(revision) = entry.state {
                keys.push((key, revision));
            }
        }
        keys.sort_unstable();
        let (mut losses, mut gone) = (Losses::default(), 0);
        for (key, revision) in keys {
            if revision >= from {
                losses.add_deletion(scope, key);
            } else if directory.is_none_or(|directory| key.starts_with(directory)) {
                gone += 1;
            }
        }
        for (_, revision, contents) in &self.contents {
            if *revision >= from {
                losses.add_all(&contents.losses);
            } else {
                gone += match directory {
                    Some(directory) => contents.directories.get(directory).copied().unwrap_or(0),
                    None => contents.losses.count(),
                };
            }
        }
        (losses, gone)
    }

    fn insert(&mut self, key: &Bytes, at_ms: u64, state: State) {
        let key = own(key);
        self.order.push_back((at_ms, key.clone()));
        self.entries.insert(key, Entry { at_ms, state });
    }

    fn forget_contents(&mut self, index: usize) {
        let Some((_, _, contents)) = self.contents.remove(index) else { return };
        self.lost -= contents.losses.count();
        for (directory, keys) in contents.directories {
            self.subtract(&directory, keys);
        }
    }

    fn subtract(&mut self, directory: &[u8], keys: u64) {
        if let Some(left) = self.by_directory.get_mut(directory) {
            *left = left.saturating_sub(keys);
            if *left == 0 {
                self.by_directory.remove(directory);
            }
        }
    }
}

/// Not a part of a whole message of the watch.
fn own(key: &Bytes) -> Bytes {
    Bytes::copy_from_slice(key)
}
