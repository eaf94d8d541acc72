//! What all servers say, for people and programs.

use serde::Serialize;
use serde_json::{Value, json};

use super::change::said;
use super::{Answer, Judgement, Kind, Said, Target, Verdict, list, seconds};
use crate::text::wrap;

/// Of what stands below a word of eight columns.
const INDENT: &str = "        ";

/// What was found out about a name.
#[derive(Clone, Debug)]
pub struct Report<'a> {
    /// What it is to say.
    pub target: &'a Target,
    /// What the servers say.
    pub answers: &'a [Answer],
    /// What others say, who cannot be asked by packets: a pod of the cluster, for one. They count as servers do.
    pub further: &'a [Line],
}

/// One who was asked, and what it said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// What its word is worth.
    pub mark: Mark,
    /// Who it is, as in `resolver 10.0.0.1:53` or `pod cpaas-system/sentry-0`.
    pub who: String,
    /// What it said.
    pub says: String,
}

/// What a word is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    /// It names the target.
    Good,
    /// It names something else.
    Old,
    /// It names an alias that others must resolve.
    Alias,
    /// It says nothing.
    Silent,
}

impl Mark {
    fn name(self) -> &'static str {
        match self {
            Mark::Good => "good",
            Mark::Old => "OLD",
            Mark::Alias => "alias",
            Mark::Silent => "SILENT",
        }
    }
}

impl Line {
    fn new(target: &Target, answer: &Answer) -> Line {
        let mark = match target.judge(answer) {
            Judgement::Target => Mark::Good,
            Judgement::Old => Mark::Old,
            Judgement::Alias => Mark::Alias,
            Judgement::Silent => Mark::Silent,
        };
        let says = match &answer.said {
            Said::Failed(why) => why.clone(),
            Said::Records(records) if mark == Mark::Old && !records.authoritative => {
                let left = seconds(records.differing_ttl_s(target).unwrap_or(0));
                format!("{}; it may keep this for {left} more", list(&records.addresses))
            }
            Said::Records(records) => said(records),
        };
        Line { mark, who: format!("{} {}", answer.kind.name(), answer.server), says }
    }
}

impl Report<'_> {
    /// What it all comes to.
    pub fn verdict(&self) -> Verdict {
        let further = self.further.iter().map(|line| match line.mark {
            Mark::Good | Mark::Alias => Verdict::Good,
            Mark::Silent => Verdict::Silent,
            Mark::Old => Verdict::Old,
        });
        further.fold(self.target.verdict(self.answers), Verdict::max)
    }

    /// For people, at 80 columns.
    pub fn text(&self) -> String {
        let mut text = wrap(&self.target_text(), "", "  ");
        text.push('\n');
        for line in self.lines() {
            text.push_str(&wrap(&line.who, &format!("{:<8}", line.mark.name()), INDENT));
            text.push_str(&wrap(&line.says, INDENT, INDENT));
        }
        text.push('\n');
        text.push_str(&wrap(&self.summary(), "", ""));
        text
    }

    fn target_text(&self) -> String {
        format!("{} must point at {}", self.target.name, list(&self.target.addresses))
    }

    /// One sentence or two.
    pub fn summary(&self) -> String {
        let lines = self.lines();
        let count = |mark: Mark| lines.iter().filter(|line| line.mark == mark).count();
        let all = lines.len();
        let name = &self.target.name;
        let silent = count(Mark::Silent);
        let silence = match silent {
            0 => String::new(),
            1 => format!(" 1 of {all} says nothing."),
            _ => format!(" {silent} of {all} say nothing."),
        };
        match self.verdict() {
            Verdict::Good => format!("{name} points at the target on every server queried ({all})."),
            Verdict::Silent => {
                format!(
                    "{name} points at the target wherever there was an answer.{silence} Look after them: whoever asks only them \
                     resolves nothing."
                )
            }
            Verdict::Old if count(Mark::Old) > 0 => {
                let old = count(Mark::Old);
                let kept = self.target.longest_old_s(self.answers).map_or(String::new(), |left| {
                    format!(" A resolver may keep its old answer for {} more.", seconds(left))
                });
                format!("{name} does NOT point at the target yet: {old} of {all} say otherwise.{kept}{silence}")
            }
            Verdict::Old if all == 0 => format!("No server could be queried for {name}."),
            Verdict::Old => {
                let kinds = [Kind::Authoritative, Kind::Resolver].into_iter().filter(|kind| {
                    let mut of_kind = self.answers.iter().filter(|answer| answer.kind == *kind).peekable();
                    of_kind.peek().is_some() && of_kind.all(|answer| self.target.judge(answer) == Judgement::Silent)
                });
                let kinds: Vec<&str> = kinds.map(Kind::name).collect();
                match kinds.is_empty() {
                    true => {
                        format!(
                            "Where {name} points is not known: every server returns an alias, and none its addresses."
                        )
                    }
                    false => {
                        format!("Where {name} points is not known: no {} server says anything.", kinds.join(" and no "))
                    }
                }
            }
        }
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let answers: Vec<Value> = self.answers.iter().map(|answer| self.answer_json(answer)).collect();
        json!({
            "name": self.target.name,
            "addresses": self.target.addresses,
            "verdict": match self.verdict() {
                Verdict::Good => "good",
                Verdict::Silent => "silent",
                Verdict::Old => "old",
            },
            "summary": self.summary(),
            "answers": answers,
            "further": self.further,
        })
    }

    fn answer_json(&self, answer: &Answer) -> Value {
        let line = Line::new(self.target, answer);
        let mut value = json!({ "server": answer.server, "kind": answer.kind, "mark": line.mark });
        match &answer.said {
            Said::Failed(why) => value["error"] = json!(why),
            Said::Records(records) => {
                value["addresses"] = json!(records.addresses);
                value["ttlSeconds"] = json!(records.ttl_s());
                value["alias"] = json!(records.alias);
            }
        }
        value
    }

    fn lines(&self) -> Vec<Line> {
        let asked = self.answers.iter().map(|answer| Line::new(self.target, answer));
        asked.chain(self.further.iter().cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::judge::tests::{answer, failed, target};
    use super::*;
    use crate::text::WIDTH;

    #[test]
    fn a_name_on_its_way_in_words() {
        let target = target(&["10.0.0.2", "fd00::2"]);
        let answers = [
            answer(Kind::Authoritative, "ns1.example.com (10.1.0.2:53)", &["10.0.0.2", "fd00::2"], 60),
            failed(Kind::Authoritative, "ns2.example.com (10.2.0.2:53)", "no answer within 2s"),
            answer(Kind::Resolver, "10.1.0.53:53", &["10.0.0.1"], 250),
            answer(Kind::Resolver, "[fd00::53]:53", &[], 30),
        ];
        let further =
            [Line { mark: Mark::Good, who: "pod cpaas-system/sentry-0".into(), says: "10.0.0.2, fd00::2".into() }];
        let report = Report { target: &target, answers: &answers, further: &further };
        assert_eq!(
            report.text(),
            "\
global.example.com must point at 10.0.0.2, fd00::2

good    authoritative ns1.example.com (10.1.0.2:53)
        10.0.0.2, fd00::2 (TTL 1m)
SILENT  authoritative ns2.example.com (10.2.0.2:53)
        no answer within 2s
OLD     resolver 10.1.0.53:53
        10.0.0.1; it may keep this for 4m 10s more
OLD     resolver [fd00::53]:53
        no address; it may keep this for 30s more
good    pod cpaas-system/sentry-0
        10.0.0.2, fd00::2

global.example.com does NOT point at the target yet: 2 of 5 say otherwise. A
resolver may keep its old answer for 4m 10s more. 1 of 5 says nothing.
"
        );
        let json = report.json();
        assert_eq!((&json["verdict"], &json["answers"][2]["ttlSeconds"]), (&json!("old"), &json!(250)));
        assert_eq!(json["further"][0]["mark"], "good");
        assert_eq!(json["answers"][1]["error"], "no answer within 2s");
    }

    #[test]
    fn every_end_has_its_sentence() {
        let target = target(&["10.0.0.2"]);
        let good = answer(Kind::Authoritative, "a", &["10.0.0.2"], 60);
        let dead = failed(Kind::Resolver, "r", "no answer");
        let summary = |answers: &[Answer], further: &[Line]| Report { target: &target, answers, further }.summary();
        assert!(summary(&[], &[]).starts_with("No server could be queried"));
        assert!(summary(std::slice::from_ref(&good), &[]).contains("on every server queried (1)"));
        assert!(summary(&[good.clone(), dead], &[]).contains("no resolver server says anything"));
        let pod = Line { mark: Mark::Old, who: "pod".into(), says: "10.0.0.1".into() };
        assert!(summary(&[good], &[pod]).contains("1 of 2 say otherwise"));
    }

    proptest! {
        #[test]
        fn no_line_is_wider_than_the_terminal(count in 0..9u8, why in "[a-z ]{0,200}", silent in any::<bool>()) {
            let all: Vec<String> = (0..count).map(|n| format!("fd00:1111:2222:3333:4444:5555:6666:{n}")).collect();
            let all: Vec<&str> = all.iter().map(String::as_str).collect();
            let target = target(&all);
            let mut answers = vec![answer(Kind::Resolver, "r", &all, 5), answer(Kind::Resolver, "r", &["10.0.0.1"], 5)];
            if silent {
                answers.push(failed(Kind::Authoritative, "a", &why));
            }
            let text = Report { target: &target, answers: &answers, further: &[] }.text();
            prop_assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{}", text);
        }
    }
}
