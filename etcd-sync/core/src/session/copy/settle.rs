//! Applying the primary's changes between pages: everything read is written and nothing is under way.

use std::sync::Arc;

use bytes::Bytes;

use super::Copying;
use crate::etcd::kv::{Event, KeyValue};
use crate::scope::Decision;
use crate::session::batch::Write;
use crate::session::examine::{Change, decide, is_key_in_scope};
use crate::session::shared::Shared;
use crate::session::trail::Next;
use crate::session::walk::Walk;
use crate::session::{Ended, Note};

impl Copying {
    /// Applies the changes kept so far, in order; later ones wait for the next time. Gives what comes next while it is at it,
    /// or when all pages are done; `None` when pages may be read again.
    pub(super) fn settle(&mut self, shared: &mut Shared) -> Result<Option<Next>, Ended> {
        if self.settling.is_none() {
            self.settling = Some(shared.stats.received_revision);
            self.queue_kept(shared)?;
        }
        let finished = self.walk.as_ref().is_some_and(Walk::finished);
        let caught_up = self.settling >= Some(self.newest_page);
        if finished && caught_up && self.complete {
            // What is queued goes on through the sweep, which judges no key that a waiting change writes.
            self.queue_kept(shared)?;
            let (written, equal) = (self.outbox.written(), shared.stats.equal);
            shared.note(Note::Copied { written, equal });
            return Ok(Some(Next::Sweep(std::mem::take(&mut self.trail))));
        }
        if shared.try_commit_batch() {
            return Ok(Some(Next::Stay));
        }
        self.pages.merge_older(self.settling.take().unwrap_or(0));
        if caught_up {
            self.release(shared, finished);
        }
        // No page may come by while an owner is read that it holds, nor while too much is buffered.
        if !self.owners.are_due()
            && !self.is_full(shared)
            && !self.release_due
            && let Some(walk) = &mut self.walk
        {
            walk.resume();
        }
        Ok(None)
    }

    /// With the changes up to the newest page applied, an owner of what is buffered is buffered too, or written, or its page
    /// is still to come: families may be written.
    fn release(&mut self, shared: &mut Shared, finished: bool) {
        if finished {
            self.complete = true;
            self.release_families(shared, 0);
        } else if self.release_due {
            self.release_families(shared, 0);
            if self.families.is_empty() {
                self.release_due = false;
                self.outbox.enqueue_wait();
            }
        } else if self.is_full(shared) {
            self.release_families(shared, shared.config.buffered_bytes_max / 2);
        }
    }

    /// Hands the changes kept so far to the batcher, without those that pages already hold or will hold.
    fn queue_kept(&mut self, shared: &mut Shared) -> Result<(), Ended> {
        let scope = Arc::clone(&shared.scope);
        let (kept, complete) = self.kept.take();
        let any = !kept.is_empty();
        for event in kept {
            let (revision, decision) = (event.revision(), decide(&scope, &event));
            if is_key_in_scope(decision) {
                self.trail.update_newest(event.key(), revision, event.value());
                // What the standby has by now may come from pages newer than this.
                shared.update_recent(&event, 0);
            }
            let write = if self.concerns(&event) {
                // What was buffered of it is older, and goes either way.
                self.families.remove(event.key());
                self.write_for(shared, event, decision)?
            } else {
                None
            };
            shared.batcher.push(revision, write);
        }
        if any && complete {
            shared.batcher.end_revision();
        }
        Ok(())
    }

    /// Whether a change is not in the pages read so far and not going to be in a later one.
    fn concerns(&self, event: &Event) -> bool {
        let is_ahead = self.walk.as_ref().is_some_and(|walk| walk.is_ahead(event.key()));
        !is_ahead && self.pages.are_older_than(event)
    }

    /// The write for a change between pages; `None` also when it is buffered with its family.
    fn write_for(&mut self, shared: &mut Shared, event: Event, decision: Decision<'_>) -> Result<Option<Write>, Ended> {
        Ok(match shared.judge(event, decision)? {
            Change::Put(kv, header) => {
                self.trail.leaving_scope.remove(&kv.key);
                let header = header.filter(|_| !self.complete);
                match header.and_then(|header| shared.member(&kv, &header)) {
                    Some(member) => {
                        self.families.buffer(member);
                        None
                    }
                    None => Some(Write::Put { key: kv.key, value: kv.value }),
                }
            }
            Change::Delete(key) if self.trail.leaving_scope.contains(&key) => None,
            Change::Delete(key) => Some(Write::Delete { key }),
            Change::Filtered => None,
            Change::LeavesScope(kv) => self.on_leaving_scope(shared, kv),
        })
    }

    /// It is not known yet whose the standby's key is: the sweep decides.
    fn on_leaving_scope(&mut self, shared: &Shared, kv: KeyValue) -> Option<Write> {
        // What a waiting change writes is ours once it is written, and no page will show it.
        if shared.batcher.puts(&kv.key) {
            return (kv.lease != 0).then_some(Write::Delete { key: kv.key });
        }
        self.trail.leaving_scope.insert(Bytes::copy_from_slice(&kv.key));
        None
    }
}
