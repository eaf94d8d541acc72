//! Reads everything a session must know before it begins, from both clusters.

use std::collections::BTreeMap;
use std::time::Duration;

use etcd_sync_core::etcd::kv::{Event, KeyRange, Revision, prefix_end, successor};
use etcd_sync_core::etcd::request::{Page, ReadRange};
use etcd_sync_core::link::fence::Fence;
use etcd_sync_core::link::overlap::{self, OtherLink, Overlap, ScopeRecord};
use etcd_sync_core::link::role::{Promotion, Role};
use etcd_sync_core::link::state::{IDENTITY, Phase, StateKeys, cluster_id_text};
use etcd_sync_core::scope::STATE_ROOT;
use etcd_sync_core::scope::Scope;
use etcd_sync_core::session::{BACKLOG_LEAST, Carried, CatchUp, Diverged, Now, Start};
use etcd_sync_store::link::record::{Record, ask_witness, edited_keys, local_keys};
use etcd_sync_store::{Error, Etcd, WatchMessage};
use tokio::time::timeout;

use super::identity;

/// With fewer revisions to follow nobody asks how many changes they hold.
const PROBED_FROM: Revision = 1_000;
/// So many of the newest revisions are looked at.
const PROBED: Revision = 16;
const PROBE_PATIENCE: Duration = Duration::from_secs(3);

/// Facts for a session of the leader behind `fence`.
pub async fn gather(
    primary: &Etcd,
    standby: &Etcd,
    scope: &Scope,
    fence: Fence,
    force_copy: bool,
    carried: &Carried,
    now: Now,
) -> Result<Start, Error> {
    let keys = fence.keys.clone();
    let source = primary.identity().await?;
    let primary_is_empty = is_empty(primary, scope).await?;
    let primary_standby_links = standby_links(primary).await?;
    let Diverged { over: promoted_over, unrecorded: promoted_unrecorded } = diverged(primary, &keys).await?;
    let record = Record::read(standby, &keys).await?;
    let served_links = if record.role.is_none() { served_links(standby).await? } else { vec![] };
    let local_keys = local_keys(standby, &keys).await?.into_iter().collect();
    let edited_keys = edited_keys(standby, &keys).await?.into_iter().collect();
    let checkpoint = record.checkpoint().ok().flatten();
    let (cluster, at) = (cluster_id_text(source.cluster_id), checkpoint.as_ref().map_or(0, |record| record.revision));
    let history = super::history::gather(primary, standby, &keys, &record, &cluster, at).await?;
    let behind = checkpoint.as_ref().filter(|record| record.phase == Phase::Streaming);
    let behind = behind.map_or(0, |record| source.revision - record.revision);
    let mut carried = carried.clone();
    carried.catch_up = expect_changes(primary, scope, source.revision, behind, carried.catch_up).await;
    let standby_keys = match carried.catch_up.changes(behind) >= BACKLOG_LEAST {
        true => Some(count(standby, scope).await?),
        false => None,
    };
    let witness = checkpoint.and_then(|checkpoint| checkpoint.witness);
    let witness_recognized = match witness {
        Some(witness) => ask_witness(primary, &witness).await?,
        None => None,
    };
    let standby_revision = record.revision;
    let target = standby.identity().await?;
    Ok(Start {
        fence,
        last_write: record.last_write(),
        copied_revision: record.copied.as_ref().map_or(0, |kv| kv.mod_revision),
        role: record.role.map(|kv| kv.value),
        checkpoint: record.checkpoint.map(|kv| kv.value),
        local_keys,
        edited_keys,
        // The moment of the record itself: what an abandoned copy still writes after it is later than it.
        standby_revision,
        standby_cluster: target.cluster_id,
        primary_cluster: source.cluster_id,
        same_identity: identity::shared(primary, standby).await?,
        primary_revision: source.revision,
        standby_keys,
        primary_is_empty,
        witness_recognized,
        history,
        primary_standby_links,
        promoted_over,
        promoted_unrecorded,
        served_links,
        carried,
        force_copy,
        now,
    })
}

/// Whether a cluster has no key below the synchronized prefixes. One key is read of each, not all counted.
async fn is_empty(etcd: &Etcd, scope: &Scope) -> Result<bool, Error> {
    for prefix in scope.ranges() {
        let request = ReadRange { range: prefix.clone(), limit: 1, keys_only: true, revision: 0 };
        if !etcd.read(request).await?.kvs.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// How many changes to expect, by the last revisions: following all of them to find out would cost the primary much memory.
async fn expect_changes(primary: &Etcd, scope: &Scope, head: Revision, behind: Revision, known: CatchUp) -> CatchUp {
    if behind < PROBED_FROM || known.changes(behind) >= BACKLOG_LEAST {
        return known;
    }
    let from = head - PROBED + 1;
    let count = async {
        let Ok(mut watch) = primary.watch(scope.covering_range(), from).await else { return 0 };
        let mut changes: BTreeMap<Revision, u64> = BTreeMap::new();
        loop {
            match watch.next().await {
                Ok(WatchMessage::Events { events, .. }) => {
                    let revisions = events.iter().map(Event::revision).filter(|&revision| revision <= head);
                    revisions.for_each(|revision| *changes.entry(revision).or_default() += 1);
                    if events.last().is_some_and(|event| event.revision() >= head) {
                        break;
                    }
                }
                Ok(WatchMessage::Progress { revision }) if revision < head => {}
                Ok(WatchMessage::Progress { .. }) | Err(_) => break,
            }
        }
        // A lease that ends deletes many keys in one revision, and says nothing about the others.
        changes.values().sum::<u64>() - changes.values().max().copied().unwrap_or(0)
    };
    // Without an answer every change is followed, and what it comes to is noticed on the way.
    timeout(PROBE_PATIENCE, count).await.map_or(known, |changes| known.after(PROBED - 1, changes))
}

/// How many keys a cluster has below the synchronized prefixes.
async fn count(etcd: &Etcd, scope: &Scope) -> Result<u64, Error> {
    let mut keys = 0;
    for prefix in scope.ranges() {
        let request = ReadRange { range: prefix.clone(), limit: 1, keys_only: true, revision: 0 };
        keys += etcd.read(request).await?.count.unsigned_abs();
    }
    Ok(keys)
}

/// What is recorded on the primary about its own promotion.
pub async fn diverged(primary: &Etcd, keys: &StateKeys) -> Result<Diverged, Error> {
    let (promotion, _) = primary.get(&keys.promotion).await?;
    // One that this version cannot read names nobody.
    let over = promotion.and_then(|kv| Promotion::decode(&kv.value).ok()).map(|promotion| promotion.primary);
    let unrecorded = over.is_none() && Role::of_key(primary.get(&keys.role).await?.0.as_ref()) == Role::Primary;
    Ok(Diverged { over, unrecorded })
}

/// The links of which this cluster itself is the standby: nothing may be synchronized from it.
pub async fn standby_links(etcd: &Etcd) -> Result<Vec<String>, Error> {
    let links = links(etcd).await?.into_iter();
    Ok(links.filter(|(_, role)| *role == Role::Standby).map(|(link, _)| link).collect())
}

/// The links on which this cluster serves users, or did: nothing may be written into it.
async fn served_links(etcd: &Etcd) -> Result<Vec<String>, Error> {
    let links = links(etcd).await?.into_iter();
    Ok(links.filter(|(_, role)| !matches!(role, Role::None | Role::Standby)).map(|(link, _)| link).collect())
}

/// The link of this standby that has the same keys as this one, and came first.
///
/// # Errors
/// Why the standby cannot be read.
pub async fn overlap(standby: &Etcd, keys: &StateKeys, scope: &Scope) -> Result<Option<Overlap>, Error> {
    let mut others = Vec::new();
    for link in standby_links(standby).await? {
        let other = StateKeys::new(&link);
        if other.root != keys.root {
            others.push(OtherLink { link, scope: standby.get(&other.scope).await?.0 });
        }
    }
    if others.is_empty() {
        return Ok(None);
    }
    let (role, recorded) = (standby.get(&keys.role).await?.0, standby.get(&keys.scope).await?.0);
    Ok(overlap::overlap(&ScopeRecord::of(scope), recorded.as_ref(), role.is_some(), &others))
}

/// All links that a cluster knows of, with its role.
pub async fn links(etcd: &Etcd) -> Result<BTreeMap<String, Role>, Error> {
    let mut links = BTreeMap::new();
    let mut range = KeyRange::prefix(STATE_ROOT);
    while let Page { kvs, .. } =
        etcd.read(ReadRange { range: range.clone(), limit: 1, keys_only: true, revision: 0 }).await?
        && let Some(first) = kvs.first()
    {
        // One read finds the next link whatever the size of its ledger.
        if first.key == IDENTITY {
            range = range.from(successor(&first.key));
            continue;
        }
        let name = first.key[STATE_ROOT.len()..].split(|&byte| byte == b'/').next().unwrap_or_default();
        let link = String::from_utf8_lossy(name).into_owned();
        let (role, _) = etcd.get(&StateKeys::new(&link).role).await?;
        links.insert(link, Role::of_key(role.as_ref()));
        let next = prefix_end(&[STATE_ROOT, name, b"/"].concat());
        range = range.from(next.max(successor(&first.key)));
    }
    Ok(links)
}
