//! The look before a switch, as its first step.

use anyhow::Result;
use etcd_sync_operations::preflight::{Check, Finding, Level};
use etcd_sync_operations::procedure::Outcome;

use super::Context;
use crate::operations::readiness::{self, For, Readiness};

/// Looks at everything that must hold.
///
/// # Errors
/// The flags or the files they name cannot be used.
pub async fn look(context: &Context<'_>, purpose: For) -> Result<Readiness> {
    let Context { config, procedure, dns, .. } = context;
    readiness::look(&readiness::Context { config, readiness: &procedure.readiness, dns: *dns }, purpose).await
}

/// Why the findings forbid to go on, in words. What is missed is judged by the command itself.
pub fn forbids(context: &Context<'_>, findings: &[Finding]) -> Option<String> {
    let accepted = &context.procedure.accept;
    if let Some(unknown) = accepted.iter().find(|name| Check::ALL.iter().all(|check| check.name() != *name)) {
        let names: Vec<&str> = Check::ALL.iter().map(|check| check.name()).collect();
        return Some(format!("--accept: there is no check {unknown}; the checks are {}", names.join(", ")));
    }
    let failed = findings.iter().filter(|finding| finding.level == Level::Fail && finding.check != Check::Comparison);
    let mut failed: Vec<&str> = failed.map(|finding| finding.check.name()).collect();
    // Whose role and history it is, is not a matter of taste.
    failed.retain(|name| *name == Check::Role.name() || !accepted.iter().any(|accepted| accepted == name));
    failed.dedup();
    let acceptable: Vec<&str> = failed.iter().copied().filter(|name| *name != Check::Role.name()).collect();
    (!failed.is_empty()).then(|| {
        let fix = format!("the preflight failed ({}): fix that first", failed.join(", "));
        match acceptable.len() == failed.len() {
            true => format!("{fix}; if you accept the risk, give --accept {}", acceptable.join(",")),
            false => fix,
        }
    })
}

/// The step that this was: what it found, in numbers; `None` when an earlier attempt has looked.
pub fn outcome(looked: Option<&Readiness>) -> Outcome {
    let Some(looked) = looked else {
        return Outcome::Skipped("it was looked at when the run was begun".into());
    };
    let of = |level| looked.findings.iter().filter(move |finding| finding.level == level);
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
