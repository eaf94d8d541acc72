//! Whether the members of one etcd cluster hold the same data. Pure: what they answered in, a judgement out.
//!
//! The members of a cluster apply the same log and so hold the same keys, until a bug, a disk or an operator breaks that. Nothing in etcd's
//! normal work notices: each member serves its own data, and a synchronizer mirrors that of the member it happens to read.

use crate::etcd::kv::Revision;

/// One voting member of a cluster, and what it told about its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberData {
    /// Its URL, for people.
    pub endpoint: String,
    /// What it told.
    pub told: Told,
}

/// What a member told about its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// etcd's hash of all its keys up to the revision that all were asked for.
    Hash {
        /// The hash.
        hash: u32,
        /// The revision its history was compacted at: it decides which old revisions are part of the hash.
        compacted: Revision,
    },
    /// It has applied everything, and yet its revision is lower than the one another member has shown before: they have counted
    /// differently.
    Behind {
        /// Its revision.
        revision: Revision,
    },
    /// It was not asked, or did not answer, and why.
    NotAsked(String),
}

/// Whether the members hold the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// There is one member only.
    Alone,
    /// All that were asked hold the same.
    Agree {
        /// How many were asked: at least two.
        asked: usize,
        /// The others, each with the reason why it was not asked.
        not_asked: Vec<(String, String)>,
    },
    /// They do not.
    Disagree {
        /// The endpoints of those that hold the same, a majority of the cluster; empty: no such majority is known.
        majority: Vec<String>,
        /// The endpoints of the others that answered.
        odd: Vec<String>,
    },
    /// Fewer than two members could be compared, and why.
    NotAsked(String),
}

/// Judges the voting members of one cluster.
///
/// etcd's own rule (`etcdserver/corrupt.go`): hashes are compared only where the revision and the compacted revision are the same, and
/// those are right that a majority of all members shares, whichever of them leads.
pub fn judge(members: &[MemberData]) -> Agreement {
    if members.len() == 1 {
        return Agreement::Alone;
    }
    let compacted = common_compaction(members);
    let mut groups: Vec<(&Told, Vec<String>)> = Vec::new();
    let mut not_asked = Vec::new();
    for member in members {
        let told = match &member.told {
            Told::NotAsked(why) => {
                not_asked.push((member.endpoint.clone(), why.clone()));
                continue;
            }
            Told::Hash { compacted: own, .. } if Some(*own) != compacted => {
                let why = format!("its history is compacted at revision {own}, that of others is not");
                not_asked.push((member.endpoint.clone(), why));
                continue;
            }
            told => told,
        };
        match groups.iter_mut().find(|(same, _)| alike(same, told)) {
            Some((_, endpoints)) => endpoints.push(member.endpoint.clone()),
            None => groups.push((told, vec![member.endpoint.clone()])),
        }
    }
    let asked: usize = groups.iter().map(|(_, endpoints)| endpoints.len()).sum();
    if asked < 2 {
        let mut why: Vec<String> = not_asked.into_iter().map(|(_, why)| why).collect();
        why.dedup();
        return Agreement::NotAsked(why.join("; "));
    }
    if groups.len() == 1 {
        return Agreement::Agree { asked, not_asked };
    }
    let quorum = members.len() / 2 + 1;
    let (majority, odd): (Vec<_>, Vec<_>) = groups.into_iter().partition(|(_, endpoints)| endpoints.len() >= quorum);
    let endpoints =
        |groups: Vec<(&Told, Vec<String>)>| groups.into_iter().flat_map(|(_, endpoints)| endpoints).collect();
    Agreement::Disagree { majority: endpoints(majority), odd: endpoints(odd) }
}

/// Whether it is worth to ask again: hashes were taken of histories that are compacted at different revisions.
pub fn compactions_differ(members: &[MemberData]) -> bool {
    let common = common_compaction(members);
    members.iter().any(|member| matches!(member.told, Told::Hash { compacted, .. } if Some(compacted) != common))
}

/// The compacted revision that most hashes were taken at; of equally many the highest.
fn common_compaction(members: &[MemberData]) -> Option<Revision> {
    let all = members.iter().filter_map(|member| match member.told {
        Told::Hash { compacted, .. } => Some(compacted),
        _ => None,
    });
    all.clone().max_by_key(|one| (all.clone().filter(|other| other == one).count(), *one))
}

fn alike(one: &Told, other: &Told) -> bool {
    match (one, other) {
        (Told::Behind { .. }, Told::Behind { .. }) => true,
        _ => one == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(endpoint: &str, hash: u32, compacted: Revision) -> MemberData {
        MemberData { endpoint: endpoint.into(), told: Told::Hash { hash, compacted } }
    }

    fn not_asked(endpoint: &str) -> MemberData {
        MemberData { endpoint: endpoint.into(), told: Told::NotAsked(format!("{endpoint} is away")) }
    }

    fn behind(endpoint: &str, revision: Revision) -> MemberData {
        MemberData { endpoint: endpoint.into(), told: Told::Behind { revision } }
    }

    fn disagree(majority: &[&str], odd: &[&str]) -> Agreement {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Agreement::Disagree { majority: owned(majority), odd: owned(odd) }
    }

    #[test]
    fn the_majority_of_all_members_is_right() {
        assert_eq!(judge(&[hash("a", 1, 5)]), Agreement::Alone);
        let all = [hash("a", 1, 5), hash("b", 1, 5), hash("c", 1, 5)];
        assert_eq!(judge(&all), Agreement::Agree { asked: 3, not_asked: Vec::new() });
        // The first one, which may be the leader, is no better than the others.
        assert_eq!(judge(&[hash("a", 1, 5), hash("b", 2, 5), hash("c", 2, 5)]), disagree(&["b", "c"], &["a"]));
        assert_eq!(judge(&[hash("a", 1, 5), hash("b", 2, 5), hash("c", 3, 5)]), disagree(&[], &["a", "b", "c"]));
    }

    #[test]
    fn two_of_three_tell_that_they_differ_but_not_who_is_right() {
        let away = ("c".to_owned(), "c is away".to_owned());
        let equal = [hash("a", 1, 5), hash("b", 1, 5), not_asked("c")];
        assert_eq!(judge(&equal), Agreement::Agree { asked: 2, not_asked: vec![away] });
        assert_eq!(judge(&[hash("a", 1, 5), hash("b", 2, 5), not_asked("c")]), disagree(&[], &["a", "b"]));
    }

    #[test]
    fn one_that_answers_proves_nothing() {
        let alone = [hash("a", 1, 5), not_asked("b"), not_asked("c")];
        assert_eq!(judge(&alone), Agreement::NotAsked("b is away; c is away".into()));
        assert!(!compactions_differ(&alone));
    }

    #[test]
    fn hashes_of_other_compactions_are_not_compared() {
        let late = [hash("a", 1, 5), hash("b", 1, 5), hash("c", 2, 4)];
        assert!(compactions_differ(&late));
        let Agreement::Agree { asked: 2, not_asked } = judge(&late) else { panic!("{:?}", judge(&late)) };
        assert!(not_asked[0].1.contains("compacted at revision 4"), "{not_asked:?}");
        assert!(matches!(judge(&[hash("a", 1, 5), hash("b", 2, 4)]), Agreement::NotAsked(_)));
    }

    #[test]
    fn one_that_counts_differently_is_odd() {
        let counted = [hash("a", 1, 5), behind("b", 9), hash("c", 1, 5)];
        assert_eq!(judge(&counted), disagree(&["a", "c"], &["b"]));
        // One that is ahead of all others.
        assert_eq!(judge(&[hash("a", 1, 5), behind("b", 9), behind("c", 10)]), disagree(&["b", "c"], &["a"]));
    }
}
