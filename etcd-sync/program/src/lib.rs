//! What the two programs have in common: flags, environment and file turned into a validated configuration, the log, the
//! wish to stop, metrics, certificates, and the frame of `main`.

pub mod args;
pub mod certificates;
pub mod config;
pub mod listen;
pub mod logging;
pub mod metrics;
mod start;
mod stop;

pub use start::{FAILED, start};
pub use stop::{Stop, Switch};

use std::time::{SystemTime, UNIX_EPOCH};

/// The wall clock, in Unix milliseconds.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
