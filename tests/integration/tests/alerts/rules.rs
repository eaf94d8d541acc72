//! The rules: valid, tested, and about metrics that there are.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use etcd_sync_integration::exposition::Exposition;
use etcd_sync_integration::tools;

use crate::{exported, file};

const RULES: &str = "charts/etcd-sync/files/alerts.yaml";
const TESTS: &str = "charts/etcd-sync/tests/alerts_test.yaml";

/// What PromQL brings along, and the label that a scrape adds.
const WORDS: [&str; 17] = [
    "absent",
    "and",
    "by",
    "ignoring",
    "increase",
    "m",
    "max",
    "min",
    "namespace",
    "on",
    "or",
    "rate",
    "role",
    "side",
    "sum",
    "time",
    "unless",
];

/// What kube-state-metrics exports of the chart's CronJobs.
const STATE: &str = "kube_cronjob_status_last_schedule_time{cronjob=\"etcd-sync-drill\"} 1
kube_cronjob_status_last_successful_time{cronjob=\"etcd-sync-drill\"} 1
kube_cronjob_status_last_successful_time{cronjob=\"etcd-sync-renew\"} 1
kube_cronjob_created{cronjob=\"etcd-sync-drill\"} 1
kube_cronjob_created{cronjob=\"etcd-sync-renew\"} 1
";

/// One alert.
#[derive(Debug)]
pub struct Alert {
    pub name: String,
    pub expr: String,
    /// How long before it fires, as `2m`; empty: at once.
    pub wait: String,
    pub severity: String,
    pub summary: String,
    pub description: String,
}

/// The alerts of the chart, in their order.
pub fn alerts() -> Result<Vec<Alert>> {
    let text = std::fs::read_to_string(file(RULES)).context(RULES)?;
    let document: serde_json::Value = serde_saphyr::from_str(&text).context(RULES)?;
    let groups = document["groups"].as_array().context("groups")?;
    let rules = groups.iter().flat_map(|group| group["rules"].as_array().into_iter().flatten());
    let alerts = rules.map(|rule| {
        let text = |pointer: &str| rule.pointer(pointer).and_then(|text| text.as_str()).unwrap_or_default().to_owned();
        let alert = Alert {
            name: text("/alert"),
            expr: text("/expr"),
            wait: text("/for"),
            severity: text("/labels/severity"),
            summary: text("/annotations/summary"),
            description: text("/annotations/description"),
        };
        let whole = !alert.name.is_empty() && !alert.summary.is_empty() && !alert.description.is_empty();
        ensure!(whole, "a rule lacks its name, summary or description: {rule}");
        ensure!(["critical", "warning", "info"].contains(&&*alert.severity), "{}: no severity", alert.name);
        Ok(alert)
    });
    alerts.collect()
}

#[test]
fn promtool_finds_the_rules_right_and_their_tests_pass() -> Result<()> {
    for (what, path) in [("check", RULES), ("test", TESTS)] {
        let output = Command::new(tools::promtool()?).args([what, "rules"]).arg(file(path)).output()?;
        let told = [output.stdout, output.stderr].concat();
        ensure!(output.status.success(), "promtool {what} rules {path}:\n{}", String::from_utf8_lossy(&told));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_can_read_the_pages() -> Result<()> {
    for page in &exported().await?.pages {
        let mut command = Command::new(tools::promtool()?);
        command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("start promtool")?;
        child.stdin.take().context("asked for")?.write_all(page.as_bytes())?;
        let output = child.wait_with_output()?;
        let told = String::from_utf8_lossy(&output.stderr);
        // Scripts rely on these two names, whatever promtool thinks of their ends.
        let told: Vec<&str> = told.lines().filter(|line| !line.contains("_target_keys_count ")).collect();
        ensure!(told.is_empty(), "promtool check metrics: {told:#?}");
    }
    Ok(())
}

#[test]
fn every_alert_is_tested_to_fire() -> Result<()> {
    let tests = std::fs::read_to_string(file(TESTS))?;
    for alert in alerts()? {
        ensure!(tests.contains(&format!("alertname=\"{}\"", alert.name)), "{TESTS} has no case of {}", alert.name);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_use_what_the_programs_export() -> Result<()> {
    let exported = exported().await?;
    let mut state = Exposition::default();
    state.add(STATE)?;
    let pages = [&exported.monitor, &exported.daemon, &state];
    for alert in alerts()? {
        known(&alert.expr, &pages).with_context(|| alert.name)?;
    }
    // The unit tests would prove nothing with names of their own.
    let tests = std::fs::read_to_string(file(TESTS))?;
    for series in tests.split("series: '").skip(1).filter_map(|rest| rest.split('\'').next()) {
        let added = series.replace("namespace=\"dr\"", "").replace("{,", "{");
        let added = ["a", "b", "other", "third"]
            .iter()
            .fold(added, |series, pod| series.replace(&format!("pod=\"{pod}\""), ""));
        known(&added, &pages).with_context(|| format!("{TESTS}: {series}"))?;
    }
    Ok(())
}

/// Fails on a metric, a label or a label's value that no page shows.
fn known(expr: &str, pages: &[&Exposition]) -> Result<()> {
    let mut rest = expr;
    let mut found = BTreeSet::new();
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphabetic()) {
        rest = &rest[start..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let word = &rest[..end];
        rest = &rest[end..];
        if WORDS.contains(&word) {
            continue;
        }
        let metric =
            pages.iter().find_map(|page| page.metrics.get(word)).with_context(|| format!("no metric {word}"))?;
        found.insert(word);
        let Some(matchers) = rest.strip_prefix('{') else { continue };
        let (matchers, behind) = matchers.split_once('}').context("the matchers have no end")?;
        rest = behind;
        for matcher in matchers.split(',').filter(|matcher| !matcher.is_empty()) {
            let (label, value) = matcher.split_once('=').context("a matcher has a value")?;
            let values =
                metric.labels.get(label.trim_end_matches('!')).with_context(|| format!("no {word}{{{label}}}"))?;
            // A pattern of names: each of its ends is one.
            let names = match value.strip_prefix('~') {
                None => vec![value.trim_matches('"').to_owned()],
                Some(pattern) => alternatives(pattern.trim_matches('"')),
            };
            ensure!(names.iter().all(|name| values.contains(name.as_str())), "{word} has no {matcher}");
        }
    }
    ensure!(!found.is_empty(), "no metric at all");
    Ok(())
}

/// What `prefix-(one|two)` matches.
fn alternatives(pattern: &str) -> Vec<String> {
    let (prefix, ends) = pattern.trim_end_matches(')').split_once('(').unwrap_or((pattern, ""));
    ends.split('|').map(|end| format!("{prefix}{end}")).collect()
}

#[test]
fn what_no_page_shows_is_found() {
    let mut page = Exposition::default();
    page.add("a_b{side=\"x\"} 1\n").unwrap();
    let known = |expr: &str| known(expr, &[&page]).map_err(|error| error.to_string());
    assert_eq!(known("max by (namespace) (rate(a_b{side!=\"x\"}[10m])) > 0"), Ok(()));
    for (expr, expected) in [
        ("a_b > 1 unless a_c == 1", "no metric a_c"),
        ("a_b{role=\"x\"}", "no a_b{role}"),
        ("a_b{side=\"y\"}", "a_b has no side=\"y\""),
        ("a_b{side=~\"(x|y)\"}", "a_b has no side=~\"(x|y)\""),
        ("vector(1)", "no metric vector"),
        ("", "no metric at all"),
    ] {
        assert_eq!(known(expr), Err(expected.to_owned()), "{expr}");
    }
}
