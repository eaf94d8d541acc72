//! Reads everything a session must know before it begins, from both clusters.

use std::collections::BTreeSet;

use bytes::Bytes;
use etcd_sync_core::fence::Fence;
use etcd_sync_core::kv::{KeyRange, Revision, prefix_end, successor};
use etcd_sync_core::provenance::LOCAL_KEYS_MAX;
use etcd_sync_core::request::{Page, ReadRange};
use etcd_sync_core::scope::Scope;
use etcd_sync_core::session::{Start, init_role};
use etcd_sync_core::state::{ROLE_STANDBY, STATE_ROOT, StateKeys};
use etcd_sync_store::{Error, Etcd, WriteError};

/// Keys of the ledger read at once.
const LEDGER_PAGE: i64 = 5_000;

/// Facts for a session of the leader behind `fence`.
pub async fn gather(
    primary: &Etcd,
    standby: &Etcd,
    scope: &Scope,
    fence: Fence,
    force_copy: bool,
    now_ms: u64,
) -> Result<Start, Error> {
    let keys = fence.keys.clone();
    standby.txn(init_role(&keys)).await.map_err(|error| match error {
        WriteError::NotApplied(error) | WriteError::Unknown(error) => error,
    })?;
    let source = primary.identity().await?;
    let mut primary_keys = 0;
    for range in scope.ranges() {
        primary_keys += primary.count(range).await?.0 as u64;
    }
    let primary_standby_links = standby_links(primary).await?;
    let state = read_state(standby, &keys).await?;
    let target = standby.identity().await?;
    Ok(Start {
        fence,
        role: state.role,
        checkpoint: state.checkpoint,
        last_write: state.last_write,
        local_keys: state.local_keys,
        standby_revision: target.revision,
        standby_cluster: target.cluster_id,
        primary_cluster: source.cluster_id,
        primary_revision: source.revision,
        primary_keys,
        primary_standby_links,
        force_copy,
        now_ms,
    })
}

struct State {
    role: Option<Bytes>,
    checkpoint: Option<Bytes>,
    last_write: Revision,
    local_keys: Vec<Bytes>,
}

async fn read_state(standby: &Etcd, keys: &StateKeys) -> Result<State, Error> {
    let (role, _) = standby.get(&keys.role).await?;
    let mut local_keys = Vec::new();
    let mut range = KeyRange::prefix(&keys.local_prefix);
    loop {
        let request = ReadRange { range: range.clone(), limit: LEDGER_PAGE, keys_only: true, revision: 0 };
        let page = standby.read(request).await?;
        local_keys.extend(page.kvs.iter().filter_map(|kv| keys.local_key(&kv.key)));
        match page.kvs.last() {
            // One more than allowed is enough to be refused.
            Some(last) if page.more && local_keys.len() <= LOCAL_KEYS_MAX => range = range.from(successor(&last.key)),
            _ => break,
        }
    }
    let (checkpoint, _) = standby.get(&keys.checkpoint).await?;
    let (copied, _) = standby.get(&keys.copied).await?;
    let marks = [&checkpoint, &copied];
    let last_write = marks.iter().filter_map(|mark| mark.as_ref().map(|kv| kv.mod_revision)).max().unwrap_or(0);
    Ok(State { role: role.map(|kv| kv.value), checkpoint: checkpoint.map(|kv| kv.value), last_write, local_keys })
}

/// The links of which this cluster itself is the standby: nothing may be synchronized from it.
pub async fn standby_links(etcd: &Etcd) -> Result<Vec<String>, Error> {
    let mut links = BTreeSet::new();
    let mut range = KeyRange::prefix(STATE_ROOT);
    while let Page { kvs, .. } =
        etcd.read(ReadRange { range: range.clone(), limit: 1, keys_only: true, revision: 0 }).await?
        && let Some(first) = kvs.first()
    {
        // One read finds the next link whatever the size of its ledger.
        let name = first.key[STATE_ROOT.len()..].split(|&byte| byte == b'/').next().unwrap_or_default();
        let link = String::from_utf8_lossy(name).into_owned();
        let (role, _) = etcd.get(&StateKeys::new(&link).role).await?;
        if role.is_some_and(|kv| kv.value == ROLE_STANDBY) {
            links.insert(link);
        }
        let next = prefix_end(&[STATE_ROOT, name, b"/"].concat());
        range = range.from(next.max(successor(&first.key)));
    }
    Ok(links.into_iter().collect())
}
