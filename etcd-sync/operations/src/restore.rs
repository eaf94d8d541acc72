//! `restore`: which saved keys are put back, together with which others, and the transaction that does it.
//!
//! The standby's garbage collector remembers owners that it saw vanish (see [`etcd_sync_core::session`]'s replay): owners that own by
//! themselves come in one transaction with what they own, every further generation when the one before has settled.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};

use crate::prune::{NotStandby, standby};
use crate::saved::fingerprint;
use etcd_sync_core::etcd::kv::{KeyValue, printable};
use etcd_sync_core::etcd::request::{Compare, Op, Txn, TxnReply};
use etcd_sync_core::link::fence::is_standby;
use etcd_sync_core::link::state::{Phase, StateKeys};
use etcd_sync_core::object::Header;
use etcd_sync_core::scope::content;
use etcd_sync_core::scope::{Decision, Scope};
use etcd_sync_core::session::families::generations;

/// Why nothing is put back. Each text says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Only a standby is written to.
    #[error(transparent)]
    Role(#[from] NotStandby),
    /// The file is another cluster's.
    #[error(
        "the keys were saved from cluster {saved}, and this standby is cluster {found}: check --standby-endpoints, or give \
         --accept-other-cluster"
    )]
    OtherCluster {
        /// Of the file.
        saved: String,
        /// Of the standby.
        found: String,
    },
    /// The standby has no record of the link.
    #[error(
        "nothing was ever synchronized into this standby by link {link}: check --standby-endpoints and --link, or start \
         `etcd-sync run` first"
    )]
    NeverSynchronized {
        /// The link.
        link: String,
    },
    /// The synchronizer brings keys itself.
    #[error(
        "{} is not complete, so the standby does not have yet what the primary brings: put keys back when `etcd-sync status` \
         says streaming",
        phase.name()
    )]
    Copying {
        /// What is under way.
        phase: Phase,
    },
}

/// Keys in one transaction: each takes a compare and two operations.
const TOGETHER_MAX: usize = 50;

/// Bytes in one transaction.
const TOGETHER_BYTES_MAX: usize = 1 << 20;

/// A saved key without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The key.
    pub key: Bytes,
    fingerprint: [u8; 32],
    bytes: usize,
    uid: String,
    owners: Vec<String>,
    closed: bool,
}

impl Item {
    /// A key of the file, with its header if it is an object that can be read; `closed`: it is encrypted, and nothing at
    /// hand opens it.
    pub fn new(kv: &KeyValue, header: Option<&Header>, closed: bool) -> Item {
        let owners = header.map(content::owners).unwrap_or_default();
        Item {
            key: kv.key.clone(),
            fingerprint: fingerprint(&kv.value),
            bytes: kv.key.len() + kv.value.len(),
            uid: header.map_or(String::new(), |header| header.uid.clone()),
            owners: owners.into_iter().map(|owner| owner.uid).collect(),
            closed,
        }
    }

    /// Whether this is the value that was saved.
    pub fn is(&self, value: &[u8]) -> bool {
        fingerprint(value) == self.fingerprint
    }

    /// Whether it names an owner, without which it would be deleted again. Of what is closed nobody knows.
    pub fn may_be_owned(&self) -> bool {
        !self.owners.is_empty() || self.closed
    }

    /// What is to become of the key, by what both clusters hold of it now.
    pub fn state(&self, scope: &Scope, standby: Option<&KeyValue>, on_primary: bool) -> State {
        match (scope.decide(&self.key), standby) {
            (Decision::Out(_), _) => State::OutOfScope,
            (_, Some(kv)) if self.is(&kv.value) => State::Same,
            (_, Some(_)) => State::Differs,
            (_, None) if on_primary => State::OnPrimary,
            (_, None) => State::Absent,
        }
    }
}

/// What is to become of a saved key, or has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The standby does not have it: it is put back.
    Absent,
    /// It was put back.
    PutBack,
    /// The standby has it with the same value.
    Same,
    /// The standby has it with another value: left alone.
    Differs,
    /// The primary has it, and the synchronizer brings it: left alone.
    OnPrimary,
    /// Not in scope: refused.
    OutOfScope,
    /// It was put back and is gone again.
    Vanished,
}

impl State {
    /// Whether the standby is as the file says, or will be.
    pub fn is_good(self) -> bool {
        matches!(self, State::Absent | State::PutBack | State::Same)
    }

    /// What people read.
    pub fn text(self) -> &'static str {
        match self {
            State::Absent => "to put back",
            State::PutBack => "put back",
            State::Same => "there already, with the same value",
            State::Differs => "left alone: there with another value; delete it first if the saved one is the right one",
            State::OnPrimary => "left alone: the primary has it, and the synchronizer brings it",
            State::OutOfScope => "refused: out of scope, with these flags (--prefix, --exclude-namespace, ...)",
            State::Vanished => {
                "put back and gone again: the standby's garbage collector takes its owner for deleted; restart the standby's \
                 kube-controller-manager, then run this again"
            }
        }
    }
}

/// Keys to put back in one transaction, by their place in the list.
pub type Together = Vec<usize>;

/// In which order keys are put back. Between two of the outer lists the collector must come to rest.
pub fn order(items: &[Item], absent: &[usize]) -> Vec<Vec<Together>> {
    let kin: Vec<_> = absent.iter().map(|&i| (items[i].uid.clone(), items[i].owners.clone())).collect();
    let generation = generations(&kin);
    let first: Vec<usize> = (0..absent.len()).filter(|&n| generation[n] <= 1).collect();
    let mut stages = vec![families(items, absent, &first, &generation)];
    let last = generation.iter().copied().max().unwrap_or(0);
    for wanted in 2..=last {
        let of_it = (0..absent.len()).filter(|&n| generation[n] == wanted);
        stages.push(of_it.map(|n| vec![absent[n]]).collect());
    }
    stages
}

/// Roots with what they own, in parts that fit a transaction; roots come first.
fn families(items: &[Item], absent: &[usize], members: &[usize], generation: &[u32]) -> Vec<Together> {
    let root = |n: usize| &items[absent[n]];
    let by_uid: BTreeMap<&str, usize> = members
        .iter()
        .filter(|&&n| generation[n] == 0 && !root(n).uid.is_empty())
        .map(|&n| (&root(n).uid[..], n))
        .collect();
    // The family of a root: the lowest of those that share dependents with it.
    let mut family: Vec<usize> = (0..absent.len()).collect();
    fn head(family: &[usize], mut n: usize) -> usize {
        while family[n] != n {
            n = family[n];
        }
        n
    }
    for &n in members {
        for &owner in root(n).owners.iter().filter_map(|owner| by_uid.get(&owner[..])) {
            let (a, b) = (head(&family, n), head(&family, owner));
            let (low, high) = (a.min(b), a.max(b));
            family[high] = low;
        }
    }
    let mut grouped: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    members.iter().for_each(|&n| grouped.entry(head(&family, n)).or_default().push(n));
    let mut all = Vec::new();
    for mut group in grouped.into_values() {
        group.sort_by_key(|&n| generation[n]);
        let (mut together, mut bytes) = (Together::new(), 0);
        for n in group {
            let size = root(n).bytes;
            if !together.is_empty() && (together.len() >= TOGETHER_MAX || bytes + size > TOGETHER_BYTES_MAX) {
                all.push(std::mem::take(&mut together));
                bytes = 0;
            }
            bytes += size;
            together.push(absent[n]);
        }
        all.push(together);
    }
    all
}

/// A transaction that puts keys back, all or none, and on the record of local keys.
pub fn putting_back(keys: &StateKeys, kvs: &[KeyValue]) -> Txn {
    let absent = kvs.iter().map(|kv| Compare::CreateRevision { key: kv.key.clone(), revision: 0 });
    let put = |kv: &KeyValue| {
        let entry = Op::Put { key: keys.local_entry(&kv.key), value: Bytes::new(), lease: 0 };
        [Op::Put { key: kv.key.clone(), value: kv.value.clone(), lease: 0 }, entry]
    };
    let failure = [keys.role.clone()].into_iter().chain(kvs.iter().take(1).map(|kv| kv.key.clone()));
    Txn {
        compares: std::iter::once(is_standby(keys)).chain(absent).collect(),
        success: kvs.iter().flat_map(put).collect(),
        failure: failure.map(|key| Op::Get { key }).collect(),
    }
}

/// A transaction that removes the entry of a value saved on the standby, as it was read: `key` is the key that it had.
pub fn clearing(keys: &StateKeys, saved: &KeyValue) -> Txn {
    let entry = keys.saved_entry(&saved.key);
    let unchanged = Compare::ModRevision { key: entry.clone(), revision: saved.mod_revision };
    Txn { compares: vec![is_standby(keys), unchanged], success: vec![Op::Delete { key: entry }], failure: vec![] }
}

/// What the answer to [`putting_back`] of one key says.
///
/// # Errors
/// The cluster is no standby any more.
pub fn put_back(item: &Item, reply: &TxnReply) -> Result<State, NotStandby> {
    if reply.succeeded {
        return Ok(State::PutBack);
    }
    let get = |index: usize| reply.gets.get(index).and_then(Option::as_ref);
    standby(get(0).map(|role| &role.value[..]))?;
    Ok(match get(1) {
        Some(kv) if item.is(&kv.value) => State::Same,
        _ => State::Differs,
    })
}

/// The keys of a file by their state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    states: BTreeMap<State, Vec<String>>,
    closed: u64,
}

impl Report {
    /// Of these keys.
    pub fn new<'a>(keys: impl Iterator<Item = (&'a Item, State)>) -> Report {
        let mut report = Report::default();
        for (item, state) in keys {
            report.closed += u64::from(item.closed && matches!(state, State::Absent | State::PutBack));
            report.states.entry(state).or_default().push(printable(&item.key));
        }
        report
    }

    /// How many keys are put back with nobody knowing their owners: what they hold is encrypted.
    pub fn closed(&self) -> u64 {
        self.closed
    }

    /// How many keys are in a state.
    pub fn count(&self, state: State) -> u64 {
        self.states.get(&state).map_or(0, |keys| keys.len() as u64)
    }

    /// Whether nothing is left alone or gone again.
    pub fn is_good(&self) -> bool {
        self.states.keys().all(|state| state.is_good())
    }

    /// For people; at most `limit` keys of each state.
    pub fn text(&self, limit: usize) -> String {
        let mut text = String::new();
        for (state, keys) in &self.states {
            text.push_str(&format!("{:>9}  {}\n", keys.len(), state.text()));
            let shown = limit.min(keys.len());
            keys[..shown].iter().for_each(|key| text.push_str(&format!("             {key}\n")));
            if keys.len() > shown {
                text.push_str(&format!("             … and {} more (--limit 0 shows all)\n", keys.len() - shown));
            }
        }
        if self.closed > 0 {
            text.push_str(&format!(
                "Note: {} of these are encrypted, and nothing at hand opens them, so an owner may come back after what it owns and \
                 the garbage collector may take that again: give --encryption-config, and see that its KMS answers\n",
                self.closed
            ));
        }
        text
    }

    /// For programs, with every key.
    pub fn json(&self) -> Value {
        let states =
            self.states.iter().map(|(state, keys)| json!({ "state": state, "count": keys.len(), "keys": keys }));
        states.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etcd_sync_core::object::Owner;
    use etcd_sync_core::scope::ScopeConfig;

    fn item(key: &str, uid: &str, owners: &[&str]) -> Item {
        let key = Bytes::copy_from_slice(key.as_bytes());
        let kv = KeyValue { key, value: Bytes::from_static(b"v"), create_revision: 1, mod_revision: 1, lease: 0 };
        let owners = owners.iter().map(|&uid| Owner { uid: uid.into(), ..Owner::default() }).collect();
        Item::new(&kv, Some(&Header { kind: "K".into(), uid: uid.into(), owners, ..Header::default() }), false)
    }

    #[test]
    fn roots_come_with_what_they_own_and_chains_by_generation() {
        let items = [
            item("/pod", "p", &["rs"]),
            item("/rs", "rs", &["d"]),
            item("/d", "d", &[]),
            item("/alone", "a", &[]),
            item("/both", "b", &["d", "a"]),
            item("/other", "o", &["elsewhere"]),
            item("/there", "t", &[]),
        ];
        let absent = [0, 1, 2, 3, 4, 5];
        assert_eq!(order(&items, &absent), [vec![vec![2, 3, 1, 4], vec![5]], vec![vec![0]]]);
        assert_eq!(order(&items, &[]), [Vec::<Together>::new()]);
        // What is there already waits for nobody.
        assert_eq!(order(&items, &[0]), [vec![vec![0]]]);
    }

    #[test]
    fn a_large_family_comes_in_parts_with_its_root_first() {
        let mut items: Vec<Item> = (0..120).map(|i| item(&format!("/c{i}"), &format!("c{i}"), &["root"])).collect();
        items.push(item("/root", "root", &[]));
        let all: Vec<usize> = (0..items.len()).collect();
        let [stage] = &order(&items, &all)[..] else { panic!("more than one stage") };
        assert_eq!(stage.iter().map(Vec::len).collect::<Vec<_>>(), [50, 50, 21]);
        assert_eq!(stage[0][0], 120);
        items.iter_mut().for_each(|item| item.bytes = 400 << 10);
        assert!(order(&items, &all)[0].iter().all(|together| together.len() <= 2));
    }

    #[test]
    fn circles_and_unknown_owners_do_not_stop_it() {
        let items = [item("/a", "a", &["b"]), item("/b", "b", &["a"]), item("/c", "", &[""])];
        let order = order(&items, &[0, 1, 2]);
        assert_eq!(order.iter().flatten().flatten().count(), 3);
    }

    #[test]
    fn states_follow_what_is_there() {
        let scope = Scope::new(&ScopeConfig::default()).unwrap();
        let saved = item("/registry/configmaps/apps/a", "a", &[]);
        let held = |value: &'static str| KeyValue {
            key: saved.key.clone(),
            value: Bytes::from_static(value.as_bytes()),
            create_revision: 1,
            mod_revision: 1,
            lease: 0,
        };
        assert_eq!(saved.state(&scope, None, false), State::Absent);
        assert_eq!(saved.state(&scope, None, true), State::OnPrimary);
        assert_eq!(saved.state(&scope, Some(&held("v")), true), State::Same);
        assert_eq!(saved.state(&scope, Some(&held("w")), false), State::Differs);
        for key in
            ["/etcd-sync/default/role", "/registry/configmaps/kube-system/a", "/registry/minions/a", "compact_rev_key"]
        {
            assert_eq!(item(key, "a", &[]).state(&scope, None, false), State::OutOfScope, "{key}");
        }
    }

    #[test]
    fn a_report_names_every_state() {
        let items = [item("/a", "a", &[]), item("/b", "b", &[]), item("/c", "c", &[])];
        let states = [State::Absent, State::Absent, State::Differs];
        let report = Report::new(items.iter().zip(states));
        assert!(!report.is_good());
        assert_eq!(
            report.text(1),
            "        2  to put back\n             /a\n             … and 1 more (--limit 0 shows all)\n        1  left alone: there \
             with another value; delete it first if the saved one is the right one\n             /c\n"
        );
        assert_eq!(report.json()[0], json!({ "state": "absent", "count": 2, "keys": ["/a", "/b"] }));
    }

    #[test]
    fn what_cannot_be_decrypted_is_reported_and_may_be_owned() {
        let closed = Item { closed: true, ..item("/a", "", &[]) };
        assert!(
            closed.may_be_owned() && item("/b", "b", &["a"]).may_be_owned() && !item("/c", "c", &[]).may_be_owned()
        );
        let report = |state| Report::new([(&closed, state), (&item("/c", "c", &[]), state)].into_iter());
        assert_eq!((report(State::Absent).closed(), report(State::PutBack).closed()), (1, 1));
        assert!(report(State::Absent).text(9).contains("Note: 1 of these are encrypted"));
        assert!(report(State::Same).closed() == 0 && !report(State::Same).text(9).contains("Note"));
    }
}
