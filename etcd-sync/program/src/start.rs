//! The frame of both programs' `main`.

use std::process::ExitCode;
use std::time::Duration;

use etcd_sync_operations::text::causes;

use crate::args::ArgsError;
use crate::config::Config;
use crate::logging;

/// Exit code of a program that could not do its work.
pub const FAILED: u8 = 2;

/// The work waits for the network and the disk; more threads only cost memory.
const WORKER_THREADS: usize = 2;

const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// Starts the log and does `work`. An error goes to stderr behind the program's `name`.
pub fn start<C, F, T>(name: &str, config: Result<Config<C>, ArgsError>, work: impl FnOnce(Config<C>) -> F) -> ExitCode
where
    F: Future<Output = anyhow::Result<T>>,
    T: Into<ExitCode>,
{
    let config = match config {
        Ok(config) => config,
        Err(error) => return error.report(),
    };
    logging::init(config.log.format, config.log.level, config.log.detail);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKER_THREADS).enable_all().build();
    let outcome = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        let outcome = runtime.block_on(work(config));
        // A look-up of a name that hangs cannot be stopped; it must not block the end.
        runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
        outcome
    });
    match outcome {
        Ok(outcome) => outcome.into(),
        Err(error) => {
            eprintln!("{name}: {}", causes(error.as_ref()));
            ExitCode::from(FAILED)
        }
    }
}
