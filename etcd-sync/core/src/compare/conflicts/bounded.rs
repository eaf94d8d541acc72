//! A map with a named limit, which reports when it was reached.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// Keeps the first `max` keys and counts the others.
#[derive(Debug)]
pub(super) struct Bounded<K, V> {
    map: HashMap<K, V>,
    max: usize,
    dropped: u64,
}

impl<K: Eq + Hash, V> Bounded<K, V> {
    pub fn new(max: usize) -> Self {
        Bounded { map: HashMap::new(), max, dropped: 0 }
    }

    /// The entry of a key, made if there is room for it.
    pub fn entry(&mut self, key: K, make: impl FnOnce() -> V) -> Option<&mut V> {
        if self.map.len() >= self.max && !self.map.contains_key(&key) {
            self.dropped += 1;
            return None;
        }
        Some(self.map.entry(key).or_insert_with(make))
    }

    pub fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.map.get(key)
    }

    /// Whether every key that came is there.
    pub fn is_complete(&self) -> bool {
        self.dropped == 0
    }

    pub fn max(&self) -> usize {
        self.max
    }

    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.map.iter()
    }
}
