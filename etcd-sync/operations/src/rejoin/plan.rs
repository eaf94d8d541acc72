//! What a rejoin would do, counted key by key.

use serde::Serialize;

use super::{Change, Divergence, Found, Origin};
use etcd_sync_core::compare::check::KEPT_MAX;
use etcd_sync_core::etcd::kv::{Revision, printable};
use etcd_sync_core::link::role::Promotion;

/// One key of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The key, as [`printable`] shows it.
    pub key: Box<str>,
    /// What is told beside it.
    pub note: Note,
    /// The old primary's revision that wrote it last; of one that is not there, the new primary's.
    pub revision: Revision,
}

/// What is told of a key beside its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "why")]
pub enum Note {
    /// Written after the point of divergence.
    Written {
        /// How.
        change: Change,
        /// Another value replaces it; else it goes.
        replaced: bool,
        /// The new primary has changed or deleted the key, too.
        both: bool,
    },
    /// Deleted after the point of divergence.
    Deleted,
    /// Only here.
    Only {
        /// Why.
        origin: Origin,
    },
}

/// The first keys of a kind, and how many there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Up to [`KEPT_MAX`], in key order.
    pub first: Vec<Line>,
    /// All of them.
    pub count: u64,
}

impl Kept {
    fn add(&mut self, key: &[u8], note: Note, revision: Revision) {
        self.count += 1;
        if self.first.len() < KEPT_MAX {
            self.first.push(Line { key: printable(key).into(), note, revision });
        }
    }
}

/// What a rejoin would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Name of the link.
    pub link: String,
    /// The old primary's cluster id, in hexadecimal.
    pub old_cluster: String,
    /// The new primary's.
    pub new_cluster: String,
    /// Where the histories diverge.
    pub divergence: Divergence,
    /// How the new primary was promoted.
    pub promotion: Promotion,
    /// The old primary's revision when the look began.
    pub looked_at: Revision,
    /// When that was, in Unix milliseconds.
    pub now_ms: u64,
    /// Written on the old primary after the point of divergence: the new one never had it.
    pub unreplicated: Kept,
    /// Deleted on the old primary after the point of divergence: comes back.
    pub deleted_here: Kept,
    /// Only on the old primary for another reason: goes.
    pub only_here: Kept,
    /// Of these: replaced rather than gone.
    pub unreplicated_replaced: u64,
    /// Older values that the new primary has replaced since.
    pub replaced: u64,
    /// New on the new primary.
    pub new: u64,
    /// The same on both.
    pub same: u64,
    /// Of these: written on the old primary after the point of divergence, with the value that the new one has.
    pub same_later: u64,
    /// The old primary's own by their content: they stay.
    pub own: u64,
}

impl Plan {
    /// Nothing found yet.
    pub fn new(link: &str, clusters: [String; 2], divergence: Divergence, promotion: Promotion) -> Plan {
        let [old_cluster, new_cluster] = clusters;
        Plan {
            link: link.to_owned(),
            old_cluster,
            new_cluster,
            divergence,
            promotion,
            looked_at: 0,
            now_ms: 0,
            unreplicated: Kept::default(),
            deleted_here: Kept::default(),
            only_here: Kept::default(),
            unreplicated_replaced: 0,
            replaced: 0,
            new: 0,
            same: 0,
            same_later: 0,
            own: 0,
        }
    }

    /// Counts a key. `origin` is asked only of [`Found::OnlyOld`]; `revision` is the one that wrote it last.
    pub fn add(&mut self, key: &[u8], found: Found, revision: Revision, origin: Origin) {
        match found {
            Found::Same { later } => {
                self.same += 1;
                self.same_later += u64::from(later);
            }
            Found::Unreplicated { change, replaced, both } => {
                self.unreplicated_replaced += u64::from(replaced);
                self.unreplicated.add(key, Note::Written { change, replaced, both }, revision);
            }
            Found::OnlyOld => self.only_here.add(key, Note::Only { origin }, revision),
            Found::DeletedHere => self.deleted_here.add(key, Note::Deleted, revision),
            Found::Replaced => self.replaced += 1,
            Found::New => self.new += 1,
            Found::Own => self.own += 1,
            Found::Ignored => {}
        }
    }

    /// Keys that the old primary loses.
    pub fn deletions(&self) -> u64 {
        self.unreplicated.count - self.unreplicated_replaced + self.only_here.count
    }

    /// Keys whose value is replaced.
    pub fn overwrites(&self) -> u64 {
        self.unreplicated_replaced + self.replaced
    }

    /// Values that are saved before.
    pub fn to_save(&self) -> u64 {
        self.deletions() + self.overwrites()
    }

    /// Keys that the old primary gets, those it had deleted among them.
    pub fn creations(&self) -> u64 {
        self.new + self.deleted_here.count
    }
}
