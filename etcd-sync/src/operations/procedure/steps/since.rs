//! What has happened to the two clusters since they were compared.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use etcd_sync_core::etcd::kv::{Event, Revision, printable};
use etcd_sync_core::scope::{Decision, Scope};
use etcd_sync_store::{Etcd, WatchMessage};

use crate::operations::procedure::Context;

/// A cluster that does not tell its history so long is not asked further.
const PATIENCE: Duration = Duration::from_secs(30);

/// A change of the primary in scope behind a revision, in words; `None`: there is none. Others do not matter: leases of events run
/// out for an hour after the last API server was stopped.
///
/// # Errors
/// The primary cannot be read, or has compacted that history.
pub async fn written_since(context: &Context<'_>, revision: Revision) -> Result<Option<String>> {
    let mut found = None;
    history(&context.pair.primary, context.scope, revision, |event| {
        found = Some(format!("{} at revision {}", printable(event.key()), event.revision()));
        false
    })
    .await?;
    Ok(found)
}

/// A key that was deleted on the standby behind a revision, is not there, and is on the primary.
///
/// # Errors
/// One of them cannot be read, or has compacted that history.
pub async fn lost_since(context: &Context<'_>, revision: Revision) -> Result<Option<String>> {
    let mut gone: BTreeSet<Bytes> = BTreeSet::new();
    history(&context.pair.standby, context.scope, revision, |event| {
        match event {
            Event::Put(kv) => drop(gone.remove(&kv.key)),
            Event::Delete { key, .. } => drop(gone.insert(key.clone())),
        }
        true
    })
    .await?;
    for key in gone {
        if context.pair.primary.get(&key).await.context("the primary cannot be read")?.0.is_some() {
            return Ok(Some(printable(&key)));
        }
    }
    Ok(None)
}

/// Tells the changes in scope behind a revision, as long as `each` wants more.
async fn history(etcd: &Etcd, scope: &Scope, revision: Revision, mut each: impl FnMut(&Event) -> bool) -> Result<()> {
    let side = etcd.side();
    let head = etcd.identity().await.with_context(|| format!("the {side} cannot be read"))?.revision;
    if head <= revision {
        return Ok(());
    }
    let look = async {
        let mut watch = etcd.watch(scope.covering_range(), revision + 1).await?;
        loop {
            match watch.next().await? {
                WatchMessage::Progress { revision } if revision >= head => return Ok(()),
                WatchMessage::Progress { .. } => {}
                WatchMessage::Events { events, .. } => {
                    let matters = |event: &&Event| match event {
                        Event::Put(kv) => scope.decide_kv(kv) == Decision::InScope,
                        Event::Delete { key, .. } => scope.in_scope(key),
                    };
                    let ended = events.iter().filter(matters).any(|event| !each(event));
                    if ended || events.last().is_some_and(|event| event.revision() >= head) {
                        return Ok(());
                    }
                }
            }
        }
    };
    match tokio::time::timeout(PATIENCE, look).await {
        Ok(found) => found,
        Err(_) => bail!("the {side} did not deliver its last changes within {PATIENCE:?}"),
    }
}
