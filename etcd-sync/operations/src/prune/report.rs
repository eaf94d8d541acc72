//! A plan and its outcome, for people and for programs.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Candidate, Fate, Plan, Row, Warning, WarningKind};
use crate::text::short_age;
use etcd_sync_core::compare::check::{KEPT_MAX, SurplusReason};
use etcd_sync_core::etcd::kv::printable;
use etcd_sync_core::object::object_key::{ObjectKey, namespace_of};
use etcd_sync_core::scope::Scope;
use etcd_sync_core::scope::content::{CRDS, NAMESPACES};

/// Where claims of volumes are kept, behind the Kubernetes prefix.
const CLAIMS: &str = "persistentvolumeclaims/";

/// What a deletion of these keys does besides; `others` are the surplus keys that stay.
pub(super) fn warnings(scope: &Scope, selected: &[Candidate], others: &[Candidate]) -> Vec<Warning> {
    let mut found: BTreeMap<WarningKind, Vec<(String, String)>> = BTreeMap::new();
    let (mut owned, mut owned_left) = (HashMap::<&str, u64>::new(), HashMap::<&str, u64>::new());
    for (candidates, counts) in [(selected, &mut owned), (others, &mut owned_left)] {
        for about in candidates.iter().filter_map(|candidate| candidate.about.as_ref()) {
            about.owners.iter().for_each(|owner| *counts.entry(owner).or_default() += 1);
        }
    }
    let inside = |key: &Candidate| -> Option<Vec<u8>> {
        scope.split(&key.key).and_then(|(_, relative)| namespace_of(relative)).map(<[u8]>::to_vec)
    };
    let mut left_in = HashMap::<Vec<u8>, u64>::new();
    others.iter().filter_map(inside).for_each(|namespace| *left_in.entry(namespace).or_default() += 1);
    for Candidate { key, about, .. } in selected {
        let mut warn = |kind, detail: String| found.entry(kind).or_default().push((printable(key), detail));
        if let Some(about) = about {
            let count = |counts: &HashMap<&str, u64>| counts.get(&about.uid[..]).copied().unwrap_or(0);
            let (with, without) = (count(&owned), count(&owned_left));
            if !about.uid.is_empty() && with + without > 0 {
                warn(WarningKind::Owner, owns(with, without));
            }
            if about.has_finalizers {
                warn(WarningKind::Finalizers, about.kind.clone());
            }
        }
        let Some((_, relative)) = scope.split(key) else { continue };
        if let Some(namespace) = relative.strip_prefix(NAMESPACES.as_bytes()) {
            let left = left_in.get(namespace).copied().unwrap_or(0);
            warn(WarningKind::Namespace, format!("{left} surplus keys in it are not selected"));
        }
        if relative.starts_with(CLAIMS.as_bytes()) {
            warn(WarningKind::Claim, "what is on its volume is in no backup".to_owned());
        }
        if relative.starts_with(CRDS.as_bytes())
            && let Some(name) = ObjectKey::parse(relative).map(|object| object.name)
        {
            warn(WarningKind::Definition, name.to_owned());
        }
    }
    found.into_iter().map(|(kind, keys)| Warning { kind, keys }).collect()
}

fn owns(with: u64, without: u64) -> String {
    match without {
        0 => format!("owns {with} of the selected keys"),
        _ => {
            format!("owns {with} of the selected keys, and {without} surplus keys that are not selected and not saved")
        }
    }
}

impl WarningKind {
    /// What happens, and what to do.
    pub fn text(self) -> &'static str {
        match self {
            WarningKind::Owner => {
                "Owners: once they are gone, the standby's garbage collector deletes everything they own, selected or not"
            }
            WarningKind::Namespace => {
                "Namespaces: without its own object the rest of a namespace's content stays forever, also what is out of scope; \
                 `kubectl delete namespace` on the standby removes both"
            }
            WarningKind::Definition => {
                "Definitions: the custom resources of a CRD stay in etcd, out of everybody's reach; `kubectl delete crd` on the \
                 standby removes both"
            }
            WarningKind::Claim => {
                "Volumes: the standby's controller releases the volume of a claim that is gone, and destroys it where its reclaim \
                 policy is Delete; no restore brings that back"
            }
            WarningKind::Finalizers => {
                "Finalizers: nobody runs them for a key deleted in etcd, and what they would clean up outside stays; `kubectl \
                 delete` on the standby does"
            }
        }
    }
}

/// What people call an origin.
fn origin(reason: SurplusReason) -> &'static str {
    match reason {
        SurplusReason::Local => "local",
        SurplusReason::Leftover => "leftover",
    }
}

impl Plan {
    /// The plan for people; at most `limit` keys.
    pub fn text(&self, limit: usize) -> String {
        let (count, surplus) = (self.selected.len(), self.at.surplus);
        let mut text = format!("{count} of {surplus} surplus keys of link {} are selected", self.at.link);
        text.push_str(match count {
            0 => ".\n",
            _ => ", to be saved in a file and deleted from the standby:\n",
        });
        let shown = &self.selected[..limit.min(count)];
        table(&mut text, shown, self.at.now_s);
        if count > shown.len() {
            text.push_str(&format!("  … and {} more (--limit 0 shows all)\n", count - shown.len()));
        }
        let reasons: HashSet<&str> = shown.iter().map(|row| origin(row.candidate.reason)).collect();
        if reasons.contains("local") {
            text.push_str("local: made on the standby, not by the synchronizer.\n");
        }
        if reasons.contains("leftover") {
            text.push_str("leftover: mirrored once and deleted on the primary since, or of unknown origin.\n");
        }
        if surplus > KEPT_MAX as u64 {
            text.push_str(&format!("Only the first {KEPT_MAX} surplus keys were read: prune again for the others.\n"));
        }
        if self.age_unknown > 0 {
            let count = self.age_unknown;
            text.push_str(&format!(
                "Not selected, because their age is not known: {count} (without --older-than they are)\n"
            ));
        }
        for key in &self.not_surplus {
            text.push_str(&format!("Not surplus, so not selected: {key}\n"));
        }
        for Warning { kind, keys } in &self.warnings {
            text.push_str(&format!("Warning: {}.\n", kind.text()));
            let shown = limit.min(keys.len());
            keys[..shown].iter().for_each(|(key, detail)| text.push_str(&format!("  {key}  ({detail})\n")));
            if keys.len() > shown {
                text.push_str(&format!("  … and {} more (--limit 0 shows all)\n", keys.len() - shown));
            }
        }
        text
    }

    /// The plan for programs, with every key.
    pub fn json(&self) -> Value {
        let keys = self.selected.iter().map(|Row { candidate, kind, namespace }| {
            json!({
                "key": printable(&candidate.key),
                "origin": origin(candidate.reason),
                "kind": kind,
                "namespace": namespace,
                "ageSeconds": candidate.age_s(self.at.now_s),
                "modRevision": candidate.mod_revision,
            })
        });
        let warnings = self.warnings.iter().map(|Warning { kind, keys }| {
            let keys = keys.iter().map(|(key, detail)| json!({ "key": key, "detail": detail }));
            json!({ "kind": kind, "text": kind.text(), "keys": keys.collect::<Vec<_>>() })
        });
        json!({
            "link": self.at.link,
            "primaryRevision": self.at.primary_revision,
            "standbyRevision": self.at.standby_revision,
            "surplus": self.at.surplus,
            "selected": self.selected.len(),
            "ageUnknown": self.age_unknown,
            "notSurplus": self.not_surplus,
            "keys": keys.collect::<Vec<_>>(),
            "warnings": warnings.collect::<Vec<_>>(),
        })
    }
}

fn table(text: &mut String, rows: &[Row], now_s: i64) {
    if rows.is_empty() {
        return;
    }
    let dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let line = |row: &Row| {
        let Row { candidate, kind, namespace } = row;
        let reason = origin(candidate.reason).to_owned();
        let age = candidate.age_s(now_s).map(Duration::from_secs).map_or_else(|| "unknown".to_owned(), short_age);
        [reason, dash(kind), dash(namespace), age, printable(&candidate.key)]
    };
    let head = ["ORIGIN", "KIND", "NAMESPACE", "AGE", "KEY"].map(str::to_owned);
    let lines: Vec<[String; 5]> = std::iter::once(head).chain(rows.iter().map(line)).collect();
    let widths = [0, 1, 2, 3].map(|column| lines.iter().map(|line| line[column].len()).max().unwrap_or(0));
    for [reason, kind, namespace, age, key] in lines {
        let [a, b, c, d] = widths;
        text.push_str(&format!("  {reason:a$}  {kind:b$}  {namespace:c$}  {age:d$}  {key}\n"));
    }
}

/// What became of every key of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    counts: BTreeMap<Fate, u64>,
    /// The keys that stay, with the reason.
    stayed: Vec<(String, Fate)>,
}

impl Outcome {
    /// Counts a key.
    pub fn add(&mut self, key: &[u8], fate: Fate) {
        *self.counts.entry(fate).or_default() += 1;
        if matches!(fate, Fate::Changed | Fate::OnPrimary) {
            self.stayed.push((printable(key), fate));
        }
    }

    /// How many keys had a fate.
    pub fn count(&self, fate: Fate) -> u64 {
        self.counts.get(&fate).copied().unwrap_or(0)
    }

    /// Whether every key of the plan is gone.
    pub fn is_complete(&self) -> bool {
        self.stayed.is_empty()
    }

    /// The outcome for people. `file` is where the keys are saved, if any are.
    pub fn text(&self, file: Option<&str>) -> String {
        let saved = file.map(|file| format!(" (saved in {file})")).unwrap_or_default();
        let mut text = format!("Deleted: {}{saved}\n", self.count(Fate::Deleted));
        if self.count(Fate::Gone) > 0 {
            text.push_str(&format!(
                "Gone meanwhile, by the garbage collector or another client: {}\n",
                self.count(Fate::Gone)
            ));
        }
        if !self.stayed.is_empty() {
            text.push_str(&format!("Not deleted: {}\n", self.stayed.len()));
        }
        for (key, fate) in &self.stayed {
            text.push_str(&format!("  {key}  ({})\n", fate.text()));
        }
        if let Some(file) = file {
            text.push_str(&format!("To put them back: etcd-sync restore {file}\n"));
        }
        text
    }

    /// The outcome for programs.
    pub fn json(&self, file: Option<&str>) -> Value {
        let stayed = self.stayed.iter().map(|(key, fate)| json!({ "key": key, "reason": fate }));
        json!({
            "savedIn": file,
            "deleted": self.count(Fate::Deleted),
            "gone": self.count(Fate::Gone),
            "notDeleted": stayed.collect::<Vec<_>>(),
        })
    }
}

impl Fate {
    fn text(self) -> &'static str {
        match self {
            Fate::Deleted => "deleted",
            Fate::Gone => "gone already",
            Fate::Changed => "changed since the plan: check it, and prune again if it is still to be deleted",
            Fate::OnPrimary => "the primary has it now: it is no longer surplus",
        }
    }
}
