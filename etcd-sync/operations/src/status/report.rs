//! What `status` reports of a link, for people and for programs.

use std::time::Duration;

use serde_json::{Value, json};

use super::{ahead, ended, primary_now};
use crate::accept::name;
use crate::text::{age, ago};
use etcd_sync_core::etcd::kv::Revision;
use etcd_sync_core::link::question::{Acceptance, Question};
use etcd_sync_core::link::role::{Promotion, Role};
use etcd_sync_core::link::state::{Checkpoint, Condition, Phase};

/// How far a link is, as its record and the two clusters say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The link.
    pub link: String,
    /// The standby's role.
    pub role: Role,
    /// The role as it is written; `None`: nothing is.
    pub role_text: Option<String>,
    /// The checkpoint.
    pub checkpoint: Option<Checkpoint>,
    /// The promotion on record.
    pub promotion: Option<Promotion>,
    /// The leader and the candidates behind it, oldest first.
    pub candidates: Vec<Candidate>,
    /// Why replication is paused.
    pub condition: Option<Condition>,
    /// What is asked of the operator.
    pub question: Option<Question>,
    /// The operator's answer, until it is used up.
    pub acceptance: Option<Acceptance>,
    /// Values saved on the standby before they were taken away.
    pub saved: u64,
    /// The mark of a copy under way, as it is written.
    pub copied: Option<Value>,
    /// Where the primary is now, or why that is not known.
    pub primary: Result<Head, String>,
    /// The standby's revision.
    pub standby_revision: Revision,
    /// Now, in Unix milliseconds.
    pub now_ms: u64,
}

/// A replica in the election.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Who it is.
    pub holder: String,
    /// Its epoch, should it lead.
    pub epoch: Revision,
}

/// The newest revision of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The cluster's id, in hexadecimal.
    pub cluster: String,
    /// The revision.
    pub revision: Revision,
}

impl Status {
    /// Whether the link replicates: somebody leads, nothing pauses it, and the role is standby.
    pub fn is_replicating(&self) -> bool {
        self.condition.is_none() && !self.candidates.is_empty() && self.role == Role::Standby
    }

    /// The status for programs.
    pub fn json(&self) -> Value {
        let leader = self.candidates.first();
        json!({
            "link": self.link,
            "role": self.role_text,
            "phase": self.checkpoint.as_ref().map(|checkpoint| checkpoint.phase),
            "leader": leader.map(|leader| &leader.holder),
            "epoch": leader.map(|leader| leader.epoch),
            "candidates": self.candidates.iter().skip(1).map(|other| &other.holder).collect::<Vec<_>>(),
            "paused": self.condition,
            "question": self.question,
            "acceptance": self.acceptance,
            "saved": self.saved,
            "checkpoint": self.checkpoint,
            "copied": self.copied,
            "lagRevisions": self.lag(),
            "primary": match &self.primary {
                Ok(head) => json!({ "cluster": head.cluster, "revision": head.revision }),
                Err(error) => json!({ "error": error }),
            },
            "standbyRevision": self.standby_revision,
        })
    }

    /// The status for people.
    pub fn table(&self) -> String {
        let mut rows = vec![
            ("Link", self.link.clone()),
            ("Role of the standby", self.role_text.clone().unwrap_or_else(|| "none yet: nothing has run".into())),
        ];
        match self.candidates.split_first() {
            None => rows.push(("Leader", "none: no synchronizer is running".into())),
            Some((leader, others)) => {
                rows.push(("Leader", format!("{} (epoch {})", leader.holder, leader.epoch)));
                let others: Vec<&str> = others.iter().map(|other| other.holder.as_str()).collect();
                rows.push(("Standing by", if others.is_empty() { "none".into() } else { others.join(", ") }));
            }
        }
        if let Some(Condition { paused, since_ms, holder }) = &self.condition {
            let lasts = age(Duration::from_millis(self.now_ms.saturating_sub(*since_ms)));
            rows.push(("PAUSED", format!("{paused} (for {lasts}, reported by {holder})")));
        }
        if let Some(question) = &self.question {
            rows.push(("ASKED", self.asked(question)));
        }
        if self.saved > 0 {
            let saved = self.saved;
            rows.push((
                "Saved values",
                format!("{saved}, saved before they were taken away: see `etcd-sync restore --saved`"),
            ));
        }
        match &self.checkpoint {
            None => rows.push(("Phase", "nothing was ever synchronized".into())),
            Some(checkpoint) => {
                rows.push(("Phase", self.phase(checkpoint)));
                let inside = match checkpoint.offset {
                    0 => String::new(),
                    offset => format!(", {offset} changes into it"),
                };
                rows.push(("Checkpoint", format!("primary revision {}{inside}", checkpoint.revision)));
                rows.push(("Last written", ago(self.now_ms, checkpoint.at_ms)));
                rows.push(("Primary cluster", checkpoint.primary.clone()));
            }
        }
        let now = match &self.primary {
            Ok(Head { cluster, revision }) => primary_now(self.checkpoint.as_ref(), &self.role, cluster, *revision),
            Err(error) => format!("not known: {error}"),
        };
        rows.push(("Primary now", now));
        let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        rows.iter().map(|(name, value)| format!("{name:width$}  {value}\n")).collect()
    }

    fn asked(&self, question: &Question) -> String {
        let since = age(Duration::from_millis(self.now_ms.saturating_sub(question.asked_ms)));
        let topic = name(question.topic);
        let answer = self.acceptance.as_ref().filter(|answer| {
            answer.is_good(&question.primary, self.now_ms)
                && answer.evidence_on(question.topic).any(|evidence| evidence == question.evidence)
        });
        match answer {
            Some(answer) => {
                format!("{topic}, for {since}: accepted by {} {}", answer.by, ago(self.now_ms, answer.given_ms))
            }
            None => format!("{topic}, for {since}: run `etcd-sync accept`, it shows what would be lost and asks"),
        }
    }

    fn lag(&self) -> Option<Revision> {
        let (checkpoint, head) = self.checkpoint.as_ref().zip(self.primary.as_ref().ok())?;
        ahead(checkpoint, &self.role, &head.cluster, head.revision)
    }

    fn phase(&self, checkpoint: &Checkpoint) -> String {
        if let Some(ended) = ended(&self.role, self.promotion.as_ref()) {
            return ended;
        }
        let name = checkpoint.phase.name();
        let number = |field: &str| self.copied.as_ref().and_then(|copied| copied[field].as_u64());
        match (checkpoint.phase, number("done"), number("total")) {
            (Phase::Streaming, ..) => name.into(),
            (_, Some(done), Some(total)) => format!("{name} ({done} of {total} keys)"),
            _ => name.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use etcd_sync_core::link::question::Topic;

    use super::*;
    use crate::fixture::checkpoint;

    fn streaming() -> Status {
        Status {
            link: "main".into(),
            role: Role::Standby,
            role_text: Some("standby".into()),
            checkpoint: Some(Checkpoint { revision: 153, at_ms: 1_000, ..checkpoint() }),
            promotion: None,
            candidates: vec![
                Candidate { holder: "pod-a".into(), epoch: 7 },
                Candidate { holder: "pod-b".into(), epoch: 9 },
            ],
            condition: None,
            question: None,
            acceptance: None,
            saved: 0,
            copied: Some(json!({ "done": 3, "total": 8 })),
            primary: Ok(Head { cluster: "c1".into(), revision: 160 }),
            standby_revision: 40,
            now_ms: 2_500,
        }
    }

    #[test]
    fn the_table_of_a_streaming_link() {
        let status = streaming();
        assert!(status.is_replicating());
        let expected = "\
Link                 main
Role of the standby  standby
Leader               pod-a (epoch 7)
Standing by          pod-b
Phase                streaming
Checkpoint           primary revision 153
Last written         1.5 s ago
Primary cluster      c1
Primary now          revision 160, 7 ahead of the checkpoint
";
        assert_eq!(status.table(), expected);
        let json = status.json();
        assert_eq!((&json["lagRevisions"], &json["candidates"]), (&json!(7), &json!(["pod-b"])));
    }

    #[test]
    fn the_table_of_a_paused_copy() {
        let copying = Checkpoint { phase: Phase::FirstSync, revision: 0, offset: 2, ..checkpoint() };
        let paused = Condition { paused: "no space".into(), since_ms: 500, holder: "pod-a".into() };
        let status = Status {
            checkpoint: Some(copying),
            condition: Some(paused),
            primary: Err("no answer".into()),
            ..streaming()
        };
        assert!(!status.is_replicating());
        let table = status.table();
        for row in [
            "PAUSED               no space (for 2.0 s, reported by pod-a)\n",
            "Phase                first-sync (3 of 8 keys)\n",
            "Checkpoint           primary revision 0, 2 changes into it\n",
            "Primary now          not known: no answer\n",
        ] {
            assert!(table.contains(row), "{table}");
        }
        assert_eq!(status.json()["lagRevisions"], Value::Null);
    }

    #[test]
    fn what_is_asked_and_what_is_saved() {
        let question = Question {
            format: Question::FORMAT,
            topic: Topic::OtherHistory,
            evidence: "e".into(),
            primary: "c1".into(),
            losses: None,
            asked_ms: 500,
            holder: "pod-a".into(),
        };
        let acceptance = Acceptance {
            format: Acceptance::FORMAT,
            topic: Topic::OtherHistory,
            evidence: "e".into(),
            primary: "c1".into(),
            primary_raft: None,
            groups: vec![],
            earlier: vec![],
            given_ms: 1_500,
            by: "me".into(),
        };
        let asked = Status { question: Some(question.clone()), saved: 1, ..streaming() };
        for row in [
            "ASKED                other-history, for 2.0 s: run `etcd-sync accept`, it shows what would be lost and asks\n",
            "Saved values         1, saved before they were taken away: see `etcd-sync restore --saved`\n",
        ] {
            assert!(asked.table().contains(row), "{}", asked.table());
        }
        let json = asked.json();
        assert_eq!((&json["question"]["topic"], &json["saved"]), (&json!("other-history"), &json!(1)));
        let answered = Status { acceptance: Some(acceptance.clone()), ..asked.clone() };
        assert!(
            answered.table().contains("other-history, for 2.0 s: accepted by me 1.0 s ago"),
            "{}",
            answered.table()
        );
        for other in [
            Acceptance { evidence: "f".into(), ..acceptance.clone() },
            Acceptance { primary: "c2".into(), ..acceptance },
        ] {
            let table = Status { acceptance: Some(other), ..asked.clone() }.table();
            assert!(table.contains("run `etcd-sync accept`"), "{table}");
        }
    }

    #[test]
    fn the_table_where_nothing_has_run() {
        let nothing = Status {
            role: Role::None,
            role_text: None,
            checkpoint: None,
            candidates: Vec::new(),
            copied: None,
            ..streaming()
        };
        assert!(!nothing.is_replicating());
        let expected = "\
Link                 main
Role of the standby  none yet: nothing has run
Leader               none: no synchronizer is running
Phase                nothing was ever synchronized
Primary now          revision 160
";
        assert_eq!(nothing.table(), expected);
    }
}
