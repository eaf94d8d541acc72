//! The exact comparison: the standby at one revision, the primary at the revision that the standby was then consistent with.

mod advice;
mod counts;
mod describe;
mod report;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use serde::Serialize;

pub use self::advice::{Advice, Situation};
pub use self::counts::ResourceCount;
pub use self::describe::{Described, DescribedOwner};
pub use self::report::{Basis, ComparedAt, Report};

use self::counts::Counts;
use crate::compare::drift::Drift;
use crate::etcd::kv::{KeyValue, printable};
use crate::link::side::Side;
use crate::object::Header;
use crate::scope::{Decision, Scope};
use crate::session::walk::{Chunk, Joined, join};

/// Differences kept of each kind; beyond it they are only counted.
pub const KEPT_MAX: usize = 100_000;

/// Differences of each kind whose object is described; beyond it only the key is kept.
pub const DESCRIBED_MAX: usize = 10_000;

/// Why a key is on the standby only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SurplusReason {
    /// On record as made on the standby.
    Local,
    /// Not on record: mirrored once and deleted on the primary since, or of unknown origin.
    Leftover,
}

/// How a key differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// Only the primary has it.
    Missed,
    /// Only the standby has it.
    Surplus(SurplusReason),
    /// Both have it, with other values. How they differ is [`Drift::Unknown`] until both were read.
    Mismatched(Drift),
}

/// One key that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The key, as [`printable`] shows it.
    pub key: Box<str>,
    /// How it differs.
    pub difference: Difference,
    /// What its value holds, where it was read and could be decoded.
    pub object: Option<Box<Object>>,
    /// Its value is encrypted and cannot be decrypted here: its content might take it out of scope.
    pub undecryptable: bool,
    /// Length of the primary's value, when the standby's etcd refuses a request that holds it.
    pub too_large: Option<u64>,
}

/// What was read in the values of a suspect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// See [`Finding::object`].
    pub object: Option<Object>,
    /// See [`Finding::undecryptable`].
    pub undecryptable: bool,
    /// See [`Finding::too_large`].
    pub too_large: Option<u64>,
}

/// What a report has of an object beside its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// As the API calls it: `ConfigMap`.
    pub kind: Box<str>,
    /// The owner that manages it, else its first one.
    pub owner: Option<DescribedOwner>,
}

/// The first keys of a kind, and how many there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept<T = Finding> {
    /// Up to [`KEPT_MAX`] of them, in key order.
    pub first: Vec<T>,
    /// All of them.
    pub count: u64,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Kept { first: Vec::new(), count: 0 }
    }
}

impl<T> Kept<T> {
    /// Counts one more; `one` makes it, with how many were kept before, as long as there is room.
    pub fn add(&mut self, one: impl FnOnce(usize) -> T) {
        self.count += 1;
        if self.first.len() < KEPT_MAX {
            self.first.push(one(self.first.len()));
        }
    }
}

/// A difference by key or value. The object's content may yet take it out of scope: then it is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// The key.
    pub key: Bytes,
    /// What differs.
    pub difference: Difference,
}

/// Collects what differs, chunk by chunk.
#[derive(Debug, Default)]
pub struct Comparison {
    deep: bool,
    compared: u64,
    unproved: u64,
    undecryptable: u64,
    missed: Kept,
    surplus: Kept,
    mismatched: Kept,
    status: Kept,
    counts: Counts,
}

impl Comparison {
    /// The side whose pages set the pace.
    pub const LEAD: Side = Side::Primary;

    /// `deep` compares values too.
    pub fn new(deep: bool) -> Self {
        Comparison { deep, ..Self::default() }
    }

    /// Takes a chunk whose leading side is [`Comparison::LEAD`]; `is_local` reads the record. Gives what
    /// differs among the keys in scope: every one has to be confirmed or dismissed.
    pub fn chunk(&mut self, mut chunk: Chunk, scope: &Scope, is_local: impl Fn(&KeyValue) -> bool) -> Vec<Suspect> {
        chunk.lead.retain(|kv| scope.decide_kv(kv) == Decision::InScope);
        chunk.follow.retain(|kv| scope.decide_kv(kv) == Decision::InScope);
        let mut suspects = Vec::new();
        for joined in join(chunk) {
            let (primary, standby) = match joined {
                Joined::Both(primary, standby) => (Some(primary), Some(standby)),
                Joined::Lead(primary) => (Some(primary), None),
                Joined::Follow(standby) => (None, Some(standby)),
            };
            let Some(key) = primary.as_ref().or(standby.as_ref()).map(|kv| &kv.key) else { continue };
            let count = self.counts.of(scope, key);
            count.primary += u64::from(primary.is_some());
            count.standby += u64::from(standby.is_some());
            self.compared += u64::from(primary.is_some());
            if let Some(difference) = difference(primary.as_ref(), standby.as_ref(), self.deep, &is_local) {
                // A slice of a page would keep the whole page in memory.
                suspects.push(Suspect { key: Bytes::copy_from_slice(key), difference });
            }
        }
        suspects
    }

    /// A suspect is a difference indeed, perhaps another one than it was suspected of.
    pub fn confirm(&mut self, suspect: &Suspect, scope: &Scope, checked: Checked) {
        let Checked { object, undecryptable, too_large } = checked;
        self.undecryptable += u64::from(undecryptable);
        let count = self.counts.of(scope, &suspect.key);
        let kept = match suspect.difference {
            Difference::Missed => {
                count.missed += 1;
                &mut self.missed
            }
            Difference::Surplus(_) => {
                count.surplus += 1;
                &mut self.surplus
            }
            Difference::Mismatched(Drift::Status) => &mut self.status,
            Difference::Mismatched(_) => {
                count.mismatched += 1;
                &mut self.mismatched
            }
        };
        kept.add(|before| {
            let object = object.filter(|_| before < DESCRIBED_MAX).map(Box::new);
            Finding {
                key: printable(&suspect.key).into(),
                difference: suspect.difference,
                object,
                undecryptable,
                too_large,
            }
        });
    }

    /// A suspect that was not checked: there are too many. A key that one side lacks is lacking whatever its
    /// value; two values that differ may yet differ in their status only, so they are counted apart.
    pub fn unproved(&mut self, suspect: &Suspect, scope: &Scope) {
        self.unproved += 1;
        if !matches!(suspect.difference, Difference::Mismatched(_)) {
            self.confirm(suspect, scope, Checked::default());
        }
    }

    /// A suspect is out of scope by its content, so it counts for neither side.
    pub fn out_of_scope(&mut self, suspect: &Suspect, scope: &Scope) {
        let count = self.counts.of(scope, &suspect.key);
        let (primary, standby) = match suspect.difference {
            Difference::Missed => (1, 0),
            Difference::Surplus(_) => (0, 1),
            Difference::Mismatched(_) => (1, 1),
        };
        count.primary = count.primary.saturating_sub(primary);
        count.standby = count.standby.saturating_sub(standby);
        self.compared = self.compared.saturating_sub(primary);
    }

    /// The result.
    pub fn report(self, at: ComparedAt) -> Report {
        let Comparison { deep, compared, unproved, undecryptable, missed, surplus, mismatched, status, counts } = self;
        let resources = counts.finish();
        Report { at, deep, compared, unproved, undecryptable, missed, surplus, mismatched, status, resources }
    }
}

/// How a key that is in scope differs, read on both sides at one comparable moment; `None`: it does not.
pub fn difference(
    primary: Option<&KeyValue>,
    standby: Option<&KeyValue>,
    deep: bool,
    is_local: impl Fn(&KeyValue) -> bool,
) -> Option<Difference> {
    match (primary, standby) {
        (Some(primary), Some(standby)) if deep && primary.value != standby.value => {
            Some(Difference::Mismatched(Drift::Unknown))
        }
        (Some(_), None) => Some(Difference::Missed),
        (None, Some(kv)) if is_local(kv) => Some(Difference::Surplus(SurplusReason::Local)),
        (None, Some(_)) => Some(Difference::Surplus(SurplusReason::Leftover)),
        (Some(_), Some(_)) | (None, None) => None,
    }
}

impl Object {
    /// What a report has of a header.
    pub fn new(header: &Header) -> Object {
        let owner = header.owners.iter().find(|owner| owner.controller).or(header.owners.first());
        let owner = owner.map(|owner| DescribedOwner {
            kind: owner.kind.as_str().into(),
            name: owner.name.as_str().into(),
            uid: owner.uid.as_str().into(),
        });
        Object { kind: header.kind.as_str().into(), owner }
    }
}
