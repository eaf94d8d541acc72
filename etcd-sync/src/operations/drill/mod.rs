//! The parts of a rehearsal.

mod dns;
mod kinds;
mod restart;

use std::time::Instant;

use etcd_sync_operations::drill::{Part, PartName, Trial};
use etcd_sync_operations::preflight::Level;

pub use dns::dns;
pub use kinds::kinds;
pub use restart::restart;

/// A part whose trials were begun at `began`.
fn part(name: PartName, began: Instant, trials: Vec<Trial>) -> Part {
    Part { name, took_ms: began.elapsed().as_millis() as u64, trials, skipped: None }
}

fn trial(name: impl Into<String>, level: Level, what: impl Into<String>) -> Trial {
    Trial { name: name.into(), level, what: what.into() }
}
