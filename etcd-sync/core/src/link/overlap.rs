//! Which keys each link of one standby takes for its own: two that synchronize the same keys would delete each other's work.
//!
//! The rule is simple: two links overlap when a prefix of one is a prefix of the other, or equal. Exclusions below it
//! (namespaces, patterns, keys) do not count.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::state::BadRecord;
use crate::etcd::kv::{KeyValue, Revision, printable};
use crate::scope::Scope;

/// The key `scope` of a link: written with its role, and again when its prefixes change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScopeRecord {
    /// [`ScopeRecord::FORMAT`].
    pub format: u32,
    /// The prefixes, those of Kubernetes and those of other programs, sorted.
    pub prefixes: Vec<String>,
}

impl ScopeRecord {
    /// The format this program reads and writes.
    pub const FORMAT: u32 = 1;

    /// The record of a scope.
    pub fn of(scope: &Scope) -> ScopeRecord {
        let prefixes = scope.ranges().iter().map(|range| printable(&range.start)).collect();
        ScopeRecord { format: Self::FORMAT, prefixes }
    }

    /// The value written to etcd.
    pub fn encode(&self) -> Bytes {
        serde_json::to_vec(self).expect("a scope has only plain fields").into()
    }

    /// Reads a value from etcd.
    ///
    /// # Errors
    /// It is none, or another version's.
    pub fn decode(value: &[u8]) -> Result<Self, BadRecord> {
        BadRecord::decode("scope", Self::FORMAT, value)
    }

    /// The first prefix of this one that lies in the other's scope, or holds part of it.
    pub fn common<'a>(&'a self, other: &ScopeRecord) -> Option<&'a str> {
        let meets = |mine: &&String| {
            other.prefixes.iter().any(|theirs| mine.starts_with(theirs.as_str()) || theirs.starts_with(mine.as_str()))
        };
        self.prefixes.iter().find(meets).map(String::as_str)
    }
}

/// Another link of the same cluster, one that receives too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherLink {
    /// Its name.
    pub link: String,
    /// Its key `scope`; `None`: an earlier version made it.
    pub scope: Option<KeyValue>,
}

/// Another link that has the same keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// Its name.
    pub link: String,
    /// The prefix that both have; `None`: it is not known what the other one synchronizes.
    pub prefix: Option<String>,
}

/// The first link that stands in the way of this one. Of two that overlap the one that recorded its scope first goes on.
///
/// `recorded` is this link's own key `scope` as it was found; `has_role`: it has run before, so that a link without a record, which
/// has then run beside it all the time, does not stop it.
pub fn overlap(
    own: &ScopeRecord,
    recorded: Option<&KeyValue>,
    has_role: bool,
    others: &[OtherLink],
) -> Option<Overlap> {
    let since = recorded
        .filter(|kv| ScopeRecord::decode(&kv.value).is_ok_and(|recorded| recorded == *own))
        .map_or(Revision::MAX, |kv| kv.mod_revision);
    others.iter().find_map(|OtherLink { link, scope }| {
        let theirs = scope.as_ref().and_then(|kv| Some((ScopeRecord::decode(&kv.value).ok()?, kv.mod_revision)));
        let prefix = match theirs {
            Some((theirs, revision)) if revision < since => Some(own.common(&theirs)?.to_owned()),
            None if !has_role => None,
            _ => return None,
        };
        Some(Overlap { link: link.clone(), prefix })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scope::ScopeConfig;

    fn record(prefixes: &[&str]) -> ScopeRecord {
        let prefixes = prefixes.iter().map(|&prefix| prefix.to_owned()).collect();
        ScopeRecord { format: ScopeRecord::FORMAT, prefixes }
    }

    fn kv(record: &ScopeRecord, mod_revision: Revision) -> KeyValue {
        KeyValue { key: "scope".into(), value: record.encode(), create_revision: 1, mod_revision, lease: 0 }
    }

    fn other(scope: Option<(&ScopeRecord, Revision)>) -> Vec<OtherLink> {
        vec![OtherLink { link: "other".into(), scope: scope.map(|(record, revision)| kv(record, revision)) }]
    }

    #[test]
    fn prefixes_overlap_in_either_direction() {
        let registry = record(&["/registry/"]);
        assert_eq!(registry.common(&record(&["/a/", "/registry/pods/"])), Some("/registry/"));
        assert_eq!(record(&["/registry/pods/"]).common(&registry), Some("/registry/pods/"));
        assert_eq!(registry.common(&registry), Some("/registry/"));
        assert_eq!(registry.common(&record(&["/registry2/", "/a/"])), None);
    }

    #[test]
    fn a_scope_survives_the_round_trip() {
        let config = ScopeConfig { plain_prefixes: vec!["/a/\u{e9}/".into()], ..ScopeConfig::default() };
        let of = ScopeRecord::of(&Scope::new(&config).unwrap());
        assert_eq!(of.prefixes.len(), 2);
        assert_eq!(ScopeRecord::decode(&of.encode()), Ok(of));
        assert!(ScopeRecord::decode(b"{\"format\":9}").is_err());
    }

    #[test]
    fn the_link_that_recorded_its_scope_first_goes_on() {
        let (own, pods) = (record(&["/registry/"]), record(&["/registry/pods/"]));
        let with = |recorded: Option<Revision>, others: &[OtherLink]| {
            overlap(&own, recorded.map(|revision| kv(&own, revision)).as_ref(), recorded.is_some(), others)
        };
        let found = Overlap { link: "other".into(), prefix: Some("/registry/".into()) };
        let others = other(Some((&pods, 5)));
        assert_eq!(with(None, &others), Some(found.clone()));
        assert_eq!(with(Some(6), &others), Some(found.clone()));
        assert_eq!(with(Some(4), &others), None);
        // A scope that was widened is as new as a link.
        assert_eq!(overlap(&own, Some(&kv(&pods, 4)), true, &others), Some(found));
        assert_eq!(with(None, &other(Some((&record(&["/b/"]), 5)))), None);
    }

    #[test]
    fn what_is_not_known_stops_a_new_link_only() {
        let (own, others) = (record(&["/registry/"]), other(None));
        assert_eq!(overlap(&own, None, false, &others), Some(Overlap { link: "other".into(), prefix: None }));
        assert_eq!(overlap(&own, None, true, &others), None);
    }
}
