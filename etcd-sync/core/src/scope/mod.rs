//! What is synchronized: a key is in scope when it lies below an included prefix, its namespace is not excluded and its
//! resource is not cluster-local; exact keys override either way.

pub mod content;
pub mod policy;

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::etcd::kv::{KeyRange, KeyValue};
use crate::object::object_key::namespace_of;
use crate::scope::policy::{PatternError, Rule, RuleSet, builtin_rules};

/// Namespaces that are never synchronized unless the configuration gives another list.
pub const EXCLUDED_NAMESPACES: [&str; 14] = [
    "cert-manager",
    "cpaas-solution",
    "cpaas-system",
    "cpaas-system-global-credentials",
    "default",
    "global-credentials",
    "kube-node-lease",
    "kube-ovn",
    "kube-public",
    "kube-system",
    "kubevirt",
    "nativestor-system",
    "nsx-system",
    "operators",
];

/// What an operator can say about the scope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScopeConfig {
    /// Prefixes laid out by an API server, as its `--etcd-prefix` names them: a slash that is missing in front or at the
    /// end is added, as the API server does.
    pub prefixes: Vec<String>,
    /// Prefixes of other programs, taken as they are: no rule for Kubernetes applies below them.
    pub plain_prefixes: Vec<String>,
    /// Namespaces that stay out, with the namespace object itself.
    pub excluded_namespaces: Vec<String>,
    /// Patterns, relative to a Kubernetes prefix, of further keys that belong to one cluster only.
    pub cluster_local_add: Vec<String>,
    /// Patterns of the shipped policy (`cluster-local.yaml`), as they stand there, that shall not apply.
    pub cluster_local_remove: Vec<String>,
    /// Whole keys that are in scope whatever the rules say.
    pub include_keys: Vec<String>,
    /// Whole keys that are out of scope whatever the rules say.
    pub exclude_keys: Vec<String>,
}

impl Default for ScopeConfig {
    fn default() -> Self {
        ScopeConfig {
            prefixes: vec!["/registry/".into()],
            plain_prefixes: Vec::new(),
            excluded_namespaces: EXCLUDED_NAMESPACES.map(String::from).to_vec(),
            cluster_local_add: Vec::new(),
            cluster_local_remove: Vec::new(),
            include_keys: Vec::new(),
            exclude_keys: Vec::new(),
        }
    }
}

/// Why a [`ScopeConfig`] cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ScopeError {
    /// Neither list of prefixes has an entry.
    #[error("no prefix is given: nothing would be synchronized")]
    NoPrefix,
    /// A prefix without a byte.
    #[error("an empty prefix would include every key of the etcd, also those of this program: name the prefixes")]
    EmptyPrefix,
    /// One prefix lies within the other, or they are equal.
    #[error("the prefixes {first:?} and {second:?} overlap: keep one of them")]
    OverlappingPrefixes {
        /// The wider one.
        first: String,
        /// The one that lies in it.
        second: String,
    },
    /// A prefix takes in keys that must never be copied.
    #[error("the prefix {prefix:?} includes {key:?}, which must never be copied ({why}): give a longer prefix")]
    ForbiddenPrefix {
        /// The prefix.
        prefix: String,
        /// The key or prefix it collides with.
        key: &'static str,
        /// What that key is.
        why: &'static str,
    },
    /// Not the name of a namespace.
    #[error("{0:?} is not a namespace: expected lower-case letters, digits and dashes, at most 63 (no patterns)")]
    BadNamespace(String),
    /// A pattern of `cluster_local_add` is malformed.
    #[error("the pattern {pattern:?}: {source}")]
    BadPattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        source: PatternError,
    },
    /// A pattern of `cluster_local_remove` is not in the shipped policy.
    #[error("the pattern {pattern:?} is not in the cluster-local policy; similar ones: {}", near.join(", "))]
    UnknownPattern {
        /// The pattern.
        pattern: String,
        /// Patterns of the policy that look alike, nearest first.
        near: Vec<String>,
    },
    /// A key both included and excluded.
    #[error("the key {0:?} is both included and excluded: keep one of them")]
    Contradiction(String),
    /// A key to include that is never read.
    #[error("the key {0:?} to include lies below none of the prefixes: add its prefix")]
    IncludeOutsidePrefixes(String),
}

/// What becomes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision<'a> {
    /// It is synchronized.
    InScope,
    /// It is left alone.
    Out(Reason<'a>),
}

/// Why a key is left alone. Its `Display` names what decides, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason<'a> {
    /// Below none of the prefixes.
    OutsidePrefixes,
    /// In this namespace, or the namespace itself.
    ExcludedNamespace(&'a str),
    /// A rule of the cluster-local policy, or one that the operator added.
    ClusterLocal {
        /// Label of the rule, for metrics.
        reason: &'a str,
        /// The rule's sentence.
        why: &'a str,
    },
    /// Named by the operator.
    ExcludedKey,
    /// It expires with an etcd lease, and leases cannot be copied.
    LeaseBound,
    /// Its labels say that the local API server writes it (see [`crate::scope::content`]).
    RewrittenLocally,
    /// It installs this synchronizer, on its own cluster.
    OwnInstallation,
    /// Every owner it names is out of scope: the standby's garbage collector would delete it.
    OwnerOutOfScope,
}

impl Reason<'_> {
    /// A label for metrics: one for each variant.
    pub fn label(&self) -> &'static str {
        match self {
            Reason::OutsidePrefixes => "outside_prefixes",
            Reason::ExcludedNamespace(_) => "excluded_namespace",
            Reason::ClusterLocal { .. } => "cluster_local",
            Reason::ExcludedKey => "excluded_key",
            Reason::LeaseBound => "lease_bound",
            Reason::RewrittenLocally => "rewritten_locally",
            Reason::OwnInstallation => "own_installation",
            Reason::OwnerOutOfScope => "owner_out_of_scope",
        }
    }
}

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::OutsidePrefixes => f.write_str("outside the synchronized prefixes (--prefix, --plain-prefix)"),
            Reason::ExcludedNamespace(name) => write!(f, "namespace {name} is excluded (--exclude-namespace)"),
            Reason::ClusterLocal { reason, why } => write!(f, "belongs to one cluster ({reason}): {why}"),
            Reason::ExcludedKey => f.write_str("this key is excluded (--exclude-key)"),
            Reason::LeaseBound => f.write_str("bound to an etcd lease, which exists in its own cluster only"),
            Reason::RewrittenLocally => f.write_str("written by the local API server itself (see its labels)"),
            Reason::OwnInstallation => f.write_str("it is the installation of etcd-sync on its own cluster"),
            Reason::OwnerOutOfScope => {
                f.write_str("every owner it names is out of scope; the standby's garbage collector would delete it")
            }
        }
    }
}

/// A validated scope, made ready for deciding on hundreds of thousands of keys a second. It never changes: share it by
/// reference or in an `Arc`.
#[derive(Debug)]
pub struct Scope {
    prefixes: Vec<Prefix>,
    ranges: Vec<KeyRange>,
    /// Sorted, as the lists of keys are: few entries are found faster by halving than by hashing.
    excluded_namespaces: Vec<String>,
    include_keys: Vec<String>,
    exclude_keys: Vec<String>,
    rules: RuleSet,
    fingerprint: u64,
}

impl Scope {
    /// Validates a configuration. The order of its lists does not matter, nor do entries given twice, except prefixes.
    pub fn new(config: &ScopeConfig) -> Result<Scope, ScopeError> {
        let prefixes = prefixes(config)?;
        let excluded_namespaces = sorted(&config.excluded_namespaces);
        if let Some(bad) = excluded_namespaces.iter().find(|name| !is_namespace(name)) {
            return Err(ScopeError::BadNamespace(bad.clone()));
        }
        let (include_keys, exclude_keys) = (sorted(&config.include_keys), sorted(&config.exclude_keys));
        if let Some(key) = include_keys.iter().find(|key| exclude_keys.binary_search(key).is_ok()) {
            return Err(ScopeError::Contradiction(key.clone()));
        }
        let outside = |key: &&String| !prefixes.iter().any(|prefix| key.starts_with(&prefix.text));
        if let Some(key) = include_keys.iter().find(outside) {
            return Err(ScopeError::IncludeOutsidePrefixes(key.clone()));
        }

        let effective = effective_rules(config)?;
        let mut fingerprint = Fingerprint::new();
        for kind in [false, true] {
            let prefixes = prefixes.iter().filter(|prefix| prefix.plain == kind);
            fingerprint.list(prefixes.map(|prefix| prefix.text.as_str()));
        }
        for list in [&excluded_namespaces, &include_keys, &exclude_keys] {
            fingerprint.list(list.iter().map(String::as_str));
        }
        fingerprint.list(sorted(effective.iter().map(|rule| &rule.pattern)).iter().map(String::as_str));

        let mut rules = RuleSet::default();
        for rule in effective {
            let pattern = rule.pattern.clone();
            rules.add(rule).map_err(|source| ScopeError::BadPattern { pattern, source })?;
        }
        let ranges = prefixes.iter().map(|prefix| KeyRange::prefix(prefix.text.as_bytes())).collect();
        let fingerprint = fingerprint.0;
        Ok(Scope { prefixes, ranges, excluded_namespaces, include_keys, exclude_keys, rules, fingerprint })
    }

    /// What becomes of `key`, as far as the key alone tells.
    pub fn decide(&self, key: &[u8]) -> Decision<'_> {
        let Some(prefix) = self.prefixes.iter().find(|prefix| key.starts_with(prefix.text.as_bytes())) else {
            return Decision::Out(Reason::OutsidePrefixes);
        };
        if find(&self.exclude_keys, key).is_some() {
            return Decision::Out(Reason::ExcludedKey);
        }
        if prefix.plain || find(&self.include_keys, key).is_some() {
            return Decision::InScope;
        }
        let relative = &key[prefix.text.len()..];
        if let Some(name) = namespace_of(relative).and_then(|name| find(&self.excluded_namespaces, name)) {
            return Decision::Out(Reason::ExcludedNamespace(name));
        }
        match self.rules.find(relative) {
            Some(Rule { reason, why, .. }) => Decision::Out(Reason::ClusterLocal { reason, why }),
            None => Decision::InScope,
        }
    }

    /// The Kubernetes prefix of a key and what follows it; `None` for keys of other programs.
    pub fn split<'a>(&self, key: &'a [u8]) -> Option<(&str, &'a [u8])> {
        let prefix = self.prefixes.iter().find(|prefix| !prefix.plain && key.starts_with(prefix.text.as_bytes()))?;
        Some((&prefix.text, &key[prefix.text.len()..]))
    }

    /// The prefix a key lies below, whoever lays it out.
    pub fn prefix_of(&self, key: &[u8]) -> Option<&str> {
        self.prefixes.iter().map(|prefix| &prefix.text[..]).find(|prefix| key.starts_with(prefix.as_bytes()))
    }

    /// The prefixes that an API server lays out.
    pub fn kubernetes_prefixes(&self) -> impl Iterator<Item = &str> {
        self.prefixes.iter().filter(|prefix| !prefix.plain).map(|prefix| &prefix.text[..])
    }

    /// The keys below a directory of each of these prefixes, as `namespaces/`.
    pub fn ranges_below(&self, directory: &str) -> Vec<KeyRange> {
        let below = |prefix| KeyRange::prefix(format!("{prefix}{directory}").as_bytes());
        self.kubernetes_prefixes().map(below).collect()
    }

    /// Whether the operator named exactly this key to be in scope.
    pub fn includes_key(&self, key: &[u8]) -> bool {
        find(&self.include_keys, key).is_some()
    }

    /// What becomes of a key with its value: as [`Scope::decide`], and no key on a lease is in scope, not even an
    /// included one: its copy would never expire.
    pub fn decide_kv(&self, kv: &KeyValue) -> Decision<'_> {
        match self.decide(&kv.key) {
            Decision::InScope if kv.lease != 0 => Decision::Out(Reason::LeaseBound),
            decision => decision,
        }
    }

    /// Whether `key` is in scope, as far as the key alone tells.
    pub fn in_scope(&self, key: &[u8]) -> bool {
        self.decide(key) == Decision::InScope
    }

    /// The key ranges that hold everything in scope, sorted and disjoint: what to page over.
    pub fn ranges(&self) -> &[KeyRange] {
        &self.ranges
    }

    /// One range over all of [`Scope::ranges`]: what to watch. It may hold keys below no prefix.
    pub fn covering_range(&self) -> KeyRange {
        // Sorted and disjoint: the last range also ends last. A prefix is text, so none is without an end.
        let (first, last) = (&self.ranges[0], &self.ranges[self.ranges.len() - 1]);
        KeyRange { start: first.start.clone(), end: last.end.clone() }
    }

    /// The namespaces that stay out, sorted.
    pub fn excluded_namespaces(&self) -> &[String] {
        &self.excluded_namespaces
    }

    /// Sixteen hex digits that change whenever a decision could: a hash (64-bit FNV-1a) of the normalized configuration
    /// and the patterns that apply. Wording in the policy does not count, nor does the order anything is given in.
    pub fn fingerprint(&self) -> String {
        format!("{:016x}", self.fingerprint)
    }
}

#[derive(Debug)]
struct Prefix {
    text: String,
    plain: bool,
}

/// Everything the synchronizer owns in an etcd lies below this prefix.
pub const STATE_ROOT: &[u8] = b"/etcd-sync/";

/// Keys that no scope may take in.
const FORBIDDEN: [(&str, &str); 2] = [
    // An assertion in the tests keeps this equal to STATE_ROOT.
    ("/etcd-sync/", "this program keeps its own state there"),
    ("compact_rev_key", "the API server's compactor keeps its state there"),
];

/// The prefixes of both kinds, sorted.
fn prefixes(config: &ScopeConfig) -> Result<Vec<Prefix>, ScopeError> {
    if config.prefixes.iter().chain(&config.plain_prefixes).any(String::is_empty) {
        return Err(ScopeError::EmptyPrefix);
    }
    let kubernetes = config.prefixes.iter().map(|text| Prefix { text: with_slashes(text), plain: false });
    let plain = config.plain_prefixes.iter().map(|text| Prefix { text: text.clone(), plain: true });
    let mut prefixes: Vec<Prefix> = kubernetes.chain(plain).collect();
    if prefixes.is_empty() {
        return Err(ScopeError::NoPrefix);
    }
    prefixes.sort_by(|a, b| a.text.cmp(&b.text));
    for prefix in &prefixes {
        for (key, why) in FORBIDDEN {
            // Below our own state everything is ours; the other key is one key.
            let below = key.as_bytes() == STATE_ROOT && prefix.text.starts_with(key);
            if below || key.starts_with(&prefix.text) {
                return Err(ScopeError::ForbiddenPrefix { prefix: prefix.text.clone(), key, why });
            }
        }
    }
    // Sorted, a prefix comes right before the first key that lies in it.
    if let Some([first, second]) = prefixes.array_windows().find(|[a, b]| b.text.starts_with(&a.text)) {
        return Err(ScopeError::OverlappingPrefixes { first: first.text.clone(), second: second.text.clone() });
    }
    Ok(prefixes)
}

/// What the API server makes of its `--etcd-prefix`.
fn with_slashes(text: &str) -> String {
    format!("{}{text}{}", if text.starts_with('/') { "" } else { "/" }, if text.ends_with('/') { "" } else { "/" })
}

/// The shipped rules without those removed, then those added.
fn effective_rules(config: &ScopeConfig) -> Result<Vec<Rule>, ScopeError> {
    let mut rules = builtin_rules();
    for pattern in sorted(&config.cluster_local_remove) {
        if !rules.iter().any(|rule| rule.pattern == pattern) {
            let near = nearest(&pattern, rules.iter().map(|rule| rule.pattern.as_str()));
            return Err(ScopeError::UnknownPattern { near, pattern });
        }
        rules.retain(|rule| rule.pattern != pattern);
    }
    for pattern in sorted(&config.cluster_local_add) {
        if !rules.iter().any(|rule| rule.pattern == pattern) {
            let why = format!("Added with --cluster-local-add {pattern}.");
            rules.push(Rule { pattern, reason: "configured".into(), why });
        }
    }
    Ok(rules)
}

/// The three candidates that look most like `text`, nearest first.
fn nearest<'a>(text: &str, candidates: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut scored: Vec<(f64, &str)> = candidates.map(|other| (strsim::jaro_winkler(text, other), other)).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    scored.into_iter().take(3).map(|(_, candidate)| candidate.to_owned()).collect()
}

fn is_namespace(name: &str) -> bool {
    let dash_at_an_end = name.starts_with('-') || name.ends_with('-');
    let allowed = |byte: u8| byte == b'-' || byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=63).contains(&name.len()) && !dash_at_an_end && name.bytes().all(allowed)
}

fn sorted<'a>(list: impl IntoIterator<Item = &'a String>) -> Vec<String> {
    let mut list: Vec<String> = list.into_iter().cloned().collect();
    list.sort();
    list.dedup();
    list
}

fn find<'a>(sorted: &'a [String], text: &[u8]) -> Option<&'a str> {
    let at = sorted.binary_search_by(|entry| entry.as_bytes().cmp(text)).ok()?;
    Some(&sorted[at])
}

/// 64-bit FNV-1a: stable over builds and machines, which the standard library's hasher is not.
struct Fingerprint(u64);

impl Fingerprint {
    fn new() -> Self {
        Fingerprint(0xcbf2_9ce4_8422_2325)
    }

    /// Lengths go in as well, so that no two lists of lists look alike.
    fn list<'a>(&mut self, entries: impl Iterator<Item = &'a str>) {
        let mut count = 0;
        for entry in entries {
            self.bytes(&(entry.len() as u64).to_le_bytes());
            self.bytes(entry.as_bytes());
            count += 1;
        }
        self.bytes(&u64::MAX.to_le_bytes());
        self.bytes(&(count as u64).to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests;
