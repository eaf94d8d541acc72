//! What commands show and ask: data on stdout, refusals on stderr, a question before anything is changed, the exit code.

use std::error::Error as StdError;
use std::fmt;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use anyhow::{Context, Error, Result};
use etcd_sync_program::FAILED;
use etcd_sync_program::args::TableOutput;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be.
    Success,
    /// Differences, or a refusal.
    Differences,
    /// What was checked is not as it must be.
    Failed,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> ExitCode {
        match outcome {
            Outcome::Success => ExitCode::SUCCESS,
            Outcome::Differences => ExitCode::from(1),
            Outcome::Failed => ExitCode::from(FAILED),
        }
    }
}

/// A refusal among errors: the program is right not to go on, and the text says what to do. Exit code 1; other errors are 2.
#[derive(Debug)]
pub struct Refused(Box<dyn StdError + Send + Sync>);

impl Refused {
    /// The refusal itself, where a command shows more of it than its text.
    pub fn as_ref<T: StdError + 'static>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for Refused {}

/// Makes an error of a refusal: `decision.or_else(refuse)?`.
///
/// # Errors
/// Always.
pub fn refuse<T>(refusal: impl Into<Box<dyn StdError + Send + Sync>>) -> Result<T> {
    Err(Error::new(Refused(refusal.into())))
}

/// Whether an error is a refusal.
pub fn is_refusal(error: &Error) -> bool {
    error.is::<Refused>()
}

/// The one place where a refusal becomes an exit code: what `tell` gives for a refusal; other errors stay.
///
/// # Errors
/// The error, where it is no refusal.
pub fn or_refused(error: Error, tell: impl FnOnce(&Refused) -> Outcome) -> Result<Outcome> {
    match error.downcast_ref::<Refused>() {
        Some(refusal) => Ok(tell(refusal)),
        None => Err(error),
    }
}

/// Writes a command's data to stdout. A reader that went away early is no error.
pub fn print(data: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(data.as_bytes()).and_then(|()| stdout.flush());
}

/// One JSON document, as `-o json` prints it.
pub fn print_json(value: &serde_json::Value) {
    print(&format!("{value:#}\n"));
}

/// A refusal, reported on stderr.
pub fn refused(reason: &str) -> Outcome {
    eprintln!("etcd-sync: {reason}");
    Outcome::Differences
}

/// [`refused`], and for programs a document that says so.
pub fn refused_as(output: TableOutput, reason: &str) -> Outcome {
    if output == TableOutput::Json {
        print_json(&serde_json::json!({ "refused": reason }));
    }
    refused(reason)
}

/// The operator's answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Go on.
    Yes,
    /// Do not.
    No(Unconfirmed),
}

/// Why there was no confirmation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unconfirmed {
    /// The document on stdout would be mixed with a question.
    #[error("JSON output cannot ask: read the plan, then give --yes")]
    JsonOutput,
    /// Nobody is there to answer.
    #[error("this is no terminal to ask on: read the plan, then give --yes")]
    NoTerminal,
    /// Something else was typed.
    #[error("the answer was not {expected}")]
    OtherAnswer {
        /// What would have been a yes.
        expected: String,
    },
}

/// Asks whether to go on with `count` keys. `action` says what would be done, like `delete them`.
///
/// # Errors
/// The terminal cannot be read or written.
pub fn confirm(count: u64, action: &str, yes: bool, output: TableOutput) -> Result<Answer> {
    let question = format!("Type the number of keys ({count}) to {action}, anything else to leave them: ");
    typed(&question, &count.to_string(), yes, output)
}

/// Whether `expected` is typed at a terminal, or `--yes` was given.
///
/// # Errors
/// The terminal cannot be read or written.
pub fn typed(question: &str, expected: &str, yes: bool, output: TableOutput) -> Result<Answer> {
    if yes {
        return Ok(Answer::Yes);
    }
    if output == TableOutput::Json {
        return Ok(Answer::No(Unconfirmed::JsonOutput));
    }
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Ok(Answer::No(Unconfirmed::NoTerminal));
    }
    let mut stderr = std::io::stderr();
    write!(stderr, "{question}").and_then(|()| stderr.flush()).context("cannot ask")?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).context("cannot read the answer")?;
    Ok(match answer.trim() == expected {
        true => Answer::Yes,
        false => Answer::No(Unconfirmed::OtherAnswer { expected: expected.to_owned() }),
    })
}
