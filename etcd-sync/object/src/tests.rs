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
    ]
    .concat();
    if let Some(created) = header.created {
        let mut time = vec![8];
        varint(&mut time, created.cast_unsigned());
        metadata.extend(tagged(8, &[&time[..], &[16, 0]].concat()));
    }
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
            "creationTimestamp": header.created.map(rfc3339),
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

fn rfc3339(seconds: i64) -> String {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds.cast_unsigned());
    humantime::format_rfc3339_seconds(time).to_string()
}

/// CBOR as Kubernetes writes it, or (`other`) with text strings, tags, and containers without a count.
fn cbor_of(value: &Value, other: bool) -> Vec<u8> {
    let mut out = CBOR.to_vec();
    cbor(&mut out, value, other);
    out
}

fn cbor(out: &mut Vec<u8>, value: &Value, other: bool) {
    match value {
        Value::Null => out.push(0xf6),
        Value::Bool(flag) => out.push(0xf4 + u8::from(*flag)),
        Value::Number(number) if number.is_f64() => {
            out.push(0xfb);
            out.extend(number.as_f64().unwrap().to_be_bytes());
        }
        Value::Number(number) => head(out, 0, number.as_u64().unwrap()),
        Value::String(text) => cbor_text(out, text, other),
        Value::Array(list) => {
            if other {
                out.push(0x9f)
            } else {
                head(out, 4, list.len() as u64)
            }
            list.iter().for_each(|element| cbor(out, element, other));
            out.extend(other.then_some(0xff));
        }
        Value::Object(map) => {
            if other {
                out.push(0xbf)
            } else {
                head(out, 5, map.len() as u64)
            }
            for (key, value) in map {
                cbor_text(out, key, other);
                cbor(out, value, other);
            }
            out.extend(other.then_some(0xff));
        }
    }
}

fn cbor_text(out: &mut Vec<u8>, text: &str, other: bool) {
    if !other {
        head(out, 2, text.len() as u64);
        return out.extend_from_slice(text.as_bytes());
    }
    // A tag, then text in chunks of one character.
    out.extend([0xc0, 0x7f]);
    for character in text.chars() {
        head(out, 3, character.len_utf8() as u64);
        out.extend(character.to_string().as_bytes());
    }
    out.push(0xff);
}

fn head(out: &mut Vec<u8>, major: u8, argument: u64) {
    match argument {
        0..24 => out.push(major << 5 | argument as u8),
        24..0x100 => out.extend([major << 5 | 24, argument as u8]),
        _ => {
            out.push(major << 5 | 26);
            out.extend((argument as u32).to_be_bytes());
        }
    }
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
        (vec(owner, 0..3), proptest::option::of(0..4_000_000_000i64), any::<bool>()),
        (vec(text, 0..3), labels, annotations),
    )
        .prop_map(
            |(
                (api_version, kind, name, namespace, uid),
                (owners, created, deleting),
                (finalizers, labels, annotations),
            )| Header {
                api_version,
                kind,
                name,
                namespace,
                uid,
                owners,
                created,
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
        let expected = Ok(sorted(written.clone()));
        prop_assert_eq!(&header(json.as_bytes()).map(sorted), &expected);
        for other in [false, true] {
            prop_assert_eq!(&header(&cbor_of(&json_of(&written), other)).map(sorted), &expected);
        }
    }

    #[test]
    fn no_bytes_panic(bytes in vec(any::<u8>(), 0..200), magic in 0..4) {
        let magic = [PROTOBUF, CBOR, b"{", b""][magic as usize];
        let _ = header(&[magic, &bytes[..]].concat());
    }

    #[test]
    fn no_broken_object_panics(written in headers(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let json = json_of(&written);
        let forms = [protobuf_of(&written), json.to_string().into_bytes(), cbor_of(&json, false), cbor_of(&json, true)];
        for mut plain in forms {
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

#[test]
fn cbor_of_hostile_lengths_and_depth_is_refused() {
    let start = cbor_of(&json!({"kind": "A", "metadata": {"name": "n"}}), true);
    let with = |spec: &[u8]| [&start[..start.len() - 1], &[0x41, b's'], spec, &[0xff]].concat();
    assert_eq!(header(&with(&[0x80])).map(|header| header.name), Ok("n".into()));
    let broken = Err(Undecodable::Malformed("CBOR"));
    for spec in [
        &[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff][..],
        &[0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0xfc],
        &[0xf7],
        &[0x5f, 0x61, b'x', 0xff],
        &[0x81, 0xff],
        &[0x81; 20_000],
        &[0x9f; 20_000],
    ] {
        assert_eq!(header(&with(spec)), broken, "{:02x?}", &spec[..1]);
    }
    assert_eq!(header(&[&start[..], &[0x00]].concat()), broken);
    assert_eq!(header(&[CBOR, &[0xff]].concat()), broken);
    assert_eq!(header(&[CBOR, &[0x00]].concat()), Err(Undecodable::NotAnObject(Form::Cbor)));
    let deep = [&vec![0x81; 9_000][..], &[0x00]].concat();
    assert_eq!(header(&with(&deep)).map(|header| header.name), Ok("n".into()));
}
