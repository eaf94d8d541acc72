//! What a value of the primary says: whether it is synchronized, and the header that tells its family.

use std::sync::Arc;

use super::{Ended, Note, ReadFailure, ReadFor, Refusal, Session};
use crate::etcd::kv::{KeyRange, KeyValue, printable, successor};
use crate::etcd::request::{Page, ReadRange};
use crate::link::side::Side;
use crate::object::encryption::Undecryptable;
use crate::object::object_key::ObjectKey;
use crate::object::{self, Header, Owner};
use crate::scope::content;
use crate::scope::{Decision, Reason};
use crate::session::families::Member;

/// Keys that could not be decoded, told by name in one session at most; all are counted.
const UNDECODABLE_NAMED_MAX: u64 = 20;

/// CRDs read at once: they may be large.
const CRDS_AT_ONCE: i64 = 20;

/// What becomes of one value of the primary.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It is written. Without a header it is no object, or cannot be decoded.
    Write(Option<Box<Header>>),
    /// It is not, and what the standby has under its key is its own.
    LeaveOut,
    /// It is not any more, so what was mirrored of it must go. What the standby has of its own stays.
    Leaves,
}

impl Session {
    /// Judges a value, and counts it when it is left out.
    pub(super) fn examine(&mut self, kv: &KeyValue) -> Result<Verdict, Ended> {
        let scope = Arc::clone(&self.scope);
        if let Decision::Out(reason) = scope.decide_kv(kv) {
            return Ok(self.left_out(reason));
        }
        let Some((_, relative)) = scope.split(&kv.key) else { return Ok(Verdict::Write(None)) };
        if ObjectKey::parse(relative).is_none() {
            return Ok(Verdict::Write(None));
        }
        let plain = match self.config.keyring.decrypt(&kv.key, &kv.value) {
            Ok(plain) => plain,
            Err(locked) if self.config.accept_locked => {
                self.tell_undecodable(kv, locked.to_string());
                return Ok(Verdict::Write(None));
            }
            // One value that its API server cannot decrypt makes the standby's whole resource unreadable.
            Err(locked) => return Err(Ended::Refused(locked_out(kv, &locked))),
        };
        if relative.starts_with(content::CRDS.as_bytes()) {
            self.kinds.learn(&plain);
        }
        let header = match object::header(&plain) {
            Ok(header) => header,
            Err(why) => {
                self.tell_undecodable(kv, why.to_string());
                return Ok(Verdict::Write(None));
            }
        };
        match content::decide(&scope, &self.kinds, &kv.key, &header) {
            Decision::InScope => Ok(Verdict::Write(Some(Box::new(header)))),
            Decision::Out(reason) => Ok(self.left_out(reason)),
        }
    }

    fn tell_undecodable(&mut self, kv: &KeyValue, why: String) {
        self.stats.undecodable += 1;
        if self.stats.undecodable <= UNDECODABLE_NAMED_MAX {
            self.note(Note::Undecodable { key: kv.key.clone(), why });
        }
    }

    /// Reads the primary's CRDs, unless a session before has done it.
    pub(super) fn read_kinds(&mut self) {
        if self.kinds_known {
            return;
        }
        self.read_next_kinds(self.scope.ranges_below(content::CRDS));
    }

    fn read_next_kinds(&mut self, ranges: Vec<KeyRange>) {
        match ranges.last().cloned() {
            Some(range) => {
                let request = ReadRange { range, limit: CRDS_AT_ONCE, keys_only: false, revision: 0 };
                self.read(Side::Primary, request, ReadFor::Kinds(ranges));
            }
            None => self.kinds_known = true,
        }
    }

    /// Some CRDs have come. Without an answer owners are looked for by guessing, as for kinds without a CRD.
    pub(super) fn kinds_read(&mut self, mut ranges: Vec<KeyRange>, result: Result<Page, ReadFailure>) {
        let range = ranges.pop();
        if let (Some(range), Ok(page)) = (range, result) {
            page.kvs.iter().for_each(|kv| self.learn_kind(kv));
            if let (true, Some(last)) = (page.more, page.kvs.last()) {
                ranges.push(range.from(successor(&last.key)));
            }
        }
        self.read_next_kinds(ranges);
    }

    /// Remembers what a CRD defines.
    pub(super) fn learn_kind(&mut self, kv: &KeyValue) {
        let is_crd =
            self.scope.split(&kv.key).is_some_and(|(_, relative)| relative.starts_with(content::CRDS.as_bytes()));
        if let (true, Ok(plain)) = (is_crd, self.config.keyring.decrypt(&kv.key, &kv.value)) {
            self.kinds.learn(&plain);
        }
    }

    fn left_out(&mut self, reason: Reason<'_>) -> Verdict {
        *self.stats.skipped.entry(reason.label()).or_default() += 1;
        match reason {
            Reason::LeaseBound | Reason::OwnerOutOfScope => Verdict::Leaves,
            _ => Verdict::LeaveOut,
        }
    }
}

/// The member of a family that a value is; `None` when it has nothing to do with ownership.
pub(super) fn member(session: &Session, kv: &KeyValue, header: &Header) -> Option<Member> {
    let owners = content::owners(header);
    let related = !owners.is_empty() || content::may_own(&session.scope, &kv.key);
    related.then(|| member_of(kv, header, owners))
}

pub(super) fn member_of(kv: &KeyValue, header: &Header, owners: Vec<Owner>) -> Member {
    let (key, value, revision) = (kv.key.clone(), kv.value.clone(), kv.mod_revision);
    Member { key, value, revision, uid: header.uid.clone(), owners }
}

fn locked_out(kv: &KeyValue, locked: &Undecryptable) -> Refusal {
    Refusal::Locked { key: printable(&kv.key), why: locked.to_string() }
}
