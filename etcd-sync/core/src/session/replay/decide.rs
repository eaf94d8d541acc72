//! What to write for the keys of a round, and in which transactions.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use bytes::Bytes;

use super::round::{Found, Step};
use super::{GENERATION_MS, Replay, VANISHING_TIMES};
use crate::etcd::kv::{KeyValue, Revision, printable};
use crate::link::state::Checkpoint;
use crate::object::{Header, Owner};
use crate::scope::content;
use crate::session::Note;
use crate::session::batch::{BatchLimits, Write};
use crate::session::families::{Member, owners_first};
use crate::session::shared::Shared;

/// Keys in one transaction: each has a compare of its own beside the fence, and perhaps an entry of the ledger.
const TXN_KEYS_MAX: usize = 60;

impl Replay {
    /// What to write for the keys of a round: those deleted that somebody made again under another UID, then everything put
    /// back, owners first. What has to wait for its owners stays lost for now.
    pub(super) fn decide_round(&mut self, shared: &mut Shared) -> VecDeque<Vec<Step>> {
        let keys = self.round.as_mut().map(|round| std::mem::take(&mut round.keys)).unwrap_or_default();
        let owned: HashSet<Bytes> =
            keys.iter().filter(|(_, found)| found.is_owned()).map(|(key, _)| key.clone()).collect();
        let Missing { members, headers, mut made_again, mut waiting } = self.missing(shared, keys);
        let (mut deletes, mut puts, mut putting) = (Vec::new(), Vec::new(), HashSet::new());
        for member in owners_first(members) {
            let Member { key, value, owners, .. } = member;
            let owner_keys = owners.iter().flat_map(|owner| shared.kinds.keys_of(&shared.scope, owner, &key));
            let is_new = |owner: &Bytes| putting.contains(owner) || self.is_fresh(owner, shared.now_ms);
            let fresh = |owner: &Bytes| owned.contains(owner) && is_new(owner);
            if owner_keys.into_iter().any(|owner| waiting.contains(&owner) || fresh(&owner)) {
                let due = shared.now_ms + GENERATION_MS;
                self.next_due_ms = self.next_due_ms.min(due);
                self.lost.insert(key.clone(), due);
                waiting.insert(key);
                continue;
            }
            self.note_if_vanishing(shared, &key, headers.get(&key).map(|header| &**header));
            if let Some(expected) = made_again.remove(&key) {
                deletes.push(Step { write: Write::Delete { key: key.clone() }, expected });
            }
            putting.insert(key.clone());
            puts.push(Step { write: Write::Put { key, value }, expected: 0 });
        }
        transactions(&deletes, puts, shared.config.limits)
    }

    /// Which keys of a round the standby really lacks: what is there is not lost any more.
    fn missing(&mut self, shared: &mut Shared, keys: BTreeMap<Bytes, Found>) -> Missing {
        let mut missing = Missing::default();
        for (key, Found { values, header, .. }) in keys {
            // Not on the primary, or not ours to put: what is still to come from there decides.
            let Some(primary) = values.primary else {
                self.lost.remove(&key);
                continue;
            };
            let is_another = |standby: &KeyValue| is_another(shared, header.as_deref(), standby);
            if values.standby.as_ref().is_some_and(|standby| !is_another(standby)) {
                // Also one that an abandoned transaction of ours made, and that looked foreign.
                shared.ledger.remove(key.clone(), 0);
                self.lost.remove(&key);
                continue;
            }
            let Checkpoint { revision, offset, .. } = shared.checkpoint;
            if primary.mod_revision > revision || (primary.mod_revision == revision && offset > 0) {
                // The stream brings it, and its dependents come after it.
                missing.waiting.insert(key);
                continue;
            }
            if let Some(standby) = values.standby {
                missing.made_again.insert(key.clone(), standby.create_revision);
            }
            let owners = header.as_deref().map(content::owners).unwrap_or_default();
            // Whatever cannot be decoded belongs to no family.
            let uid = header.as_ref().map_or_else(|| printable(&key), |header| header.uid.clone());
            missing.headers.extend(header.map(|header| (key.clone(), header)));
            missing.members.push(Member { key, value: primary.value, revision: primary.mod_revision, uid, owners });
        }
        missing
    }

    fn note_if_vanishing(&self, shared: &mut Shared, key: &Bytes, header: Option<&Header>) {
        let times = self.times(key, shared.now_ms);
        if times < VANISHING_TIMES {
            return;
        }
        let cause = match header.map(content::owners).unwrap_or_default().first() {
            Some(Owner { kind, name, .. }) => format!(
                "it depends on {kind} {name}, which the standby's garbage collector takes for deleted: see that it exists on both \
                 sides with the same UID, then restart the standby's kube-controller-manager"
            ),
            None => {
                "somebody or some controller on the standby deletes it: the API server's audit log shows who".to_owned()
            }
        };
        shared.note(Note::KeepsVanishing { key: key.clone(), times, cause });
    }
}

/// What of a round is to be put back.
#[derive(Default)]
struct Missing {
    members: Vec<Member>,
    headers: HashMap<Bytes, Box<Header>>,
    /// Keys under which somebody made another object after the loss, with its creation revision.
    made_again: HashMap<Bytes, Revision>,
    /// Keys that are not put back in this round.
    waiting: HashSet<Bytes>,
}

/// Cuts a round into transactions: deletions before everything else.
fn transactions(deletes: &[Step], puts: Vec<Step>, limits: BatchLimits) -> VecDeque<Vec<Step>> {
    // A key may take two operations.
    let keys_max = TXN_KEYS_MAX.min(limits.ops / 2).min(limits.keys_compared()).max(1);
    let mut txns: VecDeque<Vec<Step>> = deletes.chunks(keys_max).map(<[Step]>::to_vec).collect();
    let (mut txn, mut bytes) = (Vec::new(), 0);
    for step in puts {
        let size = step.write.size_bytes();
        if !txn.is_empty() && (txn.len() >= keys_max || bytes + size > limits.bytes) {
            txns.push_back(std::mem::take(&mut txn));
            bytes = 0;
        }
        bytes += size;
        txn.push(step);
    }
    txns.push_back(txn);
    txns
}

/// Whether the standby's key holds another object than the primary's: one that was made there after the loss.
fn is_another(shared: &Shared, primary: Option<&Header>, standby: &KeyValue) -> bool {
    let found = content::header(&shared.config.keyring, standby);
    primary.zip(found).is_some_and(|(primary, found)| primary.uid != found.uid)
}
