//! What only an object's content tells: whether it is synchronized although its key is in scope, who owns it, and where its
//! owners are kept.

use std::collections::HashMap;

use bytes::Bytes;
use serde::Deserialize;

use crate::etcd::kv::KeyValue;
use crate::object::encryption::Keyring;
use crate::object::object_key::ObjectKey;
use crate::object::{self, Header, Owner};
use crate::scope::{Decision, Reason, Scope};

/// Where CRDs are kept, behind the Kubernetes prefix.
pub const CRDS: &str = "apiextensions.k8s.io/customresourcedefinitions/";

/// Where namespaces are kept, behind the Kubernetes prefix.
pub const NAMESPACES: &str = "namespaces/";

/// An APIService that the local API server makes for a CRD or a group of its own.
/// Source: kube-aggregator/pkg/controllers/autoregister.
const AUTOMANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";

/// RBAC that the local API server reconciles with its built-in policy.
/// Source: plugin/pkg/auth/authorizer/rbac/bootstrappolicy.
const BOOTSTRAPPING: (&str, &str) = ("kubernetes.io/bootstrapping", "rbac-defaults");

/// What is this very synchronizer's own, each cluster's for itself: group, kinds, label and its value. Alauda Container Platform sets it up,
/// changes and removes it as its Module objects say (the schemas of `cluster.alauda.io`); the chart has roles that are in no namespace.
const INSTALLATION: [(&str, &[&str], &str); 2] = [
    ("cluster.alauda.io/", &["ModulePlugin", "ModuleConfig", "ModuleInfo"], "cpaas.io/module-name"),
    ("rbac.authorization.k8s.io/", &["ClusterRole", "ClusterRoleBinding"], "app.kubernetes.io/name"),
];
const OWN_NAME: &str = "etcd-sync";

/// A token Secret names its ServiceAccount here; the token controller deletes the Secret when it does not find it.
/// Source: k8s.io/api/core/v1, ServiceAccountNameKey and ServiceAccountUIDKey.
const SERVICE_ACCOUNT: (&str, &str) = ("kubernetes.io/service-account.name", "kubernetes.io/service-account.uid");

/// Built-in resources whose objects controllers make dependents for.
const OWNING_RESOURCES: [&str; 7] =
    ["cronjobs", "daemonsets", "deployments", "jobs", "replicasets", "replicationcontrollers", "statefulsets"];

/// Groups with a dot that are built in, up to Kubernetes 1.36; those without a dot all are.
pub const BUILT_IN_GROUPS: [&str; 16] = [
    "admissionregistration.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "internal.apiserver.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "rbac.authorization.k8s.io",
    "resource.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
    "storagemigration.k8s.io",
];

/// The kinds that CRDs define, as far as they were seen.
#[derive(Clone, Debug, Default)]
pub struct Kinds {
    by_kind: HashMap<(String, String), Resource>,
}

#[derive(Clone, Debug)]
struct Resource {
    plural: String,
    namespaced: bool,
}

#[derive(Deserialize)]
struct Crd {
    spec: CrdSpec,
}

#[derive(Deserialize)]
struct CrdSpec {
    group: String,
    scope: String,
    names: CrdNames,
}

#[derive(Deserialize)]
struct CrdNames {
    kind: String,
    plural: String,
}

impl Kinds {
    /// Remembers what a CRD (its stored JSON) defines; anything else is passed over.
    pub fn learn(&mut self, plain: &[u8]) {
        let Ok(Crd { spec }) = serde_json::from_slice::<Crd>(plain) else { return };
        let resource = Resource { plural: spec.names.plural, namespaced: spec.scope == "Namespaced" };
        self.by_kind.insert((spec.group, spec.names.kind), resource);
    }

    /// Where the API server may keep an owner: an owner lies in its dependent's namespace or in none. Empty when the
    /// dependent's key is not an object's.
    pub fn keys_of(&self, scope: &Scope, owner: &Owner, dependent: &[u8]) -> Vec<Bytes> {
        let Some((prefix, relative)) = scope.split(dependent) else { return Vec::new() };
        let Some(object) = ObjectKey::parse(relative) else { return Vec::new() };
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        let known = self.by_kind.get(&(group.to_owned(), owner.kind.clone()));
        let directory = match known {
            Some(resource) => format!("{group}/{}", resource.plural),
            None => directory(group, &owner.kind),
        };
        let inside = object.namespace.filter(|_| known.is_none_or(|resource| resource.namespaced));
        let outside = known.is_none_or(|resource| !resource.namespaced);
        let inside = inside.map(|namespace| format!("{prefix}{directory}/{namespace}/{}", owner.name));
        let outside = outside.then(|| format!("{prefix}{directory}/{}", owner.name));
        inside.into_iter().chain(outside).map(Bytes::from).collect()
    }
}

/// The directory of a kind that no CRD seen defines: the plural is the usual one, as the API server would guess it too
/// (apimachinery's `UnsafeGuessKindToResource`).
fn directory(group: &str, kind: &str) -> String {
    let plain = kind.to_lowercase();
    let plural = match &plain[..] {
        "endpoints" => return "services/endpoints".into(),
        "service" => return "services/specs".into(),
        "node" => "minions".into(),
        "replicationcontroller" => "controllers".into(),
        "ingress" if group == "networking.k8s.io" || group == "extensions" => "ingress".into(),
        _ if plain.ends_with('s') => format!("{plain}es"),
        _ => match plain.strip_suffix('y') {
            Some(stem) => format!("{stem}ies"),
            None => format!("{plain}s"),
        },
    };
    // Built-in groups are not part of the keys; apiextensions and apiregistration keep theirs, as custom resources do.
    let built_in = !group.contains('.') || BUILT_IN_GROUPS.contains(&group);
    if built_in { plural } else { format!("{group}/{plural}") }
}

/// What becomes of an object whose key is in scope.
pub fn decide(scope: &Scope, kinds: &Kinds, key: &[u8], header: &Header) -> Decision<'static> {
    let automanaged = header.kind == "APIService" && header.label(AUTOMANAGED).is_some();
    let bootstrapping = header.api_version.starts_with("rbac.authorization.k8s.io/")
        && header.label(BOOTSTRAPPING.0) == Some(BOOTSTRAPPING.1);
    if (automanaged || bootstrapping) && !scope.includes_key(key) {
        return Decision::Out(Reason::RewrittenLocally);
    }
    let installation = INSTALLATION.iter().any(|(group, kinds, label)| {
        header.api_version.starts_with(group)
            && kinds.contains(&header.kind.as_str())
            && header.label(label) == Some(OWN_NAME)
    });
    if installation && !scope.includes_key(key) {
        return Decision::Out(Reason::OwnInstallation);
    }
    let out = |owner: &Owner| {
        let keys = kinds.keys_of(scope, owner, key);
        !keys.is_empty() && keys.iter().all(|key| !scope.in_scope(key))
    };
    if !header.owners.is_empty() && header.owners.iter().all(out) && !scope.includes_key(key) {
        return Decision::Out(Reason::OwnerOutOfScope);
    }
    Decision::InScope
}

/// A value, decrypted and decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// The object's header, where it could be decoded.
    pub header: Option<Header>,
    /// The value is encrypted and cannot be decrypted here.
    pub undecryptable: bool,
}

/// Decrypts a value and reads its header.
pub fn decode(keyring: &Keyring, kv: &KeyValue) -> Decoded {
    match keyring.decrypt(&kv.key, &kv.value) {
        Ok(plain) => Decoded { header: object::header(&plain).ok(), undecryptable: false },
        Err(_) => Decoded { header: None, undecryptable: true },
    }
}

/// The header of a value; `None` when it cannot be decrypted or decoded.
pub fn header(keyring: &Keyring, kv: &KeyValue) -> Option<Header> {
    decode(keyring, kv).header
}

/// Whether a value's content takes it out of scope although its key is in it. What cannot be decrypted or decoded stays in.
pub fn is_filtered(scope: &Scope, kinds: &Kinds, keyring: &Keyring, kv: &KeyValue) -> bool {
    let is_object = scope.split(&kv.key).is_some_and(|(_, relative)| ObjectKey::parse(relative).is_some());
    let header = is_object.then(|| header(keyring, kv)).flatten();
    header.is_some_and(|header| decide(scope, kinds, &kv.key, &header) != Decision::InScope)
}

/// The owners an object names, and the ServiceAccount of a token Secret, without which it is deleted just the same.
pub fn owners(header: &Header) -> Vec<Owner> {
    let mut owners = header.owners.clone();
    let (name, uid) = (header.annotation(SERVICE_ACCOUNT.0), header.annotation(SERVICE_ACCOUNT.1));
    if let (true, Some(name), Some(uid)) = (header.kind == "Secret", name, uid) {
        owners.push(Owner {
            api_version: "v1".into(),
            kind: "ServiceAccount".into(),
            name: name.into(),
            uid: uid.into(),
            ..Owner::default()
        });
    }
    owners
}

/// Whether controllers may make dependents for an object at this key: it is buffered until they can come with it.
pub fn may_own(scope: &Scope, key: &[u8]) -> bool {
    let Some(object) = scope.split(key).and_then(|(_, relative)| ObjectKey::parse(relative)) else { return false };
    match object.group {
        Some(group) => group != "apiextensions.k8s.io" && group != "apiregistration.k8s.io",
        None => OWNING_RESOURCES.contains(&object.resource),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scope::ScopeConfig;

    fn owner(api_version: &str, kind: &str, name: &str) -> Owner {
        Owner {
            api_version: api_version.into(),
            kind: kind.into(),
            name: name.into(),
            uid: "u".into(),
            ..Owner::default()
        }
    }

    fn keys(kinds: &Kinds, owner: &Owner, dependent: &str) -> Vec<String> {
        let scope = Scope::new(&ScopeConfig::default()).unwrap();
        let keys = kinds.keys_of(&scope, owner, dependent.as_bytes());
        keys.iter().map(|key| String::from_utf8(key.to_vec()).unwrap()).collect()
    }

    #[test]
    fn owners_are_found_where_the_api_server_keeps_them() {
        let mut kinds = Kinds::default();
        kinds.learn(br#"{"spec":{"group":"acme.io","scope":"Namespaced","names":{"kind":"Mouse","plural":"mice"}}}"#);
        kinds.learn(br#"{"spec":{"group":"acme.io","scope":"Cluster","names":{"kind":"Farm","plural":"farms"}}}"#);
        let dependent = "/registry/configmaps/apps/a";
        let cases = [
            (owner("acme.io/v1", "Mouse", "m"), vec!["/registry/acme.io/mice/apps/m"]),
            (owner("acme.io/v1", "Farm", "f"), vec!["/registry/acme.io/farms/f"]),
            (owner("apps/v1", "Deployment", "d"), vec!["/registry/deployments/apps/d", "/registry/deployments/d"]),
            (owner("v1", "Node", "n"), vec!["/registry/minions/apps/n", "/registry/minions/n"]),
            (owner("v1", "Service", "s"), vec!["/registry/services/specs/apps/s", "/registry/services/specs/s"]),
            (
                owner("networking.k8s.io/v1", "NetworkPolicy", "p"),
                vec!["/registry/networkpolicies/apps/p", "/registry/networkpolicies/p"],
            ),
            (
                owner("other.dev/v1", "Widget", "w"),
                vec!["/registry/other.dev/widgets/apps/w", "/registry/other.dev/widgets/w"],
            ),
        ];
        for (owner, expected) in cases {
            assert_eq!(keys(&kinds, &owner, dependent), expected, "{owner:?}");
        }
        let crd = owner("apiextensions.k8s.io/v1", "CustomResourceDefinition", "x.y.z");
        let kept = ["/registry/apiextensions.k8s.io/customresourcedefinitions/x.y.z"];
        assert_eq!(keys(&kinds, &crd, "/registry/clusterroles/a"), kept);
    }

    #[test]
    fn content_takes_objects_out_of_scope() {
        let scope = Scope::new(&ScopeConfig::default()).unwrap();
        let kinds = Kinds::default();
        let decide = |key: &str, header: &Header| decide(&scope, &kinds, key.as_bytes(), header);
        let mut map = Header { kind: "ConfigMap".into(), api_version: "v1".into(), ..Header::default() };
        assert_eq!(decide("/registry/configmaps/apps/a", &map), Decision::InScope);
        map.owners = vec![owner("v1", "Pod", "p")];
        assert_eq!(decide("/registry/configmaps/apps/a", &map), Decision::Out(Reason::OwnerOutOfScope));
        map.owners.push(owner("apps/v1", "Deployment", "d"));
        assert_eq!(decide("/registry/configmaps/apps/a", &map), Decision::InScope);
        let role = Header {
            api_version: "rbac.authorization.k8s.io/v1".into(),
            labels: vec![("kubernetes.io/bootstrapping".into(), "rbac-defaults".into())],
            ..Header::default()
        };
        assert_eq!(decide("/registry/clusterroles/admin", &role), Decision::Out(Reason::RewrittenLocally));
        let module = |name: &str| Header {
            api_version: "cluster.alauda.io/v1alpha1".into(),
            kind: "ModuleInfo".into(),
            labels: vec![("cpaas.io/module-name".into(), name.into())],
            ..Header::default()
        };
        let key = "/registry/cluster.alauda.io/moduleinfoes/global-1f2e";
        assert_eq!(decide(key, &module("etcd-sync")), Decision::Out(Reason::OwnInstallation));
        assert_eq!(decide(key, &module("logging")), Decision::InScope);
        let role = |name: &str| Header {
            api_version: "rbac.authorization.k8s.io/v1".into(),
            kind: "ClusterRole".into(),
            labels: vec![("app.kubernetes.io/name".into(), name.into())],
            ..Header::default()
        };
        let key = "/registry/clusterroles/etcd-sync-drill-dr";
        assert_eq!(decide(key, &role("etcd-sync")), Decision::Out(Reason::OwnInstallation));
        assert_eq!(decide(key, &role("other")), Decision::InScope);
    }

    #[test]
    fn a_token_secret_belongs_to_its_service_account() {
        let annotations =
            vec![(SERVICE_ACCOUNT.0.to_owned(), "robot".to_owned()), (SERVICE_ACCOUNT.1.to_owned(), "u1".to_owned())];
        let secret = Header { kind: "Secret".into(), annotations, ..Header::default() };
        let owners = owners(&secret);
        assert_eq!(
            (owners[0].kind.as_str(), owners[0].name.as_str(), owners[0].uid.as_str()),
            ("ServiceAccount", "robot", "u1")
        );
    }

    #[test]
    fn workloads_and_custom_resources_are_buffered() {
        let scope = Scope::new(&ScopeConfig::default()).unwrap();
        let buffered = |key: &str| may_own(&scope, key.as_bytes());
        assert!(buffered("/registry/deployments/apps/a") && buffered("/registry/acme.io/widgets/apps/a"));
        assert!(
            !buffered("/registry/configmaps/apps/a")
                && !buffered("/registry/apiregistration.k8s.io/apiservices/v1.acme.io")
        );
    }
}
