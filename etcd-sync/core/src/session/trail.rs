//! From stage to stage: where a session goes next, and what a copy has learned that its sweep needs.

use std::collections::HashSet;

use bytes::Bytes;

use crate::etcd::kv::Revision;
use crate::link::history::Witness;

/// Carried from the copy into the sweep, and from one round of the sweep into the next.
#[derive(Debug, Default)]
pub(super) struct Trail {
    /// The newest change in scope that was met, for the witness of the record that ends the copy.
    newest_change: Option<Witness>,
    /// Revisions of the standby that this session wrote: what else was made meanwhile is not ours.
    pub(super) own_revisions: HashSet<Revision>,
    /// Keys on the standby whose object on the primary is out of scope by its content: the sweep decides whose they are, and
    /// counts them as surplus.
    pub(super) leaving_scope: HashSet<Bytes>,
    /// Keys were met that the replay must check.
    pub(super) audit_due: bool,
}

impl Trail {
    /// A change whose key is in scope was met, in a page or on the watch.
    pub(super) fn update_newest(&mut self, key: &Bytes, revision: Revision, value: Option<&[u8]>) {
        let newest = self.newest_change.as_ref().map_or(0, |newest| newest.revision);
        if revision > newest {
            // Deletions before their page are not met, so it need not be the last change.
            self.newest_change = Witness::new(key, revision, value, false).or(self.newest_change.take());
        }
    }

    pub(super) fn newest_change(&self) -> Option<Witness> {
        self.newest_change.clone()
    }
}

/// Where a session goes from a stage.
#[derive(Debug)]
pub(super) enum Next {
    Stay,
    Plan,
    Copy,
    Sweep(Trail),
    /// Whether all keys must be compared, and whether the standby is watched already from the record on.
    Stream {
        audit_due: bool,
        watching: bool,
    },
}
