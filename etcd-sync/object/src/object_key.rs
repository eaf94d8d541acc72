//! What the key of a Kubernetes object tells about it.
//!
//! The API server stores a built-in resource at `resource/name` or `resource/namespace/name`, whatever its API group,
//! and everything else at `group/resource/name` or `group/resource/namespace/name`; a group always has a dot, a built-in
//! resource never. Services and Endpoints share a first segment, and a few resources keep a name of old
//! (`SpecialDefaultResourcePrefixes` in kubernetes/pkg/kubeapiserver).

/// A Kubernetes object, as far as its key names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ObjectKey<'a> {
    /// API group of a custom resource, CRD or APIService; `None` for the other built-in resources, whose key does not
    /// tell it.
    pub group: Option<&'a str>,
    /// Plural name of the resource as the API calls it (`nodes`, where the key says `minions`).
    pub resource: &'a str,
    /// Namespace of a namespaced object.
    pub namespace: Option<&'a str>,
    /// Name of the object.
    pub name: &'a str,
}

impl<'a> ObjectKey<'a> {
    /// Reads a key from behind the Kubernetes prefix. `None`: not an object (`ranges/…`, `masterleases/…`), or no shape
    /// that an API server writes.
    pub fn parse(relative: &'a [u8]) -> Option<Self> {
        let parts = Parts::of(relative)?;
        let text = |bytes| std::str::from_utf8(bytes).ok();
        Some(ObjectKey {
            group: match parts.group {
                Some(group) => Some(text(group)?),
                None => None,
            },
            resource: match (parts.group, text(parts.resource)?) {
                (None, stored) => api_name(stored),
                (Some(_), resource) => resource,
            },
            namespace: match parts.namespace {
                Some(namespace) => Some(text(namespace)?),
                None => None,
            },
            name: text(parts.name)?,
        })
    }
}

impl ObjectKey<'_> {
    /// The resource as kubectl takes it: `configmaps`, `widgets.example.com`.
    pub fn resource_name(&self) -> String {
        match self.group {
            Some(group) => format!("{}.{group}", self.resource),
            None => self.resource.to_owned(),
        }
    }
}

/// The namespace that a key from behind the Kubernetes prefix belongs to; a namespace object belongs to itself.
/// Works on any bytes, so that no odd name takes a key out of its namespace.
pub fn namespace_of(relative: &[u8]) -> Option<&[u8]> {
    let parts = Parts::of(relative)?;
    if parts.group.is_none() && parts.resource == b"namespaces" && parts.namespace.is_none() {
        return Some(parts.name);
    }
    parts.namespace
}

/// The part of a key from behind the Kubernetes prefix that all keys of its resource begin with, without the last slash:
/// `secrets`, `services/specs`, `example.com/widgets`. `None`: not an object. Works on any name.
pub fn resource_of(relative: &[u8]) -> Option<&[u8]> {
    let (first, rest) = split_first(relative);
    let segments = match first == b"services" || first.contains(&b'.') {
        true => first.len() + 1 + split_first(rest?).0.len(),
        false => first.len(),
    };
    let resource = &relative[..segments];
    (relative.len() > segments && !first.is_empty() && !NOT_OBJECTS.contains(&first)).then_some(resource)
}

/// The first segment, and what follows its slash.
pub fn split_first(key: &[u8]) -> (&[u8], Option<&[u8]>) {
    match key.iter().position(|&byte| byte == b'/') {
        Some(slash) => (&key[..slash], Some(&key[slash + 1..])),
        None => (key, None),
    }
}

/// Stored below the prefix without being objects.
const NOT_OBJECTS: [&[u8]; 3] = [b"ranges", b"masterleases", b"peerserverleases"];

struct Parts<'a> {
    group: Option<&'a [u8]>,
    resource: &'a [u8],
    namespace: Option<&'a [u8]>,
    name: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(relative: &'a [u8]) -> Option<Self> {
        let mut segments = [&b""[..]; 4];
        let mut count = 0;
        let mut rest = Some(relative);
        while let Some(key) = rest {
            let (segment, tail) = split_first(key);
            if segment.is_empty() || count == segments.len() {
                return None;
            }
            segments[count] = segment;
            count += 1;
            rest = tail;
        }
        let [first, second, third, fourth] = segments;
        if NOT_OBJECTS.contains(&first) {
            return None;
        }
        let grouped = first.contains(&b'.');
        let (group, resource, namespace, name) = match (grouped, count) {
            (false, 4) if first == b"services" && (second == b"specs" || second == b"endpoints") => {
                (None, second, Some(third), fourth)
            }
            (false, 2) => (None, first, None, second),
            (false, 3) if first != b"services" => (None, first, Some(second), third),
            (true, 3) => (Some(first), second, None, third),
            (true, 4) => (Some(first), second, Some(third), fourth),
            _ => return None,
        };
        Some(Parts { group, resource, namespace, name })
    }
}

/// What the API calls a built-in resource. `specs` can only come from `services/specs`.
fn api_name(stored: &str) -> &str {
    match stored {
        "specs" => "services",
        "controllers" => "replicationcontrollers",
        "minions" => "nodes",
        "ingress" => "ingresses",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(key: &str) -> Option<String> {
        let ObjectKey { group, resource, namespace, name } = ObjectKey::parse(key.as_bytes())?;
        Some(format!("{}|{resource}|{}|{name}", group.unwrap_or("-"), namespace.unwrap_or("-")))
    }

    #[test]
    fn keys_are_read_by_segments_and_dots() {
        for (key, expected) in [
            ("secrets/ns/a", Some("-|secrets|ns|a")),
            ("persistentvolumes/pv-1", Some("-|persistentvolumes|-|pv-1")),
            ("namespaces/team-a", Some("-|namespaces|-|team-a")),
            ("minions/node.example.com", Some("-|nodes|-|node.example.com")),
            ("controllers/ns/a", Some("-|replicationcontrollers|ns|a")),
            ("ingress/ns/a", Some("-|ingresses|ns|a")),
            ("services/specs/ns/a", Some("-|services|ns|a")),
            ("services/endpoints/ns/a", Some("-|endpoints|ns|a")),
            ("clusterroles/system:node", Some("-|clusterroles|-|system:node")),
            ("example.com/widgets/w", Some("example.com|widgets|-|w")),
            ("example.com/widgets/ns/w", Some("example.com|widgets|ns|w")),
            (
                "apiextensions.k8s.io/customresourcedefinitions/widgets.example.com",
                Some("apiextensions.k8s.io|customresourcedefinitions|-|widgets.example.com"),
            ),
            ("apiregistration.k8s.io/apiservices/v1.apps", Some("apiregistration.k8s.io|apiservices|-|v1.apps")),
            ("ranges/serviceips", None),
            ("masterleases/10.0.0.1", None),
            ("peerserverleases/apiserver-x", None),
            ("health", None),
            ("", None),
            ("secrets/", None),
            ("secrets//a", None),
            ("/secrets/ns/a", None),
            ("services/specs/a", None),
            ("secrets/ns/a/b", None),
            ("example.com/widgets", None),
            ("example.com/widgets/ns/w/x", None),
        ] {
            assert_eq!(shown(key).as_deref(), expected, "{key}");
        }
    }

    #[test]
    fn resources_are_whole_prefixes() {
        for (key, expected) in [
            (&b"secrets/ns/\xff"[..], Some(&b"secrets"[..])),
            (b"namespaces/a", Some(b"namespaces")),
            (b"services/specs/ns/a", Some(b"services/specs")),
            (b"example.com/widgets/w", Some(b"example.com/widgets")),
            (b"example.com/widgets", None),
            (b"example.com", None),
            (b"services", None),
            (b"ranges/serviceips", None),
            (b"health", None),
            (b"/a", None),
            (b"", None),
        ] {
            assert_eq!(resource_of(key), expected, "{}", String::from_utf8_lossy(key));
        }
    }

    #[test]
    fn a_custom_resource_keeps_its_own_name() {
        // A group's resource may be called like a built-in's stored name.
        assert_eq!(shown("example.com/minions/ns/m").as_deref(), Some("example.com|minions|ns|m"));
        assert_eq!(shown("example.com/specs/ns/m").as_deref(), Some("example.com|specs|ns|m"));
    }

    #[test]
    fn a_namespace_belongs_to_itself_and_odd_names_stay_in_theirs() {
        assert_eq!(namespace_of(b"namespaces/kube-system"), Some(&b"kube-system"[..]));
        assert_eq!(namespace_of(b"secrets/kube-system/\xff\xfe"), Some(&b"kube-system"[..]));
        assert_eq!(ObjectKey::parse(b"secrets/kube-system/\xff\xfe"), None);
        assert_eq!(namespace_of(b"persistentvolumes/kube-system"), None);
        assert_eq!(namespace_of(b"example.com/namespaces/kube-system"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(key in proptest::collection::vec(any::<u8>(), 0..64)) {
            let parsed = ObjectKey::parse(&key);
            if let Some(ObjectKey { namespace: Some(namespace), .. }) = parsed {
                prop_assert_eq!(namespace_of(&key), Some(namespace.as_bytes()));
            }
        }

        #[test]
        fn no_segments_make_it_panic(key in "([a-z.]{0,3}/?){0,7}") {
            let _ = (ObjectKey::parse(key.as_bytes()), resource_of(key.as_bytes()));
        }
    }
}
