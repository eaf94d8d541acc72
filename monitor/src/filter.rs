//! `/api/differences`: the known differences that match a filter. Pure.

use std::collections::{BTreeMap, BTreeSet};

use etcd_sync_core::compare::check::{Described, Finding};
use etcd_sync_core::scope::Scope;
use serde::Serialize;

use crate::history::Known;

/// Names offered to filter by, of each kind.
const NAMES_MAX: usize = 500;

/// Means "in no namespace".
const NO_NAMESPACE: &str = "-";

/// Which differences, and which part of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// `missed`, `surplus`, `mismatched`, `status`; empty: any.
    pub difference: String,
    /// Empty: any; `-`: of no namespace.
    pub namespace: String,
    /// Empty: any.
    pub resource: String,
    /// The words; empty: any.
    pub reason: String,
    /// Part of the key.
    pub text: String,
    /// First seen at this time or before, in Unix milliseconds.
    pub seen_until_ms: Option<u64>,
    /// First seen after this time.
    pub seen_after_ms: Option<u64>,
    /// Rows to skip.
    pub offset: usize,
    /// Rows to give.
    pub limit: usize,
}

/// The answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Filtered<'a> {
    check_id: Option<u64>,
    deep_check_id: Option<u64>,
    /// How many match.
    total: usize,
    /// All of them, whatever the filter.
    counts: BTreeMap<&'static str, u64>,
    namespaces: BTreeSet<&'a str>,
    resources: BTreeSet<String>,
    reasons: BTreeSet<&'static str>,
    differences: Vec<Row<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row<'a> {
    #[serde(flatten)]
    described: Described<'a>,
    first_seen_ms: Option<u64>,
}

/// Applies `filter`; `ids` are the results that the known differences come from.
pub fn apply<'a>(
    filter: &Filter,
    known: &'a Known,
    ids: (Option<u64>, Option<u64>),
    scope: &Scope,
    since_ms: impl Fn(&Finding) -> Option<u64>,
) -> Filtered<'a> {
    let mut answer = Filtered {
        check_id: ids.0,
        deep_check_id: ids.1,
        total: 0,
        counts: BTreeMap::from([("missed", 0), ("surplus", 0), ("mismatched", 0), ("status", 0)]),
        namespaces: BTreeSet::new(),
        resources: BTreeSet::new(),
        reasons: BTreeSet::new(),
        differences: Vec::new(),
    };
    for (name, kept, situation) in known.lists() {
        answer.counts.insert(name, kept.count);
        for finding in &kept.first {
            let described = finding.describe(scope, situation);
            if answer.namespaces.len() < NAMES_MAX {
                answer.namespaces.insert(described.namespace.unwrap_or(NO_NAMESPACE));
            }
            if let Some(resource) = described.resource.as_ref().filter(|_| answer.resources.len() < NAMES_MAX)
                && !answer.resources.contains(resource)
            {
                answer.resources.insert(resource.clone());
            }
            answer.reasons.insert(described.reason);
            let first_seen_ms = since_ms(finding);
            if !filter.matches(&described, first_seen_ms) {
                continue;
            }
            if answer.total >= filter.offset && answer.differences.len() < filter.limit {
                answer.differences.push(Row { described, first_seen_ms });
            }
            answer.total += 1;
        }
    }
    answer
}

impl Filter {
    fn matches(&self, described: &Described<'_>, seen_ms: Option<u64>) -> bool {
        let one = |wanted: &str, found: &str| wanted.is_empty() || found == wanted;
        one(&self.difference, described.difference)
            && one(&self.namespace, described.namespace.unwrap_or(NO_NAMESPACE))
            && one(&self.resource, described.resource.as_deref().unwrap_or_default())
            && one(&self.reason, described.reason)
            && described.key.contains(&self.text)
            && self.seen_until_ms.is_none_or(|until| seen_ms.is_some_and(|seen| seen <= until))
            && self.seen_after_ms.is_none_or(|after| seen_ms.is_some_and(|seen| seen > after))
    }
}
