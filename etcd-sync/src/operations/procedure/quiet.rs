//! Whether anybody still writes to a cluster.

use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use etcd_sync_core::etcd::kv::{KeyRange, Revision, printable};
use etcd_sync_operations::api_server::ApiServer;
use etcd_sync_operations::text::span;
use etcd_sync_store::{Etcd, WatchMessage};
use tokio::time::{Instant, timeout_at};

use crate::facts::apiserver;

/// How long nothing may be written: where the writers are known to be stopped, and where nobody knows. A Kubernetes
/// control plane that lives writes at least every ten seconds (its own lease: IdentityLease in
/// pkg/controlplane/apiserver/config.go; the endpoint leases: master-leases).
const STOPPED: Duration = Duration::from_secs(3);
const UNKNOWN: Duration = Duration::from_secs(15);

/// A pause between two looks at a cluster that is being written.
const PAUSE: Duration = Duration::from_millis(500);

/// What is needed beside the silence itself, in seconds.
const MARGIN: u64 = 5;

/// Whether a cluster is quiet.
pub enum Quiet {
    /// Nothing was written for long enough: this is its last revision.
    At(Revision),
    /// That is not known.
    Not(Unquiet),
}

/// Why a cluster is not known to be quiet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unquiet {
    /// What was seen last; `None`: nothing, the time was too short.
    last: Option<String>,
    /// How long nothing may be written.
    needed: Duration,
}

/// Waits until nothing was written for long enough. `stopped`: something was done that stops the writers; `prefixes` are those of
/// API servers. Gives the last revision, or why it is not known to be quiet.
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
) -> Result<Quiet> {
    let deadline = Instant::now() + limit;
    let lived = lived(etcd, prefixes).await?;
    let mut unquiet = Unquiet { last: None, needed: if stopped { STOPPED } else { UNKNOWN } };
    while Instant::now() < deadline {
        let from = match etcd.identity().await {
            Ok(identity) => identity.revision,
            Err(error) if error.is_transient() => {
                unquiet.last = Some(format!("it cannot be read just now: {error}"));
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
            unquiet.needed = if stopped { STOPPED } else { UNKNOWN };
            let quiet = began + unquiet.needed;
            match timeout_at(quiet.min(deadline), watch.next()).await {
                Ok(Ok(WatchMessage::Events { events, .. })) => break events.last().map(|event| event.key().clone()),
                Ok(Ok(WatchMessage::Progress { .. })) => {}
                Ok(Err(_)) => break None,
                // Not one revision later, whatever the watch has received.
                Err(_) if Instant::now() >= quiet && etcd.identity().await?.revision == from => {
                    return Ok(Quiet::At(from));
                }
                Err(_) => break None,
            }
        };
        if let Some(key) = written {
            let last = format!(
                "{} was written {}",
                printable(&key),
                humantime::format_rfc3339_seconds(std::time::SystemTime::now())
            );
            writes(&last);
            unquiet.last = Some(last);
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(Quiet::Not(unquiet))
}

impl Unquiet {
    /// What stands in the journal, after so long.
    pub fn text(&self, waited: Duration) -> String {
        let waited = span(waited);
        let needed = self.needed.as_secs();
        match &self.last {
            Some(last) => format!(
                "the primary is still written to after {waited} ({last}): stop its API servers, or close its etcd's port 2379"
            ),
            None => format!(
                "the primary was not silent for {needed} s yet after {waited}, nothing was seen to be written so far: give it more \
                 --writers-timeout, {} s at least",
                needed + MARGIN
            ),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_is_too_short_is_no_writer() {
        let text = |last: Option<&str>| {
            Unquiet { last: last.map(str::to_owned), needed: UNKNOWN }.text(Duration::from_secs(10))
        };
        let none = text(None);
        assert!(none.contains("not silent for 15 s yet after 10.0 s, nothing was seen"), "{none}");
        assert!(none.contains("--writers-timeout, 20 s at least") && !none.contains("still written"), "{none}");
        assert!(
            text(Some("/a was written")).starts_with("the primary is still written to after 10.0 s (/a was written)")
        );
    }
}
