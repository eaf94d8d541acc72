use bytes::Bytes;

use super::*;
use crate::fixture;
use crate::procedure::{Command, Outcome as Ended, Run, State, Step};
use etcd_sync_core::etcd::request::{Compare, Op};
use etcd_sync_core::link::history::Witness;
use etcd_sync_core::link::rejoining::take_role;
use etcd_sync_core::link::role::How;
use etcd_sync_core::link::state::StateKeys;

const OLD: u64 = 0xa1;
const NEW: u64 = 0xb2;

fn kv(value: &'static str, create_revision: Revision, mod_revision: Revision) -> KeyValue {
    let (key, value) = (Bytes::from_static(b"/registry/configmaps/apps/a"), Bytes::from_static(value.as_bytes()));
    KeyValue { key, value, create_revision, mod_revision, lease: 0 }
}

fn promotion() -> Promotion {
    Promotion {
        format: Promotion::FORMAT,
        run: "2026-01-02-f3a9".into(),
        how: How::Failover,
        primary: cluster_id_text(OLD),
        revision: 100,
        offset: 0,
        at_ms: 1_000,
    }
}

fn checkpoint(primary: u64) -> Checkpoint {
    Checkpoint {
        primary: cluster_id_text(primary),
        revision: 100,
        writes: 3,
        witness: Witness::new(b"/registry/a", 99, Some(b"v"), true),
        scope: "s".into(),
        at_ms: 1,
        ..fixture::checkpoint()
    }
}

fn rejoining() -> Rejoining {
    Rejoining {
        format: Rejoining::FORMAT,
        primary: cluster_id_text(NEW),
        from: 140,
        file: "saved.jsonl".into(),
        saved: 3,
        at_ms: 5,
        done: false,
    }
}

fn facts() -> Facts {
    Facts {
        old_cluster: OLD,
        new_cluster: NEW,
        old_revision: 140,
        old_role: Role::Primary,
        new_role: Role::Primary,
        old_checkpoint: None,
        rejoining: None,
        promotion: Some((promotion(), 50)),
        new_checkpoint: Some(checkpoint(OLD)),
        witness_recognized: Some(true),
        scope: "s".into(),
        accept_other_history: false,
    }
}

fn judged(facts: Facts) -> Result<Stand, Refusal> {
    stand(&facts, "/etcd-sync/default/role", "/etcd-sync/default/promotion")
}

const DIVERGENCE: Divergence = Divergence { revision: 100, offset: 0, promoted: 50 };

#[test]
fn the_promotion_says_where_they_part() {
    for old_role in [Role::None, Role::Primary, Role::Demoted { token: "r".into() }] {
        assert_eq!(judged(Facts { old_role, ..facts() }), Ok(Stand::Apart(DIVERGENCE)));
    }
    // What is compacted refutes nothing.
    assert_eq!(judged(Facts { witness_recognized: None, ..facts() }), Ok(Stand::Apart(DIVERGENCE)));
}

#[test]
fn what_does_not_fit_is_refused() {
    let refused = |facts| judged(facts).unwrap_err();
    assert!(matches!(refused(Facts { new_cluster: OLD, ..facts() }), Refusal::SameCluster { .. }));
    for new_role in [Role::None, Role::Standby, Role::Demoted { token: "r".into() }] {
        assert!(matches!(refused(Facts { new_role, ..facts() }), Refusal::NotPromoted { .. }));
    }
    assert!(matches!(refused(Facts { promotion: None, ..facts() }), Refusal::NoPromotion { .. }));
    assert!(matches!(refused(Facts { old_cluster: 0xc3, ..facts() }), Refusal::OtherCluster { .. }));
    assert!(matches!(refused(Facts { scope: "t".into(), ..facts() }), Refusal::OtherScope));
    let odd = Role::Other("PRIMARY".into());
    assert!(matches!(refused(Facts { old_role: odd, ..facts() }), Refusal::UnknownRole { .. }));
    let elsewhere = Facts { old_role: Role::Standby, old_checkpoint: Some(checkpoint(0xc3)), ..facts() };
    assert!(matches!(refused(elsewhere), Refusal::OtherPrimary { .. }));
}

#[test]
fn another_history_needs_a_word_and_nothing_counts_as_copied_then() {
    for other in [Facts { old_revision: 99, ..facts() }, Facts { witness_recognized: Some(false), ..facts() }] {
        assert!(matches!(judged(other.clone()), Err(Refusal::OtherHistory { .. })));
        let stand = judged(Facts { accept_other_history: true, ..other });
        assert_eq!(stand, Ok(Stand::Apart(Divergence { revision: 0, ..DIVERGENCE })));
    }
}

#[test]
fn a_second_run_goes_on_or_has_nothing_to_do() {
    let standby = Facts { old_role: Role::Standby, old_checkpoint: Some(checkpoint(NEW)), ..facts() };
    assert_eq!(judged(standby.clone()), Ok(Stand::Standby(Phase::Streaming)));
    let begun = Facts { rejoining: Some(rejoining()), ..standby.clone() };
    assert_eq!(judged(begun), Ok(Stand::Begun(rejoining())));
    let done = Rejoining { done: true, ..rejoining() };
    assert_eq!(judged(Facts { rejoining: Some(done), ..standby }), Ok(Stand::Standby(Phase::Streaming)));
    // What an earlier life has left is no reason for anything.
    assert_eq!(judged(Facts { rejoining: Some(rejoining()), ..facts() }), Ok(Stand::Apart(DIVERGENCE)));
}

#[test]
fn every_key_means_something() {
    let both = |old: KeyValue, new: KeyValue| {
        let pair =
            Pair { old: Some(&old), new: Some(&new), old_filtered: false, new_filtered: false, new_is_local: false };
        judge(pair, &DIVERGENCE)
    };
    let unreplicated = |change, replaced, both| Found::Unreplicated { change, replaced, both };
    assert_eq!(both(kv("a", 5, 90), kv("a", 5, 20)), Found::Same { later: false });
    assert_eq!(both(kv("a", 5, 120), kv("a", 5, 20)), Found::Same { later: true });
    assert_eq!(both(kv("a", 5, 101), kv("b", 5, 20)), unreplicated(Change::Changed, true, false));
    assert_eq!(both(kv("a", 5, 101), kv("b", 5, 60)), unreplicated(Change::Changed, true, true));
    assert_eq!(both(kv("a", 101, 101), kv("b", 55, 60)), unreplicated(Change::Created, true, true));
    assert_eq!(both(kv("a", 5, 100), kv("b", 5, 60)), Found::Replaced);

    let old_only = |old: KeyValue, old_filtered| {
        let pair = Pair { old: Some(&old), new: None, old_filtered, new_filtered: false, new_is_local: false };
        judge(pair, &DIVERGENCE)
    };
    assert_eq!(old_only(kv("a", 101, 102), false), unreplicated(Change::Created, false, false));
    assert_eq!(old_only(kv("a", 5, 102), false), unreplicated(Change::Changed, false, true));
    assert_eq!(old_only(kv("a", 5, 90), false), Found::OnlyOld);
    assert_eq!(old_only(kv("a", 101, 102), true), Found::Own);

    let new_only = |new: KeyValue, new_is_local, new_filtered| {
        judge(Pair { old: None, new: Some(&new), old_filtered: false, new_filtered, new_is_local }, &DIVERGENCE)
    };
    assert_eq!(new_only(kv("a", 50, 70), false, false), Found::DeletedHere);
    assert_eq!(new_only(kv("a", 51, 70), false, false), Found::New);
    assert_eq!(new_only(kv("a", 40, 70), true, false), Found::New);
    assert_eq!(new_only(kv("a", 40, 70), false, true), Found::Ignored);
}

#[test]
fn what_the_new_primary_filters_is_not_compared() {
    let (old, new) = (kv("a", 5, 101), kv("b", 5, 60));
    let pair =
        |old_filtered| Pair { old: Some(&old), new: Some(&new), old_filtered, new_filtered: true, new_is_local: false };
    assert_eq!(judge(pair(true), &DIVERGENCE), Found::Own);
    assert!(judge(pair(false), &DIVERGENCE).is_lost());
}

#[test]
fn all_of_a_revision_that_arrived_in_parts_counts_as_later() {
    let divergence = Divergence { offset: 3, ..DIVERGENCE };
    assert!(divergence.is_later(&kv("a", 5, 100)) && !divergence.is_later(&kv("a", 5, 99)));
    assert!(!DIVERGENCE.is_later(&kv("a", 5, 100)));
}

#[test]
fn the_role_changes_only_as_it_was_read_and_the_copy_takes_old_keys_for_mirrored() {
    let keys = StateKeys::new("default");
    let txn = take_role(&keys, None, &rejoining(), "s", 3, 7);
    assert!(matches!(&txn.compares[..], [Compare::ModRevision { revision: 0, .. }]));
    let record = txn.success.iter().find_map(|op| match op {
        Op::Put { key, value, .. } if *key == keys.checkpoint => Checkpoint::decode(value).ok(),
        _ => None,
    });
    let record = record.unwrap();
    assert_eq!((record.phase, record.seen, record.base, record.writes), (Phase::Resync, 140, 0, 4));
    assert_eq!((record.accepted_deletions, record.primary), (Some(7), cluster_id_text(NEW)));
    for key in [&keys.promotion, &keys.copied, &keys.condition] {
        assert!(txn.success.contains(&Op::Delete { key: key.clone() }));
    }
    assert_eq!(Rejoining::decode(&rejoining().encode()), Ok(rejoining()));
}

fn plan() -> Plan {
    let mut plan = Plan::new("default", [cluster_id_text(OLD), cluster_id_text(NEW)], DIVERGENCE, promotion());
    (plan.looked_at, plan.now_ms) = (140, 11_522_000);
    let written = |change, replaced, both| Found::Unreplicated { change, replaced, both };
    let mut add = |name: &str, found, revision, origin| {
        plan.add(format!("/registry/configmaps/team-a/{name}").as_bytes(), found, revision, origin);
    };
    add("made", written(Change::Created, false, false), 120, Origin::Unknown);
    add("made-twice", written(Change::Created, true, true), 121, Origin::Unknown);
    add("changed", written(Change::Changed, true, false), 122, Origin::Unknown);
    add("changed-twice", written(Change::Changed, true, true), 123, Origin::Unknown);
    add("deleted-there", written(Change::Changed, false, true), 124, Origin::Unknown);
    add("deleted", Found::DeletedHere, 40, Origin::Unknown);
    add("gone", Found::OnlyOld, 80, Origin::DeletedThere);
    add("missed", Found::OnlyOld, 81, Origin::Missed);
    add("who-knows", Found::OnlyOld, 82, Origin::Unknown);
    for found in [Found::Replaced, Found::New, Found::Same { later: false }, Found::Same { later: true }, Found::Own] {
        add("other", found, 1, Origin::Unknown);
    }
    plan
}

fn outcome() -> Outcome {
    Outcome {
        file: Some("/backup/etcd-sync-rejoin-default-20260102T030405.678Z.jsonl".into()),
        saved: 9,
        later_file: Some("/backup/etcd-sync-rejoin-default-20260102T030405.678Z.jsonl.later".into()),
        later: 2,
        later_deleted: 1,
        untold: Some((140, 180)),
        role_changed: true,
        revision: 77,
        proof: Some(Proof::Complete { revision: 77, compared: 3_201 }),
        synchronizer: false,
    }
}

#[test]
fn the_text_is_as_documented() {
    let differs = Proof::Differs { revision: 78, missed: 2, mismatched: 1 };
    let text = format!(
        "{}---\n{}---\n{}---\n{}",
        plan().text(100),
        Plan { divergence: Divergence { offset: 3, ..DIVERGENCE }, ..plan() }.text(1),
        outcome().text(),
        Outcome { proof: Some(differs), synchronizer: true, ..Outcome::default() }.text()
    );
    assert_eq!(text, include_str!("golden.txt"), "\n{text}");
    for line in text.lines().filter(|line| !line.contains("/registry/") && !line.contains(".jsonl")) {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

#[test]
fn the_counts_add_up() {
    let plan = plan();
    assert_eq!((plan.to_save(), plan.deletions(), plan.overwrites(), plan.creations()), (9, 5, 4, 2));
    let json = plan.json();
    assert_eq!(json["unreplicated"]["count"], 5);
    assert_eq!(json["unreplicated"]["keys"][0]["change"], "created");
    assert_eq!(json["onlyHere"]["keys"][1]["origin"], "missed");
    assert_eq!(json["toSave"], 9);
}

#[test]
fn lists_are_bounded_and_counts_are_not() {
    let mut plan = plan();
    for _ in 0..etcd_sync_core::compare::check::KEPT_MAX {
        plan.add(b"/registry/configmaps/a/b", Found::DeletedHere, 1, Origin::Unknown);
    }
    assert_eq!(plan.deleted_here.first.len(), etcd_sync_core::compare::check::KEPT_MAX);
    assert_eq!(plan.deleted_here.count, etcd_sync_core::compare::check::KEPT_MAX as u64 + 1);
}

/// The steps of a whole run as the journal has them.
#[test]
fn the_journal_tells_the_story() {
    let plan = plan();
    let mut run =
        Run::new("20260102T030405Z-f3a9".into(), Command::Rejoin, "default", plan.steps("/safe/rejoin.jsonl"));
    let mut done = Outcome {
        file: Some("/safe/rejoin.jsonl".into()),
        saved: 9,
        later_file: Some("/safe/rejoin.jsonl.later".into()),
        later: 1,
        later_deleted: 2,
        revision: 210,
        ..Outcome::default()
    };
    let proof = Proof::Complete { revision: 211, compared: 40 };
    let mut at_ms = 0;
    let mut take = |run: &mut Run, step: Step, outcome: Option<Ended>| {
        run.begin(step, at_ms);
        at_ms += 1_500;
        outcome.into_iter().for_each(|outcome| run.end(outcome, at_ms));
    };
    run.attempt("ada@bastion", 0);
    take(&mut run, Step::FindDivergence, Some(plan.found()));
    take(&mut run, Step::Save, Some(done.saved_words()));
    // Killed here, behind the change of the role.
    take(&mut run, Step::TakeRole, None);
    run.attempt("ada@bastion", 60_000);
    take(&mut run, Step::TakeRole, settled_before(&rejoining(), Step::TakeRole));
    take(&mut run, Step::Converge, Some(done.converged_words()));
    // And here.
    take(&mut run, Step::Prove, None);
    run.attempt("ada@bastion", 120_000);
    assert_eq!(run.next(), Some(Step::Converge), "the copy goes on until it is proved");
    done.later_file = None;
    done.later_deleted = 0;
    take(&mut run, Step::Converge, Some(done.converged_words()));
    take(&mut run, Step::Prove, Some(proof.words()));
    assert_eq!(run.state, State::Completed);
    let text = format!("{}\n{}", run.plan_text(), run.text());
    assert_eq!(text, include_str!("journal.txt"), "\n{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}

#[test]
fn a_run_that_finds_the_role_changed_says_who_did_what() {
    let rejoining = rejoining();
    let steps: Vec<Step> = remaining_steps(&rejoining).into_iter().map(|planned| planned.step).collect();
    assert_eq!(steps, Command::Rejoin.steps());
    assert_eq!(steps, plan().steps("f").into_iter().map(|planned| planned.step).collect::<Vec<_>>());
    let settled: Vec<Step> = steps.into_iter().filter(|step| settled_before(&rejoining, *step).is_some()).collect();
    assert_eq!(settled, [Step::FindDivergence, Step::Save, Step::TakeRole]);
    assert_eq!(settled_before(&rejoining, Step::Save), Some(Ended::Done("3 values saved in saved.jsonl".into())));
    let nothing = Rejoining { saved: 0, file: String::new(), ..rejoining };
    assert!(matches!(settled_before(&nothing, Step::Save), Some(Ended::Skipped(_))));
}

#[test]
fn what_is_not_good_is_a_warning_in_the_journal() {
    let untold = Outcome { untold: Some((5, 9)), ..Outcome::default() };
    assert!(
        matches!(untold.converged_words(), Ended::Warned(words) if words.contains("between the revisions 5 and 9"))
    );
    let differs = Proof::Differs { revision: 7, missed: 1, mismatched: 2 };
    assert!(
        matches!(differs.words(), Ended::Warned(words) if words.contains("1 key missed here and 2 values different"))
    );
}
