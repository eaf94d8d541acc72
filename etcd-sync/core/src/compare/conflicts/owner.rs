//! Objects whose owners will not be on the standby.
//!
//! Source: `attemptToDeleteItem` in kubernetes/pkg/controller/garbagecollector: an object without any owner that exists is
//! deleted; one with some loses the references to the others.

use std::collections::HashSet;

use bytes::Bytes;

use super::report::Collected;
use super::uid::Uid;
use super::{Kind, Limits};
use crate::object::Owner;

#[derive(Debug)]
pub(super) struct Owners {
    uids: HashSet<Uid>,
    uids_max: usize,
    waiting: Vec<Waiting>,
    waiting_max: usize,
    /// How many UIDs were known when those waiting were last gone through.
    settled_at: usize,
    /// Something was forgotten: absence cannot be told any more.
    uids_overflowed: bool,
    waiting_overflowed: bool,
}

/// A dependent of which not every owner has been seen.
#[derive(Debug)]
struct Waiting {
    key: Bytes,
    owners: usize,
    unseen: Vec<(Uid, String)>,
}

impl Owners {
    pub fn new(limits: &Limits) -> Self {
        Owners {
            uids: HashSet::new(),
            uids_max: limits.uids,
            waiting: Vec::new(),
            waiting_max: limits.waiting,
            settled_at: 0,
            uids_overflowed: false,
            waiting_overflowed: false,
        }
    }

    /// An object that will be on the standby.
    pub fn exists(&mut self, uid: &str) {
        if self.uids.len() < self.uids_max {
            self.uids.insert(Uid::of(uid));
        } else {
            self.uids_overflowed = true;
        }
    }

    /// An object that the standby is given.
    pub fn written(&mut self, key: &Bytes, owners: &[Owner]) {
        if owners.is_empty() {
            return;
        }
        let unseen = owners.iter().map(|owner| (Uid::of(&owner.uid), owner));
        let unseen = unseen.filter(|(uid, _)| !self.uids.contains(uid));
        let unseen: Vec<_> = unseen.map(|(uid, owner)| (uid, format!("{} {}", owner.kind, owner.name))).collect();
        if unseen.is_empty() {
            return;
        }
        if self.waiting.len() >= self.waiting_max {
            self.settle();
        }
        if self.waiting.len() < self.waiting_max {
            self.waiting.push(Waiting { key: key.clone(), owners: owners.len(), unseen });
        } else {
            self.waiting_overflowed = true;
        }
    }

    pub fn finish(&mut self, found: &mut Collected, gaps: &mut Vec<String>) {
        if self.uids_overflowed {
            let most = self.uids_max;
            gaps.push(format!("More than {most} objects: whether the owners of all are there was not checked."));
            return;
        }
        if self.waiting_overflowed {
            let most = self.waiting_max;
            gaps.push(format!(
                "More than {most} objects come before their owners: the owners of some were not checked."
            ));
        }
        self.waiting.sort_by(|a, b| a.key.cmp(&b.key));
        for Waiting { key, owners, unseen } in &self.waiting {
            let absent: Vec<&str> =
                unseen.iter().filter(|(uid, _)| !self.uids.contains(uid)).map(|(_, name)| name.as_str()).collect();
            let kind = match absent.len() {
                0 => continue,
                some if some < *owners => Kind::OwnerReferenceAbsent,
                _ => Kind::OwnerAbsent,
            };
            found.add(kind, key, &[], format!("absent: {}", absent.join(", ")));
        }
    }

    /// Lets go of those whose owners have come. Worth it only after many have.
    fn settle(&mut self) {
        if self.uids.len() < self.settled_at + self.waiting_max / 8 {
            return;
        }
        self.settled_at = self.uids.len();
        let uids = &self.uids;
        self.waiting.retain(|waiting| waiting.unseen.iter().any(|(uid, _)| !uids.contains(uid)));
    }
}
