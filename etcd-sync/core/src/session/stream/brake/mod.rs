//! The brake: live updates stop before a mass deletion of the primary reaches the standby, and wait for the operator.
//!
//! What counts is what the standby would lose. A deletion is counted when it comes, before it is written, and so is a mark for
//! deletion: the standby's own controllers delete what is marked as soon as they see it. On a Namespace or a CRD that is all
//! that it contains there. Nothing is written while the standby is read for that, and the session ends when a limit is passed:
//! the changes come again from the checkpoint.
//!
//! The changes are counted when they come: what the primary did in an outage of the link counts as done at once, for so would
//! the standby lose it. A copy has a guard of its own.

mod queries;
mod rules;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use self::queries::Container;
use crate::etcd::kv::{KeyValue, Revision};
use crate::etcd::request::Op;
use crate::link::question::Topic;
use crate::link::state::cluster_id_text;
use crate::object::Header;
use crate::scope::Scope;
use crate::scope::content::NAMESPACES;
use crate::session::brake::{BrakeLimits, Counted, Query, WINDOW_MS, container_of_crd, directory_of};
use crate::session::commit::Changes;
use crate::session::shared::Shared;
use crate::session::{Ended, Refusal, Start};

/// The brake of one session.
#[derive(Debug, Default)]
pub(in crate::session) struct Brake {
    counted: Counted,
    /// The last loss that the operator's answer covers: when it came, and with which revision.
    accepted_last: (u64, Revision),
    /// Namespaces and CRDs that are to go, the first one being counted.
    containers: VecDeque<Container>,
    /// Reads of the standby: to be made, and under way.
    queries: VecDeque<Query>,
    under_way: usize,
    /// By directory, an object that stays.
    survivors: BTreeMap<Bytes, Bytes>,
    /// Directories in which one is looked for.
    searched: BTreeSet<Bytes>,
    /// How many keys the standby has, and when that was asked.
    size: Size,
    /// Something was counted since the limits were compared.
    is_new: bool,
    /// Something was counted of the revision that came last.
    in_revision: bool,
}

#[derive(Debug, Default)]
struct Size {
    at_ms: Option<u64>,
    keys: u64,
    answers_due: usize,
}

impl Brake {
    /// Goes on counting; from the beginning if it had stopped, for then the operator has answered.
    pub(super) fn new(shared: &Shared, counted: Counted) -> Self {
        Brake {
            counted: if counted.stopped.is_some() { counted.answered() } else { counted },
            accepted_last: (shared.now_ms, 0),
            ..Brake::default()
        }
    }

    /// What the next session goes on from. What waits to be counted comes again, and is counted then.
    pub(super) fn counted(&self, scope: &Scope) -> Counted {
        let mut counted = self.counted.clone();
        for container in &self.containers {
            counted.unmark(&container.key);
            counted.remove_going(&container.going);
            counted.window.forget(&container.key, scope);
        }
        counted
    }

    /// Once it has stopped it stays so, also through restarts, changes of leader and compaction, until the operator has answered
    /// this very question.
    pub(super) fn must_be_answered(limits: &BrakeLimits, start: &Start) -> Result<(), Refusal> {
        if limits.is_off() {
            return Ok(());
        }
        let primary = cluster_id_text(start.primary_cluster);
        let answer = start.history.accepted(Topic::Brake, &primary, start.now.unix_ms);
        let is_answered =
            |evidence: &str| answer.is_some_and(|answer| answer.evidence_on(Topic::Brake).any(|seen| seen == evidence));
        if let Some(Refusal::Brake { evidence, losses }) = &start.carried.brake.stopped {
            return match is_answered(evidence) {
                true => Ok(()),
                false => Err(Refusal::Brake { evidence: evidence.clone(), losses: losses.clone() }),
            };
        }
        let question = start.history.question.as_ref();
        match question.filter(|question| question.topic == Topic::Brake && question.primary == primary) {
            Some(question) if !is_answered(&question.evidence) => {
                let losses = Box::new(question.losses.clone().unwrap_or_default());
                Err(Refusal::Brake { evidence: question.evidence.clone(), losses })
            }
            _ => Ok(()),
        }
    }

    /// A change of the primary puts a key.
    pub(super) fn on_put(&mut self, shared: &Shared, kv: &KeyValue, header: Option<&Header>) {
        if shared.config.brake.is_off() {
            return;
        }
        self.counted.learn(&shared.scope, &kv.key);
        if header.is_some_and(|header| header.deleting) {
            if self.counted.mark(&kv.key) && !shared.ledger.holds(&kv.key) {
                self.lose(shared, &kv.key, kv.mod_revision, true);
            }
            return;
        }
        if self.counted.unmark(&kv.key) {
            self.counted.window.forget(&kv.key, &shared.scope);
        }
        if kv.create_revision == kv.mod_revision {
            self.counted.remove_going(&kv.key);
            container_of_crd(&shared.scope, &kv.key).iter().for_each(|container| self.counted.remove_going(container));
            self.counted.window.create(&kv.key, shared.now_ms, &shared.scope);
        }
    }

    /// A change of the primary deletes a key.
    pub(super) fn on_delete(&mut self, shared: &Shared, key: &Bytes, revision: Revision) {
        // What is local stays.
        if shared.config.brake.is_off() || shared.ledger.holds(key) {
            return;
        }
        let was_marked = self.counted.unmark(key);
        if is_namespace(&shared.scope, key) && !self.containers.iter().any(|container| container.key == *key) {
            self.counted.remove_going(key);
        }
        if was_marked {
            self.touch_accepted(shared, key, revision);
        } else {
            self.lose(shared, key, revision, false);
        }
    }

    /// The standby is to lose a key.
    fn lose(&mut self, shared: &Shared, key: &Bytes, revision: Revision, is_mark: bool) {
        let scope = &shared.scope;
        let directory = directory_of(scope, key);
        if let Some(directory) = directory
            && self.survivors.get(directory) == Some(key)
        {
            self.survivors.remove(directory);
        }
        (self.is_new, self.in_revision) = (true, true);
        let is_going = self.counted.is_going(scope, key, |_| false);
        match (self.touch_accepted(shared, key, revision), is_going) {
            (true, _) => self.counted.window.accept(key, shared.now_ms, scope),
            (false, true) => {}
            (false, false) => self.counted.window.lose(key, revision, shared.now_ms, scope),
        }
        let going = match container_of_crd(scope, key) {
            Some(directory) => Some(directory),
            None => (is_mark && is_namespace(scope, key)).then(|| key.clone()),
        };
        if let Some(going) = going {
            self.counted.add_going(&going);
            self.containers.push_back(Container::new(key, going, revision, is_mark));
        }
    }

    /// Whether the operator's answer covers that this key goes.
    fn touch_accepted(&mut self, shared: &Shared, key: &[u8], revision: Revision) -> bool {
        let answer = shared.acceptance.as_ref().filter(|answer| answer.topic == Topic::Brake);
        let is_accepted = answer.is_some_and(|answer| answer.covers(&shared.scope, key));
        if is_accepted {
            self.accepted_last = (shared.now_ms, revision);
        }
        is_accepted
    }

    /// All keys of the standby pass in an audit: with its end, all resources are known.
    pub(super) fn learn(&mut self, scope: &Scope, key: &[u8]) {
        self.counted.learn(scope, key);
    }

    /// An audit is complete.
    pub(super) fn on_audited(&mut self) {
        self.counted.resources_known = true;
    }

    /// Changes are about to come.
    pub(super) fn on_events_begin(&mut self, shared: &Shared) {
        self.counted.window.expire(shared.now_ms, &shared.scope);
    }

    /// All changes of a message have come.
    pub(super) fn on_events_end(&mut self, shared: &mut Shared) -> Result<(), Ended> {
        if self.is_new && self.may_judge(shared) {
            self.judge(shared)?;
        }
        self.in_revision &= !shared.revision_complete;
        Ok(())
    }

    /// Whether nothing may be written now. A revision that takes something away is written when all of it was counted, as far as
    /// it fits into memory.
    pub(super) fn holds(&self, shared: &Shared) -> bool {
        self.is_asking() || (self.in_revision && !self.may_judge(shared))
    }

    fn is_asking(&self) -> bool {
        self.under_way > 0 || !self.queries.is_empty() || !self.containers.is_empty()
    }

    fn may_judge(&self, shared: &Shared) -> bool {
        shared.revision_complete || !shared.has_room()
    }

    /// Takes the operator's answer off the record: when nothing that it covers has come for a minute and all of that is applied,
    /// or when it is void. True when something was sent. Only while nothing is under way.
    pub(super) fn try_drop_answer(&mut self, shared: &mut Shared) -> bool {
        let Some(answer) = shared.acceptance.as_ref().filter(|answer| answer.topic == Topic::Brake) else {
            return false;
        };
        let (at_ms, revision) = self.accepted_last;
        let is_used = shared.now_ms >= at_ms + WINDOW_MS && shared.is_idle() && shared.checkpoint.revision >= revision;
        if !is_used && answer.is_good(&shared.checkpoint.primary, shared.unix_ms) {
            return false;
        }
        shared.acceptance = None;
        let ops = vec![Op::Delete { key: shared.fence.keys.acceptance.clone() }];
        shared.commit_checkpoint(shared.checkpoint.clone(), Changes { ops, ..Changes::default() });
        true
    }
}

fn is_namespace(scope: &Scope, key: &[u8]) -> bool {
    scope.split(key).is_some_and(|(_, relative)| relative.starts_with(NAMESPACES.as_bytes()))
}
