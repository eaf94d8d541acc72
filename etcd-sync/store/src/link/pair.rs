//! Both clusters together.

use etcd_sync_core::etcd::request::Page;
use etcd_sync_core::link::side::Side;
use etcd_sync_core::link::state::StateKeys;
use etcd_sync_core::session::walk::{Ask, Chunk, Walk};
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::client::Error;
use crate::client::Etcd;
use crate::link::pace::{Pace, Work};

/// A walk over both clusters.
pub struct Chunks<'a> {
    pair: &'a Pair,
    walk: &'a mut Walk,
    reads: FuturesUnordered<BoxFuture<'a, (Ask, Result<Page, Error>)>>,
}

impl Chunks<'_> {
    /// The next chunk; `None`: everything was walked.
    ///
    /// # Errors
    /// Why one of the clusters cannot be read.
    pub async fn next(&mut self) -> Result<Option<Chunk>, Error> {
        loop {
            while let Some((ask, request)) = self.walk.next_read() {
                let etcd = self.pair.etcd(ask.side);
                self.reads.push(async move { (ask, etcd.read(request).await) }.boxed());
            }
            let Some((ask, page)) = self.reads.next().await else { return Ok(None) };
            match page {
                Ok(page) => {
                    if let Some(chunk) = self.walk.page(ask, page) {
                        return Ok(Some(chunk));
                    }
                }
                Err(Error::MessageTooLarge { .. }) => self.walk.too_large(ask),
                Err(error) => return Err(error),
            }
        }
    }
}

/// The two clusters of a link.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The cluster that serves users.
    pub primary: Etcd,
    /// The cluster that is kept ready.
    pub standby: Etcd,
    /// The link's state keys.
    pub keys: StateKeys,
}

impl Pair {
    /// Walks `walk` to its end and gives each chunk to `each`, with (keys walked, keys in all as far as known); `pace` and
    /// `urgent` as in [`Pace::pay`]. A page of a compacted revision ends it early with `Ok(false)`; go on with [`Walk::rebase`].
    ///
    /// # Errors
    /// Why one of the clusters cannot be read.
    pub async fn walk(
        &self,
        walk: &mut Walk,
        pace: &Pace,
        urgent: bool,
        mut each: impl FnMut(Chunk, (u64, u64)),
    ) -> Result<bool, Error> {
        let mut chunks = self.chunks(walk);
        loop {
            match chunks.next().await {
                Ok(Some(chunk)) => {
                    // Between two chunks: a page that waits for its other half may see its revision compacted meanwhile.
                    let work = Work::of(&chunk.lead) + Work::of(&chunk.follow);
                    each(chunk, chunks.walk.progress());
                    pace.pay(work, urgent).await;
                }
                Ok(None) => return Ok(true),
                Err(Error::Compacted { .. }) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    /// The chunks of `walk`, for whoever has to wait between two of them for something else than its pace.
    pub fn chunks<'a>(&'a self, walk: &'a mut Walk) -> Chunks<'a> {
        Chunks { pair: self, walk, reads: FuturesUnordered::new() }
    }

    pub(crate) fn etcd(&self, side: Side) -> &Etcd {
        match side {
            Side::Primary => &self.primary,
            Side::Standby => &self.standby,
        }
    }
}
