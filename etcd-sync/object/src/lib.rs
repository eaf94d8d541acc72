//! The header of a Kubernetes object, read from the plain bytes that the API server stores.

mod cbor;
pub mod encryption;
mod json;
mod loose;
pub mod object_key;
mod protobuf;
pub mod wire;

#[cfg(test)]
mod tests;

use std::fmt;

use thiserror::Error;

/// Annotations that [`Header::annotations`] keeps: those that name an owner, or say who writes the object. All others
/// can be long (the last applied configuration) and nobody here asks for them.
pub const ANNOTATIONS_KEPT: [&str; 4] = [
    "kubernetes.io/service-account.name",
    "kubernetes.io/service-account.uid",
    "apf.kubernetes.io/autoupdate-spec",
    "rbac.authorization.kubernetes.io/autoupdate",
];

/// What the synchronizer must know of an object beside its key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// `apps/v1`, `v1`.
    pub api_version: String,
    /// `Deployment`. Never empty.
    pub kind: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`; empty when the object is cluster-scoped.
    pub namespace: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.ownerReferences`, in their order.
    pub owners: Vec<Owner>,
    /// `metadata.creationTimestamp`, in Unix seconds.
    pub created: Option<i64>,
    /// Whether `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// `metadata.finalizers`, in their order.
    pub finalizers: Vec<String>,
    /// `metadata.labels`, as they were written. Of a key that comes twice (no API server writes that) the last counts.
    pub labels: Vec<(String, String)>,
    /// `metadata.annotations`, only those of [`ANNOTATIONS_KEPT`].
    pub annotations: Vec<(String, String)>,
}

/// One entry of `metadata.ownerReferences`. The owner is in the namespace of the object, or cluster-scoped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// `apps/v1`.
    pub api_version: String,
    /// `ReplicaSet`.
    pub kind: String,
    /// The owner's name.
    pub name: String,
    /// The owner's UID: it alone says whether the owner is the one meant.
    pub uid: String,
    /// Whether this owner is the managing controller.
    pub controller: bool,
    /// Whether a foreground deletion of the owner waits for this object.
    pub block_owner_deletion: bool,
}

impl Header {
    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        find(&self.labels, key)
    }

    /// The value of an annotation, if it is one of [`ANNOTATIONS_KEPT`].
    pub fn annotation(&self, key: &str) -> Option<&str> {
        find(&self.annotations, key)
    }
}

/// How the API server wrote a value, after decryption.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// Built-in types: `k8s\0` and an envelope.
    Protobuf,
    /// Custom resources, their definitions, APIServices.
    Json,
    /// Custom resources of an API server with the feature gate `CBORServingAndStorage`.
    Cbor,
}

impl Form {
    /// The form of plain bytes, by how they begin.
    pub fn of(plain: &[u8]) -> Option<Form> {
        if plain.starts_with(PROTOBUF) {
            Some(Form::Protobuf)
        } else if plain.starts_with(CBOR) {
            Some(Form::Cbor)
        } else {
            (plain.trim_ascii_start().first() == Some(&b'{')).then_some(Form::Json)
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Form::Protobuf => "protobuf",
            Form::Json => "JSON",
            Form::Cbor => "CBOR",
        })
    }
}

/// Why a value has no [`Header`]. Never holds bytes of the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Undecodable {
    /// It begins like nothing that the API server writes.
    #[error("not protobuf, JSON or CBOR: something other than a Kubernetes API server wrote it")]
    UnknownForm,
    /// It begins right, and is then broken. The text says where.
    #[error("broken {0}: the API server that stores it cannot read it either; look at the key with etcdctl")]
    Malformed(&'static str),
    /// It has no kind or no metadata.
    #[error("{0} without kind or metadata: not a Kubernetes object")]
    NotAnObject(Form),
}

/// The header of an object, from its plain bytes. The rest of the object is skipped, not checked.
pub fn header(plain: &[u8]) -> Result<Header, Undecodable> {
    match Form::of(plain) {
        Some(Form::Protobuf) => protobuf::header(&plain[PROTOBUF.len()..]),
        Some(Form::Json) => json::header(plain),
        Some(Form::Cbor) => cbor::header(&plain[CBOR.len()..]),
        None => Err(Undecodable::UnknownForm),
    }
}

const PROTOBUF: &[u8] = b"k8s\0";
const CBOR: &[u8] = &[0xd9, 0xd9, 0xf7];

fn find<'a>(pairs: &'a [(String, String)], key: &str) -> Option<&'a str> {
    pairs.iter().rev().find(|(other, _)| other == key).map(|(_, value)| value.as_str())
}

fn is_kept(annotation: &[u8]) -> bool {
    ANNOTATIONS_KEPT.iter().any(|kept| kept.as_bytes() == annotation)
}
