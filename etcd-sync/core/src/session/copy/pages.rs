//! Which part of the primary a copy has read, and when.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::etcd::kv::{Event, KeyRange, Revision};

/// The walked ranges by their start, with the revision their page was read at.
#[derive(Debug, Default)]
pub(super) struct Pages(BTreeMap<Bytes, (KeyRange, Revision)>);

impl Pages {
    pub(super) fn add(&mut self, range: KeyRange, read_at: Revision) {
        self.0.insert(range.start.clone(), (range, read_at));
    }

    /// Whether a change lies in a part that was read, and is newer than its page.
    pub(super) fn are_older_than(&self, event: &Event) -> bool {
        let page = self.0.range(..=event.key().clone()).next_back();
        page.is_some_and(|(_, (range, read_at))| range.contains(event.key()) && event.revision() > *read_at)
    }

    /// Pages older than everything received need not be distinguished any more.
    pub(super) fn merge_older(&mut self, received: Revision) {
        let mut last: Option<(KeyRange, Revision)> = None;
        for (_, (range, read_at)) in std::mem::take(&mut self.0) {
            let read_at = read_at.max(received);
            match &mut last {
                Some((before, at)) if *at == read_at && before.end == range.start => before.end = range.end,
                _ => {
                    let done = last.replace((range, read_at));
                    self.0.extend(done.map(|page| (page.0.start.clone(), page)));
                }
            }
        }
        self.0.extend(last.map(|page| (page.0.start.clone(), page)));
    }
}
