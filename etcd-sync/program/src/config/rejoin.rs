//! What `rejoin` works with.

use std::path::PathBuf;
use std::time::Duration;

use super::environment::service_host;
use super::limit;
use super::procedure::{by, journal_folder};
use super::run::holder;
use crate::args::{Environment, RejoinArgs, TableOutput};

/// `rejoin`.
#[derive(Clone, Debug)]
pub struct RejoinConfig {
    /// Stop after the plan.
    pub dry_run: bool,
    /// Skip the confirmation.
    pub yes: bool,
    /// File to save values in; `None`: one named after link and time.
    pub backup: Option<PathBuf>,
    /// It runs in a pod: files outside of its volumes go with it.
    pub in_pod: bool,
    /// The old primary's history may be another one.
    pub accept_other_history: bool,
    /// Nobody needs to know whether the old primary decrypts the new one's values.
    pub allow_unproved_encryption: bool,
    /// How long the copy and the proof may take each.
    pub timeout: Duration,
    /// Form of the output.
    pub output: TableOutput,
    /// Keys shown of each list; `None`: all.
    pub limit: Option<usize>,
    /// Identity in the election.
    pub holder: String,
    /// Where a copy of the journal goes; `None`: there is no place for it.
    pub journal_folder: Option<PathBuf>,
    /// Who runs it: user and host.
    pub by: String,
}

impl RejoinConfig {
    pub(super) fn new(args: RejoinArgs, environment: &Environment) -> RejoinConfig {
        RejoinConfig {
            dry_run: args.confirm.dry_run,
            yes: args.confirm.yes,
            backup: args.backup,
            in_pod: service_host(environment).is_some(),
            accept_other_history: args.accept_other_history,
            allow_unproved_encryption: args.allow_unproved_encryption,
            timeout: args.timeout,
            output: args.confirm.output,
            limit: limit(args.limit),
            holder: format!("rejoin-{}", holder(environment)),
            journal_folder: args.journal_folder.or_else(|| journal_folder(environment)),
            by: by(environment),
        }
    }
}
