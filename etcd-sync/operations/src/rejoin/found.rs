//! What a key that the two clusters do not hold alike means.

use serde::Serialize;

use super::Divergence;
use etcd_sync_core::etcd::kv::KeyValue;

/// One key on both sides, as far as it is in scope by its name and not bound to a lease.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// On the old primary.
    pub old: Option<&'a KeyValue>,
    /// On the new one.
    pub new: Option<&'a KeyValue>,
    /// The content of the old primary's takes it out of scope.
    pub old_filtered: bool,
    /// The content of the new primary's does.
    pub new_filtered: bool,
    /// The new primary's was made there while it was the standby, not by the synchronizer.
    pub new_is_local: bool,
}

/// What was done to a key on the old primary after the point of divergence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// It was made (perhaps again).
    Created,
    /// It was changed.
    Changed,
}

/// Why only the old primary has a key that it did not write after the point of divergence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The new primary had it when it was promoted, and deleted it since.
    DeletedThere,
    /// The new primary did not have it when it was promoted: it was missed.
    Missed,
    /// One of the two: the moment of the promotion is compacted.
    Unknown,
}

/// What a key means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Both have the same. `later`: the old primary wrote that value after the point of divergence.
    Same {
        /// See above.
        later: bool,
    },
    /// Written on the old primary after the point of divergence, and the new one has something else, or nothing.
    Unreplicated {
        /// What was done.
        change: Change,
        /// The new primary has another value, which replaces it; else it goes.
        replaced: bool,
        /// The new primary has written or deleted the key since its promotion, too.
        both: bool,
    },
    /// Only the old primary has it, not written after the point of divergence: why, is asked of the new primary's history.
    OnlyOld,
    /// Both have it, with other values, and the old primary's is from before the point of divergence.
    Replaced,
    /// Deleted on the old primary after the point of divergence: it comes back.
    DeletedHere,
    /// Only the new primary has it: it comes.
    New,
    /// The old primary's own, out of scope by its content: it stays.
    Own,
    /// The new primary's own, out of scope by its content.
    Ignored,
}

impl Found {
    /// Whether the old primary's value is not there any more afterwards: it is saved before.
    pub fn is_lost(self) -> bool {
        matches!(self, Found::Unreplicated { .. } | Found::OnlyOld | Found::Replaced)
    }
}

/// Judges a key.
pub fn judge(pair: Pair, divergence: &Divergence) -> Found {
    let new = pair.new.filter(|_| !pair.new_filtered);
    match (pair.old, new) {
        (Some(old), Some(new)) if old.value == new.value => Found::Same { later: divergence.is_later(old) },
        (Some(old), Some(new)) if divergence.is_later(old) => {
            let both = new.mod_revision > divergence.promoted;
            Found::Unreplicated { change: change(old, divergence), replaced: true, both }
        }
        (Some(_), Some(_)) => Found::Replaced,
        (Some(_), None) if pair.old_filtered => Found::Own,
        (Some(old), None) if divergence.is_later(old) => {
            // What was there before the point of divergence was there on both, so the new primary has deleted it.
            let change = change(old, divergence);
            Found::Unreplicated { change, replaced: false, both: change == Change::Changed }
        }
        (Some(_), None) => Found::OnlyOld,
        (None, Some(new))
            if divergence.is_known() && new.create_revision <= divergence.promoted && !pair.new_is_local =>
        {
            Found::DeletedHere
        }
        (None, Some(_)) => Found::New,
        (None, None) => Found::Ignored,
    }
}

fn change(old: &KeyValue, divergence: &Divergence) -> Change {
    let made = KeyValue { mod_revision: old.create_revision, ..old.clone() };
    if divergence.is_later(&made) { Change::Created } else { Change::Changed }
}
