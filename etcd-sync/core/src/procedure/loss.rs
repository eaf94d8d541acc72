//! What a failover loses, as far as anybody can know.

use serde::{Deserialize, Serialize};

use crate::kv::Revision;
use crate::state::{Checkpoint, PrimarySeen};
use crate::text::{count, moment, span, wrap};

/// The most that can be lost: what the primary acknowledged behind the last revision applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Loss {
    /// The last revision of the primary that was applied.
    pub applied_revision: Revision,
    /// When not 0: of that revision only so many changes were.
    pub offset: u64,
    /// When it was written here, in Unix milliseconds.
    pub applied_ms: u64,
    /// The last sign of the primary, if the synchronizer wrote one down.
    pub seen: Option<PrimarySeen>,
    /// When this was found out, in Unix milliseconds.
    pub now_ms: u64,
}

impl Loss {
    /// From the record of the standby.
    pub fn new(checkpoint: &Checkpoint, seen: Option<PrimarySeen>, now_ms: u64) -> Loss {
        let Checkpoint { revision, offset, at_ms, .. } = *checkpoint;
        Loss { applied_revision: revision, offset, applied_ms: at_ms, seen, now_ms }
    }

    /// Revisions that are known to have been there and are not here; `None` while nobody saw the primary.
    pub fn known_revisions(&self) -> Option<u64> {
        let seen = self.seen.as_ref()?;
        Some((seen.revision - self.applied_revision).max(0) as u64 + u64::from(self.offset > 0))
    }

    /// For people.
    pub fn text(&self) -> String {
        const REST: &str = "                    ";
        let ago = |at_ms: u64| span(self.now_ms.saturating_sub(at_ms));
        let row = |name: &str, text: String| wrap(&text, &format!("  {name:16}  "), REST);
        let mut text = "What is lost at most\n".to_owned();
        let part = match self.offset {
            0 => String::new(),
            changes => format!(", of that revision itself only the first {}", count(changes, "change")),
        };
        let (revision, at) = (self.applied_revision, moment(self.applied_ms));
        text += &row("Applied here", format!("everything up to revision {revision} of the primary{part}"));
        text += &row("Written here", format!("{at}, {} ago", ago(self.applied_ms)));
        let after = match &self.seen {
            None => {
                text += &row("Last seen there", "nothing is on record".to_owned());
                "how many changes that are is not known".to_owned()
            }
            Some(seen) => {
                let known = self.known_revisions().unwrap_or(0);
                let (at, ago) = (moment(seen.at_ms), ago(seen.at_ms));
                text += &row("Last seen there", format!("revision {} at {at}, {ago} ago", seen.revision));
                let known = match known {
                    0 => "none is known".to_owned(),
                    known => format!("{} known", count(known, "revision")),
                };
                format!("{known}, and whatever it took between {at} and its end")
            }
        };
        text + &row("Lost at most", format!("what the primary acknowledged after revision {revision}: {after}"))
    }
}
