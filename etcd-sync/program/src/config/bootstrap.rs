//! What `bootstrap` is to do.

use crate::args::{BootstrapArgs, Environment};

/// `bootstrap`.
#[derive(Clone, Debug)]
pub struct BootstrapConfig {
    /// Secret for the standby's certificates.
    pub standby_secret: Option<String>,
    /// Secret for the encryption config.
    pub encryption_secret: Option<String>,
    /// The namespace of this pod; `None` outside of a cluster.
    pub namespace: Option<String>,
    /// Nothing is checked.
    pub skip_preflight: bool,
    /// Encryption that cannot be proved to be the same is a warning.
    pub allow_unproved_encryption: bool,
    /// Only Secrets that are there are copied again, with files that were tested.
    pub renew: bool,
}

impl BootstrapConfig {
    pub(super) fn new(args: BootstrapArgs, environment: &Environment) -> BootstrapConfig {
        let BootstrapArgs { standby_secret, encryption_secret, skip_preflight, allow_unproved_encryption, renew } =
            args;
        let namespace = super::environment::namespace(environment);
        BootstrapConfig {
            standby_secret,
            encryption_secret,
            namespace,
            skip_preflight,
            allow_unproved_encryption,
            renew,
        }
    }
}
