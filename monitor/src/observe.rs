//! Reads the state of both etcds every two seconds.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use etcd_sync_core::etcd::kv::{Revision, printable};
use etcd_sync_core::link::lag::Lag;
use etcd_sync_core::link::state::{Checkpoint, Phase, cluster_id_text};
use etcd_sync_program::config::{Config, MonitorConfig};
use etcd_sync_program::now_ms;
use etcd_sync_store::link::headroom;
use etcd_sync_store::link::pair::Pair;
use etcd_sync_store::link::record::Record;
use etcd_sync_store::{Error, Identity, Replaced};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::board::Board;
use crate::view;

const INTERVAL: Duration = Duration::from_secs(2);

/// A cluster that hangs is away.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// How often the compact revision of the primary is searched.
const HEADROOM_INTERVAL: Duration = Duration::from_secs(10);

/// Reads the state of both etcds, until one of them turns out to be another cluster than before: only a new process sees that one.
pub async fn run(pair: Pair, config: Arc<Config<MonitorConfig>>, board: Arc<Board>) -> Replaced {
    let began = Instant::now();
    let mut seen = Seen::default();
    let history = Arc::new(History::default());
    tokio::spawn(history_of(pair.clone(), Arc::clone(&config), Arc::clone(&history)));
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let standby = answer(async {
            let record = Record::read(&pair.standby, &pair.keys).await?;
            Ok((record, pair.standby.identity().await?))
        });
        // Side by side: an open page considers a monitor lost that is silent for long.
        let (primary, standby) = tokio::join!(answer(pair.primary.identity()), standby);
        if let Some(replaced) = pair.primary.replaced().or_else(|| pair.standby.replaced()) {
            return replaced;
        }
        seen.primary(began.elapsed(), primary);
        seen.standby(standby);
        seen.compacted = history.exchange(seen.streaming);
        board.observed(seen.view(began.elapsed()));
    }
}

/// Input and result of the search for the compact revision of the primary.
#[derive(Default)]
struct History {
    /// The checkpoint to search back from.
    checkpoint: Mutex<Option<Revision>>,
    compacted: Mutex<Option<Revision>>,
}

impl History {
    fn exchange(&self, checkpoint: Option<Revision>) -> Option<Revision> {
        *lock(&self.checkpoint) = checkpoint;
        *lock(&self.compacted)
    }
}

/// Beside the observation: the first search takes many reads, one after the other.
async fn history_of(pair: Pair, config: Arc<Config<MonitorConfig>>, history: Arc<History>) {
    let key = config.scope.covering_range().start;
    let mut ticks = interval(HEADROOM_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known = 0;
    loop {
        // The first tick comes at once, before a checkpoint is known.
        let checkpoint = *lock(&history.checkpoint);
        let Some(checkpoint) = checkpoint else {
            tokio::time::sleep(INTERVAL).await;
            continue;
        };
        ticks.tick().await;
        let compacted = headroom::compacted(&pair.primary, key.clone(), known, checkpoint).await;
        known = compacted.unwrap_or(0);
        *lock(&history.compacted) = compacted;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer<T>(asked: impl Future<Output = Result<T, Error>>) -> Result<T, String> {
    match timeout(ANSWER_TIMEOUT, asked).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {ANSWER_TIMEOUT:?}")),
    }
}

/// What was seen so far.
#[derive(Default)]
struct Seen {
    primary: view::Primary,
    standby: view::Standby,
    lag: Lag,
    /// The checkpoint while the standby is consistent with one.
    streaming: Option<Revision>,
    /// The primary that the standby was synchronized from.
    recorded: Option<String>,
    compacted: Option<Revision>,
}

impl Seen {
    fn primary(&mut self, now: Duration, asked: Result<Identity, String>) {
        self.primary.reachable = asked.is_ok();
        match asked {
            Ok(identity) => {
                let cluster = Some(cluster_id_text(identity.cluster_id));
                if self.primary.cluster != cluster {
                    (self.lag, self.compacted) = (Lag::default(), None);
                }
                self.lag.head(now, identity.revision);
                self.primary.error = None;
                self.primary.cluster = cluster;
                self.primary.revision = Some(identity.revision);
            }
            Err(error) => self.primary.error = Some(error),
        }
    }

    fn standby(&mut self, asked: Result<(Record, Identity), String>) {
        let (record, identity) = match asked {
            Ok(asked) => asked,
            Err(error) => {
                (self.standby.reachable, self.standby.error) = (false, Some(error));
                return;
            }
        };
        let checkpoint = record.checkpoint();
        self.standby = view::Standby {
            reachable: true,
            error: checkpoint.as_ref().err().map(ToString::to_string),
            cluster: Some(cluster_id_text(identity.cluster_id)),
            revision: Some(record.revision),
            ..standby(&record, checkpoint.as_ref().ok().and_then(Option::as_ref))
        };
        let recorded = checkpoint.as_ref().ok().and_then(Option::as_ref).map(|checkpoint| checkpoint.primary.clone());
        self.recorded = recorded;
        self.streaming = match checkpoint {
            Ok(Some(checkpoint)) if checkpoint.phase == Phase::Streaming => Some(checkpoint.revision),
            _ => None,
        };
        self.lag.applied(self.streaming.unwrap_or(0));
    }

    fn view(&mut self, now: Duration) -> view::Observed {
        self.primary.compacted_revision = self.compacted;
        if let (Some(found), Some(recorded)) = (&self.primary.cluster, &self.recorded)
            && found != recorded
            && self.primary.reachable
        {
            self.primary.reachable = false;
            self.primary.error = Some(format!(
                "it answers, but it is cluster {found}, and the standby was synchronized from cluster {recorded}: check \
                 --primary-endpoints"
            ));
        }
        let known = self.streaming.is_some() && self.standby.reachable;
        let time = self.lag.time(now).filter(|_| known);
        let headroom = self.streaming.zip(self.compacted).filter(|_| known && self.primary.reachable);
        let (revisions, left) = headroom.map(|(at, compacted)| self.lag.headroom(compacted, at)).unzip();
        view::Observed {
            at_ms: now_ms(),
            primary: self.primary.clone(),
            standby: self.standby.clone(),
            lag: view::Lag {
                revisions: self.lag.revisions().filter(|_| known && self.primary.reachable),
                seconds: time.map(|time| time.as_secs_f64()),
            },
            headroom: view::Headroom { revisions, seconds: left.flatten().map(|left| left.as_secs_f64()) },
        }
    }
}

fn standby(record: &Record, checkpoint: Option<&Checkpoint>) -> view::Standby {
    let leader = record.candidates.first();
    let copied = record.copied.as_ref().filter(|_| checkpoint.is_none_or(|at| at.phase != Phase::Streaming));
    view::Standby {
        role: record.role.as_ref().map(|kv| printable(&kv.value)),
        phase: checkpoint.map(|checkpoint| checkpoint.phase.name()),
        leader: leader.map(|leader| leader.holder.clone()),
        epoch: leader.map(|leader| leader.epoch),
        candidates: record.candidates.iter().skip(1).map(|other| other.holder.clone()).collect(),
        paused: record.condition.as_ref().map(|condition| view::Paused {
            why: condition.paused.clone(),
            since_ms: condition.since_ms,
            holder: condition.holder.clone(),
        }),
        checkpoint: checkpoint
            .map(|checkpoint| view::CheckpointView { revision: checkpoint.revision, written_ms: checkpoint.at_ms }),
        copied: copied.and_then(|kv| {
            let copied: serde_json::Value = serde_json::from_slice(&kv.value).ok()?;
            Some(view::Copied { done: copied["done"].as_u64()?, total: copied["total"].as_u64()? })
        }),
        ..view::Standby::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(cluster_id: u64, revision: Revision) -> Result<Identity, String> {
        Ok(Identity { cluster_id, revision, raft_term: 1 })
    }

    #[test]
    fn what_is_away_is_shown_as_it_was_known_last_and_nothing_is_measured_with_it() {
        let mut seen = Seen::default();
        let at = Duration::from_secs;
        seen.primary(at(0), identity(7, 98));
        (seen.streaming, seen.standby.reachable) = (Some(98), true);
        seen.lag.applied(98);
        seen.primary(at(1), identity(7, 100));
        assert_eq!(seen.view(at(1)).lag.revisions, Some(2));
        seen.primary(at(3), Err("gone".into()));
        let view = seen.view(at(9));
        assert_eq!((view.primary.reachable, view.primary.revision), (false, Some(100)));
        assert_eq!((view.lag.revisions, view.lag.seconds), (None, Some(8.0)));
        seen.standby(Err("gone".into()));
        assert_eq!(seen.view(at(9)).lag.seconds, None);
    }

    #[test]
    fn another_primary_starts_again() {
        let mut seen = Seen { recorded: Some("7".into()), ..Seen::default() };
        seen.primary(Duration::ZERO, identity(7, 100));
        assert!(seen.view(Duration::ZERO).primary.reachable);
        seen.compacted = Some(50);
        seen.primary(Duration::ZERO, identity(8, 200));
        assert_eq!((seen.compacted, seen.lag.revisions()), (None, Some(200)));
        let primary = seen.view(Duration::ZERO).primary;
        assert!(!primary.reachable && primary.error.is_some_and(|error| error.contains("it is cluster 8")));
    }
}
