//! Whether the API servers are ready to serve.

use std::time::Duration;

use axum::http::Request;
use etcd_sync_operations::preflight::switch::{ApiServerFact, Sides};
use etcd_sync_operations::text::causes;

use super::{Clusters, PRIMARY_FLAG, Reached, STANDBY_FLAG, within};
use crate::facts::apiserver;

/// One that takes longer is not ready.
const READY_LIMIT: Duration = Duration::from_secs(5);

/// Asks both.
pub async fn ready(clusters: &Clusters) -> Sides<ApiServerFact> {
    let (primary, standby) = tokio::join!(fact(&clusters.primary, PRIMARY_FLAG), fact(&clusters.standby, STANDBY_FLAG));
    Sides { primary, standby }
}

async fn fact(cluster: &Reached, flag: &'static str) -> ApiServerFact {
    let cluster = match cluster {
        Ok(Some(cluster)) => cluster,
        Ok(None) => return ApiServerFact::NotAsked(flag),
        Err(error) => {
            return ApiServerFact::Failed { why: error.to_string(), fix: apiserver::UNUSABLE.to_owned() };
        }
    };
    let (client, access) = (cluster.client(), cluster.access());
    let url = access.url().to_owned();
    let failed = |error: anyhow::Error| {
        let fix = apiserver::remedy(access, &error);
        ApiServerFact::Failed { why: format!("{}: {}", access.url(), causes(error.as_ref())), fix }
    };
    let request = match Request::get("/readyz").body(Vec::new()) {
        Ok(request) => request,
        Err(error) => return failed(error.into()),
    };
    match within(READY_LIMIT, async { Ok::<_, anyhow::Error>(client.request_text(request).await) }).await {
        Err(late) => failed(anyhow::anyhow!(late)),
        Ok(Ok(_)) => ApiServerFact::Answered { url, unready: None },
        Ok(Err(kube::Error::Api(status))) if !matches!(status.code, 401 | 403) => {
            ApiServerFact::Answered { url, unready: Some(format!("{}: {}", status.code, failing(&status.message))) }
        }
        Ok(Err(error)) => failed(error.into()),
    }
}

/// Of the list that an API server gives, what fails (`[-]etcd failed: reason withheld`).
fn failing(message: &str) -> String {
    let lines: Vec<&str> = message.lines().filter_map(|line| line.trim().strip_prefix("[-]")).collect();
    if lines.is_empty() { message.trim().to_owned() } else { lines.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_fails_is_told() {
        let message = "[+]ping ok\n[-]etcd failed: reason withheld\n[+]log ok\nreadyz check failed\n";
        assert_eq!(failing(message), "etcd failed: reason withheld");
        assert_eq!(failing(" not ready \n"), "not ready");
    }
}
