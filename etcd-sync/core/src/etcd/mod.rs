//! etcd's own terms: keys, values, ranges and events; reads and transactions.

pub mod kv;
pub mod request;
