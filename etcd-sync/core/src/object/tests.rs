//! Headers written by the encoders below are read back; broken bytes never panic.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

/// Protobuf, written by hand.
fn tagged(tag: u32, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    varint(&mut out, u64::from(tag << 3 | 2));
    varint(&mut out, bytes.len() as u64);
    out.extend_from_slice(bytes);
    out
}

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn pair(tag: u32, key: &str, value: &str) -> Vec<u8> {
    tagged(tag, &[tagged(1, key.as_bytes()), tagged(2, value.as_bytes())].concat())
}

fn protobuf_of(header: &Header) -> Vec<u8> {
    let mut metadata = [
        tagged(1, header.name.as_bytes()),
        tagged(2, b""),
        tagged(3, header.namespace.as_bytes()),
        tagged(5, header.uid.as_bytes()),
        vec![0x38, 7],
        tagged(8, &[8, 1]),
    ]
    .concat();
    if header.deleting {
        metadata.extend(tagged(9, &[8, 1]));
    }
    header.labels.iter().for_each(|(key, value)| metadata.extend(pair(11, key, value)));
    metadata.extend(pair(12, "kubectl.kubernetes.io/last-applied-configuration", "{}"));
    header.annotations.iter().for_each(|(key, value)| metadata.extend(pair(12, key, value)));
    for owner in &header.owners {
        let message = [
            tagged(1, owner.kind.as_bytes()),
            tagged(3, owner.name.as_bytes()),
            tagged(4, owner.uid.as_bytes()),
            tagged(5, owner.api_version.as_bytes()),
            vec![0x30, owner.controller.into(), 0x38, owner.block_owner_deletion.into()],
        ];
        metadata.extend(tagged(13, &message.concat()));
    }
    header.finalizers.iter().for_each(|finalizer| metadata.extend(tagged(14, finalizer.as_bytes())));
    metadata.extend(tagged(17, b"managed fields"));
    let type_meta = [tagged(1, header.api_version.as_bytes()), tagged(2, header.kind.as_bytes())].concat();
    let object = [tagged(1, &metadata), tagged(2, b"spec"), vec![0x18, 3]].concat();
    [PROTOBUF.to_vec(), tagged(1, &type_meta), tagged(2, &object), tagged(3, b""), tagged(4, b"")].concat()
}

fn json_of(header: &Header) -> Value {
    let map = |pairs: &[(String, String)]| -> Map<String, Value> {
        pairs.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect()
    };
    let owner = |owner: &Owner| {
        json!({"apiVersion": owner.api_version, "kind": owner.kind, "name": owner.name, "uid": owner.uid,
            "controller": owner.controller, "blockOwnerDeletion": owner.block_owner_deletion})
    };
    let mut annotations = map(&header.annotations);
    annotations.insert("other".into(), "{}".into());
    json!({
        "apiVersion": header.api_version,
        "kind": header.kind,
        "metadata": {
            "name": header.name,
            "namespace": header.namespace,
            "uid": header.uid,
            "generation": 7,
            "deletionTimestamp": header.deleting.then_some("2026-01-01T00:00:00Z"),
            "labels": map(&header.labels),
            "annotations": annotations,
            "ownerReferences": header.owners.iter().map(owner).collect::<Vec<_>>(),
            "finalizers": header.finalizers,
            "managedFields": [{"fieldsV1": {"f:metadata": {}}}],
        },
        "spec": {"metadata": {"name": "not this one"}, "list": [1, 2.5, null, true]},
    })
}

fn headers() -> impl Strategy<Value = Header> {
    let text = "[a-z/.]{0,12}|\\PC{0,4}";
    let owner = (text, text, text, text, any::<bool>(), any::<bool>()).prop_map(
        |(api_version, kind, name, uid, controller, block_owner_deletion)| Owner {
            api_version,
            kind,
            name,
            uid,
            controller,
            block_owner_deletion,
        },
    );
    let labels = proptest::collection::btree_map(text, text, 0..4);
    let annotations = proptest::collection::btree_map(0..ANNOTATIONS_KEPT.len(), text, 0..4);
    (
        (text, "[A-Z][a-z]{1,8}", text, text, text),
        (vec(owner, 0..3), any::<bool>(), vec(text, 0..3), labels, annotations),
    )
        .prop_map(
            |((api_version, kind, name, namespace, uid), (owners, deleting, finalizers, labels, annotations))| Header {
                api_version,
                kind,
                name,
                namespace,
                uid,
                owners,
                deleting,
                finalizers,
                labels: labels.into_iter().collect(),
                annotations: annotations
                    .into_iter()
                    .map(|(at, value)| (ANNOTATIONS_KEPT[at].to_owned(), value))
                    .collect(),
            },
        )
}

/// The maps of JSON come back in the order of their keys.
fn sorted(mut header: Header) -> Header {
    header.labels.sort();
    header.annotations.sort();
    header
}

fn from_json(text: &str) -> Result<Header, Undecodable> {
    header(text.as_bytes())
}

proptest! {
    #[test]
    fn what_is_written_is_read(written in headers()) {
        prop_assert_eq!(header(&protobuf_of(&written)), Ok(written.clone()));
        let json = json_of(&written).to_string();
        prop_assert_eq!(header(json.as_bytes()).map(sorted), Ok(sorted(written)));
    }

    #[test]
    fn no_bytes_panic(bytes in vec(any::<u8>(), 0..200), magic in 0..4) {
        let magic = [PROTOBUF, CBOR, b"{", b""][magic as usize];
        let _ = header(&[magic, &bytes[..]].concat());
    }

    #[test]
    fn no_broken_object_panics(written in headers(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        for mut plain in [protobuf_of(&written), json_of(&written).to_string().into_bytes()] {
            let at = at.index(plain.len());
            let _ = header(&plain[..at]);
            plain[at] = byte;
            let _ = header(&plain);
        }
    }
}

#[test]
fn nothing_but_an_object_has_a_header() {
    assert_eq!(header(b""), Err(Undecodable::UnknownForm));
    assert_eq!(header(b"1234"), Err(Undecodable::UnknownForm));
    assert_eq!(header(b"k8s\0"), Err(Undecodable::NotAnObject(Form::Protobuf)));
    assert_eq!(from_json("{}"), Err(Undecodable::NotAnObject(Form::Json)));
    assert_eq!(from_json(r#"{"kind":"A","metadata":null}"#), Err(Undecodable::NotAnObject(Form::Json)));
    assert_eq!(from_json(r#"{"kind":"A","metadata":[]}"#), Err(Undecodable::NotAnObject(Form::Json)));
    assert_eq!(from_json(r#"{"metadata":{}}"#), Err(Undecodable::NotAnObject(Form::Json)));
    assert_eq!(from_json(r#"{"kind":"A","metadata":{}"#), Err(Undecodable::Malformed("JSON")));
    assert_eq!(from_json(r#"{"kind":"A","metadata":{}} x"#), Err(Undecodable::Malformed("JSON")));
}

#[test]
fn null_is_absent() {
    let header = from_json(
        r#" {"apiVersion":null,"kind":"A","metadata":{"name":"n","namespace":null,"labels":null,"annotations":null,
            "ownerReferences":null,"finalizers":null,"deletionTimestamp":null,"uid":null},"spec":null}"#,
    );
    assert_eq!(header, Ok(Header { kind: "A".into(), name: "n".into(), ..Header::default() }));
}

#[test]
fn a_wrong_type_is_absent_and_the_rest_is_read() {
    let header = from_json(
        r#"{"kind":"A","metadata":{"name":"n","namespace":5,"labels":{"a":"b","c":1},"finalizers":"x","uid":{"a":[{}]},
            "ownerReferences":[{"kind":"K","uid":7}],"annotations":[1,{}],"deletionTimestamp":true}}"#,
    );
    assert_eq!(header, Ok(Header { kind: "A".into(), name: "n".into(), ..Header::default() }));
}

#[test]
fn keys_match_exactly_and_the_last_of_two_counts() {
    let header = from_json(
        r#"{"kind":"A","Kind":"B","metadata":{"name":"one"},"metadata":{"name":"n","NAME":"x","name":"two",
            "labels":{"a":"1","a":"2"}}}"#,
    )
    .unwrap();
    assert_eq!((header.kind.as_str(), header.name.as_str(), header.label("a")), ("A", "two", Some("2")));
    assert_eq!(header.label("b"), None);
}

#[test]
fn deep_nesting_outside_the_header_is_read_and_inside_it_is_no_crash() {
    let deep = |n| "[".repeat(n) + &"]".repeat(n);
    let header = from_json(&format!(r#"{{"kind":"A","metadata":{{"name":"n"}},"spec":{}}}"#, deep(200_000)));
    assert_eq!(header.map(|header| header.name), Ok("n".into()));
    let _ = from_json(&format!(r#"{{"kind":"A","metadata":{{"labels":{}}}}}"#, deep(200_000)));
}
