//! Flags that are on or off.

use clap::{Arg, ArgAction};

/// A flag that is on or off: `--flag`, or with a value behind `=`, which environments and files give as well.
/// A field of type `bool` becomes one with `#[arg(long, switch = DEFAULT)]`.
pub trait Switch {
    /// Makes this flag such a switch, with its default.
    fn switch(self, default: bool) -> Self;
}

impl Switch for Arg {
    fn switch(self, default: bool) -> Self {
        self.value_name("BOOL")
            .value_parser(boolean)
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .default_value(if default { "true" } else { "false" })
    }
}

/// On or off, as people write it in environments and files.
fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err("expected true or false".to_owned()),
    }
}
