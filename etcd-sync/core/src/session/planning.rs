//! Counting what a resync takes away, before anything is written: deletions, and where nothing proves the primary's history
//! also what it would overwrite with older data.

use super::copy;
use super::losses::SAVED_KEYS_MAX;
use super::shared::{ReadFor, Shared};
use super::trail::Next;
use super::{Ended, Note, ReadFailure};
use crate::etcd::kv::{KeyValue, Revision};
use crate::etcd::request::Page;
use crate::link::provenance::Origin;
use crate::link::question::Losses;
use crate::link::side::Side;
use crate::scope::{Scope, content};
use crate::session::sweep;
use crate::session::walk::{Ask, Chunk, Joined, Walk, WalkOptions, join};

/// The stage that only counts.
#[derive(Debug)]
pub(super) struct Planning {
    walk: Walk,
    /// Values are compared too: the history is in doubt.
    deep: bool,
    losses: Losses,
    /// Keys of them that must be saved first, and their values, as far as known.
    to_save: (u64, u64),
    mirrored: u64,
    /// The newest revision of the primary a page was read at.
    newest_page: Revision,
}

impl Planning {
    pub(super) fn new(shared: &Shared) -> Self {
        // What is proved up to some revision is compared by the copy itself: an ordinary long outage is read once.
        let deep = shared.trust.proved == 0;
        let walk = if deep { deep_walk(&shared.scope) } else { sweep::walk(shared.scope.ranges()) };
        Planning { walk, deep, losses: Losses::default(), to_save: (0, 0), mirrored: 0, newest_page: 0 }
    }

    pub(super) fn on_page(
        &mut self,
        shared: &mut Shared,
        ask: Ask,
        result: Result<Page, ReadFailure>,
    ) -> Result<(), Ended> {
        match shared.take_page(&mut self.walk, ask, result)? {
            Some(chunk) => self.count(shared, chunk),
            None => Ok(()),
        }
    }

    fn count(&mut self, shared: &mut Shared, chunk: Chunk) -> Result<(), Ended> {
        self.newest_page = self.newest_page.max(chunk.follow_revision);
        for joined in join(chunk) {
            match joined {
                Joined::Both(standby, primary) => {
                    self.mirrored += 1;
                    if self.deep {
                        self.compare(shared, &standby, &primary)?;
                    }
                }
                Joined::Lead(kv) => {
                    let is_local = shared.ledger.holds(&kv.key);
                    if shared.moments.origin(is_local, kv.create_revision, kv.mod_revision) == Origin::Local {
                        continue;
                    }
                    self.mirrored += 1;
                    if !shared.is_covered(&kv.key) {
                        self.losses.add_deletion(&shared.scope, &kv.key);
                    }
                    if shared.must_save(&kv.key, kv.mod_revision) {
                        self.add_to_save(&kv);
                    }
                }
                Joined::Follow(primary) if self.deep => shared.learn_kind(&primary),
                Joined::Follow(_) => {}
            }
        }
        Ok(())
    }

    fn compare(&mut self, shared: &mut Shared, standby: &KeyValue, primary: &KeyValue) -> Result<(), Ended> {
        shared.learn_kind(primary);
        if !shared.is_older(primary) || standby.value == primary.value || is_filtered(shared, primary) {
            return Ok(());
        }
        shared.judge_older(primary, standby)?;
        if shared.loses_when_overwritten(standby) {
            self.losses.add_overwrite(&shared.scope, &standby.key);
        }
        if shared.must_save(&standby.key, standby.mod_revision) {
            self.add_to_save(standby);
        }
        Ok(())
    }

    fn add_to_save(&mut self, standby: &KeyValue) {
        self.to_save = (self.to_save.0 + 1, self.to_save.1 + standby.value.len() as u64);
    }

    /// Reads on; when everything is counted, the copy begins if what it takes away is allowed.
    pub(super) fn advance(&mut self, shared: &mut Shared) -> Result<Next, Ended> {
        if self.walk.finished() {
            // The copy begins at the present: the plan may have taken longer than the primary keeps its history.
            shared.primary_revision = shared.primary_revision.max(self.newest_page);
            let overwrites = self.deep.then_some(self.losses.overwrites);
            shared.note(Note::Planned { deletions: self.losses.deletions, overwrites, scope: self.mirrored });
            shared.guard_planned(&self.losses, self.mirrored)?;
            let (keys, bytes) = self.to_save;
            shared.guard_saving(keys.min(SAVED_KEYS_MAX + 1), bytes, &self.losses)?;
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

/// With values, and what defines kinds before what is of them, as the copy itself.
fn deep_walk(scope: &Scope) -> Walk {
    let (ranges, alone) = copy::ranges(scope);
    Walk::new(&ranges, WalkOptions { alone, ..WalkOptions::new(Side::Standby) })
}

fn is_filtered(shared: &Shared, primary: &KeyValue) -> bool {
    content::is_filtered(&shared.scope, &shared.kinds, &shared.config.keyring, primary)
}
