//! docs/parameters.md, made from the command lines themselves. `UPDATE_DOCS=1 cargo test -p etcd-sync-program reference` renews it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use clap::{Arg, Command, CommandFactory};

use super::{Cli, MonitorCli};

const HEAD: &str = "\
# Parameters

Every flag of both programs, made from the code (`UPDATE_DOCS=1 cargo test -p etcd-sync-program reference` renews this page).

A flag may be given in four places; the first one that has it wins:

1. the command line: `--primary-endpoints=https://10.0.0.1:2379`
2. the environment: `ETCD_SYNC_` and the flag in capitals, `ETCD_SYNC_PRIMARY_ENDPOINTS`. Empty counts as not given; a list that cannot be
   written with commas takes one entry a line
3. the YAML file of `--config`: a mapping whose keys are the flags without their dashes, `primary-endpoints: [https://10.0.0.1:2379]`. One file
   serves all commands and both programs: keys of other commands are passed over, unknown ones are an error
4. the default

Durations are written `90s`, `5m`, `1h30m`.
";

#[test]
fn the_page_of_parameters_is_current() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/parameters.md");
    let page = page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, page).unwrap();
        return;
    }
    assert!(std::fs::read_to_string(path).unwrap_or_default() == page, "UPDATE_DOCS=1 renews docs/parameters.md");
}

fn page() -> String {
    let (mut cli, monitor) = (Cli::command(), MonitorCli::command());
    cli.build();
    let mut page = HEAD.to_owned();
    page += "\n## Of every command, and of `etcd-sync-monitor`\n";
    page += &tables(cli.get_arguments().filter(|arg| arg.is_global_set()));
    for command in cli.get_subcommands().filter(|command| command.get_name() != "help") {
        page += &section("etcd-sync", command);
    }
    page += "\n## `etcd-sync-monitor`\n\n";
    page += &about(&monitor);
    page += &tables(monitor.get_arguments().filter(|arg| !arg.is_global_set()));
    page
}

fn section(program: &str, command: &Command) -> String {
    let name = format!("{program} {}", command.get_name());
    let mut text = format!("\n## `{name}`\n\n{}", about(command));
    text += &tables(command.get_arguments().filter(|arg| !arg.is_global_set()));
    for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
        text += &section(&name, inner).replace("\n## ", "\n### ");
    }
    text
}

fn about(command: &Command) -> String {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    format!("{}.\n", about.trim_end_matches('.'))
}

/// A table for each heading, in the order of the help.
fn tables<'a>(args: impl Iterator<Item = &'a Arg>) -> String {
    let mut headings: Vec<&str> = Vec::new();
    let mut rows: BTreeMap<&str, String> = BTreeMap::new();
    for arg in args.filter(|arg| !arg.is_hide_set() && !["help", "version"].contains(&arg.get_id().as_str())) {
        let heading = arg.get_help_heading().unwrap_or("Options");
        if !headings.contains(&heading) {
            headings.push(heading);
        }
        rows.entry(heading).or_default().push_str(&row(arg));
    }
    let table = |heading| format!("\n**{heading}**\n\n| flag | default | what |\n|---|---|---|\n{}", rows[heading]);
    headings.into_iter().map(table).collect()
}

fn row(arg: &Arg) -> String {
    let value = arg.get_value_names().filter(|_| arg.get_action().takes_values()).map(|names| names[0].to_string());
    let name = match (arg.get_long(), value) {
        (Some(long), Some(value)) => format!("--{long} {value}"),
        (Some(long), None) => format!("--{long}"),
        (None, value) => value.unwrap_or_else(|| arg.get_id().to_string()),
    };
    let defaults: Vec<String> =
        arg.get_default_values().iter().map(|value| value.to_string_lossy().into_owned()).collect();
    let default = if defaults.is_empty() { String::new() } else { format!("`{}`", defaults.join(",")) };
    let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
    let mut what = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let possible = arg.get_possible_values();
    // Those of a boolean say nothing.
    let named: Vec<String> = possible
        .iter()
        .filter(|value| value.get_help().is_some())
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    if !named.is_empty() {
        let _ = write!(what, ": {}", named.join(", "));
    }
    let escaped = |text: &str| text.replace('|', "\\|").replace('<', "&lt;");
    format!("| `{}` | {} | {} |\n", name.replace('|', "\\|"), escaped(&default), escaped(&what))
}
