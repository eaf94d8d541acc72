//! Keys by resource.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::kv::printable;
use crate::object_key::{ObjectKey, resource_of};
use crate::scope::Scope;

/// Resources counted apart; the keys of all others are counted together, as [`OTHERS`].
const RESOURCES_MAX: usize = 5_000;

const OTHERS: &str = "(others)";

/// How many keys of a resource are in scope on each side, and how many of them differ.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceCount {
    /// `configmaps`, `widgets.example.com`; for keys that are no objects, the prefix they lie below.
    pub resource: String,
    /// Keys on the primary.
    pub primary: u64,
    /// Keys on the standby.
    pub standby: u64,
    /// See the report.
    pub missed: u64,
    /// See the report.
    pub surplus: u64,
    /// See the report.
    pub mismatched: u64,
}

/// Keys come in order, so the resource is mostly that of the key before.
#[derive(Debug, Default)]
pub(super) struct Counts {
    by_directory: BTreeMap<Vec<u8>, ResourceCount>,
    directory: Vec<u8>,
    current: ResourceCount,
}

impl Counts {
    /// The count that `key` belongs to.
    pub(super) fn of(&mut self, scope: &Scope, key: &[u8]) -> &mut ResourceCount {
        if self.directory.is_empty() || !key.starts_with(&self.directory) {
            self.change(scope, key);
        }
        &mut self.current
    }

    /// All of them that hold a key, in the order of their names.
    pub(super) fn finish(mut self) -> Vec<ResourceCount> {
        self.store();
        let mut all: Vec<_> =
            self.by_directory.into_values().filter(|count| count.primary + count.standby > 0).collect();
        all.sort_by(|a, b| a.resource.cmp(&b.resource));
        all
    }

    fn store(&mut self) {
        if !self.directory.is_empty() {
            self.by_directory.insert(std::mem::take(&mut self.directory), std::mem::take(&mut self.current));
        }
    }

    fn change(&mut self, scope: &Scope, key: &[u8]) {
        self.store();
        let (directory, resource) = resource(scope, key);
        let full = self.by_directory.len() >= RESOURCES_MAX && !self.by_directory.contains_key(directory);
        let (directory, resource) = if full { (OTHERS.as_bytes(), OTHERS.to_owned()) } else { (directory, resource) };
        self.directory = directory.to_vec();
        let new = || ResourceCount { resource, ..ResourceCount::default() };
        self.current = self.by_directory.remove(directory).unwrap_or_else(new);
    }
}

/// What all keys of a key's resource begin with, and what people call it.
fn resource<'a>(scope: &Scope, key: &'a [u8]) -> (&'a [u8], String) {
    let Some((prefix, relative)) = scope.split(key) else {
        let prefix = scope.prefix_of(key).unwrap_or_default();
        return (&key[..prefix.len()], prefix.to_owned());
    };
    let Some(resource) = resource_of(relative) else { return (&key[..prefix.len()], prefix.to_owned()) };
    let name = match ObjectKey::parse(relative) {
        Some(object) => object.resource_name(),
        None => printable(resource),
    };
    // With the slash behind it, so that no longer name is taken for it.
    (&key[..prefix.len() + resource.len() + 1], name)
}
