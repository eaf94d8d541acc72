//! The copy: pages of the primary at its newest revision, compared with the standby, only differences written, several
//! transactions under way; the primary's watch runs beside, from before the first page. A change is applied in order once
//! the pages before it are written; a change of a key not paged yet is dropped, because its page will be newer. So the
//! copy converges whatever the primary compacts meanwhile, and no snapshot has to last.
//!
//! CRDs are copied first, then namespaces, then the rest. What may own something or is owned is held back ([`Families`])
//! and written family by family, owners first, when everything is read or too much is held.

mod release;
mod send;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use bytes::Bytes;

use self::release::AskedOwner;
use self::send::Queued;
pub(super) use self::send::op;
use super::examine::{Verdict, member};
use super::{Ended, Note, QUEUED_BYTES_MAX, QUEUED_EVENTS_MAX, ReadFailure, ReadFor, Session, Stage};
use crate::etcd::kv::{Event, KeyRange, KeyValue, Revision};
use crate::etcd::request::Page;
use crate::link::side::Side;
use crate::scope::content::{CRDS, NAMESPACES};
use crate::scope::{Decision, Scope};
use crate::session::batch::{Batcher, Write};
use crate::session::families::Families;
use crate::session::walk::{Ask, Chunk, Joined, Walk, WalkOptions, join};

/// Pages of the primary under way at once: over a long way one leaves it idle for a round trip each.
const LANES: usize = 3;

/// Values read but not sent yet, at most.
const PUTS_QUEUED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Objects held back at most, unless the configuration says otherwise; when it is reached, the families held longest are
/// written until half is left.
pub const HELD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Changes are applied between pages at least so often, or when so many wait: each time costs the pipeline a pause.
const SETTLE_AFTER_MS: u64 = 1_000;
const SETTLE_AFTER_BYTES: usize = 1024 * 1024;
const SETTLE_AFTER_EVENTS: usize = 5_000;

#[derive(Debug)]
pub(super) struct Copy {
    /// `None` until the watch stands: no page may be older than its beginning.
    walk: Option<Walk>,
    /// Changes that wait for the pages before them.
    kept: VecDeque<Event>,
    kept_bytes: usize,
    kept_complete: bool,
    kept_since_ms: u64,
    /// The walked ranges by their start, with the revision their page was read at.
    pages: BTreeMap<Bytes, (KeyRange, Revision)>,
    /// Ends of the ranges that must be on the standby before the next is begun.
    stages: Vec<Bytes>,
    newest_page: Revision,
    /// While changes are applied between pages: everything up to here is among them.
    settling: Option<Revision>,
    queue: VecDeque<Queued>,
    queued_bytes: usize,
    families: Families,
    /// Owners asked for because too much is held to wait for their page; and how many answers are due.
    asked_owners: HashMap<Bytes, AskedOwner>,
    owners_due: usize,
    /// Keys on the standby whose object on the primary is out of scope by its content: the sweep tells whose they are.
    pub(super) leaving: HashSet<Bytes>,
    /// Everything held must be written before the walk goes on.
    release_due: bool,
    /// Everything is read: changes are no longer held back, their own order is right.
    complete: bool,
    written: u64,
}

impl Copy {
    fn new(scope: &Scope) -> Self {
        Copy {
            walk: None,
            kept: VecDeque::new(),
            kept_bytes: 0,
            kept_complete: true,
            kept_since_ms: 0,
            pages: BTreeMap::new(),
            stages: stages(scope).into_iter().map(|range| range.end).collect(),
            newest_page: 0,
            settling: None,
            queue: VecDeque::new(),
            queued_bytes: 0,
            families: Families::default(),
            asked_owners: HashMap::new(),
            owners_due: 0,
            leaving: HashSet::new(),
            release_due: false,
            complete: false,
            written: 0,
        }
    }

    pub(super) fn is_reading(&self) -> bool {
        self.walk.is_some()
    }

    pub(super) fn wants_events(&self) -> bool {
        self.kept_bytes < QUEUED_BYTES_MAX && self.kept.len() < QUEUED_EVENTS_MAX
    }

    pub(super) fn keep_events(&mut self, events: Vec<Event>, complete: bool, now_ms: u64) {
        if self.kept.is_empty() {
            self.kept_since_ms = now_ms;
        }
        self.kept_bytes += events.iter().map(Event::size_bytes).sum::<usize>();
        self.kept.extend(events);
        self.kept_complete = complete;
    }

    /// After a broken stream an incomplete revision is told again from its beginning. False when part of it was taken
    /// already; `taken` is the last revision of which anything was.
    pub(super) fn forget_partial_revision(&mut self, taken: Revision) -> bool {
        if self.kept_complete {
            return true;
        }
        let Some(revision) = self.kept.back().map(Event::revision).filter(|revision| *revision > taken) else {
            return false;
        };
        let whole = self.kept.iter().take_while(|event| event.revision() < revision).count();
        let forgotten: usize = self.kept.drain(whole..).map(|event| event.size_bytes()).sum();
        self.kept_bytes -= forgotten;
        self.kept_complete = true;
        true
    }

    fn must_settle(&self, now_ms: u64) -> bool {
        !self.kept.is_empty()
            && (now_ms >= self.kept_since_ms + SETTLE_AFTER_MS
                || self.kept_bytes > SETTLE_AFTER_BYTES
                || self.kept.len() > SETTLE_AFTER_EVENTS)
    }

    /// Whether a change is not in the pages read so far and not going to be in a later one.
    fn concerns(&self, event: &Event) -> bool {
        if self.walk.as_ref().is_some_and(|walk| walk.is_ahead(event.key())) {
            return false;
        }
        let page = self.pages.range(..=event.key().clone()).next_back();
        page.is_some_and(|(_, (range, read_at))| range.contains(event.key()) && event.revision() > *read_at)
    }

    /// Pages older than everything heard need not be told apart any more.
    fn forget_old_pages(&mut self, heard: Revision) {
        let mut last: Option<(KeyRange, Revision)> = None;
        for (_, (range, read_at)) in std::mem::take(&mut self.pages) {
            let read_at = read_at.max(heard);
            match &mut last {
                Some((before, at)) if *at == read_at && before.end == range.start => before.end = range.end,
                _ => {
                    let done = last.replace((range, read_at));
                    self.pages.extend(done.map(|page| (page.0.start.clone(), page)));
                }
            }
        }
        self.pages.extend(last.map(|page| (page.0.start.clone(), page)));
    }
}

/// CRDs, then namespaces, of each Kubernetes prefix: everything else comes after them.
fn stages(scope: &Scope) -> Vec<KeyRange> {
    [scope.ranges_below(CRDS), scope.ranges_below(NAMESPACES)].concat()
}

/// The order in which a copy walks the scope: disjoint ranges.
fn copy_ranges(scope: &Scope) -> Vec<KeyRange> {
    let first = stages(scope);
    let mut holes = first.clone();
    holes.sort_by(|a, b| a.start.cmp(&b.start));
    let mut rest = Vec::new();
    for range in scope.ranges() {
        let mut start = range.start.clone();
        for hole in holes.iter().filter(|hole| range.contains(&hole.start)) {
            rest.push(KeyRange { start, end: hole.start.clone() });
            start = hole.end.clone();
        }
        rest.push(KeyRange { start, end: range.end.clone() });
    }
    [first, rest].concat()
}

impl Session {
    pub(super) fn start_copy(&mut self) {
        // The standby's record of the primary's revision is no start for this watch: the copy begins at the present.
        let from = self.primary_revision + 1;
        self.batcher = Batcher::resume(from - 1, 0);
        self.stats.heard = from - 1;
        self.stage = Stage::Copying(Box::new(Copy::new(&self.scope)));
        self.watch(Side::Primary, from);
    }

    pub(super) fn primary_opened(&mut self) {
        match &mut self.stage {
            // Only now is it certain that the history behind the record is still there.
            Stage::Streaming(_) => self.note(Note::Streaming { revision: self.checkpoint.revision }),
            Stage::Copying(copy) if copy.walk.is_none() => {
                let options = WalkOptions {
                    prefetch: true,
                    lanes: LANES,
                    alone: copy.stages.len(),
                    ..WalkOptions::new(Side::Primary)
                };
                copy.walk = Some(Walk::new(&copy_ranges(&self.scope), options));
            }
            _ => {}
        }
    }

    /// A page of any walk has come.
    pub(super) fn walked(&mut self, ask: Ask, result: Result<Page, ReadFailure>) -> Result<(), Ended> {
        let walk = match &mut self.stage {
            Stage::Copying(copy) => copy.walk.as_mut(),
            Stage::Planning(plan) => Some(plan.walk()),
            Stage::Sweeping(sweep) => Some(sweep.walk()),
            Stage::Opening { .. } | Stage::Streaming(_) => None,
        };
        let Some(walk) = walk else { return Ok(()) };
        let chunk = match result {
            Ok(page) => walk.page(ask, page),
            Err(ReadFailure::TooLarge) => {
                walk.too_large(ask);
                None
            }
            Err(ReadFailure::Compacted) => {
                return Err(Ended::Again { force_copy: true, why: "a page was compacted while it was read" });
            }
        };
        let Some(mut chunk) = chunk else { return Ok(()) };
        chunk.lead.retain(|kv| self.scope.decide_kv(kv) == Decision::InScope);
        chunk.follow.retain(|kv| self.scope.decide_kv(kv) == Decision::InScope);
        match self.stage {
            Stage::Copying(_) => self.copy_chunk(chunk),
            Stage::Planning(_) => {
                self.plan_chunk(chunk);
                Ok(())
            }
            _ => self.sweep_chunk(chunk),
        }
    }

    fn copy_chunk(&mut self, chunk: Chunk) -> Result<(), Ended> {
        if let Some(newest) = chunk.lead.iter().max_by_key(|kv| kv.mod_revision) {
            self.come_across(&newest.key, newest.mod_revision, false);
        }
        let Stage::Copying(copy) = &mut self.stage else { return Ok(()) };
        copy.newest_page = copy.newest_page.max(chunk.lead_revision);
        copy.pages.insert(chunk.range.start.clone(), (chunk.range.clone(), chunk.lead_revision));
        let stage_ends = copy.stages.contains(&chunk.range.end);
        for joined in join(chunk) {
            match joined {
                Joined::Lead(kv) => self.copy_value(kv, false)?,
                Joined::Both(primary, standby) if primary.value != standby.value => self.copy_value(primary, true)?,
                Joined::Both(primary, _) => {
                    self.stats.equal += 1;
                    self.learn_kind(&primary);
                }
                Joined::Follow(_) => {}
            }
        }
        if let (true, Stage::Copying(copy)) = (stage_ends, &mut self.stage) {
            copy.enqueue_wait();
            // A CRD or namespace with an owner: what lies in it comes after it.
            copy.release_due |= !copy.families.is_empty();
        }
        Ok(())
    }

    /// Queues a value that the standby lacks, or holds back what has a family.
    fn copy_value(&mut self, kv: KeyValue, standby_has_one: bool) -> Result<(), Ended> {
        let Stage::Copying(copy) = &mut self.stage else { return Ok(()) };
        if copy.asked_owners.remove(&kv.key).is_some_and(|asked| asked.done == kv.mod_revision) {
            return Ok(());
        }
        let verdict = self.examine(&kv)?;
        let Stage::Copying(copy) = &mut self.stage else { return Ok(()) };
        let header = match verdict {
            Verdict::Write(header) => header,
            Verdict::Leaves if standby_has_one => {
                copy.leaving.insert(Bytes::copy_from_slice(&kv.key));
                return Ok(());
            }
            Verdict::LeaveOut if standby_has_one => {
                // What the primary does to its own must not touch it.
                self.ledger.add(kv.key, 0, 0);
                return self.guard_ledger();
            }
            Verdict::LeaveOut | Verdict::Leaves => return Ok(()),
        };
        let member = header.and_then(|header| member(self, &kv, &header));
        let Stage::Copying(copy) = &mut self.stage else { return Ok(()) };
        match member {
            Some(member) => copy.families.hold(member),
            None => {
                // Copied, or one difference of each page would keep all those pages in memory.
                let (key, value) = (Bytes::copy_from_slice(&kv.key), Bytes::copy_from_slice(&kv.value));
                copy.enqueue(vec![Write::Put { key, value }]);
            }
        }
        Ok(())
    }

    pub(super) fn advance_copy(&mut self) -> Result<(), Ended> {
        let held_bytes_max = self.config.held_bytes_max;
        let Stage::Copying(copy) = &mut self.stage else { return Ok(()) };
        let must_settle = copy.must_settle(self.now_ms) || copy.families.bytes() >= held_bytes_max || copy.release_due;
        let Some(walk) = &mut copy.walk else { return Ok(()) };
        self.stats.copied = walk.progress();
        if must_settle {
            walk.pause();
        }
        let (finished, paused, at_rest) = (walk.finished(), walk.is_paused(), walk.at_rest());
        let quiet = at_rest && copy.queue.is_empty() && copy.owners_due == 0 && self.in_flight.is_empty();
        if quiet && (paused || finished) && self.settle()? {
            return Ok(());
        }
        self.read_ahead();
        self.commit_puts();
        Ok(())
    }

    /// Everything read is written and nothing is under way: applies the changes kept so far, in order; later ones wait for
    /// the next time. True while it is at it, or when all pages are done.
    fn settle(&mut self) -> Result<bool, Ended> {
        let (heard, held_bytes_max) = (self.stats.heard, self.config.held_bytes_max);
        let Stage::Copying(copy) = &mut self.stage else { return Ok(false) };
        if copy.settling.is_none() {
            copy.settling = Some(heard);
            self.queue_kept()?;
        }
        let Stage::Copying(copy) = &mut self.stage else { return Ok(false) };
        let finished = copy.walk.as_ref().is_some_and(Walk::finished);
        let caught_up = copy.settling >= Some(copy.newest_page);
        if finished && caught_up && copy.complete {
            // What is queued goes on through the sweep, which judges no key that a waiting change writes.
            self.queue_kept()?;
            let Stage::Copying(copy) = &self.stage else { return Ok(false) };
            let written = copy.written;
            self.note(Note::Copied { written, equal: self.stats.equal });
            self.start_sweep();
            return Ok(true);
        }
        if self.commit_batch() {
            return Ok(true);
        }
        let Stage::Copying(copy) = &mut self.stage else { return Ok(false) };
        let settled = copy.settling.take().unwrap_or(0);
        copy.forget_old_pages(settled);
        // With the changes up to the newest page applied, an owner of what is held is held too, or written, or its page is
        // still to come.
        if caught_up && finished {
            copy.complete = true;
            self.release_families(0);
        } else if caught_up && copy.release_due {
            self.release_families(0);
            if let Stage::Copying(copy) = &mut self.stage
                && copy.families.is_empty()
            {
                copy.release_due = false;
                copy.enqueue_wait();
            }
        } else if caught_up && copy.families.bytes() >= held_bytes_max {
            self.release_families(held_bytes_max / 2);
        }
        // No page may come by while an owner is asked for that it holds, nor while too much is held.
        if let Stage::Copying(copy) = &mut self.stage
            && copy.owners_due == 0
            && copy.families.bytes() < held_bytes_max
            && !copy.release_due
            && let Some(walk) = &mut copy.walk
        {
            walk.resume();
        }
        Ok(false)
    }

    /// Hands the changes kept so far to the batcher, those left out that pages already hold or will hold.
    fn queue_kept(&mut self) -> Result<(), Ended> {
        let Stage::Copying(copy) = &mut self.stage else { return Ok(()) };
        let complete = copy.kept_complete;
        copy.kept_bytes = 0;
        let kept = std::mem::take(&mut copy.kept);
        let any = !kept.is_empty();
        for event in kept {
            let revision = event.revision();
            self.come_across(event.key(), revision, matches!(event, Event::Delete { .. }));
            let Stage::Copying(copy) = &mut self.stage else { return Ok(()) };
            let write = if copy.concerns(&event) {
                // What was held of it is older, and goes either way.
                copy.families.remove(event.key());
                self.hold_or_write(event)?
            } else {
                None
            };
            self.batcher.push(revision, write);
        }
        if any && complete {
            self.batcher.end_revision();
        }
        Ok(())
    }

    /// The write for a change between pages; `None` also when it is held back with its family.
    fn hold_or_write(&mut self, event: Event) -> Result<Option<Write>, Ended> {
        let kv = match event {
            Event::Put(kv) if !matches!(&self.stage, Stage::Copying(copy) if copy.complete) => kv,
            event => return self.write_for(event),
        };
        let verdict = self.examine(&kv)?;
        let write = match verdict {
            Verdict::Write(header) => match header.and_then(|header| member(self, &kv, &header)) {
                Some(member) => {
                    self.stays(&kv.key);
                    let Stage::Copying(copy) = &mut self.stage else { return Ok(None) };
                    copy.families.hold(member);
                    None
                }
                None => {
                    self.stays(&kv.key);
                    Some(Write::Put { key: kv.key, value: kv.value })
                }
            },
            Verdict::LeaveOut => None,
            Verdict::Leaves => self.leaves(kv),
        };
        Ok(write)
    }

    fn read_ahead(&mut self) {
        loop {
            let Stage::Copying(copy) = &mut self.stage else { return };
            let Some(walk) = &mut copy.walk else { return };
            if copy.queued_bytes >= PUTS_QUEUED_BYTES_MAX {
                return;
            }
            let Some((ask, request)) = walk.next_read() else { return };
            self.read(ask.side, request, ReadFor::Walk(ask));
        }
    }
}
