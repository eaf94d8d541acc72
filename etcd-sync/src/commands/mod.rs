//! The commands, one file each. Data goes to stdout, the log to stderr.

pub mod run;

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be.
    Success,
    /// Differences, or a refusal.
    Differences,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> ExitCode {
        match outcome {
            Outcome::Success => ExitCode::SUCCESS,
            Outcome::Differences => ExitCode::from(1),
        }
    }
}
