use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn scope() -> Scope {
    Scope::new(&ScopeConfig::default()).unwrap()
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|&text| text.to_owned()).collect()
}

/// `in`, `ns <namespace>`, the label of a rule, or the label of the reason.
fn outcome(scope: &Scope, key: &[u8]) -> String {
    match scope.decide(key) {
        Decision::InScope => "in".into(),
        Decision::Out(Reason::ExcludedNamespace(name)) => format!("ns {name}"),
        Decision::Out(Reason::ClusterLocal { reason, .. }) => reason.into(),
        Decision::Out(reason) => reason.label().into(),
    }
}

#[test]
fn decisions_by_default() {
    let scope = scope();
    for (key, expected) in [
        ("/registry/secrets/team/a", "in"),
        ("/registry/namespaces/team", "in"),
        ("/registry/services/specs/team/web", "in"),
        ("/registry/deployments/team/web", "in"),
        ("/registry/persistentvolumes/pv", "in"),
        ("/registry/clusterroles/my-system:x", "in"),
        ("/registry/configmaps/team/kube-root-ca.crt.bak", "in"),
        ("/registry/flowschemas/tenant", "in"),
        ("/registry/prioritylevelconfigurations/tenant", "in"),
        ("/registry/priorityclasses/tenant", "in"),
        ("/registry/apiregistration.k8s.io/apiservices/v1.apps", "in"),
        ("/registry/apiextensions.k8s.io/customresourcedefinitions/a.example.com", "in"),
        ("/registry/example.com/leases/team/l", "in"),
        ("/registry/example.com/pods/p", "in"),
        ("/registry/something/of/another/shape/altogether", "in"),
        ("/registry/podtemplates/team/x", "in"),
        ("/registry/namespaces/kube-system", "ns kube-system"),
        ("/registry/secrets/kube-system/a", "ns kube-system"),
        ("/registry/services/specs/default/kubernetes", "ns default"),
        ("/registry/services/endpoints/default/kubernetes", "ns default"),
        ("/registry/example.com/widgets/cpaas-system/w", "ns cpaas-system"),
        ("/registry/leases/kube-node-lease/n", "ns kube-node-lease"),
        ("/registry/persistentvolumes/kube-system", "in"),
        ("/registry/masterleases/10.0.0.1", "apiserver_identity"),
        ("/registry/peerserverleases/apiserver-x", "apiserver_identity"),
        ("/registry/storageversions/apps.deployments", "apiserver_identity"),
        ("/registry/ranges/serviceips", "allocator"),
        ("/registry/ipaddresses/10.96.0.1", "allocator"),
        ("/registry/servicecidrs/kubernetes", "allocator"),
        ("/registry/minions/node", "node_identity"),
        ("/registry/csinodes/node", "node_identity"),
        ("/registry/volumeattachments/v", "node_identity"),
        ("/registry/resourceslices/s", "node_identity"),
        ("/registry/pods/team/p", "pod"),
        ("/registry/podcertificaterequests/team/p", "pod"),
        ("/registry/leases/team/l", "lease_holder"),
        ("/registry/leasecandidates/team/l", "lease_holder"),
        ("/registry/events/team/e", "event"),
        ("/registry/services/endpoints/team/web", "endpoints"),
        ("/registry/endpointslices/team/web-x", "endpoints"),
        ("/registry/configmaps/team/kube-root-ca.crt", "cluster_ca"),
        ("/registry/clusterroles/system:node", "bootstrap_policy"),
        ("/registry/clusterrolebindings/system:node", "bootstrap_policy"),
        ("/registry/roles/team/system:r", "bootstrap_policy"),
        ("/registry/rolebindings/team/system:r", "bootstrap_policy"),
        ("/registry/flowschemas/exempt", "bootstrap_policy"),
        ("/registry/flowschemas/system-nodes", "bootstrap_policy"),
        ("/registry/flowschemas/of-an-operator", "in"),
        ("/registry/prioritylevelconfigurations/node-high", "bootstrap_policy"),
        ("/registry/prioritylevelconfigurations/of-an-operator", "in"),
        ("/registry/clusterroles/cluster-admin", "bootstrap_policy"),
        ("/registry/clusterroles/admin", "bootstrap_policy"),
        ("/registry/clusterroles/of-an-operator", "in"),
        ("/registry/clusterrolebindings/cluster-admin", "bootstrap_policy"),
        ("/registry/clusterroles/kubeadm:get-nodes", "bootstrap"),
        ("/registry/priorityclasses/system-node-critical", "bootstrap_policy"),
        ("/registry/priorityclasses/high", "in"),
        ("/registry/certificatesigningrequests/csr-x", "request"),
        ("/registry/storageversionmigrations/m", "request"),
        ("/registry/clustertrustbundles/kubernetes.io:kube-apiserver-serving:1234", "cluster_ca"),
        ("/registry/clustertrustbundles/example.com:signer:1234", "in"),
        ("/registry/configmaps/team/openshift-service-ca.crt", "cluster_ca"),
        ("/registry/csistoragecapacities/team/c", "node_identity"),
        ("/registry/podgroups/team/g", "pod"),
        ("/registry/workloads/team/w", "in"),
        ("/registry/resourceclaims/team/c", "in"),
        ("/registry/serviceaccounts/team/default", "in"),
        ("/registry/machine.openshift.io/machines/openshift-machine-api/m", "openshift"),
        ("/registry/config.openshift.io/featuregates/cluster", "openshift"),
        ("/registry/operator.openshift.io/etcds/cluster", "openshift"),
        ("/registry/imageregistry.operator.openshift.io/configs/cluster", "openshift"),
        ("/registry/security.internal.openshift.io/rangeallocations/scc-uid", "allocator"),
        ("/registry/route.openshift.io/routes/team/shop", "in"),
        ("/registry/console.openshift.io/consolelinks/docs", "in"),
        ("/registry", "outside_prefixes"),
        ("/registry0/secrets/team/a", "outside_prefixes"),
        ("/etcd-sync/default/checkpoint", "outside_prefixes"),
        ("compact_rev_key", "outside_prefixes"),
        ("", "outside_prefixes"),
    ] {
        assert_eq!(outcome(&scope, key.as_bytes()), expected, "{key}");
    }
}

/// A sample key of a pattern.
fn sample(pattern: &str) -> String {
    format!("/registry/{}", pattern.replace("**", "x").replace('*', "x"))
}

#[test]
fn every_rule_decides_its_keys_and_can_be_removed() {
    let open = ScopeConfig { excluded_namespaces: vec![], ..ScopeConfig::default() };
    let all = Scope::new(&open).unwrap();
    for rule in builtin_rules() {
        let key = sample(&rule.pattern);
        let expected = Decision::Out(Reason::ClusterLocal { reason: &rule.reason, why: &rule.why });
        assert_eq!(all.decide(key.as_bytes()), expected, "{key}");
        let without = ScopeConfig { cluster_local_remove: vec![rule.pattern.clone()], ..open.clone() };
        let without = Scope::new(&without).unwrap();
        assert_eq!(without.decide(key.as_bytes()), Decision::InScope, "{key}");
        assert_ne!(without.fingerprint(), all.fingerprint(), "{key}");
    }
}

#[test]
fn exact_keys_override_either_way_but_not_a_lease() {
    let scope = Scope::new(&ScopeConfig {
        include_keys: strings(&["/registry/secrets/kube-system/wanted", "/registry/pods/team/wanted"]),
        exclude_keys: strings(&["/registry/secrets/team/unwanted", "/elsewhere"]),
        ..ScopeConfig::default()
    })
    .unwrap();
    assert!(scope.in_scope(b"/registry/secrets/kube-system/wanted"));
    assert!(!scope.in_scope(b"/registry/secrets/kube-system/wanted2"));
    assert_eq!(outcome(&scope, b"/registry/secrets/team/unwanted"), "excluded_key");
    assert_eq!(outcome(&scope, b"/elsewhere"), "outside_prefixes");
    let mut kv = KeyValue {
        key: Bytes::from_static(b"/registry/pods/team/wanted"),
        value: Bytes::new(),
        create_revision: 1,
        mod_revision: 1,
        lease: 0,
    };
    assert_eq!(scope.decide_kv(&kv), Decision::InScope);
    kv.lease = 7;
    assert_eq!(scope.decide_kv(&kv), Decision::Out(Reason::LeaseBound));
    kv.key = Bytes::from_static(b"/registry/pods/team/other");
    assert!(matches!(scope.decide_kv(&kv), Decision::Out(Reason::ClusterLocal { .. })));
}

#[test]
fn no_kubernetes_rule_applies_below_a_plain_prefix() {
    let scope =
        Scope::new(&ScopeConfig { plain_prefixes: strings(&["/app", "calico/"]), ..ScopeConfig::default() }).unwrap();
    assert!(scope.in_scope(b"/app/pods/kube-system/x"));
    assert!(scope.in_scope(b"/apple"));
    assert!(scope.in_scope(b"calico/\xff"));
    let ranges = [&b"/app"[..], b"/registry/", b"calico/"].map(KeyRange::prefix);
    assert_eq!(scope.ranges(), ranges);
    assert_eq!(
        scope.covering_range(),
        KeyRange { start: Bytes::from_static(b"/app"), end: Bytes::from_static(b"calico0") }
    );
}

#[test]
fn odd_bytes_are_decided_too() {
    let scope = scope();
    assert_eq!(outcome(&scope, b"/registry/secrets/kube-system/\xff\x00"), "ns kube-system");
    assert_eq!(outcome(&scope, b"/registry/secrets/\xff/a"), "in");
    assert_eq!(outcome(&scope, b"/registry/pods/\xff/a"), "pod");
    assert_eq!(outcome(&scope, b"/registry/"), "in");
    assert_eq!(outcome(&scope, b"/registry//"), "in");
    assert_eq!(outcome(&scope, b"\xff"), "outside_prefixes");
}

#[test]
fn kubernetes_prefixes_get_their_slashes() {
    for given in ["registry", "/registry", "registry/", "/registry/"] {
        let config = ScopeConfig { prefixes: strings(&[given]), ..ScopeConfig::default() };
        let made = Scope::new(&config).unwrap();
        assert_eq!(outcome(&made, b"/registry/pods/team/p"), "pod", "{given}");
        assert_eq!(made.fingerprint(), scope().fingerprint(), "{given}");
    }
}

#[test]
fn the_state_root_is_the_forbidden_one() {
    assert_eq!(FORBIDDEN[0].0.as_bytes(), STATE_ROOT);
}

#[test]
fn prefixes_that_cannot_be_meant_are_refused() {
    let error = |prefixes: &[&str], plain: &[&str]| {
        let config =
            ScopeConfig { prefixes: strings(prefixes), plain_prefixes: strings(plain), ..ScopeConfig::default() };
        Scope::new(&config).unwrap_err().to_string()
    };
    assert_eq!(error(&[], &[]), "no prefix is given: nothing would be synchronized");
    assert!(error(&[""], &[]).starts_with("an empty prefix would include every key"));
    assert!(error(&["/registry/"], &[""]).starts_with("an empty prefix would include every key"));
    let overlap = r#"the prefixes "/registry/" and "/registry/x/" overlap: keep one of them"#;
    assert_eq!(error(&["/registry/x", "/registry/"], &[]), overlap);
    assert_eq!(error(&["/registry/"], &["/registry/x/"]), overlap);
    assert!(error(&["/registry/", "/registry"], &[]).contains("overlap"));
    for plain in ["/", "/e", "/etcd-sync", "/etcd-sync/", "/etcd-sync/default/", "c", "compact_rev_key"] {
        assert!(error(&[], &[plain]).contains("must never be copied"), "{plain}");
    }
    let config = ScopeConfig { plain_prefixes: strings(&["/etcd-sync2/", "compact_rev_key2"]), ..Default::default() };
    assert!(Scope::new(&config).is_ok());
}

#[test]
fn every_other_mistake_is_an_error() {
    let error = |config: ScopeConfig| Scope::new(&config).unwrap_err().to_string();
    let removed = |pattern| ScopeConfig { cluster_local_remove: strings(&[pattern]), ..Default::default() };
    let text = error(removed("service/endpoints/**"));
    let near = "is not in the cluster-local policy; similar ones: services/endpoints/**";
    assert!(text.starts_with(&format!("the pattern \"service/endpoints/**\" {near}")), "{text}");
    let added = |pattern| ScopeConfig { cluster_local_add: strings(&[pattern]), ..Default::default() };
    assert!(error(added("/registry/pods/**")).starts_with("the pattern \"/registry/pods/**\": a segment is empty"));
    let namespaces = |name| ScopeConfig { excluded_namespaces: strings(&[name]), ..Default::default() };
    for name in ["kube-*", "", "Kube", "a/b", "-a"] {
        assert!(error(namespaces(name)).contains("is not a namespace"), "{name}");
    }
    let keys = strings(&["/registry/a/b"]);
    let config = ScopeConfig { include_keys: keys.clone(), exclude_keys: keys, ..Default::default() };
    assert_eq!(error(config), "the key \"/registry/a/b\" is both included and excluded: keep one of them");
    let config = ScopeConfig { include_keys: strings(&["/registry"]), ..Default::default() };
    assert!(error(config).contains("lies below none of the prefixes"));
}

#[test]
fn added_patterns_say_where_they_come_from() {
    let config = ScopeConfig { cluster_local_add: strings(&["example.com/widgets/**"]), ..Default::default() };
    let made = Scope::new(&config).unwrap();
    let Decision::Out(reason) = made.decide(b"/registry/example.com/widgets/w") else { panic!("in scope") };
    assert_eq!(
        reason.to_string(),
        "belongs to one cluster (configured): Added with --cluster-local-add example.com/widgets/**."
    );
    // What the policy says already changes nothing.
    let config = ScopeConfig { cluster_local_add: strings(&["pods/**"]), ..Default::default() };
    assert_eq!(Scope::new(&config).unwrap().fingerprint(), scope().fingerprint());
}

#[test]
fn the_configuration_is_read_with_defaults() {
    let config: ScopeConfig = serde_saphyr::from_str("excluded_namespaces: [team]").unwrap();
    assert_eq!(config.prefixes, ["/registry/"]);
    assert_eq!(config.excluded_namespaces, ["team"]);
    assert!(serde_saphyr::from_str::<ScopeConfig>("excluded_namespace: [team]").is_err());
}

fn any_config() -> impl Strategy<Value = ScopeConfig> {
    let keys = || proptest::collection::vec("/registry/[a-c]{1,2}", 0..4);
    (
        proptest::collection::vec("[a-z]{1,6}", 0..5),
        proptest::collection::vec("[a-z]{1,4}/[a-z*]{1,2}x", 0..5),
        proptest::collection::vec(0usize..20, 0..5),
        keys(),
        keys(),
    )
        .prop_map(|(excluded_namespaces, cluster_local_add, removed, include_keys, mut exclude_keys)| {
            exclude_keys.retain(|key| !include_keys.contains(key));
            let rules = builtin_rules();
            ScopeConfig {
                prefixes: strings(&["/registry/", "/second/"]),
                plain_prefixes: strings(&["/third", "/fourth"]),
                excluded_namespaces,
                cluster_local_add: cluster_local_add.into_iter().filter(|pattern| !pattern.contains("**")).collect(),
                cluster_local_remove: removed.into_iter().map(|index| rules[index].pattern.clone()).collect(),
                include_keys,
                exclude_keys,
            }
        })
}

proptest! {
    #[test]
    fn no_key_makes_it_panic(
        prefix in prop::sample::select(vec!["", "/registry/", "/registry/services/", "/registry/pods/"]),
        key in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let whole = [prefix.as_bytes(), &key].concat();
        let scope = scope();
        let inside = scope.ranges().iter().any(|range| range.contains(&whole));
        prop_assert_eq!(scope.decide(&whole) == Decision::Out(Reason::OutsidePrefixes), !inside);
    }

    #[test]
    fn the_fingerprint_does_not_see_order_or_repetition(config in any_config()) {
        let mut other = config.clone();
        for list in [
            &mut other.prefixes, &mut other.plain_prefixes, &mut other.excluded_namespaces,
            &mut other.cluster_local_add, &mut other.cluster_local_remove, &mut other.include_keys,
            &mut other.exclude_keys,
        ] {
            list.reverse();
        }
        other.excluded_namespaces.extend(config.excluded_namespaces.clone());
        prop_assert_eq!(Scope::new(&config).unwrap().fingerprint(), Scope::new(&other).unwrap().fingerprint());
    }

    #[test]
    fn the_fingerprint_sees_every_change(config in any_config(), which in 0usize..6) {
        let mut other = config.clone();
        match which {
            0 => other.prefixes.push("/fifth/".into()),
            1 => other.plain_prefixes.push("/fifth/".into()),
            2 => other.excluded_namespaces.push("another-one".into()),
            3 => other.cluster_local_add.push("another/one".into()),
            4 => other.include_keys.push("/registry/another".into()),
            _ => other.exclude_keys.push("/registry/another".into()),
        }
        prop_assert_ne!(Scope::new(&config).unwrap().fingerprint(), Scope::new(&other).unwrap().fingerprint());
    }
}
