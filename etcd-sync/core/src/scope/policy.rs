//! The cluster-local policy: which keys belong to one cluster and must not reach another. The rules are data
//! (`cluster-local.yaml`); this is their shape and how they match.

use std::collections::HashMap;

use serde::Deserialize;
use thiserror::Error;

use crate::object::object_key::split_first;

/// One rule of the policy.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Pattern of keys, relative to the Kubernetes prefix: `*` is one segment or a part of one, `**` (last) the rest.
    #[serde(rename = "match")]
    pub pattern: String,
    /// Short label for metrics, snake_case.
    pub reason: String,
    /// One sentence for people.
    pub why: String,
}

/// Why a pattern cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PatternError {
    /// Nothing between two slashes, or nothing at all.
    #[error("a segment is empty: write it relative to the Kubernetes prefix, as in `configmaps/*/name`")]
    EmptySegment,
    /// `**` before the end.
    #[error("`**` is allowed only at the end, alone after a slash")]
    RestNotLast,
    /// It would match every key.
    #[error("it must begin with the name of a resource or a group, otherwise it matches every key")]
    Everything,
}

/// The rules that ship with the program, in the order in which they apply.
pub fn builtin_rules() -> Vec<Rule> {
    serde_saphyr::from_str(include_str!("cluster-local.yaml")).expect("the embedded policy is read by a test")
}

/// Rules made ready for matching: found by first segment, tried in the order given.
#[derive(Debug, Default)]
pub(crate) struct RuleSet {
    by_first_segment: HashMap<Box<[u8]>, Vec<Compiled>>,
    /// Rules whose first segment holds a `*`; tried after those above.
    others: Vec<Compiled>,
}

impl RuleSet {
    /// Adds a rule behind those that are there.
    pub(crate) fn add(&mut self, rule: Rule) -> Result<(), PatternError> {
        let pattern = Pattern::compile(&rule.pattern)?;
        match pattern.segments.first() {
            Some(Segment::Literal(first)) => {
                self.by_first_segment.entry(first.clone()).or_default().push(Compiled { rule, pattern });
            }
            _ => self.others.push(Compiled { rule, pattern }),
        }
        Ok(())
    }

    /// The first rule that matches a key from behind the Kubernetes prefix.
    pub(crate) fn find(&self, relative: &[u8]) -> Option<&Rule> {
        let (first, _) = split_first(relative);
        let indexed = self.by_first_segment.get(first).into_iter().flatten();
        indexed.chain(&self.others).find(|compiled| compiled.pattern.matches(relative)).map(|compiled| &compiled.rule)
    }
}

#[derive(Debug)]
struct Compiled {
    rule: Rule,
    pattern: Pattern,
}

#[derive(Debug)]
struct Pattern {
    segments: Vec<Segment>,
    /// Ends in `**`: at least a slash follows, and whatever comes after it.
    rest: bool,
}

#[derive(Debug)]
enum Segment {
    Literal(Box<[u8]>),
    /// `*` alone: any segment that is not empty.
    Any,
    /// With a `*` inside: it stands for any bytes, none included.
    Glob(Box<[u8]>),
}

impl Pattern {
    fn compile(text: &str) -> Result<Self, PatternError> {
        let (body, rest) = match text.strip_suffix("/**") {
            Some(body) => (body, true),
            None => (text, false),
        };
        if matches!(text, "*" | "**") || body == "*" {
            return Err(PatternError::Everything);
        }
        let segments = body.split('/').map(Segment::compile).collect::<Result<Vec<_>, _>>()?;
        if rest && segments.iter().all(|segment| matches!(segment, Segment::Any)) {
            return Err(PatternError::Everything);
        }
        Ok(Pattern { segments, rest })
    }

    fn matches(&self, key: &[u8]) -> bool {
        let mut left = Some(key);
        for segment in &self.segments {
            let Some(key) = left else { return false };
            let (text, tail) = split_first(key);
            if !segment.matches(text) {
                return false;
            }
            left = tail;
        }
        left.is_some() == self.rest
    }
}

impl Segment {
    fn compile(text: &str) -> Result<Self, PatternError> {
        match text {
            "" => Err(PatternError::EmptySegment),
            "*" => Ok(Segment::Any),
            _ if text.contains("**") => Err(PatternError::RestNotLast),
            _ if text.contains('*') => Ok(Segment::Glob(text.as_bytes().into())),
            _ => Ok(Segment::Literal(text.as_bytes().into())),
        }
    }

    fn matches(&self, text: &[u8]) -> bool {
        match self {
            Segment::Literal(literal) => **literal == *text,
            Segment::Any => !text.is_empty(),
            Segment::Glob(glob) => glob_matches(glob, text),
        }
    }
}

/// Goes back to the last star only: linear in practice, and never worse than the product of the lengths.
fn glob_matches(glob: &[u8], text: &[u8]) -> bool {
    let (mut at, mut position) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while position < text.len() {
        if glob.get(at) == Some(&b'*') {
            star = Some((at, position));
            at += 1;
        } else if glob.get(at) == Some(&text[position]) {
            at += 1;
            position += 1;
        } else if let Some((star_at, taken)) = star {
            at = star_at + 1;
            position = taken + 1;
            star = Some((star_at, taken + 1));
        } else {
            return false;
        }
    }
    glob[at..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn matches(pattern: &str, key: &str) -> bool {
        Pattern::compile(pattern).unwrap().matches(key.as_bytes())
    }

    #[test]
    fn the_shipped_rules_are_well_formed() {
        let rules = builtin_rules();
        let mut seen = HashSet::new();
        for rule in &rules {
            Pattern::compile(&rule.pattern).unwrap_or_else(|error| panic!("{}: {error}", rule.pattern));
            assert!(seen.insert(&rule.pattern), "{} stands there twice", rule.pattern);
            assert!(rule.reason.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase()), "{}", rule.reason);
            assert!(rule.why.ends_with('.'), "{}", rule.why);
        }
        assert!(rules.len() > 40);
    }

    #[test]
    fn stars_stay_in_their_segment() {
        assert!(matches("clusterroles/system:*", "clusterroles/system:node"));
        assert!(matches("clusterroles/system:*", "clusterroles/system:"));
        assert!(!matches("clusterroles/system:*", "clusterroles/my-system:node"));
        assert!(!matches("clusterroles/system:*", "clusterroles/system:a/b"));
        assert!(matches("configmaps/*/kube-root-ca.crt", "configmaps/ns/kube-root-ca.crt"));
        assert!(!matches("configmaps/*/kube-root-ca.crt", "configmaps/a/b/kube-root-ca.crt"));
        assert!(!matches("configmaps/*/kube-root-ca.crt", "configmaps//kube-root-ca.crt"));
        assert!(matches("a/x*y*z", "a/xyyz"));
        assert!(!matches("a/x*y*z", "a/xzzy"));
        assert!(matches("*.example.com/widgets/**", "team.example.com/widgets/ns/w"));
    }

    #[test]
    fn the_rest_needs_its_slash() {
        assert!(matches("leases/**", "leases/ns/name"));
        assert!(matches("leases/**", "leases/"));
        assert!(!matches("leases/**", "leases"));
        assert!(!matches("leases/**", "leasesx/ns/name"));
    }

    #[test]
    fn patterns_that_cannot_be_meant_are_refused() {
        let error = |pattern| Pattern::compile(pattern).unwrap_err();
        assert_eq!(error(""), PatternError::EmptySegment);
        assert_eq!(error("/registry/pods/**"), PatternError::EmptySegment);
        assert_eq!(error("pods/"), PatternError::EmptySegment);
        assert_eq!(error("a/**/b"), PatternError::RestNotLast);
        assert_eq!(error("a/b**"), PatternError::RestNotLast);
        assert_eq!(error("**"), PatternError::Everything);
        assert_eq!(error("*/**"), PatternError::Everything);
        assert_eq!(error("*/*/**"), PatternError::Everything);
    }

    #[test]
    fn a_rule_is_found_by_its_first_segment_or_among_the_others() {
        let mut rules = RuleSet::default();
        for pattern in ["*/ns/secret", "pods/**", "pods/ns/secret"] {
            rules.add(Rule { pattern: pattern.into(), reason: "r".into(), why: "w".into() }).unwrap();
        }
        assert_eq!(rules.find(b"pods/ns/secret").unwrap().pattern, "pods/**");
        assert_eq!(rules.find(b"secrets/ns/secret").unwrap().pattern, "*/ns/secret");
        assert_eq!(rules.find(b"secrets/ns/other"), None);
        assert_eq!(rules.find(b""), None);
    }
}
