//! The commands, one file each. Data goes to stdout, the log to stderr.

pub mod accept;
pub mod bootstrap;
pub mod check;
pub mod dns;
pub mod drill;
pub mod failover;
pub mod journal;
pub mod plan;
pub mod preflight;
mod primary;
pub mod prune;
pub mod rejoin;
pub mod restart_services;
pub mod restore;
pub mod run;
pub mod status;
pub mod switchover;
