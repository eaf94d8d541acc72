//! The operator's own command that changes the name.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use etcd_sync_operations::dns::{Records, Target};

use super::error::DnsError;
use crate::operations::shell;

/// What the command is to do.
#[derive(Clone, Copy, Debug)]
pub enum Action {
    /// Give the name its addresses.
    Set,
    /// Take the name away.
    Remove,
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Action::Set => "set",
            Action::Remove => "remove",
        }
    }
}

/// Runs it. Its arguments and environment are part of the contract: docs/dns.md.
///
/// # Errors
/// It cannot be started, takes too long, or fails.
pub async fn run(
    text: &str,
    limit: Duration,
    action: Action,
    target: &Target,
    old: Option<&Records>,
    run: &str,
) -> Result<(), DnsError> {
    let listed = |addresses: &BTreeSet<IpAddr>| addresses.iter().map(ToString::to_string).collect::<Vec<_>>();
    let joined = |addresses: &BTreeSet<IpAddr>| listed(addresses).join(",");
    let mut args = vec![action.name().to_owned(), target.name.clone()];
    args.extend(listed(&target.addresses));
    let variables = [
        ("ETCD_SYNC_DNS_ACTION", action.name().to_owned()),
        ("ETCD_SYNC_DNS_NAME", target.name.clone()),
        ("ETCD_SYNC_DNS_ADDRESSES", joined(&target.addresses)),
        ("ETCD_SYNC_DNS_TTL", target.ttl_s.to_string()),
        ("ETCD_SYNC_DNS_OLD_ADDRESSES", old.map(|old| joined(&old.addresses)).unwrap_or_default()),
        ("ETCD_SYNC_DNS_RUN", run.to_owned()),
    ];
    Ok(shell::run(text, "dns-command", &args, &variables, limit).await?)
}
