//! What only the standby has: counted before a resync writes anything, and dealt with after everything is copied. A key we
//! mirrored and the primary no longer has is deleted; a local one is put on record; one that cannot be told stays.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;

use super::{Changes, Effect, Ended, Note, ReadFailure, ReadFor, Refusal, Session, Stage};
use crate::etcd::kv::{KeyRange, KeyValue, Revision, successor};
use crate::etcd::request::{Compare, Op, Page, ReadRange};
use crate::link::provenance::{Origin, Question, revision_is_ours};
use crate::link::side::Side;
use crate::session::batch::Write;
use crate::session::walk::{Ask, Chunk, Joined, Walk, WalkOptions, join};

/// Deletions in one transaction: each has a compare of its own, and the fence has three.
const DELETES_MAX: usize = 120;

/// Deletions found but not made yet, at most.
const DELETES_QUEUED_MAX: usize = 10_000;

/// Transactions of changes between two pages, at most.
const BATCHES_BETWEEN_PAGES: u32 = 16;

/// A sweep begun again so often because keys kept changing under it ends the session.
const ROUNDS_MAX: u32 = 5;

/// The standby is read first, the primary after: a key the primary does not have then was deleted, not just late.
fn walk(ranges: &[KeyRange]) -> Walk {
    Walk::new(ranges, WalkOptions { keys_only: true, ..WalkOptions::new(Side::Standby) })
}

/// Counts, before a resync.
#[derive(Debug)]
pub(super) struct Plan {
    walk: Walk,
    deletions: u64,
    mirrored: u64,
    /// The newest revision of the primary a page was read at.
    newest_page: Revision,
}

impl Plan {
    pub(super) fn new(ranges: &[KeyRange]) -> Self {
        Plan { walk: walk(ranges), deletions: 0, mirrored: 0, newest_page: 0 }
    }

    pub(super) fn walk(&mut self) -> &mut Walk {
        &mut self.walk
    }
}

#[derive(Debug)]
pub(super) struct Sweep {
    walk: Walk,
    round: u32,
    batches: u32,
    /// The standby's revision at the first page: everything created before it is looked at.
    seen: Option<Revision>,
    /// The newest revision of the primary a page was read at.
    newest_page: Revision,
    mirrored: u64,
    deleted: u64,
    /// Keys to delete, with the creation revision they must still have: a key made anew is another one, one that a local
    /// controller only changed is not.
    deletes: BTreeMap<Bytes, Revision>,
    /// Keys of the primary that its objects' content takes out of scope: on the standby they count as surplus.
    pub(super) leaving: HashSet<Bytes>,
    /// Keys whose origin lies in the standby's history, by the revision to ask about next.
    asking: BTreeMap<Revision, Vec<Question>>,
}

impl Sweep {
    /// Queues the next thing to ask; gives the question back when there is none.
    fn ask(&mut self, mut question: Question) -> Option<Question> {
        let Some(next) = question.ask.pop() else { return Some(question) };
        self.asking.entry(next).or_default().push(question);
        None
    }

    /// The primary tells of the key itself: its own change decides, not what a page showed.
    pub(super) fn leave_to_stream(&mut self, key: &Bytes) {
        self.deletes.remove(key);
        self.asking.values_mut().for_each(|questions| questions.retain(|question| question.key != key));
    }

    /// Whether only what was heard by now must be applied before the next step: deletions, or the last record.
    pub(super) fn is_ending(&self, heard: Revision) -> bool {
        let read = self.walk.finished() || (self.walk.at_rest() && self.deletes.len() >= DELETES_QUEUED_MAX);
        read && self.asking.is_empty() && heard >= self.newest_page
    }

    pub(super) fn walk(&mut self) -> &mut Walk {
        &mut self.walk
    }

    /// Whether the key is still to be judged, or judged and not dealt with yet.
    pub(super) fn is_open(&self, key: &Bytes) -> bool {
        let asked = self.asking.values().flatten().any(|question| question.key == key);
        self.walk.is_pending(key) || asked || self.deletes.contains_key(key)
    }
}

impl Session {
    pub(super) fn plan_chunk(&mut self, chunk: Chunk) {
        let Stage::Planning(plan) = &mut self.stage else { return };
        plan.newest_page = plan.newest_page.max(chunk.follow_revision);
        for joined in join(chunk) {
            match joined {
                Joined::Both(..) => plan.mirrored += 1,
                Joined::Lead(kv) => {
                    if self.moments.origin(self.ledger.holds(&kv.key), kv.create_revision, kv.mod_revision)
                        != Origin::Local
                    {
                        plan.mirrored += 1;
                        plan.deletions += 1;
                    }
                }
                Joined::Follow(_) => {}
            }
        }
    }

    pub(super) fn advance_plan(&mut self) -> Result<(), Ended> {
        let Stage::Planning(plan) = &mut self.stage else { return Ok(()) };
        if plan.walk.finished() {
            let (deletions, scope) = (plan.deletions, plan.mirrored);
            // The copy begins at the present: the plan may have taken longer than the primary keeps its history.
            self.primary_revision = self.primary_revision.max(plan.newest_page);
            self.note(Note::Planned { deletions, scope });
            self.guard_deletions(deletions, scope)?;
            self.start_copy();
            return Ok(());
        }
        while let Some((ask, request)) = self.next_walk_read() {
            self.read(ask.side, request, ReadFor::Walk(ask));
        }
        Ok(())
    }

    fn next_walk_read(&mut self) -> Option<(Ask, ReadRange)> {
        match &mut self.stage {
            Stage::Planning(plan) => plan.walk.next_read(),
            Stage::Sweeping(sweep) => sweep.walk.next_read(),
            _ => None,
        }
    }

    fn guard_deletions(&self, deletions: u64, scope: u64) -> Result<(), Ended> {
        // What was accepted for this copy is known; the limit is for what comes on top.
        let unknown = deletions.saturating_sub(self.checkpoint.accepted_deletions.unwrap_or(0));
        if self.config.deletion_guard.allows(unknown, scope) {
            return Ok(());
        }
        Err(Ended::Refused(Refusal::Deletions { deletions, scope }))
    }

    pub(super) fn start_sweep(&mut self) {
        let leaving = match &mut self.stage {
            Stage::Copying(copy) => std::mem::take(&mut copy.leaving),
            _ => HashSet::new(),
        };
        self.begin_sweep(0, 0, leaving);
    }

    fn begin_sweep(&mut self, round: u32, deleted: u64, leaving: HashSet<Bytes>) {
        self.stage = Stage::Sweeping(Sweep {
            walk: walk(self.scope.ranges()),
            round,
            batches: 0,
            seen: None,
            newest_page: 0,
            mirrored: 0,
            deleted,
            deletes: BTreeMap::new(),
            leaving,
            asking: BTreeMap::new(),
        });
    }

    /// A key changed between its page and its deletion: everything is looked at again.
    pub(super) fn sweep_again(&mut self) -> Result<(), Ended> {
        let Stage::Sweeping(sweep) = &mut self.stage else { return Ok(()) };
        let (round, deleted, leaving) = (sweep.round + 1, sweep.deleted, std::mem::take(&mut sweep.leaving));
        if round == ROUNDS_MAX {
            return Err(Ended::Again { force_copy: true, why: "surplus keys kept changing while they were deleted" });
        }
        self.reads.clear();
        self.begin_sweep(round, deleted, leaving);
        Ok(())
    }

    pub(super) fn sweep_chunk(&mut self, chunk: Chunk) -> Result<(), Ended> {
        let Stage::Sweeping(sweep) = &mut self.stage else { return Ok(()) };
        sweep.seen.get_or_insert(chunk.lead_revision);
        sweep.newest_page = sweep.newest_page.max(chunk.follow_revision);
        // A change of a surplus key that was heard before its page, but is not applied yet, decides as one heard later does.
        let waiting = self.batcher.keys();
        for joined in join(chunk) {
            match joined {
                Joined::Both(standby, _) if !sweep.leaving.contains(&standby.key) => {
                    sweep.mirrored += 1;
                    let ours = |revision| self.own_revisions.contains(&revision);
                    let made = standby.create_revision;
                    if made > self.moments.began && !ours(made) && !ours(standby.mod_revision) {
                        // Somebody else made it while this copy ran: a twin of what is left out, or in place of what we wrote.
                        self.ledger.add(standby.key, 0, 0);
                        self.audit_after_copy = true;
                    }
                }
                // Perhaps written by this copy, and taken away since.
                Joined::Follow(_) => self.audit_after_copy = true,
                Joined::Lead(kv) if waiting.contains(&kv.key) => {}
                Joined::Lead(KeyValue { key, create_revision, mod_revision, .. })
                | Joined::Both(KeyValue { key, create_revision, mod_revision, .. }, _) => {
                    match self.moments.origin(self.ledger.holds(&key), create_revision, mod_revision) {
                        Origin::Local => self.ledger.add(key, 0, 0),
                        Origin::Mirrored => drop(sweep.deletes.insert(key, create_revision)),
                        Origin::AskHistory => {
                            sweep.ask(self.moments.question(key, create_revision, mod_revision));
                        }
                    }
                }
            }
        }
        self.guard_ledger()
    }

    /// The marks at a past revision of the standby, or the news that it is compacted.
    pub(super) fn asked_history(&mut self, revision: Revision, result: Result<Page, ReadFailure>) {
        let Stage::Sweeping(sweep) = &mut self.stage else { return };
        let ours = result.as_ref().is_ok_and(|page| {
            let marks: Vec<_> = page.kvs.iter().map(|kv| kv.mod_revision).collect();
            revision_is_ours(revision, &marks)
        });
        for mut question in sweep.asking.remove(&revision).unwrap_or_default() {
            question.compacted |= result.is_err();
            if ours {
                sweep.deletes.insert(question.key, question.create_revision);
            } else if let Some(question) = sweep.ask(question) {
                if question.compacted {
                    self.stats.unknown_origin += 1;
                    self.effects.push_back(Effect::Note(Note::UnknownOrigin { key: question.key.clone() }));
                }
                // Also what nobody can tell goes on record: the next sweep would take it for ours by its age.
                self.ledger.add(question.key, 0, 0);
            }
        }
    }

    pub(super) fn advance_sweep(&mut self) -> Result<(), Ended> {
        if !self.in_flight.is_empty() {
            return Ok(());
        }
        let Stage::Sweeping(sweep) = &mut self.stage else { return Ok(()) };
        if let Some(&revision) = sweep.asking.keys().next() {
            if self.reads.is_empty() {
                self.ask_history(revision);
            }
            return Ok(());
        }
        // Nothing is written while a page is judged: what it shows must still be so when the verdict falls.
        if sweep.walk.at_rest() {
            // A few batches, then a page: neither holds up the other for ever.
            sweep.batches += 1;
            let page_next = sweep.batches > BATCHES_BETWEEN_PAGES && !sweep.is_ending(self.stats.heard);
            if !page_next && self.commit_batch() {
                return Ok(());
            }
        }
        let Stage::Sweeping(sweep) = &mut self.stage else { return Ok(()) };
        sweep.batches = 0;
        if !sweep.walk.at_rest() || (!sweep.walk.finished() && sweep.deletes.len() < DELETES_QUEUED_MAX) {
            while let Some((ask, request)) = self.next_walk_read() {
                self.read(ask.side, request, ReadFor::Walk(ask));
            }
            return Ok(());
        }
        // A page may be ahead of the watch: what it showed is acted on once everything before it is heard and applied.
        let (none, newest_page, seen) = (sweep.deletes.is_empty(), sweep.newest_page, sweep.seen);
        if !self.is_idle() || self.stats.heard < newest_page {
            return Ok(());
        }
        if !none {
            return self.commit_deletes();
        }
        let seen = seen.unwrap_or(self.moments.began);
        self.commit_checkpoint(self.streaming_checkpoint(seen), Changes::default());
        Ok(())
    }

    fn ask_history(&mut self, revision: Revision) {
        let keys = &self.fence.keys;
        let (first, last) =
            (keys.checkpoint.clone().min(keys.copied.clone()), keys.checkpoint.clone().max(keys.copied.clone()));
        let range = KeyRange { start: first, end: successor(&last) };
        let request = ReadRange { range, limit: 0, keys_only: true, revision };
        self.read(Side::Standby, request, ReadFor::Marks(revision));
    }

    fn commit_deletes(&mut self) -> Result<(), Ended> {
        let copied = self.stats.copied.0;
        let Stage::Sweeping(sweep) = &mut self.stage else { return Ok(()) };
        let (deletions, scope) = (sweep.deleted + sweep.deletes.len() as u64, copied.max(sweep.mirrored));
        let count = DELETES_MAX.min(self.config.limits.ops);
        let deletes: Vec<_> = std::iter::from_fn(|| sweep.deletes.pop_first()).take(count).collect();
        sweep.deleted += deletes.len() as u64;
        self.guard_deletions(deletions, scope)?;
        let compares = deletes
            .iter()
            .map(|(key, create_revision)| Compare::CreateRevision { key: key.clone(), revision: *create_revision });
        let ops = deletes.iter().map(|(key, _)| Op::Delete { key: key.clone() }).collect();
        let writes = deletes.iter().map(|(key, _)| Write::Delete { key: key.clone() }).collect();
        self.commit_checkpoint(
            self.checkpoint.clone(),
            Changes { writes, ops, compares: compares.collect(), replay: false },
        );
        Ok(())
    }
}
