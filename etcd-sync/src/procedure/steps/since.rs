//! Whether a primary has taken writes that matter.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use etcd_sync_core::kv::{Event, Revision, printable};
use etcd_sync_core::scope::Decision;
use etcd_sync_store::WatchMessage;

use crate::procedure::Context;

/// A primary that does not tell its history so long is not asked further.
const PATIENCE: Duration = Duration::from_secs(30);

/// A change in scope behind a revision, in words; `None`: there is none. Others do not matter: leases of events run out for an
/// hour after the last API server was stopped.
///
/// # Errors
/// The primary cannot be read, or has compacted that history.
pub async fn written_since(context: &Context<'_>, revision: Revision) -> Result<Option<String>> {
    let (primary, scope) = (&context.pair.primary, context.scope);
    let head = primary.identity().await.context("the primary cannot be read")?.revision;
    if head <= revision {
        return Ok(None);
    }
    let look = async {
        let mut watch = primary.watch(scope.covering_range(), revision + 1).await?;
        loop {
            match watch.next().await? {
                WatchMessage::Progress { revision } if revision >= head => return Ok(None),
                WatchMessage::Progress { .. } => {}
                WatchMessage::Events { events, .. } => {
                    let matters = |event: &&Event| match event {
                        Event::Put(kv) => scope.decide_kv(kv) == Decision::InScope,
                        Event::Delete { key, .. } => scope.in_scope(key),
                    };
                    if let Some(event) = events.iter().find(matters) {
                        return Ok(Some(format!("{} at revision {}", printable(event.key()), event.revision())));
                    }
                    if events.last().is_some_and(|event| event.revision() >= head) {
                        return Ok(None);
                    }
                }
            }
        }
    };
    match tokio::time::timeout(PATIENCE, look).await {
        Ok(found) => found,
        Err(_) => bail!("the primary did not tell its last changes within {PATIENCE:?}"),
    }
}
