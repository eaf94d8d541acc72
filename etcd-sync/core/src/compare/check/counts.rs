//! Keys by resource.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::etcd::kv::printable;
use crate::object::object_key::{ObjectKey, resource_of};
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
    by_name: BTreeMap<String, ResourceCount>,
    /// What all keys of the current resource begin with; empty where nothing tells.
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
        self.by_name.into_values().filter(|count| count.primary + count.standby > 0).collect()
    }

    fn store(&mut self) {
        let current = std::mem::take(&mut self.current);
        if !current.resource.is_empty() {
            self.by_name.insert(current.resource.clone(), current);
        }
    }

    fn change(&mut self, scope: &Scope, key: &[u8]) {
        self.store();
        let (directory, mut resource) = resource(scope, key);
        self.directory = directory.to_vec();
        if self.by_name.len() >= RESOURCES_MAX && !self.by_name.contains_key(&resource) {
            resource = OTHERS.to_owned();
        }
        let known = self.by_name.remove(&resource);
        self.current = known.unwrap_or_else(|| ResourceCount { resource, ..ResourceCount::default() });
    }
}

/// What all keys of a key's resource begin with (nothing, for a key that is no object), and what people call it.
fn resource<'a>(scope: &Scope, key: &'a [u8]) -> (&'a [u8], String) {
    let Some((prefix, relative)) = scope.split(key) else {
        let prefix = scope.prefix_of(key).unwrap_or("(none)");
        return (&key[..prefix.len().min(key.len())], prefix.to_owned());
    };
    let Some(resource) = resource_of(relative) else { return (b"", prefix.to_owned()) };
    let name = match ObjectKey::parse(relative) {
        Some(object) => object.resource_name(),
        None => printable(resource),
    };
    // With the slash behind it, so that no longer name is taken for it.
    (&key[..prefix.len() + resource.len() + 1], name)
}
