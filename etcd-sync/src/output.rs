//! What commands show and ask: data on stdout, refusals on stderr, a question before anything is changed, the exit code.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};
use etcd_sync_program::FAILED;
use etcd_sync_program::args::TableOutput;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be.
    Success,
    /// Differences, or a refusal.
    Differences,
    /// What was looked at is not as it must be.
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

/// Writes a command's data to stdout. A reader that went away early is no error.
pub fn print(data: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(data.as_bytes()).and_then(|()| stdout.flush());
}

/// One JSON document, as `-o json` prints it.
pub fn print_json(value: &serde_json::Value) {
    print(&format!("{value:#}\n"));
}

/// A refusal, told on stderr.
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

/// Whether to go on with `count` keys; else the reason, in words. `action` says what would be done, like `delete them`.
pub fn confirm(count: u64, action: &str, yes: bool, output: TableOutput) -> Result<Result<(), String>> {
    let question = format!("Type the number of keys ({count}) to {action}, anything else to leave them: ");
    typed(&question, &count.to_string(), yes, output)
}

/// Whether `expected` was typed at a terminal, or `--yes` given; else the reason, in words.
pub fn typed(question: &str, expected: &str, yes: bool, output: TableOutput) -> Result<Result<(), String>> {
    if yes {
        return Ok(Ok(()));
    }
    if output == TableOutput::Json {
        return Ok(Err("JSON output cannot ask: look at the plan, then give --yes".into()));
    }
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Ok(Err("this is no terminal to ask on: look at the plan, then give --yes".into()));
    }
    let mut stderr = std::io::stderr();
    write!(stderr, "{question}").and_then(|()| stderr.flush()).context("cannot ask")?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).context("cannot read the answer")?;
    if answer.trim() == expected {
        return Ok(Ok(()));
    }
    Ok(Err(format!("the answer was not {expected}")))
}
