//! The pure part of etcd-sync: no I/O, no clock, no async, no etcd or Kubernetes types.

pub mod batch;
pub mod check;
pub mod conflicts;
pub mod content;
pub mod drift;
pub mod encryption;
pub mod families;
pub mod fence;
pub mod kv;
pub mod lag;
pub mod object;
pub mod object_key;
pub mod plan;
pub mod policy;
pub mod preflight;
pub mod provenance;
pub mod prune;
pub mod request;
pub mod restore;
pub mod role;
pub mod saved;
pub mod scope;
pub mod session;
pub mod state;
pub mod walk;
mod wire;
