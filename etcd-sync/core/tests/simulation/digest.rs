//! A fingerprint of everything that happened to the standby in one seed.

use etcd_sync_core::etcd::kv::Event;
use etcd_sync_core::link::state::{Checkpoint, StateKeys};

use crate::model::Model;

/// FNV-1a over the standby's history: its data keys, and the checkpoints by what they say, not by how they are written.
pub fn of(standby: &Model, keys: &StateKeys) -> u64 {
    let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
    for event in standby.history() {
        let is_checkpoint = *event.key() == keys.checkpoint;
        if event.key().starts_with(&keys.root) && !is_checkpoint {
            continue;
        }
        hash.number(event.revision());
        hash.bytes(event.key());
        match event {
            Event::Put(kv) if is_checkpoint => {
                let record = Checkpoint::decode(&kv.value).expect("the checkpoint is readable");
                hash.bytes(record.phase.name().as_bytes());
                hash.number(record.revision);
                hash.number(record.offset as i64);
            }
            Event::Put(kv) => hash.bytes(&kv.value),
            Event::Delete { .. } => hash.number(-1),
        }
    }
    hash.0
}

struct Fnv(u64);

impl Fnv {
    /// With its length, so that no two sequences run together.
    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as i64);
        bytes.iter().for_each(|byte| self.byte(*byte));
    }

    fn number(&mut self, number: i64) {
        number.to_le_bytes().iter().for_each(|byte| self.byte(*byte));
    }

    fn byte(&mut self, byte: u8) {
        self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
}
