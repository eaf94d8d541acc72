//! The operator's procedures, pure: preflight, failover and switchover, rejoin, prune and restore, name service, drill, and
//! the texts about them. Facts go in, plans, judgements and texts come out; no I/O, no clock, no async.

pub mod accept;
pub mod api_server;
pub mod bootstrap;
pub mod dns;
pub mod drill;
#[cfg(test)]
mod fixture;
pub mod nslookup;
pub mod plan_text;
pub mod preflight;
pub mod procedure;
pub mod prune;
pub mod rejoin;
pub mod restart;
pub mod restore;
pub mod saved;
pub mod status;
pub mod text;
