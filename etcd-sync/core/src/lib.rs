//! The pure core of etcd-sync: replication and comparison. No I/O, no clock, no async, no etcd or Kubernetes types.
//!
//! The folders build on each other in this order, and no import runs the other way:
//! `etcd` <- `object` <- `scope` <- `link` <- `session` <- `compare`.

pub mod compare;
pub mod etcd;
pub mod link;
pub mod object;
pub mod scope;
pub mod session;
