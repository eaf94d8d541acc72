//! What both watches tell: the primary's changes on their way into the batcher, the standby's own history on its way into
//! the ledger, and watches that end.

use bytes::Bytes;

use super::{Ended, Refusal, Session, Stage};
use crate::batch::Write;
use crate::fence::Fenced;
use crate::kv::{Event, Revision, printable};
use crate::provenance::LOCAL_KEYS_MAX;
use crate::scope::{Decision, Reason};
use crate::state::{ROLE_STANDBY, Witness};
use crate::walk::Side;

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
            if let Stage::Sweeping(sweep) = &mut self.stage {
                sweep.leave_to_stream(event.key());
                self.come_across(event.key(), event.revision(), matches!(event, Event::Delete { .. }));
            }
            let (revision, write) = (event.revision(), self.write_for(event));
            self.batcher.push(revision, write);
        }
        if complete {
            self.batcher.end_revision();
        }
        Ok(())
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
    pub(super) fn write_for(&mut self, event: Event) -> Option<Write> {
        let decision = match &event {
            Event::Put(kv) => self.scope.decide_kv(kv),
            Event::Delete { key, .. } => self.scope.decide(key),
        };
        let reason = match decision {
            Decision::Out(reason) => reason,
            Decision::InScope => {
                return Some(match event {
                    Event::Put(kv) => Write::Put { key: kv.key, value: kv.value },
                    Event::Delete { key, .. } => Write::Delete { key },
                });
            }
        };
        *self.stats.skipped.entry(reason.label()).or_default() += 1;
        // A key that came to hang on a lease has left the scope: what was mirrored of it must go.
        (reason == Reason::LeaseBound).then(|| Write::Delete { key: event.key().clone() })
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
            tracker.observe(events, complete, &self.scope, keys, &mut self.ledger, committed);
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
