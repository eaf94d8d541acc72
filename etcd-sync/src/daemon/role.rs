//! The standby's role, and which keys the link takes for its own: recorded when everything was judged good, before the first write.

use etcd_sync_core::etcd::request::{Op, Txn};
use etcd_sync_core::link::fence::{Fence, is_standby};
use etcd_sync_core::link::overlap::ScopeRecord;
use etcd_sync_core::link::state::StateKeys;
use etcd_sync_core::scope::Scope;
use etcd_sync_core::session::{Ended, Refusal, init_role};
use etcd_sync_operations::preflight::{Facts, judge, refusal};
use etcd_sync_store::Etcd;

use super::drive::Outcome;
use crate::facts::identity;
use crate::facts::start::{overlap, standby_links};

/// Makes the role of a link that has none yet (`never_ran`), and records its scope when that is new. What was judged before is then
/// looked at once more: of two that start at once each has looked before the other wrote anything.
pub(super) async fn take(
    primary: &Etcd,
    standby: &Etcd,
    fence: &Fence,
    scope: &Scope,
    never_ran: bool,
) -> Result<(), Outcome> {
    identity::make(standby, fence).await.map_err(Outcome::Failed)?;
    let keys = &fence.keys;
    // One that is refused leaves no record: it would stand in the way of the other.
    refuse_overlap(standby, keys, scope).await?;
    let value = ScopeRecord::of(scope).encode();
    let recorded = standby.get(&keys.scope).await.map_err(Outcome::Failed)?.0;
    let is_new = recorded.is_none_or(|kv| kv.value != value);
    let record = Op::Put { key: keys.scope.clone(), value, lease: 0 };
    let txn = if never_ran {
        let mut txn = init_role(keys);
        txn.success.push(record);
        txn
    } else if is_new {
        Txn { compares: vec![is_standby(keys), fence.is_leader()], success: vec![record], failure: vec![] }
    } else {
        return Ok(());
    };
    standby.txn(txn).await.map_err(|failure| Outcome::Failed(failure.error().clone()))?;
    if never_ran {
        let links = standby_links(primary).await.map_err(Outcome::Failed)?;
        if !links.is_empty() {
            return Err(Outcome::Ended(Ended::Refused(Refusal::PrimaryIsStandby { links: links.join(", ") })));
        }
    }
    refuse_overlap(standby, keys, scope).await
}

async fn refuse_overlap(standby: &Etcd, keys: &StateKeys, scope: &Scope) -> Result<(), Outcome> {
    let overlap = overlap(standby, keys, scope).await.map_err(Outcome::Failed)?;
    match refusal(&judge(&Facts { overlap, ..Facts::default() })) {
        Some(why) => Err(Outcome::Paused("preflight", why)),
        None => Ok(()),
    }
}
