//! The pure part of etcd-sync: no I/O, no clock, no async, no etcd or Kubernetes types.

pub mod kv;
pub mod request;
