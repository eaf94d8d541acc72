//! PersistentVolumes whose claim will not be the one they name.
//!
//! Source: `syncVolume` in kubernetes/pkg/controller/volume/persistentvolume/pv_controller.go: a volume that names the UID
//! of a claim which is not there, or has another one, is released and then reclaimed.

use bytes::Bytes;

use super::bounded::Bounded;
use super::report::Collected;
use super::{Kind, Limits, spec};
use crate::scope::{Decision, Scope};

#[derive(Debug)]
pub(super) struct Volumes {
    volumes: Bounded<Bytes, Volume>,
    claims: Bounded<Bytes, Claim>,
}

#[derive(Debug)]
struct Volume {
    claim: Bytes,
    /// Namespace and name.
    claim_name: String,
    uid: String,
    reclaim_policy: String,
}

/// The UIDs of a claim: the one written to the standby, and the one that is there.
#[derive(Debug)]
struct Claim {
    written: Option<String>,
    standby: Option<String>,
    standby_goes: bool,
}

impl Volumes {
    pub fn new(limits: &Limits) -> Self {
        Volumes { volumes: Bounded::new(limits.volumes), claims: Bounded::new(limits.volumes) }
    }

    /// A claim on one of the sides or both.
    pub fn claim(&mut self, key: &Bytes, written: Option<&str>, standby: Option<&str>, standby_goes: bool) {
        let (written, standby) = (written.map(str::to_owned), standby.map(str::to_owned));
        self.claims.entry(key.clone(), || Claim { written, standby, standby_goes });
    }

    /// A volume that the standby is given. `false`: it cannot be read.
    pub fn written(&mut self, key: &Bytes, prefix: &str, plain: &[u8]) -> bool {
        let Some(spec::PersistentVolume { spec }) = spec::read(plain) else { return false };
        let claim = spec.claim_ref;
        // Without a UID nothing was bound yet: the volume waits for its claim.
        if claim.name.is_empty() || claim.uid.is_empty() {
            return true;
        }
        let claim_name = format!("{}/{}", claim.namespace, claim.name);
        let volume = Volume {
            claim: Bytes::from(format!("{prefix}persistentvolumeclaims/{claim_name}")),
            claim_name,
            uid: claim.uid,
            reclaim_policy: spec.reclaim_policy,
        };
        self.volumes.entry(key.clone(), || volume);
        true
    }

    pub fn finish(&self, scope: &Scope, found: &mut Collected, gaps: &mut Vec<String>) {
        let mut volumes: Vec<_> = self.volumes.iter().collect();
        volumes.sort_by_key(|(key, _)| *key);
        for (key, volume) in volumes {
            if let Some((kind, what)) = self.judge(scope, volume) {
                let detail = format!("claim {}: {what}; reclaim policy {}", volume.claim_name, volume.reclaim_policy);
                let there = self.claims.get(&volume.claim).is_some_and(|claim| claim.standby.is_some());
                found.add(kind, key, there.then_some(&volume.claim[..]).as_slice(), detail);
            }
        }
        if !(self.volumes.is_complete() && self.claims.is_complete()) {
            gaps.push(format!("PersistentVolumes or claims beyond {} were not checked.", self.volumes.max()));
        }
    }

    fn judge(&self, scope: &Scope, volume: &Volume) -> Option<(Kind, String)> {
        let claim = self.claims.get(&volume.claim);
        if claim.is_none() && !self.claims.is_complete() {
            return None;
        }
        let written = claim.and_then(|claim| claim.written.as_deref());
        let standby = claim.and_then(|claim| claim.standby.as_deref());
        let stays = standby.filter(|_| !claim.is_some_and(|claim| claim.standby_goes));
        match written.or(stays) {
            Some(uid) if uid != volume.uid => {
                Some((Kind::VolumeClaimOtherUid, "the standby keeps another object of that name".to_owned()))
            }
            Some(_) if standby.is_some_and(|uid| uid != volume.uid) => Some((
                Kind::VolumeClaimOtherUid,
                "the standby has another object of that name until the sync replaces it".to_owned(),
            )),
            Some(_) => None,
            None => Some((
                Kind::VolumeClaimAbsent,
                match scope.decide(&volume.claim) {
                    Decision::Out(reason) => format!("out of scope, {reason}"),
                    Decision::InScope => "the primary has none, or it is not in scope".to_owned(),
                },
            )),
        }
    }
}
