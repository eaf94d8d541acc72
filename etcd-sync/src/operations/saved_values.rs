//! Saved keys with their values, wherever they are: in a file, or on the standby itself.

use anyhow::{Context, Result, bail};
use etcd_sync_core::etcd::kv::KeyValue;
use etcd_sync_operations::restore::clearing;
use etcd_sync_store::WriteError;
use etcd_sync_store::link::pair::Pair;
use futures_util::stream::{StreamExt, TryStreamExt, iter};

use super::saved_file::{Place, Saved};

/// Entries deleted at once.
const CLEARED_AT_ONCE: usize = 8;

/// How often the deletion of an entry is tried.
const TRIES: usize = 5;

/// Saved keys, numbered from 0.
pub enum SavedValues {
    /// In a file: read one by one.
    File {
        /// The file.
        file: Saved,
        /// Where each is in it.
        places: Vec<Place>,
    },
    /// On the standby: few enough to be held. Revisions are those of the entries.
    Standby(Vec<KeyValue>),
}

impl SavedValues {
    /// One of them, with its value.
    ///
    /// # Errors
    /// The file was changed while it was read.
    pub fn read(&self, number: usize) -> Result<KeyValue> {
        match self {
            SavedValues::File { file, places } => file.read(places[number]),
            SavedValues::Standby(values) => Ok(values[number].clone()),
        }
    }

    /// Removes entries from the standby, unless they were saved again since they were read; gives how many are gone. A file stays as
    /// it is.
    ///
    /// # Errors
    /// Why the standby cannot be written.
    pub async fn clear(&self, pair: &Pair, numbers: impl Iterator<Item = usize>) -> Result<u64> {
        let SavedValues::Standby(values) = self else { return Ok(0) };
        let clears = numbers.map(|number| clear(pair, &values[number]));
        let cleared = iter(clears).buffered(CLEARED_AT_ONCE);
        cleared.try_fold(0, async |all, gone| Ok(all + u64::from(gone))).await
    }
}

async fn clear(pair: &Pair, entry: &KeyValue) -> Result<bool> {
    for _ in 0..TRIES {
        match pair.standby.txn(clearing(&pair.keys, entry)).await {
            Ok(reply) => return Ok(reply.succeeded),
            // Done twice it does no more.
            Err(WriteError::NotApplied(error) | WriteError::Unknown(error)) if error.is_transient() => {}
            Err(error) => return Err(error).context("a saved value cannot be deleted"),
        }
    }
    bail!("a saved value could not be deleted: run it again")
}
