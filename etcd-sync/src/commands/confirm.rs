//! The question before a command writes.

use std::io::{IsTerminal, Write};

use anyhow::{Context, Result};
use etcd_sync_program::args::TableOutput;

/// Whether to go on with `count` keys; else the reason, in words. `deed` says what would be done, like `delete them`.
pub fn confirm(count: u64, deed: &str, yes: bool, output: TableOutput) -> Result<Result<(), String>> {
    let question = format!("Type the number of keys ({count}) to {deed}, anything else to leave them: ");
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
