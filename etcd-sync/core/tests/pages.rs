//! The tables in docs/ show what is built in.

use std::path::PathBuf;

use etcd_sync_core::compare::conflicts::Kind;
use etcd_sync_core::scope::EXCLUDED_NAMESPACES;
use etcd_sync_core::scope::policy::{Rule, builtin_rules};

const BEGIN: &str = "<!-- generated, do not edit -->\n";
const END: &str = "<!-- end of what is generated -->\n";

/// Set, the tests write the tables instead of comparing them.
const UPDATE: &str = "UPDATE_DOCS";

#[test]
fn the_scope_page_shows_the_policy() {
    assert_shows("scope.md", "core/src/scope/cluster-local.yaml", &policy_table(&builtin_rules()));
}

#[test]
fn the_scope_page_names_the_excluded_namespaces() {
    let page = std::fs::read_to_string(page("scope.md")).unwrap();
    for namespace in EXCLUDED_NAMESPACES {
        assert!(page.contains(&format!("`{namespace}`")), "docs/scope.md does not name {namespace}");
    }
}

#[test]
fn the_conflicts_page_shows_every_kind() {
    assert_shows("conflicts.md", "core/src/compare/conflicts/kind.rs", &conflict_table());
}

fn page(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name)
}

fn assert_shows(name: &str, source: &str, table: &str) {
    let text = std::fs::read_to_string(page(name)).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the mark where the table begins");
    let (shown, after) = rest.split_once(END).expect("the mark where the table ends");
    if std::env::var_os(UPDATE).is_some() {
        return std::fs::write(page(name), format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
    }
    assert!(
        shown == table,
        "docs/{name} does not show {source}. Write it again with: \
         {UPDATE}=1 cargo test -p etcd-sync-core --test pages\nIt should be:\n{table}"
    );
}

/// One row for neighbours that share reason and sentence.
fn policy_table(rules: &[Rule]) -> String {
    let rows = rules.chunk_by(|a, b| a.reason == b.reason && a.why == b.why).map(|rules| {
        let patterns: Vec<String> = rules.iter().map(|rule| format!("`{}`", rule.pattern)).collect();
        format!("| {} | {} | {} |\n", patterns.join("<br>"), rules[0].reason, rules[0].why)
    });
    format!("| keys, behind the Kubernetes prefix | reason | why |\n|---|---|---|\n{}", rows.collect::<String>())
}

fn conflict_table() -> String {
    let rows = Kind::ALL.iter().map(|kind| {
        let label = serde_json::to_value(kind).unwrap();
        let (name, label) = (kind.name(), label.as_str().unwrap());
        format!("| `{label}`<br>{name} | {} | {} |\n", kind.will_happen(), kind.what_to_do())
    });
    format!("| kind | what happens on the standby | what to do |\n|---|---|---|\n{}", rows.collect::<String>())
}
