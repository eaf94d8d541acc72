//! Brings command line, environment and file together: what the command line leaves open is added to it from the other
//! two, so that one set of value parsers judges all three.

use std::ffi::OsString;
use std::path::Path;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, CommandFactory, Parser};

use super::file::{self, Settings};
use super::{ArgsError, Cli, Environment, MonitorCli};

/// Reads a command line whose first argument is the program's name.
pub fn parse<C: Parser>(mut args: Vec<OsString>, environment: &Environment) -> Result<C, ArgsError> {
    let command = documented(C::command());
    let matches = command.clone().try_get_matches_from(&args)?;
    // Flags are added behind. A file whose name begins with a dash is given as ./-name.
    args.retain(|arg| arg != "--");

    let file = match matches.get_one::<std::path::PathBuf>("config").cloned() {
        Some(file) => Some(file),
        None => environment.get(&variable("config")).filter(|value| !value.is_empty()).map(Into::into),
    };
    let settings = match &file {
        Some(file) => known(file::read(file)?, file)?,
        None => Settings::new(),
    };

    let (commands, given_to) = chosen(&command, &matches);
    let names: Vec<&str> = commands.iter().skip(1).map(|command| command.get_name()).collect();
    let open = |arg: &&Arg| {
        let id = arg.get_id().as_str();
        let mut sources = given_to.iter().filter(|matches| matches.try_contains_id(id).is_ok());
        !sources.any(|matches| matches.value_source(id) == Some(ValueSource::CommandLine))
    };
    let mut added = Vec::new();
    for arg in commands.iter().flat_map(|command| command.get_arguments()).filter(open) {
        let Some(flag) = flag(arg) else { continue };
        let Some((origin, values)) = given(arg, flag, environment, &settings, file.as_deref()) else { continue };
        let values: Vec<OsString> = values.into_iter().map(|value| joined(flag, &value)).collect();
        judge(&command, &args[0], &names, &values, origin)?;
        added.extend(values);
    }
    args.extend(added);
    Ok(C::from_arg_matches(&command.try_get_matches_from(args)?)?)
}

/// The program's own command, the subcommand on the command line, that one's, and so on; and what each of them was given.
fn chosen<'a>(command: &'a Command, matches: &'a ArgMatches) -> (Vec<&'a Command>, Vec<&'a ArgMatches>) {
    let (mut commands, mut given_to) = (vec![command], vec![matches]);
    let (mut command, mut matches) = (command, matches);
    while let Some((name, of_command)) = matches.subcommand() {
        let Some(subcommand) = command.find_subcommand(name) else { break };
        (command, matches) = (subcommand, of_command);
        commands.push(command);
        given_to.push(matches);
    }
    (commands, given_to)
}

/// The environment variable of a flag (without its dashes).
pub fn variable(flag: &str) -> String {
    format!("ETCD_SYNC_{}", flag.to_ascii_uppercase().replace('-', "_"))
}

/// A command line, its help naming the environment variables.
pub fn documented(command: Command) -> Command {
    let command = command.mut_args(|arg| {
        let Some(variable) = flag(&arg).map(variable) else { return arg };
        let with_variable = |text: String| format!("{text} [env: {variable}]");
        let help = arg.get_help().map(|help| with_variable(help.to_string())).unwrap_or_default();
        match arg.get_long_help().map(|help| with_variable(help.to_string())) {
            Some(long) => arg.help(help).long_help(long),
            None => arg.help(help),
        }
    });
    command.mut_subcommands(documented)
}

/// The name that a flag has in files. `config` has none: it says which file.
fn flag(arg: &Arg) -> Option<&str> {
    arg.get_long().filter(|long| !matches!(*long, "help" | "version"))
}

/// The value of a flag in the environment or file, and where it is.
fn given(
    arg: &Arg,
    flag: &str,
    environment: &Environment,
    settings: &Settings,
    file: Option<&Path>,
) -> Option<(String, Vec<OsString>)> {
    let variable = variable(flag);
    let list = matches!(arg.get_action(), clap::ArgAction::Append);
    // Charts leave variables empty that they do not mean to set.
    if let Some(value) = environment.get(&variable).filter(|value| !value.is_empty()) {
        let values = match value.to_str() {
            Some(text) if list => text.lines().filter(|line| !line.is_empty()).map(OsString::from).collect(),
            _ => vec![value.clone()],
        };
        return Some((variable, values));
    }
    let values = settings.get(flag)?;
    let origin = format!("{}, key '{flag}'", file.unwrap_or(Path::new("")).display());
    let values = match values.is_empty() {
        // Only a list with a default has a word for being empty; the others are already.
        true if list && arg.get_default_values().is_empty() => return None,
        true if list => vec!["none".into()],
        true => vec![OsString::new()],
        false => values.iter().map(OsString::from).collect(),
    };
    Some((origin, values))
}

/// `--flag=value`: only so may a value begin with a dash.
fn joined(flag: &str, value: &OsString) -> OsString {
    let mut whole = OsString::from(format!("--{flag}="));
    whole.push(value);
    whole
}

/// Tries the values of one flag alone, so that an error can say where they come from.
fn judge(
    command: &Command,
    program: &OsString,
    subcommands: &[&str],
    values: &[OsString],
    origin: String,
) -> Result<(), ArgsError> {
    let names = subcommands.iter().map(OsString::from);
    let line = std::iter::once(program.clone()).chain(names).chain(values.iter().cloned());
    match command.clone().try_get_matches_from(line) {
        Ok(_) => Ok(()),
        // The command's file stands on the command line itself.
        Err(error) if error.kind() == ErrorKind::MissingRequiredArgument => Ok(()),
        Err(error) if error.kind() == ErrorKind::ArgumentConflict => {
            Err(ArgsError::Value { origin, problem: "expected one value, a list is given".to_owned() })
        }
        Err(error) => {
            let text = error.render().to_string();
            let text = text.strip_prefix("error: ").unwrap_or(&text);
            let problem = text.split("\n\n").next().unwrap_or(text).to_owned();
            Err(ArgsError::Value { origin, problem })
        }
    }
}

/// Refuses keys that are no flag of any command of either program; a flag of another one than this is fine.
fn known(settings: Settings, file: &Path) -> Result<Settings, ArgsError> {
    let commands = [Cli::command(), MonitorCli::command()];
    let all = commands.iter().flat_map(with_subcommands);
    let flags: Vec<&str> =
        all.flat_map(Command::get_arguments).filter_map(flag).filter(|flag| *flag != "config").collect();
    let Some(key) = settings.keys().find(|key| !flags.contains(&key.as_str())) else { return Ok(settings) };
    let scored = flags.iter().map(|flag| (strsim::jaro_winkler(key, flag), *flag));
    let near = scored.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(score, _)| *score > 0.75);
    let near = near.map(|(_, flag)| flag.to_owned());
    Err(ArgsError::FileUnknownKey { file: file.to_owned(), key: key.clone(), near })
}

/// A command and all below it.
fn with_subcommands(command: &Command) -> Vec<&Command> {
    std::iter::once(command).chain(command.get_subcommands().flat_map(with_subcommands)).collect()
}
