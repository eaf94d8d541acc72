//! The documents: links lead somewhere, commands have the flags that they show, and what is marked to be run is run by a test.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{Command, CommandFactory};
use etcd_sync_program::args::{Cli, MonitorCli};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every page: of the top folder, of `docs`, of the decisions.
fn pages() -> Result<Vec<(PathBuf, String)>> {
    let mut pages = Vec::new();
    for folder in ["", "docs", "docs/decisions", "charts"] {
        for entry in std::fs::read_dir(root().join(folder))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "md") {
                let text = std::fs::read_to_string(&path)?;
                pages.push((path, text));
            }
        }
    }
    ensure!(pages.len() > 20, "only {} pages are found", pages.len());
    Ok(pages)
}

/// The blocks of a language, and the text without any block.
fn blocks(text: &str, language: &str) -> (Vec<String>, String) {
    let (mut blocks, mut rest, mut inside): (Vec<String>, String, Option<bool>) = (Vec::new(), String::new(), None);
    for line in text.lines() {
        match (line.trim_start().strip_prefix("```"), inside) {
            (Some(_), Some(_)) => inside = None,
            (Some(name), None) => {
                inside = Some(name == language);
                if name == language {
                    blocks.push(String::new());
                }
            }
            (None, Some(true)) => {
                if let Some(block) = blocks.last_mut() {
                    block.push_str(line.trim_start());
                    block.push('\n');
                }
            }
            (None, Some(false)) => {}
            (None, None) => {
                rest.push_str(line);
                rest.push('\n');
            }
        }
    }
    (blocks, rest)
}

/// The name that a heading has in links, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn every_link_leads_to_a_page_and_a_heading_that_are_there() -> Result<()> {
    let mut broken = Vec::new();
    for (page, text) in pages()? {
        let (_, prose) = blocks(&text, "none");
        for link in prose.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link) {
            if link.contains("://") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.with_file_name(file) };
            let found = match (target.exists(), heading) {
                (there, "") => there,
                (false, _) => false,
                (true, heading) => {
                    let (_, prose) = blocks(&std::fs::read_to_string(&target)?, "none");
                    prose.lines().any(|line| line.starts_with('#') && anchor(line.trim_start_matches('#')) == heading)
                }
            };
            if !found {
                broken.push(format!("{}: {link}", page.file_name().unwrap_or_default().display()));
            }
        }
    }
    ensure!(broken.is_empty(), "these lead nowhere:\n{}", broken.join("\n"));
    Ok(())
}

/// The flags of a command, by its words.
fn flags(command: &Command, name: &str, all: &mut BTreeMap<String, BTreeSet<String>>) {
    let own = command.get_arguments().filter_map(|arg| arg.get_long()).map(str::to_owned);
    let mut own: BTreeSet<String> = own.collect();
    own.extend(["help".to_owned(), "version".to_owned()]);
    for inner in command.get_subcommands() {
        flags(inner, &format!("{name} {}", inner.get_name()), all);
    }
    all.insert(name.to_owned(), own);
}

#[test]
fn every_command_that_is_shown_has_its_flags() -> Result<()> {
    let (mut cli, mut monitor, mut all) = (Cli::command(), MonitorCli::command(), BTreeMap::new());
    cli.build();
    monitor.build();
    flags(&cli, "etcd-sync", &mut all);
    flags(&monitor, "etcd-sync-monitor", &mut all);
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for (page, text) in pages()? {
        for block in blocks(&text, "sh").0 {
            for line in block.replace("\\\n", " ").lines() {
                let line = line.split(" #").next().unwrap_or_default();
                let words: Vec<&str> = line.split_whitespace().collect();
                let is_program = |at: usize| matches!(words[at], "etcd-sync" | "etcd-sync-monitor");
                let begins = |at: usize| at == 0 || matches!(words[at - 1], "&&" | "|" | ";" | "--" | "sudo");
                let Some(at) = (0..words.len()).find(|at| is_program(*at) && begins(*at)) else { continue };
                let mut name = words[at].to_owned();
                let mut shown = Vec::new();
                for word in &words[at + 1..] {
                    let longer = format!("{name} {word}");
                    match word.strip_prefix("--") {
                        Some(flag) => shown.push(flag.split('=').next().unwrap_or_default().to_owned()),
                        None if shown.is_empty() && all.contains_key(&longer) => name = longer,
                        None => {}
                    }
                }
                seen += shown.len();
                let known = all.get(&name).with_context(|| name.clone())?;
                let unknown = shown.iter().filter(|flag| !flag.is_empty() && !known.contains(*flag));
                wrong.extend(unknown.map(|flag| format!("{}: {name} has no --{flag}", page.display())));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    ensure!(seen > 20, "only {seen} flags were seen: the blocks are not read");
    Ok(())
}

#[test]
fn what_is_marked_to_be_run_is_run_by_a_test() -> Result<()> {
    let mut tests = String::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            match path.extension() {
                _ if path.is_dir() => folders.push(path),
                Some(extension) if extension == "rs" => tests += &std::fs::read_to_string(path)?,
                _ => {}
            }
        }
    }
    let mut marked = 0;
    for (page, text) in pages()? {
        for name in text.split("<!-- run: ").skip(1).filter_map(|rest| rest.split_once(" -->")).map(|(name, _)| name) {
            marked += usize::from(name != "…");
            ensure!(name == "…" || tests.contains(&format!("{name:?}")), "{}: nobody runs {name}", page.display());
        }
    }
    ensure!(marked >= 3, "the marks are not read");
    Ok(())
}

/// All sources of the programs and of their tests.
fn sources() -> Result<Vec<String>> {
    let mut texts = Vec::new();
    let mut folders = ["etcd-sync", "monitor", "tests/integration", "benches"].map(|name| root().join(name)).to_vec();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                texts.push(std::fs::read_to_string(path)?);
            }
        }
    }
    Ok(texts)
}

/// Whether a text has this phrase, and no longer name at its end.
fn holds(text: &str, phrase: &str) -> bool {
    let ends = |at: usize| !text[at..].starts_with(|next: char| next.is_alphanumeric() || next == '_');
    text.match_indices(phrase).any(|(at, _)| ends(at + phrase.len()))
}

/// Whether a file defines this name: a function, a type, a constant, a module; of a type, where the file implements that.
fn defines(source: &str, owner: &str, name: &str) -> bool {
    let keywords = ["fn", "struct", "enum", "trait", "const", "type", "mod"];
    let is_type = owner.starts_with(|first: char| first.is_uppercase());
    let implements = ["impl", "impl<C>", "impl<T>", "for"].iter().any(|word| holds(source, &format!("{word} {owner}")));
    keywords.iter().any(|keyword| holds(source, &format!("{keyword} {name}"))) && (implements || !is_type)
}

#[test]
fn the_architecture_names_what_is_there() -> Result<()> {
    let text = std::fs::read_to_string(root().join("docs/architecture.md"))?;
    let is_path = |word: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
        word.chars().all(plain) && !word.starts_with('/') && (word.contains('/') || word.ends_with(".rs"))
    };
    let (mut paths, mut names, mut wrong) = (0, 0, Vec::new());
    let sources = sources()?;
    for line in text.lines() {
        // Names of the code stand between backquotes, and without them in the pictures.
        let words: Vec<&str> = line.split(|c: char| c.is_whitespace() || "`(),;".contains(c)).collect();
        let bases: Vec<&str> =
            words.iter().copied().filter(|word| is_path(word) && root().join(word).exists()).collect();
        for word in words {
            if is_path(word) && !word.ends_with(".md") {
                paths += 1;
                // Below a folder that the line names before.
                let below = bases.iter().any(|base| root().join(base).join(word).exists());
                let beside = bases.iter().any(|base| root().join(base).with_file_name(word).exists());
                if !(root().join(word).exists() || below || beside) {
                    wrong.push(format!("there is no {word}"));
                }
            } else if let Some((owner, name)) = word.rsplit_once("::")
                && !name.is_empty()
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            {
                names += 1;
                if !sources.iter().any(|source| defines(source, owner, name)) {
                    wrong.push(format!("nothing is called {word}"));
                }
            }
        }
    }
    ensure!(wrong.is_empty(), "docs/architecture.md:\n{}", wrong.join("\n"));
    ensure!(paths > 60 && names > 60, "only {paths} paths and {names} names are found: the page is not read");
    Ok(())
}
