//! Keys as Kubernetes names them, all in scope, the same ones at every run.

use bytes::Bytes;
use etcd_sync_integration::data::Random;

/// Kinds that are synchronized.
const KINDS: [&str; 5] =
    ["configmaps", "secrets", "services/specs", "deployments", "platform.tkestack.io/machineconfigs"];
const NAMESPACES: usize = 200;

/// What all keys of a kind and namespace begin with.
pub fn directories() -> impl Iterator<Item = String> {
    let of = |kind| (0..NAMESPACES).map(move |namespace| format!("/registry/{kind}/team-{namespace:03}/"));
    KINDS.into_iter().flat_map(of)
}

/// Distinct keys with values that do not repeat, in an order that is not the key order.
pub fn items(keys: usize, value_bytes: usize) -> Vec<(Bytes, Bytes)> {
    let mut random = Random::new(20_240_229);
    let item = |number: usize| {
        let (kind, namespace) = (KINDS[number % KINDS.len()], number / KINDS.len() % NAMESPACES);
        let key = format!("/registry/{kind}/team-{namespace:03}/{}-{number:07}", random.suffix(10));
        (Bytes::from(key), Bytes::from(random.text(value_bytes)))
    };
    (0..keys).map(item).collect()
}
