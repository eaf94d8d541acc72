//! What a failover must know before it can say what is lost.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use etcd_sync_core::kv::{KeyRange, printable, successor};
use etcd_sync_core::object::header;
use etcd_sync_core::procedure::{Loss, Orphans};
use etcd_sync_core::request::ReadRange;
use etcd_sync_core::role::{Promotion, Role};
use etcd_sync_core::state::Checkpoint;
use etcd_sync_program::now_ms;
use etcd_sync_store::Error;
use etcd_sync_store::record::Record;

use super::{Context, PRIMARY_PATIENCE};

/// A synchronizer may still write what it heard before the primary was gone: so long it must have moved nothing.
const SETTLED: Duration = Duration::from_secs(3);
const SETTLED_MAX: Duration = Duration::from_secs(60);

/// Values read at once when owners are looked for; halved when they are too large.
const PAGE: i64 = 500;

/// Whether the primary answers with a quorum, so that it can take writes; `Err` in words how it is silent.
pub async fn primary_answers(context: &Context<'_>) -> Result<(), String> {
    match tokio::time::timeout(PRIMARY_PATIENCE, context.pair.primary.identity()).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {PRIMARY_PATIENCE:?}")),
    }
}

/// Whether the roles of this cluster can change at all; `Err` in words why not.
pub async fn may_promote(context: &Context<'_>) -> Result<Result<(), String>> {
    let pair = context.pair;
    let record = Record::read(&pair.standby, &pair.keys).await.context("the standby's record cannot be read")?;
    let Some(found) = record.role.as_ref().map(|role| &role.value[..]) else {
        return Ok(Err("nothing was ever synchronized into this standby: check --standby-endpoints and --link".into()));
    };
    let by = record.promotion.as_ref().and_then(|kv| Promotion::decode(&kv.value).ok());
    Ok(match Role::of(Some(found)) {
        Role::Standby => Ok(()),
        Role::Primary => Err(format!(
            "this cluster is primary already{}: for the way back make the other one its standby with `etcd-sync rejoin`, then \
             give this command there, with the endpoints exchanged",
            by.map(|promotion| format!(" (run {})", promotion.run)).unwrap_or_default()
        )),
        Role::Fenced { token } => Err(format!(
            "this cluster is fenced: run {token} has handed over from it to the other one; check --primary-endpoints and \
             --standby-endpoints"
        )),
        Role::None | Role::Other(_) => {
            Err(format!("the role of this cluster is \"{}\", which is none", printable(found)))
        }
    })
}

/// Waits until the checkpoint has come to rest, and tells what is lost then.
pub async fn loss(context: &Context<'_>) -> Result<(Checkpoint, Loss)> {
    let pair = context.pair;
    let read = async || -> Result<(Record, Checkpoint)> {
        let record = Record::read(&pair.standby, &pair.keys).await.context("the standby's record cannot be read")?;
        let checkpoint = record
            .checkpoint()?
            .context("nothing was ever synchronized into this standby: check --standby-endpoints and --link")?;
        Ok((record, checkpoint))
    };
    let give_up = Instant::now() + SETTLED_MAX;
    let (mut record, mut checkpoint) = read().await?;
    // Nobody is left to write.
    while !record.candidates.is_empty() && Instant::now() < give_up {
        let settled = Instant::now() + SETTLED;
        let at = (checkpoint.revision, checkpoint.offset);
        let mut from = record.revision + 1;
        while pair.checkpoint_moves(from, settled).await? {
            (record, checkpoint) = read().await?;
            from = record.revision + 1;
            if (checkpoint.revision, checkpoint.offset) != at {
                break;
            }
        }
        if (checkpoint.revision, checkpoint.offset) == at {
            break;
        }
    }
    let loss = Loss::new(&checkpoint, record.primary_seen, now_ms());
    Ok((checkpoint, loss))
}

/// The keys of the standby that its garbage collector deletes because their owners are not there.
pub async fn doomed(context: &Context<'_>) -> Result<Vec<Box<str>>> {
    let Context { pair, scope, encryption, .. } = context;
    let mut orphans = Orphans::default();
    for prefix in scope.kubernetes_prefixes() {
        let (mut range, mut limit) = (KeyRange::prefix(prefix.as_bytes()), PAGE);
        loop {
            let request = ReadRange { range: range.clone(), limit, keys_only: false, revision: 0 };
            let page = match pair.standby.read(request).await {
                Err(Error::MessageTooLarge { .. }) if limit > 1 => {
                    limit /= 2;
                    continue;
                }
                page => page.context("the standby's objects cannot be read")?,
            };
            encryption.prime(&page.kvs).await;
            for kv in &page.kvs {
                let plain = encryption.keyring.open(&kv.key, &kv.value);
                if let Some(header) = plain.ok().and_then(|plain| header(&plain).ok()) {
                    orphans.see(&printable(&kv.key), &header);
                }
            }
            match page.kvs.last() {
                Some(last) if page.more => range = range.from(successor(&last.key)),
                _ => break,
            }
        }
    }
    Ok(orphans.doomed())
}
