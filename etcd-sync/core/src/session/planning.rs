//! Counting what a resync would delete, before anything is written.

use super::shared::{ReadFor, Shared};
use super::trail::Next;
use super::{Ended, Note, ReadFailure};
use crate::etcd::kv::{KeyRange, Revision};
use crate::etcd::request::Page;
use crate::link::provenance::Origin;
use crate::session::sweep;
use crate::session::walk::{Ask, Chunk, Joined, Walk, join};

/// The stage that only counts.
#[derive(Debug)]
pub(super) struct Planning {
    walk: Walk,
    deletions: u64,
    mirrored: u64,
    /// The newest revision of the primary a page was read at.
    newest_page: Revision,
}

impl Planning {
    pub(super) fn new(ranges: &[KeyRange]) -> Self {
        Planning { walk: sweep::walk(ranges), deletions: 0, mirrored: 0, newest_page: 0 }
    }

    pub(super) fn on_page(
        &mut self,
        shared: &Shared,
        ask: Ask,
        result: Result<Page, ReadFailure>,
    ) -> Result<(), Ended> {
        if let Some(chunk) = shared.take_page(&mut self.walk, ask, result)? {
            self.count(shared, chunk);
        }
        Ok(())
    }

    fn count(&mut self, shared: &Shared, chunk: Chunk) {
        self.newest_page = self.newest_page.max(chunk.follow_revision);
        for joined in join(chunk) {
            match joined {
                Joined::Both(..) => self.mirrored += 1,
                Joined::Lead(kv) => {
                    let is_local = shared.ledger.holds(&kv.key);
                    if shared.moments.origin(is_local, kv.create_revision, kv.mod_revision) != Origin::Local {
                        self.mirrored += 1;
                        self.deletions += 1;
                    }
                }
                Joined::Follow(_) => {}
            }
        }
    }

    /// Reads on; when everything is counted, the copy begins if its deletions are allowed.
    pub(super) fn advance(&mut self, shared: &mut Shared) -> Result<Next, Ended> {
        if self.walk.finished() {
            let (deletions, scope) = (self.deletions, self.mirrored);
            // The copy begins at the present: the plan may have taken longer than the primary keeps its history.
            shared.primary_revision = shared.primary_revision.max(self.newest_page);
            shared.note(Note::Planned { deletions, scope });
            shared.guard_deletions(deletions, scope)?;
            return Ok(Next::Copy);
        }
        while shared.may_read_page()
            && let Some((ask, request)) = self.walk.next_read()
        {
            shared.read(ask.side, request, ReadFor::Walk(ask));
        }
        Ok(Next::Stay)
    }
}
