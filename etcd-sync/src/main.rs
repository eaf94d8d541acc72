//! The daemon and command line of etcd-sync.

mod apiserver;
mod args;
mod commands;
mod config;
mod daemon;
mod logging;
mod preflight;

use std::process::ExitCode;
use std::time::Duration;

use config::{CommandConfig, Config};

/// Exit code of a command that could not do its work.
const FAILED: u8 = 2;

/// The work waits for the network and the disk; more threads only cost memory.
const WORKER_THREADS: usize = 2;

const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let config = match Config::load() {
        Ok(config) => config,
        Err(error) => return error.report(),
    };
    logging::init(config.log.format, config.log.level, config.log.detail);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKER_THREADS).enable_all().build();
    let outcome = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        let outcome = runtime.block_on(dispatch(config));
        // A look-up of a name that hangs cannot be stopped; it must not hold up the end.
        runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
        outcome
    });
    match outcome {
        Ok(outcome) => outcome.into(),
        Err(error) => {
            eprintln!("etcd-sync: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

async fn dispatch(config: Config) -> anyhow::Result<commands::Outcome> {
    match config.command.clone() {
        CommandConfig::Run(run) => commands::run::run(config, run).await,
        CommandConfig::Status(status) => commands::status::run(config, status).await,
        CommandConfig::Plan(plan) => commands::plan::run(config, plan).await,
        CommandConfig::Check(check) => commands::check::run(config, check).await,
    }
}
