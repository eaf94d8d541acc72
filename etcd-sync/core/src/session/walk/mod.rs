//! Walks the same key ranges of two clusters in lockstep, a page at a time: the leading side sets the pace, the other is
//! read over exactly the range each leading page covers. Memory holds a few pages, whatever the number of keys.
//!
//! Where the next page begins is known only when one has come, so over a slow link one page at a time leaves it idle for a
//! round trip each. A walk may therefore have several lanes: each reads a part of a range, page by page.

mod chunk;
mod lane;
mod page_size;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

pub use self::chunk::{Chunk, Joined, join};
use self::lane::{Lane, is_inside, next_bound};
pub use self::page_size::PageBudget;
use self::page_size::{Lanes, PageSizer};
use crate::etcd::kv::{KeyRange, KeyValue, Revision, successor};
use crate::etcd::request::{Page, ReadRange};
use crate::link::side::Side;

/// How a walk reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalkOptions {
    /// The side whose pages set the pace.
    pub lead: Side,
    /// Read no values, on both sides.
    pub keys_only: bool,
    /// Revision to read the leading side at; 0 is the newest at each page.
    pub lead_revision: Revision,
    /// The same for the other side.
    pub follow_revision: Revision,
    /// Read the next leading page while this one is worked on.
    pub prefetch: bool,
    /// Leading pages under way at once, at most. With more than one, chunks do not come in the order of the keys.
    pub lanes: usize,
    /// So many ranges are walked one after the other first, each in one lane, before anything else is begun.
    pub alone: usize,
    /// What the leading side's pages begin with.
    pub begin: PageBudget,
    /// Bytes of a leading page, at most.
    pub page_bytes_max: usize,
}

impl WalkOptions {
    /// Keys and values of both sides, each page at the newest revision, one after the other in key order.
    pub fn new(lead: Side) -> Self {
        WalkOptions {
            lead,
            keys_only: false,
            lead_revision: 0,
            follow_revision: 0,
            prefetch: false,
            lanes: 1,
            alone: 0,
            begin: PageBudget::FULL,
            page_bytes_max: PageBudget::FULL.bytes,
        }
    }
}

/// Whose read it is; its answer comes back with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The cluster to read.
    pub side: Side,
    lane: u64,
    took_ms: u64,
}

impl Ask {
    fn new(side: Side, lane: u64) -> Self {
        Ask { side, lane, took_ms: 0 }
    }

    /// The same, answered after so long. Without it a page counts as one that came at once.
    pub fn took(self, took_ms: u64) -> Self {
        Ask { took_ms, ..self }
    }
}

/// etcd counts all keys of the range of a read, whatever the limit, so pages of one large range cost it the square
/// of the keys. Where more than so many are left, only a part of the range is read at a time.
const BOUND_FROM: u64 = 20_000;

/// The state of a walk. Call [`Walk::next_read`] until it gives nothing, feed each answer to [`Walk::page`].
#[derive(Debug)]
pub struct Walk {
    options: WalkOptions,
    /// Ranges that no lane has begun.
    todo: Vec<KeyRange>,
    /// How many of those that come next are walked alone.
    alone: usize,
    lanes: Vec<Lane>,
    lanes_max: Lanes,
    lanes_opened: u64,
    bound_from: u64,
    lead_pages: VecDeque<LeadPage>,
    follow_requested: bool,
    lead_size: PageSizer,
    follow_size: PageSizer,
    paused: bool,
    /// Keys the leading side has in all, as far as known.
    expected: u64,
    walked: u64,
}

#[derive(Debug)]
struct LeadPage {
    range: KeyRange,
    kvs: std::vec::IntoIter<KeyValue>,
    revision: Revision,
    /// Of a range that is walked alone.
    alone: bool,
}

impl Walk {
    /// A walk over sorted, disjoint ranges.
    pub fn new(ranges: &[KeyRange], options: WalkOptions) -> Self {
        let lead_bytes = options.begin.bytes.min(options.page_bytes_max);
        Walk {
            options,
            todo: ranges.iter().rev().cloned().collect(),
            alone: options.alone,
            lanes: Vec::new(),
            lanes_max: Lanes::new(options.lanes, options.begin.lanes),
            lanes_opened: 0,
            bound_from: BOUND_FROM,
            lead_pages: VecDeque::new(),
            follow_requested: false,
            lead_size: PageSizer::new(options.keys_only, lead_bytes),
            follow_size: PageSizer::new(options.keys_only, PageBudget::FULL.bytes),
            paused: false,
            expected: 0,
            walked: 0,
        }
    }

    /// The next read to make, if any; at most one is under way for the other side, and one for each lane.
    pub fn next_read(&mut self) -> Option<(Ask, ReadRange)> {
        if !self.follow_requested
            && let Some(page) = self.lead_pages.front()
        {
            self.follow_requested = true;
            let read = self.read(page.range.clone(), self.options.follow_revision, &self.follow_size);
            return Some((Ask::new(self.follow(), 0), read));
        }
        let under_way = self.lanes.iter().filter(|lane| lane.requested_end.is_some()).count();
        let buffered_max = if self.options.prefetch { 2 } else { 1 };
        // So at most one page more than there are lanes is under way or buffered.
        if self.paused
            || self.lead_pages.len() >= buffered_max
            || under_way >= self.lanes_max.now()
            || self.lead_pages.len() + under_way > self.lanes_max.now()
        {
            return None;
        }
        self.open_lanes();
        let lane = self.lanes.iter_mut().find(|lane| lane.requested_end.is_none())?;
        let mut range = lane.rest.clone();
        if let Some(bound) = lane.bound.as_ref().filter(|bound| is_inside(&range, bound)) {
            range.end = bound.clone();
        }
        lane.requested_end = Some(range.end.clone());
        let ask = Ask::new(self.options.lead, lane.id);
        Some((ask, self.read(range, self.options.lead_revision, &self.lead_size)))
    }

    /// Takes the answer to a read. Gives the chunk that is now known on both sides.
    pub fn page(&mut self, ask: Ask, page: Page) -> Option<Chunk> {
        if ask.side == self.options.lead {
            self.lanes_max.came(ask.took_ms);
            self.lead_page(ask, page);
            return None;
        }
        self.follow_requested = false;
        self.follow_size.learn(&page, ask.took_ms, PageBudget::FULL.bytes);
        let lead = self.lead_pages.front_mut()?;
        let end = match page.kvs.last() {
            Some(last) if page.more => successor(&last.key),
            _ => lead.range.end.clone(),
        };
        let range = KeyRange { start: lead.range.start.clone(), end: end.clone() };
        let count = lead.kvs.as_slice().iter().take_while(|kv| range.contains(&kv.key)).count();
        let kvs: Vec<_> = lead.kvs.by_ref().take(count).collect();
        self.walked += kvs.len() as u64;
        let lead_revision = lead.revision;
        if page.more {
            lead.range.start = end;
        } else {
            self.lead_pages.pop_front();
        }
        let follow_revision = read_at(self.options.follow_revision, &page);
        Some(Chunk { range, lead: kvs, follow: page.kvs, lead_revision, follow_revision })
    }

    /// An answer was larger than may be received: the same range is read again with fewer keys.
    pub fn too_large(&mut self, ask: Ask) {
        self.read_again(ask).shrink();
    }

    /// An answer did not come in time: the same range is read again with fewer keys, and fewer pages are read at once.
    pub fn timed_out(&mut self, ask: Ask) {
        self.read_again(ask).timed_out();
        if ask.side == self.options.lead {
            self.lanes_max.timed_out();
        }
    }

    /// Nothing came of a read. Gives the size of the pages of its side.
    fn read_again(&mut self, ask: Ask) -> &mut PageSizer {
        if ask.side == self.options.lead {
            self.lanes.iter_mut().filter(|lane| lane.id == ask.lane).for_each(|lane| lane.requested_end = None);
            &mut self.lead_size
        } else {
            self.follow_requested = false;
            &mut self.follow_size
        }
    }

    /// What the leading side's pages have come to, for a later walk to begin with.
    pub fn budget(&self) -> PageBudget {
        PageBudget { bytes: self.lead_size.bytes(), lanes: self.lanes_max.now() }
    }

    /// Starts no read of a leading page until [`Walk::resume`]; what is under way comes to its end.
    pub fn pause(&mut self) {
        self.paused = true;
    }

    /// Whether [`Walk::pause`] is in force.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Goes on after [`Walk::pause`].
    pub fn resume(&mut self) {
        self.paused = false;
    }

    /// Nothing is under way and no page is buffered: everything requested has been given out as chunks.
    pub fn at_rest(&self) -> bool {
        let none_requested = !self.follow_requested && self.lanes.iter().all(|lane| lane.requested_end.is_none());
        none_requested && self.lead_pages.is_empty()
    }

    /// Everything has been walked.
    pub fn finished(&self) -> bool {
        self.todo.is_empty() && self.lanes.is_empty() && self.at_rest()
    }

    /// Whether no page of the leading side has covered `key` yet; a page under way does not count.
    pub fn is_ahead(&self, key: &[u8]) -> bool {
        let begun = self.lanes.iter().map(|lane| &lane.rest);
        begun.chain(&self.todo).any(|range| range.contains(key))
    }

    /// Whether no chunk with `key`'s place has been given out yet.
    pub fn is_pending(&self, key: &[u8]) -> bool {
        self.is_ahead(key) || self.lead_pages.iter().any(|page| page.range.contains(key))
    }

    /// (keys of the leading side walked, keys it has in all as far as known)
    pub fn progress(&self) -> (u64, u64) {
        (self.walked, self.expected.max(self.walked))
    }

    /// Goes on at other revisions from here (the old ones were compacted); buffered pages are read again.
    pub fn rebase(&mut self, lead_revision: Revision, follow_revision: Revision) {
        (self.options.lead_revision, self.options.follow_revision) = (lead_revision, follow_revision);
        self.follow_requested = false;
        self.todo.extend(self.lanes.drain(..).rev().map(|lane| lane.rest));
        self.todo.extend(self.lead_pages.drain(..).rev().map(|page| page.range));
        // Which of these are which is not known any more.
        self.alone = if self.options.alone > 0 { self.todo.len() } else { 0 };
    }

    fn follow(&self) -> Side {
        match self.options.lead {
            Side::Primary => Side::Standby,
            Side::Standby => Side::Primary,
        }
    }

    fn read(&self, range: KeyRange, revision: Revision, size: &PageSizer) -> ReadRange {
        ReadRange { range, limit: size.limit, keys_only: self.options.keys_only, revision }
    }

    /// Begins ranges, or parts of those that are long, until there are as many lanes as there may be.
    fn open_lanes(&mut self) {
        // Who takes the last chunk of a range that is walked alone may pause before anything behind it is read.
        if self.lanes.is_empty() && self.lead_pages.iter().any(|page| page.alone) {
            return;
        }
        while self.lanes.is_empty()
            || self.lanes.len() < self.lanes_max.now() && self.lanes.iter().all(|lane| !lane.alone)
        {
            let alone = self.alone > 0;
            if (self.lanes.is_empty() || !alone)
                && let Some(range) = self.todo.pop()
            {
                self.alone = self.alone.saturating_sub(1);
                self.open_lane(range, alone);
            } else if let Some(rest) = self.lanes.iter_mut().find_map(Lane::split) {
                self.open_lane(rest, false);
            } else {
                return;
            }
        }
    }

    fn open_lane(&mut self, rest: KeyRange, alone: bool) {
        self.lanes_opened += 1;
        self.lanes.push(Lane { id: self.lanes_opened, rest, requested_end: None, bound: None, cut: None, alone });
    }

    fn lead_page(&mut self, ask: Ask, page: Page) {
        let Some(index) = self.lanes.iter().position(|one| one.id == ask.lane) else { return };
        let Some(requested_end) = self.lanes[index].requested_end.take() else { return };
        self.lead_size.learn(&page, ask.took_ms, self.options.page_bytes_max);
        let buffered: u64 = self.lead_pages.iter().map(|page| page.kvs.len() as u64).sum();
        let known = self.walked + buffered;
        let counted = known + page.count as u64;
        let only = self.lanes.len() == 1;
        let lane = &mut self.lanes[index];
        // A part of the range has a part of the keys.
        let whole = only && requested_end == lane.rest.end;
        self.expected = if whole { counted } else { self.expected.max(counted) };
        let left = self.expected.saturating_sub(known + page.kvs.len() as u64);
        lane.bound = if page.more && left > self.bound_from { next_bound(&page) } else { None };
        lane.cut = if page.more { next_bound(&page) } else { None };
        let alone = lane.alone;
        let range = match page.kvs.last() {
            Some(last) if page.more => {
                let end = successor(&last.key);
                let range = KeyRange { start: lane.rest.start.clone(), end: end.clone() };
                lane.rest.start = end;
                range
            }
            _ if requested_end != lane.rest.end => {
                let range = KeyRange { start: lane.rest.start.clone(), end: requested_end.clone() };
                lane.rest.start = requested_end;
                range
            }
            _ => self.lanes.remove(index).rest,
        };
        let revision = read_at(self.options.lead_revision, &page);
        self.lead_pages.push_back(LeadPage { range, kvs: page.kvs.into_iter(), revision, alone });
    }
}

fn read_at(requested: Revision, page: &Page) -> Revision {
    if requested == 0 { page.revision } else { requested }
}
