//! What a switchover or a failover may do: facts in, a refusal or a question out.

use etcd_sync_core::etcd::kv::Revision;
use etcd_sync_core::link::role::Role;
use etcd_sync_core::link::state::{Checkpoint, Phase};

use super::refusal::{Alive, AliveAgain, Refusal, Unknown};
use super::{MissedWhy, Missing, Outcome};
use crate::preflight::switch::{Compared, Comparison, Last};
use crate::preflight::{Check, Finding, Level};

/// A comparison that is older says little about now, in milliseconds.
const COMPARED_MAX_MS: u64 = 15 * 60 * 1_000;

/// Whether a primary is alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Life {
    /// It answers with a quorum, so it can take writes.
    Answers,
    /// It answers, but not this command: why.
    Unknown(String),
    /// It does not answer.
    Silent,
}

/// What the operator must be asked before the run may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Nothing.
    None,
    /// To type a word.
    Ask,
}

impl Life {
    /// Of all members together: one that answers is enough, and only silence of all of them counts as silence.
    pub fn of(members: impl IntoIterator<Item = Life>) -> Life {
        members.into_iter().fold(Life::Silent, |life, member| match (life, member) {
            (Life::Answers, _) | (_, Life::Answers) => Life::Answers,
            (Life::Unknown(why), _) | (Life::Silent, Life::Unknown(why)) => Life::Unknown(why),
            (Life::Silent, Life::Silent) => Life::Silent,
        })
    }
}

/// Whether the role of this cluster lets it be promoted. `promoted_by` is the run of the promotion on record.
///
/// # Errors
/// Why it cannot.
pub fn may_promote(role: &Role, promoted_by: Option<&str>) -> Result<(), Refusal> {
    match role {
        Role::Standby => Ok(()),
        Role::None => Err(Refusal::NeverSynchronized),
        Role::Primary => Err(Refusal::IsPrimary { run: promoted_by.map(str::to_owned) }),
        Role::Demoted { token } => Err(Refusal::IsDemoted { run: token.clone() }),
        Role::Other(found) => Err(Refusal::UnknownRole { found: found.clone() }),
    }
}

/// Whether a standby in this phase may be promoted without its primary.
///
/// # Errors
/// It must not be, whatever else holds.
pub fn is_fit(phase: Phase, accept_unchecked: bool) -> Result<(), Refusal> {
    match phase {
        Phase::FirstSync => Err(Refusal::FirstSync),
        Phase::Resync if !accept_unchecked => Err(Refusal::Resync),
        Phase::Resync | Phase::Streaming => Ok(()),
    }
}

/// Whether the primary is gone. `receiving`: a synchronizer still has contact with it; `despite`: the operator accepts that
/// it is alive.
///
/// # Errors
/// It is alive, or nobody knows.
pub fn is_gone(life: Life, receiving: bool, despite: bool) -> Result<(), Refusal> {
    let alive = match life {
        _ if despite => return Ok(()),
        Life::Answers => Alive::Answers,
        Life::Unknown(why) => Alive::Unknown(why),
        Life::Silent if receiving => Alive::Receiving,
        Life::Silent => return Ok(()),
    };
    Err(Refusal::Alive { alive })
}

/// Whether the primary is still gone, right before the promotion.
///
/// # Errors
/// It came back.
pub fn is_still_gone(life: Life, receiving: bool) -> Result<(), Refusal> {
    let alive = match life {
        _ if receiving => AliveAgain::Receiving,
        Life::Silent => return Ok(()),
        Life::Answers => AliveAgain::Answers,
        Life::Unknown(why) => AliveAgain::Unknown(why),
    };
    Err(Refusal::AliveAgain { alive })
}

/// Whether the standby still has everything up to the revision of the primary that was compared.
///
/// # Errors
/// It copies again.
pub fn is_drained(checkpoint: &Checkpoint, compared: Revision) -> Result<(), Refusal> {
    let drained = checkpoint.phase == Phase::Streaming && checkpoint.offset == 0 && checkpoint.revision >= compared;
    if drained { Ok(()) } else { Err(Refusal::CopiesAgain) }
}

/// The newest comparison that anybody has.
pub fn last_comparison(compared: &Compared) -> Option<&Comparison> {
    match compared {
        Compared::Now(comparison) | Compared::Not { last: Last::Known(comparison), .. } => Some(comparison),
        Compared::Not { .. } => None,
    }
}

/// Why nobody knows whether keys are missed; `None`: it is known.
pub fn unknown(compared: &Compared, called_ms: u64) -> Option<Unknown> {
    let too_old = |at_ms: u64| called_ms.saturating_sub(at_ms) > COMPARED_MAX_MS;
    match last_comparison(compared) {
        None => Some(Unknown::NoVerdict),
        Some(known) if known.unproved > 0 => Some(Unknown::Unproved(known.unproved)),
        Some(known) if known.ended_ms.is_some_and(too_old) => Some(Unknown::TooOld),
        Some(_) => None,
    }
}

/// Whether the operator must be asked before a failover that nobody can vouch for. `yes`: nobody can be asked.
///
/// # Errors
/// It may not begin.
pub fn unchecked(unknown: Option<&Unknown>, accepted: bool, yes: bool) -> Result<Question, Refusal> {
    match unknown {
        Some(unknown) if !accepted && yes => Err(Refusal::Unchecked { unknown: unknown.clone() }),
        Some(_) if !accepted => Ok(Question::Ask),
        _ => Ok(Question::None),
    }
}

/// Whether the operator must be asked before a failover without the keys that are missed. `accepted` is the number given
/// with `--accept-missing`, `checks` what was given with `--accept`.
///
/// # Errors
/// It may not begin.
pub fn missed(missing: &Missing, accepted: Option<u64>, checks: &[String], yes: bool) -> Result<Question, Refusal> {
    let why = match accepted {
        Some(accepted) if accepted == missing.missed => return Ok(Question::None),
        Some(accepted) => MissedWhy::OtherNumber(accepted),
        None if checks.iter().any(|name| name == Check::Comparison.name()) => MissedWhy::NotCovered(missing.missed),
        None if yes => MissedWhy::NotAccepted,
        None => return Ok(Question::Ask),
    };
    Err(Refusal::Missed { missing: Box::new(missing.clone()), why })
}

/// Whether the findings let a failover begin; what is missed is decided by [`missed`]. `accepted` are names of checks.
///
/// # Errors
/// A check failed that was not accepted.
pub fn may_begin(findings: &[Finding], accepted: &[String]) -> Result<(), Refusal> {
    if let Some(unknown) = accepted.iter().find(|name| Check::ALL.iter().all(|check| check.name() != *name)) {
        let known: Vec<&str> = Check::ALL.iter().map(|check| check.name()).collect();
        return Err(Refusal::UnknownCheck { name: unknown.clone(), known: known.join(", ") });
    }
    let failed = findings.iter().filter(|finding| finding.level == Level::Fail && finding.check != Check::Comparison);
    let mut failed: Vec<&'static str> = failed.map(|finding| finding.check.name()).collect();
    // Whose role and history it is cannot be accepted.
    failed.retain(|name| *name == Check::Role.name() || !accepted.iter().any(|accepted| accepted == name));
    failed.dedup();
    let acceptable = !failed.contains(&Check::Role.name());
    if failed.is_empty() { Ok(()) } else { Err(Refusal::Preflight { failed, acceptable, silent: false }) }
}

/// Whether the findings let a switchover begin. `silent`: the primary does not answer.
///
/// # Errors
/// A check failed that was not accepted, or keys are missed.
pub fn may_switch_over(findings: &[Finding], accepted: &[String], silent: bool) -> Result<(), Refusal> {
    let missed = findings.iter().find(|finding| finding.check == Check::Comparison && finding.level == Level::Fail);
    if let Some(finding) = missed {
        return Err(Refusal::Comparison { finding: finding.text(), silent });
    }
    may_begin(findings, accepted).map_err(|refusal| match refusal {
        Refusal::Preflight { failed, acceptable, .. } => Refusal::Preflight { failed, acceptable, silent },
        other => other,
    })
}

/// How the preflight ended as the first step of a run; `None`: an earlier attempt made it.
pub fn preflight_outcome(findings: Option<&[Finding]>) -> Outcome {
    let Some(findings) = findings else {
        return Outcome::Skipped("checked when the run was begun".into());
    };
    let of = |level| findings.iter().filter(move |finding| finding.level == level);
    let names = |level| {
        let mut names: Vec<&str> = of(level).map(|finding| finding.check.name()).collect();
        names.dedup();
        names.join(", ")
    };
    let passed = of(Level::Pass).count();
    match (of(Level::Warn).count(), of(Level::Fail).count()) {
        (0, 0) => Outcome::Done(format!("{passed} passed")),
        (_, 0) => Outcome::Warned(format!("{passed} passed; warned: {}", names(Level::Warn))),
        (0, _) => Outcome::Warned(format!("{passed} passed; failed and accepted: {}", names(Level::Fail))),
        _ => Outcome::Warned(format!(
            "{passed} passed; warned: {}; failed and accepted: {}",
            names(Level::Warn),
            names(Level::Fail)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(check: Check, level: Level) -> Finding {
        Finding { check, level, evidence: "seen".into(), fix: None }
    }

    fn missing(missed: u64) -> Missing {
        Missing { missed, missed_keys: vec!["/a".into()], seen_ms: None, doomed: Vec::new(), unreadable: 0 }
    }

    #[test]
    fn only_a_standby_may_be_promoted() {
        assert_eq!(may_promote(&Role::Standby, None), Ok(()));
        assert_eq!(may_promote(&Role::None, None), Err(Refusal::NeverSynchronized));
        let primary = may_promote(&Role::Primary, Some("r1")).unwrap_err().to_string();
        assert!(primary.contains("(run r1)") && primary.contains("`etcd-sync rejoin`"), "{primary}");
        assert_eq!(
            may_promote(&Role::Demoted { token: "r1".into() }, None),
            Err(Refusal::IsDemoted { run: "r1".into() })
        );
        assert!(matches!(may_promote(&Role::Other("x".into()), None), Err(Refusal::UnknownRole { .. })));
    }

    #[test]
    fn a_part_of_the_data_is_never_promoted() {
        for accepted in [false, true] {
            assert_eq!(is_fit(Phase::FirstSync, accepted), Err(Refusal::FirstSync));
            assert_eq!(is_fit(Phase::Streaming, accepted), Ok(()));
        }
        assert_eq!((is_fit(Phase::Resync, false), is_fit(Phase::Resync, true)), (Err(Refusal::Resync), Ok(())));
    }

    #[test]
    fn one_member_that_answers_is_a_living_primary() {
        let unknown = || Life::Unknown("refused".into());
        assert_eq!(Life::of([]), Life::Silent);
        assert_eq!(Life::of([Life::Silent, unknown(), Life::Silent]), unknown());
        assert_eq!(Life::of([unknown(), Life::Answers, Life::Silent]), Life::Answers);
        assert_eq!(is_gone(Life::Silent, false, false), Ok(()));
        assert_eq!(is_gone(Life::Silent, true, false), Err(Refusal::Alive { alive: Alive::Receiving }));
        assert!(
            is_gone(unknown(), false, false).unwrap_err().to_string().contains("--despite-live-primary \"lose its")
        );
        assert_eq!(is_gone(Life::Answers, true, true), Ok(()));
        assert_eq!(is_still_gone(Life::Silent, false), Ok(()));
        for alive in [is_still_gone(Life::Silent, true), is_still_gone(Life::Answers, false)] {
            assert!(alive.unwrap_err().to_string().contains("journal --abandon"));
        }
    }

    #[test]
    fn an_old_or_incomplete_comparison_is_none() {
        let last = |comparison| Compared::Not { why: "gone".into(), last: Last::Known(comparison) };
        let ended = |ended_ms| Comparison { ended_ms: Some(ended_ms), ..Comparison::default() };
        assert_eq!(unknown(&Compared::Not { why: "gone".into(), last: Last::NotAsked }, 0), Some(Unknown::NoVerdict));
        assert_eq!(unknown(&last(Comparison { unproved: 3, ..ended(0) }), 0), Some(Unknown::Unproved(3)));
        assert_eq!(unknown(&last(ended(1)), COMPARED_MAX_MS + 1), None);
        assert_eq!(unknown(&last(ended(1)), COMPARED_MAX_MS + 2), Some(Unknown::TooOld));
        assert_eq!(unknown(&Compared::Now(Comparison::default()), u64::MAX), None);
        assert_eq!(unchecked(None, false, true), Ok(Question::None));
        assert_eq!(unchecked(Some(&Unknown::TooOld), true, true), Ok(Question::None));
        assert_eq!(unchecked(Some(&Unknown::TooOld), false, false), Ok(Question::Ask));
        assert!(matches!(unchecked(Some(&Unknown::TooOld), false, true), Err(Refusal::Unchecked { .. })));
    }

    #[test]
    fn missed_keys_are_accepted_by_their_number_only() {
        let accept = ["check".to_owned()];
        assert_eq!(missed(&missing(3), Some(3), &[], true), Ok(Question::None));
        assert_eq!(missed(&missing(3), None, &[], false), Ok(Question::Ask));
        for (accepted, checks, yes, said) in [
            (Some(2), &[][..], false, "keys missed: 3, and --accept-missing says 2"),
            (None, &accept[..], false, "keys missed: 3; --accept does not cover missed keys: give --accept-missing 3"),
            (None, &[][..], true, "keys missed: 3"),
        ] {
            assert_eq!(missed(&missing(3), accepted, checks, yes).unwrap_err().to_string(), said);
        }
    }

    #[test]
    fn what_failed_must_be_accepted_by_name() {
        let findings = [finding(Check::Lag, Level::Fail), finding(Check::Comparison, Level::Fail)];
        let text = may_begin(&findings, &[]).unwrap_err().to_string();
        assert!(text.contains("fix that first; if you accept the risk, give --accept"), "{text}");
        assert_eq!(may_begin(&findings, &[Check::Lag.name().to_owned()]), Ok(()));
        assert!(matches!(may_begin(&findings, &["nothing".into()]), Err(Refusal::UnknownCheck { .. })));
        let role = [finding(Check::Role, Level::Fail)];
        let text = may_begin(&role, &[Check::Role.name().to_owned()]).unwrap_err().to_string();
        assert!(!text.contains("--accept"), "{text}");
        let text = may_switch_over(&findings, &[], true).unwrap_err().to_string();
        assert!(text.starts_with("the preflight failed (check)") && text.ends_with("`etcd-sync failover`"), "{text}");
        let text = may_switch_over(&role, &[], true).unwrap_err().to_string();
        assert!(text.ends_with("if the primary is gone: `etcd-sync failover`"), "{text}");
    }

    #[test]
    fn the_preflight_ends_as_its_worst_finding_that_was_accepted() {
        assert!(matches!(preflight_outcome(None), Outcome::Skipped(_)));
        let outcome = |levels: &[Level]| {
            preflight_outcome(Some(&levels.iter().map(|level| finding(Check::Lag, *level)).collect::<Vec<_>>()))
        };
        assert_eq!(outcome(&[Level::Pass]), Outcome::Done("1 passed".into()));
        assert!(matches!(outcome(&[Level::Pass, Level::Warn]), Outcome::Warned(_)));
        assert!(outcome(&[Level::Warn, Level::Fail]).what().contains("failed and accepted"));
    }
}
