//! Some lost keys on their way back: what both clusters hold of them and of the owners they name.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::etcd::kv::{KeyValue, Revision};
use crate::link::side::{Side, Sides};
use crate::object::Header;
use crate::scope::content;
use crate::session::Ended;
use crate::session::batch::Write;
use crate::session::examine::Verdict;
use crate::session::shared::{ReadFor, Shared};

/// Owners of owners are followed so far in one round.
const ROUND_WITH_OWNERS_MAX: usize = 128;

/// Some lost keys on their way back, with the owners they name.
#[derive(Debug, Default)]
pub(super) struct Round {
    pub(super) keys: BTreeMap<Bytes, Found>,
    pub(super) reads_due: usize,
    /// Decided, and waiting to be sent one after the other.
    pub(super) txns: Option<VecDeque<Vec<Step>>>,
}

/// What both clusters hold of a key.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) values: Sides<Option<KeyValue>>,
    /// When these were read. A key that comes into a round once more is read again, and answers may overtake each other.
    read_at: Sides<Revision>,
    /// Of the primary's value, where it can be decoded.
    pub(super) header: Option<Box<Header>>,
}

impl Found {
    /// Whether this is the newest that is known of the key on that side.
    fn is_newest(&mut self, side: Side, revision: Revision) -> bool {
        let read_at = self.read_at.get_mut(side);
        let is_newest = revision >= *read_at;
        *read_at = revision.max(*read_at);
        is_newest
    }

    pub(super) fn is_owned(&self) -> bool {
        self.header.as_deref().is_some_and(|header| !content::owners(header).is_empty())
    }
}

/// One key's part of a transaction.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) write: Write,
    /// The creation revision the key must still have on the standby; 0 is absent.
    pub(super) expected: Revision,
}

impl Round {
    /// Reads both sides of a key; false when the round is full.
    pub(super) fn try_add(&mut self, shared: &mut Shared, key: Bytes) -> bool {
        if self.keys.contains_key(&key) {
            return true;
        }
        if self.keys.len() >= ROUND_WITH_OWNERS_MAX {
            return false;
        }
        self.keys.insert(key.clone(), Found::default());
        self.reads_due += 2;
        shared.read_both(&key, ReadFor::Replay);
        true
    }

    /// One side of a key has come, and it is of that revision.
    pub(super) fn on_value(
        &mut self,
        shared: &mut Shared,
        side: Side,
        key: Bytes,
        kv: Option<KeyValue>,
        revision: Revision,
    ) -> Result<(), Ended> {
        let Some(found) = self.keys.get_mut(&key) else { return Ok(()) };
        if !found.is_newest(side, revision) {
            return Ok(());
        }
        if side == Side::Standby {
            found.values.standby = kv;
            return Ok(());
        }
        // Until it is known that it may be put back.
        found.values.primary = None;
        kv.map_or(Ok(()), |kv| self.on_primary_value(shared, key, kv))
    }

    /// The primary's value has come, with the owners it names.
    fn on_primary_value(&mut self, shared: &mut Shared, key: Bytes, kv: KeyValue) -> Result<(), Ended> {
        let Verdict::Write(header) = shared.examine(&kv)? else { return Ok(()) };
        let owners = header.as_deref().map(content::owners).unwrap_or_default();
        let mut all = true;
        for owner in owners {
            for candidate in shared.kinds.keys_of(&shared.scope, &owner, &key) {
                all &= !shared.scope.in_scope(&candidate) || self.try_add(shared, candidate);
            }
        }
        if !all {
            // Without all its owners it is not put back yet: its turn comes again.
            self.keys.remove(&key);
        } else if let Some(found) = self.keys.get_mut(&key) {
            (found.values.primary, found.header) = (Some(kv), header);
        }
        Ok(())
    }
}
