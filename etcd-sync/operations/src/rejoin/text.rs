//! A plan and its outcome, for people and for programs.

use serde_json::{Value, json};

use super::{Change, Line, Note, Origin, Plan};
use crate::text::{ago, wrap};
use etcd_sync_core::compare::check::Kept;
use etcd_sync_core::etcd::kv::Revision;
use etcd_sync_core::link::role::How;

/// How the final comparison came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// All that the new primary held at that revision is here, value by value.
    Complete {
        /// The new primary's revision.
        revision: Revision,
        /// Keys compared.
        compared: u64,
    },
    /// Something differs, and did not heal in time.
    Differs {
        /// The new primary's revision.
        revision: Revision,
        /// Only there.
        missed: u64,
        /// With other values.
        mismatched: u64,
    },
}

/// What a rejoin has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The file of saved values, if there were any.
    pub file: Option<String>,
    /// Values in it.
    pub saved: u64,
    /// The file with what was written here while it rejoined, if anything was.
    pub later_file: Option<String>,
    /// Values in it.
    pub later: u64,
    /// Keys that were deleted here meanwhile; they came back if the new primary has them.
    pub later_deleted: u64,
    /// What was written here from this revision on, up to the next one, cannot be told: it is compacted.
    pub untold: Option<(Revision, Revision)>,
    /// The role was changed.
    pub role_changed: bool,
    /// The new primary's revision that this cluster is consistent with.
    pub revision: Revision,
    /// The last look.
    pub proof: Option<Proof>,
    /// A synchronizer is running here beside this command.
    pub synchronizer: bool,
}

impl Plan {
    /// The plan for people; at most `limit` keys of each list.
    pub fn text(&self, limit: usize) -> String {
        let mut text = String::new();
        let how = match self.promotion.how {
            How::Switchover => "switchover",
            How::Failover => "failover",
        };
        let ago = ago(self.now_ms, self.promotion.at_ms);
        paragraph(
            &mut text,
            &format!(
                "Cluster {} becomes the standby of cluster {}, which was promoted {ago} ({how}, run {}).",
                self.old_cluster, self.new_cluster, self.promotion.run
            ),
        );
        paragraph(&mut text, &self.divergence_text());
        text.push('\n');
        list(&mut text, "Written here after that, never on the new primary", &self.unreplicated, limit);
        list(&mut text, "Deleted here after that, still on the new primary", &self.deleted_here, limit);
        list(&mut text, "Only here, and older than that", &self.only_here, limit);
        text.push_str("\nWhat happens here:\n");
        let rows = [
            (self.to_save(), "values are saved in a file before anything is changed"),
            (self.deletions(), "keys are deleted"),
            (self.overwrites(), "values are replaced by those of the new primary"),
            (self.creations(), "keys are created"),
            (self.same, "keys are the same already"),
            (self.own, "keys stay: this cluster's own by their content"),
        ];
        let width = rows.iter().map(|(count, _)| count.to_string().len()).max().unwrap_or(1);
        for (count, what) in rows {
            text.push_str(&format!("  {count:width$}  {what}\n"));
        }
        if self.same_later > 0 {
            paragraph(
                &mut text,
                &format!(
                    "Of the same, {} were written here after the point of divergence, with the value that the new primary has.",
                    self.same_later
                ),
            );
        }
        text
    }

    fn divergence_text(&self) -> String {
        match (self.divergence.is_known(), self.divergence.offset) {
            (false, _) => {
                "Where their histories diverge is not known (--accept-other-history): every value that differs counts \
                           as written after it."
                    .into()
            }
            (true, 0) => {
                format!("Their histories diverge after revision {} of this cluster.", self.divergence.revision)
            }
            (true, offset) => format!(
                "Their histories diverge inside revision {} of this cluster, after {offset} of its changes; all of it counts \
                 as after that, unless the new primary has the same value.",
                self.divergence.revision
            ),
        }
    }

    /// The plan for programs; at most so many keys as were kept.
    pub fn json(&self) -> Value {
        json!({
            "link": self.link,
            "oldPrimary": self.old_cluster,
            "newPrimary": self.new_cluster,
            "promotion": self.promotion,
            "divergence": {
                "known": self.divergence.is_known(),
                "revision": self.divergence.revision,
                "offset": self.divergence.offset,
                "promotedRevision": self.divergence.promoted,
            },
            "lookedAtRevision": self.looked_at,
            "unreplicated": kept(&self.unreplicated),
            "deletedHere": kept(&self.deleted_here),
            "onlyHere": kept(&self.only_here),
            "toSave": self.to_save(),
            "deletions": self.deletions(),
            "overwrites": self.overwrites(),
            "creations": self.creations(),
            "same": self.same,
            "sameWrittenLater": self.same_later,
            "own": self.own,
        })
    }
}

impl Outcome {
    /// Whether nothing is left to look at.
    pub fn is_good(&self) -> bool {
        matches!(self.proof, Some(Proof::Complete { .. })) && self.untold.is_none()
    }

    /// The outcome for people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut saved = |count: u64, what: &str, file: &Option<String>| {
            if let Some(file) = file {
                text.push_str(&format!("Saved: {count} {what}, in\n  {file}\n"));
            }
        };
        saved(self.saved, "values", &self.file);
        saved(self.later, "values written here since", &self.later_file);
        if self.later_deleted > 0 {
            paragraph(
                &mut text,
                &format!(
                    "Deleted here meanwhile: {} keys; those that the new primary has came back.",
                    self.later_deleted
                ),
            );
        }
        if let Some((from, to)) = self.untold {
            paragraph(
                &mut text,
                &format!(
                    "WARNING: what was written here between the revisions {from} and {to} is not known any more, because \
                     etcd has compacted it: if somebody still used this cluster then, it is lost.",
                ),
            );
        }
        if self.role_changed {
            text.push_str("This cluster's role is \"standby\" now.\n");
        }
        match &self.proof {
            None => {}
            Some(Proof::Complete { revision, compared }) => paragraph(
                &mut text,
                &format!(
                    "Complete: all {compared} keys of the new primary at its revision {revision} are here, with their values."
                ),
            ),
            Some(Proof::Differs { revision, missed, mismatched }) => paragraph(
                &mut text,
                &format!(
                    "NOT complete: of the new primary's revision {revision}, {missed} keys are missed here and {mismatched} \
                     have other values; `etcd-sync check --deep` names them.",
                ),
            ),
        }
        if self.proof.is_some() {
            let next = match self.synchronizer {
                true => "A synchronizer is running here and keeps it caught up.",
                false => {
                    "Now start `etcd-sync run` with the same flags (install the plugin here): nothing keeps this cluster \
                     caught up until then."
                }
            };
            paragraph(&mut text, next);
        }
        text
    }

    /// The outcome for programs.
    pub fn json(&self) -> Value {
        let proof = match &self.proof {
            None => Value::Null,
            Some(Proof::Complete { revision, compared }) => {
                json!({ "complete": true, "revision": revision, "compared": compared })
            }
            Some(Proof::Differs { revision, missed, mismatched }) => {
                json!({ "complete": false, "revision": revision, "missed": missed, "mismatched": mismatched })
            }
        };
        json!({
            "savedIn": self.file,
            "saved": self.saved,
            "laterSavedIn": self.later_file,
            "laterSaved": self.later,
            "laterDeleted": self.later_deleted,
            "untold": self.untold.map(|(from, to)| json!({ "from": from, "to": to })),
            "roleChanged": self.role_changed,
            "revision": self.revision,
            "proof": proof,
            "synchronizer": self.synchronizer,
        })
    }
}

fn paragraph(text: &mut String, words: &str) {
    text.push_str(&wrap(words, "", ""));
}

fn list(text: &mut String, heading: &str, kept: &Kept<Line>, limit: usize) {
    text.push_str(&format!("{heading}: {}\n", kept.count));
    let shown = limit.min(kept.first.len());
    let mut untold = false;
    for Line { key, note, .. } in &kept.first[..shown] {
        let (verb, remark) = words(*note);
        untold |= matches!(note, Note::Only { origin: Origin::Unknown });
        let verb = if verb.is_empty() { String::new() } else { format!("{verb:7}  ") };
        let remark = if remark.is_empty() { String::new() } else { format!("  ({remark})") };
        text.push_str(&format!("  {verb}{key}{remark}\n"));
    }
    let more = kept.count - shown as u64;
    if more > 0 {
        text.push_str(&format!("  … and {more} more (--limit 0 shows all that are kept)\n"));
    }
    if untold {
        paragraph(
            text,
            "?: deleted on the new primary since its promotion, or never there; the history that would show it is compacted.",
        );
    }
}

fn words(note: Note) -> (&'static str, &'static str) {
    match note {
        Note::Written { change: Change::Created, both: false, .. } => ("made", ""),
        Note::Written { change: Change::Created, both: true, .. } => ("made", "made there, too"),
        Note::Written { change: Change::Changed, both: false, .. } => ("changed", ""),
        Note::Written { change: Change::Changed, both: true, replaced: true } => ("changed", "changed there, too"),
        Note::Written { change: Change::Changed, both: true, replaced: false } => ("changed", "deleted there"),
        Note::Deleted => ("", ""),
        Note::Only { origin: Origin::DeletedThere } => ("", "deleted there since"),
        Note::Only { origin: Origin::Missed } => ("", "missed: never there"),
        Note::Only { origin: Origin::Unknown } => ("", "?"),
    }
}

fn kept(kept: &Kept<Line>) -> Value {
    let keys = kept.first.iter().map(|Line { key, note, revision }| {
        let mut one = json!({ "key": key, "modRevision": revision });
        match note {
            Note::Written { change, replaced, both } => {
                one["change"] = json!(change);
                one["replaced"] = json!(replaced);
                one["changedThereToo"] = json!(both);
            }
            Note::Only { origin } => one["origin"] = json!(origin),
            Note::Deleted => {}
        }
        one
    });
    json!({ "count": kept.count, "keys": keys.collect::<Vec<_>>() })
}
