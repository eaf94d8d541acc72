//! Findings for people, on a terminal of 80 columns.

use super::{Finding, Level, worst};
use crate::text::wrap;

/// Where the text begins: behind the level and the name of the check.
const INDENT: &str = "                     ";

/// The findings one below the other, in their order, each with its remedy; the last line sums up.
pub fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let level = match finding.level {
            Level::Fail => "FAIL",
            other => other.name(),
        };
        let head = format!("{level}  {:13}  ", finding.check.name());
        text += &wrap(&finding.evidence, &head, INDENT);
        if let Some(fix) = &finding.fix {
            text += &wrap(&format!("-> {fix}"), INDENT, INDENT);
        }
    }
    text.push_str(&summary(findings));
    text
}

fn summary(findings: &[Finding]) -> String {
    let named = |level: Level| {
        let mut names: Vec<&str> =
            findings.iter().filter(|finding| finding.level == level).map(|finding| finding.check.name()).collect();
        names.dedup();
        names
    };
    let (failed, mut warned) = (named(Level::Fail), named(Level::Warn));
    warned.retain(|name| !failed.contains(name));
    let mut text = String::from("\n");
    match worst(findings) {
        Level::Pass => text.push_str("Everything passed.\n"),
        Level::Warn => text += &wrap(&format!("Nothing failed. Read before you go on: {}.", warned.join(", ")), "", ""),
        Level::Fail => {
            text += &wrap(&format!("FAILED: {}. Do not go on before that is fixed.", failed.join(", ")), "", "");
            if !warned.is_empty() {
                text += &wrap(&format!("Also read: {}.", warned.join(", ")), "", "");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::Check;
    use crate::text::WIDTH;

    use super::*;

    #[test]
    fn lines_end_before_the_terminal_does() {
        let key = format!("/registry/configmaps/team-a/{}", "x".repeat(80));
        let findings = [
            Finding::pass(Check::Role, "the standby is the standby"),
            Finding::warn(
                Check::Headroom,
                "the primary's history reaches only 12 seconds back, which is less than the minute asked for",
                "look at the lag",
            ),
            Finding::fail(Check::Comparison, format!("1 key is missed: {key}"), "do not switch"),
        ];
        let text = text(&findings);
        let expected = format!(
            "\
pass  role           the standby is the standby
warn  headroom       the primary's history reaches only 12 seconds back, which
                     is less than the minute asked for
                     -> look at the lag
FAIL  check          1 key is missed:
                     {key}
                     -> do not switch

FAILED: check. Do not go on before that is fixed.
Also read: headroom.
"
        );
        assert_eq!(text, expected);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH || line.contains(&key)));
    }

    #[test]
    fn the_last_line_sums_up() {
        assert!(text(&[Finding::pass(Check::Role, "x")]).ends_with("\nEverything passed.\n"));
        assert!(text(&[Finding::warn(Check::Role, "x", "y")]).ends_with("Read before you go on: role.\n"));
    }
}
