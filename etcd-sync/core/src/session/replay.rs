//! Healing: a synchronized key that somebody deletes on the standby is put back as the primary has it, owners first. What
//! keeps vanishing is put back ever more slowly and named with the likely cause.
//!
//! The collector remembers the UID of every owner it saw vanish, and believes that memory whenever a dependent reaches it before
//! its owner's own news, as watches of different resources do (pkg/controller/garbagecollector: absentOwnerCache). So owners
//! that own by themselves come first, and each further generation when the collector must have heard of the one before.
//!
//! A key is put back only when both clusters were read and agree with the record: the primary's last change of it is applied
//! already, and the standby still shows what was read (each write compares that).

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use bytes::Bytes;

use super::commit::{Changes, Purpose, op};
use super::examine::Verdict;
use super::shared::{ReadFor, Shared};
use super::{Ended, Note, ReadFailure};
use crate::etcd::kv::{KeyValue, Revision, printable};
use crate::etcd::request::{Compare, Page};
use crate::link::side::{Side, Sides};
use crate::link::state::Checkpoint;
use crate::object::{Header, Owner};
use crate::scope::content;
use crate::session::batch::{BatchLimits, Write};
use crate::session::families::{Member, owners_first};

/// Keys known to be lost at most; with more, a resync by difference is the better way.
const LOST_MAX: usize = 100_000;

/// Keys taken up at once, before their owners come to it: both values of each are held in memory.
const ROUND_MAX: usize = 32;

/// Owners of owners are followed so far in one round.
const ROUND_WITH_OWNERS_MAX: usize = 128;

/// Keys in one transaction: each has a compare of its own beside the fence, and perhaps an entry of the ledger.
const TXN_KEYS_MAX: usize = 60;

/// Nothing is put back while deletions keep coming, for what the collector has queued it deletes for sure; but no longer than
/// the second.
const QUIET_MS: u64 = 400;
const QUIET_MOST_MS: u64 = 1_500;

/// Between an owner that is owned itself and its dependents.
const GENERATION_MS: u64 = 500;

/// The first pause of a key; each further one doubles.
const PAUSE_FIRST_MS: u64 = 100;
const PAUSE_MOST_MS: u64 = 60_000;

/// A key that stayed so long begins again.
const FORGET_AFTER_MS: u64 = 10 * 60_000;

/// Put back so often within that time, a key is reported.
const VANISHING_TIMES: u32 = 5;

/// Keys whose earlier replays are remembered.
const REMEMBERED_MAX: usize = 10_000;

/// A key taken up comes up again after this time at the earliest, if it is still lost.
const AGAIN_MS: u64 = 500;

/// What is to be healed, and how often it was.
#[derive(Debug, Default)]
pub(super) struct Replay {
    /// Lost keys, with the time from which they are taken up. Sorted: whose turn it is must not depend on chance.
    lost: BTreeMap<Bytes, u64>,
    /// No lost key is due before this time.
    next_due_ms: u64,
    /// The first and the last loss since the last round.
    first_loss_ms: Option<u64>,
    last_loss_ms: u64,
    done: HashMap<Bytes, Done>,
    round: Option<Round>,
}

#[derive(Clone, Copy, Debug)]
struct Done {
    times: u32,
    last_ms: u64,
}

/// Some lost keys on their way back, with the owners they name.
#[derive(Debug, Default)]
struct Round {
    keys: BTreeMap<Bytes, Found>,
    reads_due: usize,
    /// Decided, and waiting to be sent one after the other.
    txns: Option<VecDeque<Vec<Step>>>,
}

/// What both clusters hold of a key.
#[derive(Debug, Default)]
struct Found {
    values: Sides<Option<KeyValue>>,
    /// Of the primary's value, where it can be decoded.
    header: Option<Box<Header>>,
}

impl Found {
    fn is_owned(&self) -> bool {
        self.header.as_deref().is_some_and(|header| !content::owners(header).is_empty())
    }
}

/// One key's part of a transaction.
#[derive(Clone, Debug)]
struct Step {
    write: Write,
    /// The creation revision the key must still have on the standby; 0 is absent.
    expected: Revision,
}

impl Replay {
    /// The keys that are lost and not back yet.
    pub(super) fn keys(&self) -> impl Iterator<Item = &Bytes> {
        self.lost.keys()
    }

    /// How many keys are lost and not back yet.
    pub(super) fn len(&self) -> usize {
        self.lost.len()
    }

    fn pause_ms(&self, key: &Bytes, now_ms: u64) -> u64 {
        match self.done.get(key) {
            Some(done) if now_ms < done.last_ms + FORGET_AFTER_MS => {
                (PAUSE_FIRST_MS << (done.times + 1).min(16)).min(PAUSE_MOST_MS)
            }
            _ => PAUSE_FIRST_MS,
        }
    }

    /// Whether a key was put back so lately that the collector may not know of it yet.
    fn is_fresh(&self, key: &Bytes, now_ms: u64) -> bool {
        self.done.get(key).is_some_and(|done| now_ms < done.last_ms + GENERATION_MS)
    }

    /// The stream wrote this key itself: nothing is left to heal.
    pub(super) fn on_written(&mut self, key: &Bytes) {
        self.lost.remove(key);
        if let Some(round) = &mut self.round {
            round.keys.remove(key);
            if let Some(txns) = &mut round.txns {
                txns.iter_mut().for_each(|txn| txn.retain(|step| step.write.key() != key));
            }
        }
    }

    fn times(&self, key: &Bytes, now_ms: u64) -> u32 {
        let lately = self.done.get(key).filter(|done| now_ms < done.last_ms + FORGET_AFTER_MS);
        lately.map_or(0, |done| done.times)
    }

    fn count(&mut self, key: &Bytes, now_ms: u64) {
        if self.done.len() >= REMEMBERED_MAX {
            // Those put back longest ago are the least likely to be needed.
            let mut times: Vec<u64> = self.done.values().map(|done| done.last_ms).collect();
            let (_, &mut old, _) = times.select_nth_unstable(REMEMBERED_MAX / 10);
            self.done.retain(|_, done| done.last_ms > old);
        }
        let fresh = Done { times: 0, last_ms: now_ms };
        let done = self.done.entry(Bytes::copy_from_slice(key)).or_insert(fresh);
        if now_ms >= done.last_ms + FORGET_AFTER_MS {
            *done = fresh;
        }
        (done.times, done.last_ms) = (done.times + 1, now_ms);
    }

    /// Keys that were put back again and again within the last minutes.
    pub(super) fn vanishing(&self, now_ms: u64) -> u64 {
        let lately = |done: &&Done| done.times >= VANISHING_TIMES && now_ms < done.last_ms + FORGET_AFTER_MS;
        self.done.values().filter(lately).count() as u64
    }
}

impl Replay {
    /// A key that the standby should have was found missing there.
    pub(super) fn add_lost(&mut self, key: &Bytes, now_ms: u64) -> Result<(), Ended> {
        if self.lost.len() >= LOST_MAX {
            return Err(Ended::Again { force_copy: true, why: "more keys are missed than can be put back one by one" });
        }
        self.first_loss_ms.get_or_insert(now_ms);
        self.last_loss_ms = now_ms;
        let due = now_ms + self.pause_ms(key, now_ms);
        self.next_due_ms = self.next_due_ms.min(due);
        self.lost.entry(Bytes::copy_from_slice(key)).or_insert(due);
        Ok(())
    }

    /// Reads both sides of the keys that are due.
    pub(super) fn try_begin_round(&mut self, shared: &mut Shared) {
        let now = shared.now_ms;
        if self.round.is_some() || self.lost.is_empty() || now < self.next_due_ms {
            return;
        }
        let longest = self.first_loss_ms.unwrap_or(now) + QUIET_MOST_MS;
        if now < (self.last_loss_ms + QUIET_MS).min(longest) {
            return;
        }
        self.first_loss_ms = None;
        let due = self.lost.iter().filter(|(_, due)| **due <= now);
        let keys: Vec<Bytes> = due.map(|(key, _)| key.clone()).take(ROUND_MAX).collect();
        for key in &keys {
            let again = now + self.pause_ms(key, now).max(AGAIN_MS);
            self.lost.insert(key.clone(), again);
        }
        self.next_due_ms = self.lost.values().min().copied().unwrap_or(u64::MAX);
        if keys.is_empty() {
            return;
        }
        let round = self.round.insert(Round::default());
        for key in keys {
            round.try_add(shared, key);
        }
    }

    /// One side of a lost key has come; the owners it names come into the round too.
    pub(super) fn on_read(
        &mut self,
        shared: &mut Shared,
        side: Side,
        key: Bytes,
        result: Result<Page, ReadFailure>,
    ) -> Result<(), Ended> {
        let Some(round) = &mut self.round else {
            debug_assert!(false, "a round waits for its answers");
            return Ok(());
        };
        round.reads_due -= 1;
        let Ok(page) = result else {
            // The key stays lost, and its turn comes again.
            round.keys.remove(&key);
            return Ok(());
        };
        let Some(kv) = page.kvs.into_iter().next() else { return Ok(()) };
        match side {
            Side::Standby => {
                if let Some(found) = round.keys.get_mut(&key) {
                    found.values.standby = Some(kv);
                }
                Ok(())
            }
            Side::Primary => round.on_primary_value(shared, key, kv),
        }
    }

    /// Sends the next transaction of a round whose answers are there. True when something was sent. Only while nothing is
    /// under way.
    pub(super) fn try_commit(&mut self, shared: &mut Shared) -> bool {
        if self.round.as_ref().is_none_or(|round| round.reads_due > 0) {
            return false;
        }
        if self.round.as_ref().is_some_and(|round| round.txns.is_none()) {
            let txns = self.decide_round(shared);
            if let Some(round) = &mut self.round {
                round.txns = Some(txns);
            }
        }
        let next = self.round.as_mut().and_then(|round| round.txns.as_mut());
        let Some(steps) = next.and_then(|txns| std::iter::from_fn(|| txns.pop_front()).find(|steps| !steps.is_empty()))
        else {
            self.round = None;
            return false;
        };
        let mut changes = Changes { purpose: Purpose::Replay, ..Changes::default() };
        for Step { write, expected } in steps {
            let key = write.key().clone();
            if shared.ledger.is_written(&key) {
                changes.ops.push(shared.ledger_op(&key, false));
            }
            changes.compares.push(Compare::CreateRevision { key, revision: expected });
            changes.ops.push(op(&write));
            changes.writes.push(write);
        }
        shared.commit_checkpoint(shared.checkpoint.clone(), changes);
        true
    }

    /// What to write for the keys of a round: those deleted that somebody made again under another UID, then everything put
    /// back, owners first. What has to wait for its owners stays lost for now.
    fn decide_round(&mut self, shared: &mut Shared) -> VecDeque<Vec<Step>> {
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
        for (key, Found { values, header }) in keys {
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

    /// A transaction of a round was applied. What it deleted stays lost until it is put back.
    pub(super) fn on_committed(&mut self, shared: &mut Shared, writes: &[Write]) {
        for write in writes.iter().filter(|write| matches!(write, Write::Delete { .. })) {
            self.lost.entry(write.key().clone()).or_insert(shared.now_ms);
        }
        let puts = writes.iter().filter(|write| matches!(write, Write::Put { .. }));
        let keys: Vec<Bytes> = puts.map(|write| write.key().clone()).collect();
        for key in &keys {
            self.lost.remove(key);
            self.count(key, shared.now_ms);
        }
        shared.stats.replays += keys.len() as u64;
        if let Some(key) = keys.first() {
            shared.note(Note::Replayed { first: key.clone(), keys: keys.len() as u64 });
        }
    }

    /// The standby has changed since it was read: what is still lost comes up again.
    pub(super) fn end_round(&mut self) {
        self.round = None;
    }
}

impl Round {
    /// Reads both sides of a key; false when the round is full.
    fn try_add(&mut self, shared: &mut Shared, key: Bytes) -> bool {
        if self.keys.contains_key(&key) {
            return true;
        }
        if self.keys.len() >= ROUND_WITH_OWNERS_MAX {
            return false;
        }
        self.keys.insert(key.clone(), Found::default());
        self.reads_due += 2;
        shared.read_both(&key, ReadFor::Replay);
        true
    }

    /// The primary's value has come, with the owners it names.
    fn on_primary_value(&mut self, shared: &mut Shared, key: Bytes, kv: KeyValue) -> Result<(), Ended> {
        let Verdict::Write(header) = shared.examine(&kv)? else { return Ok(()) };
        let owners = header.as_deref().map(content::owners).unwrap_or_default();
        let mut all = true;
        for owner in owners {
            for candidate in shared.kinds.keys_of(&shared.scope, &owner, &key) {
                all &= !shared.scope.in_scope(&candidate) || self.try_add(shared, candidate);
            }
        }
        if !all {
            // Without all its owners it is not put back yet: its turn comes again.
            self.keys.remove(&key);
        } else if let Some(found) = self.keys.get_mut(&key) {
            (found.values.primary, found.header) = (Some(kv), header);
        }
        Ok(())
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
    let mut txns: VecDeque<Vec<Step>> = deletes.chunks(TXN_KEYS_MAX).map(<[Step]>::to_vec).collect();
    let (mut txn, mut bytes) = (Vec::new(), 0);
    for step in puts {
        let size = step.write.size_bytes();
        if !txn.is_empty() && (txn.len() >= TXN_KEYS_MAX || bytes + size > limits.bytes) {
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
