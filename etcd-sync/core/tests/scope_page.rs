//! Keeps the table of the cluster-local policy in docs/scope.md in step with the policy that is built in.

use std::path::PathBuf;

use etcd_sync_core::policy::{Rule, builtin_rules};
use etcd_sync_core::scope::EXCLUDED_NAMESPACES;

const BEGIN: &str = "<!-- the policy: generated, do not edit -->\n";
const END: &str = "<!-- end of the policy -->\n";

/// Set, the test writes the table instead of comparing it.
const UPDATE: &str = "UPDATE_DOCS";

#[test]
fn the_page_shows_the_policy() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/scope.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the mark where the table begins");
    let (shown, after) = rest.split_once(END).expect("the mark where the table ends");
    let table = table(&builtin_rules());
    if std::env::var_os(UPDATE).is_some() {
        return std::fs::write(&path, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
    }
    assert!(
        shown == table,
        "docs/scope.md does not show core/src/cluster-local.yaml. Write it anew with: \
         {UPDATE}=1 cargo test -p etcd-sync-core --test scope_page\nIt should be:\n{table}"
    );
}

#[test]
fn the_page_names_the_excluded_namespaces() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/scope.md");
    let page = std::fs::read_to_string(&path).unwrap();
    for namespace in EXCLUDED_NAMESPACES {
        assert!(page.contains(&format!("`{namespace}`")), "docs/scope.md does not name {namespace}");
    }
}

/// One row for neighbours that share reason and sentence.
fn table(rules: &[Rule]) -> String {
    let rows = rules.chunk_by(|a, b| a.reason == b.reason && a.why == b.why).map(|rules| {
        let patterns: Vec<String> = rules.iter().map(|rule| format!("`{}`", rule.pattern)).collect();
        format!("| {} | {} | {} |\n", patterns.join("<br>"), rules[0].reason, rules[0].why)
    });
    format!("| keys, behind the Kubernetes prefix | reason | why |\n|---|---|---|\n{}", rows.collect::<String>())
}
