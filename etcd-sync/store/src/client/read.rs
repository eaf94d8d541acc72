//! Reads. All are linearizable, and move on to another member when one fails.

use bytes::Bytes;
use etcd_sync_core::etcd::kv::{KeyRange, KeyValue, Revision};
use etcd_sync_core::etcd::request::{Page, ReadRange};

use crate::client::cluster::{Etcd, Identity};
use crate::client::connection::Method;
use crate::client::convert::{bounds, key_value};
use crate::client::error::Error;
use crate::client::patience::Patience;
use crate::client::proto::{RangeRequest, RangeResponse};

pub(crate) const RANGE: Method = Method { path: "/etcdserverpb.KV/Range", call: "a read", needs_leader: true };

/// What [`Etcd::identity`] looks for. It lies under the prefix every user of etcd-sync may read; it need not exist.
pub(crate) const IDENTITY_KEY: Bytes = Bytes::from_static(b"/etcd-sync/");

impl Etcd {
    /// The cluster's id and newest revision, by a linearizable read of one key under `/etcd-sync/`.
    ///
    /// # Errors
    /// Any of [`Error`]'s after the connection; [`Error::ClusterChanged`] only when every endpoint belongs to another
    /// cluster than the first answer.
    pub async fn identity(&self) -> Result<Identity, Error> {
        let request = RangeRequest { key: IDENTITY_KEY, keys_only: true, limit: 1, ..Default::default() };
        let header = self.range(request).await?.header.unwrap_or_default();
        Ok(Identity { cluster_id: header.cluster_id, revision: header.revision, raft_term: header.raft_term })
    }

    /// Reads a page of keys in key order.
    ///
    /// Keys and values are slices of the received answer: whoever keeps one small key of a large page for long should
    /// copy it, or the whole page stays in memory.
    ///
    /// # Errors
    /// [`Error::Compacted`] and [`Error::FutureRevision`] for the revision asked for, [`Error::MessageTooLarge`] when
    /// the page is longer than [`crate::client::MAX_ANSWER_BYTES`] (halve the limit), or why no member answered.
    pub async fn read(&self, request: ReadRange) -> Result<Page, Error> {
        let ReadRange { range, limit, keys_only, revision } = request;
        let (key, range_end) = bounds(&range);
        let answer = self.range(RangeRequest { key, range_end, limit, revision, keys_only, count_only: false }).await?;
        Ok(Page {
            revision: answer.header.unwrap_or_default().revision,
            kvs: answer.kvs.into_iter().map(key_value).collect(),
            more: answer.more,
            count: answer.count,
        })
    }

    /// How many keys a range holds, and the revision they were counted at.
    ///
    /// # Errors
    /// Why no member answered.
    pub async fn count(&self, range: &KeyRange) -> Result<(i64, Revision), Error> {
        let (key, range_end) = bounds(range);
        let answer = self.range(RangeRequest { key, range_end, count_only: true, ..Default::default() }).await?;
        Ok((answer.count, answer.header.unwrap_or_default().revision))
    }

    /// One key, or `None` when it does not exist, and the revision it was read at. `key` must not be empty.
    ///
    /// # Errors
    /// Why no member answered.
    pub async fn get(&self, key: &[u8]) -> Result<(Option<KeyValue>, Revision), Error> {
        let request = RangeRequest { key: Bytes::copy_from_slice(key), ..Default::default() };
        let answer = self.range(request).await?;
        Ok((answer.kvs.into_iter().next().map(key_value), answer.header.unwrap_or_default().revision))
    }

    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, Error> {
        let patience = Patience::while_it_comes(self.inner.request_timeout);
        let answer: RangeResponse = self.inner.call(RANGE, request, patience).await?;
        self.inner.note_head(answer.header.as_ref());
        Ok(answer)
    }
}
