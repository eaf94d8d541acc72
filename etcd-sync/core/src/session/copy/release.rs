//! Writing what a copy buffers: families, owners first. An owner that is neither buffered nor written, but whose page is still
//! to come, is read ahead of it.

use std::collections::HashMap;

use bytes::Bytes;

use super::Copying;
use crate::etcd::kv::{KeyValue, Revision};
use crate::etcd::request::Page;
use crate::link::side::{Side, Sides};
use crate::scope::content;
use crate::session::batch::Write;
use crate::session::examine::{Verdict, member_of};
use crate::session::families::{Member, Step, UnbufferedOwner, steps};
use crate::session::shared::{ReadFor, Shared};
use crate::session::walk::Walk;
use crate::session::{Ended, ReadFailure};

/// Owners read because too much is buffered to wait for their page, and how many answers are due.
#[derive(Debug, Default)]
pub(super) struct OwnerReads {
    by_key: HashMap<Bytes, OwnerRead>,
    due: usize,
}

/// What both sides have of an owner, until its page has come by.
#[derive(Debug, Default)]
struct OwnerRead {
    found: Sides<Option<KeyValue>>,
    answers: u8,
    /// Read at this revision of the primary, with this UID.
    at: Revision,
    uid: String,
    /// The change of the primary that is dealt with.
    done: Revision,
}

impl OwnerReads {
    pub(super) fn are_due(&self) -> bool {
        self.due > 0
    }

    /// The page with this key has come by: whether this very change of it was dealt with already.
    pub(super) fn is_done(&mut self, key: &Bytes, revision: Revision) -> bool {
        self.by_key.remove(key).is_some_and(|read| read.done == revision)
    }

    /// Adds the keys where those owners may be whose page is still to come, and that were not read yet; gives them.
    fn add_unread(&mut self, shared: &Shared, walk: &Walk, owners: Vec<UnbufferedOwner>) -> Vec<Bytes> {
        let mut keys = Vec::new();
        for UnbufferedOwner { owner, dependent, revision } in owners {
            let candidates = shared.kinds.keys_of(&shared.scope, &owner, &dependent);
            for key in candidates.into_iter().filter(|key| walk.is_ahead(key) && shared.scope.in_scope(key)) {
                let before = self.by_key.get(&key);
                let is_new = before.is_none_or(|read| read.uid != owner.uid && read.at < revision);
                if is_new && !keys.contains(&key) {
                    self.by_key.insert(key.clone(), OwnerRead::default());
                    keys.push(key);
                }
            }
        }
        self.due += keys.len();
        keys
    }
}

impl Copying {
    /// Queues the families buffered longest, until at most `left` bytes are buffered. An owner that is neither buffered nor
    /// written, but whose page is still to come, is read first.
    pub(super) fn release_families(&mut self, shared: &mut Shared, left: usize) {
        if self.owners.are_due() {
            return;
        }
        // What is queued already may own what comes now.
        self.outbox.enqueue_wait();
        let mut families = Vec::new();
        while self.families.bytes() > left && !self.read_missing_owners(shared) {
            families.extend(self.families.take_oldest());
        }
        let (limits, ledger) = (shared.config.limits, &shared.ledger);
        let fits = |members: &[Member]| {
            let cost: usize = members.iter().map(|member| ledger.put_ops(&member.key)).sum();
            let bytes: usize = members.iter().map(|member| put(member).size_bytes()).sum();
            cost <= limits.ops && bytes <= limits.bytes
        };
        for step in steps(families, fits) {
            match step {
                Step::Together(members) => self.outbox.enqueue(members.iter().map(put).collect()),
                Step::Wait => self.outbox.enqueue_wait(),
            }
        }
    }

    /// Reads those owners of the family buffered longest whose page is still to come; false when there is none.
    fn read_missing_owners(&mut self, shared: &mut Shared) -> bool {
        let Some(walk) = &self.walk else { return false };
        let owners = self.families.unbuffered_owners_of_oldest();
        let keys = self.owners.add_unread(shared, walk, owners);
        for key in &keys {
            shared.read_both(key, ReadFor::Owner);
        }
        !keys.is_empty()
    }

    /// One side of an owner has come ahead of its page.
    pub(in crate::session) fn on_owner(
        &mut self,
        shared: &mut Shared,
        side: Side,
        key: &Bytes,
        result: Result<Page, ReadFailure>,
    ) -> Result<(), Ended> {
        let Some(read) = self.owners.by_key.get_mut(key) else {
            debug_assert!(false, "no page comes by while an owner is read");
            return Ok(());
        };
        // An owner that cannot be read is not read again.
        let (kv, revision) = result.map_or((None, Revision::MAX), |page| (page.kvs.into_iter().next(), page.revision));
        *read.found.get_mut(side) = kv;
        if side == Side::Primary {
            read.at = revision;
            if revision != Revision::MAX {
                self.newest_page = self.newest_page.max(revision);
            }
        }
        read.answers += 1;
        if read.answers != 2 {
            return Ok(());
        }
        self.owners.due -= 1;
        let Sides { primary: Some(kv), standby } = std::mem::take(&mut read.found) else { return Ok(()) };
        let equal = standby.as_ref().is_some_and(|standby| standby.value == kv.value);
        let Verdict::Write(Some(header)) = shared.examine(&kv)? else { return Ok(()) };
        (read.done, read.uid) = (kv.mod_revision, header.uid.clone());
        if !equal {
            shared.on_older(&kv, standby.as_ref())?;
            self.families.buffer(member_of(&kv, &header, content::owners(&header)));
        }
        self.trail.update_newest(&kv.key, kv.mod_revision, Some(&kv.value));
        Ok(())
    }
}

fn put(member: &Member) -> Write {
    Write::Put { key: member.key.clone(), value: member.value.clone() }
}
