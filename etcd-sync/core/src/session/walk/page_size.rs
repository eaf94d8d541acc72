//! How many keys a walk reads at once.

use crate::etcd::request::Page;

/// Finds the number of keys that makes a page of about [`PageSizer::TARGET_BYTES`].
#[derive(Debug)]
pub(super) struct PageSizer {
    pub(super) limit: i64,
    most: i64,
}

impl PageSizer {
    const TARGET_BYTES: usize = 2 * 1024 * 1024;
    const FIRST: i64 = 100;
    /// Cap for pages with values: a run of 1 MiB values behind small ones must not make the server build gigabytes.
    const MOST_VALUES: i64 = 2_000;
    const MOST_KEYS: i64 = 10_000;

    pub(super) fn new(keys_only: bool) -> Self {
        PageSizer { limit: Self::FIRST, most: if keys_only { Self::MOST_KEYS } else { Self::MOST_VALUES } }
    }

    pub(super) fn learn(&mut self, page: &Page) {
        if page.kvs.is_empty() {
            return;
        }
        let bytes: usize = page.kvs.iter().map(|kv| kv.key.len() + kv.value.len() + 32).sum();
        let fitting = (Self::TARGET_BYTES * page.kvs.len() / bytes).max(1) as i64;
        self.limit = fitting.min(self.limit * 4).min(self.most);
    }

    pub(super) fn shrink(&mut self) {
        self.limit = (self.limit / 4).max(1);
    }
}
