//! What a copy has read on its way into transactions, several of them under way.

use std::collections::VecDeque;

use super::Copying;
use crate::etcd::request::Op;
use crate::session::batch::{BatchLimits, Write};
use crate::session::commit::{Changes, op};
use crate::session::flight::Flight;
use crate::session::shared::Shared;

/// What waits to be sent.
#[derive(Debug)]
enum Queued {
    /// In one transaction with whatever fits.
    Together(Vec<Write>),
    /// Nothing behind it before everything ahead of it is committed.
    Wait,
}

/// Values that wait to be sent, and how many were.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    queue: VecDeque<Queued>,
    bytes: usize,
    written: u64,
}

impl Outbox {
    pub(super) fn enqueue(&mut self, writes: Vec<Write>) {
        self.bytes += writes.iter().map(Write::size_bytes).sum::<usize>();
        self.queue.push_back(Queued::Together(writes));
    }

    pub(super) fn enqueue_wait(&mut self) {
        if !matches!(self.queue.back(), Some(Queued::Wait)) {
            self.queue.push_back(Queued::Wait);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Bytes waiting.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keys sent.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Takes writes back that were sent and not applied, as far as is known: ahead of everything, in one transaction again.
    fn put_back(&mut self, writes: Vec<Write>) {
        self.written -= writes.len() as u64;
        self.bytes += writes.iter().map(Write::size_bytes).sum::<usize>();
        self.queue.push_front(Queued::Together(writes));
    }

    /// Whether a transaction can be filled.
    fn fills(&self, limits: BatchLimits) -> bool {
        self.queue.len() >= limits.ops || self.bytes >= limits.bytes
    }

    /// Whether nothing may be sent before everything under way is committed; passes over places where that is so already.
    fn must_wait(&mut self, is_under_way: bool) -> bool {
        while let Some(Queued::Wait) = self.queue.front() {
            if is_under_way {
                return true;
            }
            self.queue.pop_front();
        }
        false
    }

    /// Takes what fits one transaction: its operations on data and on the ledger, and the writes among them.
    fn take(&mut self, shared: &mut Shared) -> (Vec<Op>, Vec<Write>) {
        let limits = shared.config.limits;
        let ops_max = shared.copy_writes.step(limits.ops);
        let (mut ops, mut writes, mut bytes) = (Vec::new(), Vec::new(), 0);
        while let Some(Queued::Together(next)) = self.queue.front_mut() {
            let cost = |write: &Write| shared.ledger.put_ops(write.key()) + shared.save_cost(write.key()).0;
            let size = |write: &Write| write.size_bytes() + shared.save_cost(write.key()).1;
            let unit_ops: usize = next.iter().map(cost).sum();
            let unit_bytes: usize = next.iter().map(size).sum();
            if !writes.is_empty() && (ops.len() + unit_ops > ops_max || bytes + unit_bytes > limits.bytes) {
                break;
            }
            let rest = next.split_off(fitting(next, limits.ops, cost));
            for write in next.drain(..) {
                bytes += write.size_bytes() + shared.save_cost(write.key()).1;
                self.bytes -= write.size_bytes();
                ops.extend(shared.take_save(write.key()));
                if shared.ledger.is_written(write.key()) {
                    ops.push(shared.ledger_op(write.key(), false));
                }
                ops.push(op(&write));
                writes.push(write);
            }
            self.queue.pop_front();
            if !rest.is_empty() {
                self.queue.push_front(Queued::Together(rest));
                self.queue.push_front(Queued::Wait);
            }
        }
        self.written += writes.len() as u64;
        (ops, writes)
    }
}

/// A unit too large by itself (entries of the ledger came to it) goes in parts, one after the other: how many writes of it
/// come first.
fn fitting(unit: &[Write], ops_max: usize, cost: impl Fn(&Write) -> usize) -> usize {
    let mut left = ops_max;
    let fits = |write: &&Write| {
        let cost = cost(write);
        let fits = cost <= left;
        left = left.saturating_sub(cost);
        fits
    };
    unit.iter().take_while(fits).count().max(1)
}

impl Copying {
    /// A transaction of this copy failed, or its outcome is unknown. It is sent again: the same values under the same keys.
    /// Before that the record is moved, so that the fence refuses the first one if it arrives late, when newer values of those
    /// keys may be written.
    pub(in crate::session) fn on_puts_failed(&mut self, writes: Vec<Write>, unknown: bool) {
        self.outbox.put_back(writes);
        self.late_puts |= unknown;
    }

    /// Sends what is queued, in full transactions while more pages are coming.
    pub(super) fn commit_puts(&mut self, shared: &mut Shared) {
        let is_full = self.is_full(shared);
        let Some(walk) = &self.walk else { return };
        if shared.moves_checkpoint() || (self.late_puts && !shared.in_flight.is_empty()) {
            return;
        }
        if std::mem::take(&mut self.late_puts) {
            return shared.commit_checkpoint(shared.checkpoint.clone(), Changes::default());
        }
        while !self.outbox.must_wait(!shared.in_flight.is_empty()) {
            let due = self.outbox.fills(shared.config.limits) || walk.at_rest() || self.complete || is_full;
            let is_full = shared.in_flight.len() >= shared.window.now();
            if is_full || self.outbox.is_empty() || !due || !shared.copy_writes.allows(shared.now_ms) {
                return;
            }
            // One operation of each transaction is the mark; a put of a local key takes one more for the ledger.
            let (mut ops, writes) = self.outbox.take(shared);
            let (done, total) = walk.progress();
            let mark = format!("{{\"done\":{done},\"total\":{total},\"at_ms\":{}}}", shared.unix_ms);
            ops.push(Op::Put { key: shared.fence.keys.copied.clone(), value: mark.into(), lease: 0 });
            let txn = shared.fence.txn(shared.checkpoint_value.as_ref(), ops);
            shared.send(txn, Flight::Puts { writes, sent_ms: shared.now_ms });
        }
    }
}
