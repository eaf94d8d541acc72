//! Reads files of saved keys, as `prune` and `rejoin` make them.

use std::path::Path;

use bytes::Bytes;
use etcd_sync_operations::saved::{Decoder, Said};

/// The keys and values of a whole file, in its order; nothing if it is not there, or was cut off.
pub fn whole(path: &Path) -> Vec<(Bytes, Bytes)> {
    let (mut decoder, mut keys) = (Decoder::default(), Vec::new());
    let file = std::fs::read(path).unwrap_or_default();
    for line in file.split_inclusive(|byte| *byte == b'\n') {
        match decoder.line(line) {
            Ok(Said::Key(kv)) => keys.push((kv.key, kv.value)),
            Ok(_) => {}
            Err(_) => return Vec::new(),
        }
    }
    if decoder.finish().is_ok() { keys } else { Vec::new() }
}
