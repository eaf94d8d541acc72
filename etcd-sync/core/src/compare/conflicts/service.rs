//! Addresses and ports that two Services of the standby would have.

use std::net::IpAddr;

use bytes::Bytes;

use super::bounded::Bounded;
use super::report::Collected;
use super::{Kind, Limits, spec};

/// What no two Services may share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Use {
    Address(IpAddr),
    NodePort(i64),
}

#[derive(Debug)]
pub(super) struct Services {
    written: Bounded<Use, Bytes>,
    local: Bounded<Use, Bytes>,
    /// Services that the standby keeps as its own.
    local_keys: Bounded<Bytes, ()>,
}

impl Services {
    pub fn new(limits: &Limits) -> Self {
        let max = limits.services;
        Services { written: Bounded::new(max), local: Bounded::new(max), local_keys: Bounded::new(max) }
    }

    /// A Service that the standby is given. `false`: it cannot be read.
    pub fn written(&mut self, key: &Bytes, plain: &[u8]) -> bool {
        let Some(uses) = uses(plain) else { return false };
        for (used, key) in uses.into_iter().map(|used| (used, key.clone())) {
            self.written.entry(used, || key);
        }
        true
    }

    /// A Service that is the standby's own and stays. `false`: it cannot be read.
    pub fn local(&mut self, key: &Bytes, plain: &[u8]) -> bool {
        self.local_keys.entry(key.clone(), || ());
        let Some(uses) = uses(plain) else { return false };
        for (used, key) in uses.into_iter().map(|used| (used, key.clone())) {
            self.local.entry(used, || key);
        }
        true
    }

    /// Whether the standby has this Service as its own.
    pub fn has_local(&self, key: &[u8]) -> bool {
        self.local_keys.get(key).is_some()
    }

    pub fn finish(&self, found: &mut Collected, gaps: &mut Vec<String>) {
        let mut both: Vec<_> =
            self.written.iter().filter_map(|(used, key)| Some((key, self.local.get(used)?, used))).collect();
        both.sort_by_key(|(key, local, _)| (*key, *local));
        for (key, local, used) in both {
            let (kind, detail) = match used {
                Use::Address(address) => (Kind::ClusterIp, address.to_string()),
                Use::NodePort(port) => (Kind::NodePort, port.to_string()),
            };
            found.add(kind, key, &[local], detail);
        }
        if !(self.written.is_complete() && self.local.is_complete() && self.local_keys.is_complete()) {
            gaps.push(format!("Services beyond {} addresses and node ports were not compared.", self.written.max()));
        }
    }
}

fn uses(plain: &[u8]) -> Option<Vec<Use>> {
    let spec::Service { spec } = spec::read(plain)?;
    let addresses = spec.cluster_ips.iter().chain([&spec.cluster_ip]);
    // `None` (headless) and the empty text are no addresses.
    let addresses = addresses.filter_map(|text| text.parse().ok()).map(Use::Address);
    let ports = spec.ports.iter().map(|port| port.node_port).chain([spec.health_check_node_port]);
    Some(addresses.chain(ports.filter(|port| *port > 0).map(Use::NodePort)).collect())
}
