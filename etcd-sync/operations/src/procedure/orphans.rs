//! Objects of the standby whose owners are not there: its garbage collector deletes them as soon as it looks.

use std::collections::{HashMap, HashSet};

use etcd_sync_core::object::Header;
use etcd_sync_core::scope::content;

/// Collects objects, in any order, and tells which of them have lost their owners.
#[derive(Debug, Default)]
pub struct Orphans {
    present: HashSet<Box<str>>,
    owned: Vec<Owned>,
}

#[derive(Debug)]
struct Owned {
    key: Box<str>,
    uid: Box<str>,
    owners: Vec<Box<str>>,
}

impl Orphans {
    /// Takes an object of the standby, in scope or not. `key` is printable.
    pub fn see(&mut self, key: &str, header: &Header) {
        let uid: Box<str> = header.uid.as_str().into();
        let owners: Vec<Box<str>> = content::owners(header).into_iter().map(|owner| owner.uid.into()).collect();
        if !owners.is_empty() {
            self.owned.push(Owned { key: key.into(), uid: uid.clone(), owners });
        }
        self.present.insert(uid);
    }

    /// The keys that are going to be deleted, in key order: those whose owners are all absent, and what hangs on them. An
    /// object with one owner left stays (kube-controller-manager, garbagecollector.go, attemptToDeleteItem).
    pub fn doomed(self) -> Vec<Box<str>> {
        let Orphans { present, owned } = self;
        let mut dependents: HashMap<&str, Vec<usize>> = HashMap::new();
        let mut alive: Vec<usize> = Vec::with_capacity(owned.len());
        for (index, object) in owned.iter().enumerate() {
            let living = object.owners.iter().filter(|owner| present.contains(*owner));
            alive.push(living.map(|owner| dependents.entry(owner).or_default().push(index)).count());
        }
        let mut doomed: Vec<usize> = (0..owned.len()).filter(|index| alive[*index] == 0).collect();
        let mut next = 0;
        while let Some(index) = doomed.get(next).copied() {
            next += 1;
            for &dependent in dependents.get(&*owned[index].uid).into_iter().flatten() {
                alive[dependent] -= 1;
                if alive[dependent] == 0 {
                    doomed.push(dependent);
                }
            }
        }
        let mut keys: Vec<Box<str>> = doomed.into_iter().map(|index| owned[index].key.clone()).collect();
        keys.sort();
        keys
    }
}
