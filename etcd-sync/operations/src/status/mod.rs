//! What `status` and `plan` say first of a link: whether anything may be written here at all, and where it stands.

mod report;

pub use report::{Candidate, Head, Status};

use crate::text::{moment, wrap};
use etcd_sync_core::etcd::kv::Revision;
use etcd_sync_core::link::role::{How, Promotion, Role};
use etcd_sync_core::link::state::Checkpoint;
use etcd_sync_core::session::Refusal;

/// The first line of a plan that no synchronizer would carry out, at [`crate::text::WIDTH`] columns.
pub fn paused(refusal: &Refusal, role: &Role, promotion: Option<&Promotion>) -> String {
    let why = match (refusal, role) {
        (Refusal::Promoted { .. }, Role::Primary) => {
            let by = promotion.map(|promotion| format!(" (promoted by run {})", promotion.run)).unwrap_or_default();
            format!("the role here is primary{by}: nothing would be written; see `etcd-sync rejoin`")
        }
        (Refusal::Promoted { .. }, Role::Demoted { token }) => format!(
            "the role here is demoted (run {token} handed over from this cluster): nothing would be written; see \
             `etcd-sync rejoin`"
        ),
        (Refusal::OldPrimary { .. }, _) => {
            "this cluster is the old primary, the other one was promoted over it: nothing would be written; see \
             `etcd-sync rejoin`"
                .to_owned()
        }
        (refusal, _) => format!("nothing would be written: {refusal}"),
    };
    wrap(&why, "PAUSED: ", "        ")
}

/// Why the phase of the checkpoint says nothing any more; `None`: the role is standby, so it does.
pub fn ended(role: &Role, promotion: Option<&Promotion>) -> Option<String> {
    match (role, promotion) {
        (Role::Primary, Some(Promotion { run, how, at_ms, .. })) => {
            let how = match how {
                How::Switchover => "switchover",
                How::Failover => "failover",
            };
            Some(format!("ended: promoted {} by {how} (run {run})", moment(*at_ms)))
        }
        (Role::Primary, None) => Some("ended: promoted".to_owned()),
        (Role::Demoted { token }, _) => Some(format!("ended: demoted, handed over by run {token}")),
        (Role::None | Role::Standby | Role::Other(_), _) => None,
    }
}

/// How far the primary is ahead of the checkpoint; `None`: the two revisions are not of one history, or nothing follows it.
pub fn ahead(checkpoint: &Checkpoint, role: &Role, cluster: &str, revision: Revision) -> Option<Revision> {
    let follows = *role == Role::Standby && checkpoint.primary == cluster;
    follows.then_some(revision - checkpoint.revision)
}

/// Where the primary is now, for people.
pub fn primary_now(checkpoint: Option<&Checkpoint>, role: &Role, cluster: &str, revision: Revision) -> String {
    let now = format!("revision {revision}");
    match checkpoint {
        Some(checkpoint) if checkpoint.primary != cluster => {
            format!("{now} of another cluster ({cluster}), not comparable")
        }
        Some(checkpoint) => match ahead(checkpoint, role, cluster, revision) {
            Some(behind @ ..0) => format!("{now}, {} behind the checkpoint", -behind),
            Some(lag) => format!("{now}, {lag} ahead of the checkpoint"),
            None => now,
        },
        None => now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::checkpoint;
    use crate::text::WIDTH;

    fn promotion() -> Promotion {
        Promotion {
            format: Promotion::FORMAT,
            run: "20260102T030405Z-123a".into(),
            how: How::Failover,
            primary: "c1".into(),
            revision: 7,
            offset: 0,
            at_ms: 0,
        }
    }

    #[test]
    fn what_pauses_replication_is_shown_short_and_with_the_remedy() {
        let demoted = Role::Demoted { token: "r1".into() };
        let promoted = |found: &str| Refusal::Promoted { found: found.into() };
        for (refusal, role, said) in [
            (promoted("\"primary\""), Role::Primary, "primary (promoted by run 20260102T030405Z-123a): nothing would"),
            (promoted("\"demoted:r1\""), demoted, "the role here is demoted (run r1 handed over"),
            (Refusal::OldPrimary { cluster: "c1".into() }, Role::None, "is the old primary"),
            (promoted("\"x\""), Role::Other("x".into()), "nothing would be written: the role of this standby is \"x\""),
        ] {
            let text = paused(&refusal, &role, Some(&promotion()));
            let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(words.starts_with("PAUSED: ") && words.contains(said), "{text}");
            assert!(words.contains("`etcd-sync rejoin`"), "{text}");
            assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        }
    }

    #[test]
    fn a_promoted_cluster_does_not_stream_and_lags_behind_nobody() {
        let told = ended(&Role::Primary, Some(&promotion()));
        assert_eq!(
            told.as_deref(),
            Some("ended: promoted 1970-01-01T00:00:00Z by failover (run 20260102T030405Z-123a)")
        );
        assert_eq!(ended(&Role::Standby, Some(&promotion())), None);
        let streaming = Checkpoint { revision: 153, ..checkpoint() };
        let now = |role: Role, cluster: &str, revision| primary_now(Some(&streaming), &role, cluster, revision);
        assert_eq!(now(Role::Primary, "c1", 3609), "revision 3609");
        assert_eq!(now(Role::Standby, "c1", 160), "revision 160, 7 ahead of the checkpoint");
        assert_eq!(now(Role::Standby, "c1", 100), "revision 100, 53 behind the checkpoint");
        assert_eq!(now(Role::Standby, "c9", 2), "revision 2 of another cluster (c9), not comparable");
        assert_eq!(primary_now(None, &Role::None, "c1", 5), "revision 5");
    }
}
