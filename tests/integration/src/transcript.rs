//! What operators read. docs/runbook.md quotes it, behind `<!-- transcript: NAME -->`; with `UPDATE_DOCS=1` the tests that
//! make a transcript write it there.
//!
//! Numbers differ from run to run, and with them the line breaks: words are compared, with every number alike.

use std::fs::OpenOptions;
use std::io::{Read, Seek, Write};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

/// Columns of a terminal.
const COLUMNS: usize = 80;

/// The page with the quotations.
fn runbook() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/runbook.md")
}

/// Compares a transcript with the runbook's, or writes it there. `tell` puts the runbook's own names in place of a test's.
///
/// # Errors
/// The runbook has no such quotation, or another one; or a line is too wide for a terminal.
pub fn quoted(name: &str, text: &str, tell: impl FnOnce(&str) -> String) -> Result<()> {
    assert_fits(text)?;
    let told = tell(text);
    let update = std::env::var_os("UPDATE_DOCS").is_some();
    // Locked: several tests may renew quotations of the same page.
    let mut file = OpenOptions::new().read(true).write(update).open(runbook()).context("open the runbook")?;
    file.lock().context("lock the runbook")?;
    let mut page = String::new();
    file.read_to_string(&mut page).context("read the runbook")?;
    let begin = format!("<!-- transcript: {name} -->\n```\n");
    let (head, rest) = page.split_once(&begin).with_context(|| format!("the runbook quotes no {name}"))?;
    let (old, tail) = rest.split_once("```\n").context("a quotation ends")?;
    if update {
        file.rewind()?;
        file.set_len(0)?;
        file.write_all(format!("{head}{begin}{}\n```\n{tail}", told.trim_end()).as_bytes())?;
        return Ok(());
    }
    ensure!(
        words(old) == words(&told),
        "the runbook quotes another {name} (UPDATE_DOCS=1 renews it):\n{old}\n--- now:\n{told}"
    );
    Ok(())
}

/// Fails where a line is wider than a terminal. What cannot be broken (a key, a command) may stand alone on its line.
///
/// # Errors
/// Names the line.
pub fn assert_fits(text: &str) -> Result<()> {
    for line in text.lines() {
        let words = line.split_whitespace().count();
        ensure!(line.chars().count() <= COLUMNS || words <= 2, "wider than {COLUMNS} columns: {line}\n{text}");
    }
    Ok(())
}

/// The words of a text, with every number alike.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    for word in text.split_whitespace() {
        // A cluster's id.
        let id = word.trim_end_matches([',', '.']);
        if id.len() >= 12 && id.chars().all(|character| character.is_ascii_hexdigit()) {
            words.push("#".to_owned());
            continue;
        }
        // The time and the letters behind it.
        let run = word
            .split_once("T")
            .is_some_and(|(day, _)| day.trim_start_matches(|c: char| !c.is_ascii_digit()).len() == 8);
        let mut alike = String::new();
        for character in word.chars().take_while(|character| !run || *character != '-') {
            match character.is_ascii_digit() {
                true if alike.ends_with('#') => {}
                true => alike.push('#'),
                false => alike.push(character),
            }
        }
        words.push(alike);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_alike_and_words_are_not() {
        let same = |a: &str, b: &str| words(a) == words(b);
        assert!(same("run 20261121T210919Z-5e49 took\n  3.0 s", "run 20270101T000000Z-beef took 12.1 s"));
        assert!(same("cluster e23ac1e106d302a3,", "cluster a03975defe85f6f,"));
        assert!(!same("1 pod deleted", "1 pod restarted"));
    }

    #[test]
    fn only_what_cannot_be_broken_is_wide() {
        let long = "k".repeat(100);
        assert!(assert_fits(&format!("  {long}\nJournal  {long}")).is_ok());
        assert!(assert_fits(&format!("a b {long}")).is_err());
    }
}
