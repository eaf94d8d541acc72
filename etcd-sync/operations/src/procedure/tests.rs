use proptest::prelude::*;

use super::*;
use crate::text::{WIDTH, redacted_command};
use etcd_sync_core::link::state::{Phase, PrimaryContact};
use etcd_sync_core::object::{Header, Owner};

fn intent(command: Command) -> Intent {
    Intent {
        command,
        primary: "https://10.0.0.1:2379,https://10.0.0.2:2379".into(),
        standby: "https://10.1.0.1:2379,https://10.1.0.2:2379".into(),
        mark_primary_demoted: true,
        writers: WritersHow::Manual,
        dns: Some(Domain {
            name: "global.example.com".into(),
            addresses: vec!["10.1.0.10".into()],
            how: DnsHow::Update { server: "10.0.0.53:53".into() },
        }),
        inside: Some("cpaas-system/deployments/sentry".into()),
        restart_first: vec!["service_name=cpaas-elasticsearch".into()],
        restart: vec!["service_name in (alertmanager,vmselect,vminsert)".into()],
    }
}

fn run(command: Command) -> Run {
    let mut run = Run::new("20261121T100000Z-1a2b".into(), command, "default", plan(&intent(command)));
    run.attempt("ada@bastion", 0);
    run
}

fn done() -> Outcome {
    Outcome::Done("seen".into())
}

/// Takes steps until `stop`.
fn take(run: &mut Run, stop: Option<Step>) {
    let mut at_ms = 0;
    while let Some(step) = run.next().filter(|step| Some(*step) != stop) {
        run.begin(step, at_ms);
        run.end(done(), at_ms + 10);
        at_ms += 10;
    }
}

#[test]
fn the_role_changes_before_the_domain_does() {
    for command in [Command::Switchover, Command::Failover] {
        let at = |step| command.steps().iter().position(|other| *other == step).unwrap();
        assert!(at(Step::Promote) < at(Step::DnsSwitch));
    }
}

#[test]
fn a_run_goes_on_where_it_stopped_and_repeats_what_may_have_changed() {
    let mut run = run(Command::Switchover);
    take(&mut run, Some(Step::Promote));
    run.begin(Step::Promote, 100);
    // Killed here. What was seen of the writers says nothing about now.
    run.attempt("ada@bastion", 200);
    assert_eq!(run.next(), Some(Step::Preflight));
    take(&mut run, Some(Step::StopWriters));
    assert_eq!(run.next(), Some(Step::StopWriters));
    take(&mut run, Some(Step::DnsSwitch));
    run.begin(Step::DnsSwitch, 300);
    run.end(Outcome::Failed("refused".into()), 310);
    assert_eq!((run.next(), run.state), (Some(Step::DnsSwitch), State::Open));
    // Behind the promotion nothing of it is looked at again.
    run.attempt("bob@bastion", 400);
    assert_eq!(run.next(), Some(Step::DnsSwitch));
    take(&mut run, None);
    assert_eq!((run.next(), run.state), (None, State::Completed));
    assert_eq!(Run::decode(&run.encode()), Ok(run));
}

#[test]
fn what_is_left_may_be_planned_again_once_the_roles_have_changed() {
    let other = |what: &str| {
        let mut plan = plan(&intent(Command::Switchover));
        plan.iter_mut().find(|planned| planned.step.name() == what).unwrap().what = "something else".into();
        plan
    };
    let mut run = run(Command::Switchover);
    take(&mut run, Some(Step::Promote));
    assert_eq!(run.replan(&other("promote")), Err(Step::Promote));
    assert_eq!(run.replan(&other("stop-writers")), Err(Step::StopWriters));
    assert_eq!(run.replan(&other("dns-switch")), Ok(()));
    take(&mut run, Some(Step::DnsSwitch));
    assert_eq!(run.replan(&other("stop-writers")), Ok(()));
    assert_eq!(run.replan(&other("dns-verify")), Ok(()));
    let told = |step| run.plan.iter().find(|planned| planned.step == step).unwrap().what.as_str();
    assert_eq!(told(Step::DnsVerify), "something else");
    assert_ne!(told(Step::StopWriters), "something else");
}

#[test]
fn a_step_that_was_taken_and_is_wanted_otherwise_is_taken_again_and_told() {
    let to = |address: &str| {
        let domain = |domain| Domain { addresses: vec![address.into()], ..domain };
        plan(&Intent { dns: intent(Command::Failover).dns.map(domain), ..intent(Command::Failover) })
    };
    let mut run = run(Command::Failover);
    take(&mut run, Some(Step::DnsVerify));
    run.begin(Step::DnsVerify, 300);
    run.end(Outcome::Failed("old".into()), 310);
    let before = run.clone();
    assert_eq!((run.replan(&before.plan.clone()), &run), (Ok(()), &before), "the same flags change nothing");
    assert_eq!(run.replan(&to("10.9.9.9")), Ok(()));
    assert_eq!(run.next(), Some(Step::DnsSwitch));
    let said = run.text().split_whitespace().collect::<Vec<_>>().join(" ");
    for part in ["dns-switch is not what it was", "at 10.1.0.10, with an update", "taken again", "dns-verify is not"] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
    assert!(run.text().lines().all(|line| line.chars().count() <= WIDTH), "{}", run.text());
    run.attempt("bob@bastion", 400);
    take(&mut run, None);
    assert_eq!((run.state, run.text().matches("other flags").count()), (State::Completed, 2));
    assert_eq!(Run::decode(&run.encode()), Ok(run));
    // What is done is not forgotten because a flag was.
    let mut run = before;
    assert_eq!(run.replan(&plan(&Intent { dns: None, ..intent(Command::Failover) })), Ok(()));
    assert_eq!(run.next(), Some(Step::DnsVerify));
    assert!(run.text().contains("dns-verify is not what it was"), "{}", run.text());
}

#[test]
fn nothing_is_called_lost_or_kept_that_is_not_known() {
    let mut run = run(Command::Switchover);
    take(&mut run, Some(Step::Promote));
    run.begin(Step::Promote, 1);
    run.end(Outcome::Warned("the old primary took writes".into()), 2);
    take(&mut run, None);
    assert!(!run.nothing_lost() && run.recovery_point().contains("took writes"), "{}", run.recovery_point());
    let mut run = self::run(Command::Switchover);
    take(&mut run, None);
    assert!(run.nothing_lost() && run.recovery().is_some());
    // Without a domain nobody can tell how long it took.
    let mut run = self::run(Command::Failover);
    while let Some(step) = run.next() {
        run.begin(step, 5);
        run.end(Outcome::Skipped("nothing".into()), 6);
    }
    assert_eq!(run.recovery(), None);
}

#[test]
fn a_command_line_is_told_without_what_it_may_hide() {
    let told = redacted_command("curl -H 'Authorization: Bearer secret' https://dns.example.com");
    assert!(told.starts_with("`curl …` (") && !told.contains("secret"), "{told}");
    assert_eq!(redacted_command("/usr/local/bin/switch"), "`/usr/local/bin/switch`");
}

#[test]
fn a_note_outlives_an_interruption() {
    let mut run = run(Command::Failover);
    run.begin(Step::Preflight, 0);
    run.end(done(), 1);
    run.begin(Step::RestartFirst, 1);
    run.set_note(serde_json::json!({"pods": ["a"]}));
    run.attempt("ada@bastion", 2);
    run.begin(Step::RestartFirst, 3);
    assert_eq!(run.note(Step::RestartFirst), Some(&serde_json::json!({"pods": ["a"]})));
}

#[test]
fn texts_fit_a_terminal() {
    let mut run = run(Command::Switchover);
    take(&mut run, Some(Step::Compare));
    run.begin(Step::Compare, 10);
    run.end(
        Outcome::Done("18204 keys and values are equal at revision 48211 of the primary, and it has none later".into()),
        412,
    );
    take(&mut run, None);
    run.loss = Some(Loss {
        applied_revision: 48_211,
        offset: 3,
        phase: Phase::Streaming,
        applied_ms: 1_767_323_045_000,
        seen: Some(PrimaryContact { revision: 48_215, at_ms: 1_767_323_046_000 }),
        compared: None,
        now_ms: 1_767_323_176_000,
    });
    for text in [run.plan_text(), run.text(), run.end_text()] {
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
    }
}

#[test]
fn the_loss_says_what_is_known_and_what_is_not() {
    let seen = |revision| Some(PrimaryContact { revision, at_ms: 0 });
    let loss = |seen, offset| Loss {
        applied_revision: 10,
        offset,
        phase: Phase::Streaming,
        applied_ms: 0,
        seen,
        compared: None,
        now_ms: 0,
    };
    assert_eq!(loss(None, 0).known_revisions(), None);
    assert_eq!(loss(seen(10), 0).known_revisions(), Some(0));
    assert_eq!(loss(seen(14), 0).known_revisions(), Some(4));
    // Of revision 10 itself only a part is here.
    assert_eq!(loss(seen(14), 2).known_revisions(), Some(5));
    // The checkpoint may be newer than the last look.
    assert_eq!(loss(seen(8), 0).known_revisions(), Some(0));
}

/// The monitor still saw what the synchronizer never received.
#[test]
fn the_loss_counts_what_the_monitor_saw_last() {
    let seen = |revision| PrimaryContact { revision, at_ms: 60_000 };
    let told = |on_record: Option<PrimaryContact>, compared| {
        let (phase, applied_revision) = (Phase::Streaming, 1193);
        let mut loss =
            Loss { applied_revision, offset: 0, phase, applied_ms: 0, seen: on_record, compared: None, now_ms: 90_000 };
        loss.learn(seen(compared));
        assert_eq!(serde_json::from_slice::<Loss>(&serde_json::to_vec(&loss).unwrap()).unwrap(), loss);
        assert!(loss.text().lines().all(|line| line.chars().count() <= WIDTH), "{}", loss.text());
        (loss.known_revisions(), loss.text().split_whitespace().collect::<Vec<_>>().join(" "))
    };
    for on_record in [Some(seen(1193)), None] {
        let (known, text) = told(on_record, 1197);
        assert_eq!(known, Some(4));
        assert!(text.contains("Monitor saw revision 1197 at 1970-01-01T00:01:00Z, 30.0 s ago"), "{text}");
        assert!(text.contains("after revision 1193: 4 revisions known, and whatever"), "{text}");
    }
    // What is older than the record, or was applied, adds nothing.
    let (known, text) = told(Some(seen(1200)), 1197);
    assert!(known == Some(7) && !text.contains("Monitor saw"), "{text}");
    let (known, text) = told(None, 1193);
    assert!(known.is_none() && !text.contains("Monitor saw"), "{text}");
}

#[test]
fn no_loss_claims_more_than_is_here() {
    let loss = |phase, applied_revision, offset| {
        let loss = Loss { applied_revision, offset, phase, applied_ms: 0, seen: None, compared: None, now_ms: 0 };
        assert_eq!(serde_json::from_slice::<Loss>(&serde_json::to_vec(&loss).unwrap()).unwrap(), loss);
        let text = loss.text().split_whitespace().collect::<Vec<_>>().join(" ");
        (loss.text().lines().all(|line| line.chars().count() <= WIDTH), text)
    };
    for (phase, revision, offset, said) in [
        (Phase::Streaming, 10, 0, "Applied here everything up to revision 10 of the primary Written"),
        (Phase::Streaming, 10, 3, "of that revision itself only the first 3 changes"),
        (Phase::Streaming, 10, 3, "Lost at most the rest of revision 10, and what"),
        (Phase::Resync, 10, 0, "a resync was under way"),
        (Phase::Resync, 10, 0, "after revision 10, but for what was copied"),
        (Phase::Resync, 0, 0, "it is not known what: a resync was under way"),
        (Phase::FirstSync, 0, 0, "it is not known what: the first sync was never complete"),
    ] {
        let (fits, text) = loss(phase, revision, offset);
        assert!(fits && text.contains(said), "{text}");
        let whole = text.contains("everything up to revision") && !text.contains("a part of what came later");
        assert_eq!(whole, phase == Phase::Streaming && offset == 0, "{text}");
    }
}

fn header(uid: &str, owners: &[&str]) -> Header {
    let owners = owners.iter().map(|uid| Owner { uid: (*uid).into(), ..Owner::default() }).collect();
    Header { uid: uid.into(), owners, ..Header::default() }
}

#[test]
fn what_has_lost_all_its_owners_is_doomed_and_what_hangs_on_it() {
    let mut orphans = Orphans::default();
    for (uid, owners) in [
        ("deployment", &[][..]),
        ("set", &["deployment"]),
        ("lost-set", &["gone"]),
        ("pod", &["lost-set"]),
        ("shared", &["gone", "deployment"]),
        ("of-both", &["lost-set", "pod"]),
        ("half", &["lost-set", "set"]),
    ] {
        orphans.see(uid, &header(uid, owners));
    }
    assert_eq!(orphans.doomed(), ["lost-set".into(), "of-both".into(), "pod".into()] as [Box<str>; 3]);
}

#[test]
fn what_is_missed_is_told_with_what_it_destroys() {
    let machine = "/registry/platform.tkestack.io/machines/m-1";
    let missing = Missing {
        missed: 30,
        missed_keys: (0..25).map(|i| format!("/registry/configmaps/apps/settings-{i:02}")).collect(),
        seen_ms: Some(1_767_323_045_000),
        doomed: vec!["/registry/configmaps/apps/dependent".into()],
        unreadable: 0,
    };
    let text = missing.text();
    assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
    assert!(text.contains("… and 10 more") && text.contains("--accept-missing 30"), "{text}");
    assert!(!missing.machines() && !text.contains("MACHINES"), "{text}");
    let missing = Missing { doomed: vec![machine.into()], ..missing };
    assert!(missing.text().contains("DESTROYS VIRTUAL MACHINES"));
}

proptest! {
    /// Wherever a run is interrupted, and however often: it ends, no step behind the promotion is taken twice, and the
    /// promotion itself follows directly on what proves that it may be.
    #[test]
    fn every_interruption_is_survived(kills in proptest::collection::vec(0..3u8, 0..40)) {
        let mut run = run(Command::Switchover);
        let mut kills = kills.into_iter();
        let mut at_ms = 0;
        while let Some(step) = run.next() {
            at_ms += 1;
            match kills.next() {
                // Before the step, and in it.
                Some(1) => run.attempt("ada@bastion", at_ms),
                Some(2) => {
                    run.begin(step, at_ms);
                    run.attempt("ada@bastion", at_ms);
                }
                _ => {
                    if step == Step::Promote {
                        let last = run.steps.last().unwrap();
                        prop_assert_eq!((last.step, last.attempt + 1), (Step::Compare, run.attempts.len()));
                    }
                    run.begin(step, at_ms);
                    run.end(done(), at_ms);
                }
            }
        }
        prop_assert_eq!(run.state, State::Completed);
        for step in [Step::Promote, Step::DnsSwitch, Step::RestartServices, Step::MarkPrimaryDemoted] {
            let ended = run.steps.iter().filter(|record| record.step == step && record.outcome.is_some()).count();
            prop_assert_eq!(ended, 1);
        }
    }
}

#[test]
fn a_command_line_is_told_without_what_may_be_secret() {
    assert_eq!(redacted_command("/opt/stop.sh"), "`/opt/stop.sh`");
    assert!(redacted_command("curl -H token").starts_with("`curl …` ("));
    let told = redacted_command("TOKEN=s3cr3t /opt/dns.sh \"$@\"");
    assert!(told.starts_with("`…` (") && !told.contains("s3cr3t"), "{told}");
}

#[test]
fn the_time_of_an_attempt_that_could_not_stop_the_writers_does_not_count() {
    let mut run = run(Command::Switchover);
    take(&mut run, Some(Step::StopWriters));
    run.begin(Step::StopWriters, 1_000);
    run.end(Outcome::Failed("written to".into()), 2_000);
    run.attempt("ada@bastion", 90_000);
    take(&mut run, Some(Step::StopWriters));
    run.begin(Step::StopWriters, 100_000);
    run.end(done(), 103_000);
    take(&mut run, Some(Step::DnsVerify));
    run.begin(Step::DnsVerify, 104_000);
    run.end(done(), 105_000);
    assert_eq!(run.recovery().map(|recovery| recovery.from_ms), Some(100_000));
}

#[test]
fn a_step_that_was_undone_is_taken_again_with_what_proves_for_it() {
    let planned = |step| Planned { step, what: "as planned".into() };
    let mut run = Run::new(
        "r".into(),
        Command::Rejoin,
        "default",
        Command::Rejoin.steps().iter().copied().map(planned).collect(),
    );
    run.attempt("ada@bastion", 1);
    for step in [Step::FindDivergence, Step::Save, Step::TakeRole] {
        run.begin(step, 1);
        run.end(Outcome::Done("done".into()), 2);
    }
    run.retake(Step::TakeRole);
    run.attempt("ada@bastion", 3);
    assert_eq!(run.next(), Some(Step::FindDivergence));
    // What was never settled is not told as changed.
    let before = run.replanned.len();
    run.retake(Step::Prove);
    assert_eq!(run.replanned.len(), before);
}
