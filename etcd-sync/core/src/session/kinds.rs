//! Learning what CRDs define, when a session resumes without having copied them.

use super::ReadFailure;
use super::shared::{ReadFor, Shared};
use crate::etcd::kv::{KeyRange, successor};
use crate::etcd::request::{Page, ReadRange};
use crate::link::side::Side;
use crate::scope::content;

/// CRDs read at once: they may be large.
const CRDS_AT_ONCE: i64 = 20;

impl Shared {
    /// Reads the primary's CRDs, unless a session before has done it.
    pub(super) fn read_kinds(&mut self) {
        if !self.kinds_known {
            self.read_next_kinds(self.scope.ranges_below(content::CRDS));
        }
    }

    /// Some CRDs have come. Without an answer owners are looked for by guessing, as for kinds without a CRD.
    pub(super) fn on_kinds(&mut self, mut ranges: Vec<KeyRange>, result: Result<Page, ReadFailure>) {
        if result == Err(ReadFailure::TimedOut) {
            return self.read_next_kinds(ranges);
        }
        let range = ranges.pop();
        if let (Some(range), Ok(page)) = (range, result) {
            page.kvs.iter().for_each(|kv| self.learn_kind(kv));
            if let (true, Some(last)) = (page.more, page.kvs.last()) {
                ranges.push(range.from(successor(&last.key)));
            }
        }
        self.read_next_kinds(ranges);
    }

    fn read_next_kinds(&mut self, ranges: Vec<KeyRange>) {
        match ranges.last().cloned() {
            Some(range) => {
                let request = ReadRange { range, limit: CRDS_AT_ONCE, keys_only: false, revision: 0 };
                self.read(Side::Primary, request, ReadFor::Kinds(ranges));
            }
            None => self.kinds_known = true,
        }
    }
}
