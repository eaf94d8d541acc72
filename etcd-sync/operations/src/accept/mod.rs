//! `accept`: what a paused link asks, what the standby would lose by a yes, and the transaction that gives the answer.

mod text;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use bytes::Bytes;
use etcd_sync_core::etcd::kv::{KeyValue, Revision, printable};
use etcd_sync_core::etcd::request::{Compare, Op, Txn, TxnReply};
use etcd_sync_core::link::fence::is_standby;
use etcd_sync_core::link::history::RaftMark;
use etcd_sync_core::link::provenance::{Moments, Origin};
use etcd_sync_core::link::question::{ALL_NAMESPACES, Acceptance, Answered, GROUPS_MAX, Group, Question, Topic};
use etcd_sync_core::link::state::{Checkpoint, StateKeys};
use etcd_sync_core::object::encryption::Keyring;
use etcd_sync_core::object::object_key::namespace_of;
use etcd_sync_core::scope::content::{self, Kinds, NAMESPACES};
use etcd_sync_core::scope::{Decision, Scope};
use etcd_sync_core::session::{container_of_crd, directory_of};

use crate::prune::{NotStandby, standby};

pub use text::{Given, Next, name};

/// Why no answer is given. Each text says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Only a standby is asked anything.
    #[error(transparent)]
    Role(#[from] NotStandby),
    /// It runs where files do not last.
    #[error(
        "this runs in a pod, and a file that is created here is lost with it; give `--backup -` and redirect stdout to a file \
         (`kubectl exec … -- etcd-sync accept --yes --backup - > saved.jsonl`), or --backup FILE on a volume that stays"
    )]
    InPod,
    /// Values are secrets.
    #[error("`--backup -` would show the saved values on the terminal: redirect stdout to a file")]
    Terminal,
    /// Stdout can hold one of the two.
    #[error("`--backup -` and `-o json` both write to stdout: omit one of them")]
    TwoOnStdout,
    /// The question is about a primary that is not there now.
    #[error(
        "the question is about a primary with cluster id {asked}, and --primary-endpoints lead to cluster {found}: wrong \
         endpoints, or the primary was replaced since; a running synchronizer asks again within seconds"
    )]
    OtherPrimary {
        /// Of the question.
        asked: String,
        /// Found.
        found: String,
    },
    /// The question was withdrawn meanwhile.
    #[error("nothing is asked any more: see `etcd-sync status`")]
    Withdrawn,
    /// Something else is asked now.
    #[error("the question is another one than the one that was shown: run it again to see the new one")]
    OtherQuestion,
}

/// How a key of the standby would be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loss {
    /// Deleted.
    Deleted,
    /// Deleted, unless the standby's history shows that it is the standby's own.
    Undecided,
    /// Replaced by the primary's value.
    Replaced,
}

/// What judging a key needs to know.
#[derive(Debug)]
pub struct Judge<'a> {
    /// What is synchronized.
    pub scope: &'a Scope,
    /// Decrypts values.
    pub keyring: &'a Keyring,
    /// The kinds that the primary's CRDs define.
    pub kinds: Kinds,
    /// Which keys of the standby are its own, by their revisions.
    pub moments: Moments,
    /// And those on record.
    pub local: HashSet<Bytes>,
    /// Mirrored keys that others have changed on the standby.
    pub edited: HashSet<Bytes>,
    /// Which values that differ count.
    pub replaced: Replaced,
    /// What is marked for deletion on the primary, where marks count: the standby's own controllers delete what is marked.
    pub going: Option<Going>,
}

/// Namespaces and CRDs that are to go, and with them all that they contain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Going {
    namespaces: HashSet<Vec<u8>>,
    directories: HashSet<Bytes>,
}

impl Going {
    /// A Namespace or a CRD of the primary; others, and those that are not marked, are passed over.
    pub fn learn(&mut self, scope: &Scope, keyring: &Keyring, primary: &KeyValue) {
        if is_marked(keyring, primary) {
            self.add(scope, &primary.key);
        }
    }

    /// A Namespace or a CRD that is marked, or gone from the primary.
    pub fn add(&mut self, scope: &Scope, key: &[u8]) {
        let Some((_, relative)) = scope.split(key) else { return };
        match container_of_crd(scope, key) {
            Some(directory) => drop(self.directories.insert(directory)),
            None if relative.starts_with(NAMESPACES.as_bytes()) => {
                self.namespaces.extend(namespace_of(relative).map(<[u8]>::to_vec));
            }
            None => {}
        }
    }

    fn holds(&self, scope: &Scope, key: &[u8]) -> bool {
        let namespace = scope.split(key).and_then(|(_, relative)| namespace_of(relative));
        namespace.is_some_and(|namespace| self.namespaces.contains(namespace))
            || directory_of(scope, key).is_some_and(|directory| self.directories.contains(directory))
    }
}

fn is_marked(keyring: &Keyring, kv: &KeyValue) -> bool {
    content::header(keyring, kv).is_some_and(|header| header.deleting)
}

/// Which values that differ count as lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// All: the revisions of the two histories cannot be compared.
    All,
    /// Those that the primary last changed at or below this revision of its own, so that newer data is replaced by older.
    ByOlder {
        /// The revision.
        floor: Revision,
        /// What others have changed on the standby is healed, and is no loss.
        mirrored_only: bool,
    },
}

impl Replaced {
    /// What counts for a question, by the record as it stands.
    pub fn of(question: &Question, checkpoint: &Checkpoint) -> Self {
        // Of a revision that was applied in part only what is before it is whole.
        let floor = checkpoint.revision - Revision::from(checkpoint.offset > 0);
        let is_same = checkpoint.primary == question.primary && floor > 0;
        match question.topic {
            Topic::Deletions | Topic::Brake if is_same => Replaced::ByOlder { floor, mirrored_only: true },
            Topic::Unproved if is_same => Replaced::ByOlder { floor, mirrored_only: false },
            _ => Replaced::All,
        }
    }
}

impl Judge<'_> {
    /// What becomes of a key that is in scope on both sides, as far as they have it; `None`: nothing of it is lost.
    pub fn judge(&self, standby: &KeyValue, primary: Option<&KeyValue>) -> Option<Loss> {
        if let Some(going) = &self.going
            && (going.holds(self.scope, &standby.key) || primary.is_some_and(|kv| is_marked(self.keyring, kv)))
        {
            return Some(Loss::Deleted);
        }
        let Some(primary) = primary else {
            let in_ledger = self.local.contains(&standby.key);
            return match self.moments.origin(in_ledger, standby.create_revision, standby.mod_revision) {
                Origin::Local => None,
                Origin::Mirrored => Some(Loss::Deleted),
                Origin::AskHistory => Some(Loss::Undecided),
            };
        };
        let counts = match self.replaced {
            Replaced::All => true,
            Replaced::ByOlder { floor, mirrored_only } => {
                primary.mod_revision <= floor && (!mirrored_only || self.is_untouched(standby))
            }
        };
        let is_replaced = counts
            && standby.value != primary.value
            && !content::is_filtered(self.scope, &self.kinds, self.keyring, primary);
        is_replaced.then_some(Loss::Replaced)
    }

    /// Whether the scope decides for a key by its name and lease.
    pub fn is_in_scope(&self, kv: &KeyValue) -> bool {
        self.scope.decide_kv(kv) == Decision::InScope
    }

    fn is_untouched(&self, standby: &KeyValue) -> bool {
        standby.mod_revision <= self.moments.seen
            && !self.edited.contains(&standby.key)
            && !self.local.contains(&standby.key)
    }
}

/// Keys of one group that would be lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Deleted, those included of which the standby's history decides.
    pub deleted: u64,
    /// Replaced.
    pub replaced: u64,
}

/// A question, and what a yes would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The link.
    pub link: String,
    /// What is asked.
    pub question: Question,
    /// Both clusters were compared; else there was nothing to lose.
    pub compared: bool,
    /// An answer that was given before and is good still: when, in Unix milliseconds, and by whom.
    pub answered: Option<(u64, String)>,
    /// Now, in Unix milliseconds.
    pub now_ms: u64,
    total: Count,
    undecided: u64,
    bytes: u64,
    groups: BTreeMap<Group, Count>,
    first: Vec<(String, Loss)>,
}

impl Plan {
    /// Nothing is lost yet.
    pub fn new(link: &str, question: Question, now_ms: u64) -> Plan {
        Plan {
            link: link.to_owned(),
            question,
            compared: false,
            answered: None,
            now_ms,
            total: Count::default(),
            undecided: 0,
            bytes: 0,
            groups: BTreeMap::new(),
            first: Vec::new(),
        }
    }

    /// Counts a key that would be lost; up to `keys_max` are kept by name.
    pub fn add(&mut self, scope: &Scope, standby: &KeyValue, loss: Loss, keys_max: usize) {
        let group = self.groups.entry(Group::of(scope, &standby.key)).or_default();
        for count in [group, &mut self.total] {
            match loss {
                Loss::Deleted | Loss::Undecided => count.deleted += 1,
                Loss::Replaced => count.replaced += 1,
            }
        }
        self.undecided += u64::from(loss == Loss::Undecided);
        self.bytes += standby.value.len() as u64;
        if self.first.len() < keys_max {
            self.first.push((printable(&standby.key), loss));
        }
    }

    /// How many values would be lost.
    pub fn count(&self) -> u64 {
        self.total.deleted + self.total.replaced
    }

    /// What has to be typed to go on.
    pub fn confirmation(&self) -> String {
        match self.count() {
            0 => text::name(self.question.topic).to_owned(),
            count => count.to_string(),
        }
    }

    /// Every group with what was found now, and what the question says of it.
    fn all_groups(&self) -> BTreeMap<&Group, (Count, u64)> {
        let mut all: BTreeMap<&Group, (Count, u64)> =
            self.groups.iter().map(|(group, count)| (group, (*count, 0))).collect();
        for (group, &asked) in self.question.losses.iter().flat_map(|losses| &losses.groups) {
            all.entry(group).or_default().1 = asked;
        }
        all
    }

    /// What the answer covers: what was found now, and what the question lists. More than can be written down one by one are
    /// covered by resource, in all namespaces.
    pub fn covered(&self) -> BTreeSet<Group> {
        let groups: BTreeSet<Group> = self.all_groups().into_keys().cloned().collect();
        if groups.len() <= GROUPS_MAX {
            return groups;
        }
        let wide = |Group { resource, .. }: Group| Group { resource, namespace: ALL_NAMESPACES.into() };
        groups.into_iter().map(wide).collect()
    }

    /// The answer. `earlier` is the one on record.
    pub fn acceptance(&self, mark: Option<RaftMark>, earlier: Option<&Acceptance>, by: &str) -> Acceptance {
        let Question { topic, evidence, primary, .. } = self.question.clone();
        Acceptance {
            format: Acceptance::FORMAT,
            earlier: self.earlier(earlier),
            topic,
            evidence,
            primary,
            primary_raft: mark,
            groups: self.covered().into_iter().collect(),
            given_ms: self.now_ms,
            by: by.to_owned(),
        }
    }

    fn earlier(&self, earlier: Option<&Acceptance>) -> Vec<Answered> {
        let Some(earlier) = earlier.filter(|given| given.is_good(&self.question.primary, self.now_ms)) else {
            return vec![];
        };
        let last = Answered { topic: earlier.topic, evidence: earlier.evidence.clone() };
        let mut all: Vec<Answered> = earlier.earlier.iter().cloned().chain([last]).collect();
        all.retain(|answered| answered.topic != self.question.topic);
        all
    }
}

/// Whether a link may be asked anything: its role as it was read. `ran`: there is a checkpoint.
///
/// # Errors
/// The cluster is no standby.
pub fn may_answer(role: Option<&[u8]>, ran: bool) -> Result<(), NotStandby> {
    match role {
        // A link that was refused from the beginning has no role yet.
        None if !ran => Ok(()),
        role => standby(role),
    }
}

/// The transaction that gives the answer to the question with this modification revision. `ran`: there is a checkpoint, and so a
/// role.
pub fn giving(keys: &StateKeys, ran: bool, question: Revision, acceptance: &Acceptance) -> Txn {
    let absent = |key: &Bytes| Compare::CreateRevision { key: key.clone(), revision: 0 };
    let mut compares = match ran {
        true => vec![is_standby(keys)],
        false => vec![absent(&keys.role), absent(&keys.checkpoint)],
    };
    compares.push(Compare::ModRevision { key: keys.question.clone(), revision: question });
    let value = acceptance.encode();
    let gets = [&keys.role, &keys.question, &keys.checkpoint];
    Txn {
        compares,
        success: vec![Op::Put { key: keys.acceptance.clone(), value, lease: 0 }],
        failure: gets.map(|key| Op::Get { key: key.clone() }).to_vec(),
    }
}

/// What a transaction of [`giving`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gave {
    /// The answer is on record.
    Yes,
    /// The same question was written again, with this modification revision: another replica asks it now.
    AskedAgain {
        /// The revision.
        question: Revision,
        /// There is a checkpoint now.
        ran: bool,
    },
}

/// What the answer to [`giving`] says about the question that was `shown`.
///
/// # Errors
/// Why the answer is not given.
pub fn gave(reply: &TxnReply, shown: &Question) -> Result<Gave, Refusal> {
    if reply.succeeded {
        return Ok(Gave::Yes);
    }
    let get = |index: usize| reply.gets.get(index).and_then(Option::as_ref);
    let ran = get(2).is_some();
    may_answer(get(0).map(|role| &role.value[..]), ran)?;
    let Some(found) = get(1) else { return Err(Refusal::Withdrawn) };
    match Question::decode(&found.value) {
        Ok(now) if is_same(&now, shown) => Ok(Gave::AskedAgain { question: found.mod_revision, ran }),
        _ => Err(Refusal::OtherQuestion),
    }
}

/// Whether two questions are one: another replica may ask it at another time, and count less of the losses.
pub fn is_same(one: &Question, other: &Question) -> bool {
    let what = |question: &Question| (question.topic, question.evidence.clone(), question.primary.clone());
    what(one) == what(other)
}

#[cfg(test)]
mod tests;
