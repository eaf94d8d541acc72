//! Every synchronized kind, read through the standby's API server.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;
use etcd_sync_cluster::Cluster;
use etcd_sync_cluster::kinds::{Kind, read_kind, served};
use etcd_sync_core::compare::check::Report;
use etcd_sync_core::etcd::kv::{KeyRange, Revision};
use etcd_sync_core::etcd::request::ReadRange;
use etcd_sync_operations::drill::{KindCount, KindFinding, Part, PartName, directory_of, is_resource, resource_name};
use etcd_sync_operations::preflight::Level;
use tracing::info;

use super::{part, trial};
use crate::operations::procedure::Context;

/// Reads every kind of which the standby has keys in scope, and counts it in etcd at the revision it was served at.
pub async fn kinds(context: &Context<'_>, report: Option<&Report>) -> Part {
    let Some(standby) = context.standby else {
        return Part::skipped(PartName::Kinds, "no API server of the standby is known (--standby-api-server)");
    };
    let Some(report) = report else {
        return Part::skipped(PartName::Kinds, "nothing could be compared, so it is not known what is synchronized");
    };
    let began = Instant::now();
    let served = match served(standby).await {
        Ok(served) => served,
        Err(error) => return part(PartName::Kinds, began, vec![trial("discovery", Level::Fail, error.to_string())]),
    };
    let held = report.resources.iter().filter(|count| count.standby > 0 && is_resource(&count.resource));
    let mut synchronized: BTreeMap<&str, bool> = held.map(|count| (count.resource.as_str(), false)).collect();
    let mut trials = Vec::new();
    for kind in &served.kinds {
        let resource = resource_name(&kind.group, &kind.resource);
        let Some(seen) = synchronized.get_mut(resource.as_str()) else { continue };
        *seen = true;
        let (api_version, found) = (kind.api_version.clone(), read(context, standby, kind).await);
        trials.push((&KindCount { resource, api_version, found }).into());
    }
    let unserved = synchronized.into_iter().filter(|(_, seen)| !seen).map(|(resource, _)| KindCount {
        resource: resource.to_owned(),
        api_version: String::new(),
        found: KindFinding::NotServed,
    });
    trials.extend(unserved.map(|kind| (&kind).into()));
    // What is synchronized of it was just found not to be served; the rest belongs to an API server of its own.
    let silent = served.silent.iter().map(|(api_version, why)| {
        let what = format!("{why}. Namespaces cannot be deleted until it answers; see `kubectl get apiservices`");
        trial(api_version, Level::Warn, what)
    });
    trials.extend(silent);
    part(PartName::Kinds, began, trials)
}

/// One kind. Counted at once: the API server compacts what is older than five minutes.
async fn read(context: &Context<'_>, standby: &Cluster, kind: &Kind) -> KindFinding {
    let read = read_kind(standby, kind).await;
    info!(resource = read.resource, objects = read.count, "read");
    let revision = match (read.error, read.revision) {
        (Some(error), _) => return KindFinding::Failed(error),
        (None, None) => return KindFinding::Failed("it does not say at which revision it was read".into()),
        (None, Some(revision)) => revision,
    };
    match count(context, &directory_of(&kind.group, &kind.resource), revision).await {
        Ok(held) => KindFinding::Read { served: read.count, held },
        Err(error) => KindFinding::Failed(format!("its keys cannot be counted: {error}")),
    }
}

async fn count(context: &Context<'_>, directory: &str, revision: Revision) -> Result<u64, etcd_sync_store::Error> {
    let mut keys = 0;
    for prefix in context.scope.kubernetes_prefixes() {
        let range = KeyRange::prefix(&Bytes::from(format!("{prefix}{directory}/")));
        let request = ReadRange { range, limit: 1, keys_only: true, revision };
        keys += u64::try_from(context.pair.standby.read(request).await?.count).unwrap_or(0);
    }
    Ok(keys)
}
