//! The exact comparison: the standby at one revision, the primary at the revision the standby then stood for.

use bytes::Bytes;
use serde::Serialize;

use crate::drift::Drift;
use crate::kv::{Revision, printable};
use crate::walk::{Chunk, Joined, Side, join};

/// Differences kept of each kind; beyond it they are only counted.
pub const KEPT_MAX: usize = 100_000;

/// What the primary's side was read at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Basis {
    /// The revision the standby stands for: changes in flight raise no alarm.
    Checkpoint,
    /// The primary's newest: no synchronizer runs, so nothing is in flight, and what differs stays different.
    Head,
}

/// Why a key is on the standby only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SurplusReason {
    /// On record as made on the standby.
    Local,
    /// Not on record: mirrored once and deleted on the primary since, or of unknown origin.
    Leftover,
}

/// One key that only the standby has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Surplus {
    /// The key, as [`printable`] shows it.
    pub key: String,
    /// Why it is there.
    pub reason: SurplusReason,
}

/// One key with other values on both sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mismatched {
    /// The key, as [`printable`] shows it.
    pub key: String,
    /// How the values differ.
    pub reason: Drift,
}

/// Collects what differs, chunk by chunk.
#[derive(Debug, Default)]
pub struct Comparison {
    deep: bool,
    compared: u64,
    missed: Kept<String>,
    surplus: Kept<Surplus>,
    mismatched: Kept<Mismatched>,
    status: Kept<String>,
}

/// The first differences, and how many there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept<T> {
    /// Up to [`KEPT_MAX`] of them, in key order.
    pub first: Vec<T>,
    /// All of them.
    pub count: u64,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Kept { first: Vec::new(), count: 0 }
    }
}

impl<T> Kept<T> {
    fn push(&mut self, one: impl FnOnce() -> T) {
        self.count += 1;
        if self.first.len() < KEPT_MAX {
            self.first.push(one());
        }
    }
}

/// A difference by key or value. The object's content may yet take it out of scope: then it is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// The key.
    pub key: Bytes,
    /// What differs.
    pub difference: Difference,
}

/// How a key differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// Only the primary has it.
    Missed,
    /// Only the standby has it.
    Surplus(SurplusReason),
    /// Both have it, with other values. How they differ is [`Drift::Unknown`] until both were read.
    Mismatched(Drift),
}

impl Difference {
    /// The side whose value tells whether the object is in scope.
    pub fn side(self) -> Side {
        match self {
            Difference::Missed | Difference::Mismatched(_) => Side::Primary,
            Difference::Surplus(_) => Side::Standby,
        }
    }
}

impl Comparison {
    /// `deep` compares values too.
    pub fn new(deep: bool) -> Self {
        Comparison { deep, ..Self::default() }
    }

    /// Takes a chunk whose leading side is the primary and that holds only keys in scope; `is_local` asks the record of
    /// local keys. Gives what differs.
    pub fn chunk(&mut self, chunk: Chunk, is_local: impl Fn(&[u8]) -> bool) -> Vec<Suspect> {
        let mut suspects = Vec::new();
        for joined in join(chunk) {
            let (key, difference) = match joined {
                Joined::Both(primary, standby) if self.deep && primary.value != standby.value => {
                    (primary.key, Difference::Mismatched(Drift::Unknown))
                }
                Joined::Both(..) => {
                    self.compared += 1;
                    continue;
                }
                Joined::Lead(primary) => (primary.key, Difference::Missed),
                Joined::Follow(standby) => {
                    let reason = if is_local(&standby.key) { SurplusReason::Local } else { SurplusReason::Leftover };
                    (standby.key, Difference::Surplus(reason))
                }
            };
            // A slice of a page would keep the whole page in memory.
            suspects.push(Suspect { key: Bytes::copy_from_slice(&key), difference });
        }
        suspects
    }

    /// A suspect is a difference indeed.
    pub fn confirm(&mut self, suspect: &Suspect) {
        let key = || printable(&suspect.key);
        match suspect.difference {
            Difference::Missed => self.missed.push(key),
            Difference::Mismatched(Drift::Status) => self.status.push(key),
            Difference::Mismatched(reason) => self.mismatched.push(|| Mismatched { key: key(), reason }),
            Difference::Surplus(reason) => return self.surplus.push(|| Surplus { key: key(), reason }),
        }
        self.compared += 1;
    }

    /// The side whose pages set the pace.
    pub const LEAD: Side = Side::Primary;

    /// The result.
    pub fn report(self, at: ComparedAt) -> Report {
        let Comparison { deep, compared, missed, surplus, mismatched, status } = self;
        Report { at, deep, compared, missed, surplus, mismatched, status }
    }
}

/// The moment a report speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ComparedAt {
    /// See [`Basis`].
    pub basis: Basis,
    /// The primary's revision compared.
    pub primary_revision: Revision,
    /// The standby's revision compared.
    pub standby_revision: Revision,
    /// The primary's newest revision when the comparison began.
    pub primary_head: Revision,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// The result of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// When.
    pub at: ComparedAt,
    /// Whether values were compared.
    pub deep: bool,
    /// Keys of the primary's scope.
    pub compared: u64,
    /// On the primary, not on the standby.
    pub missed: Kept<String>,
    /// Only on the standby.
    pub surplus: Kept<Surplus>,
    /// On both, with other values; only when `deep`.
    pub mismatched: Kept<Mismatched>,
    /// On both, with another status only: what a live standby's controllers write; no difference. Only when `deep`.
    pub status: Kept<String>,
}

impl Report {
    /// Nothing missed, nothing surplus, nothing mismatched.
    pub fn consistent(&self) -> bool {
        self.missed.count + self.surplus.count + self.mismatched.count == 0
    }

    /// The report for people; at most `limit` keys under each heading. Scripts look for the two `LOCAL ETCD` headings.
    pub fn text(&self, limit: usize) -> String {
        let at = &self.at;
        let verdict = if self.consistent() { "CONSISTENT" } else { "NOT CONSISTENT" };
        let seconds = at.took_ms as f64 / 1_000.0;
        let mut text = format!(
            "{verdict}: primary revision {}, standby revision {}, {} keys compared in {seconds:.2} s\n",
            at.primary_revision, at.standby_revision, self.compared
        );
        match at.basis {
            Basis::Head => text.push_str("No synchronizer is running: compared with the primary's newest revision.\n"),
            Basis::Checkpoint if at.primary_head > at.primary_revision => {
                let behind = at.primary_head - at.primary_revision;
                text.push_str(&format!("The standby is {behind} revisions behind the primary.\n"));
            }
            Basis::Checkpoint => {}
        }
        section(&mut text, "LOCAL ETCD missed keys", &self.missed, limit, String::clone);
        section(&mut text, "LOCAL ETCD surplus keys", &self.surplus, limit, |surplus| match surplus.reason {
            SurplusReason::Local => format!("{}  (made on the standby)", surplus.key),
            SurplusReason::Leftover => format!("{}  (mirrored once, or of unknown origin)", surplus.key),
        });
        if self.deep {
            section(&mut text, "LOCAL ETCD mismatched keys", &self.mismatched, limit, |mismatched| {
                format!("{}  ({})", mismatched.key, mismatched.reason.text())
            });
            section(&mut text, "LOCAL ETCD keys with a status of their own", &self.status, limit, String::clone);
        }
        text
    }

    /// The report for programs, with every key kept.
    pub fn json(&self) -> serde_json::Value {
        let surplus: Vec<&str> = self.surplus.first.iter().map(|surplus| surplus.key.as_str()).collect();
        let mismatched: Vec<&str> = self.mismatched.first.iter().map(|mismatched| mismatched.key.as_str()).collect();
        serde_json::json!({
            "consistent": self.consistent(),
            "basis": self.at.basis,
            "primaryRevision": self.at.primary_revision,
            "primaryHeadRevision": self.at.primary_head,
            "standbyRevision": self.at.standby_revision,
            "keysCompared": self.compared,
            "tookMilliseconds": self.at.took_ms,
            "deep": self.deep,
            "missed": self.missed.count,
            "surplus": self.surplus.count,
            "mismatched": self.mismatched.count,
            "localMissedKeys": self.missed.first,
            "localSurplusKeys": surplus,
            "surplusReasons": self.surplus.first,
            "mismatchedKeys": mismatched,
            "mismatchedReasons": self.mismatched.first,
            "ownStatus": self.status.count,
            "ownStatusKeys": self.status.first,
        })
    }
}

fn section<T>(text: &mut String, heading: &str, kept: &Kept<T>, limit: usize, line: impl Fn(&T) -> String) {
    text.push_str(&format!("{heading}: {}\n", kept.count));
    let shown = limit.min(kept.first.len());
    for one in &kept.first[..shown] {
        text.push_str(&format!("  {}\n", line(one)));
    }
    if kept.count > shown as u64 {
        text.push_str(&format!("  … and {} more (--limit 0 shows all)\n", kept.count - shown as u64));
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::kv::{KeyRange, KeyValue};

    fn kv(key: &'static str, value: &'static str) -> KeyValue {
        let (key, value) = (Bytes::from_static(key.as_bytes()), Bytes::from_static(value.as_bytes()));
        KeyValue { key, value, create_revision: 1, mod_revision: 1, lease: 0 }
    }

    fn report(deep: bool) -> Report {
        let mut comparison = Comparison::new(deep);
        let chunk = Chunk {
            range: KeyRange::prefix(b"/r/"),
            lead: vec![kv("/r/equal", "1"), kv("/r/missed", "1"), kv("/r/other", "secret-a")],
            follow: vec![kv("/r/equal", "1"), kv("/r/local", "1"), kv("/r/old", "1"), kv("/r/other", "secret-b")],
            lead_revision: 5,
            follow_revision: 9,
        };
        let suspects = comparison.chunk(chunk, |key| key == b"/r/local");
        suspects.iter().for_each(|suspect| comparison.confirm(suspect));
        comparison.report(ComparedAt {
            basis: Basis::Checkpoint,
            primary_revision: 5,
            standby_revision: 9,
            primary_head: 7,
            took_ms: 120,
        })
    }

    #[test]
    fn the_text_has_the_headings_scripts_look_for() {
        assert_eq!(
            report(true).text(1),
            "NOT CONSISTENT: primary revision 5, standby revision 9, 3 keys compared in 0.12 s\n\
             The standby is 2 revisions behind the primary.\n\
             LOCAL ETCD missed keys: 1\n  /r/missed\n\
             LOCAL ETCD surplus keys: 2\n  /r/local  (made on the standby)\n  … and 1 more (--limit 0 shows all)\n\
             LOCAL ETCD mismatched keys: 1\n  /r/other  (cannot be decoded)\n\
             LOCAL ETCD keys with a status of their own: 0\n"
        );
    }

    #[test]
    fn the_json_has_the_arrays_programs_read_and_no_values() {
        let json = report(true).json();
        assert_eq!(json["localMissedKeys"], serde_json::json!(["/r/missed"]));
        assert_eq!(json["localSurplusKeys"], serde_json::json!(["/r/local", "/r/old"]));
        assert!(!json.to_string().contains("secret"));
    }

    #[test]
    fn without_deep_values_are_not_compared() {
        assert_eq!(report(false).mismatched.count, 0);
    }
}
