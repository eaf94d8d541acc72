//! What the link asks of the operator, and the answer. Both lie in the standby's etcd: the question stands through restarts and
//! changes of leader, and an answer is good once, for what was asked.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::history::RaftMark;
use super::state::BadRecord;
use crate::object::object_key::ObjectKey;
use crate::scope::Scope;

/// An answer is void after this time, in milliseconds.
pub const ACCEPTANCE_MS: u64 = 60 * 60 * 1_000;

/// Groups of keys counted one by one, at most; the rest is one group without a name.
pub const GROUPS_MAX: usize = 2_000;

/// Keys named in a question, at most.
pub const FIRST_KEYS_MAX: usize = 20;

/// What a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Topic {
    /// The primary is another cluster than the one on record.
    OtherPrimary,
    /// The primary shows another history than the one that was followed.
    OtherHistory,
    /// The standby's own etcd was restored from a backup.
    StandbyRestored,
    /// The primary has no key in scope.
    EmptyPrimary,
    /// A copy would delete, or overwrite with older data, more than the limit.
    Deletions,
    /// A copy would take away more than can be saved on the standby, and nothing proves that this is right.
    Unproved,
    /// The primary deletes more at once than the brake lets pass.
    Brake,
}

/// The namespace of a group that covers a resource in all of them: Kubernetes has no namespace of this name.
pub const ALL_NAMESPACES: &str = "*";

/// Objects of one resource in one namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Group {
    /// The resource with its API group, such as `deployments` or `widgets.example.com`; empty for keys of another form.
    pub resource: String,
    /// The namespace; empty for what lies in none; [`ALL_NAMESPACES`] in an answer that covers all of them.
    pub namespace: String,
}

impl Group {
    /// The group of a key in scope.
    pub fn of(scope: &Scope, key: &[u8]) -> Self {
        let parsed = scope.split(key).and_then(|(_, relative)| ObjectKey::parse(relative));
        parsed.map_or_else(Group::default, |object| Group {
            resource: object.resource_name(),
            namespace: object.namespace.map(str::to_owned).unwrap_or_default(),
        })
    }
}

/// For people: `deployments in team-a`.
impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.resource[..], &self.namespace[..]) {
            ("", _) => f.write_str("other keys"),
            (resource, "") => f.write_str(resource),
            (resource, namespace) => write!(f, "{resource} in {namespace}"),
        }
    }
}

/// What would be lost on the standby.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Losses {
    /// Keys that would be deleted.
    pub deletions: u64,
    /// Keys that would be overwritten with older data.
    pub overwrites: u64,
    /// Keys by group, deletions and overwrites together.
    #[serde(with = "pairs")]
    pub groups: BTreeMap<Group, u64>,
    /// The first of them, printable.
    pub first: Vec<String>,
}

impl Losses {
    /// All of them.
    pub fn count(&self) -> u64 {
        self.deletions + self.overwrites
    }

    /// Counts a key that would be deleted.
    pub fn add_deletion(&mut self, scope: &Scope, key: &[u8]) {
        self.deletions += 1;
        self.add(scope, key);
    }

    /// Counts a key that would be overwritten with older data.
    pub fn add_overwrite(&mut self, scope: &Scope, key: &[u8]) {
        self.overwrites += 1;
        self.add(scope, key);
    }

    /// Adds what was counted elsewhere.
    pub fn add_all(&mut self, other: &Losses) {
        self.deletions += other.deletions;
        self.overwrites += other.overwrites;
        other.groups.iter().for_each(|(group, &keys)| self.add_to(group.clone(), keys));
        let room = FIRST_KEYS_MAX.saturating_sub(self.first.len());
        self.first.extend(other.first.iter().take(room).cloned());
    }

    fn add(&mut self, scope: &Scope, key: &[u8]) {
        self.add_to(Group::of(scope, key), 1);
        if self.first.len() < FIRST_KEYS_MAX {
            self.first.push(crate::etcd::kv::printable(key));
        }
    }

    fn add_to(&mut self, mut group: Group, keys: u64) {
        if self.groups.len() >= GROUPS_MAX && !self.groups.contains_key(&group) {
            group = Group::default();
        }
        *self.groups.entry(group).or_default() += keys;
    }

    /// The largest groups and the first keys, for people.
    pub fn summary(&self) -> String {
        const GROUPS_SHOWN: usize = 5;
        const KEYS_SHOWN: usize = 5;
        let mut groups: Vec<(&Group, &u64)> = self.groups.iter().collect();
        groups.sort_by_key(|(_, keys)| std::cmp::Reverse(**keys));
        let shown = groups.iter().take(GROUPS_SHOWN).map(|(group, keys)| format!("{keys} {group}"));
        let mut text = shown.collect::<Vec<_>>().join(", ");
        if groups.len() > GROUPS_SHOWN {
            text += &format!(", {} other kinds or namespaces", groups.len() - GROUPS_SHOWN);
        }
        let first: Vec<&str> = self.first.iter().take(KEYS_SHOWN).map(String::as_str).collect();
        match first.is_empty() {
            true => text,
            false => format!("{text}; the first: {}", first.join(", ")),
        }
    }
}

/// JSON has no maps with structured keys.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Group;

    #[derive(Serialize, Deserialize)]
    struct Row {
        #[serde(flatten)]
        group: Group,
        keys: u64,
    }

    pub fn serialize<S: Serializer>(groups: &BTreeMap<Group, u64>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(groups.iter().map(|(group, &keys)| Row { group: group.clone(), keys }))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<Group, u64>, D::Error> {
        let rows = Vec::<Row>::deserialize(deserializer)?;
        Ok(rows.into_iter().map(|row| (row.group, row.keys)).collect())
    }
}

/// What the link waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Question {
    /// [`Question::FORMAT`].
    pub format: u32,
    /// What it is about.
    pub topic: Topic,
    /// What was found, in words, without what to do.
    pub evidence: String,
    /// The primary's cluster id, in hexadecimal, as found.
    pub primary: String,
    /// What would be lost, where the daemon has counted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub losses: Option<Losses>,
    /// Since when it stands, in Unix milliseconds.
    pub asked_ms: u64,
    /// The replica that asked.
    pub holder: String,
}

impl Question {
    /// The format this program reads and writes.
    pub const FORMAT: u32 = 1;

    /// The value written to etcd.
    pub fn encode(&self) -> Bytes {
        serde_json::to_vec(self).expect("it has only plain fields").into()
    }

    /// Reads a value from etcd.
    ///
    /// # Errors
    /// It is none, or another version's.
    pub fn decode(value: &[u8]) -> Result<Self, BadRecord> {
        BadRecord::decode("question to the operator", Self::FORMAT, value)
    }
}

/// The operator's answer to a question: go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Acceptance {
    /// [`Acceptance::FORMAT`].
    pub format: u32,
    /// The question's.
    pub topic: Topic,
    /// The question's: for another history it is good only for the same evidence.
    pub evidence: String,
    /// The primary's cluster id, in hexadecimal.
    pub primary: String,
    /// Where the primary was when the answer was given: it is not good for one that was restored after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary_raft: Option<RaftMark>,
    /// Deletions in these groups are covered, however many they are: a namespace goes in batches.
    pub groups: Vec<Group>,
    /// Answers that were good when this one took their place: one start may meet several questions, one after the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<Answered>,
    /// When it was given, in Unix milliseconds.
    pub given_ms: u64,
    /// Who gave it.
    pub by: String,
}

/// A question that was answered before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Answered {
    /// What it was about.
    pub topic: Topic,
    /// What had been found.
    pub evidence: String,
}

impl Acceptance {
    /// The format this program reads and writes.
    pub const FORMAT: u32 = 1;

    /// The value written to etcd.
    pub fn encode(&self) -> Bytes {
        serde_json::to_vec(self).expect("it has only plain fields").into()
    }

    /// Reads a value from etcd.
    ///
    /// # Errors
    /// It is none, or another version's.
    pub fn decode(value: &[u8]) -> Result<Self, BadRecord> {
        BadRecord::decode("answer of the operator", Self::FORMAT, value)
    }

    /// Whether it is still good at `now_ms` for the primary with this id. A clock that is behind does not make it void.
    pub fn is_good(&self, primary: &str, now_ms: u64) -> bool {
        self.primary == primary && now_ms < self.given_ms.saturating_add(ACCEPTANCE_MS)
    }

    /// The evidence of each question on this topic that it answers.
    pub fn evidence_on(&self, topic: Topic) -> impl Iterator<Item = &str> {
        let own = std::iter::once((self.topic, &self.evidence[..]));
        let earlier = self.earlier.iter().map(|answered| (answered.topic, &answered.evidence[..]));
        own.chain(earlier).filter(move |(answered, _)| *answered == topic).map(|(_, evidence)| evidence)
    }

    /// Whether the loss of a key is covered.
    pub fn covers(&self, scope: &Scope, key: &[u8]) -> bool {
        let group = Group::of(scope, key);
        let is_covered = |covered: &Group| {
            covered.resource == group.resource
                && (covered.namespace == group.namespace || covered.namespace == ALL_NAMESPACES)
        };
        self.groups.iter().any(is_covered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scope::ScopeConfig;

    fn scope() -> Scope {
        Scope::new(&ScopeConfig::default()).unwrap()
    }

    #[test]
    fn keys_are_grouped_by_resource_and_namespace() {
        let group = |key: &str| {
            let Group { resource, namespace } = Group::of(&scope(), key.as_bytes());
            (resource, namespace)
        };
        let pair = |resource: &str, namespace: &str| (resource.to_owned(), namespace.to_owned());
        assert_eq!(group("/registry/configmaps/apps/a"), pair("configmaps", "apps"));
        assert_eq!(group("/registry/namespaces/apps"), pair("namespaces", ""));
        assert_eq!(group("/registry/example.com/widgets/apps/a"), pair("widgets.example.com", "apps"));
        assert_eq!(group("/elsewhere"), pair("", ""));
    }

    #[test]
    fn records_are_read_as_they_were_written() {
        let mut losses = Losses::default();
        losses.add_deletion(&scope(), b"/registry/configmaps/apps/a");
        losses.add_overwrite(&scope(), b"/registry/configmaps/apps/b");
        let question = Question {
            format: Question::FORMAT,
            topic: Topic::Deletions,
            evidence: "e".into(),
            primary: "c1".into(),
            losses: Some(losses.clone()),
            asked_ms: 1,
            holder: "h".into(),
        };
        assert_eq!(Question::decode(&question.encode()), Ok(question));
        let acceptance = Acceptance {
            format: Acceptance::FORMAT,
            topic: Topic::Deletions,
            evidence: "e".into(),
            primary: "c1".into(),
            primary_raft: None,
            groups: losses.groups.into_keys().collect(),
            earlier: vec![],
            given_ms: 1,
            by: "me".into(),
        };
        assert_eq!(Acceptance::decode(&acceptance.encode()), Ok(acceptance.clone()));
        assert!(acceptance.covers(&scope(), b"/registry/configmaps/apps/c"));
        assert!(!acceptance.covers(&scope(), b"/registry/configmaps/other/c"));
        let group = Group { resource: "configmaps".into(), namespace: ALL_NAMESPACES.into() };
        let wide = Acceptance { groups: vec![group], ..acceptance.clone() };
        assert!(wide.covers(&scope(), b"/registry/configmaps/other/c"));
        assert!(!wide.covers(&scope(), b"/registry/secrets/other/c"));
        assert!(acceptance.is_good("c1", ACCEPTANCE_MS) && !acceptance.is_good("c2", 2));
        assert!(!acceptance.is_good("c1", 1 + ACCEPTANCE_MS));
    }

    #[test]
    fn an_answer_keeps_those_before_it() {
        let mut acceptance = Acceptance {
            format: Acceptance::FORMAT,
            topic: Topic::EmptyPrimary,
            evidence: "empty".into(),
            primary: "c1".into(),
            primary_raft: None,
            groups: vec![],
            earlier: vec![Answered { topic: Topic::OtherPrimary, evidence: "another".into() }],
            given_ms: 1,
            by: "me".into(),
        };
        assert_eq!(Acceptance::decode(&acceptance.encode()), Ok(acceptance.clone()));
        assert_eq!(acceptance.evidence_on(Topic::EmptyPrimary).collect::<Vec<_>>(), ["empty"]);
        assert_eq!(acceptance.evidence_on(Topic::OtherPrimary).collect::<Vec<_>>(), ["another"]);
        assert_eq!(acceptance.evidence_on(Topic::OtherHistory).count(), 0);
        acceptance.earlier.clear();
        assert!(!String::from_utf8_lossy(&acceptance.encode()).contains("earlier"));
    }
}
