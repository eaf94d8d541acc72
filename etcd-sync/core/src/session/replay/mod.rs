//! Healing: a synchronized key that somebody deletes on the standby is put back as the primary has it, owners first. What
//! keeps vanishing is put back ever more slowly and named with the likely cause.
//!
//! The collector remembers the UID of every owner it saw vanish, and believes that memory whenever a dependent reaches it before
//! its owner's own event, as watches of different resources do (pkg/controller/garbagecollector: absentOwnerCache). So owners
//! that own by themselves come first, and each further generation when the collector must know of the one before.
//!
//! A key is put back only when both clusters were read and agree with the record: the primary's last change of it is applied
//! already, and the standby still shows what was read (each write compares that).

mod decide;
mod round;

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use self::round::{Round, Step};
use super::commit::{Changes, op};
use super::flight::Purpose;
use super::shared::Shared;
use super::{Ended, Note, ReadFailure};
use crate::etcd::request::{Compare, Page};
use crate::link::side::Side;
use crate::session::batch::Write;

/// Keys known to be lost at most; with more, a resync by difference is the better way.
const LOST_MAX: usize = 100_000;

/// Keys taken up at once, before their owners come to it: both values of each are held in memory.
const ROUND_MAX: usize = 32;

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
        let Page { kvs, revision, .. } = page;
        round.on_value(shared, side, key, kvs.into_iter().next(), revision)
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
