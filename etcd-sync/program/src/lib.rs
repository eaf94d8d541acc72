//! What the two programs have in common: flags, environment and file turned into a validated configuration, the log, the
//! wish to stop, and the frame of `main`.

pub mod args;
pub mod config;
pub mod logging;
mod start;
mod stop;

pub use start::{FAILED, start};
pub use stop::Stop;
