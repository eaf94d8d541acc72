//! Letting go of what a copy holds back: families, owners first. An owner that is neither held nor written, but whose page is
//! still to come, is asked for ahead of it.

use bytes::Bytes;

use crate::etcd::kv::{KeyValue, Revision};
use crate::etcd::request::Page;
use crate::link::side::Side;
use crate::scope::content;
use crate::session::batch::Write;
use crate::session::examine::{Verdict, member_of};
use crate::session::families::{Member, Step, Stranger, steps};
use crate::session::{Ended, ReadFailure, ReadFor, Session, Stage};

/// What both sides have of an owner, until its page has come by.
#[derive(Debug, Default)]
pub(super) struct AskedOwner {
    primary: Option<KeyValue>,
    standby: Option<KeyValue>,
    answers: u8,
    /// Read at this revision of the primary, with this UID.
    at: Revision,
    uid: String,
    /// The change of the primary that is dealt with.
    pub(super) done: Revision,
}

impl Session {
    /// Queues the families held longest, until at most `left` bytes are held. An owner that is neither held nor written, but
    /// whose page is still to come, is asked for first.
    pub(super) fn release_families(&mut self, left: usize) {
        let Stage::Copying(copy) = &mut self.stage else { return };
        if copy.owners_due > 0 {
            return;
        }
        // What is queued already may own what comes now.
        copy.enqueue_wait();
        let mut families = Vec::new();
        loop {
            let Stage::Copying(copy) = &mut self.stage else { return };
            if copy.families.is_empty() || (left > 0 && copy.families.bytes() <= left) {
                break;
            }
            let strangers = copy.families.strangers_of_oldest();
            if self.ask_owners(strangers) {
                break;
            }
            let Stage::Copying(copy) = &mut self.stage else { return };
            families.extend(copy.families.take_oldest());
        }
        let (limits, ledger) = (self.config.limits, &self.ledger);
        let fits = |members: &[Member]| {
            let cost: usize = members.iter().map(|member| ledger.put_ops(&member.key)).sum();
            let bytes: usize = members.iter().map(|member| put(member).size_bytes()).sum();
            cost <= limits.ops && bytes <= limits.bytes
        };
        let steps = steps(families, fits);
        let Stage::Copying(copy) = &mut self.stage else { return };
        for step in steps {
            match step {
                Step::Together(members) => copy.enqueue(members.iter().map(put).collect()),
                Step::Wait => copy.enqueue_wait(),
            }
        }
    }

    /// Asks for those owners whose page is still to come; false when there is none.
    fn ask_owners(&mut self, strangers: Vec<Stranger>) -> bool {
        let mut keys = Vec::new();
        {
            let Stage::Copying(copy) = &mut self.stage else { return false };
            let Some(walk) = &copy.walk else { return false };
            for Stranger { owner, dependent, revision } in strangers {
                let candidates = self.kinds.keys_of(&self.scope, &owner, &dependent);
                for key in candidates.into_iter().filter(|key| walk.is_ahead(key) && self.scope.in_scope(key)) {
                    let asked = copy.asked_owners.get(&key);
                    let ask = asked.is_none_or(|asked| asked.uid != owner.uid && asked.at < revision);
                    if ask && !keys.contains(&key) {
                        copy.asked_owners.insert(key.clone(), AskedOwner::default());
                        keys.push(key);
                    }
                }
            }
            copy.owners_due += keys.len();
        }
        for key in &keys {
            self.read_both(key, ReadFor::Owner);
        }
        !keys.is_empty()
    }

    /// An owner has come ahead of its page.
    pub(in crate::session) fn owner_read(
        &mut self,
        side: Side,
        key: &Bytes,
        result: Result<Page, ReadFailure>,
    ) -> Result<(), Ended> {
        let Stage::Copying(copy) = &mut self.stage else { return Ok(()) };
        let Some(asked) = copy.asked_owners.get_mut(key) else { return Ok(()) };
        // An owner that cannot be read is not asked for again.
        let (kv, revision) = result.map_or((None, Revision::MAX), |page| (page.kvs.into_iter().next(), page.revision));
        match side {
            Side::Primary => {
                if revision != Revision::MAX {
                    copy.newest_page = copy.newest_page.max(revision);
                }
                (asked.primary, asked.at) = (kv, revision);
            }
            Side::Standby => asked.standby = kv,
        }
        asked.answers += 1;
        if asked.answers != 2 {
            return Ok(());
        }
        copy.owners_due -= 1;
        let (Some(kv), standby) = (asked.primary.take(), asked.standby.take()) else { return Ok(()) };
        let equal = standby.is_some_and(|standby| standby.value == kv.value);
        let Verdict::Write(Some(header)) = self.examine(&kv)? else { return Ok(()) };
        let Stage::Copying(copy) = &mut self.stage else { return Ok(()) };
        if let Some(asked) = copy.asked_owners.get_mut(key) {
            (asked.done, asked.uid) = (kv.mod_revision, header.uid.clone());
        }
        if !equal {
            copy.families.hold(member_of(&kv, &header, content::owners(&header)));
        }
        self.come_across(&kv.key, kv.mod_revision, false);
        Ok(())
    }
}

fn put(member: &Member) -> Write {
    Write::Put { key: member.key.clone(), value: member.value.clone() }
}
