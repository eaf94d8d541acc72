//! What a failover must know before it can say what is lost.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use etcd_sync_core::etcd::kv::{KeyRange, printable, successor};
use etcd_sync_core::etcd::request::ReadRange;
use etcd_sync_core::link::role::Role;
use etcd_sync_core::link::state::Checkpoint;
use etcd_sync_core::scope::content::{Decoded, decode};
use etcd_sync_operations::procedure::{Loss, Orphans};
use etcd_sync_program::now_ms;
use etcd_sync_store::link::record::Record;
use etcd_sync_store::{Error, Etcd, Options};
use futures_util::future::join_all;

use super::{Context, PRIMARY_PATIENCE};

/// A synchronizer may still write what it received before the primary was gone: its checkpoint must stay unchanged for so long.
const SETTLED: Duration = Duration::from_secs(3);
const SETTLED_MAX: Duration = Duration::from_secs(60);
const SLICE: Duration = Duration::from_secs(1);

/// A leader records contact with the primary every five seconds even when nothing happens there.
const CONTACTS: Duration = Duration::from_secs(8);

/// How often a connection that breaks is made again, and the pause in between.
pub const BROKEN_TRIES: u32 = 4;
pub const BROKEN_PAUSE: Duration = Duration::from_millis(200);

/// Values read at once when owners are looked for; halved when they are too large.
const PAGE: i64 = 500;

/// Whether a primary lives.
pub enum Life {
    /// It answers with a quorum, so it can take writes.
    Answers,
    /// Nobody can tell from here: it answers, but not to us.
    Unknown(String),
    /// It does not answer.
    Silent,
}

/// Asks the primary. Only silence is taken for its end: who is refused has reached somebody. Every member is asked by itself
/// and all at once: one that hangs must not use up the patience for those that live.
pub async fn primary_life(context: &Context<'_>) -> Life {
    let primary = &context.config.primary;
    let lives = primary.endpoints().iter().map(async |endpoint| {
        match Etcd::new(Options { endpoints: vec![endpoint.clone()], ..primary.options() }) {
            Ok(member) => member_life(endpoint, &member).await,
            Err(error) => Life::Unknown(error.to_string()),
        }
    });
    let mut life = Life::Silent;
    for member in join_all(lives).await {
        life = match (life, member) {
            (Life::Answers, _) | (_, Life::Answers) => Life::Answers,
            (Life::Unknown(why), _) | (Life::Silent, Life::Unknown(why)) => Life::Unknown(why),
            (Life::Silent, Life::Silent) => Life::Silent,
        };
    }
    life
}

/// A server that refuses our certificate ends the connection right behind the handshake: often that is all that is seen of it,
/// and its reason only now and then. So a connection that broke is tried again, and where there was TLS it was no silence.
async fn member_life(endpoint: &str, member: &Etcd) -> Life {
    let mut broke = None;
    let asked = async {
        for _ in 0..BROKEN_TRIES {
            match member.identity().await {
                Ok(_) => return Life::Answers,
                Err(error @ Error::Broken { .. }) => broke = Some(error.to_string()),
                Err(Error::Connect { .. } | Error::Timeout { .. } | Error::LostQuorum { .. }) => {
                    broke = None;
                    return Life::Silent;
                }
                Err(error) => return Life::Unknown(error.to_string()),
            }
            tokio::time::sleep(BROKEN_PAUSE).await;
        }
        Life::Silent
    };
    match (tokio::time::timeout(PRIMARY_PATIENCE, asked).await, broke) {
        (Ok(Life::Silent) | Err(_), Some(why)) if !endpoint.starts_with("http://") => Life::Unknown(why),
        (Ok(life), _) => life,
        (Err(_), _) => Life::Silent,
    }
}

/// Whether the roles of this cluster can change at all; `Err` in words why not.
pub async fn may_promote(context: &Context<'_>) -> Result<Result<(), String>> {
    let record = context.record().await?;
    let Some(found) = record.role.as_ref().map(|role| &role.value[..]) else {
        return Ok(Err("nothing was ever synchronized into this standby: check --standby-endpoints and --link".into()));
    };
    let by = record.promotion().ok().flatten();
    Ok(match Role::of(Some(found)) {
        Role::Standby => Ok(()),
        Role::Primary => Err(format!(
            "this cluster is primary already{}: for the way back make the other one its standby with `etcd-sync rejoin`, then \
             give this command there, with the endpoints exchanged",
            by.map(|promotion| format!(" (run {})", promotion.run)).unwrap_or_default()
        )),
        Role::Demoted { token } => Err(format!(
            "this cluster is demoted: run {token} has handed over from it to the other one; check --primary-endpoints and \
             --standby-endpoints"
        )),
        Role::None | Role::Other(_) => {
            Err(format!("the role of this cluster is \"{}\", which is none", printable(found)))
        }
    })
}

/// Waits until the checkpoint no longer moves, and reports what is lost then. `Err` in words: the synchronizer still receives from the
/// primary.
pub async fn loss(context: &Context<'_>) -> Result<Result<(Checkpoint, Loss), String>> {
    let (began, connected) = (
        Instant::now(),
        "the synchronizer still receives from the primary, although this command cannot reach it: the primary is alive",
    );
    let (first, mut checkpoint) = recorded(context).await?;
    let (mut record, seen) = (first.clone(), first.primary_contact.clone());
    let mut unchanged_since = Instant::now();
    // A leader that is connected to the primary records contact at least so often; how old the last record is, only two clocks together
    // could tell. Nobody is left to write when nobody leads.
    while !record.candidates.is_empty() && (unchanged_since.elapsed() < SETTLED || began.elapsed() < CONTACTS) {
        context.pair.checkpoint_moves(record.revision + 1, Instant::now() + SLICE).await?;
        let at = (checkpoint.revision, checkpoint.offset);
        (record, checkpoint) = recorded(context).await?;
        if (checkpoint.revision, checkpoint.offset) != at {
            unchanged_since = Instant::now();
        }
        if record.primary_contact != seen || began.elapsed() > SETTLED_MAX {
            return Ok(Err(connected.into()));
        }
    }
    let loss = Loss::new(&checkpoint, record.primary_contact, now_ms());
    Ok(Ok((checkpoint, loss)))
}

/// What is lost if the standby is promoted now.
pub async fn loss_now(context: &Context<'_>) -> Result<(Checkpoint, Loss)> {
    let (record, checkpoint) = recorded(context).await?;
    let loss = Loss::new(&checkpoint, record.primary_contact, now_ms());
    Ok((checkpoint, loss))
}

/// The record with its checkpoint.
pub async fn recorded(context: &Context<'_>) -> Result<(Record, Checkpoint)> {
    let record = context.record().await?;
    let checkpoint = record
        .checkpoint()?
        .context("nothing was ever synchronized into this standby: check --standby-endpoints and --link")?;
    Ok((record, checkpoint))
}

/// The keys of the standby that its garbage collector deletes because their owners are not there, and how many values could
/// not be read.
pub async fn doomed(context: &Context<'_>) -> Result<(Vec<Box<str>>, u64)> {
    let Context { pair, scope, encryption, .. } = context;
    let (mut orphans, mut unreadable) = (Orphans::default(), 0);
    // All at one moment: an owner and what it owns must not be seen apart.
    let revision = pair.standby.identity().await.context("the standby cannot be read")?.revision;
    for prefix in scope.kubernetes_prefixes() {
        let (mut range, mut limit) = (KeyRange::prefix(prefix.as_bytes()), PAGE);
        loop {
            let request = ReadRange { range: range.clone(), limit, keys_only: false, revision };
            let page = match pair.standby.read(request).await {
                Err(Error::MessageTooLarge { .. }) if limit > 1 => {
                    limit /= 2;
                    continue;
                }
                page => page.context("the standby's objects cannot be read")?,
            };
            encryption.unwrap_keys(&page.kvs).await;
            for kv in &page.kvs {
                match decode(&encryption.keyring, kv) {
                    Decoded { header: Some(header), .. } => orphans.see(&printable(&kv.key), &header),
                    Decoded { undecryptable, .. } => unreadable += u64::from(undecryptable),
                }
            }
            match page.kvs.last() {
                Some(last) if page.more => range = range.from(successor(&last.key)),
                _ => break,
            }
        }
    }
    Ok((orphans.doomed(), unreadable))
}
