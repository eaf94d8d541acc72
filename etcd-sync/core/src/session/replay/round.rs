//! Some lost keys on their way back: what both clusters hold of them and of the owners they name.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::etcd::kv::{KeyValue, Revision};
use crate::link::side::Sides;
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
    /// Of the primary's value, where it can be decoded.
    pub(super) header: Option<Box<Header>>,
}

impl Found {
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

    /// The primary's value has come, with the owners it names.
    pub(super) fn on_primary_value(&mut self, shared: &mut Shared, key: Bytes, kv: KeyValue) -> Result<(), Ended> {
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
