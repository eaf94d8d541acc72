//! Every synchronized kind, read through the standby's API server.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;
use etcd_sync_cluster::kinds::{KindRead, read_every_kind};
use etcd_sync_core::check::Report;
use etcd_sync_core::drill::{KindCount, KindFinding, Part, PartName, directory_of};
use etcd_sync_core::kv::{KeyRange, Revision};
use etcd_sync_core::preflight::Level;
use etcd_sync_core::request::ReadRange;
use tracing::info;

use super::{part, trial};
use crate::procedure::Context;

/// Reads every kind of which the standby has keys in scope, and counts it in etcd at the revision it was served at.
pub async fn kinds(context: &Context<'_>, report: Option<&Report>) -> Part {
    let Some(standby) = context.standby else {
        return Part::skipped(PartName::Kinds, "no API server of the standby is known (--standby-api-server)");
    };
    let Some(report) = report else {
        return Part::skipped(PartName::Kinds, "nothing could be compared, so nobody knows what is synchronized");
    };
    let began = Instant::now();
    let held = report.resources.iter().filter(|count| count.standby > 0);
    let mut synchronized: BTreeMap<String, bool> = held.map(|count| (directory(&count.resource), false)).collect();
    let wanted = |group: &str, plural: &str| synchronized.contains_key(&directory_of(group, plural));
    let progress = |read: &KindRead| info!(resource = read.resource, objects = read.count, "read");
    let reads = match read_every_kind(standby, &wanted, &progress).await {
        Ok(reads) => reads,
        Err(error) => return part(PartName::Kinds, began, vec![trial("discovery", Level::Fail, error.to_string())]),
    };
    let mut trials = Vec::new();
    for read in reads {
        let group = read.api_version.split_once('/').map_or("", |(group, _)| group);
        let directory = directory_of(group, &read.resource);
        let found = match (&read.error, read.revision) {
            (Some(error), _) => KindFinding::Failed(error.clone()),
            (None, None) => KindFinding::Failed("it does not say at which revision it was read".into()),
            (None, Some(revision)) => match count(context, &directory, revision).await {
                Ok(held) => KindFinding::Read { served: read.count, held },
                Err(error) => KindFinding::Failed(format!("its keys cannot be counted: {error}")),
            },
        };
        if let Some(seen) = synchronized.get_mut(&directory) {
            *seen = true;
        }
        trials.push((&KindCount { directory, api_version: read.api_version.clone(), found }).into());
    }
    let unserved = synchronized.into_iter().filter(|(_, seen)| !seen).map(|(directory, _)| KindCount {
        directory,
        api_version: String::new(),
        found: KindFinding::NotServed,
    });
    trials.extend(unserved.map(|kind| (&kind).into()));
    part(PartName::Kinds, began, trials)
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

/// `widgets.example.com`, as reports name a resource, lies in `example.com/widgets`.
fn directory(resource: &str) -> String {
    match resource.split_once('.') {
        Some((plural, group)) => format!("{group}/{plural}"),
        None => resource.to_owned(),
    }
}
