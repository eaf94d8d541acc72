//! What was found, ready to be shown. Keys and names only, never values.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Kind;
use crate::etcd::kv::printable;

/// All conflicts, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// One entry for each kind that was found.
    pub groups: Vec<Group>,
    /// What could not be checked, one sentence each. Empty: the groups are complete.
    pub not_looked_into: Vec<String>,
}

/// The conflicts of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    /// Its label.
    pub kind: Kind,
    /// How many.
    pub count: u64,
    /// What happens on the standby.
    pub will_happen: &'static str,
    /// What helps.
    pub what_to_do: &'static str,
    /// The first of them.
    pub examples: Vec<Example>,
}

/// One conflict.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Example {
    /// The primary's key, as [`printable`] shows it.
    pub key: String,
    /// Keys of the standby that it concerns: the first few.
    pub standby_keys: Vec<String>,
    /// What is particular about it.
    pub detail: String,
}

impl Report {
    /// How many conflicts in all.
    pub fn count(&self) -> u64 {
        self.groups.iter().map(|group| group.count).sum()
    }
}

/// Collects conflicts, and keeps the first of each kind.
pub(super) struct Collected {
    examples_max: usize,
    groups: BTreeMap<Kind, Group>,
}

impl Collected {
    pub fn new(examples_max: usize) -> Self {
        Collected { examples_max, groups: BTreeMap::new() }
    }

    pub fn add(&mut self, kind: Kind, key: &[u8], standby_keys: &[&[u8]], detail: impl Into<String>) {
        let (will_happen, what_to_do) = (kind.will_happen(), kind.what_to_do());
        let group =
            self.groups.entry(kind).or_insert(Group { kind, count: 0, will_happen, what_to_do, examples: Vec::new() });
        group.count += 1;
        if group.examples.len() < self.examples_max {
            let standby_keys = standby_keys.iter().map(|key| printable(key)).collect();
            group.examples.push(Example { key: printable(key), standby_keys, detail: detail.into() });
        }
    }

    pub fn into_groups(self) -> Vec<Group> {
        self.groups.into_values().collect()
    }
}
