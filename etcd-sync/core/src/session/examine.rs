//! What a change or a value of the primary means: whether it is synchronized, and the header that shows its family. The scope
//! decides each change once; what follows from the decision is passed on.

use std::sync::Arc;

use bytes::Bytes;

use super::shared::Shared;
use super::{Encrypted, Ended, Note, ReadFailure, Refusal};
use crate::etcd::kv::{Event, KeyValue, printable};
use crate::etcd::request::Page;
use crate::object::object_key::ObjectKey;
use crate::object::{self, Header, Owner};
use crate::scope::content;
use crate::scope::{Decision, Reason, Scope};
use crate::session::families::Member;
use crate::session::walk::{Ask, Chunk, Walk};

/// What becomes of one value of the primary.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It is written. Without a header it is no object, or cannot be decoded.
    Write(Option<Box<Header>>),
    /// It is not, and what the standby has under its key is its own.
    Filtered,
    /// It is not in scope any more. A leased key is deleted; a mirrored copy stays until the primary deletes it or a sweep decides
    /// whose it is. What the standby has of its own stays.
    LeavesScope,
}

/// What a change of the primary means for the standby.
#[derive(Debug)]
pub(super) enum Change {
    Put(KeyValue, Option<Box<Header>>),
    Delete(Bytes),
    Filtered,
    LeavesScope(KeyValue),
}

/// Decides about a change, as far as key and lease show.
pub(super) fn decide<'a>(scope: &'a Scope, event: &Event) -> Decision<'a> {
    match event {
        Event::Put(kv) => scope.decide_kv(kv),
        Event::Delete { key, .. } => scope.decide(key),
    }
}

/// Whether the key by itself is in scope: an object may hang on a lease today and not tomorrow.
pub(super) fn is_key_in_scope(decision: Decision<'_>) -> bool {
    matches!(decision, Decision::InScope | Decision::Out(Reason::LeaseBound))
}

impl Shared {
    /// The chunk that a page completes, if any, without what is out of scope.
    pub(super) fn take_page(
        &self,
        walk: &mut Walk,
        ask: Ask,
        result: Result<Page, ReadFailure>,
    ) -> Result<Option<Chunk>, Ended> {
        let chunk = match result {
            Ok(page) => walk.page(ask, page),
            Err(ReadFailure::TooLarge) => {
                walk.too_large(ask);
                None
            }
            Err(ReadFailure::TimedOut) => {
                walk.timed_out(ask);
                None
            }
            Err(ReadFailure::Compacted) => {
                return Err(Ended::Again { force_copy: true, why: "a page was compacted while it was read" });
            }
        };
        let Some(mut chunk) = chunk else { return Ok(None) };
        chunk.lead.retain(|kv| self.scope.decide_kv(kv) == Decision::InScope);
        chunk.follow.retain(|kv| self.scope.decide_kv(kv) == Decision::InScope);
        Ok(Some(chunk))
    }

    /// What a change means, once the scope has decided about its key and lease.
    pub(super) fn judge(&mut self, event: Event, decision: Decision<'_>) -> Result<Change, Ended> {
        let kv = match (event, decision) {
            (Event::Put(kv), _) => kv,
            (Event::Delete { key, .. }, Decision::InScope) => return Ok(Change::Delete(key)),
            (Event::Delete { .. }, Decision::Out(reason)) => {
                self.filter(reason);
                return Ok(Change::Filtered);
            }
        };
        let verdict = match decision {
            Decision::InScope => self.examine_content(&kv)?,
            Decision::Out(reason) => self.filter(reason),
        };
        Ok(match verdict {
            Verdict::Write(header) => Change::Put(kv, header),
            Verdict::Filtered => Change::Filtered,
            Verdict::LeavesScope => Change::LeavesScope(kv),
        })
    }

    /// Judges a value that the scope has not decided about yet.
    pub(super) fn examine(&mut self, kv: &KeyValue) -> Result<Verdict, Ended> {
        let scope = Arc::clone(&self.scope);
        match scope.decide_kv(kv) {
            Decision::InScope => self.examine_content(kv),
            Decision::Out(reason) => Ok(self.filter(reason)),
        }
    }

    /// Judges a value whose key and lease are in scope, and counts it when its content filters it.
    pub(super) fn examine_content(&mut self, kv: &KeyValue) -> Result<Verdict, Ended> {
        let scope = Arc::clone(&self.scope);
        let Some((_, relative)) = scope.split(&kv.key) else { return Ok(Verdict::Write(None)) };
        if ObjectKey::parse(relative).is_none() {
            return Ok(Verdict::Write(None));
        }
        let plain = match self.config.keyring.decrypt(&kv.key, &kv.value) {
            Ok(plain) => plain,
            Err(why) if self.config.accept_undecryptable => {
                self.note_undecodable(kv, why.to_string());
                return Ok(Verdict::Write(None));
            }
            // One value that its API server cannot decrypt makes the standby's whole resource unreadable.
            Err(why) => {
                let (key, why) = (printable(&kv.key), why.to_string());
                let encrypted = Encrypted { key: Bytes::copy_from_slice(&kv.key), revision: kv.mod_revision };
                return Err(Ended::Refused(Refusal::Undecryptable { key, why, encrypted }));
            }
        };
        if relative.starts_with(content::CRDS.as_bytes()) {
            self.kinds.learn(&plain);
        }
        let header = match object::header(&plain) {
            Ok(header) => header,
            Err(why) => {
                self.note_undecodable(kv, why.to_string());
                return Ok(Verdict::Write(None));
            }
        };
        match content::decide(&scope, &self.kinds, &kv.key, &header) {
            Decision::InScope => Ok(Verdict::Write(Some(Box::new(header)))),
            Decision::Out(reason) => Ok(self.filter(reason)),
        }
    }

    /// Remembers what a CRD defines.
    pub(super) fn learn_kind(&mut self, kv: &KeyValue) {
        let is_crd =
            self.scope.split(&kv.key).is_some_and(|(_, relative)| relative.starts_with(content::CRDS.as_bytes()));
        if let (true, Ok(plain)) = (is_crd, self.config.keyring.decrypt(&kv.key, &kv.value)) {
            self.kinds.learn(&plain);
        }
    }

    /// The member of a family that a value is; `None` when it has nothing to do with ownership.
    pub(super) fn member(&self, kv: &KeyValue, header: &Header) -> Option<Member> {
        let owners = content::owners(header);
        let related = !owners.is_empty() || content::may_own(&self.scope, &kv.key);
        related.then(|| member_of(kv, header, owners))
    }

    fn note_undecodable(&mut self, kv: &KeyValue, why: String) {
        self.stats.undecodable += 1;
        self.note(Note::Undecodable { key: kv.key.clone(), why });
    }

    fn filter(&mut self, reason: Reason<'_>) -> Verdict {
        *self.stats.skipped.entry(reason.label()).or_default() += 1;
        match reason {
            Reason::LeaseBound | Reason::OwnerOutOfScope => Verdict::LeavesScope,
            _ => Verdict::Filtered,
        }
    }
}

pub(super) fn member_of(kv: &KeyValue, header: &Header, owners: Vec<Owner>) -> Member {
    let (key, value, revision) = (kv.key.clone(), kv.value.clone(), kv.mod_revision);
    Member { key, value, revision, uid: header.uid.clone(), owners }
}
