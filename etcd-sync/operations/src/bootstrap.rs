//! Whether an installation may be changed, as the chart's bootstrap Job decides it before the pods start.

use etcd_sync_core::link::role::Role;
use etcd_sync_core::link::state::{Checkpoint, Phase, PrimaryContact};

/// How old the last contact with the primary may be, in milliseconds; a leader records one every few seconds.
const CONTACT_AGE_MAX_MS: u64 = 30_000;

/// What to do about a refusal that the operator knows to be harmless.
pub const INSIST: &str = "to change the installation all the same, give bootstrap.skipPreflight=true this once";

/// Why the installation is not changed. Each text says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The Job cannot reach what the running synchronizer reaches.
    #[error(
        "the running synchronizer is connected to the primary, and this Job is not: with these values replication would stop; if \
         the primary went down just now, try again in a minute: {error}"
    )]
    Disconnects {
        /// Why the Job cannot.
        error: String,
    },
    /// The values name another primary.
    #[error(
        "the running synchronizer is connected to the primary {connected}, and these values name another cluster, {found}"
    )]
    OtherPrimary {
        /// The cluster on record.
        connected: String,
        /// The cluster that the values name.
        found: String,
    },
    /// Another link copies from this primary.
    #[error(
        "a synchronizer copies from this primary already, with the link {link}: is --link (`link` in the chart) missing or \
         misspelled? For a second link with another scope, {INSIST}"
    )]
    OtherLink {
        /// Its name.
        link: String,
    },
    /// The preflight fails, and replication runs.
    #[error("{why}; the running replication continues unchanged; {INSIST}")]
    FailsWhileReceiving {
        /// What failed.
        why: String,
    },
    /// The preflight fails, and a copy is about to begin.
    #[error("{0}")]
    Fails(String),
    /// Secrets of these names exist and are not ours.
    #[error("not renewed, because these Secrets were not created by this chart: {0}")]
    Foreign(String),
}

/// What a link's record says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The standby's role.
    pub role: Role,
    /// Its checkpoint.
    pub checkpoint: Option<Checkpoint>,
    /// The last contact with the primary.
    pub contact: Option<PrimaryContact>,
    /// A synchronizer runs.
    pub runs: bool,
}

impl Link {
    /// Whether no first copy is about to begin: a link that goes on from its checkpoint was checked before its copy, and a cluster
    /// with another role than standby gets none. In an emergency it must still be possible to change the installation.
    pub fn is_settled(&self) -> bool {
        !matches!(self.role, Role::Standby | Role::None)
            || self.checkpoint.as_ref().is_some_and(|checkpoint| checkpoint.phase == Phase::Streaming)
    }

    /// Whether a synchronizer had contact with the primary a moment ago.
    pub fn is_receiving(&self, now_ms: u64) -> bool {
        let contact = self.contact.as_ref().filter(|_| self.runs);
        contact.is_some_and(|contact| now_ms.abs_diff(contact.at_ms) < CONTACT_AGE_MAX_MS)
    }

    /// Whether this link never ran.
    pub fn is_new(&self) -> bool {
        self.role == Role::None && self.checkpoint.is_none()
    }

    /// Refuses to lead a running synchronizer to another primary by mistake.
    ///
    /// # Errors
    /// `found`, the cluster that the values name, is not the one on record.
    pub fn same_primary(&self, found: &str, now_ms: u64) -> Result<(), Refusal> {
        match &self.checkpoint {
            Some(Checkpoint { primary, .. }) if self.is_receiving(now_ms) && primary != found => {
                Err(Refusal::OtherPrimary { connected: primary.clone(), found: found.to_owned() })
            }
            _ => Ok(()),
        }
    }

    /// Whether this link of a standby copies from the cluster `primary` now.
    pub fn copies_from(&self, primary: &str, now_ms: u64) -> bool {
        self.role == Role::Standby
            && self.is_receiving(now_ms)
            && self.checkpoint.as_ref().is_some_and(|checkpoint| checkpoint.primary == primary)
    }
}

/// What follows from a preflight that was made, or could not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Good,
    /// Go on, although it fails: nothing is about to be copied.
    Harmless,
}

/// Decides what a preflight means that fails because of `why`; `None`: it passes.
///
/// # Errors
/// The installation must not be changed.
pub fn judge(why: Option<String>, link: &Link, now_ms: u64) -> Result<Verdict, Refusal> {
    match why {
        None => Ok(Verdict::Good),
        Some(why) if link.is_settled() && link.is_receiving(now_ms) => Err(Refusal::FailsWhileReceiving { why }),
        Some(_) if link.is_settled() => Ok(Verdict::Harmless),
        Some(why) => Err(Refusal::Fails(why)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::checkpoint;

    const NOW_MS: u64 = 1_000_000;

    fn link(role: Role, phase: Phase, contact_ms: Option<u64>) -> Link {
        let checkpoint = Checkpoint { phase, ..checkpoint() };
        let contact = contact_ms.map(|at_ms| PrimaryContact { revision: 1, at_ms });
        Link { role, checkpoint: Some(checkpoint), contact, runs: true }
    }

    #[test]
    fn a_running_link_is_not_led_away_from_its_primary() {
        let running = link(Role::Standby, Phase::Streaming, Some(NOW_MS - 1_000));
        assert!(running.same_primary("c1", NOW_MS).is_ok() && running.same_primary("c2", NOW_MS).is_err());
        let silent = link(Role::Standby, Phase::Streaming, Some(NOW_MS - CONTACT_AGE_MAX_MS));
        assert!(silent.same_primary("c2", NOW_MS).is_ok());
        let stopped = Link { runs: false, ..running.clone() };
        assert!(stopped.same_primary("c2", NOW_MS).is_ok() && !stopped.copies_from("c1", NOW_MS));
        assert!(running.copies_from("c1", NOW_MS) && !running.copies_from("c2", NOW_MS));
    }

    #[test]
    fn a_failed_preflight_matters_where_it_would_stop_something() {
        let fails = || Some("it fails".to_owned());
        let running = link(Role::Standby, Phase::Streaming, Some(NOW_MS));
        assert_eq!(judge(None, &running, NOW_MS), Ok(Verdict::Good));
        assert!(matches!(judge(fails(), &running, NOW_MS), Err(Refusal::FailsWhileReceiving { .. })));
        let silent = link(Role::Standby, Phase::Streaming, None);
        assert_eq!(judge(fails(), &silent, NOW_MS), Ok(Verdict::Harmless));
        assert_eq!(judge(fails(), &link(Role::Primary, Phase::FirstSync, None), NOW_MS), Ok(Verdict::Harmless));
        let copying = link(Role::Standby, Phase::FirstSync, None);
        assert_eq!(judge(fails(), &copying, NOW_MS), Err(Refusal::Fails("it fails".into())));
        let new = Link { role: Role::None, checkpoint: None, contact: None, runs: false };
        assert!(new.is_new() && !new.is_settled());
    }
}
