//! The copy: pages of the primary at its newest revision, compared with the standby, only differences written, several
//! transactions under way; the primary's watch runs beside, from before the first page. A change is applied in order once
//! the pages before it are written; a change of a key not paged yet is dropped, because its page will be newer. So the
//! copy converges whatever the primary compacts meanwhile, and no snapshot has to last.
//!
//! CRDs are copied first, then namespaces, then the rest. What may own something or is owned is held back ([`Families`])
//! and written family by family, owners first, when everything is read or too much is held.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use bytes::Bytes;

use super::examine::{Verdict, member, member_of};
use super::{Ended, Flight, Note, QUEUED_BYTES_MAX, QUEUED_EVENTS_MAX, ReadFailure, ReadFor, Session, Stage};
use crate::batch::{Batcher, Write};
use crate::content::{self, CRDS, NAMESPACES};
use crate::families::{Families, Member, Step, Stranger, steps};
use crate::kv::{Event, KeyRange, KeyValue, Revision, successor};
use crate::request::{Op, Page, ReadRange};
use crate::scope::{Decision, Scope};
use crate::walk::{Chunk, Joined, Side, Walk, WalkOptions, join};

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

/// What both sides have of an owner, until its page has come by.
#[derive(Debug, Default)]
struct AskedOwner {
    primary: Option<KeyValue>,
    standby: Option<KeyValue>,
    answers: u8,
    /// Read at this revision of the primary, with this UID.
    at: Revision,
    uid: String,
    /// The change of the primary that is dealt with.
    done: Revision,
}

/// What waits to be sent.
#[derive(Debug)]
enum Queued {
    /// In one transaction with whatever fits.
    Together(Vec<Write>),
    /// Nothing behind it before everything ahead of it is committed.
    Wait,
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

    fn enqueue(&mut self, writes: Vec<Write>) {
        self.queued_bytes += writes.iter().map(Write::size_bytes).sum::<usize>();
        self.queue.push_back(Queued::Together(writes));
    }

    fn enqueue_wait(&mut self) {
        if !matches!(self.queue.back(), Some(Queued::Wait)) {
            self.queue.push_back(Queued::Wait);
        }
    }
}

/// CRDs, then namespaces, of each Kubernetes prefix: everything else comes after them.
fn stages(scope: &Scope) -> Vec<KeyRange> {
    let below = |directory: &str| {
        scope.kubernetes_prefixes().map(|prefix| KeyRange::prefix(format!("{prefix}{directory}").as_bytes())).collect()
    };
    let (crds, namespaces): (Vec<_>, Vec<_>) = (below(CRDS), below(NAMESPACES));
    [crds, namespaces].concat()
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
                    lead: Side::Primary,
                    keys_only: false,
                    lead_revision: 0,
                    follow_revision: 0,
                    prefetch: true,
                };
                copy.walk = Some(Walk::new(&copy_ranges(&self.scope), options));
            }
            _ => {}
        }
    }

    /// A page of any walk has come.
    pub(super) fn walked(&mut self, side: Side, result: Result<Page, ReadFailure>) -> Result<(), Ended> {
        let walk = match &mut self.stage {
            Stage::Copying(copy) => copy.walk.as_mut(),
            Stage::Planning(plan) => Some(plan.walk()),
            Stage::Sweeping(sweep) => Some(sweep.walk()),
            Stage::Opening { .. } | Stage::Streaming(_) => None,
        };
        let Some(walk) = walk else { return Ok(()) };
        let chunk = match result {
            Ok(page) => walk.page(side, page),
            Err(ReadFailure::TooLarge) => {
                walk.too_large(side);
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
            None => copy.enqueue(vec![Write::Put { key: kv.key, value: kv.value }]),
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

    /// Queues the families held longest, until at most `left` bytes are held. An owner that is neither held nor written, but
    /// whose page is still to come, is asked for first.
    fn release_families(&mut self, left: usize) {
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
            let cost: usize = members.iter().map(|member| if ledger.is_written(&member.key) { 2 } else { 1 }).sum();
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
            for side in [Side::Primary, Side::Standby] {
                let range = KeyRange { start: key.clone(), end: successor(key) };
                let request = ReadRange { range, limit: 1, keys_only: false, revision: 0 };
                self.read(side, request, ReadFor::Owner(side, key.clone()));
            }
        }
        !keys.is_empty()
    }

    /// An owner has come ahead of its page.
    pub(super) fn owner_read(
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
            let Some((side, request)) = walk.next_read() else { return };
            self.read(side, request, ReadFor::Walk(side));
        }
    }

    /// Sends what is queued, in full transactions while more pages are coming.
    fn commit_puts(&mut self) {
        loop {
            let Stage::Copying(copy) = &mut self.stage else { return };
            let Some(walk) = &copy.walk else { return };
            if let Some(Queued::Wait) = copy.queue.front() {
                if !self.in_flight.is_empty() {
                    return;
                }
                copy.queue.pop_front();
                continue;
            }
            // One operation of each transaction is the mark; a put of a local key takes one more for the ledger.
            let (limits, held_bytes_max) = (self.config.limits, self.config.held_bytes_max);
            let full = copy.queue.len() >= limits.ops || copy.queued_bytes >= limits.bytes;
            let due = full || walk.at_rest() || copy.complete || copy.families.bytes() >= held_bytes_max;
            if self.in_flight.len() >= self.config.in_flight_max || copy.queue.is_empty() || !due {
                return;
            }
            let (mut ops, mut writes, mut bytes) = (Vec::new(), Vec::new(), 0);
            while let Some(Queued::Together(next)) = copy.queue.front_mut() {
                let cost = |write: &Write| if self.ledger.is_written(write.key()) { 2 } else { 1 };
                let unit_ops: usize = next.iter().map(cost).sum();
                let unit_bytes: usize = next.iter().map(Write::size_bytes).sum();
                if !writes.is_empty() && (ops.len() + unit_ops > limits.ops || bytes + unit_bytes > limits.bytes) {
                    break;
                }
                // A unit too large by itself (entries of the ledger came to it) goes in parts, one after the other.
                let mut left = limits.ops;
                let part = next
                    .iter()
                    .take_while(|write| {
                        cost(write) <= left && {
                            left -= cost(write);
                            true
                        }
                    })
                    .count();
                let rest = next.split_off(part.max(1));
                for write in next.drain(..) {
                    bytes += write.size_bytes();
                    copy.queued_bytes -= write.size_bytes();
                    if self.ledger.is_written(write.key()) {
                        ops.push(Op::Delete { key: self.fence.keys.local_entry(write.key()) });
                    }
                    ops.push(op(&write));
                    writes.push(write);
                }
                copy.queue.pop_front();
                if !rest.is_empty() {
                    copy.queue.push_front(Queued::Together(rest));
                    copy.queue.push_front(Queued::Wait);
                }
            }
            copy.written += writes.len() as u64;
            let (done, total) = walk.progress();
            let mark = format!("{{\"done\":{done},\"total\":{total},\"at_ms\":{}}}", self.now_ms);
            ops.push(Op::Put { key: self.fence.keys.copied.clone(), value: mark.into(), lease: 0 });
            let txn = self.fence.txn(self.checkpoint_value.as_ref(), ops);
            self.send(txn, Flight::Puts(writes));
        }
    }
}

fn put(member: &Member) -> Write {
    Write::Put { key: member.key.clone(), value: member.value.clone() }
}

/// The operation that makes a write.
pub(super) fn op(write: &Write) -> Op {
    match write {
        Write::Put { key, value } => Op::Put { key: key.clone(), value: value.clone(), lease: 0 },
        Write::Delete { key } => Op::Delete { key: key.clone() },
    }
}
