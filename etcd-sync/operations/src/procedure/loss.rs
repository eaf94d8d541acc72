//! What a failover loses, as far as anybody can know.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::text::{count, moment, span, wrap};
use etcd_sync_core::etcd::kv::Revision;
use etcd_sync_core::link::state::{Checkpoint, Phase, PrimaryContact};

/// The most that can be lost: what the primary acknowledged behind the last revision applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Loss {
    /// The last revision of the primary that was applied.
    pub applied_revision: Revision,
    /// When not 0: of that revision only so many changes were.
    pub offset: u64,
    /// How far the link had come: in a copy of everything the standby is consistent with no single revision.
    #[serde(default = "streaming", skip_serializing_if = "is_streaming")]
    pub phase: Phase,
    /// When it was written here, in Unix milliseconds.
    pub applied_ms: u64,
    /// The last contact with the primary, if the synchronizer recorded one.
    pub seen: Option<PrimaryContact>,
    /// The primary's revision at the monitor's last comparison, and when that ended in Unix milliseconds, where it is newer than
    /// what the synchronizer wrote down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compared: Option<PrimaryContact>,
    /// When this was found out, in Unix milliseconds.
    pub now_ms: u64,
}

impl Loss {
    /// From the record of the standby.
    pub fn new(checkpoint: &Checkpoint, seen: Option<PrimaryContact>, now_ms: u64) -> Loss {
        let Checkpoint { revision, offset, phase, at_ms, .. } = *checkpoint;
        Loss { applied_revision: revision, offset, phase, applied_ms: at_ms, seen, compared: None, now_ms }
    }

    /// Takes in what the monitor saw of the primary when it compared the last time.
    pub fn learn(&mut self, compared: PrimaryContact) {
        let known = self.newest().map_or(self.applied_revision, |seen| seen.revision.max(self.applied_revision));
        if compared.revision > known {
            self.compared = Some(compared);
        }
    }

    /// The last contact with the primary, of the synchronizer or of the monitor.
    fn newest(&self) -> Option<&PrimaryContact> {
        self.seen.iter().chain(&self.compared).max_by_key(|seen| seen.revision)
    }

    /// Revisions that are known to have been there and are not here; `None` while nobody saw the primary.
    pub fn known_revisions(&self) -> Option<u64> {
        let seen = self.newest()?;
        Some((seen.revision - self.applied_revision).max(0) as u64 + u64::from(self.offset > 0))
    }

    /// For people.
    pub fn text(&self) -> String {
        const REST: &str = "                    ";
        let ago = |at_ms: u64| span(Duration::from_millis(self.now_ms.saturating_sub(at_ms)));
        let row = |name: &str, text: String| wrap(&text, &format!("  {name:16}  "), REST);
        let mut text = "What is lost at most\n".to_owned();
        let (revision, at) = (self.applied_revision, moment(self.applied_ms));
        text += &row("Applied here", self.applied());
        text += &row("Written here", format!("{at}, {} ago", ago(self.applied_ms)));
        let sign = |seen: &PrimaryContact| {
            format!("revision {} at {}, {} ago", seen.revision, moment(seen.at_ms), ago(seen.at_ms))
        };
        text += &row("Last seen there", self.seen.as_ref().map_or_else(|| "nothing is on record".to_owned(), sign));
        if let Some(compared) = &self.compared {
            text += &row("Monitor saw", sign(compared));
        }
        let after = match self.newest() {
            None => "how many changes that are is not known".to_owned(),
            Some(seen) => {
                let known = self.known_revisions().unwrap_or(0);
                let at = moment(seen.at_ms);
                let known = match known {
                    0 => "none is known".to_owned(),
                    known => format!("{} known", count(known, "revision")),
                };
                format!("{known}, and whatever it took between {at} and its end")
            }
        };
        let lost = match self.offset {
            _ if revision == 0 => "what the primary acknowledged, but for what was copied".to_owned(),
            0 => format!("what the primary acknowledged after revision {revision}"),
            _ => format!("the rest of revision {revision}, and what the primary acknowledged after it"),
        };
        let copied = if self.phase == Phase::Streaming || revision == 0 { "" } else { ", but for what was copied" };
        text + &row("Lost at most", format!("{lost}{copied}: {after}"))
    }

    /// What is here, as far as it is known.
    fn applied(&self) -> String {
        let (revision, changes) = (self.applied_revision, count(self.offset, "change"));
        let copying = match self.phase {
            Phase::Streaming => None,
            Phase::FirstSync => Some("the first sync was never complete"),
            Phase::Resync => Some("a resync was under way"),
        };
        match (copying, revision, self.offset) {
            (None, _, 0) => format!("everything up to revision {revision} of the primary"),
            (None, _, _) => format!(
                "everything before revision {revision} of the primary, and of that revision itself only the first {changes}: what it \
                 changed together is here in part"
            ),
            (Some(why), 0, _) => {
                format!(
                    "it is not known what: {why}, and the standby is not consistent with any revision of the primary"
                )
            }
            (Some(why), _, 0) => format!(
                "everything up to revision {revision} of the primary, and a part of what came later: {why}, and the standby is not consistent with \
                 one single revision"
            ),
            (Some(why), _, _) => format!(
                "everything before revision {revision} of the primary, and a part of what came later: {why}, and the standby is not consistent with \
                 one single revision"
            ),
        }
    }
}

fn streaming() -> Phase {
    Phase::Streaming
}

fn is_streaming(phase: &Phase) -> bool {
    *phase == Phase::Streaming
}
