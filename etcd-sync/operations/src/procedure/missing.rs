//! Keys that the standby lacks when it is about to be promoted, and what goes with them.

use serde::Serialize;

use crate::preflight::switch::comparison::MACHINES;
use crate::text::{count, moment, wrap};

/// Keys shown of each list.
const SHOWN_MAX: usize = 20;

/// What is missed, and what would be destroyed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Missing {
    /// Keys that only the primary has, or had: how many.
    pub missed: u64,
    /// The first of them.
    pub missed_keys: Vec<String>,
    /// When that was seen, in Unix milliseconds; `None`: just now.
    pub seen_ms: Option<u64>,
    /// Keys of the standby whose owners are not there, in key order.
    pub doomed: Vec<Box<str>>,
    /// Values that do not open here: nobody can tell what becomes of them.
    pub unreadable: u64,
}

impl Missing {
    /// Whether machines are among what is missed or destroyed.
    pub fn machines(&self) -> bool {
        let keys = self.missed_keys.iter().map(String::as_str).chain(self.doomed.iter().map(|key| &**key));
        keys.into_iter().any(|key| key.contains(MACHINES))
    }

    /// For people: what is missed, what that destroys, and what to do.
    pub fn text(&self) -> String {
        let when = self.seen_ms.map_or_else(|| "now".to_owned(), |at| format!("at the last check, {}", moment(at)));
        let mut text = wrap(&format!("MISSED on this standby ({when}): {}", count(self.missed, "key")), "", "  ");
        text += &list(&self.missed_keys.iter().map(String::as_str).collect::<Vec<_>>(), self.missed);
        text += &match self.doomed.len() {
            0 if self.unreadable > 0 => String::new(),
            0 => wrap(
                "No object of the standby depends on a missing owner: as far as can be seen, nothing else is deleted.",
                "",
                "",
            ),
            doomed => {
                let keys: Vec<&str> = self.doomed.iter().map(|key| &**key).collect();
                let what = format!(
                    "DESTROYED by the standby's garbage collector, because their owners are not there: {}",
                    count(doomed as u64, "key")
                );
                wrap(&what, "", "  ") + &list(&keys, doomed as u64)
            }
        };
        if self.unreadable > 0 {
            let what = format!(
                "{} of the standby cannot be read here, so the list is not complete: give the API servers' --encryption-config",
                count(self.unreadable, "value")
            );
            text += &wrap(&what, "NOT KNOWN: ", "  ");
        }
        if self.machines() {
            let what = "Machine objects are among them. Going on DESTROYS VIRTUAL MACHINES.";
            text += &wrap(what, "WARNING: ", "         ");
        }
        let first = "Get them back first: while the primary answers, restart a pod of the synchronizer, and run `etcd-sync check`. If they cannot be brought back, and you have read what is destroyed:";
        text += &wrap(first, "", "");
        text + &format!("  etcd-sync failover … --accept-missing {}\n", self.missed)
    }
}

fn list(keys: &[&str], all: u64) -> String {
    let shown = keys.len().min(SHOWN_MAX);
    let mut text: String = keys[..shown].iter().map(|key| format!("  {key}\n")).collect();
    if all > shown as u64 {
        text += &format!("  … and {} more\n", all - shown as u64);
    }
    text
}
