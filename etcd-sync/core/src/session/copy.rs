//! The copy: pages of the primary at its newest revision, compared with the standby, only differences written, several
//! transactions under way; the primary's watch runs beside, from before the first page. A change is applied in order once
//! the pages before it are written; a change of a key not paged yet is dropped, because its page will be newer. So the
//! copy converges whatever the primary compacts meanwhile, and no snapshot has to last.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{Ended, Flight, Note, QUEUED_BYTES_MAX, QUEUED_EVENTS_MAX, ReadFailure, ReadFor, Session, Stage};
use crate::batch::{Batcher, Write};
use crate::kv::{Event, Revision};
use crate::request::{Op, Page};
use crate::scope::Decision;
use crate::walk::{Chunk, Joined, Side, Walk, WalkOptions, join};

/// Values read but not sent yet, at most.
const PUTS_QUEUED_BYTES_MAX: usize = 4 * 1024 * 1024;

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
    /// For the walked ranges, in key order: (end of the range, revision its page was read at).
    pages: Vec<(Bytes, Revision)>,
    newest_page: Revision,
    /// While changes are applied between pages: everything up to here is among them.
    settling: Option<Revision>,
    puts: VecDeque<Write>,
    puts_bytes: usize,
    written: u64,
}

impl Copy {
    fn new() -> Self {
        Copy {
            walk: None,
            kept: VecDeque::new(),
            kept_bytes: 0,
            kept_complete: true,
            kept_since_ms: 0,
            pages: Vec::new(),
            newest_page: 0,
            settling: None,
            puts: VecDeque::new(),
            puts_bytes: 0,
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
        let page = self.pages.partition_point(|(end, _)| !end.is_empty() && end <= event.key());
        self.pages.get(page).is_some_and(|(_, read_at)| event.revision() > *read_at)
    }

    /// Pages older than everything heard need not be told apart any more.
    fn forget_old_pages(&mut self, heard: Revision) {
        for (_, read_at) in &mut self.pages {
            *read_at = (*read_at).max(heard);
        }
        let mut kept: Vec<(Bytes, Revision)> = Vec::new();
        for page in self.pages.drain(..) {
            match kept.last_mut() {
                Some(last) if last.1 == page.1 => last.0 = page.0,
                _ => kept.push(page),
            }
        }
        self.pages = kept;
    }
}

impl Session {
    pub(super) fn start_copy(&mut self) {
        // The standby's record of the primary's revision is no start for this watch: the copy begins at the present.
        let from = self.primary_revision + 1;
        self.batcher = Batcher::resume(from - 1, 0);
        self.stats.heard = from - 1;
        self.stage = Stage::Copying(Copy::new());
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
                copy.walk = Some(Walk::new(self.scope.ranges(), options));
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
            Stage::Planning(_) => self.plan_chunk(chunk),
            _ => return self.sweep_chunk(chunk),
        }
        Ok(())
    }

    fn copy_chunk(&mut self, chunk: Chunk) {
        if let Some(newest) = chunk.lead.iter().max_by_key(|kv| kv.mod_revision) {
            self.come_across(&newest.key, newest.mod_revision, false);
        }
        let Stage::Copying(copy) = &mut self.stage else { return };
        copy.newest_page = copy.newest_page.max(chunk.lead_revision);
        copy.pages.push((chunk.range.end.clone(), chunk.lead_revision));
        for joined in join(chunk) {
            let kv = match joined {
                Joined::Lead(kv) => kv,
                Joined::Both(primary, standby) if primary.value != standby.value => primary,
                Joined::Both(..) => {
                    self.stats.equal += 1;
                    continue;
                }
                Joined::Follow(_) => continue,
            };
            let write = Write::Put { key: kv.key, value: kv.value };
            copy.puts_bytes += write.size_bytes();
            copy.puts.push_back(write);
        }
    }

    pub(super) fn advance_copy(&mut self) -> Result<(), Ended> {
        let Stage::Copying(copy) = &mut self.stage else { return Ok(()) };
        let must_settle = copy.must_settle(self.now_ms);
        let Some(walk) = &mut copy.walk else { return Ok(()) };
        self.stats.copied = walk.progress();
        if must_settle {
            walk.pause();
        }
        let quiet = walk.at_rest() && copy.puts.is_empty() && self.in_flight.is_empty();
        if quiet && (walk.is_paused() || walk.finished()) && self.settle() {
            return Ok(());
        }
        self.read_ahead();
        self.commit_puts();
        Ok(())
    }

    /// Everything read is written and nothing is under way: applies the changes kept so far, in order; later ones wait for
    /// the next time. True while it is at it, or when all pages are done.
    fn settle(&mut self) -> bool {
        let heard = self.stats.heard;
        let Stage::Copying(copy) = &mut self.stage else { return false };
        if copy.settling.is_none() {
            copy.settling = Some(heard);
            self.queue_kept();
        }
        let Stage::Copying(copy) = &mut self.stage else { return false };
        let last = copy.walk.as_ref().is_some_and(Walk::finished) && copy.settling >= Some(copy.newest_page);
        if last {
            // What is queued goes on through the sweep, which judges no key that a waiting change writes.
            self.queue_kept();
            let Stage::Copying(copy) = &self.stage else { return false };
            let written = copy.written;
            self.note(Note::Copied { written, equal: self.stats.equal });
            self.start_sweep();
            return true;
        }
        if self.commit_batch() {
            return true;
        }
        let Stage::Copying(copy) = &mut self.stage else { return false };
        let settled = copy.settling.take().unwrap_or(0);
        copy.forget_old_pages(settled);
        if let Some(walk) = &mut copy.walk {
            walk.resume();
        }
        false
    }

    /// Hands the changes kept so far to the batcher, those left out that pages already hold or will hold.
    fn queue_kept(&mut self) {
        let Stage::Copying(copy) = &mut self.stage else { return };
        let complete = copy.kept_complete;
        copy.kept_bytes = 0;
        let kept = std::mem::take(&mut copy.kept);
        let any = !kept.is_empty();
        for event in kept {
            let Stage::Copying(copy) = &self.stage else { return };
            let (revision, concerns) = (event.revision(), copy.concerns(&event));
            self.come_across(event.key(), revision, matches!(event, Event::Delete { .. }));
            let write = if concerns { self.write_for(event) } else { None };
            self.batcher.push(revision, write);
        }
        if any && complete {
            self.batcher.end_revision();
        }
    }

    fn read_ahead(&mut self) {
        loop {
            let Stage::Copying(copy) = &mut self.stage else { return };
            let Some(walk) = &mut copy.walk else { return };
            if copy.puts_bytes >= PUTS_QUEUED_BYTES_MAX {
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
            // One operation of each transaction is the mark; a put of a local key takes one more for the ledger.
            let (limits, last) = (self.config.limits, walk.at_rest());
            let full = copy.puts.len() >= limits.ops || copy.puts_bytes >= limits.bytes;
            if self.in_flight.len() >= self.config.in_flight_max || copy.puts.is_empty() || !(full || last) {
                return;
            }
            let (mut ops, mut writes, mut bytes) = (Vec::new(), Vec::new(), 0);
            while let Some(write) = copy.puts.front() {
                let cost = if self.ledger.is_written(write.key()) { 2 } else { 1 };
                bytes += write.size_bytes();
                if !writes.is_empty() && (ops.len() + cost > limits.ops || bytes > limits.bytes) {
                    break;
                }
                let Some(write) = copy.puts.pop_front() else { break };
                copy.puts_bytes -= write.size_bytes();
                if self.ledger.is_written(write.key()) {
                    ops.push(Op::Delete { key: self.fence.keys.local_entry(write.key()) });
                }
                ops.push(op(&write));
                writes.push(write);
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

/// The operation that makes a write.
pub(super) fn op(write: &Write) -> Op {
    match write {
        Write::Put { key, value } => Op::Put { key: key.clone(), value: value.clone(), lease: 0 },
        Write::Delete { key } => Op::Delete { key: key.clone() },
    }
}
