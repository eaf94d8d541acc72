//! Versions in which the primary stores objects, and whether the standby can read them.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::bounded::Bounded;
use super::report::Collected;
use super::spec::Crd;
use super::{Kind, Limits};
use crate::object::object_key::ObjectKey;

/// The group-versions that an API server says it serves: `v1`, `apps/v1`.
pub type ServedVersions = BTreeSet<String>;

/// Stored by every API server, and served by none since 1.22: that it is read is known all the same.
/// Source: kubernetes/pkg/controlplane/apiserver/apiextensions.go.
pub const STORED_UNSERVED: &str = "apiextensions.k8s.io/v1beta1";

/// Groups of the API server itself that have their group in the key, as custom resources do.
const BUILT_IN: [&str; 2] = ["apiextensions.k8s.io", "apiregistration.k8s.io"];

#[derive(Debug)]
pub(super) struct Versions {
    stored: Bounded<(Resource, String), Stored>,
    standby: Bounded<(Resource, String), ()>,
    /// Versions by the resource that a CRD defines.
    defined: Bounded<Resource, Vec<String>>,
}

/// A resource, and its group where the key has one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Resource {
    group: Option<String>,
    plural: String,
}

#[derive(Debug)]
struct Stored {
    count: u64,
    first: Bytes,
}

impl Versions {
    pub fn new(limits: &Limits) -> Self {
        let max = limits.versions;
        Versions { stored: Bounded::new(max), standby: Bounded::new(max), defined: Bounded::new(max) }
    }

    /// An object that the standby is given.
    pub fn written(&mut self, key: &Bytes, name: &ObjectKey<'_>, api_version: &str) {
        let id = (Resource::of(name), api_version.to_owned());
        if let Some(stored) = self.stored.entry(id, || Stored { count: 0, first: key.clone() }) {
            stored.count += 1;
        }
    }

    /// An object that the standby has.
    pub fn standby(&mut self, name: &ObjectKey<'_>, api_version: &str) {
        let resource = Resource::of(name);
        if !resource.is_custom() {
            self.standby.entry((resource, api_version.to_owned()), || ());
        }
    }

    /// A CRD that the standby is given.
    pub fn defined(&mut self, crd: &Crd) {
        let resource = Resource { group: Some(crd.spec.group.clone()), plural: crd.spec.names.plural.clone() };
        self.defined.entry(resource, || crd.spec.versions.iter().map(|version| version.name.clone()).collect());
    }

    pub fn finish(&self, served: Option<&ServedVersions>, found: &mut Collected, gaps: &mut Vec<String>) {
        let mut stored: Vec<_> = self.stored.iter().collect();
        stored.sort_by_key(|(id, _)| *id);
        let mut unknown = Vec::new();
        for ((resource, version), Stored { count, first }) in stored {
            let what = format!("{} in {version}, count {count}", resource.plural);
            if resource.is_custom() {
                let short = version.rsplit('/').next().unwrap_or_default();
                if self.defined.get(resource).is_some_and(|versions| !versions.iter().any(|name| name == short)) {
                    found.add(Kind::CustomVersion, first, &[], what);
                }
            } else if version == STORED_UNSERVED || self.standby.get(&(resource.clone(), version.clone())).is_some() {
                // What its API server stores it reads, served or not.
            } else if let Some(served) = served {
                if !served.contains(version) {
                    let how = "the standby's API server does not serve that version; whether it reads it is not proved";
                    found.add(Kind::StorageVersion, first, &[], format!("{what}: {how}"));
                }
            } else {
                match self
                    .standby
                    .iter()
                    .filter(|((other, _), _)| other == resource)
                    .map(|((_, version), _)| version)
                    .min()
                {
                    Some(other) => {
                        let how =
                            format!("the standby's own are in {other}; that it cannot read the others is not proved");
                        found.add(Kind::StorageVersion, first, &[], format!("{what}: {how}"));
                    }
                    None => unknown.push(format!("{} {version}", resource.plural)),
                }
            }
        }
        if !unknown.is_empty() {
            gaps.push(format!(
                "That the standby can read these is not proved (it has none of them, and its API server was not asked): {}.",
                unknown.join(", ")
            ));
        }
        if !(self.stored.is_complete() && self.standby.is_complete() && self.defined.is_complete()) {
            gaps.push(format!("Storage versions beyond {} were not checked.", self.stored.max()));
        }
    }
}

impl Resource {
    fn of(name: &ObjectKey<'_>) -> Self {
        Resource { group: name.group.map(str::to_owned), plural: name.resource.to_owned() }
    }

    fn is_custom(&self) -> bool {
        self.group.as_ref().is_some_and(|group| !BUILT_IN.contains(&group.as_str()))
    }
}
