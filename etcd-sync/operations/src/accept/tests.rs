//! Tests of what is judged, shown and covered.

use etcd_sync_core::link::question::Losses;
use etcd_sync_core::scope::ScopeConfig;

use super::*;
use crate::fixture::checkpoint;
use crate::text::WIDTH;

fn scope() -> Scope {
    Scope::new(&ScopeConfig::default()).unwrap()
}

fn kv(name: &str, value: &'static str, revisions: (Revision, Revision)) -> KeyValue {
    let (key, value) = (Bytes::from(format!("/registry/{name}")), Bytes::from_static(value.as_bytes()));
    KeyValue { key, value, create_revision: revisions.0, mod_revision: revisions.1, lease: 0 }
}

fn question(topic: Topic) -> Question {
    Question {
        format: Question::FORMAT,
        topic,
        evidence: "its revision went back from 153 to 60".into(),
        primary: "c1".into(),
        losses: None,
        asked_ms: 0,
        holder: "pod-a".into(),
    }
}

fn judge<'a>(scope: &'a Scope, keyring: &'a Keyring, replaced: Replaced) -> Judge<'a> {
    Judge {
        scope,
        keyring,
        kinds: Kinds::default(),
        moments: Moments { base: 5, seen: 50, last_write: 60, began: 90 },
        local: HashSet::from([Bytes::from_static(b"/registry/configmaps/apps/local")]),
        edited: HashSet::from([Bytes::from_static(b"/registry/configmaps/apps/edited")]),
        replaced,
        going: None,
    }
}

#[test]
fn only_what_was_mirrored_is_lost() {
    let (scope, keyring) = (scope(), Keyring::default());
    let judge = judge(&scope, &keyring, Replaced::All);
    let lost = |name: &str, revisions| judge.judge(&kv(name, "v", revisions), None);
    assert_eq!(lost("configmaps/apps/a", (10, 10)), Some(Loss::Deleted));
    assert_eq!(lost("configmaps/apps/local", (10, 10)), None);
    assert_eq!(lost("configmaps/apps/before-the-link", (4, 4)), None);
    assert_eq!(lost("configmaps/apps/after-the-daemon", (70, 70)), None);
    assert_eq!(lost("configmaps/apps/not-looked-at", (55, 55)), Some(Loss::Undecided));
    // Here a configmap of a filtered owner would be: content decides about the primary's.
    let both = |ours: &'static str, theirs: &'static str| {
        judge.judge(&kv("configmaps/apps/a", ours, (10, 10)), Some(&kv("configmaps/apps/a", theirs, (1, 900))))
    };
    assert_eq!((both("1", "1"), both("1", "2")), (None, Some(Loss::Replaced)));
}

#[test]
fn what_is_newer_on_the_primary_is_no_loss_in_the_history_that_was_followed() {
    let (scope, keyring) = (scope(), Keyring::default());
    let at = |revision| checkpoint_at("c1", revision);
    for (topic, mirrored_only) in [(Topic::Deletions, true), (Topic::Unproved, false)] {
        let replaced = Replaced::of(&question(topic), &at(153));
        assert_eq!(replaced, Replaced::ByOlder { floor: 153, mirrored_only });
        let judge = judge(&scope, &keyring, replaced);
        let lost =
            |name: &str, revision| judge.judge(&kv(name, "ours", (10, 10)), Some(&kv(name, "theirs", (1, revision))));
        assert_eq!(lost("configmaps/apps/a", 154), None);
        assert_eq!(lost("configmaps/apps/a", 153), Some(Loss::Replaced));
        assert_eq!(lost("configmaps/apps/edited", 153), (!mirrored_only).then_some(Loss::Replaced));
    }
    assert_eq!(Replaced::of(&question(Topic::OtherHistory), &at(153)), Replaced::All);
    assert_eq!(Replaced::of(&question(Topic::Deletions), &at(0)), Replaced::All);
    assert_eq!(Replaced::of(&question(Topic::Deletions), &checkpoint_at("c9", 153)), Replaced::All);
}

/// A mark for deletion on the primary is as good as the deletion: the standby's own controllers follow it.
#[test]
fn what_is_marked_for_deletion_is_lost_with_all_that_it_contains() {
    const MARKED: &str =
        r#"{"kind":"Namespace","apiVersion":"v1","metadata":{"name":"n","deletionTimestamp":"2026-01-01T00:00:00Z"}}"#;
    const PLAIN: &str = r#"{"kind":"Namespace","apiVersion":"v1","metadata":{"name":"n"}}"#;
    let (scope, keyring) = (scope(), Keyring::default());
    let mut going = Going::default();
    for (name, value) in [
        ("namespaces/going", MARKED),
        ("namespaces/stays", PLAIN),
        ("apiextensions.k8s.io/customresourcedefinitions/widgets.example.com", MARKED),
    ] {
        going.learn(&scope, &keyring, &kv(name, value, (1, 1)));
    }
    let judge =
        Judge { going: Some(going), ..judge(&scope, &keyring, Replaced::ByOlder { floor: 9, mirrored_only: true }) };
    let lost = |name: &str, theirs: &'static str| {
        judge.judge(&kv(name, PLAIN, (10, 10)), Some(&kv(name, theirs, (1, 900)))).is_some()
    };
    for name in ["namespaces/going", "configmaps/going/a", "example.com/widgets/stays/a", "configmaps/going/local"] {
        assert!(lost(name, PLAIN), "{name}");
    }
    for name in ["namespaces/stays", "configmaps/stays/a", "example.com/gadgets/stays/a"] {
        assert!(!lost(name, PLAIN), "{name}");
    }
    assert!(lost("configmaps/stays/a", MARKED));
}

#[test]
fn what_the_synchronizer_counted_is_shown_beside_it() {
    let mut plan = plan(Topic::Brake);
    let mut losses = Losses::default();
    losses.add_deletion(&scope(), b"/registry/configmaps/apps/a");
    losses.add_deletion(&scope(), b"/registry/secrets/other/a");
    plan.question.losses = Some(losses.clone());
    let text = plan.text(9);
    for row in [
        "   DELETED  REPLACED     ASKED  RESOURCE    NAMESPACE\n",
        "         2         0         1  configmaps  apps\n",
        "         0         0         1  secrets     other\n",
    ] {
        assert!(text.contains(row), "{text}");
    }
    let nothing_now = Plan { compared: true, ..Plan::new("default", plan.question.clone(), 1) };
    let text = nothing_now.text(9);
    assert!(text.contains("secrets     other") && !text.contains("The first keys"), "{text}");
}

fn checkpoint_at(primary: &str, revision: Revision) -> Checkpoint {
    Checkpoint { primary: primary.into(), revision, ..checkpoint() }
}

fn plan(topic: Topic) -> Plan {
    let mut plan = Plan::new("default", question(topic), 60_000);
    plan.compared = true;
    for (name, loss) in [
        ("configmaps/apps/a", Loss::Deleted),
        ("configmaps/apps/b", Loss::Undecided),
        ("namespaces/apps", Loss::Deleted),
        ("secrets/apps/a", Loss::Replaced),
    ] {
        plan.add(&scope(), &kv(name, "value", (1, 1)), loss, 2);
    }
    plan
}

#[test]
fn the_text_of_a_question() {
    let text = plan(Topic::OtherHistory).text(2);
    let expected = "\
Link default is paused: the primary's history is not the one that this standby
was synchronized from; it was restored from a backup most likely.
Found: its revision went back from 153 to 60.
Asked by pod-a at 1970-01-01T00:00:00Z, 1m ago.

This standby would lose, by a comparison made now:
  3  keys, deleted
  1  values, replaced by those of the primary
Of the deleted, 1 may be the standby's own and stay: its history is asked when
the copy comes to them.

   DELETED  REPLACED  RESOURCE    NAMESPACE
         2         0  configmaps  apps
         1         0  namespaces  -
  … and 1 more (--limit 0 shows all)

The first keys:
  deleted   /registry/configmaps/apps/a
  deleted   /registry/configmaps/apps/b
  … and 2 more (--limit 0 shows all)

The answer is good once and for 1h, for this primary as it is now, and for these
resources and namespaces, however many keys of them.

The other way out: if this standby holds the newer data, do not accept.
`etcd-sync failover` promotes it and keeps the newer data.
";
    assert_eq!(text, expected);
    assert_eq!(plan(Topic::OtherHistory).confirmation(), "4");
}

#[test]
fn every_topic_has_a_text_that_fits() {
    for topic in [
        Topic::OtherPrimary,
        Topic::OtherHistory,
        Topic::StandbyRestored,
        Topic::EmptyPrimary,
        Topic::Deletions,
        Topic::Unproved,
        Topic::Brake,
    ] {
        let text = plan(topic).text(9);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert_eq!(serde_json::to_value(topic).unwrap(), text::name(topic));
        assert_eq!(Plan::new("default", question(topic), 1).confirmation(), text::name(topic));
    }
}

#[test]
fn the_answer_covers_what_was_found_and_what_was_asked() {
    let mut plan = plan(Topic::Deletions);
    let mut losses = Losses::default();
    losses.add_deletion(&scope(), b"/registry/secrets/other/a");
    plan.question.losses = Some(losses);
    let answer = plan.acceptance(None, None, "me");
    for covered in ["configmaps/apps/z", "namespaces/other", "secrets/apps/a", "secrets/other/z"] {
        assert!(answer.covers(&scope(), format!("/registry/{covered}").as_bytes()), "{covered}");
    }
    assert!(!answer.covers(&scope(), b"/registry/configmaps/other/a"));
    assert!(answer.earlier.is_empty() && answer.is_good("c1", 60_000));
}

#[test]
fn too_many_groups_are_covered_in_all_namespaces() {
    let mut plan = plan(Topic::Deletions);
    for i in 0..GROUPS_MAX {
        plan.add(&scope(), &kv(&format!("configmaps/n{i}/a"), "v", (1, 1)), Loss::Deleted, 0);
    }
    let covered = plan.covered();
    assert_eq!(covered.len(), 3, "{covered:?}");
    let answer = plan.acceptance(None, None, "me");
    assert!(answer.covers(&scope(), b"/registry/configmaps/elsewhere/a"));
    assert!(!answer.covers(&scope(), b"/registry/services/specs/apps/a"));
    let words = plan.text(1).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("it covers the resources in all namespaces"), "{words}");
}

#[test]
fn an_answer_keeps_the_earlier_ones_that_are_good() {
    let first = plan(Topic::OtherPrimary).acceptance(None, None, "me");
    let second = plan(Topic::EmptyPrimary);
    let topics = |answer: Acceptance| answer.earlier.into_iter().map(|answered| answered.topic).collect::<Vec<_>>();
    let answer = second.acceptance(None, Some(&first), "me");
    assert_eq!(topics(answer.clone()), [Topic::OtherPrimary]);
    assert_eq!(topics(plan(Topic::Deletions).acceptance(None, Some(&answer), "me")).len(), 2);
    assert_eq!(topics(plan(Topic::OtherPrimary).acceptance(None, Some(&answer), "me")), [Topic::EmptyPrimary]);
    for other in [Acceptance { primary: "c9".into(), ..first.clone() }, Acceptance { given_ms: 0, ..first }] {
        let later = Plan { now_ms: 3_600_000, ..plan(Topic::EmptyPrimary) };
        assert!(topics(later.acceptance(None, Some(&other), "me")).is_empty());
    }
}

#[test]
fn the_answer_is_given_to_the_question_that_was_shown() {
    let keys = StateKeys::new("default");
    let plan = plan(Topic::Deletions);
    let role = kv("role", "standby", (1, 1));
    let reply = |role: Option<&KeyValue>, question: Option<&Question>| TxnReply {
        succeeded: false,
        revision: 9,
        gets: vec![
            role.cloned(),
            question.map(|question| KeyValue { value: question.encode(), ..kv("question", "", (7, 8)) }),
            Some(kv("checkpoint", "", (1, 1))),
        ],
    };
    let gave = |reply| gave(&reply, &plan.question);
    let again = Question { holder: "pod-b".into(), asked_ms: 7, ..plan.question.clone() };
    assert_eq!(gave(reply(Some(&role), Some(&again))), Ok(Gave::AskedAgain { question: 8, ran: true }));
    let other = Question { evidence: "another".into(), ..again };
    assert_eq!(gave(reply(Some(&role), Some(&other))), Err(Refusal::OtherQuestion));
    assert_eq!(gave(reply(Some(&role), None)), Err(Refusal::Withdrawn));
    let promoted = gave(reply(Some(&kv("role", "primary", (1, 1))), None));
    assert!(matches!(promoted, Err(Refusal::Role(_))), "{promoted:?}");
    assert!(may_answer(None, false).is_ok() && may_answer(None, true).is_err());
    let acceptance = plan.acceptance(None, None, "me");
    assert_eq!(giving(&keys, true, 8, &acceptance).compares.len(), 2);
    assert_eq!(giving(&keys, false, 8, &acceptance).compares.len(), 3);
}
