//! Two values of one key: whether they differ only in what a live standby's controllers write by themselves.

use std::collections::HashSet;

use bytes::Bytes;

use crate::object::encryption::Keyring;
use crate::object::wire::{Field, fields};
use crate::object::{self, Form, Header, Owner};

/// Built-in kinds with the usual three fields, `metadata = 1, spec = 2, status = 3`, in k8s.io/api's generated.proto.
const WITH_STATUS: [&str; 18] = [
    "CronJob",
    "DaemonSet",
    "Deployment",
    "FlowSchema",
    "HorizontalPodAutoscaler",
    "Ingress",
    "Job",
    "Namespace",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "PodDisruptionBudget",
    "PriorityLevelConfiguration",
    "ReplicaSet",
    "ReplicationController",
    "ResourceClaim",
    "ResourceQuota",
    "Service",
    "StatefulSet",
];

/// In ObjectMeta: what every write changes. Source: k8s.io/apimachinery/pkg/apis/meta/v1/generated.proto.
const GENERATION: u32 = 7;
const ANNOTATIONS: u32 = 12;
const MANAGED_FIELDS: u32 = 17;

/// Annotations that built-in controllers keep on workloads. Source: pkg/controller/deployment/util, k8s.io/api/apps/v1.
const BOOKKEEPING: [&str; 4] = [
    "deployment.kubernetes.io/desired-replicas",
    "deployment.kubernetes.io/max-replicas",
    "deployment.kubernetes.io/revision",
    "deprecated.daemonset.template.generation",
];

/// How two values differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drift {
    /// In the status and in bookkeeping only: the standby's controllers see other nodes and pods.
    Status,
    /// In what a user or controller specified.
    Content,
    /// They are two objects of the same name.
    OtherObject,
    /// Not known: one of them cannot be decrypted or decoded.
    Unknown,
}

impl Drift {
    /// How the values of `key` differ.
    pub fn between(keyring: &Keyring, key: &[u8], primary: &Bytes, standby: &Bytes) -> Drift {
        let decode = |value: &Bytes| {
            let plain = keyring.decrypt(key, value).ok()?;
            Some((object::header(&plain).ok()?, plain))
        };
        let (Some((header, primary)), Some((other, standby))) = (decode(primary), decode(standby)) else {
            return Drift::Unknown;
        };
        if header.uid != other.uid {
            return Drift::OtherObject;
        }
        match (wanted(&header, &primary), wanted(&other, &standby)) {
            (Some(primary), Some(standby)) if primary == standby => Drift::Status,
            (Some(_), Some(_)) => Drift::Content,
            _ => Drift::Unknown,
        }
    }

    /// In a word, as programs read it.
    pub fn name(self) -> &'static str {
        match self {
            Drift::Status => "status",
            Drift::Content => "content",
            Drift::OtherObject => "other-object",
            Drift::Unknown => "unknown",
        }
    }

    /// What people read.
    pub fn text(self) -> &'static str {
        match self {
            Drift::Status => "status only, written by the standby's own controllers",
            Drift::Content => "changed on the standby, or not applied",
            Drift::OtherObject => "another object of the same name: the UIDs differ",
            Drift::Unknown => "cannot be decoded",
        }
    }
}

/// An object without what controllers write by themselves.
#[derive(PartialEq, Eq)]
enum Wanted {
    /// (path, bytes) of every field left.
    Protobuf(Vec<(u32, Vec<u8>)>),
    Json(serde_json::Value),
}

fn wanted(header: &Header, plain: &[u8]) -> Option<Wanted> {
    match Form::of(plain)? {
        Form::Protobuf => protobuf(header, plain),
        Form::Json => json(plain),
        // Seldom, and not worth another reader.
        Form::Cbor => None,
    }
}

fn protobuf(header: &Header, plain: &[u8]) -> Option<Wanted> {
    const ENVELOPE: usize = 4;
    const RAW: u32 = 2;
    let raw = fields(plain.get(ENVELOPE..)?).filter_map(Result::ok).find(|(tag, _)| *tag == RAW)?.1.bytes().ok()?;
    let status = WITH_STATUS.contains(&&header.kind[..]).then_some(3);
    let mut left = Vec::new();
    for field in fields(raw) {
        match field.ok()? {
            (1, Field::Bytes(metadata)) => {
                for field in fields(metadata) {
                    let (tag, field) = field.ok()?;
                    if tag == GENERATION || tag == MANAGED_FIELDS || (tag == ANNOTATIONS && is_bookkeeping(field)) {
                        continue;
                    }
                    left.push((tag, bytes(field)));
                }
            }
            (tag, _) if Some(tag) == status => {}
            // Its Deployment's controller sets the size (field 1 of the spec).
            (2, Field::Bytes(spec)) if header.kind == "ReplicaSet" && header.owners.iter().any(is_deployment) => {
                for field in fields(spec) {
                    let (tag, field) = field.ok()?;
                    if tag != 1 {
                        left.push((200 + tag, bytes(field)));
                    }
                }
            }
            (tag, field) => left.push((100 + tag, bytes(field))),
        }
    }
    // A map has no order.
    left.sort();
    Some(Wanted::Protobuf(left))
}

fn is_deployment(owner: &Owner) -> bool {
    owner.kind == "Deployment"
}

fn is_bookkeeping(entry: Field<'_>) -> bool {
    let Ok(entry) = entry.bytes() else { return false };
    let key = fields(entry).filter_map(Result::ok).find(|(tag, _)| *tag == 1).and_then(|(_, key)| key.text().ok());
    key.is_some_and(|key| BOOKKEEPING.contains(&&key[..]))
}

fn bytes(field: Field<'_>) -> Vec<u8> {
    match field {
        Field::Bytes(bytes) => bytes.to_vec(),
        Field::Number(number) => number.to_le_bytes().to_vec(),
        Field::Fixed => Vec::new(),
    }
}

fn json(plain: &[u8]) -> Option<Wanted> {
    let mut object: serde_json::Value = serde_json::from_slice(plain).ok()?;
    object.as_object_mut()?.remove("status");
    if let Some(metadata) = object.get_mut("metadata").and_then(serde_json::Value::as_object_mut) {
        let ignored: HashSet<&str> = HashSet::from(["generation", "managedFields"]);
        metadata.retain(|field, _| !ignored.contains(&field[..]));
    }
    Some(Wanted::Json(object))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drift(primary: &str, standby: &str) -> Drift {
        let value = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        Drift::between(&Keyring::none(), b"/registry/acme.io/widgets/apps/a", &value(primary), &value(standby))
    }

    fn widget(uid: &str, size: u32, status: &str) -> String {
        format!(
            r#"{{"apiVersion":"acme.io/v1","kind":"Widget","metadata":{{"name":"a","uid":"{uid}","generation":{size}}},"spec":{{"size":{size}}},"status":"{status}"}}"#
        )
    }

    #[test]
    fn json_is_told_apart() {
        assert_eq!(drift(&widget("u", 1, "ready"), &widget("u", 1, "pending")), Drift::Status);
        assert_eq!(drift(&widget("u", 1, "ready"), &widget("u", 2, "ready")), Drift::Content);
        assert_eq!(drift(&widget("u", 1, "ready"), &widget("v", 1, "ready")), Drift::OtherObject);
        assert_eq!(drift(&widget("u", 1, "ready"), "rubbish"), Drift::Unknown);
    }

    fn message(fields: &[(u8, &[u8])]) -> Vec<u8> {
        fields.iter().flat_map(|(tag, bytes)| [&[tag << 3 | 2, bytes.len() as u8], *bytes].concat()).collect()
    }

    fn protobuf(kind: &[u8], spec: &[u8], third: &[u8], annotation: &[u8]) -> Bytes {
        let annotation = message(&[(1, annotation), (2, b"1")]);
        let metadata = message(&[(1, b"a"), (5, b"uid"), (12, &annotation)]);
        let raw = message(&[(1, &metadata), (2, spec), (3, third)]);
        let type_meta = message(&[(1, b"apps/v1"), (2, kind)]);
        [b"k8s\0".to_vec(), message(&[(1, &type_meta), (2, &raw)])].concat().into()
    }

    #[test]
    fn protobuf_is_told_apart_by_kind() {
        let between = |primary: &Bytes, standby: &Bytes| {
            Drift::between(&Keyring::none(), b"/registry/deployments/apps/a", primary, standby)
        };
        let one = protobuf(b"Deployment", b"spec", b"ready", b"deployment.kubernetes.io/revision");
        assert_eq!(
            between(&one, &protobuf(b"Deployment", b"spec", b"pending", b"deployment.kubernetes.io/revision")),
            Drift::Status
        );
        assert_eq!(
            between(&one, &protobuf(b"Deployment", b"spek", b"ready", b"deployment.kubernetes.io/revision")),
            Drift::Content
        );
        assert_eq!(between(&one, &protobuf(b"Deployment", b"spec", b"ready", b"mine")), Drift::Content);
        // The third field of a Secret is its type.
        let secret = protobuf(b"Secret", b"data", b"Opaque", b"mine");
        assert_eq!(between(&secret, &protobuf(b"Secret", b"data", b"other", b"mine")), Drift::Content);
    }
}
