//! The only crate of etcd-sync that talks to etcd.
//!
//! [`Etcd`] is one cluster seen through all its endpoints: reads move on to another member when one fails, writes are
//! sent exactly once and say whether their outcome is known, a [`Watch`] has bounded memory and notices silence, and
//! [`election`] holds the leader's lease. Values never reach an error or a log line of this crate.

mod alert;
mod auth;
mod client;
pub mod compare;
mod convert;
pub mod election;
pub mod encryption;
mod endpoint;
mod error;
mod fault;
pub mod headroom;
pub mod kms;
mod lease;
mod link;
mod options;
pub mod pace;
pub mod pair;
mod pool;
mod prefixes;
mod proto;
mod read;
pub mod record;
mod sample;
mod status;
mod tls;
mod tour;
mod version;
mod watch;
mod watch_stream;
mod write;

pub use client::{Etcd, Identity};
pub use endpoint::Address;
pub use error::{Error, WatchError, WriteError};
pub use options::{Auth, Options, Side, TlsFiles};
pub use sample::{ENCRYPTED, Wanted, resource};
pub use status::MemberStatus;
pub use version::version_warning;
pub use watch::{Watch, WatchMessage};

/// Longest answer accepted from etcd, in bytes. A page of 500 of the largest allowed values (1.5 MiB each) would be far
/// above it; the reader then gets [`Error::MessageTooLarge`] and asks for a smaller page.
pub const MAX_ANSWER_BYTES: usize = 64 << 20;
