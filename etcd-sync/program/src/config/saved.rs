//! What `prune` and `restore` work with.

use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use etcd_sync_operations::prune::{Origin, Selection};

use super::environment::service_host;
use super::limit;
use crate::args::{ArgsError, ConfirmArgs, Environment, OriginArg, PruneArgs, RestoreArgs, TableOutput};

/// `prune`.
#[derive(Clone, Debug)]
pub struct PruneConfig {
    /// Which surplus keys.
    pub selection: Selection,
    /// Form of the output.
    pub output: TableOutput,
    /// Keys shown; `None`: all.
    pub limit: Option<usize>,
    /// Stop after the plan.
    pub dry_run: bool,
    /// Skip the confirmation.
    pub yes: bool,
    /// More deletions need a word of their own.
    pub deletion_limit: u64,
    /// That word: up to so many.
    pub accepted: Option<u64>,
    /// File to save the keys in; `None`: one named after link and time.
    pub backup: Option<PathBuf>,
    /// It runs in a pod: files outside of its volumes go with it.
    pub in_pod: bool,
    /// How long the comparison may take.
    pub timeout: Duration,
}

/// `restore`.
#[derive(Clone, Debug)]
pub struct RestoreConfig {
    /// Where the saved keys are.
    pub source: RestoreSource,
    /// Stop after the plan.
    pub dry_run: bool,
    /// Skip the confirmation.
    pub yes: bool,
    /// Also when the keys come from another cluster.
    pub accept_other_cluster: bool,
    /// Also when the primary does not answer.
    pub without_primary: bool,
    /// Form of the output.
    pub output: TableOutput,
    /// Keys shown of each outcome; `None`: all.
    pub limit: Option<usize>,
}

/// Where saved keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestoreSource {
    /// In this file.
    File(PathBuf),
    /// On the standby, where the synchronizer has saved them. `discard`: they are not put back but deleted.
    Standby {
        /// Delete them all.
        discard: bool,
    },
}

impl PruneConfig {
    pub(super) fn new(args: PruneArgs, environment: &Environment) -> PruneConfig {
        let selection = Selection {
            below: args.below,
            namespaces: args.namespace,
            keys: args.key,
            older_than_s: args.older_than.map(|age| age.as_secs()),
            origin: match args.origin {
                OriginArg::All => Origin::All,
                OriginArg::Local => Origin::Local,
                OriginArg::Leftover => Origin::Leftover,
            },
        };
        PruneConfig {
            selection,
            output: args.confirm.output,
            limit: limit(args.limit),
            dry_run: args.confirm.dry_run,
            yes: args.confirm.yes,
            deletion_limit: args.deletion_limit,
            accepted: args.accept_deletions,
            backup: args.backup,
            in_pod: service_host(environment).is_some(),
            timeout: args.timeout,
        }
    }
}

impl RestoreConfig {
    pub(super) fn new(args: RestoreArgs) -> Result<RestoreConfig, ArgsError> {
        let RestoreArgs { file, saved, discard, confirm, accept_other_cluster, without_primary, limit: keys } = args;
        let unusable = |kind, problem: &str| clap::Error::raw(kind, format!("{problem}\n")).into();
        let source = match (file, saved) {
            (_, false) if discard => {
                return Err(ArgsError::Useless { given: "discard".into(), missing: "saved".into() });
            }
            (Some(file), false) => RestoreSource::File(file),
            (None, true) => RestoreSource::Standby { discard },
            (None, false) => return Err(unusable(ErrorKind::MissingRequiredArgument, "<FILE> or --saved is missing")),
            (Some(_), true) => {
                return Err(unusable(
                    ErrorKind::ArgumentConflict,
                    "<FILE> and --saved are both given: omit one of them",
                ));
            }
        };
        let ConfirmArgs { output, dry_run, yes } = confirm;
        let limit = limit(keys);
        Ok(RestoreConfig { source, dry_run, yes, accept_other_cluster, without_primary, output, limit })
    }
}
