//! What will go wrong on a live standby although every byte arrives: two objects under one key, addresses taken twice,
//! volumes without their claim, webhooks without their Service, objects being deleted, versions that cannot be read,
//! dependents without an owner.
//!
//! Fed with every key of both sides in any order, values decrypted; memory is bounded by [`Limits`]. Nothing here decides
//! about the scope or about what is local: the caller says what becomes of each key.

mod bounded;
mod identity;
mod kind;
mod owner;
mod report;
mod service;
mod spec;
mod uid;
mod version;
mod volume;
mod webhook;

use std::fmt;

use bytes::Bytes;

pub use self::kind::Kind;
pub use self::report::{Example, Group, Report};
pub use self::version::{STORED_UNSERVED, ServedVersions};

use self::bounded::Bounded;
use self::report::Collected;
use self::spec::Crd;
use crate::object::Header;
use crate::object::object_key::ObjectKey;
use crate::scope::Scope;
use crate::scope::content;

/// What is remembered at most; about 100 bytes each. Beyond a limit the report says what was not checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Examples of each kind.
    pub examples: usize,
    /// UIDs of objects that will be on the standby (32 bytes each).
    pub uids: usize,
    /// Objects that came before their owners.
    pub waiting: usize,
    /// Objects with another UID on the standby.
    pub replaced: usize,
    /// Owners that the standby's own objects name.
    pub owners: usize,
    /// Addresses and ports of Services, on each side.
    pub services: usize,
    /// PersistentVolumes, and claims.
    pub volumes: usize,
    /// Objects that call webhooks.
    pub webhooks: usize,
    /// Namespaces and CRDs that are being deleted.
    pub deleting: usize,
    /// Resources, each version of each.
    pub versions: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            examples: 1_000,
            uids: 1_000_000,
            waiting: 100_000,
            replaced: 100_000,
            owners: 50_000,
            services: 50_000,
            volumes: 50_000,
            webhooks: 5_000,
            deleting: 5_000,
            versions: 5_000,
        }
    }
}

/// What becomes of a key on the standby.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It gets the primary's value, or has it already.
    Written,
    /// It is the standby's own and stays: out of scope, or only there.
    Stays,
    /// Only the standby has it, and it is deleted.
    Goes,
}

/// A value that was opened.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The object, decrypted, as the API server wrote it.
    pub plain: &'a [u8],
    /// Its header.
    pub header: &'a Header,
}

/// Values hold secrets: not even a debug print shows them.
impl fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "View({} bytes)", self.plain.len())
    }
}

/// Collects the conflicts, key by key: fed with every key of both sides, it then gives a [`Report`].
#[derive(Debug)]
pub struct Conflicts {
    limits: Limits,
    identities: identity::Identities,
    owners: owner::Owners,
    services: service::Services,
    volumes: volume::Volumes,
    webhooks: webhook::Webhooks,
    versions: version::Versions,
    deleting: Bounded<Bytes, Kind>,
    unreadable: u64,
}

impl Conflicts {
    /// Knows nothing yet.
    pub fn new(limits: Limits) -> Self {
        Conflicts {
            limits,
            identities: identity::Identities::new(&limits),
            owners: owner::Owners::new(&limits),
            services: service::Services::new(&limits),
            volumes: volume::Volumes::new(&limits),
            webhooks: webhook::Webhooks::new(&limits),
            versions: version::Versions::new(&limits),
            deleting: Bounded::new(limits.deleting),
            unreadable: 0,
        }
    }

    /// Takes one key: the primary's object if it is written, the standby's if there is one.
    pub fn see(
        &mut self,
        scope: &Scope,
        key: &Bytes,
        fate: Fate,
        primary: Option<View<'_>>,
        standby: Option<View<'_>>,
    ) {
        let Some((prefix, relative)) = scope.split(key) else { return };
        let Some(name) = ObjectKey::parse(relative) else { return };
        // A key that was cut from a page would keep the whole page in memory.
        let key = &Bytes::copy_from_slice(key);
        let uid = |view: Option<View<'_>>| view.map(|view| view.header.uid.clone());
        if let Some(standby) = standby {
            self.versions.standby(&name, &standby.header.api_version);
            if fate == Fate::Stays {
                self.local(key, &name, standby);
            }
        }
        if let Some(primary) = primary.filter(|_| fate == Fate::Written) {
            self.written(scope, key, prefix, &name, primary);
            if let Some(standby) = standby.filter(|standby| standby.header.uid != primary.header.uid) {
                self.identities.replaced(key, &standby.header.uid);
            }
        }
        if name.group.is_none() && name.resource == "persistentvolumeclaims" {
            let written = uid(primary).filter(|_| fate == Fate::Written);
            self.volumes.claim(key, written.as_deref(), uid(standby).as_deref(), fate == Fate::Goes);
        }
    }

    /// A value that cannot be decrypted or decoded.
    pub fn unreadable(&mut self) {
        self.unreadable += 1;
    }

    /// What was found. `served`: what the standby's API server says it serves, if it was asked.
    pub fn finish(mut self, scope: &Scope, served: Option<&ServedVersions>) -> Report {
        let mut found = Collected::new(self.limits.examples);
        let mut gaps = Vec::new();
        self.identities.finish(&mut found, &mut gaps);
        self.owners.finish(&mut found, &mut gaps);
        self.services.finish(&mut found, &mut gaps);
        self.volumes.finish(scope, &mut found, &mut gaps);
        self.webhooks.finish(scope, &self.services, &mut found, &mut gaps);
        self.finish_deleting(&mut found, &mut gaps);
        self.versions.finish(served, &mut found, &mut gaps);
        if self.unreadable > 0 {
            gaps.push(format!(
                "Values that could not be decrypted or decoded, and were not checked: {}.",
                self.unreadable
            ));
        }
        Report { groups: found.into_groups(), not_looked_into: gaps }
    }

    fn local(&mut self, key: &Bytes, name: &ObjectKey<'_>, view: View<'_>) {
        self.owners.exists(&view.header.uid);
        self.identities.local(key, &view.header.owners);
        if name.group.is_none() && name.resource == "services" && !self.services.local(key, view.plain) {
            self.unreadable();
        }
    }

    fn written(&mut self, scope: &Scope, key: &Bytes, prefix: &str, name: &ObjectKey<'_>, view: View<'_>) {
        let View { plain, header } = view;
        self.owners.exists(&header.uid);
        self.owners.written(key, &content::owners(header));
        self.versions.written(key, name, &header.api_version);
        let read = match (name.group, name.resource) {
            (None, "services") => self.services.written(key, plain),
            (None, "persistentvolumes") => self.volumes.written(key, prefix, plain),
            (None, "validatingwebhookconfigurations" | "mutatingwebhookconfigurations") => {
                self.webhooks.admission(scope, key, prefix, plain)
            }
            (None, "namespaces") => self.deleting(Kind::NamespaceDeleting, key, header),
            (Some("apiextensions.k8s.io"), "customresourcedefinitions") => {
                self.deleting(Kind::CrdDeleting, key, header);
                self.definition(scope, key, prefix, plain)
            }
            _ => true,
        };
        if !read {
            self.unreadable();
        }
    }

    fn definition(&mut self, scope: &Scope, key: &Bytes, prefix: &str, plain: &[u8]) -> bool {
        let Some(crd) = Crd::read(plain) else { return false };
        self.versions.defined(&crd);
        self.webhooks.conversion(scope, key, prefix, crd);
        true
    }

    fn deleting(&mut self, kind: Kind, key: &Bytes, header: &Header) -> bool {
        if header.deleting {
            self.deleting.entry(key.clone(), || kind);
        }
        true
    }

    fn finish_deleting(&self, found: &mut Collected, gaps: &mut Vec<String>) {
        let mut deleting: Vec<_> = self.deleting.iter().collect();
        deleting.sort();
        for (key, kind) in deleting {
            found.add(*kind, key, &[], "");
        }
        if !self.deleting.is_complete() {
            gaps.push(format!(
                "Namespaces and definitions being deleted beyond {} are not listed.",
                self.deleting.max()
            ));
        }
    }
}

#[cfg(test)]
mod tests;
