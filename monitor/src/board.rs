//! What the monitor knows now, for everything that answers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use etcd_sync_core::compare::check::{Report, ResourceCount};
use etcd_sync_core::link::members::Agreement;
use etcd_sync_core::link::side::Side;
use etcd_sync_program::config::{Config, MonitorConfig};
use etcd_sync_program::now_ms;
use serde::Serialize;
use tokio::sync::broadcast;

use crate::depth::ByDepth;
use crate::history::{Ended, History};
use crate::view::{CheckResult, Observed, Running, Sample, State};

/// Points of the charts: a quarter of an hour of one every two seconds.
const SAMPLES_MAX: usize = 450;

/// Events a page may be behind before it gets the whole state again.
const EVENTS_MAX: usize = 64;

/// Shared by everything in the process.
pub struct Board {
    link: String,
    check_interval_ms: u64,
    started_ms: u64,
    known: Mutex<Known>,
    events: broadcast::Sender<Event>,
}

#[derive(Default)]
struct Known {
    observed: Option<Observed>,
    samples: VecDeque<Sample>,
    /// Of keys, and of values.
    running: ByDepth<Option<Running>>,
    history: History,
    /// Whether the members of the primary and of the standby agree, as far as that was asked.
    members: [Option<Agreement>; 2],
}

/// What an open page is told.
#[derive(Clone, Debug)]
pub struct Event {
    /// The event's name.
    pub name: &'static str,
    /// One JSON document.
    pub data: Arc<str>,
}

impl Board {
    /// Nothing is known yet.
    pub fn new(config: &Config<MonitorConfig>) -> Self {
        Board {
            link: config.link.clone(),
            check_interval_ms: config.command.check_interval.as_millis() as u64,
            started_ms: now_ms(),
            known: Mutex::default(),
            events: broadcast::Sender::new(EVENTS_MAX),
        }
    }

    /// Follows the events from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Both etcds were asked.
    pub fn observed(&self, observed: Observed) {
        #[derive(Serialize)]
        struct Data<'a> {
            observed: &'a Observed,
            sample: Sample,
        }
        let sample = Sample {
            at_ms: observed.at_ms,
            lag_seconds: observed.lag.seconds,
            lag_revisions: observed.lag.revisions,
            headroom_seconds: observed.headroom.seconds,
        };
        self.publish("observed", &Data { observed: &observed, sample });
        let mut known = self.lock();
        if known.samples.len() == SAMPLES_MAX {
            known.samples.pop_front();
        }
        known.samples.push_back(sample);
        known.observed = Some(observed);
    }

    /// What was observed last.
    pub fn last_observed(&self) -> Option<Observed> {
        self.lock().observed.clone()
    }

    /// The members of a side were asked whether they hold the same.
    pub fn members(&self, side: Side, agreement: Agreement) {
        self.lock().members[usize::from(side == Side::Standby)] = Some(agreement);
    }

    /// Whether a side's members hold the same, as of the last time that it could be told; `None`: it could not.
    pub fn members_agree(&self, side: Side) -> Option<bool> {
        match self.lock().members[usize::from(side == Side::Standby)] {
            Some(Agreement::Alone | Agreement::Agree { .. }) => Some(true),
            Some(Agreement::Disagree { .. }) => Some(false),
            Some(Agreement::NotAsked(_)) | None => None,
        }
    }

    /// A comparison is under way (or, with `None`, is not).
    pub fn running(&self, deep: bool, running: Option<Running>) {
        #[derive(Serialize)]
        struct Data {
            running: Option<Running>,
        }
        let running = {
            let mut known = self.lock();
            *known.running.of_mut(deep) = running;
            known.now_running()
        };
        self.publish("running", &Data { running });
    }

    /// A comparison has ended.
    pub fn ended(&self, ended: Ended) -> CheckResult {
        #[derive(Serialize)]
        struct Data<'a> {
            result: &'a CheckResult,
            resources: &'a [ResourceCount],
        }
        let (result, latest) = {
            let mut known = self.lock();
            let result = known.history.add(ended).clone();
            (result, known.history.latest().cloned())
        };
        let resources = latest.as_ref().map_or(&[][..], |(_, report)| &report.resources);
        self.publish("result", &Data { result: &result, resources });
        result
    }

    /// The whole state, as one JSON document.
    pub fn state(&self) -> String {
        let known = self.lock();
        let running = known.now_running();
        json(&State {
            version: env!("CARGO_PKG_VERSION"),
            link: &self.link,
            now_ms: now_ms(),
            started_ms: self.started_ms,
            check_interval_ms: self.check_interval_ms,
            observed: known.observed.as_ref(),
            samples: known.samples.iter().collect(),
            running: running.as_ref(),
            results: known.history.results().collect(),
            resources: known.history.latest().map_or(&[], |(_, report)| &report.resources),
        })
    }

    /// Looks something up in the history.
    pub fn history<T>(&self, look: impl FnOnce(&History) -> T) -> T {
        look(&self.lock().history)
    }

    /// The document of a report, with when its comparison ended and since when each difference is known.
    pub fn report_json(
        &self,
        report: &Report,
        scope: &etcd_sync_core::scope::Scope,
        limit: usize,
        ended_ms: u64,
    ) -> serde_json::Result<Vec<u8>> {
        let mut document = Vec::new();
        // One difference at a time under the lock: the others go on meanwhile.
        let since_ms = |finding: &_| self.history(|history| history.since_ms(finding));
        report.write_json(&mut document, scope, limit, Some(ended_ms), since_ms)?;
        document.push(b'\n');
        Ok(document)
    }

    fn publish(&self, name: &'static str, data: &impl Serialize) {
        // Maybe no page is open.
        let _ = self.events.send(Event { name, data: json(data).into() });
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // Nothing panics while the lock is taken, and a half-written state is replaced soon.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// The page shows one: the one over values takes longer.
    fn now_running(&self) -> Option<Running> {
        self.running.values.or(self.running.keys)
    }
}

/// One line: events end at line ends.
pub fn json(data: &impl Serialize) -> String {
    serde_json::to_string(data).expect("views are plain data")
}
