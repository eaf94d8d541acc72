//! What only the standby has, checked after everything is copied. A key we mirrored and the primary no longer has is deleted;
//! a local one is put on record; one whose origin is unknown stays.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::commit::Changes;
use super::examine::{Change, decide, is_key_in_scope};
use super::flight::Purpose;
use super::shared::{ReadFor, Shared};
use super::trail::Trail;
use super::{Ended, Note, ReadFailure};
use crate::etcd::kv::{Event, KeyRange, KeyValue, Revision, successor};
use crate::etcd::request::{Compare, Op, Page, ReadRange};
use crate::link::provenance::{Origin, Question, revision_is_ours};
use crate::link::side::Side;
use crate::link::state::{Checkpoint, Phase};
use crate::scope::Decision;
use crate::session::batch::Write;
use crate::session::walk::{Ask, Chunk, Joined, Walk, WalkOptions, join};

/// Deletions in one transaction: each has a compare of its own, and the fence has three.
const DELETES_MAX: usize = 120;

/// Values under way at once that are saved before their keys are deleted, and saved in one transaction.
const SAVES_MAX: usize = 8;

/// Deletions found but not made yet, at most.
const DELETES_QUEUED_MAX: usize = 10_000;

/// Transactions of changes between two pages, at most.
const BATCHES_BETWEEN_PAGES: u32 = 16;

/// A sweep begun again so often because keys kept changing under it ends the session.
const ROUNDS_MAX: u32 = 5;

/// The standby is read first, the primary after: a key the primary does not have then was deleted, not just late.
pub(super) fn walk(ranges: &[KeyRange]) -> Walk {
    Walk::new(ranges, WalkOptions { keys_only: true, ..WalkOptions::new(Side::Standby) })
}

/// The stage that checks what only the standby has, the primary's watch running beside.
#[derive(Debug)]
pub(super) struct Sweeping {
    trail: Trail,
    walk: Walk,
    round: u32,
    batches: u32,
    /// The standby's revision at the first page: everything created before it is checked.
    seen: Option<Revision>,
    /// The newest revision of the primary a page was read at.
    newest_page: Revision,
    /// Keys to delete, with the creation revision they must still have: a key made again is another one, one that a local
    /// controller only changed is not.
    deletes: BTreeMap<Bytes, Revision>,
    /// Keys to delete whose value is saved first.
    unproved: BTreeMap<Bytes, Saving>,
    /// Keys whose origin lies in the standby's history, by the revision to read next.
    questions: BTreeMap<Revision, Vec<Question>>,
}

/// Where the saving of a value stands.
#[derive(Debug)]
enum Saving {
    Wanted,
    Reading,
    /// As read: it must still be so when it is deleted.
    Read(KeyValue),
}

impl Sweeping {
    pub(super) fn new(ranges: &[KeyRange], trail: Trail) -> Self {
        Sweeping {
            trail,
            walk: walk(ranges),
            round: 0,
            batches: 0,
            seen: None,
            newest_page: 0,
            deletes: BTreeMap::new(),
            unproved: BTreeMap::new(),
            questions: BTreeMap::new(),
        }
    }

    /// A key changed between its page and its deletion: everything is checked again.
    pub(super) fn begin_again(&mut self, shared: &mut Shared) -> Result<(), Ended> {
        let is_page = |(purpose, _): &(ReadFor, u64)| matches!(purpose, ReadFor::Walk(_) | ReadFor::Marks(_));
        debug_assert!(!shared.reads.values().any(is_page), "no page is read while deletions are sent");
        let round = self.round + 1;
        if round == ROUNDS_MAX {
            return Err(Ended::Again { force_copy: true, why: "surplus keys kept changing while they were deleted" });
        }
        shared.mirrored = 0;
        let again = Sweeping::new(shared.scope.ranges(), std::mem::take(&mut self.trail));
        *self = Sweeping { round, ..again };
        Ok(())
    }

    /// Whether more changes of the primary may be given now.
    pub(super) fn wants_events(&self, shared: &Shared) -> bool {
        // Once everything is received that the pages showed, the rest waits in the stream until the record is written.
        let is_enough = shared.revision_complete && self.is_ending(shared);
        !is_enough && shared.has_room()
    }

    /// Opens the standby's watch, which is read later: a sweep may take longer than the standby keeps its history.
    pub(super) fn watch_standby(&self, shared: &mut Shared) {
        if let Some(seen) = self.seen {
            shared.watch(Side::Standby, seen + 1);
        }
    }

    /// Whether the standby's watch is open.
    pub(super) fn watches_standby(&self) -> bool {
        self.seen.is_some()
    }

    /// Keys were met that the replay must check.
    pub(super) fn is_audit_due(&self) -> bool {
        self.trail.audit_due
    }

    /// A transaction of this session was applied.
    pub(super) fn on_committed(&mut self, revision: Revision) {
        self.trail.own_revisions.insert(revision);
    }

    /// Changes of the primary have come.
    pub(super) fn on_events(&mut self, shared: &mut Shared, events: Vec<Event>, complete: bool) -> Result<(), Ended> {
        shared.update_received_from(&events, complete);
        let scope = Arc::clone(&shared.scope);
        for event in events {
            let (revision, decision) = (event.revision(), decide(&scope, &event));
            if is_key_in_scope(decision) {
                self.trail.update_newest(event.key(), revision, event.value());
                shared.update_recent(&event, 0);
            }
            let write = self.write_for(shared, event, decision)?;
            match &write {
                Some(write) => self.leave_to_stream(write.key()),
                None if decision == Decision::InScope => shared.filtered_at = revision,
                None => {}
            }
            shared.batcher.push(revision, write);
        }
        if complete {
            shared.batcher.end_revision();
        }
        Ok(())
    }

    fn write_for(&mut self, shared: &mut Shared, event: Event, decision: Decision<'_>) -> Result<Option<Write>, Ended> {
        Ok(match shared.judge(event, decision)? {
            Change::Put(kv, _) => {
                self.trail.leaving_scope.remove(&kv.key);
                Some(Write::Put { key: kv.key, value: kv.value })
            }
            Change::Delete(key) if self.trail.leaving_scope.contains(&key) => None,
            Change::Delete(key) => Some(Write::Delete { key }),
            Change::Filtered => None,
            Change::LeavesScope(kv) => self.on_leaving_scope(shared, kv),
        })
    }

    /// An object has left the scope: what is not judged yet is judged as surplus.
    fn on_leaving_scope(&mut self, shared: &Shared, kv: KeyValue) -> Option<Write> {
        let is_leased = kv.lease != 0;
        // What a waiting change writes is ours once it is written, and no page will show it.
        if !shared.batcher.puts(&kv.key) && (!is_leased || self.is_open(&kv.key)) {
            self.trail.leaving_scope.insert(Bytes::copy_from_slice(&kv.key));
            return None;
        }
        // Whether it is on record as local is checked when its turn comes.
        is_leased.then_some(Write::Delete { key: kv.key })
    }

    /// The primary's own change of the key decides, not what a page showed.
    fn leave_to_stream(&mut self, key: &Bytes) {
        self.deletes.remove(key);
        self.unproved.remove(key);
        self.questions.values_mut().for_each(|questions| questions.retain(|question| question.key != key));
    }

    /// Whether the key is still to be judged, or judged and not dealt with yet.
    fn is_open(&self, key: &Bytes) -> bool {
        let in_question = self.questions.values().flatten().any(|question| question.key == key);
        let is_to_go = self.deletes.contains_key(key) || self.unproved.contains_key(key);
        self.walk.is_pending(key) || in_question || is_to_go
    }

    /// Whether only what was received by now must be applied before the next step: deletions, or the last record.
    fn is_ending(&self, shared: &Shared) -> bool {
        let read = self.walk.finished() || (self.walk.at_rest() && self.to_go() >= DELETES_QUEUED_MAX);
        read && self.questions.is_empty() && shared.stats.received_revision >= self.newest_page
    }

    pub(super) fn on_page(
        &mut self,
        shared: &mut Shared,
        ask: Ask,
        result: Result<Page, ReadFailure>,
    ) -> Result<(), Ended> {
        match shared.take_page(&mut self.walk, ask, result)? {
            Some(chunk) => self.on_chunk(shared, chunk),
            None => Ok(()),
        }
    }

    fn on_chunk(&mut self, shared: &mut Shared, chunk: Chunk) -> Result<(), Ended> {
        if self.seen.is_none() {
            self.seen = Some(chunk.lead_revision);
            self.watch_standby(shared);
        }
        self.newest_page = self.newest_page.max(chunk.follow_revision);
        // A change of a surplus key that was received before its page, but is not applied yet, decides as a later one does.
        let waiting = shared.batcher.keys();
        for joined in join(chunk) {
            match joined {
                Joined::Both(standby, _) if !self.trail.leaving_scope.contains(&standby.key) => {
                    shared.mirrored += 1;
                    if self.is_made_meanwhile(shared, &standby) {
                        shared.ledger.add(standby.key, 0, 0);
                        self.trail.audit_due = true;
                    } else if self.is_edited_meanwhile(shared, &standby) {
                        shared.edited.add_edited(standby.key, 0);
                    }
                }
                // Perhaps written by this copy, and taken away since.
                Joined::Follow(_) => self.trail.audit_due = true,
                Joined::Lead(kv) if waiting.contains(&kv.key) => {}
                Joined::Lead(kv) | Joined::Both(kv, _) => self.judge_surplus(shared, kv),
            }
        }
        shared.guard_ledger()
    }

    /// Whether somebody else made the key while this copy ran: in place of what we wrote, or an object of the same name,
    /// created independently, as something filtered.
    fn is_made_meanwhile(&self, shared: &Shared, standby: &KeyValue) -> bool {
        let ours = |revision| self.trail.own_revisions.contains(&revision);
        let made = standby.create_revision;
        made > shared.moments.began && !ours(made) && !ours(standby.mod_revision)
    }

    /// Whether somebody else changed the key while this copy ran, after it was written or compared.
    fn is_edited_meanwhile(&self, shared: &Shared, standby: &KeyValue) -> bool {
        let changed = standby.mod_revision;
        changed > shared.moments.began && !self.trail.own_revisions.contains(&changed)
    }

    fn judge_surplus(&mut self, shared: &mut Shared, kv: KeyValue) {
        let KeyValue { key, create_revision, mod_revision, .. } = kv;
        match shared.moments.origin(shared.ledger.holds(&key), create_revision, mod_revision) {
            Origin::Local => shared.ledger.add(key, 0, 0),
            Origin::Mirrored => self.doom(shared, key, create_revision, mod_revision),
            Origin::AskHistory => drop(self.queue(shared.moments.question(key, create_revision, mod_revision))),
        }
    }

    /// A mirrored key that goes, with or without its value saved first.
    fn doom(&mut self, shared: &Shared, key: Bytes, create_revision: Revision, mod_revision: Revision) {
        if shared.must_save(&key, mod_revision) {
            self.unproved.insert(key, Saving::Wanted);
        } else {
            self.deletes.insert(key, create_revision);
        }
    }

    /// Keys that are to be deleted.
    fn to_go(&self) -> usize {
        self.deletes.len() + self.unproved.len()
    }

    /// Queues the next thing to read; gives the question back when there is none.
    fn queue(&mut self, mut question: Question) -> Option<Question> {
        let Some(next) = question.ask.pop() else { return Some(question) };
        self.questions.entry(next).or_default().push(question);
        None
    }

    /// The marks at a past revision of the standby, or the news that it is compacted.
    pub(super) fn on_marks(&mut self, shared: &mut Shared, revision: Revision, result: Result<Page, ReadFailure>) {
        let ours = result.as_ref().is_ok_and(|page| {
            let marks: Vec<_> = page.kvs.iter().map(|kv| kv.mod_revision).collect();
            revision_is_ours(revision, &marks)
        });
        for mut question in self.questions.remove(&revision).unwrap_or_default() {
            question.compacted |= result.is_err();
            if ours {
                let Question { key, create_revision, mod_revision, .. } = question;
                self.doom(shared, key, create_revision, mod_revision);
            } else if let Some(question) = self.queue(question) {
                if question.compacted {
                    shared.stats.unknown_origin += 1;
                    shared.note(Note::UnknownOrigin { key: question.key.clone() });
                }
                // Also what nobody knows goes on record: the next sweep would take it for ours by its age.
                shared.ledger.add(question.key, 0, 0);
            }
        }
    }

    /// Goes on with whatever is next: the history, waiting changes, pages, deletions, and at last the record.
    pub(super) fn advance(&mut self, shared: &mut Shared) -> Result<(), Ended> {
        if !shared.in_flight.is_empty() {
            return Ok(());
        }
        if let Some(&revision) = self.questions.keys().next() {
            if shared.reads.is_empty() {
                read_marks(shared, revision);
            }
            return Ok(());
        }
        // Nothing is written while a page is judged: what it shows must still be so when the verdict falls.
        if self.walk.at_rest() {
            // A few batches, then a page: neither blocks the other forever.
            self.batches += 1;
            let page_next = self.batches > BATCHES_BETWEEN_PAGES && !self.is_ending(shared);
            if !page_next && shared.try_commit_batch() {
                return Ok(());
            }
        }
        self.batches = 0;
        if !self.walk.at_rest() || (!self.walk.finished() && self.to_go() < DELETES_QUEUED_MAX) {
            while shared.may_read_page()
                && let Some((ask, request)) = self.walk.next_read()
            {
                shared.read(ask.side, request, ReadFor::Walk(ask));
            }
            return Ok(());
        }
        // A page may be ahead of the watch: what it showed is acted on once everything before it is received and applied.
        if !shared.is_idle() || shared.stats.received_revision < self.newest_page {
            return Ok(());
        }
        if !self.deletes.is_empty() {
            return if shared.copy_writes.allows(shared.now_ms) { self.commit_deletes(shared) } else { Ok(()) };
        }
        if !self.unproved.is_empty() {
            return self.save_and_delete(shared);
        }
        self.commit_last_record(shared);
        Ok(())
    }

    fn commit_deletes(&mut self, shared: &mut Shared) -> Result<(), Ended> {
        let count = shared.copy_writes.step(DELETES_MAX.min(shared.config.limits.keys_compared()));
        let mut changes = Changes { purpose: Purpose::Sweep, ..Changes::default() };
        for (key, revision) in std::iter::from_fn(|| self.deletes.pop_first()).take(count) {
            shared.guard_deletion(&key)?;
            changes.compares.push(Compare::CreateRevision { key: key.clone(), revision });
            changes.ops.push(Op::Delete { key: key.clone() });
            changes.writes.push(Write::Delete { key });
        }
        shared.commit_checkpoint(shared.checkpoint.clone(), changes);
        Ok(())
    }

    /// Reads values, and when they have come deletes their keys in the transaction that saves them.
    fn save_and_delete(&mut self, shared: &mut Shared) -> Result<(), Ended> {
        let wanted = self.unproved.iter_mut().filter(|(_, saving)| !matches!(saving, Saving::Read(_))).take(SAVES_MAX);
        let mut is_reading = false;
        for (key, saving) in wanted {
            is_reading = true;
            if matches!(saving, Saving::Wanted) {
                *saving = Saving::Reading;
                let request = ReadRange::single(key.clone(), false, 0);
                shared.read(Side::Standby, request, ReadFor::Save(key.clone()));
            }
        }
        let has_read = |saving: &Saving| matches!(saving, Saving::Read(_));
        let read = self.unproved.values().filter(|saving| has_read(saving)).count();
        if is_reading && read < SAVES_MAX {
            return Ok(());
        }
        let mut changes = Changes { purpose: Purpose::Sweep, ..Changes::default() };
        let mut bytes = 0;
        let keys: Vec<Bytes> =
            self.unproved.iter().filter(|(_, saving)| has_read(saving)).map(|(key, _)| key.clone()).collect();
        for key in keys {
            let Some(Saving::Read(kv)) = self.unproved.get(&key) else { continue };
            bytes += kv.value.len() + 2 * key.len();
            let full = changes.ops.len() + 2 > shared.config.limits.ops || bytes > shared.config.limits.bytes;
            if full && !changes.ops.is_empty() {
                break;
            }
            let (revision, value) = (kv.mod_revision, kv.value.clone());
            shared.guard_deletion(&key)?;
            shared.count_saved(&value)?;
            shared.note(Note::Saved { key: key.clone() });
            changes.compares.push(Compare::ModRevision { key: key.clone(), revision });
            changes.ops.push(shared.save_op(&key, value));
            changes.ops.push(Op::Delete { key: key.clone() });
            self.unproved.remove(&key);
            changes.writes.push(Write::Delete { key });
        }
        shared.commit_checkpoint(shared.checkpoint.clone(), changes);
        Ok(())
    }

    /// A value that is to be saved has come.
    pub(super) fn on_save(&mut self, key: &Bytes, result: Result<Page, ReadFailure>) -> Result<(), Ended> {
        let Ok(page) = result else {
            return Err(Ended::Again { force_copy: true, why: "a value that is to be saved cannot be read" });
        };
        match page.kvs.into_iter().next() {
            // The primary's own change of it decides since.
            Some(kv) => drop(self.unproved.get_mut(key).map(|saving| *saving = Saving::Read(kv))),
            None => drop(self.unproved.remove(key)),
        }
        Ok(())
    }

    /// Ends the copy: with the record of the history that was copied, and the operator's answer used up.
    fn commit_last_record(&mut self, shared: &mut Shared) {
        shared.identity.recent.complete(shared.last_commit_revision, shared.now_ms);
        let checkpoint = self.last_record(shared);
        let mut ops = vec![shared.history_op(&checkpoint)];
        ops.extend(shared.drop_answer_after_copy());
        shared.commit_checkpoint(checkpoint, Changes { ops, ..Changes::default() });
    }

    /// The record that ends a copy.
    fn last_record(&self, shared: &Shared) -> Checkpoint {
        Checkpoint {
            phase: Phase::Streaming,
            revision: shared.stats.received_revision,
            offset: 0,
            seen: self.seen.unwrap_or(shared.moments.began),
            witness: self.trail.newest_change(),
            base: 0,
            accepted_deletions: None,
            ..shared.checkpoint.clone()
        }
    }
}

/// Reads our marks as they were at a revision of the standby.
fn read_marks(shared: &mut Shared, revision: Revision) {
    let (checkpoint, copied) = (shared.fence.keys.checkpoint.clone(), shared.fence.keys.copied.clone());
    let (first, last) = if checkpoint < copied { (checkpoint, copied) } else { (copied, checkpoint) };
    let range = KeyRange { start: first, end: successor(&last) };
    let request = ReadRange { range, limit: 0, keys_only: true, revision };
    shared.read(Side::Standby, request, ReadFor::Marks(revision));
}
