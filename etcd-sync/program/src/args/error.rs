//! Why a command line cannot be used.

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;

use etcd_sync_core::scope::ScopeError;

/// Why there is nothing to run. Help and version come this way too.
#[derive(Debug)]
pub enum ArgsError {
    /// The command line itself: clap's own message, help and version included.
    CommandLine(clap::Error),
    /// A value from the environment or the file that the flag does not take.
    Value {
        /// Where it came from: `ETCD_SYNC_LINK`, or the file and its key.
        origin: String,
        /// What was given for which flag, and what is expected.
        problem: String,
    },
    /// The file cannot be read.
    FileUnreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not a mapping of flags.
    FileMalformed {
        /// The file.
        file: PathBuf,
        /// What is wrong, and where.
        problem: String,
    },
    /// The file has a key that is no flag of any command.
    FileUnknownKey {
        /// The file.
        file: PathBuf,
        /// The key.
        key: String,
        /// The flag that looks most like it.
        near: Option<String>,
    },
    /// A flag that has to be given, with its environment variable and file key.
    Missing {
        /// The flag without its dashes.
        flag: String,
        /// What it is.
        what: &'static str,
    },
    /// One of two flags that only make sense together.
    Alone {
        /// The flag that is given, without its dashes.
        given: String,
        /// The flag that is not.
        missing: String,
    },
    /// A flag that does nothing without another one.
    Useless {
        /// The flag that is given, without its dashes.
        given: String,
        /// The flag that is not.
        missing: String,
    },
    /// Two flags of which only one is allowed.
    Both {
        /// One flag, without its dashes.
        one: &'static str,
        /// The other.
        other: &'static str,
    },
    /// The scope flags contradict each other or cannot be understood.
    Scope {
        /// The flags that are wrong.
        flags: &'static str,
        /// What is wrong.
        source: ScopeError,
    },
}

impl ArgsError {
    /// Prints the error to stderr (help and version to stdout) and gives the exit code of the program.
    pub fn report(&self) -> ExitCode {
        let ArgsError::CommandLine(error) = self else {
            eprintln!("error: {self}\n\nFor more information, try '--help'.");
            return ExitCode::from(2);
        };
        // A closed pipe is no reason for another exit code.
        let _ = error.print();
        ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
    }
}

impl fmt::Display for ArgsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ArgsError::CommandLine(error) => error.fmt(f),
            ArgsError::Value { origin, problem } => write!(f, "{origin}: {problem}"),
            ArgsError::FileUnreadable { file, source } => {
                write!(f, "cannot read {} (--config): {source}", file.display())
            }
            ArgsError::FileMalformed { file, problem } => write!(f, "{} (--config): {problem}", file.display()),
            ArgsError::FileUnknownKey { file, key, near } => {
                write!(f, "{} (--config): unknown key '{key}'", file.display())?;
                match near {
                    Some(near) => write!(f, "; did you mean '{near}'?"),
                    None => write!(f, "; keys are the flags without the dashes in front, see --help"),
                }
            }
            ArgsError::Missing { flag, what } => {
                let variable = super::sources::variable(flag);
                write!(f, "--{flag} is missing ({variable}, or the key '{flag}' of --config): {what}")
            }
            ArgsError::Alone { given, missing } => {
                write!(f, "--{given} is given without --{missing}: give both or neither")
            }
            ArgsError::Useless { given, missing } => {
                write!(f, "--{given} does nothing without --{missing}: give both, or omit it")
            }
            ArgsError::Both { one, other } => write!(f, "--{one} and --{other} are both given: omit one of them"),
            ArgsError::Scope { flags, source } => write!(f, "{flags}: {source}"),
        }
    }
}

impl std::error::Error for ArgsError {}

impl From<clap::Error> for ArgsError {
    fn from(error: clap::Error) -> Self {
        ArgsError::CommandLine(error)
    }
}
