//! How much of the primary's history is left before our checkpoint: etcd does not report it, but refuses to read below it.

use crate::client::Error;
use crate::client::Etcd;
use bytes::Bytes;
use etcd_sync_core::etcd::kv::Revision;
use etcd_sync_core::etcd::request::ReadRange;

/// The primary's compact revision as far as it is at or below `checkpoint`, searched by halving from the one `known` so
/// far; 0 while nothing is compacted. `key` is any key the caller may read. `None` when the primary cannot be queried.
pub async fn compacted(primary: &Etcd, key: Bytes, known: Revision, checkpoint: Revision) -> Option<Revision> {
    // The compact revision itself can still be read, the one below it cannot.
    let (mut below, mut above) = ((known - 1).clamp(0, checkpoint), checkpoint + 1);
    // Mostly nothing has changed, and one query shows it.
    if below + 1 < above && readable(primary, key.clone(), below + 1).await.ok()? {
        above = below + 1;
    }
    while below + 1 < above {
        let middle = below + (above - below) / 2;
        if readable(primary, key.clone(), middle).await.ok()? {
            above = middle;
        } else {
            below = middle;
        }
    }
    Some(if below == 0 { 0 } else { below + 1 })
}

/// Whether a cluster still has its history at `revision`; `key` is any key the caller may read.
pub(crate) async fn readable(etcd: &Etcd, key: Bytes, revision: Revision) -> Result<bool, Error> {
    match etcd.read(ReadRange::single(key, true, revision)).await {
        Ok(_) => Ok(true),
        Err(Error::Compacted { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}
