//! Where the platform's name points now.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use axum::http::Uri;
use etcd_sync_operations::dns::{Answer, Kind, Said};
use etcd_sync_operations::preflight::switch::{DnsFact, For};

use super::{Context, within};
use crate::operations::dns::Dns;

/// The servers are asked all at once, and each for a few seconds at most.
const LIMIT: Duration = Duration::from_secs(15);

/// Asks the name servers; `None`: nobody told the name. Before a switch resolvers are left alone: they would keep the old
/// answer from this look on.
pub async fn fact(dns: Option<&Dns>, context: &Context<'_>, purpose: For) -> Option<DnsFact> {
    let dns = dns?;
    let said = |said| vec![Answer { server: "of the zone".into(), kind: Kind::Authoritative, said }];
    let look = async {
        Ok::<_, anyhow::Error>(match purpose {
            For::Asked | For::Drill => dns.look().await,
            For::Switchover | For::Failover => match dns.now().await {
                Ok(Some(records)) => said(Said::Records(records)),
                Ok(None) => said(Said::Failed("no server of the zone answers".into())),
                Err(error) => said(Said::Failed(error.to_string())),
            },
        })
    };
    let answers = within(LIMIT, look).await.unwrap_or_else(|why| said(Said::Failed(why)));
    Some(DnsFact { target: dns.target().clone(), from: from(context), answers })
}

/// What the name should point at now: what the operator says, else the primary's virtual address.
fn from(context: &Context<'_>) -> BTreeSet<IpAddr> {
    let given = &context.readiness.dns_from;
    if !given.is_empty() {
        return given.iter().copied().collect();
    }
    let vip = context.config.api_servers.primary.as_ref().and_then(|server| server.url.parse::<Uri>().ok());
    let host = vip.as_ref().and_then(Uri::host).map(|host| host.trim_matches(['[', ']']));
    host.and_then(|host| host.parse().ok()).into_iter().collect()
}
