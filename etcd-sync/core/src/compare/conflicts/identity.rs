//! Keys that hold another object on the standby, and what was made there for the one that goes.

use bytes::Bytes;

use super::bounded::Bounded;
use super::report::Collected;
use super::uid::Uid;
use super::{Kind, Limits};
use crate::object::Owner;

/// Dependents named of one replaced object.
const DEPENDENTS_NAMED: usize = 3;

#[derive(Debug)]
pub(super) struct Identities {
    /// UID of the standby's object that is replaced, to its key.
    replaced: Bounded<Uid, Bytes>,
    /// Owner's UID to what the standby has as its own and names it.
    owned: Bounded<Uid, Owned>,
}

#[derive(Debug, Default)]
struct Owned {
    count: u64,
    first: Vec<Bytes>,
}

impl Identities {
    pub fn new(limits: &Limits) -> Self {
        Identities { replaced: Bounded::new(limits.replaced), owned: Bounded::new(limits.owners) }
    }

    /// An object that takes the place of another one.
    pub fn replaced(&mut self, key: &Bytes, old: &str) {
        self.replaced.entry(Uid::of(old), || key.clone());
    }

    /// An object that is the standby's own and stays.
    pub fn local(&mut self, key: &Bytes, owners: &[Owner]) {
        for owner in owners {
            let Some(owned) = self.owned.entry(Uid::of(&owner.uid), Owned::default) else { continue };
            owned.count += 1;
            if owned.first.len() < DEPENDENTS_NAMED {
                owned.first.push(key.clone());
            }
        }
    }

    pub fn finish(&self, found: &mut Collected, gaps: &mut Vec<String>) {
        let mut replaced: Vec<_> = self.replaced.iter().map(|(uid, key)| (self.owned.get(uid), key)).collect();
        // Those with something to lose come first.
        replaced.sort_by_key(|(owned, key)| (owned.is_none(), *key));
        for (owned, key) in replaced {
            let Some(Owned { count, first }) = owned else {
                found.add(Kind::OtherUid, key, &[], "no dependents of the old one on the standby");
                continue;
            };
            let names: Vec<&[u8]> = first.iter().map(|key| &key[..]).collect();
            let detail = format!("the standby's own dependents of the old one, which will be deleted: {count}");
            found.add(Kind::OtherUid, key, &names, detail);
        }
        if !self.replaced.is_complete() {
            gaps.push(format!("Objects with another UID beyond the first {} are not listed.", self.replaced.max()));
        }
        if !self.owned.is_complete() {
            gaps.push(format!(
                "The standby's own objects name more than {} owners: dependents of replaced objects may be missing.",
                self.owned.max()
            ));
        }
    }
}
