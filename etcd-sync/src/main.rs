//! The daemon and command line of etcd-sync.

mod commands;
mod daemon;
mod facts;
mod operations;
mod output;

use std::process::ExitCode;

use etcd_sync_cluster as cluster;
use etcd_sync_program::config::{CommandConfig, Config};

fn main() -> ExitCode {
    etcd_sync_program::start("etcd-sync", Config::load(), dispatch)
}

/// A refusal that a command has nothing to add to is shown here.
async fn dispatch(config: Config) -> anyhow::Result<output::Outcome> {
    let ended = command(config).await;
    ended.or_else(|error| output::or_refused(error, |refusal| output::refused(&refusal.to_string())))
}

async fn command(config: Config) -> anyhow::Result<output::Outcome> {
    match config.command.clone() {
        CommandConfig::Run(run) => commands::run::run(config, run).await,
        CommandConfig::Status(status) => commands::status::run(config, status).await,
        CommandConfig::Plan(plan) => commands::plan::run(config, plan).await,
        CommandConfig::Check(check) => commands::check::run(config, check).await,
        CommandConfig::Preflight(preflight) => commands::preflight::run(config, preflight).await,
        CommandConfig::Bootstrap(bootstrap) => commands::bootstrap::run(config, bootstrap).await,
        CommandConfig::Prune(prune) => commands::prune::run(config, prune).await,
        CommandConfig::Restore(restore) => commands::restore::run(config, restore).await,
        CommandConfig::Accept(accept) => commands::accept::run(config, accept).await,
        CommandConfig::Switchover(switchover) => commands::switchover::run(config, switchover).await,
        CommandConfig::Failover(failover) => commands::failover::run(config, failover).await,
        CommandConfig::Drill(drill) => commands::drill::run(config, drill).await,
        CommandConfig::Journal(journal) => commands::journal::run(config, journal).await,
        CommandConfig::Dns(dns) => commands::dns::run(config, dns).await,
        CommandConfig::Rejoin(rejoin) => commands::rejoin::run(config, rejoin).await,
        CommandConfig::RestartServices(restart) => commands::restart_services::run(config, restart).await,
    }
}
