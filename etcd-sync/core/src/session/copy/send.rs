//! What a copy has read on its way into transactions, several of them under way.

use super::Copy;
use crate::etcd::request::Op;
use crate::session::batch::Write;
use crate::session::{Flight, Session, Stage};

/// What waits to be sent.
#[derive(Debug)]
pub(super) enum Queued {
    /// In one transaction with whatever fits.
    Together(Vec<Write>),
    /// Nothing behind it before everything ahead of it is committed.
    Wait,
}

impl Copy {
    pub(super) fn enqueue(&mut self, writes: Vec<Write>) {
        self.queued_bytes += writes.iter().map(Write::size_bytes).sum::<usize>();
        self.queue.push_back(Queued::Together(writes));
    }

    pub(super) fn enqueue_wait(&mut self) {
        if !matches!(self.queue.back(), Some(Queued::Wait)) {
            self.queue.push_back(Queued::Wait);
        }
    }
}

impl Session {
    /// Sends what is queued, in full transactions while more pages are coming.
    pub(super) fn commit_puts(&mut self) {
        loop {
            let Stage::Copying(copy) = &mut self.stage else { return };
            let Some(walk) = &copy.walk else { return };
            if let Some(Queued::Wait) = copy.queue.front() {
                if !self.in_flight.is_empty() {
                    return;
                }
                copy.queue.pop_front();
                continue;
            }
            // One operation of each transaction is the mark; a put of a local key takes one more for the ledger.
            let (limits, held_bytes_max) = (self.config.limits, self.config.held_bytes_max);
            let full = copy.queue.len() >= limits.ops || copy.queued_bytes >= limits.bytes;
            let due = full || walk.at_rest() || copy.complete || copy.families.bytes() >= held_bytes_max;
            if self.in_flight.len() >= self.config.in_flight_max || copy.queue.is_empty() || !due {
                return;
            }
            let (mut ops, mut writes, mut bytes) = (Vec::new(), Vec::new(), 0);
            while let Some(Queued::Together(next)) = copy.queue.front_mut() {
                let cost = |write: &Write| self.ledger.put_ops(write.key());
                let unit_ops: usize = next.iter().map(cost).sum();
                let unit_bytes: usize = next.iter().map(Write::size_bytes).sum();
                if !writes.is_empty() && (ops.len() + unit_ops > limits.ops || bytes + unit_bytes > limits.bytes) {
                    break;
                }
                // A unit too large by itself (entries of the ledger came to it) goes in parts, one after the other.
                let mut left = limits.ops;
                let part = next
                    .iter()
                    .take_while(|write| {
                        cost(write) <= left && {
                            left -= cost(write);
                            true
                        }
                    })
                    .count();
                let rest = next.split_off(part.max(1));
                for write in next.drain(..) {
                    bytes += write.size_bytes();
                    copy.queued_bytes -= write.size_bytes();
                    if self.ledger.is_written(write.key()) {
                        ops.push(Op::Delete { key: self.fence.keys.local_entry(write.key()) });
                    }
                    ops.push(op(&write));
                    writes.push(write);
                }
                copy.queue.pop_front();
                if !rest.is_empty() {
                    copy.queue.push_front(Queued::Together(rest));
                    copy.queue.push_front(Queued::Wait);
                }
            }
            copy.written += writes.len() as u64;
            let (done, total) = walk.progress();
            let mark = format!("{{\"done\":{done},\"total\":{total},\"at_ms\":{}}}", self.now_ms);
            ops.push(Op::Put { key: self.fence.keys.copied.clone(), value: mark.into(), lease: 0 });
            let txn = self.fence.txn(self.checkpoint_value.as_ref(), ops);
            self.send(txn, Flight::Puts(writes));
        }
    }
}

/// The operation that makes a write.
pub(in crate::session) fn op(write: &Write) -> Op {
    match write {
        Write::Put { key, value } => Op::Put { key: key.clone(), value: value.clone(), lease: 0 },
        Write::Delete { key } => Op::Delete { key: key.clone() },
    }
}
