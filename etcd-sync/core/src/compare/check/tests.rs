use bytes::Bytes;

use super::*;
use crate::etcd::kv::{KeyRange, KeyValue};
use crate::scope::ScopeConfig;

fn kv(key: &'static str, value: &'static str) -> KeyValue {
    let (key, value) = (Bytes::from_static(key.as_bytes()), Bytes::from_static(value.as_bytes()));
    KeyValue { key, value, create_revision: 1, mod_revision: 1, lease: 0 }
}

fn scope() -> Scope {
    Scope::new(&ScopeConfig::default()).unwrap()
}

fn at() -> ComparedAt {
    ComparedAt {
        basis: Basis::Checkpoint,
        primary_revision: 5,
        standby_revision: 9,
        primary_head: 7,
        synchronizer: true,
        moments: 1,
        paused: None,
        took_ms: 120,
    }
}

fn report(deep: bool) -> Report {
    let mut comparison = Comparison::new(deep);
    let chunk = Chunk {
        range: KeyRange::prefix(b"/registry/"),
        lead: vec![
            kv("/registry/configmaps/ns/equal", "1"),
            kv("/registry/configmaps/ns/missed", "1"),
            kv("/registry/configmaps/ns/other", "secret-a"),
            kv("/registry/pods/ns/not-in-scope", "1"),
            kv("/registry/services/specs/ns/equal", "1"),
        ],
        follow: vec![
            kv("/registry/configmaps/ns/equal", "1"),
            kv("/registry/configmaps/ns/local", "1"),
            kv("/registry/configmaps/ns/other", "secret-b"),
            kv("/registry/example.com/widgets/ns/old", "1"),
            kv("/registry/services/specs/ns/equal", "1"),
        ],
        lead_revision: 5,
        follow_revision: 9,
    };
    let scope = scope();
    let suspects = comparison.chunk(chunk, &scope, |kv| kv.key == "/registry/configmaps/ns/local");
    suspects.iter().for_each(|suspect| comparison.confirm(suspect, &scope, Checked::default()));
    comparison.report(at())
}

fn json(report: &Report, limit: usize) -> serde_json::Value {
    let mut bytes = Vec::new();
    report
        .write_json(&mut bytes, &scope(), limit, None, |finding| finding.key.ends_with("missed").then_some(7))
        .unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

#[test]
fn the_text_has_the_headings_scripts_look_for() {
    let text = report(true).text(1, "?limit=0 shows all");
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("  #") || line.contains('…')).collect();
    assert_eq!(
        lines,
        [
            "NOT CONSISTENT: primary revision 5, standby revision 9, 4 keys compared in 0.12 s",
            "The standby is 2 revisions behind the primary.",
            "LOCAL ETCD missed keys: 1",
            "  /registry/configmaps/ns/missed",
            "LOCAL ETCD surplus keys: 2",
            "  /registry/configmaps/ns/local  (made on the standby)",
            "  # … and 1 more: ?limit=0 shows all",
            "LOCAL ETCD mismatched keys: 1",
            "  /registry/configmaps/ns/other  (cannot be decoded)",
            "LOCAL ETCD keys with a status of their own: 0",
        ]
    );
    for advice in ["kubectl delete pod --all-namespaces --selector app=etcd-sync", "etcd-sync prune"] {
        assert_eq!(text.matches(advice).count(), 1, "{text}");
    }
}

#[test]
fn a_standby_that_only_has_more_is_reported_so() {
    let mut comparison = Comparison::new(false);
    let suspect = Suspect { key: "/registry/a/b/c".into(), difference: Difference::Surplus(SurplusReason::Local) };
    comparison.confirm(&suspect, &scope(), Checked::default());
    let report = comparison.report(ComparedAt { paused: Some("because".into()), ..at() });
    let text = report.text(9, "");
    assert!(text.starts_with("NOT CONSISTENT: "), "{text}");
    assert!(text.contains("\nREPLICATION IS PAUSED: because\n"), "{text}");
    assert!(text.contains("\nNothing is missed: "), "{text}");
}

#[test]
fn the_json_has_the_arrays_programs_read_and_no_values() {
    let json = json(&report(true), usize::MAX);
    assert_eq!(json["localMissedKeys"], serde_json::json!(["/registry/configmaps/ns/missed"]));
    let surplus = ["/registry/configmaps/ns/local", "/registry/example.com/widgets/ns/old"];
    assert_eq!(json["localSurplusKeys"], serde_json::json!(surplus));
    let detail = &json["details"][2];
    assert_eq!((&detail["why"], &detail["resource"]), (&"leftover".into(), &"widgets.example.com".into()));
    assert_eq!((&detail["namespace"], &detail["name"]), (&"ns".into(), &"old".into()));
    assert_eq!(json["details"][0]["sinceMs"], 7);
    assert!(!json.to_string().contains("secret"));
}

#[test]
fn json_is_cut_where_it_is_asked_to() {
    let json = json(&report(true), 1);
    assert_eq!(json["surplus"], 2);
    assert_eq!(json["localSurplusKeys"].as_array().unwrap().len(), 1);
}

#[test]
fn without_deep_values_are_not_compared() {
    assert_eq!(report(false).mismatched.count, 0);
}

#[test]
fn keys_are_counted_by_resource() {
    let count = |resource: &str, primary, standby, missed, surplus, mismatched| ResourceCount {
        resource: resource.into(),
        primary,
        standby,
        missed,
        surplus,
        mismatched,
    };
    assert_eq!(
        report(true).resources,
        [
            count("configmaps", 3, 3, 1, 1, 1),
            count("services", 1, 1, 0, 0, 0),
            count("widgets.example.com", 0, 1, 0, 1, 0)
        ]
    );
}

#[test]
fn what_content_takes_out_of_scope_counts_for_no_side() {
    let scope = scope();
    let mut comparison = Comparison::new(false);
    let (lead, follow) = (vec![kv("/registry/a/ns/x", "1")], vec![kv("/registry/a/ns/y", "1")]);
    let range = KeyRange::prefix(b"/registry/");
    let chunk = Chunk { range, lead, follow, lead_revision: 1, follow_revision: 1 };
    for suspect in comparison.chunk(chunk, &scope, |_| false) {
        comparison.out_of_scope(&suspect, &scope);
    }
    let report = comparison.report(at());
    assert!(report.consistent() && report.resources.is_empty());
    assert_eq!(report.compared, 0);
}

#[test]
fn commands_are_safe_to_paste() {
    let finding = |key: &str, difference| Finding {
        key: key.into(),
        difference,
        object: None,
        undecryptable: false,
        too_large: None,
    };
    let surplus = Difference::Surplus(SurplusReason::Local);
    let key = "/registry/a/ns/o'clock; rm -rf $HOME";
    let command = finding(key, surplus).describe(&scope(), Situation::Running).advice.command.unwrap();
    assert_eq!(command, r"etcd-sync prune --key '/registry/a/ns/o'\''clock; rm -rf $HOME'");
    let mismatched = Difference::Mismatched(crate::compare::drift::Drift::Content);
    let command = finding("/registry/example.com/widgets/ns/w", mismatched)
        .describe(&scope(), Situation::Running)
        .advice
        .command
        .unwrap();
    assert_eq!(
        command,
        "kubectl --context PRIMARY annotate --namespace ns widgets.example.com w --overwrite \
         etcd-sync/touched=\"$(date +%s)\""
    );
}

#[test]
fn what_is_too_large_gets_no_advice_to_wait() {
    let scope = scope();
    let report = |too_large: &[Option<u64>]| {
        let mut comparison = Comparison::new(false);
        for (number, &too_large) in too_large.iter().enumerate() {
            let suspect = Suspect { key: format!("/registry/a/b/{number}").into(), difference: Difference::Missed };
            comparison.confirm(&suspect, &scope, Checked { too_large, ..Checked::default() });
        }
        comparison.report(at()).text(9, "")
    };
    let text = report(&[Some(2_900_000)]);
    assert!(text.contains("  /registry/a/b/0  (2900000 bytes: too large for one request"), "{text}");
    assert!(text.contains("--max-request-bytes") && !text.contains("within seconds"), "{text}");
    let text = report(&[None, Some(9), Some(2_900_000)]);
    assert!(text.contains("within seconds") && text.contains("Too large for the standby's etcd: 2."), "{text}");
}

#[test]
fn what_is_only_counted_makes_no_list_longer_than_it_is() {
    let mut comparison = Comparison::new(true);
    let scope = scope();
    let suspect = |difference| Suspect { key: "/registry/a/b/c".into(), difference };
    comparison.unproved(&suspect(Difference::Mismatched(crate::compare::drift::Drift::Unknown)), &scope);
    comparison.unproved(&suspect(Difference::Missed), &scope);
    let report = comparison.report(at());
    assert_eq!((report.missed.count, report.mismatched.count, report.unproved), (1, 0, 2));
    assert!(!report.complete() && report.text(9, "").contains("2 differences were not checked"));
}

#[test]
fn keys_that_are_no_objects_are_counted_apart_from_those_behind_them() {
    let mut comparison = Comparison::new(false);
    let keys = || ["/registry/configmaps/ns/a", "/registry/odd", "/registry/secrets/ns/a"].map(|key| kv(key, "1"));
    let range = KeyRange::prefix(b"/registry/");
    let chunk = Chunk { range, lead: keys().into(), follow: keys().into(), lead_revision: 1, follow_revision: 1 };
    assert!(comparison.chunk(chunk, &scope(), |_| false).is_empty());
    let counted: Vec<_> =
        comparison.report(at()).resources.into_iter().map(|count| (count.resource, count.primary)).collect();
    assert_eq!(
        counted,
        [("/registry/", 1), ("configmaps", 1), ("secrets", 1)].map(|(name, count)| (name.to_owned(), count))
    );
}

#[test]
fn the_advice_fits_who_could_repair_it() {
    let missed = Finding {
        key: "/registry/a/ns/x".into(),
        difference: Difference::Missed,
        object: None,
        undecryptable: false,
        too_large: None,
    };
    let hint = |situation| missed.describe(&scope(), situation).advice.hint;
    assert!(hint(Situation::Running).contains("by itself"));
    assert!(hint(Situation::Stopped).contains("start it"));
    assert!(hint(Situation::Promoted).contains("promoted"));
}
