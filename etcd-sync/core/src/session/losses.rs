//! What a copy would take away: proved to be right, covered by the operator's answer, saved before, or not done.

use bytes::Bytes;

use super::shared::Shared;
use super::{Ended, Refusal};
use crate::etcd::kv::{KeyValue, Revision, printable};
use crate::etcd::request::Op;
use crate::link::question::Losses;

/// Values saved on the standby at most, all copies together: so many keys, and so many bytes.
pub const SAVED_KEYS_MAX: u64 = 1_000;
/// See [`SAVED_KEYS_MAX`].
pub const SAVED_BYTES_MAX: u64 = 16 << 20;

impl Shared {
    /// Whether nobody but us has changed the mirrored copy, as far as the record shows: everything that others changed up to
    /// `seen` is on it.
    fn is_untouched(&self, standby: &KeyValue) -> bool {
        standby.mod_revision <= self.moments.seen
            && self.edited.is_untouched(&standby.key)
            && !self.ledger.holds(&standby.key)
    }

    /// The answer of the operator covers the loss of this key.
    pub(super) fn is_covered(&self, key: &[u8]) -> bool {
        self.acceptance.as_ref().is_some_and(|answer| answer.covers(&self.scope, key))
    }

    /// Whether a value of the primary that differs from the standby's is no newer than what was mirrored.
    pub(super) fn is_older(&self, primary: &KeyValue) -> bool {
        primary.mod_revision <= self.trust.floor
    }

    /// What an older value of the primary proves that differs from the standby's copy.
    pub(super) fn judge_older(&self, primary: &KeyValue, standby: &KeyValue) -> Result<(), Ended> {
        let proves = self.trust.proves_by_value && primary.mod_revision > self.trust.proved;
        if !proves || !self.is_untouched(standby) {
            return Ok(());
        }
        let (key, revision) = (printable(&primary.key), primary.mod_revision);
        let evidence = format!("{key} has another value at revision {revision} than the one that was mirrored");
        Err(Ended::Refused(Refusal::OtherHistory { evidence }))
    }

    /// A copy is about to write a value over another one: judges, counts and saves when it is no newer than that.
    pub(super) fn on_older(&mut self, primary: &KeyValue, standby: Option<&KeyValue>) -> Result<(), Ended> {
        let Some(standby) = standby.filter(|_| self.is_older(primary)) else { return Ok(()) };
        self.judge_older(primary, standby)?;
        self.guard_overwrite(standby)?;
        if self.must_save(&standby.key, standby.mod_revision) {
            self.save_with_write(standby)?;
        }
        Ok(())
    }

    /// Whether an overwrite with older data counts: healing what others have changed here is no loss.
    pub(super) fn loses_when_overwritten(&self, standby: &KeyValue) -> bool {
        self.is_untouched(standby) && !self.is_covered(&standby.key)
    }

    /// Counts an overwrite with older data, and refuses when it is too many.
    fn guard_overwrite(&mut self, standby: &KeyValue) -> Result<(), Ended> {
        if self.loses_when_overwritten(standby) {
            self.losses.add_overwrite(&self.scope, &standby.key);
            self.guard_losses()?;
        }
        Ok(())
    }

    /// Counts the deletion of a mirrored key, and refuses when it is too many.
    pub(super) fn guard_deletion(&mut self, key: &Bytes) -> Result<(), Ended> {
        if !self.is_covered(key) {
            self.losses.add_deletion(&self.scope, key);
            self.guard_losses()?;
        }
        Ok(())
    }

    fn guard_losses(&self) -> Result<(), Ended> {
        // The keys of the sweep come after those of the copy: both know the scope's size.
        let scope = self.stats.copied.0.max(self.mirrored);
        guard(self, &self.losses, scope)
    }

    /// Refuses when this would be lost of `scope` mirrored keys, beside what the operator's answer covers.
    pub(super) fn guard_planned(&self, losses: &Losses, scope: u64) -> Result<(), Ended> {
        guard(self, losses, scope)
    }

    /// Refuses when more would have to be saved than may be: `keys` beside what is saved already.
    pub(super) fn guard_saving(&self, keys: u64, bytes: u64, losses: &Losses) -> Result<(), Ended> {
        let (saved_keys, saved_bytes) = self.saved;
        if saved_keys + keys > SAVED_KEYS_MAX || saved_bytes + bytes > SAVED_BYTES_MAX {
            return Err(Ended::Refused(Refusal::Unproved { losses: Box::new(losses.clone()) }));
        }
        Ok(())
    }

    /// Whether what the standby has under a key, changed last at `mod_revision`, must be saved before it goes.
    pub(super) fn must_save(&self, key: &Bytes, mod_revision: Revision) -> bool {
        let came_into_scope = self.trust.other_scope && self.edited.is_untouched(key);
        let is_proved = self.trust.covers(mod_revision) && !came_into_scope;
        !is_proved && !self.is_covered(key)
    }

    /// Notes a value to be saved in the transaction that overwrites it.
    pub(super) fn save_with_write(&mut self, standby: &KeyValue) -> Result<(), Ended> {
        let value = Bytes::copy_from_slice(&standby.value);
        self.count_saved(&value)?;
        self.saves.insert(Bytes::copy_from_slice(&standby.key), value);
        Ok(())
    }

    /// Counts a value that is about to be saved, and refuses when there are too many.
    pub(super) fn count_saved(&mut self, value: &Bytes) -> Result<(), Ended> {
        let bytes = value.len() as u64;
        self.guard_saving(1, bytes, &self.losses)?;
        self.saved = (self.saved.0 + 1, self.saved.1 + bytes);
        self.stats.saved += 1;
        Ok(())
    }

    /// The operation that saves a value before it goes.
    pub(super) fn save_op(&self, key: &Bytes, value: Bytes) -> Op {
        Op::Put { key: self.fence.keys.saved_entry(key), value, lease: 0 }
    }

    /// What saving adds to a transaction that writes the key: operations, and bytes.
    pub(super) fn save_cost(&self, key: &Bytes) -> (usize, usize) {
        self.saves.get(key).map_or((0, 0), |value| (1, key.len() + value.len()))
    }
}

fn guard(shared: &Shared, losses: &Losses, scope: u64) -> Result<(), Ended> {
    // What rejoin accepted for this copy is known; the limit is for what comes on top.
    let unknown = losses.count().saturating_sub(shared.checkpoint.accepted_deletions.unwrap_or(0));
    if shared.config.deletion_guard.allows(unknown, scope) {
        return Ok(());
    }
    Err(Ended::Refused(Refusal::Deletions { losses: Box::new(losses.clone()), scope }))
}
