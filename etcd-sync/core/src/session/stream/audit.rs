//! The full comparison beside live updates: a process that takes over, or another one that starts, has every key checked
//! once. What the standby lacks is handed to the replay, which reads it again before it writes.

use super::Streaming;
use crate::etcd::request::Page;
use crate::link::side::Side;
use crate::scope::{Decision, Scope};
use crate::session::shared::{ReadFor, Shared};
use crate::session::walk::{Ask, Chunk, Joined, Walk, WalkOptions, join};
use crate::session::{Ended, Note, ReadFailure};

/// A walk over the keys of both sides.
#[derive(Debug)]
pub(in crate::session) struct Audit {
    walk: Walk,
    compared: u64,
    missed: u64,
}

/// When the next comparison begins.
#[derive(Debug, Default)]
pub(in crate::session) struct Schedule {
    wanted: bool,
    began_ms: Option<u64>,
}

/// A replica that crashes again and again has everything compared no more often than this.
const AUDIT_INTERVAL_MS: u64 = 10 * 60_000;

/// No further page is read while so many keys wait to be put back.
const LOST_WAITING_MAX: usize = 1_000;

impl Audit {
    fn new(scope: &Scope) -> Self {
        // The standby is read after the primary: what was written in between is there.
        let options = WalkOptions { keys_only: true, ..WalkOptions::new(Side::Primary) };
        Audit { walk: Walk::new(scope.ranges(), options), compared: 0, missed: 0 }
    }

    /// The chunk that a page completes, if any.
    fn take_page(&mut self, scope: &Scope, ask: Ask, result: Result<Page, ReadFailure>) -> Option<Chunk> {
        let mut chunk = match result {
            Ok(page) => self.walk.page(ask, page)?,
            Err(ReadFailure::TooLarge) => {
                self.walk.too_large(ask);
                return None;
            }
            Err(ReadFailure::TimedOut) => {
                self.walk.timed_out(ask);
                return None;
            }
            // It reads the newest revision, which cannot be compacted.
            Err(ReadFailure::Compacted) => return None,
        };
        chunk.lead.retain(|kv| scope.decide_kv(kv) == Decision::InScope);
        Some(chunk)
    }
}

impl Streaming {
    /// Begins the comparison.
    pub(in crate::session) fn begin_audit(&mut self, shared: &Shared) {
        self.audits = Schedule { wanted: false, began_ms: Some(shared.now_ms) };
        self.audit = Some(Audit::new(&shared.scope));
    }

    /// A comparison is wanted: now, or some time after the last one began.
    pub(super) fn want_audit(&mut self) {
        self.audits.wanted = true;
    }

    /// Whether a comparison is under way or will be.
    pub(in crate::session) fn is_audit_due(&self) -> bool {
        self.audit.is_some() || self.audits.wanted
    }

    /// A page of the comparison has come.
    pub(in crate::session) fn on_audit_page(
        &mut self,
        shared: &Shared,
        ask: Ask,
        result: Result<Page, ReadFailure>,
    ) -> Result<(), Ended> {
        let Some(audit) = &mut self.audit else {
            debug_assert!(false, "an audit ends when all its pages have come");
            return Ok(());
        };
        let Some(chunk) = audit.take_page(&shared.scope, ask, result) else { return Ok(()) };
        chunk.follow.iter().for_each(|kv| self.brake.learn(&shared.scope, &kv.key));
        for joined in join(chunk) {
            match joined {
                // What is newer is on its way.
                Joined::Lead(kv) if kv.mod_revision <= shared.checkpoint.revision => {
                    audit.compared += 1;
                    audit.missed += 1;
                    self.replay.add_lost(&kv.key, shared.now_ms)?;
                }
                Joined::Both(kv, standby) => {
                    audit.compared += 1;
                    // Somebody else made it again, as it seems.
                    if kv.mod_revision <= shared.checkpoint.revision && shared.ledger.holds(&standby.key) {
                        self.replay.add_lost(&standby.key, shared.now_ms)?;
                    }
                }
                Joined::Lead(_) => audit.compared += 1,
                Joined::Follow(_) => {}
            }
        }
        Ok(())
    }

    /// Reads the next pages, or reports the result.
    pub(in crate::session) fn advance_audit(&mut self, shared: &mut Shared) {
        let is_late = |began: u64| shared.now_ms >= began + AUDIT_INTERVAL_MS;
        if self.audits.wanted && self.audit.is_none() && self.audits.began_ms.is_none_or(is_late) {
            self.begin_audit(shared);
        }
        // Of what others did before the session it is not known yet what was lost and what is local.
        if self.tracker.seen() < self.known_from {
            return;
        }
        while let Some(audit) = &mut self.audit {
            if audit.walk.finished() {
                let Audit { compared, missed, .. } = *audit;
                shared.note(Note::Audited { compared, missed });
                self.audit = None;
                self.brake.on_audited();
                return;
            }
            if self.replay.len() >= LOST_WAITING_MAX {
                return;
            }
            let Some((ask, request)) = audit.walk.next_read() else { return };
            shared.read(ask.side, request, ReadFor::Audit(ask));
        }
    }
}
