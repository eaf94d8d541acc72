//! Encryption at rest: the file of `--encryption-config`, and the KMS v2 plugins that it names.
//!
//! It talks to KMS plugins over their unix sockets, as kube-apiserver does, and to no etcd. Keys and values never reach an
//! error or a log line of this crate.

mod file;
mod plugin;

pub use file::{Encryption, EncryptionError, values, warn_of_mode};
pub use plugin::{Kms, KmsError};
