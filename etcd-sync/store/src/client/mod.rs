//! One etcd cluster as a client sees it: connections to its members, requests, watches, leases and the election.

mod alert;
mod attempts;
mod auth;
mod cluster;
mod connection;
mod convert;
pub mod election;
mod endpoint;
mod error;
mod fault;
mod hashes;
mod lease;
mod members;
mod options;
mod patience;
mod pool;
mod proto;
mod raft;
mod read;
mod status;
mod tcp;
mod tls;
mod version;
mod watch;
mod watch_health;
mod watch_stream;
mod write;

pub use cluster::{Etcd, Identity};
pub use endpoint::Address;
pub use error::{Error, Replaced, WatchError, WriteError};
pub use options::{Auth, Options, TlsFiles};
pub use status::MemberStatus;
pub use version::version_warning;
pub use watch::Watch;
pub use watch_stream::WatchMessage;

/// Longest answer accepted from etcd, in bytes. A page of 500 of the largest allowed values (1.5 MiB each) would be far
/// above it; the reader then gets [`Error::MessageTooLarge`] and asks for a smaller page.
pub const MAX_ANSWER_BYTES: usize = 64 << 20;
