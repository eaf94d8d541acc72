//! The copy: pages of the primary at its newest revision, compared with the standby, only differences written, several
//! transactions under way; the primary's watch runs beside, from before the first page. A change is applied in order once
//! the pages before it are written; a change of a key not paged yet is dropped, because its page will be newer. So the
//! copy converges whatever the primary compacts meanwhile, and no snapshot has to last.
//!
//! CRDs are copied first, then namespaces, then the rest. What may own something or is owned is buffered ([`Families`])
//! and written family by family, owners first, when everything is read or too much is buffered.

mod kept;
mod order;
mod pages;
mod release;
mod send;
mod settle;

use bytes::Bytes;

use self::kept::KeptChanges;
use self::pages::Pages;
use self::release::OwnerReads;
use self::send::Outbox;
use super::examine::Verdict;
use super::shared::{ReadFor, Shared};
use super::trail::{Next, Trail};
use super::{Ended, ReadFailure};
use crate::etcd::kv::{Event, KeyRange, KeyValue, Revision};
use crate::etcd::request::Page;
use crate::link::history::Recent;
use crate::link::side::Side;
use crate::scope::Scope;
use crate::session::batch::{Batcher, Write};
use crate::session::families::Families;
use crate::session::walk::{Ask, Chunk, Joined, PageBudget, Walk, WalkOptions, join};

/// Pages of the primary under way at once: over a slow link one leaves it idle for a round trip each.
const LANES: usize = 3;

/// Values read but not sent yet, at most.
const PUTS_QUEUED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Objects buffered at most, unless the configuration says otherwise; when it is reached, the families buffered longest are
/// written until half is left.
pub const BUFFERED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The ranges in the order of a copy, and how many of them come alone, one after the other.
pub(super) fn ranges(scope: &Scope) -> (Vec<KeyRange>, usize) {
    (order::ranges(scope), order::barriers(scope).len())
}

/// The stage that copies values, the primary's watch running beside.
#[derive(Debug)]
pub(super) struct Copying {
    trail: Trail,
    /// `None` until the watch stands: no page may be older than its beginning.
    walk: Option<Walk>,
    kept: KeptChanges,
    pages: Pages,
    /// Ends of the ranges that must be on the standby before the next is begun.
    barriers: Vec<Bytes>,
    newest_page: Revision,
    /// While changes are applied between pages: everything up to here is among them.
    settling: Option<Revision>,
    outbox: Outbox,
    /// The outcome of a transaction is unknown: the record moves before anything else is sent.
    late_puts: bool,
    families: Families,
    owners: OwnerReads,
    /// Everything buffered must be written before the walk goes on.
    release_due: bool,
    /// Everything is read: changes are no longer buffered, their own order is right.
    complete: bool,
}

impl Copying {
    /// Begins at the primary's present: the standby's record of its revision is no start for this watch.
    pub(super) fn begin(shared: &mut Shared) -> Self {
        let from = shared.primary_revision + 1;
        shared.identity.recent = Recent::default();
        shared.batcher = Batcher::resume(from - 1, 0);
        shared.stats.received_revision = from - 1;
        shared.watch(Side::Primary, from);
        Copying::new(&shared.scope)
    }

    fn new(scope: &Scope) -> Self {
        Copying {
            trail: Trail::default(),
            walk: None,
            kept: KeptChanges::default(),
            pages: Pages::default(),
            barriers: order::barriers(scope).into_iter().map(|range| range.end).collect(),
            newest_page: 0,
            settling: None,
            outbox: Outbox::default(),
            late_puts: false,
            families: Families::default(),
            owners: OwnerReads::default(),
            release_due: false,
            complete: false,
        }
    }

    /// Whether more changes of the primary may be given now.
    pub(super) fn wants_events(&self) -> bool {
        self.kept.has_room()
    }

    /// The primary's watch stands: pages may be read from now on. It may stand again after it broke.
    pub(super) fn on_opened(&mut self, shared: &Shared) {
        let (scope, alone) = (&shared.scope, self.barriers.len());
        self.walk.get_or_insert_with(|| {
            let begin = shared.page_budget;
            let page_bytes_max = shared.copy_reads.step(PageBudget::FULL.bytes);
            let options = WalkOptions {
                prefetch: true,
                lanes: LANES,
                alone,
                begin,
                page_bytes_max,
                ..WalkOptions::new(Side::Primary)
            };
            Walk::new(&order::ranges(scope), options)
        });
    }

    /// Changes of the primary have come. They wait for the pages before them.
    pub(super) fn on_events(&mut self, shared: &mut Shared, events: Vec<Event>, complete: bool) {
        shared.update_received_from(&events, complete);
        self.kept.keep(events, complete, shared.now_ms);
    }

    /// The primary's watch cannot begin where it should.
    pub(super) fn on_compacted(&self, shared: &mut Shared, compact_revision: Revision) -> Result<Next, Ended> {
        if self.walk.is_some() {
            return Err(Ended::PRIMARY_COMPACTED);
        }
        // Nothing is read before the watch stands, so any newer revision serves as well.
        shared.primary_revision = compact_revision;
        Ok(Next::Copy)
    }

    /// A copy is expensive to repeat, so its watch goes on where it broke, if it can.
    pub(super) fn on_watch_closed(&mut self, shared: &mut Shared) -> Result<(), Ended> {
        if !self.kept.forget_partial_revision(shared.batcher.revision()) {
            return Err(Ended::WATCH_BROKE);
        }
        shared.watch(Side::Primary, shared.stats.received_revision + 1);
        Ok(())
    }

    /// What its pages have come to.
    pub(super) fn page_budget(&self, shared: &Shared) -> PageBudget {
        self.walk.as_ref().map_or(shared.page_budget, Walk::budget)
    }

    /// A transaction of this copy was applied.
    pub(super) fn on_committed(&mut self, revision: Revision) {
        self.trail.own_revisions.insert(revision);
    }

    pub(super) fn on_page(
        &mut self,
        shared: &mut Shared,
        ask: Ask,
        result: Result<Page, ReadFailure>,
    ) -> Result<(), Ended> {
        let Some(walk) = &mut self.walk else {
            debug_assert!(false, "no page is read before the watch stands");
            return Ok(());
        };
        match shared.take_page(walk, ask, result)? {
            Some(chunk) => self.on_chunk(shared, chunk),
            None => Ok(()),
        }
    }

    fn on_chunk(&mut self, shared: &mut Shared, chunk: Chunk) -> Result<(), Ended> {
        if let Some(newest) = chunk.lead.iter().max_by_key(|kv| kv.mod_revision) {
            self.trail.update_newest(&newest.key, newest.mod_revision, Some(&newest.value));
        }
        shared.identity.recent.offer_page(chunk.lead.iter());
        self.newest_page = self.newest_page.max(chunk.lead_revision);
        self.pages.add(chunk.range.clone(), chunk.lead_revision);
        let is_barrier = self.barriers.contains(&chunk.range.end);
        for joined in join(chunk) {
            match joined {
                Joined::Lead(kv) => self.on_difference(shared, kv, None)?,
                Joined::Both(primary, standby) if primary.value != standby.value => {
                    self.on_difference(shared, primary, Some(&standby))?;
                }
                Joined::Both(primary, _) => {
                    shared.stats.equal += 1;
                    shared.learn_kind(&primary);
                }
                Joined::Follow(_) => {}
            }
        }
        if is_barrier {
            self.outbox.enqueue_wait();
            // A CRD or namespace with an owner: what lies in it comes after it.
            self.release_due |= !self.families.is_empty();
        }
        Ok(())
    }

    /// Queues a value that the standby lacks, or buffers what has a family.
    fn on_difference(&mut self, shared: &mut Shared, kv: KeyValue, standby: Option<&KeyValue>) -> Result<(), Ended> {
        if self.owners.is_done(&kv.key, kv.mod_revision) {
            return Ok(());
        }
        let header = match shared.examine_content(&kv)? {
            Verdict::Write(header) => header,
            Verdict::LeavesScope if standby.is_some() => {
                self.trail.leaving_scope.insert(Bytes::copy_from_slice(&kv.key));
                return Ok(());
            }
            Verdict::Filtered if standby.is_some() => {
                // What the primary does to its own must not touch it.
                shared.ledger.add(kv.key, 0, 0);
                return shared.guard_ledger();
            }
            Verdict::Filtered | Verdict::LeavesScope => return Ok(()),
        };
        shared.on_older(&kv, standby)?;
        match header.and_then(|header| shared.member(&kv, &header)) {
            Some(member) => self.families.buffer(member),
            None => {
                // Copied, or one difference of each page would keep all those pages in memory.
                let (key, value) = (Bytes::copy_from_slice(&kv.key), Bytes::copy_from_slice(&kv.value));
                self.outbox.enqueue(vec![Write::Put { key, value }]);
            }
        }
        Ok(())
    }

    /// Applies changes when it is time, reads on, sends what is queued.
    pub(super) fn advance(&mut self, shared: &mut Shared) -> Result<Next, Ended> {
        let must_settle = self.kept.must_settle(shared.now_ms) || self.is_full(shared) || self.release_due;
        let Some(walk) = &mut self.walk else { return Ok(Next::Stay) };
        shared.stats.copied = walk.progress();
        if must_settle {
            walk.pause();
        }
        let stopped = walk.is_paused() || walk.finished();
        let quiet = walk.at_rest() && self.outbox.is_empty() && !self.owners.are_due() && shared.in_flight.is_empty();
        if quiet
            && stopped
            && let Some(next) = self.settle(shared)?
        {
            return Ok(next);
        }
        self.read_ahead(shared);
        self.commit_puts(shared);
        Ok(Next::Stay)
    }

    /// Whether as much is buffered as may be.
    fn is_full(&self, shared: &Shared) -> bool {
        self.families.bytes() >= shared.config.buffered_bytes_max
    }

    fn read_ahead(&mut self, shared: &mut Shared) {
        let Some(walk) = &mut self.walk else { return };
        while self.outbox.bytes() < PUTS_QUEUED_BYTES_MAX
            && shared.may_read_page()
            && let Some((ask, request)) = walk.next_read()
        {
            shared.read(ask.side, request, ReadFor::Walk(ask));
        }
    }
}
