//! The state of this replica and the link, for `/readyz`, `/metrics`, the progress display and the log.

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use etcd_sync_core::etcd::kv::Revision;
use etcd_sync_core::link::lag::Lag;
use etcd_sync_core::link::state::Phase;
use etcd_sync_core::session::{Session, Stats};

/// Shared by everything in the process.
#[derive(Debug)]
pub struct Health {
    state: Mutex<State>,
    ready_lag: Duration,
    /// What moments are counted from.
    began: Instant,
}

#[derive(Debug, Default)]
struct State {
    role: Role,
    paused: Option<(&'static str, String)>,
    phase: Option<Phase>,
    checkpoint: Revision,
    lag: Lag,
    compacted: Revision,
    headroom_known: bool,
    /// Sum over the sessions before this one, and this one's own.
    past: Stats,
    current: Stats,
}

/// What this replica does in the election.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Connecting.
    #[default]
    Starting,
    /// Waiting for its turn.
    Candidate,
    /// Writing.
    Leader,
}

/// A consistent view of everything.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// In the election.
    pub role: Role,
    /// Why replication is paused: short name, and text.
    pub paused: Option<(&'static str, String)>,
    /// Of the link; `None` before a session.
    pub phase: Option<Phase>,
    /// The record's revision.
    pub checkpoint: Revision,
    /// Revisions of the primary not applied yet; `None` while unknown.
    pub lag_revisions: Option<u64>,
    /// Age of the oldest of them.
    pub lag: Option<Duration>,
    /// (revisions, time at the primary's pace) until compaction passes the checkpoint; the time is `None` when the primary
    /// is quiet.
    pub headroom: Option<(u64, Option<Duration>)>,
    /// Counters since the process began.
    pub totals: Stats,
    /// Keys of a copy under way: done, in all.
    pub copied: (u64, u64),
    /// `Ok`: ready. `Err`: why not.
    pub ready: Result<&'static str, String>,
}

impl Health {
    /// Ready means: caught up at most `ready_lag` ago.
    pub fn new(ready_lag: Duration) -> Self {
        Health { state: Mutex::default(), ready_lag, began: Instant::now() }
    }

    /// This replica has another role in the election.
    pub fn set_role(&self, role: Role) {
        let mut state = self.lock();
        state.role = role;
        if role != Role::Leader {
            state.phase = None;
            state.paused = None;
            state.lag.forget();
            // Only a leader knows these.
            let Stats { local_keys, lost, vanishing, copied, .. } = &mut state.current;
            (*local_keys, *lost, *vanishing, *copied) = Default::default();
        }
    }

    /// Replication is paused (`Some`) or goes on.
    pub fn set_paused(&self, reason: Option<(&'static str, String)>) {
        self.lock().paused = reason;
    }

    /// A session begins: its counters start at zero.
    pub fn begin_session(&self) {
        let mut state = self.lock();
        let current = std::mem::take(&mut state.current);
        add(&mut state.past, &current);
    }

    /// The session made progress.
    pub fn update_session(&self, session: &Session) {
        let mut state = self.lock();
        let (checkpoint, stats) = (session.checkpoint(), session.stats());
        state.phase = Some(checkpoint.phase);
        state.checkpoint = checkpoint.revision;
        state.lag.applied(match checkpoint.phase {
            Phase::Streaming if session.is_idle() => stats.heard.max(checkpoint.revision),
            Phase::Streaming => checkpoint.revision,
            Phase::FirstSync | Phase::Resync => 0,
        });
        state.current.clone_from(stats);
    }

    /// The primary has this revision now.
    pub fn update_head(&self, revision: Revision) {
        self.lock().lag.head(self.began.elapsed(), revision);
    }

    /// The primary's compact revision, as far as it is known.
    pub fn compacted(&self) -> Revision {
        self.lock().compacted
    }

    /// The compact revision was read again; `None`: it cannot be read.
    pub fn update_headroom(&self, compacted: Option<Revision>) {
        let mut state = self.lock();
        state.headroom_known = compacted.is_some();
        if let Some(compacted) = compacted {
            state.compacted = compacted;
        }
    }

    /// Everything at one moment.
    pub fn snapshot(&self) -> Snapshot {
        let state = self.lock();
        let mut totals = state.past.clone();
        add(&mut totals, &state.current);
        totals.local_keys = state.current.local_keys;
        (totals.lost, totals.vanishing) = (state.current.lost, state.current.vanishing);
        totals.heard = state.current.heard;
        let streaming = state.phase == Some(Phase::Streaming);
        let lag_revisions = state.lag.revisions().filter(|_| streaming);
        let lag = lag_revisions.and_then(|_| state.lag.time(self.began.elapsed()));
        Snapshot {
            role: state.role,
            paused: state.paused.clone(),
            phase: state.phase,
            checkpoint: state.checkpoint,
            lag_revisions,
            lag,
            headroom: (streaming && state.headroom_known)
                .then(|| state.lag.headroom(state.compacted, state.checkpoint)),
            totals,
            copied: state.current.copied,
            ready: state.ready(lag, self.ready_lag),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is taken, and a half-written gauge would do no harm.
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl State {
    fn ready(&self, lag: Option<Duration>, most: Duration) -> Result<&'static str, String> {
        if let Some((_, why)) = &self.paused {
            return Err(why.clone());
        }
        match (self.role, self.phase) {
            (Role::Starting, _) => Err("connecting".into()),
            (Role::Candidate, _) => Ok("standing by: another replica is the leader"),
            (Role::Leader, None) => Err("about to start".into()),
            (Role::Leader, Some(Phase::Streaming)) => match lag {
                None => Err("catching up with the primary".into()),
                Some(lag) if lag > most => Err(format!("{} s behind the primary", lag.as_secs())),
                Some(_) => Ok("caught up with the primary"),
            },
            (Role::Leader, Some(phase)) => {
                let (done, total) = self.current.copied;
                Err(format!("{} under way: {done} of {total} keys", phase.name()))
            }
        }
    }
}

fn add(to: &mut Stats, from: &Stats) {
    for (reason, count) in &from.skipped {
        *to.skipped.entry(reason).or_default() += count;
    }
    let fields: [(&mut u64, u64); 10] = [
        (&mut to.events, from.events),
        (&mut to.transactions, from.transactions),
        (&mut to.puts, from.puts),
        (&mut to.deletes, from.deletes),
        (&mut to.bytes, from.bytes),
        (&mut to.too_large, from.too_large),
        (&mut to.undecodable, from.undecodable),
        (&mut to.replays, from.replays),
        (&mut to.kept_local, from.kept_local),
        (&mut to.unknown_origin, from.unknown_origin),
    ];
    for (to, from) in fields {
        *to += from;
    }
}

impl Role {
    /// All of them, for metrics.
    pub const ALL: [Role; 3] = [Role::Starting, Role::Candidate, Role::Leader];

    /// The name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Role::Starting => "starting",
            Role::Candidate => "candidate",
            Role::Leader => "leader",
        }
    }
}
