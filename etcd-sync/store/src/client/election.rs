//! Who may write: a leader elected by a key under a lease, and its epoch.
//!
//! Every candidate puts one key under a common prefix; the key with the lowest creation revision leads, and that
//! revision is the epoch. The lease only decides when to hand over. What keeps an old leader from writing is a compare
//! of the epoch in its every transaction, see [`Leadership::epoch`].

use std::time::Duration;

use bytes::Bytes;
use etcd_sync_core::etcd::kv::{Event, KeyRange, Revision};
use etcd_sync_core::etcd::request::{Compare, Op, Page, ReadRange, Txn};

use crate::client::cluster::Etcd;
use crate::client::error::{Error, WatchError, WriteError};
use crate::client::lease::Lease;
use crate::client::watch_stream::WatchMessage;

/// Pause of a waiting candidate after a failure that may pass.
const PAUSE: Duration = Duration::from_secs(1);

/// A candidate that gives up takes its key away within this time.
const GIVE_UP_TIMEOUT: Duration = Duration::from_secs(2);

/// How often the put of the candidate's key is repeated while its outcome is unknown.
const PUT_ATTEMPTS: usize = 5;

/// Being the leader. Dropping it stops the keep-alive, and the lease runs out; [`Leadership::resign`] hands over at
/// once.
#[derive(Debug)]
pub struct Leadership {
    etcd: Etcd,
    lease: Lease,
    key: Bytes,
    epoch: Revision,
}

/// Becomes a candidate under `prefix` and waits, without limit of time, until it leads. Only candidates' keys may lie
/// under `prefix`. `holder` is the key's value, for people and other candidates. `ttl` is in whole seconds,
/// rounded up: a dead leader blocks the next one for so long. `waiting` is called when another one leads.
///
/// Gives `None` when `give_up` resolves first: the candidate's key is gone then, or else runs out with its lease, as it
/// does when the future is dropped.
///
/// # Errors
/// A failure that does not pass by itself, or [`Error::LeaseGone`] when the lease ran out while waiting: start again.
pub async fn campaign(
    etcd: &Etcd,
    prefix: &[u8],
    holder: &[u8],
    ttl: Duration,
    waiting: impl Fn(),
    give_up: impl Future<Output = ()>,
) -> Result<Option<Leadership>, Error> {
    let mut give_up = std::pin::pin!(give_up);
    let lease = tokio::select! {
        lease = Lease::grant(etcd, ttl) => lease?,
        () = &mut give_up => return Ok(None),
    };
    let mut key = prefix.to_vec();
    key.extend_from_slice(format!("{:016x}", lease.id()).as_bytes());
    let candidate = Candidate { etcd, prefix, key: key.into(), lease };
    let gone = Err(Error::LeaseGone { side: etcd.side() });
    let led = tokio::select! {
        led = candidate.lead(Bytes::copy_from_slice(holder), waiting) => led.map(Some),
        () = candidate.lease.lost() => gone,
        () = &mut give_up => Ok(None),
    }?;
    let Candidate { key, lease, .. } = candidate;
    let Some(epoch) = led else {
        // Whoever comes next would wait behind the key of a candidate that is no more.
        let _ = tokio::time::timeout(GIVE_UP_TIMEOUT, lease.revoke(etcd)).await;
        return Ok(None);
    };
    Ok(Some(Leadership { etcd: etcd.clone(), lease, key, epoch }))
}

impl Leadership {
    /// The leader's key.
    pub fn key(&self) -> &Bytes {
        &self.key
    }

    /// The leader's epoch: the creation revision of its key. Every write of the leader must compare it
    /// ([`Compare::CreateRevision`] of [`Leadership::key`]).
    pub fn epoch(&self) -> Revision {
        self.epoch
    }

    /// Resolves when the lease can no longer be believed: no keep-alive succeeded for the lease's time, by our own
    /// clock and counted from the moment the last successful one was sent, or etcd reports that the lease is gone. It then
    /// stays so.
    pub async fn lost(&self) {
        self.lease.lost().await;
    }

    /// Gives the leadership up at once: revokes the lease, which deletes the key.
    ///
    /// # Errors
    /// Why the lease could not be revoked; it is no longer kept alive and runs out by itself.
    pub async fn resign(self) -> Result<(), Error> {
        self.lease.revoke(&self.etcd).await
    }
}

struct Candidate<'a> {
    etcd: &'a Etcd,
    prefix: &'a [u8],
    key: Bytes,
    lease: Lease,
}

impl Candidate<'_> {
    /// Puts the key and waits for all older ones to go. Returns the key's creation revision.
    async fn lead(&self, holder: Bytes, waiting: impl Fn()) -> Result<Revision, Error> {
        let epoch = self.put(holder).await?;
        loop {
            let page = self.candidates().await?;
            if !page.kvs.iter().any(|kv| kv.key == self.key && kv.create_revision == epoch) {
                // Another client deleted our key.
                return Err(Error::LeaseGone { side: self.etcd.side() });
            }
            let older = page.kvs.iter().filter(|kv| kv.create_revision < epoch);
            let Some(before) = older.max_by_key(|kv| kv.create_revision) else {
                return Ok(epoch);
            };
            tracing::info!(key = %etcd_sync_core::etcd::kv::printable(&before.key), "waiting behind another leader or candidate");
            waiting();
            self.deletion(before.key.clone(), page.revision + 1).await?;
        }
    }

    /// Puts the key unless it exists. The key holds our lease's id: nobody else writes it, so it may be put again
    /// when the outcome is unknown.
    async fn put(&self, holder: Bytes) -> Result<Revision, Error> {
        let key = &self.key;
        let txn = Txn {
            compares: vec![Compare::CreateRevision { key: key.clone(), revision: 0 }],
            success: vec![Op::Put { key: key.clone(), value: holder, lease: self.lease.id() }],
            failure: vec![Op::Get { key: key.clone() }],
        };
        let mut attempts = 1;
        loop {
            match self.etcd.txn(txn.clone()).await {
                Ok(reply) if reply.succeeded => return Ok(reply.revision),
                Ok(reply) => match reply.gets.into_iter().flatten().next() {
                    Some(kv) => return Ok(kv.create_revision),
                    // It existed for the compare and not for the get, which cannot be; try again.
                    None if attempts < PUT_ATTEMPTS => {}
                    None => return Err(Error::LeaseGone { side: self.etcd.side() }),
                },
                Err(WriteError::Unknown(error)) if attempts < PUT_ATTEMPTS => {
                    tracing::warn!(%error, "the outcome of the candidacy is unknown: trying again");
                    tokio::time::sleep(PAUSE).await;
                }
                Err(failure) => return Err(failure.error().clone()),
            }
            attempts += 1;
        }
    }

    /// All candidates' keys.
    async fn candidates(&self) -> Result<Page, Error> {
        let range = KeyRange::prefix(self.prefix);
        loop {
            let request = ReadRange { range: range.clone(), limit: 0, keys_only: true, revision: 0 };
            match self.etcd.read(request).await {
                Err(error) if error.is_transient() => {
                    tracing::warn!(%error, "cannot read the leader: trying again");
                    tokio::time::sleep(PAUSE).await;
                }
                answer => return answer,
            }
        }
    }

    /// Returns when `key` was deleted, or when the watch has ended and the candidates should be read again.
    async fn deletion(&self, key: Bytes, from: Revision) -> Result<(), Error> {
        let range = KeyRange::single(key);
        let ended = match self.etcd.watch(range, from).await {
            Err(ended) => ended,
            Ok(mut watch) => loop {
                match watch.next().await {
                    Ok(WatchMessage::Events { events, .. })
                        if events.iter().any(|event| matches!(event, Event::Delete { .. })) =>
                    {
                        return Ok(());
                    }
                    Ok(_) => {}
                    Err(ended) => break ended,
                }
            },
        };
        match ended {
            WatchError::Store(error) if !error.is_transient() => Err(error),
            ended => {
                tracing::debug!(error = %ended, "reading the leader again");
                tokio::time::sleep(PAUSE).await;
                Ok(())
            }
        }
    }
}
