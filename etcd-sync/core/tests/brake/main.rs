//! The brake on live updates, over modelled clusters: what stops them, what does not, and how they go on.

#[path = "../simulation/daemon.rs"]
#[allow(dead_code, reason = "the simulation needs more of it")]
mod daemon;
#[path = "../simulation/model.rs"]
#[allow(dead_code, reason = "the simulation needs more of it")]
mod model;
mod pair;

use etcd_sync_core::session::BrakeLimits;

use self::pair::{Pair, delete, put};

/// As shipped, but with a tenth of the keys.
const LIMITS: BrakeLimits = BrakeLimits { keys: 100, ..BrakeLimits::DEFAULT };

const WIDGETS_CRD: &str = "/registry/apiextensions.k8s.io/customresourcedefinitions/widgets.example.com";

fn objects(resource: &str, namespace: &str, count: usize) -> Vec<String> {
    (0..count).map(|i| format!("/registry/{resource}/{namespace}/{i:04}")).collect()
}

/// Objects of three kinds in many namespaces, so that none of them is most of what there is.
fn much() -> Vec<String> {
    (0..40)
        .flat_map(|i| {
            [objects("configmaps", &format!("ns-{i}"), 20), objects("secrets", &format!("ns-{i}"), 20)].concat()
        })
        .collect()
}

fn with(more: &[Vec<String>]) -> Pair {
    Pair::with(LIMITS, [&[much()], more].concat().concat())
}

#[test]
fn all_objects_of_a_resource_in_one_revision() {
    let mut pair = with(&[objects("deployments", "a", 18), objects("deployments", "b", 12)]);
    pair.delete_below("/registry/deployments/");
    pair.put("/registry/configmaps/a/later", false);
    pair.run();
    let (evidence, losses) = pair.stopped();
    assert_eq!(
        evidence,
        "all 30 deployments that this standby has are deleted on the primary within 60 s, or marked for deletion"
    );
    assert_eq!(
        losses.summary(),
        "18 deployments in a, 12 deployments in b; the first: /registry/deployments/a/0000, /registry/deployments/a/0001, /registry/deployments/a/0002, /registry/deployments/a/0003, /registry/deployments/a/0004"
    );
    assert_eq!(pair.count("/registry/deployments/"), 30);

    // It stays so: in the next session, for another leader, and when the primary has forgotten its history.
    pair.again();
    let same = pair.stopped();
    pair.take_over();
    assert_eq!(pair.stopped(), same);
    pair.primary.compact(pair.primary.revision);
    pair.take_over();
    assert_eq!(pair.stopped(), same);
    assert_eq!(pair.count("/registry/deployments/"), 30);
}

#[test]
fn nothing_of_a_revision_is_applied_before_all_of_it_has_come() {
    let mut pair = with(&[objects("deployments", "a", 30)]);
    pair.part_max = 7;
    pair.delete_below("/registry/deployments/");
    pair.run();
    assert_eq!(pair.stopped().1.deletions, 30);
    assert_eq!(pair.count("/registry/deployments/"), 30);
    pair.accept();
    pair.again();
    pair.must_be_equal();
}

#[test]
fn the_answer_lets_it_through_and_is_used_up() {
    let mut pair = with(&[objects("deployments", "a", 30)]);
    pair.delete_below("/registry/deployments/");
    pair.run();
    pair.stopped();
    pair.accept();
    pair.again();
    pair.must_be_equal();
    assert!(pair.is_answered());
    pair.wait(61_000);
    assert!(!pair.is_answered(), "the answer is used up");

    // The next one is another question.
    for key in objects("deployments", "a", 25) {
        pair.put(&key, false);
    }
    pair.wait(61_000);
    pair.delete_below("/registry/deployments/");
    pair.run();
    assert_eq!(pair.stopped().1.deletions, 25);
}

#[test]
fn an_answer_is_void_after_an_hour() {
    let mut pair = with(&[objects("deployments", "a", 30)]);
    pair.delete_below("/registry/deployments/");
    pair.run();
    pair.accept();
    pair.now_ms += 3_600_000;
    pair.again();
    pair.stopped();
}

#[test]
fn an_answer_survives_a_change_of_leader_and_covers_what_comes_in_batches() {
    let mut pair = with(&[vec!["/registry/namespaces/big".into()], objects("configmaps", "big", 150)]);
    pair.put("/registry/namespaces/big", true);
    pair.run();
    let (_, losses) = pair.stopped();
    assert_eq!((losses.deletions, losses.groups.len()), (151, 2));
    pair.accept();
    pair.again();
    for key in objects("configmaps", "big", 75) {
        pair.delete(&key);
    }
    pair.wait(50_000);
    pair.take_over();
    pair.delete_below("/registry/configmaps/big/");
    pair.run();
    pair.must_be_equal();
    pair.delete("/registry/namespaces/big");
    pair.wait(61_000);
    pair.must_be_equal();
    assert!(!pair.is_answered());
}

#[test]
fn an_answer_holds_through_a_copy() {
    let mut pair = with(&[objects("deployments", "a", 30)]);
    pair.delete_below("/registry/deployments/");
    pair.run();
    pair.stopped();
    pair.primary.compact(pair.primary.revision);
    pair.accept();
    pair.again();
    pair.must_be_equal();
    pair.wait(61_000);
    assert!(!pair.is_answered());
}

#[test]
fn a_marked_namespace_counts_as_all_that_it_contains() {
    let mut pair = with(&[
        vec!["/registry/namespaces/big".into()],
        objects("configmaps", "big", 60),
        objects("example.com/widgets", "big", 60),
    ]);
    let mark = put("/registry/namespaces/big", true);
    pair.put("/registry/namespaces/big", true);
    pair.run();
    let (evidence, losses) = pair.stopped();
    assert!(evidence.starts_with("121 keys of this standby are deleted on the primary within 60 s"), "{evidence}");
    assert!(
        losses.summary().starts_with("60 configmaps in big, 60 widgets.example.com in big, 1 namespaces"),
        "{}",
        losses.summary()
    );
    let here = pair.standby.get(b"/registry/namespaces/big").expect("it stays").value.clone();
    assert!(
        !format!("{mark:?}").is_empty() && !String::from_utf8_lossy(&here).contains("2026"),
        "the mark was written"
    );
}

#[test]
fn an_ordinary_namespace_passes_without_delay() {
    let inside = [objects("configmaps", "small", 30), objects("secrets", "small", 20)].concat();
    let mut pair = with(&[vec!["/registry/namespaces/small".into()], inside.clone()]);
    pair.put("/registry/namespaces/small", true);
    let before = pair.now_ms;
    pair.run();
    assert!(pair.now_ms < before + 5_000);
    // Its contents were counted with the mark: 51 and not 102.
    for key in inside {
        pair.put(&key, true);
        pair.delete(&key);
    }
    pair.delete("/registry/namespaces/small");
    pair.run();
    pair.must_be_equal();
    // Changes of what is marked already count nothing, not even for a process that did not see the mark.
    pair.take_over();
    pair.must_be_equal();
}

#[test]
fn a_namespace_that_was_marked_long_ago_is_not_counted_again() {
    let mut pair = with(&[vec!["/registry/namespaces/stuck".into()], objects("configmaps", "stuck", 90)]);
    pair.put("/registry/namespaces/stuck", true);
    pair.wait(61_000);
    pair.take_over();
    for _ in 0..5 {
        pair.put("/registry/namespaces/stuck", true);
        pair.run();
    }
    pair.must_be_equal();
}

#[test]
fn a_crd_with_objects_stops_marked_or_deleted() {
    for marked in [true, false] {
        let mut pair = with(&[
            vec![WIDGETS_CRD.into()],
            objects("example.com/widgets", "a", 2),
            objects("example.com/widgets", "b", 1),
        ]);
        if marked {
            pair.put(WIDGETS_CRD, true)
        } else {
            pair.delete(WIDGETS_CRD)
        }
        pair.run();
        let (evidence, losses) = pair.stopped();
        assert_eq!(
            evidence,
            "the CRD widgets.example.com is deleted on the primary, or marked for deletion, and this standby has 3 objects of it"
        );
        assert_eq!(losses.groups.len(), 3);
        pair.accept();
        pair.again();
        pair.delete_below("/registry/example.com/widgets/");
        pair.run();
        if marked {
            pair.delete(WIDGETS_CRD)
        }
        pair.run();
        pair.must_be_equal();
    }
}

#[test]
fn a_crd_without_objects_passes_also_right_after_its_last_object() {
    let mut pair = with(&[vec![WIDGETS_CRD.into()], objects("example.com/widgets", "a", 3)]);
    pair.delete_below("/registry/example.com/widgets/");
    pair.put(WIDGETS_CRD, true);
    pair.delete(WIDGETS_CRD);
    pair.run();
    pair.must_be_equal();
}

#[test]
fn one_by_one_it_stops_at_the_limit_and_goes_no_further() {
    let mut pair = with(&[]);
    let keys: Vec<String> = (0..10).flat_map(|i| objects("configmaps", &format!("ns-{i}"), 20)).collect();
    for key in &keys {
        pair.delete(key);
    }
    pair.run();
    assert!(pair.stopped().0.contains("101 keys"), "{}", pair.stopped().0);
    let left = pair.count("/registry/configmaps/");
    assert!(left >= 700, "{left} of 800 are left");
    // Neither a new session nor a new process takes another hundred.
    for _ in 0..3 {
        pair.again();
        pair.stopped();
        pair.take_over();
        pair.stopped();
    }
    assert_eq!(pair.count("/registry/configmaps/"), left);
}

#[test]
fn a_broken_watch_does_not_begin_the_minute_again() {
    let mut pair = with(&[]);
    for (i, key) in (0..8).flat_map(|i| objects("configmaps", &format!("ns-{i}"), 20)).enumerate() {
        pair.delete(&key);
        if i % 30 == 29 {
            pair.run();
            pair.daemon.drop_session();
        }
        if pair.daemon.refused.is_some() {
            break;
        }
    }
    pair.run();
    pair.stopped();
    assert!(pair.count("/registry/configmaps/") >= 700);
}

#[test]
fn the_last_objects_of_a_resource_one_by_one() {
    let mut pair = with(&[objects("deployments", "a", 30)]);
    for key in objects("deployments", "a", 30) {
        pair.delete(&key);
        if pair.daemon.refused.is_none() {
            pair.run();
        }
    }
    let (evidence, losses) = pair.stopped();
    assert!(evidence.ends_with("; 29 of them are gone here already"), "{evidence}");
    assert_eq!((losses.deletions, pair.count("/registry/deployments/")), (1, 1));
}

#[test]
fn a_mark_and_its_deletion_are_one_loss() {
    let mut pair = with(&[]);
    let keys: Vec<String> = (0..4).flat_map(|i| objects("configmaps", &format!("ns-{i}"), 20)).collect();
    for key in &keys {
        pair.put(key, true);
    }
    pair.run();
    for key in &keys {
        pair.put(key, true);
        pair.delete(key);
    }
    pair.run();
    pair.must_be_equal();
}

#[test]
fn what_is_created_again_is_no_loss() {
    let mut pair = with(&[objects("deployments", "a", 30)]);
    for key in objects("deployments", "a", 30) {
        pair.delete(&key);
        pair.put(&key, false);
    }
    // And what was not there before, either.
    for round in 0..10 {
        for key in objects("statefulsets", "a", 30) {
            pair.put(&format!("{key}-{round}"), false);
            pair.delete(&format!("{key}-{round}"));
        }
    }
    pair.run();
    pair.must_be_equal();
}

#[test]
fn new_objects_do_not_hide_that_all_old_ones_go() {
    let mut pair = with(&[objects("deployments", "a", 30)]);
    for key in objects("deployments", "new", 30) {
        pair.put(&key, false);
    }
    pair.delete_below("/registry/deployments/a/");
    pair.run();
    assert!(pair.stopped().0.starts_with("all 30 deployments"));
}

#[test]
fn kinds_that_turn_over_by_themselves_may_lose_all() {
    let mut pair = with(&[objects("jobs", "a", 30), objects("tekton.dev/taskruns", "a", 30)]);
    pair.delete_below("/registry/jobs/");
    pair.delete_below("/registry/tekton.dev/taskruns/");
    pair.run();
    pair.must_be_equal();
}

#[test]
fn local_objects_are_neither_losses_nor_survivors() {
    let mut pair = with(&[objects("deployments", "a", 30)]);
    for key in objects("deployments", "here", 40) {
        pair.standby.write(vec![put(&key, false)]);
    }
    pair.run();
    pair.primary.write(objects("deployments", "a", 30).iter().map(|key| delete(key)).collect());
    pair.run();
    assert!(pair.stopped().0.starts_with("all 30 deployments"), "{:?}", pair.stopped());
    assert_eq!(pair.count("/registry/deployments/"), 70);
}

#[test]
fn more_is_allowed_where_there_is_more() {
    let all: Vec<String> = (0..150).flat_map(|i| objects("configmaps", &format!("ns-{i}"), 20)).collect();
    let mut pair = Pair::with(LIMITS, all.clone());
    for key in &all[..150] {
        pair.delete(key);
    }
    pair.run();
    pair.must_be_equal();
    for key in &all[150..152] {
        pair.delete(key);
    }
    pair.run();
    assert!(pair.stopped().0.contains("the limit is 150"), "{}", pair.stopped().0);
}

#[test]
fn each_part_can_be_turned_off() {
    let stops = |limits: BrakeLimits| {
        let widgets = objects("example.com/widgets", "a", 3);
        let mut pair =
            Pair::with(limits, [much(), objects("deployments", "a", 30), vec![WIDGETS_CRD.into()], widgets].concat());
        pair.delete_below("/registry/configmaps/");
        pair.run();
        let keys = pair.daemon.refused.take().is_some();
        let mut pair = Pair::with(limits, [much(), objects("deployments", "a", 30)].concat());
        pair.delete_below("/registry/deployments/");
        pair.run();
        let resource = pair.daemon.refused.take().is_some();
        let mut pair = Pair::with(limits, [vec![WIDGETS_CRD.into()], objects("example.com/widgets", "a", 3)].concat());
        pair.put(WIDGETS_CRD, true);
        pair.run();
        (keys, resource, pair.daemon.refused.is_some())
    };
    assert_eq!(stops(LIMITS), (true, true, true));
    assert_eq!(stops(BrakeLimits { keys: 0, resource_keys: 0, ..LIMITS }), (false, false, true));
    assert_eq!(stops(BrakeLimits { keys: 0, crd: false, ..LIMITS }), (true, true, false));
    assert_eq!(stops(BrakeLimits { resource_keys: 0, crd: false, ..LIMITS }), (true, false, false));
    assert_eq!(stops(BrakeLimits::OFF), (false, false, false));
}

#[test]
fn turned_off_it_goes_on_from_where_it_was_stopped() {
    let mut pair = with(&[objects("deployments", "a", 30)]);
    pair.delete_below("/registry/deployments/");
    pair.run();
    pair.stopped();
    pair.daemon.brake = BrakeLimits::OFF;
    pair.again();
    pair.must_be_equal();
}
