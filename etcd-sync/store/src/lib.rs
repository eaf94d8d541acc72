//! The only crate of etcd-sync that talks to etcd.
//!
//! [`Etcd`] is one cluster seen through all its endpoints: reads move on to another member when one fails, writes are
//! sent exactly once and say whether their outcome is known, a [`Watch`] has bounded memory and notices silence, and
//! [`client::election`] holds the leader's lease. Values never reach an error or a log line of this crate.

pub mod client;
pub mod link;

pub use client::{
    Address, Auth, Error, Etcd, Identity, MAX_ANSWER_BYTES, MemberStatus, Options, Replaced, TlsFiles, Watch,
    WatchError, WatchMessage, WriteError, version_warning,
};
pub use etcd_sync_core::link::side::Side;
pub use link::{ENCRYPTED, Wanted, resource};
