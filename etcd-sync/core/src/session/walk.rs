//! Walks the same key ranges of two clusters in lockstep, a page at a time: the leading side sets the pace, the other is
//! read over exactly the range each leading page covers. Memory holds a few pages, whatever the number of keys.
//!
//! Where the next page begins is known only when one has come, so over a long way one page at a time leaves the way idle for
//! a round trip each. A walk may therefore have several lanes: each reads a part of a range, page by page.

use std::cmp::Ordering;
use std::collections::VecDeque;

use bytes::Bytes;

use crate::etcd::kv::{KeyRange, KeyValue, Revision, prefix_end, successor};
use crate::etcd::request::{Page, ReadRange};
use crate::link::side::Side;

/// How a walk reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalkOptions {
    /// The side whose pages set the pace.
    pub lead: Side,
    /// Leave the values out on both sides.
    pub keys_only: bool,
    /// Revision to read the leading side at; 0 is the newest at each page.
    pub lead_revision: Revision,
    /// The same for the other side.
    pub follow_revision: Revision,
    /// Ask for the next leading page while this one is worked on.
    pub prefetch: bool,
    /// Leading pages under way at once, at most. With more than one, chunks do not come in the order of the keys.
    pub lanes: usize,
    /// So many ranges are walked one after the other first, each in one lane, before anything else is begun.
    pub alone: usize,
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
        }
    }
}

/// Whose read it is; its answer comes back with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The cluster to ask.
    pub side: Side,
    lane: u64,
}

/// What both sides hold between `range.start` and `range.end`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The keys covered.
    pub range: KeyRange,
    /// The leading side's keys.
    pub lead: Vec<KeyValue>,
    /// The other side's keys.
    pub follow: Vec<KeyValue>,
    /// Revision the leading page was read at.
    pub lead_revision: Revision,
    /// Revision the other page was read at.
    pub follow_revision: Revision,
}

/// etcd counts all keys of the range it is asked for, whatever the limit, so pages of one large range cost it the square
/// of the keys. Where more than so many are left, a page is asked for in a part of the range.
const BOUND_FROM: u64 = 20_000;

/// The state of a walk. Ask [`Walk::next_read`] until it gives nothing, feed each answer to [`Walk::page`].
#[derive(Debug)]
pub struct Walk {
    options: WalkOptions,
    /// Ranges that no lane has begun.
    todo: Vec<KeyRange>,
    /// How many of those that come next are walked alone.
    alone: usize,
    lanes: Vec<Lane>,
    lanes_opened: u64,
    bound_from: u64,
    lead_pages: VecDeque<LeadPage>,
    follow_asked: bool,
    lead_size: PageSizer,
    follow_size: PageSizer,
    paused: bool,
    /// Keys the leading side has in all, as far as known.
    expected: u64,
    walked: u64,
}

/// A part of a range that is read page by page.
#[derive(Debug)]
struct Lane {
    id: u64,
    /// What is left of it; a page under way is a part of that.
    rest: KeyRange,
    /// The end of the range that is asked for at the moment.
    asked_end: Option<Bytes>,
    /// Where the next read may end, when many keys are left.
    bound: Option<Bytes>,
    /// Where another lane may take over, some pages ahead.
    cut: Option<Bytes>,
    alone: bool,
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
        Walk {
            options,
            todo: ranges.iter().rev().cloned().collect(),
            alone: options.alone,
            lanes: Vec::new(),
            lanes_opened: 0,
            bound_from: BOUND_FROM,
            lead_pages: VecDeque::new(),
            follow_asked: false,
            lead_size: PageSizer::new(options.keys_only),
            follow_size: PageSizer::new(options.keys_only),
            paused: false,
            expected: 0,
            walked: 0,
        }
    }

    /// The next read to make, if any; at most one is under way for the other side, and one for each lane.
    pub fn next_read(&mut self) -> Option<(Ask, ReadRange)> {
        if !self.follow_asked
            && let Some(page) = self.lead_pages.front()
        {
            self.follow_asked = true;
            let read = self.read(page.range.clone(), self.options.follow_revision, &self.follow_size);
            return Some((Ask { side: self.follow(), lane: 0 }, read));
        }
        let under_way = self.lanes.iter().filter(|lane| lane.asked_end.is_some()).count();
        let held_max = if self.options.prefetch { 2 } else { 1 };
        // So at most one page more than there are lanes is under way or held.
        if self.paused || self.lead_pages.len() >= held_max || self.lead_pages.len() + under_way > self.options.lanes {
            return None;
        }
        self.open_lanes();
        let lane = self.lanes.iter_mut().find(|lane| lane.asked_end.is_none())?;
        let mut range = lane.rest.clone();
        if let Some(bound) = lane.bound.as_ref().filter(|bound| is_inside(&range, bound)) {
            range.end = bound.clone();
        }
        lane.asked_end = Some(range.end.clone());
        let ask = Ask { side: self.options.lead, lane: lane.id };
        Some((ask, self.read(range, self.options.lead_revision, &self.lead_size)))
    }

    /// Takes the answer to a read. Gives the chunk that is now known on both sides.
    pub fn page(&mut self, ask: Ask, page: Page) -> Option<Chunk> {
        if ask.side == self.options.lead {
            self.lead_page(ask.lane, page);
            return None;
        }
        self.follow_asked = false;
        self.follow_size.learn(&page);
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

    /// An answer was larger than may be received: the same is asked again with fewer keys.
    pub fn too_large(&mut self, ask: Ask) {
        if ask.side == self.options.lead {
            self.lanes.iter_mut().filter(|lane| lane.id == ask.lane).for_each(|lane| lane.asked_end = None);
            self.lead_size.shrink();
        } else {
            self.follow_asked = false;
            self.follow_size.shrink();
        }
    }

    /// Stops asking for new leading pages until [`Walk::resume`]; what is under way comes to its end.
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

    /// Nothing is under way and no page is held: everything asked for has been given out as chunks.
    pub fn at_rest(&self) -> bool {
        let none_asked = !self.follow_asked && self.lanes.iter().all(|lane| lane.asked_end.is_none());
        none_asked && self.lead_pages.is_empty()
    }

    /// Everything has been walked.
    pub fn finished(&self) -> bool {
        self.todo.is_empty() && self.lanes.is_empty() && self.at_rest()
    }

    /// Whether the leading side has not told of `key` yet; a page under way counts as not told.
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

    /// Goes on at other revisions from here (the old ones were compacted); pages held are asked for again.
    pub fn rebase(&mut self, lead_revision: Revision, follow_revision: Revision) {
        (self.options.lead_revision, self.options.follow_revision) = (lead_revision, follow_revision);
        self.follow_asked = false;
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
        // Who takes the last chunk of a range that is walked alone may pause before anything behind it is asked for.
        if self.lanes.is_empty() && self.lead_pages.iter().any(|page| page.alone) {
            return;
        }
        while self.lanes.is_empty()
            || self.lanes.len() < self.options.lanes && self.lanes.iter().all(|lane| !lane.alone)
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
        self.lanes.push(Lane { id: self.lanes_opened, rest, asked_end: None, bound: None, cut: None, alone });
    }

    fn lead_page(&mut self, lane: u64, page: Page) {
        let Some(index) = self.lanes.iter().position(|one| one.id == lane) else { return };
        let Some(asked_end) = self.lanes[index].asked_end.take() else { return };
        self.lead_size.learn(&page);
        let held: u64 = self.lead_pages.iter().map(|page| page.kvs.len() as u64).sum();
        let known = self.walked + held;
        let counted = known + page.count as u64;
        let only = self.lanes.len() == 1;
        let lane = &mut self.lanes[index];
        // A part of the range tells of a part of the keys.
        let whole = only && asked_end == lane.rest.end;
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
            _ if asked_end != lane.rest.end => {
                let range = KeyRange { start: lane.rest.start.clone(), end: asked_end.clone() };
                lane.rest.start = asked_end;
                range
            }
            _ => self.lanes.remove(index).rest,
        };
        let revision = read_at(self.options.lead_revision, &page);
        self.lead_pages.push_back(LeadPage { range, kvs: page.kvs.into_iter(), revision, alone });
    }
}

impl Lane {
    /// Gives away what lies behind [`Lane::cut`].
    fn split(&mut self) -> Option<KeyRange> {
        if self.asked_end.is_some() {
            return None;
        }
        let at = self.cut.take().filter(|at| is_inside(&self.rest, at))?;
        Some(KeyRange { start: at.clone(), end: std::mem::replace(&mut self.rest.end, at) })
    }
}

/// Whether a range can be cut there.
fn is_inside(range: &KeyRange, at: &Bytes) -> bool {
    range.contains(at) && *at > range.start
}

/// An end some pages behind this full one: what begins like all its keys, the last of the common bytes left out. Where that
/// is not far enough, the page is short and the one behind it has no bound.
fn next_bound(page: &Page) -> Option<Bytes> {
    let (first, last) = (&page.kvs.first()?.key, &page.kvs.last()?.key);
    let common = first.iter().zip(&last[..]).take_while(|(a, b)| a == b).count();
    let end = prefix_end(&last[..common.checked_sub(1)?]);
    (!end.is_empty()).then_some(end)
}

fn read_at(asked: Revision, page: &Page) -> Revision {
    if asked == 0 { page.revision } else { asked }
}

/// One key of a [`Chunk`], seen from both sides.
#[derive(Debug, PartialEq, Eq)]
pub enum Joined {
    /// Only the leading side has it.
    Lead(KeyValue),
    /// Only the other side has it.
    Follow(KeyValue),
    /// Both have it: leading side first.
    Both(KeyValue, KeyValue),
}

/// Puts the two sides of a chunk together, in key order.
pub fn join(chunk: Chunk) -> impl Iterator<Item = Joined> {
    let (mut lead, mut follow) = (chunk.lead.into_iter().peekable(), chunk.follow.into_iter().peekable());
    std::iter::from_fn(move || match (lead.peek(), follow.peek()) {
        (None, None) => None,
        (Some(_), None) => lead.next().map(Joined::Lead),
        (None, Some(_)) => follow.next().map(Joined::Follow),
        (Some(a), Some(b)) => match a.key.cmp(&b.key) {
            Ordering::Less => lead.next().map(Joined::Lead),
            Ordering::Greater => follow.next().map(Joined::Follow),
            Ordering::Equal => lead.next().zip(follow.next()).map(|(a, b)| Joined::Both(a, b)),
        },
    })
}

/// Finds the number of keys that makes a page of about [`PageSizer::TARGET_BYTES`].
#[derive(Debug)]
struct PageSizer {
    limit: i64,
    most: i64,
}

impl PageSizer {
    const TARGET_BYTES: usize = 2 * 1024 * 1024;
    const FIRST: i64 = 100;
    /// Cap for pages with values: a run of 1 MiB values behind small ones must not make the server build gigabytes.
    const MOST_VALUES: i64 = 2_000;
    const MOST_KEYS: i64 = 10_000;

    fn new(keys_only: bool) -> Self {
        PageSizer { limit: Self::FIRST, most: if keys_only { Self::MOST_KEYS } else { Self::MOST_VALUES } }
    }

    fn learn(&mut self, page: &Page) {
        if page.kvs.is_empty() {
            return;
        }
        let bytes: usize = page.kvs.iter().map(|kv| kv.key.len() + kv.value.len() + 32).sum();
        let fitting = (Self::TARGET_BYTES * page.kvs.len() / bytes).max(1) as i64;
        self.limit = fitting.min(self.limit * 4).min(self.most);
    }

    fn shrink(&mut self) {
        self.limit = (self.limit / 4).max(1);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    type Model = BTreeMap<Bytes, Bytes>;

    fn serve(model: &Model, read: &ReadRange, page_limit: i64) -> Page {
        let inside: Vec<_> = model.iter().filter(|(key, _)| read.range.contains(key)).collect();
        let limit = read.limit.min(page_limit) as usize;
        let kvs = inside.iter().take(limit).map(|(key, value)| KeyValue {
            key: (*key).clone(),
            value: if read.keys_only { Bytes::new() } else { (*value).clone() },
            create_revision: 1,
            mod_revision: 1,
            lease: 0,
        });
        Page { kvs: kvs.collect(), more: inside.len() > limit, count: inside.len() as i64, revision: 1 }
    }

    fn model(keys: &[u16]) -> Model {
        keys.iter().map(|key| (Bytes::from(format!("/r/{key:05}")), Bytes::from(key.to_string()))).collect()
    }

    proptest! {
        /// Whatever the keys, page limits and a rebase in the middle, every key of both sides comes out exactly once,
        /// with one lane in order.
        #[test]
        fn a_walk_sees_every_key_once(
            lead in prop::collection::vec(0u16..300, 0..120),
            follow in prop::collection::vec(0u16..300, 0..120),
            lead_limit in 1i64..40,
            follow_limit in 1i64..40,
            rebase_after in 0usize..40,
            prefetch: bool,
            bound_from in 0u64..100,
            lanes in 1usize..4,
            alone in 0usize..4,
        ) {
            let (lead, follow) = (model(&lead), model(&follow));
            let ranges = [KeyRange::prefix(b"/r/000"), KeyRange::prefix(b"/r/001"), KeyRange::prefix(b"/r/002")];
            let options = WalkOptions { prefetch, lanes, alone, ..WalkOptions::new(Side::Primary) };
            let mut walk = Walk::new(&ranges, options);
            walk.bound_from = bound_from;
            let (mut seen_lead, mut seen_follow, mut steps) = (Vec::new(), Vec::new(), 0);
            let mut asked = VecDeque::new();
            loop {
                while let Some((ask, read)) = walk.next_read() {
                    // What is walked alone is given out before anything behind it is asked for.
                    if ask.side == Side::Primary {
                        let at = ranges.iter().position(|range| range.contains(&read.range.start)).unwrap_or(0);
                        for before in ["/r/000~", "/r/001~"].into_iter().take(at.min(alone)) {
                            prop_assert!(!walk.is_pending(before.as_bytes()), "{before} is pending at {read:?}");
                        }
                    }
                    asked.push_back((ask, read));
                }
                let under_way = asked.iter().filter(|(ask, _): &&(Ask, _)| ask.side == Side::Primary).count();
                prop_assert!(under_way <= lanes, "{under_way} of {lanes}");
                prop_assert!(under_way + walk.lead_pages.len() <= lanes + 1);
                // Answers come in any order.
                let Some((ask, read)) = asked.remove(steps * 7 % asked.len().max(1)) else { break };
                steps += 1;
                if steps == rebase_after {
                    asked.clear();
                    walk.rebase(0, 0);
                    continue;
                }
                let page = match ask.side {
                    Side::Primary => serve(&lead, &read, lead_limit),
                    Side::Standby => serve(&follow, &read, follow_limit),
                };
                let Some(chunk) = walk.page(ask, page) else { continue };
                for joined in join(chunk) {
                    match joined {
                        Joined::Lead(a) => seen_lead.push(a.key),
                        Joined::Follow(b) => seen_follow.push(b.key),
                        Joined::Both(a, b) => {
                            prop_assert_eq!(&a.key, &b.key);
                            seen_lead.push(a.key);
                            seen_follow.push(b.key);
                        }
                    }
                }
            }
            prop_assert!(walk.finished());
            if lanes == 1 {
                prop_assert!(seen_lead.is_sorted() && seen_follow.is_sorted());
            }
            seen_lead.sort();
            seen_follow.sort();
            prop_assert_eq!(seen_lead, lead.into_keys().collect::<Vec<_>>());
            prop_assert_eq!(seen_follow, follow.into_keys().collect::<Vec<_>>());
        }
    }

    /// Over a long way what counts is how many pages are under way.
    #[test]
    fn a_long_range_is_read_in_lanes() {
        let keys = (0..4_000).map(|number| format!("/r/{}/{:02}/{number:05}", ["a", "b"][number % 2], number % 40));
        let model: Model = keys.map(|key| (Bytes::from(key), Bytes::new())).collect();
        let options = WalkOptions { keys_only: true, prefetch: true, lanes: 3, ..WalkOptions::new(Side::Primary) };
        let mut walk = Walk::new(&[KeyRange::prefix(b"/r/")], options);
        let (empty, mut rounds, mut pages, mut seen) = (Model::new(), 0, 0, 0);
        while !walk.finished() {
            // What is asked on the other side is answered at once, and what is under way on this one all together.
            let mut under_way = Vec::new();
            while let Some((ask, read)) = walk.next_read() {
                if ask.side == Side::Standby {
                    seen += walk.page(ask, serve(&empty, &read, 50)).map_or(0, |chunk| chunk.lead.len());
                } else {
                    under_way.push((ask, read));
                }
            }
            (rounds, pages) = (rounds + 1, pages + under_way.len());
            under_way.into_iter().for_each(|(ask, read)| drop(walk.page(ask, serve(&model, &read, 50))));
        }
        assert_eq!(seen, model.len());
        assert!(pages < 85 && rounds < 45, "{rounds} rounds for {pages} pages");
    }
}
