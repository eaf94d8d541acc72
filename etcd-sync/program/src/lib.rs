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

use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A clock that never goes back, in milliseconds since it was first asked for.
pub fn elapsed_ms() -> u64 {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    BEGAN.elapsed().as_millis() as u64
}

/// The wall clock, in Unix milliseconds.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
