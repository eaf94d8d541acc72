//! The exact comparison of both clusters, within a time limit.

use std::time::Duration;

use anyhow::{Context, Result};
use etcd_sync_core::compare::check::Report;
use etcd_sync_core::scope::Scope;
use etcd_sync_kms::Encryption;
use etcd_sync_store::link::compare::CompareOptions;
use etcd_sync_store::link::pace::Pace;
use etcd_sync_store::link::pair::Pair;

/// The exact comparison, within `timeout` and as fast as both clusters answer. `cannot` says what stays unknown without it.
pub async fn compare(
    pair: &Pair,
    scope: &Scope,
    encryption: &Encryption,
    deep: bool,
    timeout: Duration,
    cannot: &'static str,
) -> Result<Report> {
    let options = CompareOptions {
        scope,
        encryption,
        deep,
        limit: timeout,
        // So that a reason is told before the time is up.
        patience: timeout / 2,
        pace: &Pace::unlimited(),
        progress: &|_, _| {},
    };
    let compared = tokio::time::timeout(timeout, pair.compare(&options)).await;
    compared
        .with_context(|| format!("the comparison did not end within {timeout:?}: give it more --timeout"))?
        .context(cannot)
}
