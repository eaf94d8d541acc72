//! `etcd-sync-monitor`: reads both etcds itself, believes no counter of the synchronizer, and writes nothing.

mod board;
mod checks;
mod depth;
mod filter;
mod history;
mod http;
mod members;
mod observe;
mod view;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use etcd_sync_program::Stop;
use etcd_sync_program::config::{Config, MonitorConfig};

use crate::board::Board;
use crate::checks::Checks;

fn main() -> ExitCode {
    etcd_sync_program::start("etcd-sync-monitor", Config::load_monitor(), run)
}

/// Observes, compares and answers until SIGTERM or SIGINT, or until one of the clusters is another one than before.
async fn run(config: Config<MonitorConfig>) -> Result<ExitCode> {
    let stop = Stop::on_signals().context("cannot listen for signals")?;
    let pair = config.pair()?;
    let config = Arc::new(config);
    let board = Arc::new(Board::new(&config));
    if let Some(every) = config.command.members_check_interval {
        members::start(&pair, every, &board);
    }
    let checks = Checks::start(Arc::clone(&config), pair.clone(), Arc::clone(&board));
    let observed = tokio::spawn(observe::run(pair, Arc::clone(&config), Arc::clone(&board)));
    tokio::select! {
        served = http::serve(config, board, checks, stop) => served?,
        replaced = observed => return Err(replaced?.into()),
    }
    Ok(ExitCode::SUCCESS)
}
