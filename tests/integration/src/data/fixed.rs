//! What every management cluster has once: CRDs, system namespaces, nodes, and the things that belong to one cluster.

use serde_json::json;

use super::object::{Object, size};
use super::{EXCLUDED_NAMESPACES, Item, Random};

/// Group, version, plural, kind, scope.
const CRDS: [(&str, &str, &str, &str, &str); 8] = [
    ("platform.tkestack.io", "v1", "clusters", "Cluster", "Cluster"),
    ("platform.tkestack.io", "v1", "machines", "Machine", "Cluster"),
    ("app.alauda.io", "v1beta1", "applications", "Application", "Namespaced"),
    ("app.alauda.io", "v1beta1", "helmreleases", "HelmRelease", "Namespaced"),
    ("auth.alauda.io", "v1", "users", "User", "Cluster"),
    ("cluster.alauda.io", "v1alpha1", "moduleplugins", "ModulePlugin", "Cluster"),
    ("cert-manager.io", "v1", "certificates", "Certificate", "Namespaced"),
    ("monitoring.coreos.com", "v1", "prometheusrules", "PrometheusRule", "Namespaced"),
];

pub(super) fn items(random: &mut Random) -> Vec<Item> {
    let mut items = vec![allocator(random, "serviceips"), allocator(random, "servicenodeports")];
    definitions(random, &mut items);
    for namespace in EXCLUDED_NAMESPACES {
        items.extend(self::namespace(random, namespace));
    }
    nodes(random, &mut items);
    kubernetes_service(random, &mut items);
    access_rules(random, &mut items);
    identity(random, &mut items);
    items
}

/// A namespace, and what its controllers put into it at once.
pub(super) fn namespace(random: &mut Random, name: &str) -> Vec<Item> {
    let object = Object::new(random, "v1", "Namespace", "", name);
    let account = Object::new(random, "v1", "ServiceAccount", name, "default");
    let root = Object::new(random, "v1", "ConfigMap", name, "kube-root-ca.crt");
    vec![
        item(format!("namespaces/{name}"), object.protobuf(random, 60)),
        item(format!("serviceaccounts/{name}/default"), account.protobuf(random, 20)),
        item(format!("configmaps/{name}/kube-root-ca.crt"), root.protobuf(random, 1100)),
    ]
}

pub(super) fn item(key: String, value: Vec<u8>) -> Item {
    (format!("/registry/{key}").into_bytes(), value)
}

fn allocator(random: &mut Random, name: &str) -> Item {
    let object = Object::new(random, "v1", "RangeAllocation", "", "");
    item(format!("ranges/{name}"), object.protobuf(random, 8192))
}

fn definitions(random: &mut Random, items: &mut Vec<Item>) {
    for (position, (group, version, plural, kind, scope)) in CRDS.into_iter().enumerate() {
        let name = format!("{plural}.{group}");
        let object = Object::new(random, "apiextensions.k8s.io/v1", "CustomResourceDefinition", "", &name);
        let spec = json!({
            "group": group,
            "names": { "plural": plural, "kind": kind },
            "scope": scope,
            "versions": [{ "name": version, "served": true, "storage": true }],
        });
        // Schemas are large, and one of them always is very large.
        let bytes = if position == 0 { 120 << 10 } else { random.range(2 << 10..40 << 10) };
        items.push(item(
            format!("apiextensions.k8s.io/customresourcedefinitions/{name}"),
            object.json(random, spec, bytes),
        ));
        let name = format!("{version}.{group}");
        let mut service = Object::new(random, "apiregistration.k8s.io/v1", "APIService", "", &name);
        service.labels = vec![("kube-aggregator.kubernetes.io/automanaged".to_owned(), "true".to_owned())];
        let key = format!("apiregistration.k8s.io/apiservices/{name}");
        let spec = json!({ "group": group, "version": version });
        // Kinds of one group and version share it.
        if !items.iter().any(|(known, _)| known.ends_with(key.as_bytes())) {
            items.push(item(key, service.json(random, spec, 100)));
        }
    }
}

fn nodes(random: &mut Random, items: &mut Vec<Item>) {
    for i in 1..=3 {
        let name = format!("192.168.10.{i}");
        for (resource, version, kind, namespace, bytes) in [
            ("minions", "v1", "Node", "", 6000),
            ("csinodes", "storage.k8s.io/v1", "CSINode", "", 80),
            ("leases", "coordination.k8s.io/v1", "Lease", "kube-node-lease", 60),
        ] {
            let object = Object::new(random, version, kind, namespace, &name);
            let key = if namespace.is_empty() {
                format!("{resource}/{name}")
            } else {
                format!("{resource}/{namespace}/{name}")
            };
            items.push(item(key, object.protobuf(random, bytes)));
        }
        let object = Object::new(random, "v1", "Endpoints", "", "");
        items.push(item(format!("masterleases/{name}"), object.protobuf(random, 40)));
    }
    for name in ["kube-controller-manager", "kube-scheduler"] {
        let object = Object::new(random, "coordination.k8s.io/v1", "Lease", "kube-system", name);
        items.push(item(format!("leases/kube-system/{name}"), object.protobuf(random, 80)));
    }
}

fn kubernetes_service(random: &mut Random, items: &mut Vec<Item>) {
    for (resource, version, kind) in [
        ("services/specs", "v1", "Service"),
        ("services/endpoints", "v1", "Endpoints"),
        ("endpointslices", "discovery.k8s.io/v1", "EndpointSlice"),
    ] {
        let object = Object::new(random, version, kind, "default", "kubernetes");
        items.push(item(format!("{resource}/default/kubernetes"), object.protobuf(random, 200)));
    }
}

fn access_rules(random: &mut Random, items: &mut Vec<Item>) {
    const RBAC: &str = "rbac.authorization.k8s.io/v1";
    for name in ["system:node", "system:kube-scheduler", "system:coredns", "cluster-admin", "platform-admin", "auditor"]
    {
        let role = Object::new(random, RBAC, "ClusterRole", "", name);
        items.push(item(format!("clusterroles/{name}"), role.protobuf(random, 700)));
        let binding = Object::new(random, RBAC, "ClusterRoleBinding", "", name);
        items.push(item(format!("clusterrolebindings/{name}"), binding.protobuf(random, 150)));
    }
    for (resource, version, kind, name) in [
        ("priorityclasses", "scheduling.k8s.io/v1", "PriorityClass", "system-cluster-critical"),
        ("storageclasses", "storage.k8s.io/v1", "StorageClass", "standard"),
        ("flowschemas", "flowcontrol.apiserver.k8s.io/v1", "FlowSchema", "system-nodes"),
        ("prioritylevelconfigurations", "flowcontrol.apiserver.k8s.io/v1", "PriorityLevelConfiguration", "system"),
    ] {
        let object = Object::new(random, version, kind, "", name);
        items.push(item(format!("{resource}/{name}"), object.protobuf(random, 200)));
    }
}

/// What says who this cluster is.
fn identity(random: &mut Random, items: &mut Vec<Item>) {
    for (resource, kind, namespace, name) in [
        ("configmaps", "ConfigMap", "kube-system", "kubeadm-config"),
        ("configmaps", "ConfigMap", "kube-public", "cluster-info"),
        ("secrets", "Secret", "kube-system", "bootstrap-token-abcdef"),
        ("secrets", "Secret", "cpaas-system", "platform-token"),
        ("configmaps", "ConfigMap", "cpaas-system", "global-info"),
    ] {
        let object = Object::new(random, "v1", kind, namespace, name);
        let bytes = size(random).min(4000);
        items.push(item(format!("{resource}/{namespace}/{name}"), object.protobuf(random, bytes)));
    }
}
