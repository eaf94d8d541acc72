//! Machine objects: an API server tells their phases; without one, the etcd tells at least whether there are any.

use std::time::Duration;

use axum::http::Request;
use etcd_sync_core::kv::KeyRange;
use etcd_sync_core::preflight::switch::{Machine, MachinesFact, Sides};
use etcd_sync_core::scope::Scope;
use etcd_sync_program::config::{ApiServer, Config};
use etcd_sync_store::pair::Pair;
use etcd_sync_store::{Error, Etcd};
use kube::Client;
use serde_json::Value;

use super::within;

const LIMIT: Duration = Duration::from_secs(8);
const COUNT_LIMIT: Duration = Duration::from_secs(5);

const GROUP: &str = "platform.tkestack.io";

/// Objects read at once.
const PAGE: u32 = 500;

/// Those of both clusters.
pub async fn machines(config: &Config, pair: &Pair) -> Sides<MachinesFact> {
    let servers = &config.api_servers;
    let (primary, standby) = tokio::join!(
        fact(servers.primary.as_ref(), "--active-cluster-vip", &pair.primary, &config.scope),
        fact(servers.standby.as_ref(), "--standby-api-server", &pair.standby, &config.scope),
    );
    Sides { primary, standby }
}

async fn fact(server: Option<&ApiServer>, flag: &'static str, etcd: &Etcd, scope: &Scope) -> MachinesFact {
    let Some(server) = server else {
        let stored = within(COUNT_LIMIT, stored(etcd, scope)).await.ok();
        return MachinesFact::NotAsked { flag, stored };
    };
    let listed = async {
        let client = etcd_sync_cluster::client(server)?;
        anyhow::Ok(list(&client).await?)
    };
    match within(LIMIT, listed).await {
        Ok(None) => MachinesFact::None,
        Ok(Some(machines)) => MachinesFact::Found(machines),
        Err(why) => MachinesFact::Failed(why),
    }
}

async fn stored(etcd: &Etcd, scope: &Scope) -> Result<u64, Error> {
    let mut count = 0;
    for prefix in scope.kubernetes_prefixes() {
        let range = KeyRange::prefix(format!("{prefix}{GROUP}/machines/").as_bytes());
        count += etcd.count(&range).await?.0.max(0) as u64;
    }
    Ok(count)
}

/// All of them; `None`: the cluster does not know such objects.
async fn list(client: &Client) -> Result<Option<Vec<Machine>>, kube::Error> {
    let Some(group) = get(client, &format!("/apis/{GROUP}")).await? else { return Ok(None) };
    let Some(version) = group["preferredVersion"]["version"].as_str() else { return Ok(None) };
    let (mut machines, mut more) = (Vec::new(), String::new());
    loop {
        let path = format!("/apis/{GROUP}/{version}/machines?limit={PAGE}{more}");
        let Some(page) = get(client, &path).await? else { return Ok(None) };
        machines.extend(page["items"].as_array().into_iter().flatten().map(machine));
        match page["metadata"]["continue"].as_str().filter(|token| !token.is_empty()) {
            Some(token) => more = format!("&continue={token}"),
            None => return Ok(Some(machines)),
        }
    }
}

async fn get(client: &Client, path: &str) -> Result<Option<Value>, kube::Error> {
    let request = Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError)?;
    match client.request(request).await {
        Ok(value) => Ok(Some(value)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error),
    }
}

fn machine(object: &Value) -> Machine {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Machine { name: text(&object["metadata"]["name"]), phase: text(&object["status"]["phase"]) }
}
