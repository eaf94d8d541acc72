//! What packages carry beside the programs: shell completions and man pages, made from the command lines. `make packaging`.

use std::path::PathBuf;

use clap::CommandFactory;
use clap_complete::{Shell, generate_to};
use etcd_sync_program::args::{Cli, MonitorCli};

fn main() -> std::io::Result<()> {
    let folder = PathBuf::from(std::env::args_os().nth(1).unwrap_or_else(|| "target/packaging".into()));
    let (completions, pages) = (folder.join("completions"), folder.join("man"));
    std::fs::create_dir_all(&completions)?;
    std::fs::create_dir_all(&pages)?;
    for mut command in [Cli::command(), MonitorCli::command()] {
        let name = command.get_name().to_owned();
        for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
            generate_to(shell, &mut command, &name, &completions)?;
        }
        clap_mangen::generate_to(command, &pages)?;
    }
    Ok(())
}
