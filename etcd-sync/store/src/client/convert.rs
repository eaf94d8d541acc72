//! Between the core's words and etcd's messages.

use bytes::Bytes;
use etcd_sync_core::etcd::kv::{Event, KeyRange, KeyValue};
use etcd_sync_core::etcd::request::{Compare, Op, Txn};

use crate::client::proto;

/// The lowest key there can be; as the end of a range it means "to the last key".
const ZERO: Bytes = Bytes::from_static(b"\0");

/// `key` and `range_end` of a request. etcd refuses an empty start, and an empty end means a single key.
pub(crate) fn bounds(range: &KeyRange) -> (Bytes, Bytes) {
    let or_zero = |key: &Bytes| if key.is_empty() { ZERO } else { key.clone() };
    (or_zero(&range.start), or_zero(&range.end))
}

pub(crate) fn key_value(kv: proto::KeyValue) -> KeyValue {
    KeyValue {
        key: kv.key,
        value: kv.value,
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        lease: kv.lease,
    }
}

/// An event; `None` when etcd sent one without a key, which it never does.
pub(crate) fn event(event: proto::Event) -> Option<Event> {
    let kv = event.kv?;
    Some(if event.r#type == proto::EVENT_DELETE {
        Event::Delete { key: kv.key, revision: kv.mod_revision }
    } else {
        Event::Put(key_value(kv))
    })
}

pub(crate) fn txn(txn: Txn) -> proto::TxnRequest {
    let ops = |ops: Vec<Op>| ops.into_iter().map(op).collect();
    proto::TxnRequest {
        compare: txn.compares.into_iter().map(compare).collect(),
        success: ops(txn.success),
        failure: ops(txn.failure),
    }
}

fn compare(compare: Compare) -> proto::Compare {
    use proto::compare::TargetUnion;
    use proto::compare_target::{CREATE, MOD, VALUE};
    let (target, key, union) = match compare {
        Compare::Value { key, value } => (VALUE, key, TargetUnion::Value(value)),
        Compare::CreateRevision { key, revision } => (CREATE, key, TargetUnion::CreateRevision(revision)),
        Compare::ModRevision { key, revision } => (MOD, key, TargetUnion::ModRevision(revision)),
    };
    proto::Compare { result: 0, target, key, target_union: Some(union) }
}

fn op(op: Op) -> proto::RequestOp {
    use proto::request_op::Request;
    let request = match op {
        Op::Put { key, value, lease } => Request::Put(proto::PutRequest { key, value, lease }),
        Op::Delete { key } => Request::DeleteRange(proto::DeleteRangeRequest { key }),
        Op::Get { key } => Request::Range(proto::RangeRequest { key, ..Default::default() }),
    };
    proto::RequestOp { request: Some(request) }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    const K: Bytes = Bytes::from_static(b"k");
    const V: Bytes = Bytes::from_static(b"v");

    #[test]
    fn open_ranges_use_the_zero_key() {
        assert_eq!(bounds(&KeyRange::prefix(b"")), (ZERO, ZERO));
        assert_eq!(bounds(&KeyRange::prefix(b"k")), (K, Bytes::from_static(b"l")));
    }

    /// The bytes were written down from etcd's `rpc.proto`, tag by tag.
    #[test]
    fn a_transaction_encodes_as_etcd_expects() {
        let request = txn(Txn {
            compares: vec![
                Compare::Value { key: K, value: V },
                Compare::CreateRevision { key: K, revision: 0 },
                Compare::ModRevision { key: K, revision: 300 },
            ],
            success: vec![Op::Put { key: K, value: V, lease: 7 }, Op::Delete { key: K }],
            failure: vec![Op::Get { key: K }],
        });
        let expected: &[&[u8]] = &[
            b"\x0a\x08\x10\x03\x1a\x01k\x3a\x01v",
            b"\x0a\x07\x10\x01\x1a\x01k\x28\x00",
            b"\x0a\x08\x10\x02\x1a\x01k\x30\xac\x02",
            b"\x12\x0a\x12\x08\x0a\x01k\x12\x01v\x18\x07",
            b"\x12\x05\x1a\x03\x0a\x01k",
            b"\x1a\x05\x0a\x03\x0a\x01k",
        ];
        assert_eq!(request.encode_to_vec(), expected.concat());
    }

    #[test]
    fn a_watch_request_encodes_as_etcd_expects() {
        use proto::watch_request::RequestUnion;
        let create = proto::WatchCreateRequest {
            key: K,
            range_end: ZERO,
            start_revision: 5,
            progress_notify: true,
            fragment: true,
        };
        let request = proto::WatchRequest { request_union: Some(RequestUnion::Create(create)) };
        assert_eq!(request.encode_to_vec(), b"\x0a\x0c\x0a\x01k\x12\x01\x00\x18\x05\x20\x01\x40\x01");
        let progress = proto::WatchProgressRequest {};
        let request = proto::WatchRequest { request_union: Some(RequestUnion::Progress(progress)) };
        assert_eq!(request.encode_to_vec(), b"\x1a\x00");
    }

    #[test]
    fn a_watch_answer_decodes() {
        // header {cluster 1, revision 9}, watch id 0, fragment, one put with version 4 and lease 2, one delete.
        let bytes = b"\x0a\x04\x08\x01\x18\x09\x38\x01\
            \x5a\x10\x12\x0e\x0a\x01k\x10\x08\x18\x09\x20\x04\x2a\x01v\x30\x02\
            \x5a\x09\x08\x01\x12\x05\x0a\x01k\x18\x09";
        let answer = proto::WatchResponse::decode(&bytes[..]).unwrap();
        assert!(answer.fragment && !answer.created && !answer.canceled);
        assert_eq!(answer.header.map(|header| (header.cluster_id, header.revision)), Some((1, 9)));
        let events: Vec<Event> = answer.events.into_iter().filter_map(event).collect();
        let put = KeyValue { key: K, value: V, create_revision: 8, mod_revision: 9, lease: 2 };
        assert_eq!(events, [Event::Put(put), Event::Delete { key: K, revision: 9 }]);
    }

    #[test]
    fn answers_of_puts_and_deletes_are_skipped() {
        // succeeded; responses: put (tag 2), range (tag 1) with one key, delete (tag 3).
        let bytes = b"\x10\x01\x1a\x02\x12\x00\x1a\x07\x0a\x05\x12\x03\x0a\x01k\x1a\x04\x1a\x02\x10\x01";
        let answer = proto::TxnResponse::decode(&bytes[..]).unwrap();
        assert!(answer.succeeded);
        let found: Vec<usize> =
            answer.responses.iter().filter_map(|op| op.range.as_ref()).map(|range| range.kvs.len()).collect();
        assert_eq!(found, [1]);
    }
}
