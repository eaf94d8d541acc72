//! The tables of docs/metrics.md show what the programs and the rules have.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use etcd_sync_integration::exposition::{Exposition, Metric};

use crate::rules::alerts;
use crate::{exported, file};

const PAGE: &str = "docs/metrics.md";

/// Set, the test writes the tables instead of comparing them. The last two columns are kept: no program tells them.
const UPDATE: &str = "UPDATE_DOCS";

/// Labels whose values are too many to name, or not the same in every run.
const OPEN_LABELS: [&str; 1] = ["reason"];

/// Of a metric that is a number at all times.
const NEVER: &str = "never";

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_every_metric_and_alert() -> Result<()> {
    let exported = exported().await?;
    let page = std::fs::read_to_string(file(PAGE)).context(PAGE)?;
    let kept = kept_columns(&page);
    let mut now = page.clone();
    for (section, exposition) in [("monitor", &exported.monitor), ("daemon", &exported.daemon)] {
        now = replaced(&now, section, &metrics_table(exposition, &kept))?;
    }
    now = replaced(&now, "alerts", &alerts_text()?)?;
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(file(PAGE), &now)?;
    } else {
        ensure!(
            now == page,
            "{PAGE} is out of date. Write it again with: {UPDATE}=1 cargo test -p etcd-sync-integration --test alerts"
        );
    }
    for (name, metric) in exported.monitor.metrics.iter().chain(&exported.daemon.metrics) {
        let (unit, nan) = kept.get(name).with_context(|| format!("{PAGE} has no row of {name}"))?;
        ensure!(!unit.is_empty() && !nan.is_empty(), "{PAGE}: say the unit of {name}, and when it is NaN (or {NEVER})");
        ensure!(!metric.nan || nan != NEVER, "{PAGE} says that {name} is never NaN, but it was");
    }
    Ok(())
}

/// The page with another text between the marks of this section.
fn replaced(page: &str, section: &str, text: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- generated: {section} -->\n"), format!("<!-- end of {section} -->\n"));
    let (before, rest) = page.split_once(&begin).with_context(|| format!("{PAGE} has no {begin}"))?;
    let (_, after) = rest.split_once(&end).with_context(|| format!("{PAGE} has no {end}"))?;
    Ok(format!("{before}{begin}{text}{end}{after}"))
}

/// Unit and NaN of every metric that has a row.
fn kept_columns(page: &str) -> BTreeMap<String, (String, String)> {
    let rows = page.lines().filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix("| `")?.trim_end_matches('|').split('|').map(str::trim).collect();
        let [name, _, _, unit, nan] = cells[..] else { return None };
        Some((name.trim_end_matches('`').to_owned(), (unit.to_owned(), nan.to_owned())))
    });
    rows.collect()
}

fn metrics_table(exposition: &Exposition, kept: &BTreeMap<String, (String, String)>) -> String {
    let rows = exposition.metrics.iter().map(|(name, metric)| {
        let (unit, nan) = kept.get(name).cloned().unwrap_or_default();
        format!("| `{name}` | {} | {} | {unit} | {nan} |\n", labels(metric), metric.help)
    });
    format!("| name | labels | meaning | unit | NaN |\n|---|---|---|---|---|\n{}", rows.collect::<String>())
}

fn labels(metric: &Metric) -> String {
    let labels = metric.labels.iter().map(|(label, values)| {
        if OPEN_LABELS.contains(&label.as_str()) {
            return format!("`{label}`");
        }
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        format!("`{label}`: {}", values.join(", "))
    });
    labels.collect::<Vec<_>>().join("<br>")
}

fn alerts_text() -> Result<String> {
    let alerts = alerts()?;
    let texts = alerts.iter().map(|alert| {
        let wait = if alert.wait.is_empty() { "at once".to_owned() } else { format!("after {}", alert.wait) };
        // Only Prometheus knows the value.
        let summary = alert.summary.replace("{{ $value | humanizeDuration }}", "(so many minutes)");
        let (name, severity, description, expr) = (&alert.name, &alert.severity, &alert.description, &alert.expr);
        format!("### {name}\n\n**{summary}** ({severity}, {wait})\n\n{description}\n\n```promql\n{expr}\n```\n\n")
    });
    Ok(texts.collect())
}
