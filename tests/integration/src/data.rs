//! Keys and values as a Kubernetes management cluster keeps them in etcd, made from a seed.
//!
//! Keys, envelopes and metadata follow Kubernetes; what is behind the metadata is filler of a realistic size.

mod families;
mod fixed;
mod object;
mod random;

pub use random::Random;

use families::Families;

/// Namespaces that are never synchronized (product.md), which the data nevertheless holds.
pub const EXCLUDED_NAMESPACES: [&str; 14] = [
    "cpaas-system",
    "cert-manager",
    "default",
    "global-credentials",
    "cpaas-system-global-credentials",
    "kube-ovn",
    "kube-public",
    "kube-system",
    "nsx-system",
    "cpaas-solution",
    "kube-node-lease",
    "kubevirt",
    "nativestor-system",
    "operators",
];

/// A key and its value.
pub type Item = (Vec<u8>, Vec<u8>);

/// Exactly `total` distinct keys with their values, the same ones for the same seed, in the order in which a cluster
/// would have created them: owners come before their dependents. From 600 keys on every kind of key is there.
pub fn kubernetes(seed: u64, total: usize) -> Vec<Item> {
    let mut random = Random::new(seed);
    let mut items = fixed::items(&mut random);
    let mut families = Families::new(&mut random, total);
    items.extend(families.namespaces());
    while items.len() < total {
        items.extend(families.next(&mut random));
    }
    items.truncate(total);
    items
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn is_exact_distinct_and_repeatable() {
        let items = kubernetes(7, 5000);
        assert_eq!(items.len(), 5000);
        assert_eq!(items.iter().map(|(key, _)| key).collect::<HashSet<_>>().len(), 5000);
        assert!(items == kubernetes(7, 5000));
        assert!(items != kubernetes(8, 5000));
    }

    #[test]
    fn six_hundred_keys_hold_every_kind() {
        let items = kubernetes(1, 600);
        let kinds = [
            "namespaces/team-",
            "namespaces/kube-system",
            "configmaps/",
            "secrets/",
            "serviceaccounts/",
            "deployments/",
            "replicasets/",
            "pods/",
            "leases/",
            "events/",
            "minions/",
            "services/specs/",
            "services/endpoints/",
            "endpointslices/",
            "ranges/serviceips",
            "masterleases/",
            "apiextensions.k8s.io/customresourcedefinitions/",
            "apiregistration.k8s.io/apiservices/",
            "platform.tkestack.io/machines/",
            "app.alauda.io/applications/team-",
            "clusterroles/system:",
            "clusterrolebindings/",
            "persistentvolumes/",
            "jobs/",
        ];
        for kind in kinds {
            let prefix = format!("/registry/{kind}").into_bytes();
            assert!(items.iter().any(|(key, _)| key.starts_with(&prefix)), "no key under /registry/{kind}");
        }
        let roots = items.iter().filter(|(key, _)| key.ends_with(b"/kube-root-ca.crt")).count();
        let namespaces = items.iter().filter(|(key, _)| key.starts_with(b"/registry/namespaces/")).count();
        assert_eq!(roots, namespaces);
    }

    #[test]
    fn sizes_follow_reality() {
        let sizes: Vec<usize> = kubernetes(3, 20_000).iter().map(|(_, value)| value.len()).collect();
        let mean = sizes.iter().sum::<usize>() / sizes.len();
        assert!((700..3000).contains(&mean), "mean {mean}");
        let large = sizes.iter().filter(|&&size| size > 100 << 10).count();
        assert!((5..60).contains(&large), "{large} large values");
        assert!(sizes.iter().all(|&size| size < 1_000_000));
    }
}
