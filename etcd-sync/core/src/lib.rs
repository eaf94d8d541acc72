//! The pure core of etcd-sync: replication and comparison. No I/O, no clock, no async, no etcd or Kubernetes types.
//!
//! The folders build on each other in this order, and no import runs the other way:
//! `etcd` <- `scope` <- `link` <- `session` <- `compare`. What an object is to Kubernetes, the crate etcd-sync-object knows.

pub mod compare;
pub mod etcd;
pub mod link;
pub mod scope;
pub mod session;

pub use etcd_sync_object as object;
