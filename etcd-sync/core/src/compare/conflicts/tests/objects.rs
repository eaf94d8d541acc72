//! Objects as API servers store them, made by hand.

/// One length-delimited protobuf field.
pub(super) fn field(tag: u8, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    let mut bytes = Vec::new();
    varint(&mut bytes, u64::from(tag) << 3 | 2);
    varint(&mut bytes, content.len() as u64);
    bytes.extend_from_slice(content);
    bytes
}

pub(super) fn number(tag: u8, number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    varint(&mut bytes, u64::from(tag) << 3);
    varint(&mut bytes, number);
    bytes
}

pub(super) fn varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// An object as the API server stores a built-in one: the metadata holds the UID and what is given, the spec is field 2.
pub(super) fn protobuf(api_version: &str, kind: &str, uid: &str, metadata: &[u8], spec: &[u8]) -> Vec<u8> {
    let metadata = [field(5, uid), metadata.to_vec()].concat();
    let object = [field(1, metadata), spec.to_vec()].concat();
    let envelope = [field(1, [field(1, api_version), field(2, kind)].concat()), field(2, object)].concat();
    [b"k8s\0".to_vec(), envelope].concat()
}

pub(super) fn owned_by(kind: &str, name: &str, uid: &str) -> Vec<u8> {
    field(13, [field(1, kind), field(3, name), field(4, uid), field(5, "v1")].concat())
}

pub(super) fn config_map(uid: &str, metadata: &[u8]) -> Vec<u8> {
    protobuf("v1", "ConfigMap", uid, metadata, b"")
}

pub(super) fn service(uid: &str, addresses: &[&str], ports: &[u64]) -> Vec<u8> {
    let ports = ports.iter().map(|port| field(1, number(5, *port)));
    let ips = addresses.iter().map(|address| field(18, address));
    let first = addresses.iter().take(1).map(|address| field(3, address));
    let spec: Vec<u8> = ports.chain(first).chain(ips).flatten().collect();
    protobuf("v1", "Service", uid, b"", &field(2, spec))
}

pub(super) fn volume(uid: &str, claim: &str, claim_uid: &str) -> Vec<u8> {
    let claim = field(4, [field(2, "apps"), field(3, claim), field(4, claim_uid)].concat());
    protobuf("v1", "PersistentVolume", uid, b"", &field(2, [claim, field(5, "Delete")].concat()))
}

pub(super) fn claim(uid: &str) -> Vec<u8> {
    protobuf("v1", "PersistentVolumeClaim", uid, b"", b"")
}
