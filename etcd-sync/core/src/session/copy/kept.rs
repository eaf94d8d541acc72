//! Changes of the primary that wait until the pages before them are written.

use std::collections::VecDeque;

use crate::etcd::kv::{Event, Revision};
use crate::session::{QUEUED_BYTES_MAX, QUEUED_EVENTS_MAX};

/// Changes are applied between pages at least so often, or when so many wait: each time costs the pipeline a pause.
const SETTLE_AFTER_MS: u64 = 1_000;
const SETTLE_AFTER_BYTES: usize = 1024 * 1024;
const SETTLE_AFTER_EVENTS: usize = 5_000;

/// The changes, in their order.
#[derive(Debug, Default)]
pub(super) struct KeptChanges {
    events: VecDeque<Event>,
    bytes: usize,
    /// The last revision goes on in what comes next.
    partial: bool,
    since_ms: u64,
}

impl KeptChanges {
    pub(super) fn has_room(&self) -> bool {
        self.bytes < QUEUED_BYTES_MAX && self.events.len() < QUEUED_EVENTS_MAX
    }

    pub(super) fn keep(&mut self, events: Vec<Event>, complete: bool, now_ms: u64) {
        if self.events.is_empty() {
            self.since_ms = now_ms;
        }
        self.bytes += events.iter().map(Event::size_bytes).sum::<usize>();
        self.events.extend(events);
        self.partial = !complete;
    }

    /// Gives everything out, and whether its last revision is complete.
    pub(super) fn take(&mut self) -> (VecDeque<Event>, bool) {
        self.bytes = 0;
        (std::mem::take(&mut self.events), !self.partial)
    }

    /// After a broken stream an incomplete revision comes again from its beginning. False when part of it was taken
    /// already; `taken` is the last revision of which anything was.
    pub(super) fn forget_partial_revision(&mut self, taken: Revision) -> bool {
        if !self.partial {
            return true;
        }
        let Some(revision) = self.events.back().map(Event::revision).filter(|revision| *revision > taken) else {
            return false;
        };
        let whole = self.events.iter().take_while(|event| event.revision() < revision).count();
        let forgotten: usize = self.events.drain(whole..).map(|event| event.size_bytes()).sum();
        self.bytes -= forgotten;
        self.partial = false;
        true
    }

    pub(super) fn must_settle(&self, now_ms: u64) -> bool {
        !self.events.is_empty()
            && (now_ms >= self.since_ms + SETTLE_AFTER_MS
                || self.bytes > SETTLE_AFTER_BYTES
                || self.events.len() > SETTLE_AFTER_EVENTS)
    }
}
