//! `etcd-sync run`: campaign, read the record, drive a session, and begin again whenever something is unclear.

mod condition;
mod drive;
mod encrypted;
mod health;
mod http;
mod metrics;
mod notes;
mod pause;
mod progress;
mod retry;
mod role;
mod room;
mod time;
mod versions;

pub use health::Health;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use etcd_sync_core::link::fence::{Fence, Fenced, other_role};
use etcd_sync_core::link::question::Question;
use etcd_sync_core::link::state::{Phase, StateKeys, cluster_id_text};
use etcd_sync_core::scope::Scope;
use etcd_sync_core::session::batch::BatchLimits;
use etcd_sync_core::session::{
    BACKLOG_LEAST, BUFFERED_BYTES_MAX, Carried, DeletionGuard, Ended, Refusal, Session, SessionConfig,
};
use etcd_sync_kms::{self, Encryption};
use etcd_sync_operations::api_server::ApiServers;
use etcd_sync_operations::preflight::{Check, Level, judge, refusal};
use etcd_sync_program::Stop;
use etcd_sync_program::certificates::Watched;
use etcd_sync_program::config::{Config, LeaseConfig, RunConfig};
use etcd_sync_store::client::election::{Leadership, campaign};
use etcd_sync_store::{Error, Etcd};
use tokio::time::{Instant, sleep, timeout};
use tracing::{error, info, warn};

use self::condition::ConditionKey;
use self::drive::{Driver, Outcome};
use self::health::Role;
use self::notes::NoteLimit;
use self::pause::Words;
use self::room::Room;
use self::time::clocks;
use crate::cluster::Cluster;
use crate::cluster::lease::LeaderLease;
use crate::facts::preflight::{self, Pair};

/// Pauses between attempts after failures: doubled from the first to the second.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MOST: Duration = Duration::from_secs(5);

/// A process that has to stop hands its leadership over within this time.
const RESIGN_TIMEOUT: Duration = Duration::from_secs(2);

/// A transaction smaller than this is not made smaller.
const TXN_BYTES_LEAST: usize = 16 * 1024;
/// The same for operations on data; the checkpoint is one more, and the fence compares three keys.
const TXN_OPS_LEAST: usize = 8;

/// The daemon of one link.
struct Daemon {
    keys: StateKeys,
    scope: Arc<Scope>,
    session: SessionConfig,
    run: RunConfig,
    /// The client of the last session.
    primary: Etcd,
    standby: Etcd,
    api_servers: ApiServers,
    /// Names the leader, in Kubernetes.
    lease: Option<LeaderLease>,
    encryption_config: Option<PathBuf>,
    /// As the file was when the session began, or when it was last read again.
    encryption: Encryption,
    /// What the last preflight warned of: it is logged once.
    warned: BTreeSet<String>,
    health: Arc<Health>,
    stop: Stop,
    /// What one session leaves to the next.
    carried: Carried,
    /// The primary's cluster id, in hexadecimal, as the last session found it.
    primary_cluster: String,
    /// Why replication is paused, as the standby has it.
    recorded: Option<String>,
    notes: NoteLimit,
    room: Room,
}

/// Why a term of leadership is over.
enum Term {
    Lost,
    Stopped,
}

/// Synchronizes until SIGTERM or SIGINT.
pub async fn run(config: Config, run: RunConfig) -> Result<()> {
    let stop = Stop::on_signals().context("cannot listen for signals")?;
    let health = Arc::new(Health::new(run.ready_lag));
    http::serve(run.listen, Arc::clone(&health), Watched::new(&config)).await?;
    progress::show(Arc::clone(&health));
    let mut daemon = begin(&config, run, health, stop)?;
    if let Some(LeaseConfig { namespace, name }) = &daemon.run.lease {
        let cluster = Cluster::standby(&daemon.api_servers).await?;
        daemon.lease = cluster.map(|cluster| LeaderLease::new(cluster, namespace, name));
    }
    daemon.campaign_forever().await
}

/// The same inside of a command, without a listener: takes part in the election and synchronizes until stopped.
pub fn inside(
    config: &Config,
    run: RunConfig,
    health: Arc<Health>,
    stop: Stop,
) -> Result<impl Future<Output = Result<()>> + Send + use<>> {
    let daemon = begin(config, run, Arc::clone(&health), stop)?;
    progress::show(health);
    Ok(daemon.campaign_forever())
}

fn begin(config: &Config, run: RunConfig, health: Arc<Health>, stop: Stop) -> Result<Daemon> {
    let encryption = config.encryption()?;
    etcd_sync_kms::warn_of_mode(config.encryption_config.as_deref());
    let session = SessionConfig {
        limits: BatchLimits::DEFAULT,
        in_flight_max: run.transactions_in_flight,
        copy_bytes_per_second: run.copy_bytes_per_second,
        copy_writes_per_second: run.copy_writes_per_second,
        buffered_bytes_max: BUFFERED_BYTES_MAX,
        keyring: Arc::clone(&encryption.keyring),
        accept_undecryptable: run.allow_unproved_encryption,
        backlog_least: BACKLOG_LEAST,
        checkpoint_interval_ms: run.checkpoint_interval.as_millis() as u64,
        deletion_guard: DeletionGuard { count: run.deletions.count, percent: run.deletions.percent },
        brake: run.brake,
        detail: config.log.detail,
    };
    let room = Room::new(run.standby_quota_reserve);
    // All are made once here so that a bad file or endpoint ends the process at once.
    let (primary, standby) = (config.primary.etcd()?, config.standby.etcd()?);
    // A member that hangs must block neither the start nor the end.
    tokio::spawn(versions::warn_of(primary.clone(), standby.clone()));
    Ok(Daemon {
        keys: StateKeys::new(&config.link),
        scope: Arc::clone(&config.scope),
        session,
        run,
        primary,
        standby,
        api_servers: config.api_servers.of_pod(),
        lease: None,
        encryption_config: config.encryption_config.clone(),
        encryption,
        warned: BTreeSet::new(),
        health,
        stop,
        carried: Carried::first(),
        primary_cluster: String::new(),
        recorded: None,
        notes: NoteLimit::default(),
        room,
    })
}

impl Daemon {
    async fn campaign_forever(mut self) -> Result<()> {
        let mut pause = RETRY_FIRST;
        loop {
            let holder = self.run.holder.clone();
            // A candidate only when another replica leads: maybe none leads.
            let waiting = || self.health.set_role(Role::Candidate);
            let (prefix, ttl) = (&self.keys.leader_prefix, self.run.leader_ttl);
            let elected = campaign(&self.standby, prefix, holder.as_bytes(), ttl, waiting, self.stop.wanted()).await;
            let leadership = match elected {
                Ok(Some(leadership)) => leadership,
                Ok(None) => {
                    info!("stopped");
                    return Ok(());
                }
                // Another cluster is not gone on with by a process that knows the old one: the next start judges it from the beginning.
                Err(_) if let Some(replaced) = self.standby.replaced() => return Err(replaced.into()),
                Err(error) => {
                    self.health.set_role(Role::Starting);
                    self.health.set_paused(Some(("election", error.to_string())));
                    error!(%error, "cannot take part in the election yet");
                    if self.wait(pause).await {
                        return Ok(());
                    }
                    pause = (pause * 2).min(RETRY_MOST);
                    continue;
                }
            };
            pause = RETRY_FIRST;
            self.health.set_role(Role::Leader);
            self.health.set_paused(None);
            // Operators and scripts search for exactly these words.
            info!(holder, epoch = leadership.epoch(), "Acquired leader lease");
            let named = self.lease.as_ref().map(|lease| lease.hold(&holder));
            let term = self.lead(&leadership).await;
            // Before the next one is elected and takes it.
            if let Some(named) = named {
                named.release().await;
            }
            match term {
                Term::Lost => {
                    self.health.set_role(Role::Starting);
                    warn!("this replica is no longer the leader");
                }
                Term::Stopped => {
                    if !matches!(timeout(RESIGN_TIMEOUT, leadership.resign()).await, Ok(Ok(()))) {
                        warn!(
                            "the leadership could not be handed over: the next leader starts when the lease has expired"
                        );
                    }
                    info!("stopped");
                    return Ok(());
                }
            }
        }
    }

    /// One term: session after session.
    async fn lead(&mut self, leadership: &Leadership) -> Term {
        let fence = Fence { keys: self.keys.clone(), leader_key: leadership.key().clone(), epoch: leadership.epoch() };
        let (mut force_copy, mut pause) = (false, RETRY_FIRST);
        self.carried = Carried::first();
        loop {
            let (words, began) = (Words::read(&self.standby, &self.keys).await, Instant::now());
            let (outcome, phase) = self.session(leadership, &fence, force_copy).await;
            let paused = pause::interval(phase, began.elapsed());
            if phase == Some(Phase::Streaming) {
                // It came as far as that, so neither a copy nor patience is owed any more.
                (force_copy, pause) = (false, RETRY_FIRST);
            }
            let wait = match outcome {
                Outcome::Stopped => return Term::Stopped,
                Outcome::LeadershipLost | Outcome::Ended(Ended::Fenced(Fenced::Epoch)) => return Term::Lost,
                Outcome::Failed(_) if self.standby.replaced().is_some() => return Term::Lost,
                Outcome::Ended(Ended::Again { force_copy: force, why }) => {
                    info!(why, copy = force, "the session begins again");
                    force_copy |= force;
                    RETRY_FIRST
                }
                Outcome::Ended(Ended::ShrinkTransactions) => {
                    let bytes = (self.session.limits.bytes / 2).max(TXN_BYTES_LEAST);
                    warn!(bytes, "the standby accepts only smaller transactions");
                    self.session.limits.bytes = bytes;
                    RETRY_FIRST
                }
                Outcome::Ended(Ended::Fenced(fenced)) => {
                    self.pause(&fence, "promoted", &fenced.to_string(), None).await;
                    paused
                }
                Outcome::Ended(Ended::Refused(ref refusal @ Refusal::Undecryptable { ref encrypted, .. })) => {
                    match self.await_key(leadership, &fence, refusal, encrypted, phase).await {
                        Some(over) => return over,
                        None => RETRY_FIRST,
                    }
                }
                Outcome::Ended(Ended::Refused(refusal)) => {
                    let question = refusal.question(&self.primary_cluster, clocks().unix_ms, &self.run.holder);
                    self.pause(&fence, refusal.label(), &refusal.to_string(), question.as_ref()).await;
                    paused
                }
                Outcome::Paused(label, why) => {
                    self.pause(&fence, label, &why, None).await;
                    paused
                }
                Outcome::Failed(failure @ Error::NoSpace { .. }) => {
                    self.pause(&fence, "no_space", &failure.to_string(), None).await;
                    paused
                }
                Outcome::Failed(Error::TooManyOps { .. }) if self.session.limits.ops > TXN_OPS_LEAST => {
                    let ops = (self.session.limits.ops / 2).max(TXN_OPS_LEAST);
                    warn!(ops, "the standby accepts only transactions of fewer operations");
                    self.session.limits.ops = ops;
                    RETRY_FIRST
                }
                Outcome::Failed(failure) if failure.is_transient() => {
                    warn!(error = %failure, "the session begins again");
                    pause = (pause * 2).min(RETRY_MOST);
                    pause
                }
                Outcome::Failed(failure) => {
                    self.pause(&fence, "failed", &failure.to_string(), None).await;
                    paused
                }
            };
            tokio::select! {
                () = self.stop.wanted() => return Term::Stopped,
                () = leadership.lost() => return Term::Lost,
                () = pause::wait(&self.standby, &self.keys, words, wait) => {}
            }
        }
    }

    /// One session, and the phase it came to.
    async fn session(&mut self, leadership: &Leadership, fence: &Fence, force_copy: bool) -> (Outcome, Option<Phase>) {
        let (primary, session) = match self.begin(leadership, fence, force_copy).await {
            Ok(begun) => begun,
            Err(outcome) => return (outcome, None),
        };
        self.health.begin_session();
        let driver = Driver {
            primary: &primary,
            standby: &self.standby,
            leadership,
            health: &self.health,
            encryption: &self.encryption,
            condition: ConditionKey { standby: &self.standby, fence, holder: &self.run.holder },
            notes: &self.notes,
            room: &self.room,
        };
        let (outcome, phase, carried) = driver.run(session, &mut self.stop).await;
        self.carried = carried;
        (outcome, Some(phase))
    }

    /// Gathers the facts and judges them.
    async fn begin(
        &mut self,
        leadership: &Leadership,
        fence: &Fence,
        force_copy: bool,
    ) -> Result<(Etcd, Session), Outcome> {
        // A client takes the first cluster it meets for the right one, and a primary may be rebuilt behind its address:
        // a new session checks it again.
        let primary = self.primary.renewed().map_err(Outcome::Failed)?;
        self.primary = primary.clone();
        self.renew_encryption().map_err(|error| Outcome::Paused("encryption_config", error.to_string()))?;
        // Whoever was promoted over a primary that is gone must not wait for its answer to know it.
        if let Ok((Some(role), _)) = self.standby.get(&self.keys.role).await
            && let Some(found) = other_role(Some(&role.value))
        {
            return Err(Outcome::Ended(Ended::Refused(Refusal::Promoted { found })));
        }
        if let Some((label, why)) = self.room.look(&self.standby).await {
            return Err(Outcome::Paused(label, why));
        }
        let mut stop = self.stop.clone();
        let gathered = tokio::select! {
            () = stop.wanted() => return Err(Outcome::Stopped),
            () = leadership.lost() => return Err(Outcome::LeadershipLost),
            gathered = crate::facts::start::gather(&primary, &self.standby, &self.scope, fence.clone(), force_copy, &self.carried, clocks()) => gathered,
        };
        let start = match gathered {
            Ok(start) => start,
            Err(error) => return Err(Outcome::Failed(error)),
        };
        self.primary_cluster = cluster_id_text(start.primary_cluster);
        let (never_ran, first) = (start.role.is_none(), start.checkpoint.is_none());
        let session = match Session::begin(self.session.clone(), Arc::clone(&self.scope), start) {
            Ok(session) => session,
            Err(refusal) => return Err(Outcome::Ended(Ended::Refused(refusal))),
        };
        // A session that resumes was checked before the copy.
        if session.checkpoint().phase != Phase::Streaming {
            tokio::select! {
                () = stop.wanted() => return Err(Outcome::Stopped),
                () = leadership.lost() => return Err(Outcome::LeadershipLost),
                passed = self.preflight(&primary, first) => passed?,
            }
        }
        tokio::select! {
            () = stop.wanted() => return Err(Outcome::Stopped),
            () = leadership.lost() => return Err(Outcome::LeadershipLost),
            taken = role::take(&primary, &self.standby, fence, &self.scope, never_ran) => taken?,
        }
        Ok((primary, session))
    }

    /// Whether the two clusters fit together. Nothing is written before.
    async fn preflight(&mut self, primary: &Etcd, first: bool) -> Result<(), Outcome> {
        let pair = Pair {
            primary,
            standby: &self.standby,
            scope: &self.scope,
            api_servers: &self.api_servers,
            encryption: &self.encryption,
            keys: &self.keys,
            first,
        };
        let gathered = preflight::facts(pair, self.run.allow_unproved_encryption).await;
        let findings = judge(&gathered.map_err(Outcome::Failed)?);
        let warned = findings.iter().filter(|finding| finding.level == Level::Warn);
        // The versions of the members were logged when the process started.
        let warned = warned.filter(|finding| finding.check != Check::EtcdVersions);
        let warned: BTreeSet<String> = warned.map(|finding| finding.text()).collect();
        for text in warned.difference(&self.warned) {
            warn!("preflight: {text}");
        }
        self.warned = warned;
        match refusal(&findings) {
            Some(why) => Err(Outcome::Paused("preflight", why)),
            None => {
                info!(warnings = self.warned.len(), "preflight passed");
                Ok(())
            }
        }
    }

    /// Pauses replication and reports the reason, in the log, in `/readyz`, and in the standby for `status`, with what is asked
    /// of the operator.
    async fn pause(&mut self, fence: &Fence, label: &'static str, why: &str, question: Option<&Question>) {
        if self.health.snapshot().paused.as_ref().is_none_or(|(_, known)| known != why) {
            error!(reason = label, "paused: {why}");
            self.recorded = None;
        }
        if self.recorded.as_deref() != Some(why) {
            let condition = ConditionKey { standby: &self.standby, fence, holder: &self.run.holder };
            // What could not be written is written with the next attempt.
            self.recorded = condition.write(why, question, &mut self.stop.clone()).await.then(|| why.to_owned());
        }
        self.health.set_paused(Some((label, why.to_owned())));
    }

    /// True when the process should end.
    async fn wait(&mut self, pause: Duration) -> bool {
        tokio::select! {
            () = self.stop.wanted() => true,
            () = sleep(pause) => false,
        }
    }
}
