//! The state of a link in its standby, read at one revision.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use etcd_sync_core::etcd::kv::{KeyRange, KeyValue, Revision, successor};
use etcd_sync_core::etcd::request::{Op, ReadRange, Txn};
use etcd_sync_core::link::history::{Found, HistoryRecord, Sightings, Witness};
use etcd_sync_core::link::provenance::LOCAL_KEYS_MAX;
use etcd_sync_core::link::question::{Acceptance, Question};
use etcd_sync_core::link::role::Promotion;
use etcd_sync_core::link::state::{BadRecord, Checkpoint, Condition, PrimaryContact, StateKeys};
use etcd_sync_core::link::too_large::TooLarge;
use futures_util::stream::{self, StreamExt, TryStreamExt};

use crate::client::Etcd;
use crate::client::{Error, WriteError};

/// Entries of the ledger read at once.
const LEDGER_PAGE: i64 = 5_000;

/// Saved values read at once: one may have 1.5 MiB.
const SAVED_PAGE: i64 = 5;

/// Recorded keys of the primary read at once.
const SIGHTINGS_AT_ONCE: usize = 8;

/// The state of a link, all of it as of one revision of the standby.
#[derive(Clone, Debug)]
pub struct Record {
    /// That revision.
    pub revision: Revision,
    /// The role; its revision of change is the moment it was given.
    pub role: Option<KeyValue>,
    /// The checkpoint, undecoded.
    pub checkpoint: Option<KeyValue>,
    /// The mark of a copy under way.
    pub copied: Option<KeyValue>,
    /// Why replication is paused.
    pub condition: Option<Condition>,
    /// The last contact with the primary that a leader recorded.
    pub primary_contact: Option<PrimaryContact>,
    /// The promotion, undecoded; of an earlier time when the role is standby again.
    pub promotion: Option<KeyValue>,
    /// What both histories are recognized by, undecoded.
    pub history: Option<KeyValue>,
    /// What is asked of the operator, undecoded.
    pub question: Option<KeyValue>,
    /// The operator's answer, undecoded.
    pub acceptance: Option<KeyValue>,
    /// The run of a failover command that is not finished.
    pub open_run: Option<KeyValue>,
    /// The leader and the candidates behind it, oldest first.
    pub candidates: Vec<Candidate>,
}

/// A key in the election.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its key.
    pub key: Bytes,
    /// Who it is.
    pub holder: String,
    /// Its epoch, should it lead.
    pub epoch: Revision,
}

impl Record {
    /// Reads it.
    ///
    /// # Errors
    /// Why the standby cannot be read.
    pub async fn read(standby: &Etcd, keys: &StateKeys) -> Result<Record, Error> {
        // A transaction that only reads answers for all keys at one revision.
        let gets = [
            &keys.role,
            &keys.checkpoint,
            &keys.copied,
            &keys.condition,
            &keys.primary_contact,
            &keys.promotion,
            &keys.open_run,
        ];
        let success = gets.map(|key| Op::Get { key: key.clone() }).to_vec();
        let reply = standby.txn(Txn { success, ..Txn::default() }).await.map_err(|error| match error {
            WriteError::NotApplied(error) | WriteError::Unknown(error) => error,
        })?;
        let range = KeyRange::prefix(&keys.leader_prefix);
        let leaders = ReadRange { range, limit: 0, keys_only: false, revision: reply.revision };
        let mut leaders = standby.read(leaders).await?.kvs;
        leaders.sort_by_key(|kv| kv.create_revision);
        // Apart from the others: a standby may take few operations in one transaction.
        let single = async |key: &Bytes| {
            let read = ReadRange::single(key.clone(), false, reply.revision);
            Ok::<_, Error>(standby.read(read).await?.kvs.into_iter().next())
        };
        let (history, question, acceptance) =
            tokio::try_join!(single(&keys.history), single(&keys.question), single(&keys.acceptance))?;
        let candidates = leaders.into_iter().map(|kv| Candidate {
            holder: String::from_utf8_lossy(&kv.value).into_owned(),
            epoch: kv.create_revision,
            key: kv.key,
        });
        let mut found: HashMap<Bytes, KeyValue> =
            reply.gets.into_iter().flatten().map(|kv| (kv.key.clone(), kv)).collect();
        let mut take = |key: &Bytes| found.remove(key);
        Ok(Record {
            revision: reply.revision,
            role: take(&keys.role),
            checkpoint: take(&keys.checkpoint),
            copied: take(&keys.copied),
            condition: take(&keys.condition).and_then(|kv| serde_json::from_slice(&kv.value).ok()),
            primary_contact: take(&keys.primary_contact).and_then(|kv| serde_json::from_slice(&kv.value).ok()),
            promotion: take(&keys.promotion),
            history,
            question,
            acceptance,
            open_run: take(&keys.open_run),
            candidates: candidates.collect(),
        })
    }

    /// The checkpoint, decoded.
    ///
    /// # Errors
    /// It was written by another version, or by something else.
    pub fn checkpoint(&self) -> Result<Option<Checkpoint>, BadRecord> {
        self.checkpoint.as_ref().map(|kv| Checkpoint::decode(&kv.value)).transpose()
    }

    /// The promotion, decoded.
    ///
    /// # Errors
    /// It was written by another version, or by something else.
    pub fn promotion(&self) -> Result<Option<Promotion>, BadRecord> {
        self.promotion.as_ref().map(|kv| Promotion::decode(&kv.value)).transpose()
    }

    /// What the histories are recognized by, decoded.
    ///
    /// # Errors
    /// It was written by another version, or by something else.
    pub fn history(&self) -> Result<Option<HistoryRecord>, BadRecord> {
        self.history.as_ref().map(|kv| HistoryRecord::decode(&kv.value)).transpose()
    }

    /// The question to the operator, decoded.
    ///
    /// # Errors
    /// It was written by another version, or by something else.
    pub fn question(&self) -> Result<Option<Question>, BadRecord> {
        self.question.as_ref().map(|kv| Question::decode(&kv.value)).transpose()
    }

    /// The operator's answer, decoded.
    ///
    /// # Errors
    /// It was written by another version, or by something else.
    pub fn acceptance(&self) -> Result<Option<Acceptance>, BadRecord> {
        self.acceptance.as_ref().map(|kv| Acceptance::decode(&kv.value)).transpose()
    }

    /// The latest write of any synchronizer of the link; 0 when there was none.
    pub fn last_write(&self) -> Revision {
        let marks = [&self.checkpoint, &self.copied];
        marks.iter().filter_map(|mark| mark.as_ref().map(|kv| kv.mod_revision)).max().unwrap_or(0)
    }
}

/// The ledger: keys on record as local to the standby. At most one page more than [`LOCAL_KEYS_MAX`].
///
/// # Errors
/// Why the standby cannot be read.
pub async fn local_keys(standby: &Etcd, keys: &StateKeys) -> Result<HashSet<Bytes>, Error> {
    entries(standby, &keys.local_prefix).await
}

/// Mirrored keys on record that others have changed on the standby.
///
/// # Errors
/// Why the standby cannot be read.
pub async fn edited_keys(standby: &Etcd, keys: &StateKeys) -> Result<HashSet<Bytes>, Error> {
    entries(standby, &keys.edited_prefix).await
}

/// Keys on record whose value the standby refuses.
///
/// # Errors
/// Why the standby cannot be read.
pub async fn too_large_keys(standby: &Etcd, keys: &StateKeys) -> Result<HashMap<Bytes, TooLarge>, Error> {
    let (mut found, mut range) = (HashMap::new(), KeyRange::prefix(&keys.edited_prefix));
    loop {
        let request = ReadRange { range: range.clone(), limit: LEDGER_PAGE, keys_only: false, revision: 0 };
        let page = standby.read(request).await?;
        let entries = page.kvs.iter().filter_map(|kv| Some((kv, TooLarge::decode(&kv.value)?)));
        found.extend(entries.map(|(kv, one)| (Bytes::copy_from_slice(&kv.key[keys.edited_prefix.len()..]), one)));
        match page.kvs.last() {
            Some(last) if page.more => range = range.from(successor(&last.key)),
            _ => return Ok(found),
        }
    }
}

async fn entries(standby: &Etcd, prefix: &Bytes) -> Result<HashSet<Bytes>, Error> {
    let mut found = HashSet::new();
    let mut range = KeyRange::prefix(prefix);
    loop {
        let request = ReadRange { range: range.clone(), limit: LEDGER_PAGE, keys_only: true, revision: 0 };
        let page = standby.read(request).await?;
        // Copied: a slice would keep the whole answer in memory.
        found.extend(page.kvs.iter().map(|kv| Bytes::copy_from_slice(&kv.key[prefix.len()..])));
        match page.kvs.last() {
            Some(last) if page.more && found.len() <= LOCAL_KEYS_MAX => range = range.from(successor(&last.key)),
            _ => return Ok(found),
        }
    }
}

/// Keys whose values are saved on the standby.
///
/// # Errors
/// Why the standby cannot be read.
pub async fn saved_keys(standby: &Etcd, keys: &StateKeys) -> Result<HashSet<Bytes>, Error> {
    entries(standby, &keys.saved_prefix).await
}

/// Values saved on the standby before they were taken away, under the keys that they had.
///
/// # Errors
/// Why the standby cannot be read.
pub async fn saved_values(standby: &Etcd, keys: &StateKeys) -> Result<Vec<KeyValue>, Error> {
    let prefix = &keys.saved_prefix;
    let (mut found, mut range) = (Vec::new(), KeyRange::prefix(prefix));
    loop {
        let request = ReadRange { range: range.clone(), limit: SAVED_PAGE, keys_only: false, revision: 0 };
        let page = standby.read(request).await?;
        let last = page.kvs.last().map(|kv| kv.key.clone());
        found.extend(page.kvs.into_iter().map(|kv| KeyValue { key: kv.key.slice(prefix.len()..), ..kv }));
        match last {
            Some(last) if page.more => range = range.from(successor(&last)),
            _ => return Ok(found),
        }
    }
}

/// The recorded keys of the primary, read again.
///
/// # Errors
/// Why the primary cannot be read.
pub async fn sight(primary: &Etcd, record: &HistoryRecord) -> Result<Sightings, Error> {
    let keys: HashSet<&str> = record.keys().collect();
    let read = |key: &str| {
        let key = key.to_owned();
        async move {
            let (found, _) = primary.get(key.as_bytes()).await?;
            Ok((key, found.as_ref().map(Found::of)))
        }
    };
    stream::iter(keys).map(read).buffer_unordered(SIGHTINGS_AT_ONCE).try_collect().await
}

/// Whether the primary still shows the change the checkpoint names; `None` when its history there is gone.
///
/// # Errors
/// Why the primary cannot be read.
pub async fn ask_witness(primary: &Etcd, witness: &Witness) -> Result<Option<bool>, Error> {
    let read = async |revision| {
        match primary.read(ReadRange::single(witness.key.clone().into(), false, revision)).await {
            Ok(page) => Ok(Some(page.kvs.into_iter().next())),
            // A revision still to come is told apart by the primary's own.
            Err(Error::Compacted { .. } | Error::FutureRevision { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    };
    let Some(at) = read(witness.revision).await? else { return Ok(None) };
    let before = match (&at, witness.deleted) {
        (None, true) => match read(witness.revision - 1).await? {
            Some(before) => before,
            None => return Ok(None),
        },
        _ => None,
    };
    Ok(Some(witness.recognizes(at.as_ref(), before.as_ref())))
}
