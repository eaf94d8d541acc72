//! What a walk gives out: a range of keys as both clusters hold it.

use std::cmp::Ordering;

use crate::etcd::kv::{KeyRange, KeyValue, Revision};

/// What both sides hold between `range.start` and `range.end`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The keys covered.
    pub range: KeyRange,
    /// The leading side's keys.
    pub lead: Vec<KeyValue>,
    /// The other side's keys.
    pub follow: Vec<KeyValue>,
    /// Revision the leading page was read at.
    pub lead_revision: Revision,
    /// Revision the other page was read at.
    pub follow_revision: Revision,
}

/// One key of a [`Chunk`], seen from both sides.
#[derive(Debug, PartialEq, Eq)]
pub enum Joined {
    /// Only the leading side has it.
    Lead(KeyValue),
    /// Only the other side has it.
    Follow(KeyValue),
    /// Both have it: leading side first.
    Both(KeyValue, KeyValue),
}

/// Puts the two sides of a chunk together, in key order.
pub fn join(chunk: Chunk) -> impl Iterator<Item = Joined> {
    let (mut lead, mut follow) = (chunk.lead.into_iter().peekable(), chunk.follow.into_iter().peekable());
    std::iter::from_fn(move || match (lead.peek(), follow.peek()) {
        (None, None) => None,
        (Some(_), None) => lead.next().map(Joined::Lead),
        (None, Some(_)) => follow.next().map(Joined::Follow),
        (Some(a), Some(b)) => match a.key.cmp(&b.key) {
            Ordering::Less => lead.next().map(Joined::Lead),
            Ordering::Greater => follow.next().map(Joined::Follow),
            Ordering::Equal => lead.next().zip(follow.next()).map(|(a, b)| Joined::Both(a, b)),
        },
    })
}
