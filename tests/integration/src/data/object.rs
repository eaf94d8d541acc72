//! Values: Kubernetes' protobuf envelope for built-in resources, JSON for custom ones.

use serde_json::{Value, json};

use super::Random;

/// The object an owner reference names.
#[derive(Clone, Debug)]
pub(super) struct Owner {
    pub api_version: String,
    pub kind: String,
    pub name: String,
    pub uid: String,
}

/// What every object says about itself.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub api_version: String,
    pub kind: String,
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub labels: Vec<(String, String)>,
    pub owner: Option<Owner>,
}

impl Object {
    pub fn new(random: &mut Random, api_version: &str, kind: &str, namespace: &str, name: &str) -> Object {
        Object {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: random.uid(),
            labels: vec![("app".to_owned(), name.to_owned())],
            owner: None,
        }
    }

    pub fn owned_by(mut self, owner: &Object) -> Object {
        self.owner = Some(Owner {
            api_version: owner.api_version.clone(),
            kind: owner.kind.clone(),
            name: owner.name.clone(),
            uid: owner.uid.clone(),
        });
        self
    }

    /// The stored form of a built-in: `k8s\0`, then runtime.Unknown around an object whose field 1 is its ObjectMeta
    /// and whose field 2 holds `bytes` of filler.
    pub fn protobuf(&self, random: &mut Random, bytes: usize) -> Vec<u8> {
        let mut object = Vec::with_capacity(bytes + 256);
        field(&mut object, 1, &self.meta());
        let mut filler = Vec::with_capacity(bytes + 16);
        field(&mut filler, 1, b"data");
        field(&mut filler, 2, random.text(bytes).as_bytes());
        field(&mut object, 2, &filler);

        let mut type_meta = Vec::new();
        field(&mut type_meta, 1, self.api_version.as_bytes());
        field(&mut type_meta, 2, self.kind.as_bytes());
        let mut value = b"k8s\0".to_vec();
        field(&mut value, 1, &type_meta);
        field(&mut value, 2, &object);
        field(&mut value, 3, b"");
        field(&mut value, 4, b"");
        value
    }

    fn meta(&self) -> Vec<u8> {
        let mut meta = Vec::new();
        field(&mut meta, 1, self.name.as_bytes());
        field(&mut meta, 2, b"");
        field(&mut meta, 3, self.namespace.as_bytes());
        field(&mut meta, 4, b"");
        field(&mut meta, 5, self.uid.as_bytes());
        field(&mut meta, 6, b"");
        number(&mut meta, 7, 1);
        let mut created = Vec::new();
        number(&mut created, 1, 1_760_000_000);
        number(&mut created, 2, 0);
        field(&mut meta, 8, &created);
        for (name, value) in &self.labels {
            let mut label = Vec::new();
            field(&mut label, 1, name.as_bytes());
            field(&mut label, 2, value.as_bytes());
            field(&mut meta, 11, &label);
        }
        if let Some(owner) = &self.owner {
            let mut reference = Vec::new();
            field(&mut reference, 1, owner.kind.as_bytes());
            field(&mut reference, 3, owner.name.as_bytes());
            field(&mut reference, 4, owner.uid.as_bytes());
            field(&mut reference, 5, owner.api_version.as_bytes());
            number(&mut reference, 6, 1);
            number(&mut reference, 7, 1);
            field(&mut meta, 13, &reference);
        }
        meta
    }

    /// The stored form of a custom resource, a CRD or an APIService. `spec` gets `bytes` of filler beside it.
    pub fn json(&self, random: &mut Random, spec: Value, bytes: usize) -> Vec<u8> {
        let mut metadata = json!({
            "name": self.name,
            "uid": self.uid,
            "generation": 1,
            "creationTimestamp": "2025-10-09T08:53:20Z",
        });
        if !self.labels.is_empty() {
            metadata["labels"] = self.labels.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        }
        if !self.namespace.is_empty() {
            metadata["namespace"] = json!(self.namespace);
        }
        if let Some(owner) = &self.owner {
            metadata["ownerReferences"] = json!([{
                "apiVersion": owner.api_version,
                "kind": owner.kind,
                "name": owner.name,
                "uid": owner.uid,
                "controller": true,
                "blockOwnerDeletion": true,
            }]);
        }
        let object = json!({
            "apiVersion": self.api_version,
            "kind": self.kind,
            "metadata": metadata,
            "spec": spec,
            "status": { "conditions": [], "note": random.text(bytes) },
        });
        let mut value = object.to_string().into_bytes();
        // As the apiserver writes it.
        value.push(b'\n');
        value
    }
}

/// Most objects are small, a few are very large: sizes of filler.
pub(super) fn size(random: &mut Random) -> usize {
    match random.range(0..1000) {
        0..2 => random.range(100 << 10..300 << 10),
        2..200 => random.range(1500..8000),
        _ => random.range(60..1400),
    }
}

fn field(buffer: &mut Vec<u8>, tag: u64, content: &[u8]) {
    varint(buffer, tag << 3 | 2);
    varint(buffer, content.len() as u64);
    buffer.extend_from_slice(content);
}

fn number(buffer: &mut Vec<u8>, tag: u64, value: u64) {
    varint(buffer, tag << 3);
    varint(buffer, value);
}

fn varint(buffer: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        buffer.push(value as u8 | 0x80);
        value >>= 7;
    }
    buffer.push(value as u8);
}
