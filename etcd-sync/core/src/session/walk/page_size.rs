//! How many keys a walk reads at once, and how many pages.

use crate::etcd::request::Page;

/// A page is to come within this time: over a slow link it holds fewer bytes than it might.
const PAGE_MS: u64 = 2_000;

/// Bytes of a page where nothing else limits it.
const PAGE_BYTES: usize = 2 * 1024 * 1024;

/// No page is made smaller than this for its time: where a round trip takes long, small pages only take more of them.
const PAGE_BYTES_LEAST: usize = 64 * 1024;

/// So many pages in good time, one after the other, and one more may be under way.
const GOOD_PAGES: u32 = 16;

/// How large a page should be and how many may be under way at once, as the pages before have shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageBudget {
    /// Bytes of a page, about.
    pub bytes: usize,
    /// Pages under way at once, at most.
    pub lanes: usize,
}

impl PageBudget {
    /// What a fast link gets.
    pub const FULL: PageBudget = PageBudget { bytes: PAGE_BYTES, lanes: usize::MAX };
}

impl Default for PageBudget {
    fn default() -> Self {
        PageBudget::FULL
    }
}

/// Finds the number of keys that makes a page of about so many bytes as come over within [`PAGE_MS`], [`PAGE_BYTES`] at
/// most.
#[derive(Debug)]
pub(super) struct PageSizer {
    pub(super) limit: i64,
    most_keys: i64,
    bytes: usize,
}

impl PageSizer {
    const FIRST: i64 = 100;
    /// Cap for pages with values: a run of 1 MiB values behind small ones must not make the server build gigabytes.
    const MOST_VALUES: i64 = 2_000;
    const MOST_KEYS: i64 = 10_000;
    /// What a page may hold in any case: a cap in proportion to its bytes must not leave a page without keys.
    const CAP_LEAST: i64 = 16;

    pub(super) fn new(keys_only: bool, bytes: usize) -> Self {
        let most_keys = if keys_only { Self::MOST_KEYS } else { Self::MOST_VALUES };
        PageSizer { limit: Self::FIRST, most_keys, bytes: bytes.max(1) }
    }

    /// Bytes that a page should have.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// A page has come after `took_ms`; no page should have more than `most_bytes`.
    pub(super) fn learn(&mut self, page: &Page, took_ms: u64, most_bytes: usize) {
        if page.kvs.is_empty() {
            return;
        }
        let bytes: usize = page.kvs.iter().map(|kv| kv.key.len() + kv.value.len() + 32).sum();
        if took_ms > PAGE_MS {
            let in_time = (bytes as u64 * PAGE_MS / took_ms) as usize;
            // A server that stalled once says little about the link.
            self.bytes = in_time.clamp(self.bytes / 4, self.bytes).max(PAGE_BYTES_LEAST.min(self.bytes));
        } else if took_ms < PAGE_MS / 2 && bytes >= self.bytes / 2 {
            self.bytes = (self.bytes * 2).min(most_bytes.max(1));
        }
        let fitting = (self.bytes as u64 * page.kvs.len() as u64 / bytes as u64).max(1) as i64;
        // On a slow link the values behind small ones must not be large and many either.
        let most = (self.most_keys as u64 * self.bytes as u64 / PAGE_BYTES as u64) as i64;
        self.limit = fitting.min(self.limit * 4).min(most.max(Self::CAP_LEAST)).min(self.most_keys);
    }

    /// A page was too large to be received.
    pub(super) fn shrink(&mut self) {
        self.limit = (self.limit / 4).max(1);
    }

    /// A page did not come in time.
    pub(super) fn timed_out(&mut self) {
        self.shrink();
        self.bytes = (self.bytes / 4).max(PAGE_BYTES_LEAST.min(self.bytes));
    }
}

/// How many pages may be under way at once: half as many after one that did not come in time, one more after many that did.
#[derive(Debug)]
pub(super) struct Lanes {
    now: usize,
    most: usize,
    good: u32,
}

impl Lanes {
    pub(super) fn new(most: usize, begin: usize) -> Self {
        Lanes { now: begin.clamp(1, most.max(1)), most: most.max(1), good: 0 }
    }

    pub(super) fn now(&self) -> usize {
        self.now
    }

    pub(super) fn came(&mut self, took_ms: u64) {
        self.good = if took_ms > 2 * PAGE_MS { 0 } else { self.good + 1 };
        if self.good >= GOOD_PAGES && self.now < self.most {
            (self.now, self.good) = (self.now + 1, 0);
        }
    }

    pub(super) fn timed_out(&mut self) {
        (self.now, self.good) = ((self.now / 2).max(1), 0);
    }
}
