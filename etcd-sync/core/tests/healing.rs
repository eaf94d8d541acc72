//! What is put back on the standby while the primary goes on, over modelled clusters.

#[path = "simulation/daemon.rs"]
#[allow(dead_code, reason = "the simulation needs more of it")]
mod daemon;
#[path = "simulation/model.rs"]
#[allow(dead_code, reason = "the simulation needs more of it")]
mod model;
#[path = "brake/pair.rs"]
#[allow(dead_code, reason = "the brake needs more of it")]
mod pair;

use bytes::Bytes;
use etcd_sync_core::etcd::request::Op;
use etcd_sync_core::link::side::Side;
use etcd_sync_core::session::{BrakeLimits, Input, RequestId};

use self::daemon::Read;
use self::pair::{Pair, delete};

const OWNER: &str = "/registry/deployments/apps/web";
const OWNED: &str = "/registry/replicasets/apps/web-1";

fn owner() -> Op {
    let metadata = serde_json::json!({ "name": "web", "namespace": "apps", "uid": "u-web" });
    put(OWNER, &serde_json::json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata }))
}

fn owned() -> Op {
    let owner = serde_json::json!({ "apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "u-web" });
    let metadata =
        serde_json::json!({ "name": "web-1", "namespace": "apps", "uid": "u-web-1", "ownerReferences": [owner] });
    put(OWNED, &serde_json::json!({ "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": metadata }))
}

fn put(key: &'static str, value: &serde_json::Value) -> Op {
    Op::Put { key: Bytes::from_static(key.as_bytes()), value: value.to_string().into(), lease: 0 }
}

/// A deployment whose second replica does not start has it tried every few minutes.
#[test]
fn a_replica_that_starts_again_and_again_has_all_keys_compared_now_and_then() {
    let mut pair = Pair::with(BrakeLimits::OFF, ["/registry/configmaps/apps/first".to_owned()]);
    // As far as the comparison of the start.
    pair.wait(20 * 60_000);
    let mut comparisons = Vec::new();
    for minute in 0..30 {
        let key: Bytes = format!("{}replica-{minute}", String::from_utf8_lossy(&pair.keys().leader_prefix)).into();
        pair.standby.write(vec![Op::Put { key, value: Bytes::new(), lease: 7 }]);
        let before = pair.daemon.audits;
        pair.run();
        if pair.daemon.audits > before {
            comparisons.push(minute);
        }
        pair.now_ms += 60_000;
    }
    assert_eq!(comparisons, [0, 10, 20]);
}

/// Whether a read under way is of that key.
fn is_read_of(side: Side, key: &str) -> impl Fn(&(RequestId, Read)) -> bool + '_ {
    move |(_, read)| matches!(read, Read::Pending(of, request) if *of == side && request.range.start == key.as_bytes())
}

/// An owner that is lost, and deleted on the primary while it is read, comes into the round once more with what it owns. The first
/// answer is older than the deletion, and comes last.
#[test]
fn an_answer_that_was_overtaken_puts_nothing_back() {
    let mut pair = Pair::with(BrakeLimits::OFF, ["/registry/configmaps/apps/first".to_owned()]);
    pair.primary.write(vec![owner()]);
    pair.primary.write(vec![owned()]);
    pair.run();
    pair.must_be_equal();
    for key in [OWNED, OWNER] {
        pair.standby.write(vec![delete(key)]);
    }
    while !pair.daemon.reads.iter().any(is_read_of(Side::Primary, OWNED)) {
        pair.watch(Side::Standby);
        pair.tick();
    }
    let mut reads = std::mem::take(&mut pair.daemon.reads);
    let (id, read) = reads.extract_if(.., |read| is_read_of(Side::Primary, OWNER)(read)).next().expect("both are lost");
    let early = pair.read(&read);

    pair.delete(OWNER);
    while pair.watch(Side::Primary) || pair.commit() {}
    assert_eq!(pair.daemon.reads.len(), 0);
    // What it owns was read before, and names it.
    let owned = reads.extract_if(.., |read| is_read_of(Side::Primary, OWNED)(read)).next().expect("both are lost");
    pair.answer(owned);
    assert!(pair.daemon.reads.iter().any(is_read_of(Side::Primary, OWNER)), "it is read once more");
    pair.daemon.handle(pair.now_ms.into(), Input::Read { id, result: early });
    pair.daemon.reads.extend(reads);
    pair.wait(5_000);
    pair.must_be_equal();
}
