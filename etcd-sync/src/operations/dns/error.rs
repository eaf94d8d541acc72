//! Why the name was not switched.

use std::path::PathBuf;

use etcd_sync_operations::dns::{InTheWay, KEY_FILE_MAX, KeyFileError, NotInZone, Rejected};

use crate::operations::shell::ShellError;

/// Why something about the name could not be done. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// The key file cannot be read.
    #[error("cannot read {} (--dns-tsig-key-file): {source}", file.display())]
    KeyFileUnreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The key file is no key file.
    #[error("{} (--dns-tsig-key-file) is larger than {KEY_FILE_MAX} bytes: it is no key file", file.display())]
    KeyFileLarge {
        /// The file.
        file: PathBuf,
    },
    /// The key file holds no key that can be used.
    #[error("{} (--dns-tsig-key-file): {source}", file.display())]
    KeyFile {
        /// The file.
        file: PathBuf,
        /// Why.
        source: KeyFileError,
    },
    /// The name cannot be in the zone.
    #[error(transparent)]
    NotInZone(#[from] NotInZone),
    /// Something else stands at the name.
    #[error(transparent)]
    InTheWay(#[from] InTheWay),
    /// The zone's server did not answer before anything was changed.
    #[error(
        "nothing was changed: {server} (--dns-server): {why}; it must run, be reachable from here, and be the primary server of \
         --dns-zone. The change can be made by hand at the zone's own place"
    )]
    Server {
        /// The server.
        server: String,
        /// Why.
        why: String,
    },
    /// The server does not want it.
    #[error("nothing was changed: {0}")]
    Rejected(Rejected),
    /// Somebody was faster.
    #[error(
        "nothing was changed: somebody else changes {name} at the same time, it says {found} now: agree with them, then run this again \
         (it looks first)"
    )]
    Changed {
        /// The name.
        name: String,
        /// What it says now.
        found: String,
    },
    /// What is seen is not a record of that name.
    #[error(
        "nothing was changed: {server} says {found} for {name}, but has no such record at that name; the answer comes from a wildcard \
         record, or from another view of the zone than the key may change: make the record by hand once"
    )]
    NoSuchRecord {
        /// The server.
        server: String,
        /// The name.
        name: String,
        /// What it says.
        found: String,
    },
    /// The update got lost.
    #[error(
        "the update got lost ({why}): {server} answers, and the name is as it was; run this again (it looks first)"
    )]
    Lost {
        /// The server.
        server: String,
        /// Why.
        why: String,
    },
    /// Nobody knows.
    #[error(
        "it is not known whether {server} did the update ({why}; asked again: {again}): look with `etcd-sync dns verify`, then run this \
         again (it looks first, and never does it twice)"
    )]
    Unknown {
        /// The server.
        server: String,
        /// What happened to the update.
        why: String,
        /// What happened to the question.
        again: String,
    },
    /// The command did not change it.
    #[error(
        "--dns-command {0}; check whether the name is changed, then run this again, with more --dns-command-timeout if it needs that"
    )]
    Command(#[from] ShellError),
    /// Nobody here removes a name that people made.
    #[error("remove {name} by hand: neither --dns-server nor --dns-command is given")]
    RemoveByHand {
        /// The name.
        name: String,
    },
}
