//! One lane of a walk, and where long ranges are cut.

use bytes::Bytes;

use crate::etcd::kv::{KeyRange, prefix_end};
use crate::etcd::request::Page;

/// A part of a range that is read page by page.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) id: u64,
    /// What is left of it; a page under way is a part of that.
    pub(super) rest: KeyRange,
    /// The end of the range that is being read.
    pub(super) requested_end: Option<Bytes>,
    /// Where the next read may end, when many keys are left.
    pub(super) bound: Option<Bytes>,
    /// Where another lane may take over, some pages ahead.
    pub(super) cut: Option<Bytes>,
    pub(super) alone: bool,
}

impl Lane {
    /// Gives away what lies behind [`Lane::cut`].
    pub(super) fn split(&mut self) -> Option<KeyRange> {
        if self.requested_end.is_some() {
            return None;
        }
        let at = self.cut.take().filter(|at| is_inside(&self.rest, at))?;
        Some(KeyRange { start: at.clone(), end: std::mem::replace(&mut self.rest.end, at) })
    }
}

/// Whether a range can be cut there.
pub(super) fn is_inside(range: &KeyRange, at: &Bytes) -> bool {
    range.contains(at) && *at > range.start
}

/// An end some pages behind this full one: what begins like all its keys, except the last of the common bytes. Where that
/// is not far enough, the page is short and the one behind it has no bound.
pub(super) fn next_bound(page: &Page) -> Option<Bytes> {
    let (first, last) = (&page.kvs.first()?.key, &page.kvs.last()?.key);
    let common = first.iter().zip(&last[..]).take_while(|(a, b)| a == b).count();
    let end = prefix_end(&last[..common.checked_sub(1)?]);
    (!end.is_empty()).then_some(end)
}
