//! What a cluster holds, what differs between two, and waiting for it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use etcd_sync_core::etcd::kv::{KeyRange, KeyValue, Revision, printable};
use etcd_sync_core::etcd::request::ReadRange;

use crate::client::Client;

/// Keys per page of a dump; shrinks when the values are large.
const PAGE_KEYS: i64 = 1000;

/// Everything in `range` at one revision; `revision` 0 is the newest at the time of the first page.
pub async fn dump(client: &Client, range: &KeyRange, mut revision: Revision) -> Result<BTreeMap<Bytes, KeyValue>> {
    let mut all = BTreeMap::new();
    let mut rest = range.clone();
    loop {
        let request = ReadRange { range: rest.clone(), limit: PAGE_KEYS, keys_only: false, revision };
        let page =
            client.read(request).await.with_context(|| format!("read a page from {}", printable(&rest.start)))?;
        if revision == 0 {
            revision = page.revision;
        }
        // The smallest key behind the last one.
        let last = page.kvs.last().map(|kv| Bytes::from([&kv.key[..], &b"\0"[..]].concat()));
        all.extend(page.kvs.into_iter().map(|kv| (kv.key.clone(), kv)));
        match last {
            Some(next) if page.more => rest = range.from(next),
            _ => return Ok(all),
        }
    }
}

/// How a copy differs from what was expected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Expected, and not there.
    pub missed: Vec<Bytes>,
    /// There, and not expected.
    pub surplus: Vec<Bytes>,
    /// There with another value.
    pub mismatched: Vec<Bytes>,
}

impl Difference {
    /// Compares keys and values (not revisions, which are each cluster's own).
    pub fn between(expected: &BTreeMap<Bytes, KeyValue>, actual: &BTreeMap<Bytes, KeyValue>) -> Difference {
        let mut difference = Difference::default();
        for (key, kv) in expected {
            match actual.get(key) {
                None => difference.missed.push(key.clone()),
                Some(other) if other.value != kv.value => difference.mismatched.push(key.clone()),
                Some(_) => {}
            }
        }
        difference.surplus.extend(actual.keys().filter(|key| !expected.contains_key(*key)).cloned());
        difference
    }

    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.missed.is_empty() && self.surplus.is_empty() && self.mismatched.is_empty()
    }
}

/// Counts and the first ten keys of each kind.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, keys) in [("missed", &self.missed), ("surplus", &self.surplus), ("mismatched", &self.mismatched)] {
            let shown: Vec<String> = keys.iter().take(10).map(|key| printable(key)).collect();
            writeln!(f, "{} {kind}: {}", keys.len(), shown.join(", "))?;
        }
        Ok(())
    }
}

/// Asks `condition` every 20 ms until it says `Ok(None)`. What it says meanwhile (`Ok(Some(reason))` or an error) is
/// the failure message when the time is up.
pub async fn await_until<C, F>(what: &str, timeout: Duration, mut condition: C) -> Result<()>
where
    C: FnMut() -> F,
    F: Future<Output = Result<Option<String>>>,
{
    let started = Instant::now();
    loop {
        let reason = match condition().await {
            Ok(None) => return Ok(()),
            Ok(Some(reason)) => reason,
            Err(error) => format!("{error:#}"),
        };
        if started.elapsed() >= timeout {
            bail!("waited {timeout:?} in vain until {what}; at last: {reason}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// [`await_until`] for a condition without a reason: waits until it says `Ok(true)`.
pub async fn await_true<C, F>(what: &str, timeout: Duration, mut condition: C) -> Result<()>
where
    C: FnMut() -> F,
    F: Future<Output = Result<bool>>,
{
    await_until(what, timeout, || {
        let answer = condition();
        async move { Ok((!answer.await?).then(|| "not yet".to_owned())) }
    })
    .await
}
