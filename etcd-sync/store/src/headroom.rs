//! How much of the primary's history is left before our checkpoint: etcd does not tell, but refuses to read below it.

use crate::client::Etcd;
use crate::error::Error;
use etcd_sync_core::kv::{KeyRange, Revision};
use etcd_sync_core::request::ReadRange;

/// The primary's compact revision as far as it is at or below `checkpoint`, searched by halving from the one `known` so
/// far; 0 while nothing is compacted. `None` when the primary cannot be asked.
pub async fn compacted(primary: &Etcd, known: Revision, checkpoint: Revision) -> Option<Revision> {
    // The compact revision itself can still be read, the one below it cannot.
    let (mut below, mut above) = ((known - 1).clamp(0, checkpoint), checkpoint + 1);
    // Mostly nothing has changed, and one question shows it.
    if below + 1 < above && readable(primary, below + 1).await? {
        above = below + 1;
    }
    while below + 1 < above {
        let middle = below + (above - below) / 2;
        if readable(primary, middle).await? {
            above = middle;
        } else {
            below = middle;
        }
    }
    Some(if below == 0 { 0 } else { below + 1 })
}

async fn readable(primary: &Etcd, revision: Revision) -> Option<bool> {
    // One key that nobody has: the revision is checked before anything is looked up.
    let key = bytes::Bytes::from_static(b"/etcd-sync/headroom");
    let range = KeyRange::single(key);
    match primary.read(ReadRange { range, limit: 1, keys_only: true, revision }).await {
        Ok(_) => Some(true),
        Err(Error::Compacted { .. }) => Some(false),
        Err(_) => None,
    }
}
