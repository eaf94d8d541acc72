//! What `accept` works with.

use std::path::PathBuf;

use super::environment::{service_host, variable};
use super::limit;
use super::procedure::by;
use crate::args::{AcceptArgs, Environment, TableOutput};

/// `accept`.
#[derive(Clone, Debug)]
pub struct AcceptConfig {
    /// Stop after the plan.
    pub dry_run: bool,
    /// Skip the confirmation.
    pub yes: bool,
    /// Where values are saved; `None`: in a file named after link and time.
    pub backup: Option<BackupPlace>,
    /// It runs in a pod: files outside of its volumes go with it.
    pub in_pod: bool,
    /// Form of the output.
    pub output: TableOutput,
    /// Keys shown; `None`: all.
    pub limit: Option<usize>,
    /// Who runs it: user and host, or the pod.
    pub by: String,
}

/// Where values are saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupPlace {
    /// A new file.
    File(PathBuf),
    /// The standard output, which then holds nothing else.
    Stdout,
}

impl AcceptConfig {
    pub(super) fn new(args: AcceptArgs, environment: &Environment) -> AcceptConfig {
        AcceptConfig {
            dry_run: args.confirm.dry_run,
            yes: args.confirm.yes,
            backup: args.backup.map(|given| match &given[..] {
                "-" => BackupPlace::Stdout,
                _ => BackupPlace::File(given.into()),
            }),
            in_pod: service_host(environment).is_some(),
            output: args.confirm.output,
            limit: limit(args.limit),
            by: variable(environment, "POD_NAME").map_or_else(|| by(environment), str::to_owned),
        }
    }
}
