//! The limits, and what is said when one is passed.

use bytes::Bytes;

use super::Brake;
use crate::etcd::kv::Revision;
use crate::link::question::Group;
use crate::object::object_key::ObjectKey;
use crate::scope::Scope;
use crate::session::brake::{BrakeLimits, WINDOW_MS, turns_over};
use crate::session::shared::Shared;
use crate::session::{Ended, Refusal};

impl Brake {
    /// Compares what was counted with the limits. Asks the standby where that is not enough to tell.
    pub(super) fn judge(&mut self, shared: &mut Shared) -> Result<(), Ended> {
        self.is_new = false;
        self.counted.window.expire(shared.now_ms, &shared.scope);
        self.count_next_container(shared);
        self.judge_number(shared)?;
        // With so many keys the number comes first: it names all of them.
        if self.size.answers_due == 0 {
            self.search_survivors(shared);
        }
        self.send_queries(shared);
        Ok(())
    }

    /// Too many keys, whatever they are.
    fn judge_number(&mut self, shared: &Shared) -> Result<(), Ended> {
        let BrakeLimits { keys, percent, .. } = shared.config.brake;
        let lost = self.counted.window.lost();
        if keys == 0 || lost <= keys {
            return Ok(());
        }
        let is_known = self.size.at_ms.is_some_and(|at_ms| shared.now_ms < at_ms + WINDOW_MS);
        if percent > 0 && !is_known {
            self.ask_size(shared);
            return Ok(());
        }
        let limit = keys.max(if percent > 0 { self.size.keys * percent / 100 } else { 0 });
        if lost <= limit {
            return Ok(());
        }
        let what = format!(
            "{lost} keys of this standby are deleted on the primary within 60 s, or marked for deletion: the limit is {limit}"
        );
        Err(self.stop(shared, what, None))
    }

    /// Resources that have lost many objects: whether any of them is left is asked.
    fn search_survivors(&mut self, shared: &Shared) {
        let least = shared.config.brake.resource_keys;
        if least == 0 {
            return;
        }
        let all = self.counted.window.directories();
        let many = all.filter(|(directory, lost)| *lost >= least && !is_turnover(&shared.scope, directory));
        let many: Vec<Bytes> = many.map(|(directory, _)| directory.clone()).collect();
        for directory in many {
            let survivor = self.survivors.get(&directory);
            if !survivor.is_some_and(|key| self.stays(shared, key, |_| false)) && !self.searched.contains(&directory) {
                self.ask_rest(directory);
            }
        }
    }

    /// Nothing is left of a resource.
    pub(super) fn judge_resource(&mut self, shared: &Shared, directory: &Bytes) -> Result<(), Ended> {
        let lost = self.counted.window.directories().find(|(other, _)| *other == directory).map_or(0, |(_, lost)| lost);
        // It has expired, or was made again, while it was looked for.
        if lost < shared.config.brake.resource_keys {
            return Ok(());
        }
        let Group { resource, .. } = Group::of(&shared.scope, &[directory, &b"in/any"[..]].concat());
        let what = format!(
            "all {lost} {resource} that this standby has are deleted on the primary within 60 s, or marked for deletion"
        );
        Err(self.stop(shared, what, Some(directory)))
    }

    /// A CRD is to go that has objects.
    pub(super) fn stop_for_crd(&mut self, shared: &Shared, crd: &[u8], objects: u64) -> Ended {
        let name =
            shared.scope.split(crd).and_then(|(_, relative)| ObjectKey::parse(relative)).map_or("", |key| key.name);
        let what = format!(
            "the CRD {name} is deleted on the primary, or marked for deletion, and this standby has {objects} objects of it"
        );
        self.stop(shared, what, None)
    }

    fn stop(&mut self, shared: &Shared, what: String, directory: Option<&Bytes>) -> Ended {
        let (losses, gone) = self.counted.window.losses(&shared.scope, not_applied_from(shared), directory);
        let gone = if gone > 0 { format!("; {gone} of them are gone here already") } else { String::new() };
        let refusal = Refusal::Brake { evidence: what + &gone, losses: Box::new(losses) };
        self.counted.stopped = Some(refusal.clone());
        Ended::Refused(refusal)
    }
}

/// The first revision of the primary that is not applied as a whole.
pub(super) fn not_applied_from(shared: &Shared) -> Revision {
    shared.checkpoint.revision + Revision::from(shared.checkpoint.offset == 0)
}

fn is_turnover(scope: &Scope, directory: &[u8]) -> bool {
    scope.split(directory).is_some_and(|(_, resource)| turns_over(resource.strip_suffix(b"/").unwrap_or(resource)))
}
