//! Findings for people, on a terminal of 80 columns.

use super::{Finding, Level, worst};

/// Columns of a terminal. A word that is longer by itself (a key, a URL) stands out.
const WIDTH: usize = 80;

/// Where the text begins: behind the level and the name of the check.
const INDENT: usize = 21;

/// The findings one below the other, in their order, each with its remedy; the last line sums up.
pub fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let level = match finding.level {
            Level::Fail => "FAIL",
            other => other.name(),
        };
        let head = format!("{level}  {:13}  ", finding.check.name());
        push(&mut text, &head, &finding.evidence);
        if let Some(fix) = &finding.fix {
            push(&mut text, &" ".repeat(INDENT), &format!("-> {fix}"));
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
    let (failed, warned) = (named(Level::Fail), named(Level::Warn));
    let mut text = String::from("\n");
    match worst(findings) {
        Level::Pass => text.push_str("Everything passed.\n"),
        Level::Warn => push(&mut text, "", &format!("Nothing failed. Read before you go on: {}.", warned.join(", "))),
        Level::Fail => {
            push(&mut text, "", &format!("FAILED: {}. Do not go on before that is mended.", failed.join(", ")));
            if !warned.is_empty() {
                push(&mut text, "", &format!("Also read: {}.", warned.join(", ")));
            }
        }
    }
    text
}

/// Appends `words` behind `head`, broken at spaces; further lines are indented as deep as the head is long.
fn push(text: &mut String, head: &str, words: &str) {
    let indent = head.chars().count();
    text.push_str(head);
    let mut column = indent;
    for word in words.split_whitespace() {
        let length = word.chars().count();
        if column > indent {
            if column + 1 + length > WIDTH {
                text.push('\n');
                text.push_str(&" ".repeat(indent));
                column = indent;
            } else {
                text.push(' ');
                column += 1;
            }
        }
        text.push_str(word);
        column += length;
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::super::Check;
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

FAILED: check. Do not go on before that is mended.
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
