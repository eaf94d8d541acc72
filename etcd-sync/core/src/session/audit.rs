//! The full comparison beside live updates: a process that takes over, or another one that starts, has every key looked at
//! once. What the standby lacks is handed to the replay, which reads it again before it writes.

use super::{Ended, Note, ReadFailure, ReadFor, Session};
use crate::etcd::request::Page;
use crate::link::side::Side;
use crate::scope::Decision;
use crate::session::walk::{Ask, Joined, Walk, WalkOptions, join};

/// A walk over the keys of both sides.
#[derive(Debug)]
pub(super) struct Audit {
    walk: Walk,
    compared: u64,
    missed: u64,
    /// Asked for once more while it was under way.
    again: bool,
}

/// No further page is asked for while so many keys wait to be looked at.
const LOST_WAITING_MAX: usize = 1_000;

impl Session {
    /// Begins the comparison, once more after the one under way.
    pub(super) fn begin_audit(&mut self) {
        if let Some(audit) = &mut self.audit {
            audit.again = true;
            return;
        }
        // The standby is read after the primary: what was written in between is there.
        let options = WalkOptions { keys_only: true, ..WalkOptions::new(Side::Primary) };
        let walk = Walk::new(self.scope.ranges(), options);
        self.audit = Some(Audit { walk, compared: 0, missed: 0, again: false });
    }

    /// A page of the comparison has come.
    pub(super) fn audited(&mut self, ask: Ask, result: Result<Page, ReadFailure>) -> Result<(), Ended> {
        let Some(Audit { walk, .. }) = &mut self.audit else { return Ok(()) };
        let chunk = match result {
            Ok(page) => walk.page(ask, page),
            Err(ReadFailure::TooLarge) => {
                walk.too_large(ask);
                None
            }
            // It reads the newest revision, which cannot be compacted.
            Err(ReadFailure::Compacted) => None,
        };
        let Some(mut chunk) = chunk else { return Ok(()) };
        chunk.lead.retain(|kv| self.scope.decide_kv(kv) == Decision::InScope);
        let (mut compared, mut missed) = (0, 0);
        for joined in join(chunk) {
            match joined {
                // What is newer is on its way.
                Joined::Lead(kv) if kv.mod_revision <= self.checkpoint.revision => {
                    missed += 1;
                    self.lost(&kv.key)?;
                }
                Joined::Both(kv, standby) => {
                    compared += 1;
                    // Somebody else made it anew, as it seems.
                    if kv.mod_revision <= self.checkpoint.revision && self.ledger.holds(&standby.key) {
                        self.lost(&standby.key)?;
                    }
                }
                Joined::Lead(_) => compared += 1,
                Joined::Follow(_) => {}
            }
        }
        if let Some(audit) = &mut self.audit {
            audit.compared += compared + missed;
            audit.missed += missed;
        }
        Ok(())
    }

    /// Asks for the next pages, or tells the result.
    pub(super) fn advance_audit(&mut self) {
        loop {
            let Some(audit) = &mut self.audit else { return };
            if audit.walk.finished() {
                let Audit { compared, missed, again, .. } = *audit;
                self.audit = None;
                self.note(Note::Audited { compared, missed });
                if again {
                    self.begin_audit();
                }
                return;
            }
            if self.replay.len() >= LOST_WAITING_MAX {
                return;
            }
            let Some((ask, request)) = audit.walk.next_read() else { return };
            self.read(ask.side, request, ReadFor::Audit(ask));
        }
    }
}
