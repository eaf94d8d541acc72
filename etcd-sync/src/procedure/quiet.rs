//! Whether anybody still writes to a cluster.

use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use etcd_sync_core::kv::{KeyRange, Revision, printable};
use etcd_sync_program::config::ApiServer;
use etcd_sync_store::{Etcd, WatchMessage};
use tokio::time::{Instant, timeout_at};

use crate::apiserver;

/// How long nothing may be written: where the writers are known to be stopped, and where nobody knows. A Kubernetes
/// control plane that lives writes at least every ten seconds (its own lease: IdentityLease in
/// pkg/controlplane/apiserver/config.go; the endpoint leases: master-leases).
const STOPPED: Duration = Duration::from_secs(3);
const UNKNOWN: Duration = Duration::from_secs(15);

/// A pause between two looks at a cluster that is being written.
const PAUSE: Duration = Duration::from_millis(500);

/// Waits until nothing was written for long enough. `stopped`: something was done that stops the writers; `prefixes` are those of
/// API servers. Gives the last revision, or in words who still writes.
///
/// # Errors
/// The cluster cannot be read.
pub async fn await_quiet(
    etcd: &Etcd,
    api: Option<&ApiServer>,
    prefixes: &[&str],
    stopped: bool,
    limit: Duration,
    writes: impl Fn(&str),
) -> Result<Result<Revision, String>> {
    let deadline = Instant::now() + limit;
    let lived = lived(etcd, prefixes).await?;
    let mut last = "nothing was seen of it yet".to_owned();
    while Instant::now() < deadline {
        let from = match etcd.identity().await {
            Ok(identity) => identity.revision,
            Err(error) if error.is_transient() => {
                last = format!("it cannot be read just now: {error}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let mut watch = etcd.watch(everything(), from + 1).await?;
        let began = Instant::now();
        let written = loop {
            // One server that is silent says nothing of the others.
            let stopped = stopped && (answers(api).await == Some(false) || !lived);
            let quiet = began + if stopped { STOPPED } else { UNKNOWN };
            match timeout_at(quiet.min(deadline), watch.next()).await {
                Ok(Ok(WatchMessage::Events { events, .. })) => break events.last().map(|event| event.key().clone()),
                Ok(Ok(WatchMessage::Progress { .. })) => {}
                Ok(Err(_)) => break None,
                // Not one revision later, whatever the watch has heard.
                Err(_) if Instant::now() >= quiet && etcd.identity().await?.revision == from => return Ok(Ok(from)),
                Err(_) => break None,
            }
        };
        if let Some(key) = written {
            last = format!(
                "{} was written {}",
                printable(&key),
                humantime::format_rfc3339_seconds(std::time::SystemTime::now())
            );
            writes(&last);
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(Err(last))
}

/// Every key: who may watch them needs `read "" --from-key=true`.
pub fn everything() -> KeyRange {
    KeyRange { start: Bytes::from_static(b"\0"), end: Bytes::new() }
}

/// Whether an API server has its endpoint or identity lease here; both go an hour after the last one.
async fn lived(etcd: &Etcd, prefixes: &[&str]) -> Result<bool> {
    for prefix in prefixes {
        for part in ["masterleases/", "leases/kube-system/apiserver-"] {
            if etcd.count(&KeyRange::prefix(format!("{prefix}{part}").as_bytes())).await?.0 > 0 {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Whether an API server answers at all, be it with a refusal; `None`: nobody said where it is.
async fn answers(api: Option<&ApiServer>) -> Option<bool> {
    Some(apiserver::answers(api?).await)
}
