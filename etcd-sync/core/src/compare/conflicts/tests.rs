mod objects;

use self::objects::*;
use super::*;
use crate::object;
use crate::scope::ScopeConfig;

struct Bench {
    scope: Scope,
    conflicts: Conflicts,
}

impl Bench {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        Bench { scope: Scope::new(&ScopeConfig::default()).unwrap(), conflicts: Conflicts::new(limits) }
    }

    fn see(&mut self, key: &str, fate: Fate, primary: Option<&[u8]>, standby: Option<&[u8]>) {
        let header = |plain: Option<&[u8]>| plain.map(|plain| object::header(plain).unwrap());
        let (ours, theirs) = (header(primary), header(standby));
        let primary = primary.zip(ours.as_ref()).map(|(plain, header)| View { plain, header });
        let standby = standby.zip(theirs.as_ref()).map(|(plain, header)| View { plain, header });
        let key = Bytes::from(format!("/registry/{key}"));
        self.conflicts.see(&self.scope, &key, fate, primary, standby);
    }

    fn written(&mut self, key: &str, primary: &[u8]) {
        self.see(key, Fate::Written, Some(primary), None);
    }

    fn local(&mut self, key: &str, standby: &[u8]) {
        self.see(key, Fate::Stays, None, Some(standby));
    }

    fn report(self) -> Report {
        self.conflicts.finish(&self.scope, None)
    }

    /// Kind, key, keys of the standby and detail of everything found, without the prefix.
    fn found(self) -> Vec<String> {
        self.report().groups.iter().flat_map(shown).collect()
    }
}

fn shown(group: &Group) -> Vec<String> {
    assert_eq!(group.count, group.examples.len() as u64);
    let label = serde_json::to_value(group.kind).unwrap();
    let line = |example: &Example| {
        let Example { key, standby_keys, detail } = example;
        let line = format!("{} {key} [{}] {detail}", label.as_str().unwrap(), standby_keys.join(" "));
        line.replace("/registry/", "").trim_end().to_owned()
    };
    group.examples.iter().map(line).collect()
}

#[test]
fn another_uid_is_told_with_its_dependents_on_the_standby() {
    let mut bench = Bench::new();
    bench.see("configmaps/apps/same", Fate::Written, Some(&config_map("u1", b"")), Some(&config_map("u1", b"")));
    bench.see("configmaps/apps/other", Fate::Written, Some(&config_map("u2", b"")), Some(&config_map("old", b"")));
    bench.see("configmaps/apps/bare", Fate::Written, Some(&config_map("u3", b"")), Some(&config_map("bare", b"")));
    // Its own dependents may come before or after, in scope or out of it; those that go do not count.
    for name in ["a", "b", "c", "d"] {
        bench.local(&format!("pods/apps/{name}"), &config_map(name, &owned_by("ConfigMap", "other", "old")));
    }
    bench.see("pods/apps/e", Fate::Goes, None, Some(&config_map("e", &owned_by("ConfigMap", "other", "old"))));
    assert_eq!(
        bench.found(),
        [
            "other-uid configmaps/apps/other [pods/apps/a pods/apps/b pods/apps/c] the standby's own \
             dependents of the old one, which will be deleted: 4",
            "other-uid configmaps/apps/bare [] no dependents of the old one on the standby",
        ]
    );
}

#[test]
fn absent_owners_are_told_whatever_the_order() {
    let mut bench = Bench::new();
    bench.written("configmaps/apps/before", &config_map("c1", &owned_by("Deployment", "d", "d1")));
    bench.written("configmaps/apps/lost", &config_map("c2", &owned_by("Deployment", "gone", "d9")));
    let both = [owned_by("Deployment", "d", "d1"), owned_by("Deployment", "gone", "d9")].concat();
    bench.written("configmaps/apps/partly", &config_map("c3", &both));
    bench.written("deployments/apps/d", &protobuf("apps/v1", "Deployment", "d1", b"", b""));
    bench.written("replicasets/apps/after", &protobuf("apps/v1", "ReplicaSet", "r1", &owned_by("D", "d", "d1"), b""));
    let account = |key: &str, value: &str| field(12, [field(1, key), field(2, value)].concat());
    let token =
        [account("kubernetes.io/service-account.name", "robot"), account("kubernetes.io/service-account.uid", "s1")];
    bench.written("secrets/apps/token", &protobuf("v1", "Secret", "t1", &token.concat(), b""));
    // Out of scope on the primary, deleted on the standby: neither is there in the end.
    bench.see("deployments/apps/gone", Fate::Goes, None, Some(&protobuf("apps/v1", "Deployment", "d9", b"", b"")));
    assert_eq!(
        bench.found(),
        [
            "owner-absent configmaps/apps/lost [] absent: Deployment gone",
            "owner-absent secrets/apps/token [] absent: ServiceAccount robot",
            "owner-reference-absent configmaps/apps/partly [] absent: Deployment gone",
        ]
    );
}

#[test]
fn addresses_and_ports_of_local_services_collide_in_both_families() {
    let mut bench = Bench::new();
    bench.local("services/specs/kube-system/dns", &service("s1", &["10.0.0.10", "fd00::a"], &[30053]));
    bench.local("services/specs/kube-system/headless", &service("s2", &["None"], &[]));
    bench.written("services/specs/apps/six", &service("p1", &["10.0.0.7", "fd00:0:0::a"], &[0]));
    bench.written("services/specs/apps/port", &service("p2", &["10.0.0.8"], &[30053, 30054]));
    bench.written("services/specs/apps/headless", &service("p3", &["None"], &[]));
    let json = br#"{"kind":"Service","apiVersion":"v1","metadata":{"uid":"p4"},
        "spec":{"clusterIP":"10.0.0.10","clusterIPs":null,"ports":[{"port":1}],"healthCheckNodePort":30053}}"#;
    bench.written("services/specs/apps/stored-as-json", json);
    // Replaced on the standby: no Service of its own any more.
    bench.see(
        "services/specs/apps/both",
        Fate::Written,
        Some(&service("p5", &["10.0.0.20"], &[])),
        Some(&service("s5", &["10.0.0.7"], &[])),
    );
    assert_eq!(
        bench.found(),
        [
            "other-uid services/specs/apps/both [] no dependents of the old one on the standby",
            "cluster-ip services/specs/apps/six [services/specs/kube-system/dns] fd00::a",
            "cluster-ip services/specs/apps/stored-as-json [services/specs/kube-system/dns] 10.0.0.10",
            "node-port services/specs/apps/port [services/specs/kube-system/dns] 30053",
        ]
    );
}

#[test]
fn volumes_whose_claim_will_not_be_theirs_are_told() {
    let mut bench = Bench::new();
    bench.written("persistentvolumeclaims/apps/good", &claim("c1"));
    bench.written("persistentvolumes/good", &volume("v1", "good", "c1"));
    bench.written("persistentvolumes/unbound", &volume("v2", "not-yet", ""));
    bench.written("persistentvolumes/absent", &volume("v3", "absent", "c3"));
    bench.see("persistentvolumeclaims/apps/other", Fate::Stays, None, Some(&claim("x4")));
    bench.written("persistentvolumes/other", &volume("v4", "other", "c4"));
    bench.see("persistentvolumeclaims/apps/gone", Fate::Goes, None, Some(&claim("c5")));
    bench.written("persistentvolumes/gone", &volume("v5", "gone", "c5"));
    bench.see("persistentvolumeclaims/apps/soon", Fate::Written, Some(&claim("c6")), Some(&claim("x6")));
    bench.written("persistentvolumes/soon", &volume("v6", "soon", "c6"));
    let json = br#"{"kind":"PersistentVolume","apiVersion":"v1","metadata":{"uid":"v7"},"spec":{"claimRef":
        {"namespace":"kube-system","name":"data","uid":"c7"},"persistentVolumeReclaimPolicy":"Retain"}}"#;
    bench.written("persistentvolumes/excluded", json);
    let lines = bench.found();
    let (uids, lines): (Vec<_>, Vec<_>) = lines.into_iter().partition(|line| line.starts_with("other-uid"));
    assert_eq!(uids.len(), 1);
    assert_eq!(
        lines,
        [
            "volume-claim-absent persistentvolumes/absent [] claim apps/absent: the primary has none, or it is not in scope; \
             reclaim policy Delete",
            "volume-claim-absent persistentvolumes/excluded [] claim kube-system/data: out of scope, namespace kube-system \
             is excluded (--exclude-namespace); reclaim policy Retain",
            "volume-claim-absent persistentvolumes/gone [persistentvolumeclaims/apps/gone] claim apps/gone: the primary has \
             none, or it is not in scope; reclaim policy Delete",
            "volume-claim-other-uid persistentvolumes/other [persistentvolumeclaims/apps/other] claim apps/other: the \
             standby keeps another object of that name; reclaim policy Delete",
            "volume-claim-other-uid persistentvolumes/soon [persistentvolumeclaims/apps/soon] claim apps/soon: the standby \
             has another object of that name until the sync replaces it; reclaim policy Delete",
        ]
    );
}

#[test]
fn webhooks_into_excluded_namespaces_are_told_by_their_policy() {
    let mut bench = Bench::new();
    let hook = |namespace: &str, policy: &str| {
        let client = field(1, [field(1, namespace), field(2, "hook")].concat());
        field(2, [field(1, "a.b.c"), field(2, client), field(4, policy)].concat())
    };
    let configuration =
        |kind: &str, hooks: &[Vec<u8>]| protobuf("admissionregistration.k8s.io/v1", kind, kind, b"", &hooks.concat());
    let kind = "ValidatingWebhookConfiguration";
    let hooks =
        [hook("apps", "Fail"), hook("cert-manager", "Fail"), hook("cert-manager", "Fail"), hook("operators", "Ignore")];
    bench.written("validatingwebhookconfigurations/v", &configuration(kind, &hooks));
    let url = field(2, [field(1, "x"), field(2, field(3, "https://example.com"))].concat());
    bench.written("mutatingwebhookconfigurations/url", &configuration("MutatingWebhookConfiguration", &[url]));
    let json = br#"{"kind":"MutatingWebhookConfiguration","apiVersion":"admissionregistration.k8s.io/v1","metadata":{"uid":"m"},
        "webhooks":[{"name":"x","clientConfig":{"service":{"namespace":"kube-system","name":"hook"}}}]}"#;
    bench.written("mutatingwebhookconfigurations/json", json);
    bench.written(
        "apiextensions.k8s.io/customresourcedefinitions/widgets.acme.io",
        br#"{"kind":"CustomResourceDefinition","apiVersion":"apiextensions.k8s.io/v1","metadata":{"uid":"crd"},"spec":{
        "group":"acme.io","names":{"plural":"widgets","kind":"Widget"},"scope":"Namespaced","versions":[{"name":"v1"}],
        "conversion":{"strategy":"Webhook","webhook":{"clientConfig":{"service":{"namespace":"operators","name":"c"}}}}}}"#,
    );
    bench.written(
        "apiextensions.k8s.io/customresourcedefinitions/gadgets.acme.io",
        br#"{"kind":"CustomResourceDefinition","apiVersion":"apiextensions.k8s.io/v1beta1","metadata":{"uid":"crd2"},"spec":{
        "group":"acme.io","names":{"plural":"gadgets","kind":"Gadget"},
        "conversion":{"strategy":"Webhook","webhookClientConfig":{"service":{"namespace":"operators","name":"c"}}}}}"#,
    );
    bench.local("services/specs/cert-manager/hook", &service("s", &[], &[]));
    assert_eq!(
        bench.found(),
        [
            "webhook-fail mutatingwebhookconfigurations/json [] Service kube-system/hook: namespace kube-system is \
             excluded (--exclude-namespace); the standby has none",
            "webhook-fail validatingwebhookconfigurations/v [services/specs/cert-manager/hook] Service cert-manager/hook: \
             namespace cert-manager is excluded (--exclude-namespace); the standby has one of its own, 2 webhooks",
            "webhook-ignore validatingwebhookconfigurations/v [] Service operators/hook: namespace operators is \
             excluded (--exclude-namespace); the standby has none",
            "conversion-webhook apiextensions.k8s.io/customresourcedefinitions/gadgets.acme.io [] Service operators/c: \
             namespace operators is excluded (--exclude-namespace); the standby has none",
            "conversion-webhook apiextensions.k8s.io/customresourcedefinitions/widgets.acme.io [] Service operators/c: \
             namespace operators is excluded (--exclude-namespace); the standby has none",
        ]
    );
}

#[test]
fn namespaces_and_definitions_being_deleted_are_told() {
    let mut bench = Bench::new();
    let deleting = field(9, number(1, 1));
    bench.written("namespaces/going", &protobuf("v1", "Namespace", "n1", &deleting, b""));
    bench.written("namespaces/staying", &protobuf("v1", "Namespace", "n2", b"", b""));
    bench.written("configmaps/apps/going", &config_map("c1", &deleting));
    bench.written(
        "apiextensions.k8s.io/customresourcedefinitions/widgets.acme.io",
        br#"{"kind":"CustomResourceDefinition","apiVersion":"apiextensions.k8s.io/v1","metadata":{"uid":"crd",
        "deletionTimestamp":"2026-01-01T00:00:00Z"},"spec":{"group":"acme.io","names":{"plural":"widgets","kind":"Widget"}}}"#,
    );
    assert_eq!(
        bench.found(),
        [
            "namespace-deleting namespaces/going []",
            "crd-deleting apiextensions.k8s.io/customresourcedefinitions/widgets.acme.io []",
        ]
    );
}

fn versions_bench() -> Bench {
    let mut bench = Bench::new();
    for (key, version) in [("a", "apps/v1"), ("b", "apps/v2"), ("c", "apps/v2")] {
        bench.written(&format!("deployments/apps/{key}"), &protobuf(version, "Deployment", key, b"", b""));
    }
    bench.written("jobs/apps/j", &protobuf("batch/v1", "Job", "j", b"", b""));
    bench.local("deployments/kube-system/d", &protobuf("apps/v1", "Deployment", "d", b"", b""));
    bench.written(
        "apiextensions.k8s.io/customresourcedefinitions/widgets.acme.io",
        br#"{"kind":"CustomResourceDefinition","apiVersion":"apiextensions.k8s.io/v1beta1","metadata":{"uid":"crd"},"spec":{
        "group":"acme.io","names":{"plural":"widgets","kind":"Widget"},"versions":[{"name":"v1"},{"name":"v2"}]}}"#,
    );
    for version in ["v1", "v1beta1"] {
        let widget =
            format!(r#"{{"kind":"Widget","apiVersion":"acme.io/{version}","metadata":{{"uid":"{version}"}}}}"#);
        bench.written(&format!("acme.io/widgets/apps/{version}"), widget.as_bytes());
        bench.written(&format!("other.dev/gadgets/apps/{version}"), widget.as_bytes());
    }
    bench
}

#[test]
fn versions_are_compared_with_the_standbys_own() {
    let report = versions_bench().report();
    let found: Vec<_> = report.groups.iter().flat_map(shown).collect();
    assert_eq!(
        found,
        [
            "storage-version deployments/apps/b [] deployments in apps/v2, count 2: the standby's own are in apps/v1; that it \
             cannot read the others is not proved",
            "custom-version acme.io/widgets/apps/v1beta1 [] widgets in acme.io/v1beta1, count 1",
        ]
    );
    let gap = &report.not_looked_into[0];
    assert!(gap.ends_with(": jobs batch/v1."), "{gap}");
}

#[test]
fn versions_are_compared_with_what_the_standby_serves() {
    let bench = versions_bench();
    let served = ServedVersions::from(["apps/v1", "batch/v1"].map(String::from));
    let report = bench.conflicts.finish(&bench.scope, Some(&served));
    assert_eq!(report.groups[0].kind, Kind::StorageVersion);
    assert!(
        report.groups[0].examples[0].detail.starts_with("deployments in apps/v2, count 2: the standby's API server")
    );
    assert_eq!(report.not_looked_into, Vec::<String>::new());
}

#[test]
fn beyond_a_limit_the_report_says_so() {
    let limits =
        Limits { examples: 1, uids: 1, replaced: 1, services: 1, volumes: 1, deleting: 1, ..Limits::default() };
    let mut bench = Bench::with(limits);
    for name in ["a", "b"] {
        bench.see(
            &format!("configmaps/apps/{name}"),
            Fate::Written,
            Some(&config_map(name, &owned_by("X", "x", "x"))),
            Some(&config_map(&format!("old-{name}"), b"")),
        );
        bench.written(&format!("services/specs/apps/{name}"), &service(name, &["10.0.0.1", "10.0.0.2"], &[]));
        bench.written(&format!("persistentvolumes/{name}"), &volume(name, name, "u"));
        let deleting = field(9, number(1, 1));
        bench.written(&format!("namespaces/{name}"), &protobuf("v1", "Namespace", name, &deleting, b""));
    }
    bench.conflicts.unreadable();
    let report = bench.report();
    for part in [
        "another UID beyond",
        "More than 1 objects",
        "Services beyond",
        "PersistentVolumes or",
        "being deleted",
        "decrypted",
    ] {
        assert!(report.not_looked_into.iter().any(|gap| gap.contains(part)), "{part}: {:?}", report.not_looked_into);
    }
    assert!(report.groups.iter().all(|group| group.examples.len() == 1 && group.kind != Kind::OwnerAbsent));
}

#[test]
fn waiting_dependents_are_let_go_when_their_owners_come() {
    let mut bench = Bench::with(Limits { waiting: 8, ..Limits::default() });
    for round in 0..10 {
        for index in 0..8 {
            let uid = format!("c{round}-{index}");
            bench.written(
                &format!("configmaps/apps/{uid}"),
                &config_map(&uid, &owned_by("D", "d", &format!("d{round}"))),
            );
        }
        let uid = format!("d{round}");
        bench.written(&format!("deployments/apps/{uid}"), &protobuf("apps/v1", "Deployment", &uid, b"", b""));
    }
    let report = bench.report();
    assert_eq!(report.count(), 0);
    assert!(
        !report.not_looked_into.iter().any(|gap| gap.contains("before their owners")),
        "{:?}",
        report.not_looked_into
    );
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(plain in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80), magic: bool) {
        let plain = if magic { [b"k8s\0".to_vec(), plain].concat() } else { plain };
        let header = Header::default();
        let mut bench = Bench::new();
        for key in ["services/specs/a/b", "persistentvolumes/a", "validatingwebhookconfigurations/a",
            "apiextensions.k8s.io/customresourcedefinitions/a", "persistentvolumeclaims/a/b"] {
            let key = Bytes::from(format!("/registry/{key}"));
            let view = Some(View { plain: &plain, header: &header });
            bench.conflicts.see(&bench.scope, &key, Fate::Written, view, view);
            bench.conflicts.see(&bench.scope, &key, Fate::Stays, None, view);
        }
        bench.report();
    }
}
