//! Between etcd-client's types and the core's plain ones.

use anyhow::{Context, Result};
use bytes::Bytes;
use etcd_client::{CompareOp, EventType, GetOptions, PutOptions, ResponseHeader, TxnOp, TxnOpResponse, WatchOptions};
use etcd_sync_core::etcd::kv::{Event, KeyRange, KeyValue, Revision};
use etcd_sync_core::etcd::request::{Compare, Op, Txn, TxnReply};

/// The core's range without an end reaches to the last key.
pub(super) fn get_range(options: GetOptions, range: &KeyRange) -> GetOptions {
    if range.end.is_empty() { options.with_from_key() } else { options.with_range(&range.end[..]) }
}

pub(super) fn watch_range(options: WatchOptions, range: &KeyRange) -> WatchOptions {
    if range.end.is_empty() { options.with_from_key() } else { options.with_range(&range.end[..]) }
}

pub(super) fn revision(header: Option<&ResponseHeader>) -> Revision {
    header.map(ResponseHeader::revision).unwrap_or_default()
}

pub(super) fn key_value(kv: etcd_client::KeyValue) -> KeyValue {
    let (create_revision, mod_revision, lease) = (kv.create_revision(), kv.mod_revision(), kv.lease());
    let (key, value) = kv.into_key_value();
    KeyValue { key: key.into(), value: value.into(), create_revision, mod_revision, lease }
}

pub(super) fn event(event: &etcd_client::Event) -> Result<Event> {
    let kv = event.kv().context("an event has a key")?;
    Ok(match event.event_type() {
        EventType::Put => Event::Put(key_value(kv.clone())),
        EventType::Delete => Event::Delete { key: Bytes::copy_from_slice(kv.key()), revision: kv.mod_revision() },
    })
}

pub(super) fn txn(txn: Txn) -> etcd_client::Txn {
    let Txn { compares, success, failure } = txn;
    etcd_client::Txn::new()
        .when(compares.into_iter().map(compare).collect::<Vec<_>>())
        .and_then(success.into_iter().map(op).collect::<Vec<_>>())
        .or_else(failure.into_iter().map(op).collect::<Vec<_>>())
}

fn compare(compare: Compare) -> etcd_client::Compare {
    match compare {
        Compare::Value { key, value } => etcd_client::Compare::value(key, CompareOp::Equal, value),
        Compare::CreateRevision { key, revision } => {
            etcd_client::Compare::create_revision(key, CompareOp::Equal, revision)
        }
        Compare::ModRevision { key, revision } => etcd_client::Compare::mod_revision(key, CompareOp::Equal, revision),
    }
}

fn op(op: Op) -> TxnOp {
    match op {
        Op::Put { key, value, lease: 0 } => TxnOp::put(key, value, None),
        Op::Put { key, value, lease } => TxnOp::put(key, value, Some(PutOptions::new().with_lease(lease))),
        Op::Delete { key } => TxnOp::delete(key, None),
        Op::Get { key } => TxnOp::get(key, None),
    }
}

pub(super) fn txn_reply(reply: &etcd_client::TxnResponse) -> TxnReply {
    let gets = reply.op_responses().into_iter().filter_map(|response| match response {
        TxnOpResponse::Get(mut answer) => Some(answer.take_kvs().pop().map(key_value)),
        _ => None,
    });
    TxnReply { succeeded: reply.succeeded(), revision: revision(reply.header()), gets: gets.collect() }
}
