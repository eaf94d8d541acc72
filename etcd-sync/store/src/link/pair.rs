//! Both clusters together.

use etcd_sync_core::link::side::Side;
use etcd_sync_core::link::state::StateKeys;
use etcd_sync_core::session::walk::{Chunk, Walk};
use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::client::Error;
use crate::client::Etcd;
use crate::link::pace::{Pace, Work};

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
        let mut reads = FuturesUnordered::new();
        loop {
            while let Some((ask, request)) = walk.next_read() {
                reads.push(async move { (ask, self.etcd(ask.side).read(request).await) });
            }
            let Some((ask, page)) = reads.next().await else { return Ok(true) };
            match page {
                Ok(page) => {
                    let Some(chunk) = walk.page(ask, page) else { continue };
                    // Between two chunks: a page that waits for its other half may see its revision compacted meanwhile.
                    let work = Work::of(&chunk.lead) + Work::of(&chunk.follow);
                    each(chunk, walk.progress());
                    pace.pay(work, urgent).await;
                }
                Err(Error::MessageTooLarge { .. }) => walk.too_large(ask),
                Err(Error::Compacted { .. }) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    pub(crate) fn etcd(&self, side: Side) -> &Etcd {
        match side {
            Side::Primary => &self.primary,
            Side::Standby => &self.standby,
        }
    }
}
