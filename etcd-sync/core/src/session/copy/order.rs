//! The order in which a copy walks the scope.

use crate::etcd::kv::KeyRange;
use crate::scope::Scope;
use crate::scope::content::{CRDS, NAMESPACES};

/// CRDs, then namespaces, of each Kubernetes prefix: everything else comes after them.
pub(super) fn barriers(scope: &Scope) -> Vec<KeyRange> {
    [scope.ranges_below(CRDS), scope.ranges_below(NAMESPACES)].concat()
}

/// Disjoint ranges, those of [`barriers`] first.
pub(super) fn ranges(scope: &Scope) -> Vec<KeyRange> {
    let first = barriers(scope);
    let mut holes = first.clone();
    holes.sort_by(|a, b| a.start.cmp(&b.start));
    let mut rest = Vec::new();
    for range in scope.ranges() {
        let mut start = range.start.clone();
        for hole in holes.iter().filter(|hole| range.contains(&hole.start)) {
            rest.push(KeyRange { start, end: hole.start.clone() });
            start = hole.end.clone();
        }
        rest.push(KeyRange { start, end: range.end.clone() });
    }
    [first, rest].concat()
}
