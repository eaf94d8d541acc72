//! The tests' own client of a cluster. It stands on the crate `etcd-client` and shares no code with `etcd-sync-store`, so
//! that what the store does wrong shows. What the two have in common are the plain data types of the core.
//!
//! It speaks plaintext. The members of a cluster with TLS listen for it on a loopback port in addition: the tests do not
//! judge how the bytes travel, and tonic's own TLS, once switched on, would be in the programs under test as well.

mod convert;
mod member;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use etcd_client::{Client as Etcd, Error, GetOptions, GetResponse, KvClient, WatchOptions, WatchStream};
use etcd_sync_core::etcd::kv::{Event, KeyRange, KeyValue, Revision};
use etcd_sync_core::etcd::request::{Page, ReadRange, Txn, TxnReply};

use member::{Failure, Member};

/// Longest wait for a lone member. Generous: test machines are small and busy.
const ONE_MEMBER: Duration = Duration::from_secs(30);
/// Longest wait for one of several: one that is stopped does not even refuse.
const ONE_OF_SEVERAL: Duration = Duration::from_secs(8);

/// One cluster through all its members. Cheap to clone; all clones share their connections.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    members: Vec<Member>,
    /// The member that is asked first: the one that answered last.
    current: AtomicUsize,
}

impl Client {
    /// A client of the members behind these URLs, with a user and password where authentication is on. Connects to
    /// nothing; the first request does.
    pub fn new(urls: Vec<String>, user: Option<(&str, &str)>) -> Client {
        let patience = if urls.len() > 1 { ONE_OF_SEVERAL } else { ONE_MEMBER };
        let members = urls.into_iter().map(|url| Member::new(url, user, patience)).collect();
        Client { shared: Arc::new(Shared { members, current: AtomicUsize::new(0) }) }
    }

    /// One key, or `None`, and the revision it was read at.
    pub async fn get(&self, key: &[u8]) -> Result<(Option<KeyValue>, Revision)> {
        let get = |etcd| {
            let key = key.to_vec();
            async move { kv(etcd).get(key, None).await }
        };
        let mut answer = self.each(get).await?;
        Ok((answer.take_kvs().pop().map(convert::key_value), convert::revision(answer.header())))
    }

    /// A page of keys, in key order.
    pub async fn read(&self, request: ReadRange) -> Result<Page> {
        let ReadRange { range, limit, keys_only, revision } = &request;
        let mut options = convert::get_range(GetOptions::new(), range).with_limit(*limit).with_revision(*revision);
        if *keys_only {
            options = options.with_keys_only();
        }
        let mut answer = self.range(range, options).await?;
        Ok(Page {
            kvs: answer.take_kvs().into_iter().map(convert::key_value).collect(),
            more: answer.more(),
            count: answer.count(),
            revision: convert::revision(answer.header()),
        })
    }

    /// How many keys a range holds.
    pub async fn count(&self, range: &KeyRange) -> Result<usize> {
        let options = convert::get_range(GetOptions::new(), range).with_count_only();
        usize::try_from(self.range(range, options).await?.count()).context("a count is not negative")
    }

    /// etcd's id of the cluster.
    pub async fn cluster_id(&self) -> Result<u64> {
        let answer = self.each(async |etcd| kv(etcd).get("\0", None).await).await?;
        Ok(answer.header().context("an answer has a header")?.cluster_id())
    }

    /// Runs a transaction. It is sent once: another member is tried only when this one cannot be reached. After any other
    /// failure it may have been applied or not.
    pub async fn txn(&self, txn: Txn) -> Result<TxnReply> {
        let txn = convert::txn(txn);
        let mut last = anyhow!("the cluster has no members");
        for (index, member) in self.members() {
            let txn = txn.clone();
            match member.call(async move |etcd| kv(etcd).txn(txn).await).await {
                Ok(reply) => {
                    self.prefer(index);
                    return Ok(convert::txn_reply(&reply));
                }
                Err(Failure::Unsent(error)) => last = error,
                Err(Failure::Refused(error)) => return Err(error),
                Err(Failure::Unknown(error)) => {
                    self.prefer(index + 1);
                    return Err(error);
                }
            }
        }
        Err(last)
    }

    /// Follows every change of a range from a revision on.
    pub async fn watch(&self, range: KeyRange, from: Revision) -> Result<Watch> {
        let options = convert::watch_range(WatchOptions::new(), &range).with_start_revision(from);
        let watch = |etcd: Etcd| {
            let (start, options) = (range.start.clone(), options.clone());
            let mut client = etcd.watch_client().max_decoding_message_size(usize::MAX);
            async move { client.watch(start, Some(options)).await }
        };
        Ok(Watch { stream: self.each(watch).await? })
    }

    async fn range(&self, range: &KeyRange, options: GetOptions) -> Result<GetResponse> {
        let get = |etcd| {
            let (start, options) = (range.start.clone(), options.clone());
            async move { kv(etcd).get(start, Some(options)).await }
        };
        self.each(get).await
    }

    /// A request that changes nothing: to one member after the other, twice, until one answers or etcd refuses it.
    async fn each<T, F>(&self, request: impl Fn(Etcd) -> F) -> Result<T>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut last = anyhow!("the cluster has no members");
        for _ in 0..2 {
            for (index, member) in self.members() {
                match member.call(&request).await {
                    Ok(answer) => {
                        self.prefer(index);
                        return Ok(answer);
                    }
                    Err(Failure::Refused(error)) => return Err(error),
                    Err(Failure::Unsent(error) | Failure::Unknown(error)) => last = error,
                }
            }
        }
        Err(last)
    }

    /// All members, beginning with the preferred one.
    fn members(&self) -> impl Iterator<Item = (usize, &Member)> {
        let members = self.shared.members.iter().enumerate();
        let first = self.shared.current.load(Ordering::Relaxed);
        members.clone().skip(first).chain(members.take(first))
    }

    fn prefer(&self, index: usize) {
        self.shared.current.store(index % self.shared.members.len(), Ordering::Relaxed);
    }
}

/// A page may be as large as it likes; etcd-client's own limit is 4 MiB.
fn kv(etcd: Etcd) -> KvClient {
    etcd.kv_client().max_decoding_message_size(usize::MAX)
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.shared.members.iter().map(Member::url)).finish()
    }
}

/// A running watch. Dropping it ends it.
#[derive(Debug)]
pub struct Watch {
    stream: WatchStream,
}

impl Watch {
    /// The next changes, at least one. It does not survive its member.
    pub async fn next(&mut self) -> Result<Vec<Event>> {
        loop {
            let answer = self.stream.message().await?.context("the watch ended")?;
            if answer.canceled() {
                bail!("etcd ended the watch at {}: {}", answer.compact_revision(), answer.cancel_reason());
            }
            if !answer.events().is_empty() {
                return answer.events().iter().map(convert::event).collect();
            }
        }
    }
}
