use super::*;
use crate::text::WIDTH;

fn trial(name: &str, level: Level) -> Trial {
    Trial {
        name: name.into(),
        level,
        what: "what was seen | and what to do about it, in a sentence that is longer than a line".into(),
    }
}

fn drill(levels: &[Level]) -> Drill {
    let trials = levels.iter().map(|level| trial("check", *level)).collect();
    let preflight = Part { name: PartName::Preflight, took_ms: 412, trials, skipped: None };
    let parts = vec![preflight, Part::skipped(PartName::DnsSwitch, "no --drill-name is given")];
    Drill { link: "default".into(), by: "cron@pod".into(), at_ms: 0, parts, plan: vec!["promote it".into()] }
}

#[test]
fn a_warning_counts_for_half_and_a_failure_for_nothing() {
    use Level::{Fail, Pass, Warn};
    let result = |levels: &[Level]| (drill(levels).ready(), drill(levels).score());
    assert_eq!(result(&[Pass, Pass]), (true, 100));
    assert_eq!(result(&[Pass, Warn]), (true, 75));
    assert_eq!(result(&[Pass, Pass, Fail]), (false, 66));
    // Who tried nothing knows nothing.
    assert_eq!(drill(&[]).score(), 0);
}

#[test]
fn reports_fit_a_terminal_and_break_no_table() {
    let drill = drill(&[Level::Pass, Level::Warn, Level::Fail]);
    let text = drill.text();
    assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
    assert!(text.contains("NOT READY: score 50 of 100; 1 of 2 parts not rehearsed"), "{text}");
    let markdown = drill.markdown();
    let rows = markdown.lines().filter(|line| line.starts_with("| ") && line.contains("check"));
    assert!(rows.map(|row| row.replace("\\|", "").matches('|').count()).all(|bars| bars == 4), "{markdown}");
    assert!(markdown.contains("| fail | check |") && markdown.contains("1. promote it"), "{markdown}");
}

#[test]
fn who_left_parts_out_is_not_told_to_be_ready() {
    let mut drill = drill(&[Level::Pass]);
    let headline = "READY IN PART: score 100 of 100; 1 of 2 parts not rehearsed";
    for report in [drill.text(), drill.markdown()] {
        assert!(report.contains(&format!("\n{headline}\n")) || report.contains(&format!("**{headline}**")), "{report}");
    }
    let json = drill.json();
    assert_eq!((&json["verdict"], &json["partsNotRehearsed"]), (&"ready-in-part".into(), &1.into()), "{json:#}");
    drill.parts.pop();
    assert!(drill.text().contains("\nREADY: score 100 of 100\n"), "{}", drill.text());
    assert_eq!(drill.json()["verdict"], "ready");
}

#[test]
fn kinds_are_found_where_the_api_server_keeps_them() {
    for (group, plural, directory) in [
        ("", "configmaps", "configmaps"),
        ("", "services", "services/specs"),
        ("", "nodes", "minions"),
        ("apps", "deployments", "deployments"),
        ("networking.k8s.io", "ingresses", "ingress"),
        ("apiextensions.k8s.io", "customresourcedefinitions", "apiextensions.k8s.io/customresourcedefinitions"),
        ("example.com", "widgets", "example.com/widgets"),
    ] {
        assert_eq!(directory_of(group, plural), directory);
    }
}

#[test]
fn a_kind_passes_when_all_of_it_is_served() {
    let level = |found| {
        let kind = KindCount { resource: "configmaps".into(), api_version: "v1".into(), found };
        Trial::from(&kind).level
    };
    assert_eq!(level(KindFinding::Read { served: 3, held: 3 }), Level::Pass);
    assert_eq!(level(KindFinding::Read { served: 2, held: 3 }), Level::Fail);
    assert_eq!(level(KindFinding::Failed("no".into())), Level::Fail);
    assert_eq!(level(KindFinding::NotServed), Level::Fail);
}

#[test]
fn resources_are_named_as_the_comparison_names_them() {
    for (group, plural, name) in [
        ("", "services", "services"),
        ("", "endpoints", "endpoints"),
        ("networking.k8s.io", "ingresses", "ingresses"),
        ("apiextensions.k8s.io", "customresourcedefinitions", "customresourcedefinitions.apiextensions.k8s.io"),
        ("example.com", "widgets", "widgets.example.com"),
    ] {
        assert_eq!(resource_name(group, plural), name);
        let key = format!("{}/apps/name", directory_of(group, plural));
        let object = etcd_sync_core::object::object_key::ObjectKey::parse(key.as_bytes()).unwrap();
        assert_eq!(object.resource_name(), name, "{key}");
        assert!(is_resource(name));
    }
    // A plain prefix, and what a comparison counts together.
    assert!(!is_resource("/custom/") && !is_resource("(others)"));
}

#[test]
fn a_long_name_breaks_no_line() {
    let mut drill = drill(&[Level::Fail]);
    drill.parts[0].trials[0].name = format!("{}.infrastructure.example.com", "w".repeat(40));
    assert!(drill.text().lines().all(|line| line.chars().count() <= WIDTH), "{}", drill.text());
}
