//! The exact comparison, or what the monitor knows from its last one.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use axum::http::{Request, StatusCode};
use etcd_sync_core::compare::check::Report;
use etcd_sync_kms::Encryption;
use etcd_sync_operations::api_server::ApiServer;
use etcd_sync_operations::preflight::switch::{Compared, Comparison, Last};
use etcd_sync_program::config::Monitor;
use etcd_sync_store::link::compare::CompareOptions;
use etcd_sync_store::link::pace::Pace;
use etcd_sync_store::link::pair::Pair;
use kube::client::Body;
use serde_json::Value;

use super::etcds::Etcds;
use super::{Context, within};

/// The monitor answers from memory.
const MONITOR_LIMIT: Duration = Duration::from_secs(5);

/// Longest wait for a moment at which the two can be compared: in a copy there is none.
const PATIENCE_MAX: Duration = Duration::from_secs(10);

/// Compares all keys. When that gives no verdict, asks the monitor for its last one.
pub async fn compared(
    context: &Context<'_>,
    pair: &Pair,
    encryption: &Encryption,
    etcds: &Etcds,
) -> (Compared, Option<Report>) {
    let silent = match (&etcds.primary, &etcds.standby) {
        (Err(why), _) => Some(format!("the primary does not answer: {why}")),
        (_, Err(why)) => Some(format!("the standby does not answer: {why}")),
        (Ok(_), Ok(_)) => None,
    };
    let why = match silent {
        Some(why) => why,
        None => match compare(context, pair, encryption).await {
            Ok(report) => return (Compared::Now(Comparison::of(&report)), Some(report)),
            Err(why) => why,
        },
    };
    let last = match &context.readiness.monitor {
        None => Last::NotAsked,
        Some(monitor) => within(MONITOR_LIMIT, last(monitor)).await.map_or_else(Last::Unknown, Last::Known),
    };
    (Compared::Not { why, last }, None)
}

async fn compare(context: &Context<'_>, pair: &Pair, encryption: &Encryption) -> Result<Report, String> {
    let limit = context.readiness.timeout;
    let options = CompareOptions {
        scope: &context.config.scope,
        encryption,
        deep: false,
        limit,
        patience: (limit / 2).min(PATIENCE_MAX),
        pace: &Pace::unlimited(),
        progress: &|_, _| {},
    };
    match tokio::time::timeout(limit, pair.compare(&options)).await {
        Ok(compared) => compared.map_err(|error| error.to_string()),
        Err(_) => Err(format!("it did not end within {limit:?}: give it more --timeout")),
    }
}

/// Asks for `/check?last=1`.
async fn last(monitor: &Monitor) -> Result<Comparison> {
    // The client of API servers does for it, too: an address, perhaps a token.
    let (url, token_file) = (monitor.url.clone(), monitor.token_file.clone());
    let client = etcd_sync_cluster::client(&ApiServer { url, token_file, cacert: None, flag: Some("monitor") })?;
    let request = Request::get("/check?last=1&format=json").body(Body::empty())?;
    let response = client.send(request).await.with_context(|| format!("ask {}", monitor.url))?;
    let status = response.status();
    let body = response.into_body().collect_bytes().await.with_context(|| format!("read from {}", monitor.url))?;
    let document: Value = serde_json::from_slice(&body).unwrap_or_default();
    if status != StatusCode::OK {
        bail!("{} answers {status}: {}", monitor.url, document["error"].as_str().unwrap_or("no reason is given"));
    }
    comparison(&document).with_context(|| format!("{} answers with something else than a report", monitor.url))
}

fn comparison(document: &Value) -> Option<Comparison> {
    let number = |name: &str| document[name].as_u64();
    let keys = |name: &str| -> Option<Vec<String>> {
        let keys = document[name].as_array()?.iter().take(Comparison::KEYS_MAX);
        Some(keys.filter_map(|key| Some(key.as_str()?.to_owned())).collect())
    };
    Some(Comparison {
        keys: number("keysCompared")?,
        revision: document["primaryRevision"].as_i64()?,
        synchronizer: document["synchronizer"].as_bool()?,
        missed: number("missed")?,
        missed_keys: keys("localMissedKeys")?,
        too_large: None,
        surplus: number("surplus")?,
        surplus_keys: keys("localSurplusKeys")?,
        unproved: number("unproved")?,
        ended_ms: Some(number("endedMs")?),
    })
}
