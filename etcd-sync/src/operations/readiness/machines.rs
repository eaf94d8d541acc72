//! Machine objects: an API server tells their phases; without one, the etcd tells at least whether there are any.

use std::time::Duration;

use etcd_sync_cluster::machines::machines as list;
use etcd_sync_core::etcd::kv::KeyRange;
use etcd_sync_core::scope::Scope;
use etcd_sync_operations::api_server::ApiServers;
use etcd_sync_operations::preflight::switch::{Machine, MachinesFact, Sides};
use etcd_sync_program::config::Config;
use etcd_sync_store::link::pair::Pair;
use etcd_sync_store::{Error, Etcd};

use super::{Clusters, PRIMARY_FLAG, Reached, STANDBY_FLAG, within};

const LIMIT: Duration = Duration::from_secs(8);
const COUNT_LIMIT: Duration = Duration::from_secs(5);

/// Where they lie below an API server's prefix.
const STORED: &str = "platform.tkestack.io/machines/";

/// Those of both clusters.
pub async fn machines(clusters: &Clusters, config: &Config, pair: &Pair) -> Sides<MachinesFact> {
    let (mut primary, mut standby) = tokio::join!(
        fact(&clusters.primary, PRIMARY_FLAG, &pair.primary, &config.scope),
        fact(&clusters.standby, STANDBY_FLAG, &pair.standby, &config.scope),
    );
    let ApiServers { primary: first, standby: second, standby_kubeconfig } = &config.api_servers;
    // A kubeconfig brings its own credentials.
    let second = second.as_ref().filter(|_| standby_kubeconfig.is_none());
    for (fact, server, flag) in [
        (&mut primary, first.as_ref(), "--active-cluster-token-file"),
        (&mut standby, second, "--standby-api-token-file"),
    ] {
        if let MachinesFact::Failed { without_token, .. } = fact {
            *without_token = server.filter(|server| server.token_file.is_none()).map(|_| flag);
        }
    }
    Sides { primary, standby }
}

async fn fact(cluster: &Reached, flag: &'static str, etcd: &Etcd, scope: &Scope) -> MachinesFact {
    let cluster = match cluster {
        Err(error) => return failed(format!("{error:#}")),
        Ok(Some(cluster)) => cluster,
        Ok(None) => {
            let stored = within(COUNT_LIMIT, stored(etcd, scope)).await.ok();
            return MachinesFact::NotAsked { flag, stored };
        }
    };
    match within(LIMIT, list(cluster)).await {
        Ok(None) => MachinesFact::None,
        Ok(Some(machines)) => {
            let machines = machines.into_iter().map(|machine| Machine { name: machine.name, phase: machine.phase });
            MachinesFact::Found(machines.collect())
        }
        Err(why) => failed(why),
    }
}

fn failed(why: String) -> MachinesFact {
    MachinesFact::Failed { why, without_token: None }
}

async fn stored(etcd: &Etcd, scope: &Scope) -> Result<u64, Error> {
    let mut count = 0;
    for prefix in scope.kubernetes_prefixes() {
        let range = KeyRange::prefix(format!("{prefix}{STORED}").as_bytes());
        count += etcd.count(&range).await?.0.max(0) as u64;
    }
    Ok(count)
}
