//! A question and what a yes would do, for people and for programs.

use std::time::Duration;

use etcd_sync_core::link::question::{ACCEPTANCE_MS, GROUPS_MAX, Topic};
use serde_json::{Value, json};

use super::{Count, Loss, Plan};
use crate::text::{age, ago, count, moment, wrap};

/// What became of the answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// Where the values are saved, if there were any.
    pub saved_in: Option<String>,
    /// How many.
    pub saved: u64,
    /// What happened after it was given; `None`: it was not given.
    pub next: Option<Next>,
}

/// What happened after the answer was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Replication goes on.
    Continues,
    /// Something else is asked now.
    AsksAgain(Topic),
    /// No synchronizer runs.
    NoSynchronizer,
    /// One runs, and had not taken it up yet.
    Waits,
}

/// The name of a topic, as it is in JSON.
pub fn name(topic: Topic) -> &'static str {
    match topic {
        Topic::OtherPrimary => "other-primary",
        Topic::OtherHistory => "other-history",
        Topic::StandbyRestored => "standby-restored",
        Topic::EmptyPrimary => "empty-primary",
        Topic::Deletions => "deletions",
        Topic::Unproved => "unproved",
        Topic::Brake => "brake",
    }
}

/// What a topic means, in one sentence without its full stop.
pub fn meaning(topic: Topic) -> &'static str {
    match topic {
        Topic::OtherPrimary => "the primary is another cluster than the one that this standby was synchronized from",
        Topic::OtherHistory => {
            "the primary's history is not the one that this standby was synchronized from; it was restored from a backup most likely"
        }
        Topic::StandbyRestored => {
            "this standby's own etcd was restored from a backup, and the record of this link with it"
        }
        Topic::EmptyPrimary => "the primary has no key in scope",
        Topic::Deletions => "a copy would take away more of this standby than the limit allows",
        Topic::Unproved => {
            "nothing proves that the primary's history is the one that this standby was synchronized from, and a copy would take \
             away more than can be saved on the standby"
        }
        Topic::Brake => "the primary deletes more at once than the brake lets pass",
    }
}

/// The way out that is not `accept`, or what to be sure of before it.
fn beware(topic: Topic) -> Option<&'static str> {
    match topic {
        Topic::OtherPrimary | Topic::OtherHistory => Some(
            "The other way out: if this standby holds the newer data, do not accept. `etcd-sync failover` promotes it and keeps the \
             newer data.",
        ),
        Topic::StandbyRestored => Some(
            "If this cluster was promoted since the moment that the record is from, do not stream into it: uninstall this \
             synchronizer.",
        ),
        Topic::EmptyPrimary => Some(
            "Check --primary-endpoints and --prefix first: an empty primary is a mistake in one of them most of the time.",
        ),
        Topic::Brake => Some(
            "If the deletion on the primary was a mistake, do not accept: this standby still holds the objects, and `etcd-sync \
             failover` keeps them.",
        ),
        Topic::Deletions | Topic::Unproved => None,
    }
}

impl Plan {
    /// The question and the plan for people; at most `limit` keys and groups.
    pub fn text(&self, limit: usize) -> String {
        let question = &self.question;
        let mut text = String::new();
        let lasts = ago(self.now_ms, question.asked_ms);
        paragraph(&mut text, &format!("Link {} is paused: {}.", self.link, meaning(question.topic)));
        paragraph(&mut text, &format!("Found: {}.", question.evidence));
        paragraph(&mut text, &format!("Asked by {} at {}, {lasts}.", question.holder, moment(question.asked_ms)));
        if let Some((at_ms, by)) = &self.answered {
            paragraph(
                &mut text,
                &format!("Answered by {by} {} already; the answer is still good.", ago(self.now_ms, *at_ms)),
            );
        }
        text.push('\n');
        self.losses(&mut text, limit);
        if let Some(beware) = beware(question.topic) {
            text.push('\n');
            paragraph(&mut text, beware);
        }
        text
    }

    fn losses(&self, text: &mut String, limit: usize) {
        if !self.compared {
            text.push_str("The answer itself takes nothing away: the copy that follows may ask again.\n");
            return;
        }
        let groups = self.all_groups().len();
        if groups == 0 {
            text.push_str("This standby would lose nothing.\n");
            return;
        }
        let Count { deleted, replaced } = self.total;
        text.push_str("This standby would lose, by a comparison made now:\n");
        let width = deleted.max(replaced).to_string().len();
        text.push_str(&format!("  {deleted:width$}  keys, deleted\n"));
        text.push_str(&format!("  {replaced:width$}  values, replaced by those of the primary\n"));
        if self.undecided > 0 {
            let undecided = self.undecided;
            paragraph(
                text,
                &format!(
                    "Of the deleted, {undecided} may be the standby's own and stay: its history is asked when the copy comes to them."
                ),
            );
        }
        text.push('\n');
        self.table(text, limit);
        if self.question.losses.is_some() {
            paragraph(text, "ASKED: as the synchronizer counted it, which stops when it is too much.");
        }
        if self.count() > 0 {
            text.push_str("\nThe first keys:\n");
            for (key, loss) in self.first.iter().take(limit) {
                let verb = if *loss == Loss::Replaced { "replaced" } else { "deleted " };
                text.push_str(&format!("  {verb}  {key}\n"));
            }
            more(text, self.count(), limit.min(self.first.len()));
        }
        text.push('\n');
        paragraph(
            text,
            &format!(
                "The answer is good once and for {}, for this primary as it is now, and for these resources and namespaces, \
                 however many keys of them.",
                age(Duration::from_millis(ACCEPTANCE_MS))
            ),
        );
        if groups > GROUPS_MAX {
            paragraph(
                text,
                &format!("These are too many pairs ({groups}) to list: it covers the resources in all namespaces."),
            );
        }
    }

    fn table(&self, text: &mut String, limit: usize) {
        let dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        let all = self.all_groups();
        let mut rows: Vec<[String; 5]> =
            vec![["DELETED", "REPLACED", "ASKED", "RESOURCE", "NAMESPACE"].map(str::to_owned)];
        for (group, (Count { deleted, replaced }, asked)) in all.iter().take(limit) {
            let counts = [deleted, replaced, asked].map(u64::to_string);
            let [deleted, replaced, asked] = counts;
            rows.push([deleted, replaced, asked, dash(&group.resource), dash(&group.namespace)]);
        }
        let resource = rows.iter().map(|row| row[3].len()).max().unwrap_or(0);
        for [deleted, replaced, asked, name, namespace] in &rows {
            let asked = match self.question.losses {
                Some(_) => format!("  {asked:>8}"),
                None => String::new(),
            };
            text.push_str(&format!("  {deleted:>8}  {replaced:>8}{asked}  {name:resource$}  {namespace}\n"));
        }
        more(text, all.len() as u64, rows.len() - 1);
    }

    /// The question and the plan for programs, with as many keys as were kept.
    pub fn json(&self) -> Value {
        let all = self.all_groups();
        let groups = all.iter().map(|(group, (Count { deleted, replaced }, asked))| {
            let (resource, namespace) = (&group.resource, &group.namespace);
            json!({
                "resource": resource, "namespace": namespace, "deleted": deleted, "replaced": replaced, "asked": asked,
            })
        });
        let keys = self.first.iter().map(
            |(key, loss)| json!({ "key": key, "loss": if *loss == Loss::Replaced { "replaced" } else { "deleted" } }),
        );
        json!({
            "link": self.link,
            "question": self.question,
            "compared": self.compared,
            "deleted": self.total.deleted,
            "undecided": self.undecided,
            "replaced": self.total.replaced,
            "bytes": self.bytes,
            "groups": groups.collect::<Vec<_>>(),
            "keys": keys.collect::<Vec<_>>(),
        })
    }
}

impl Given {
    /// The outcome for people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if let Some(place) = &self.saved_in {
            text.push_str(&format!("Saved: {} in {place}\n", count(self.saved, "value")));
        }
        let said = match &self.next {
            None => "Not accepted.".to_owned(),
            Some(Next::Continues) => "Accepted, and replication continues: see `etcd-sync status`.".to_owned(),
            Some(Next::AsksAgain(topic)) => format!(
                "Accepted. The link is paused again, because {}: run `etcd-sync accept` again.",
                meaning(*topic)
            ),
            Some(Next::NoSynchronizer) => format!(
                "Accepted. No synchronizer is running: the next one uses the answer if it starts within {}.",
                age(Duration::from_millis(ACCEPTANCE_MS))
            ),
            Some(Next::Waits) => "Accepted. The synchronizer has not continued yet: see `etcd-sync status`.".to_owned(),
        };
        paragraph(&mut text, &said);
        if let Some(place) = self.saved_in.as_ref().filter(|_| self.next.is_some()) {
            text.push_str(&format!("To put deleted keys back: etcd-sync restore {place}\n"));
        }
        text
    }

    /// The outcome for programs.
    pub fn json(&self) -> Value {
        let next = self.next.as_ref().map(|next| match next {
            Next::Continues => "continues",
            Next::AsksAgain(_) => "asks-again",
            Next::NoSynchronizer => "no-synchronizer",
            Next::Waits => "waits",
        });
        json!({ "savedIn": self.saved_in, "saved": self.saved, "given": self.next.is_some(), "next": next })
    }
}

fn more(text: &mut String, all: u64, shown: usize) {
    let rest = all.saturating_sub(shown as u64);
    if rest > 0 {
        text.push_str(&format!("  … and {rest} more (--limit 0 shows all)\n"));
    }
}

fn paragraph(text: &mut String, words: &str) {
    text.push_str(&wrap(words, "", ""));
}
