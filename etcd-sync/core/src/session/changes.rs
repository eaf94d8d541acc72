//! What both watches tell: the primary's changes on their way into the batcher, the standby's own history on its way into
//! the ledger, and watches that end.

use bytes::Bytes;

use super::examine::Verdict;
use super::{Ended, Refusal, Session, Stage};
use crate::etcd::kv::{Event, KeyValue, Revision, printable};
use crate::link::fence::Fenced;
use crate::link::provenance::LOCAL_KEYS_MAX;
use crate::link::side::Side;
use crate::link::state::{ROLE_STANDBY, Witness};
use crate::scope::Decision;
use crate::session::batch::Write;

impl Session {
    /// The primary's watch is complete up to `revision`.
    pub(super) fn heard(&mut self, revision: Revision) {
        self.stats.heard = self.stats.heard.max(revision);
    }

    pub(super) fn primary_changed(&mut self, events: Vec<Event>, complete: bool) -> Result<(), Ended> {
        self.stats.events += events.len() as u64;
        self.told_whole = complete;
        if let Some(last) = events.last() {
            self.heard(if complete { last.revision() } else { last.revision() - 1 });
        }
        if let Stage::Copying(copy) = &mut self.stage {
            copy.keep_events(events, complete, self.now_ms);
            return Ok(());
        }
        for event in events {
            if event.revision() <= self.resumed_at {
                self.told_again(&event)?;
                continue;
            }
            if matches!(self.stage, Stage::Sweeping(_)) {
                self.come_across(event.key(), event.revision(), matches!(event, Event::Delete { .. }));
            }
            let (revision, in_scope) = (event.revision(), self.is_in_scope(&event));
            let write = self.write_for(event)?;
            if in_scope && write.is_none() {
                self.left_out_at = revision;
            }
            if let (Stage::Sweeping(sweep), Some(write)) = (&mut self.stage, &write) {
                sweep.leave_to_stream(write.key());
            }
            self.batcher.push(revision, write);
        }
        if complete {
            self.batcher.end_revision();
        }
        Ok(())
    }

    /// As far as key and lease tell.
    pub(super) fn is_in_scope(&self, event: &Event) -> bool {
        match event {
            Event::Put(kv) => self.scope.decide_kv(kv) == Decision::InScope,
            Event::Delete { key, .. } => self.scope.in_scope(key),
        }
    }

    /// While copying: remembers the newest change, for the checkpoint's witness.
    pub(super) fn come_across(&mut self, key: &Bytes, revision: Revision, deleted: bool) {
        let newest = self.newest_change.as_ref().map_or(0, |newest| newest.revision);
        if revision > newest && self.scope.in_scope(key) {
            // Deletions before their page are not come across, so it need not be the last change.
            self.newest_change = Witness::new(key, revision, deleted, false).or(self.newest_change.take());
        }
    }

    /// What a change of the primary means for the standby; `None` when it is left out.
    pub(super) fn write_for(&mut self, event: Event) -> Result<Option<Write>, Ended> {
        let kv = match event {
            Event::Put(kv) => kv,
            Event::Delete { key, .. } => {
                return Ok(match self.scope.decide(&key) {
                    Decision::InScope if self.is_leaving(&key) => None,
                    Decision::InScope => Some(Write::Delete { key }),
                    Decision::Out(reason) => {
                        *self.stats.skipped.entry(reason.label()).or_default() += 1;
                        None
                    }
                });
            }
        };
        Ok(match self.examine(&kv)? {
            Verdict::Write(_) => {
                self.stays(&kv.key);
                Some(Write::Put { key: kv.key, value: kv.value })
            }
            Verdict::LeaveOut => None,
            Verdict::Leaves => self.leaves(kv),
        })
    }

    /// An object has left the scope. While copying it is not known yet whose the standby's key is: the sweep tells. Later, what
    /// was mirrored of an object stays as it is until the primary deletes it: a twin of the standby's own, which is made as
    /// often as the primary's changes, must never be taken for it.
    pub(super) fn leaves(&mut self, kv: KeyValue) -> Option<Write> {
        let is_leased = kv.lease != 0;
        // What a waiting change writes is ours once it is written, and no page will tell of it.
        if self.batcher.puts(&kv.key) {
            return is_leased.then_some(Write::Delete { key: kv.key });
        }
        match &mut self.stage {
            Stage::Copying(copy) => drop(copy.leaving.insert(Bytes::copy_from_slice(&kv.key))),
            Stage::Sweeping(sweep) if !is_leased || sweep.is_open(&kv.key) => {
                sweep.leaving.insert(Bytes::copy_from_slice(&kv.key));
            }
            // Whether it is on record as local is asked when its turn comes.
            _ if is_leased => return Some(Write::Delete { key: kv.key }),
            _ => {}
        }
        None
    }

    /// The primary's object is in scope again.
    pub(super) fn stays(&mut self, key: &Bytes) {
        match &mut self.stage {
            Stage::Copying(copy) => drop(copy.leaving.remove(key)),
            Stage::Sweeping(sweep) => drop(sweep.leaving.remove(key)),
            _ => {}
        }
    }

    fn is_leaving(&self, key: &Bytes) -> bool {
        match &self.stage {
            Stage::Copying(copy) => copy.leaving.contains(key),
            Stage::Sweeping(sweep) => sweep.leaving.contains(key),
            _ => false,
        }
    }

    pub(super) fn standby_changed(&mut self, events: &[Event], complete: bool) -> Result<(), Ended> {
        for event in events.iter().filter(|event| *event.key() == self.fence.keys.role) {
            match event {
                Event::Put(kv) if kv.value == ROLE_STANDBY => {}
                Event::Put(kv) => {
                    let found = format!("\"{}\"", printable(&kv.value));
                    return Err(Ended::Fenced(Fenced::Role { found }));
                }
                Event::Delete { .. } => return Err(Ended::Fenced(Fenced::Role { found: "no role at all".into() })),
            }
        }
        if let Stage::Streaming(tracker) = &mut self.stage {
            let (keys, committed) = (&self.fence.keys, self.last_commit_revision);
            let lost = tracker.observe(events, complete, &self.scope, keys, &mut self.ledger, committed);
            for key in lost {
                self.lost(&key)?;
            }
            // Another replica came up: who restarted it wants everything looked at.
            let prefix = &self.fence.keys.leader_prefix;
            let joined = |event: &Event| matches!(event, Event::Put(kv) if kv.key.starts_with(prefix) && kv.create_revision == kv.mod_revision);
            if events.iter().any(|event| joined(event) && *event.key() != self.fence.leader_key) {
                self.begin_audit();
            }
        }
        self.guard_ledger()
    }

    pub(super) fn guard_ledger(&self) -> Result<(), Ended> {
        if self.ledger.len() > LOCAL_KEYS_MAX {
            return Err(Ended::Refused(Refusal::TooManyLocalKeys { limit: LOCAL_KEYS_MAX }));
        }
        Ok(())
    }

    pub(super) fn watch_compacted(&mut self, side: Side, compact_revision: Revision) -> Result<(), Ended> {
        match (&self.stage, side) {
            // Nothing is read before the watch stands, so any newer revision serves as well.
            (Stage::Copying(copy), Side::Primary) if !copy.is_reading() => {
                self.primary_revision = compact_revision;
                self.start_copy();
                Ok(())
            }
            (_, Side::Primary) => {
                Err(Ended::Again { force_copy: true, why: "the primary compacted its history before it was read" })
            }
            (_, Side::Standby) => {
                Err(Ended::Again { force_copy: true, why: "the standby compacted its history before it was read" })
            }
        }
    }

    pub(super) fn watch_closed(&mut self, side: Side) -> Result<(), Ended> {
        // A copy is dear to repeat, so its watch goes on where it broke; everything else just resumes from the record.
        if let (Stage::Copying(copy), Side::Primary) = (&mut self.stage, side)
            && copy.forget_partial_revision(self.batcher.revision())
        {
            self.watch(Side::Primary, self.stats.heard + 1);
            return Ok(());
        }
        Err(Ended::Again { force_copy: false, why: "a watch broke" })
    }
}
