//! The role of a cluster on a link, and the transactions that change it. Commands do this, synchronizers never.
//!
//! ```text
//! (none) ──first sync──► standby ──promote──► primary ──demote──► demoted:<token> ──rejoin──► standby
//! (none) ──────────────────demote (a primary that was never a standby)──────► demoted:<token>
//! demoted:<token> ──given up──► what it was before
//! ```

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::etcd::kv::{KeyValue, Revision, printable};
use crate::etcd::request::{Compare, Op, Txn};
use crate::link::fence::is_standby;
use crate::link::state::{BadRecord, ROLE_PRIMARY, ROLE_STANDBY, StateKeys};

/// How the value of a demoted cluster's role begins; the id of the run that marked it follows.
const DEMOTED: &str = "demoted:";

/// What a cluster is on a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// It has no role: it was never a standby of this link.
    None,
    /// It receives.
    Standby,
    /// It was promoted, and serves users.
    Primary,
    /// It served users until a switchover handed over to its standby. No synchronizer heeds this when it reads from it:
    /// what is left is drained.
    Demoted {
        /// The run that marked it.
        token: String,
    },
    /// Something that none of our programs writes, for people.
    Other(String),
}

impl Role {
    /// Reads a role's key as it was found.
    pub fn of_key(found: Option<&KeyValue>) -> Role {
        Role::of(found.map(|kv| &kv.value[..]))
    }

    /// Reads the value of a role's key.
    pub fn of(value: Option<&[u8]>) -> Role {
        match value {
            None => Role::None,
            Some(value) if value == ROLE_STANDBY => Role::Standby,
            Some(value) if value == ROLE_PRIMARY => Role::Primary,
            Some(value) => match str::from_utf8(value).ok().and_then(|text| text.strip_prefix(DEMOTED)) {
                Some(token) => Role::Demoted { token: token.to_owned() },
                None => Role::Other(printable(value)),
            },
        }
    }
}

/// How a standby came to be promoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// Planned, with everything applied.
    Switchover,
    /// The primary was gone.
    Failover,
}

/// What is written beside the role when a standby is promoted: where the histories of the two clusters part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Promotion {
    /// [`Promotion::FORMAT`].
    pub format: u32,
    /// The run of the command that promoted it.
    pub run: String,
    /// How.
    pub how: How,
    /// The old primary's cluster id, in hexadecimal.
    pub primary: String,
    /// Everything up to this revision of the old primary was applied.
    pub revision: Revision,
    /// When not 0: of `revision` itself only so many changes were.
    pub offset: u64,
    /// When, in Unix milliseconds, by the clock of whoever promoted it.
    pub at_ms: u64,
}

impl Promotion {
    /// The format this program reads and writes.
    pub const FORMAT: u32 = 1;

    /// The value written to etcd.
    pub fn encode(&self) -> Bytes {
        serde_json::to_vec(self).expect("a promotion has only plain fields").into()
    }

    /// Reads a value from etcd.
    ///
    /// # Errors
    /// It is none, or another version's.
    pub fn decode(value: &[u8]) -> Result<Self, BadRecord> {
        BadRecord::decode("promotion", Self::FORMAT, value)
    }
}

/// Promotes a standby: from this transaction on no synchronizer can write, whatever it is that still runs. The role keeps
/// all of them out; their election keys are taken away too, so that each one also loses its epoch.
///
/// `checkpoint` is the value that was judged: one that moved since was not. The run must still be the open one: one that was
/// given up promotes nothing any more.
pub fn promote(keys: &StateKeys, checkpoint: &KeyValue, leaders: &[Bytes], promotion: &Promotion) -> Txn {
    let put = |key: &Bytes, value| Op::Put { key: key.clone(), value, lease: 0 };
    let mut success = vec![
        put(&keys.role, Bytes::from_static(ROLE_PRIMARY)),
        put(&keys.promotion, promotion.encode()),
        Op::Delete { key: keys.condition.clone() },
    ];
    success.extend(leaders.iter().map(|key| Op::Delete { key: key.clone() }));
    Txn {
        compares: vec![
            is_standby(keys),
            Compare::Value { key: keys.checkpoint.clone(), value: checkpoint.value.clone() },
            Compare::Value { key: keys.open_run.clone(), value: promotion.run.clone().into_bytes().into() },
        ],
        success,
        failure: vec![Op::Get { key: keys.role.clone() }, Op::Get { key: keys.promotion.clone() }],
    }
}

/// Marks a primary as handed over, by the run with this token. `role` is the key as it was read.
pub fn mark_primary_demoted(keys: &StateKeys, role: Option<&KeyValue>, token: &str) -> Txn {
    let value = Bytes::from(format!("{DEMOTED}{token}"));
    change(keys, role, Op::Put { key: keys.role.clone(), value, lease: 0 })
}

/// Takes [`mark_primary_demoted`] back: the standby was not promoted. `had_role`: the primary had one before, as [`Role::Primary`].
pub fn clear_demoted(keys: &StateKeys, role: &KeyValue, had_role: bool) -> Txn {
    let (key, value) = (keys.role.clone(), Bytes::from_static(ROLE_PRIMARY));
    change(keys, Some(role), if had_role { Op::Put { key, value, lease: 0 } } else { Op::Delete { key } })
}

/// A change that holds only for the role as it was read.
fn change(keys: &StateKeys, role: Option<&KeyValue>, op: Op) -> Txn {
    let revision = role.map_or(0, |role| role.mod_revision);
    Txn {
        compares: vec![Compare::ModRevision { key: keys.role.clone(), revision }],
        success: vec![op],
        failure: vec![Op::Get { key: keys.role.clone() }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kv(key: &Bytes, value: &'static str, mod_revision: Revision) -> KeyValue {
        let value = Bytes::from_static(value.as_bytes());
        KeyValue { key: key.clone(), value, create_revision: 1, mod_revision, lease: 0 }
    }

    fn promotion() -> Promotion {
        Promotion {
            format: Promotion::FORMAT,
            run: "r1".into(),
            how: How::Failover,
            primary: "c1".into(),
            revision: 7,
            offset: 0,
            at_ms: 1,
        }
    }

    #[test]
    fn every_role_is_told_apart() {
        assert_eq!(Role::of(None), Role::None);
        assert_eq!(Role::of(Some(b"standby")), Role::Standby);
        assert_eq!(Role::of(Some(b"primary")), Role::Primary);
        assert_eq!(Role::of(Some(b"demoted:r1")), Role::Demoted { token: "r1".into() });
        assert_eq!(Role::of(Some(b"PRIMARY")), Role::Other("PRIMARY".into()));
    }

    #[test]
    fn a_promotion_survives_the_round_trip() {
        assert_eq!(Promotion::decode(&promotion().encode()), Ok(promotion()));
        assert!(Promotion::decode(b"{\"format\":9}").unwrap_err().to_string().contains("format 9"));
    }

    #[test]
    fn a_promotion_holds_only_for_the_checkpoint_that_was_judged() {
        let keys = StateKeys::new("default");
        let checkpoint = kv(&keys.checkpoint, "c", 5);
        let leader = Bytes::from_static(b"/etcd-sync/default/leader/1");
        let txn = promote(&keys, &checkpoint, std::slice::from_ref(&leader), &promotion());
        let compared: Vec<&Compare> = txn.compares.iter().collect();
        assert!(matches!(compared[0], Compare::Value { key, value } if *key == keys.role && value == ROLE_STANDBY));
        assert!(matches!(compared[1], Compare::Value { key, value } if *key == keys.checkpoint && value == "c"));
        assert!(matches!(compared[2], Compare::Value { key, value } if *key == keys.open_run && value == "r1"));
        assert!(txn.success.contains(&Op::Delete { key: leader }));
    }

    #[test]
    fn a_fence_holds_only_for_the_role_that_was_read() {
        let keys = StateKeys::new("default");
        let revision = |txn: &Txn| match &txn.compares[..] {
            [Compare::ModRevision { revision, .. }] => *revision,
            other => panic!("{other:?}"),
        };
        assert_eq!(revision(&mark_primary_demoted(&keys, None, "r1")), 0);
        let role = kv(&keys.role, "primary", 9);
        let txn = mark_primary_demoted(&keys, Some(&role), "r1");
        assert_eq!(revision(&txn), 9);
        assert!(matches!(&txn.success[..], [Op::Put { value, .. }] if value == "demoted:r1"));
        assert_eq!(revision(&clear_demoted(&keys, &role, true)), 9);
        // What had no role before has none again.
        assert_eq!(clear_demoted(&keys, &role, false).success, [Op::Delete { key: keys.role.clone() }]);
    }
}
