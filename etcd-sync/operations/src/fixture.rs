//! Records for the unit tests.

use etcd_sync_core::link::state::{Checkpoint, Phase};

/// The checkpoint of a link that streams from the cluster `c1`.
pub fn checkpoint() -> Checkpoint {
    Checkpoint {
        format: Checkpoint::FORMAT,
        primary: "c1".into(),
        phase: Phase::Streaming,
        revision: 1,
        offset: 0,
        epoch: 1,
        writes: 1,
        witness: None,
        scope: String::new(),
        seen: 1,
        base: 0,
        at_ms: 0,
        accepted_deletions: None,
    }
}
