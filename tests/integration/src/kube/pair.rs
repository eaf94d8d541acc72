//! Two control planes and the link between their etcds.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use bytes::Bytes;
use etcd_sync_core::etcd::kv::{Event, KeyRange, Revision, printable};
use etcd_sync_core::scope::Scope;
use etcd_sync_store::Side;
use serde_json::Value;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::options::PlaneOptions;
use super::plane::ControlPlane;
use crate::compare::{await_until, dump};
use crate::daemon::{Daemon, run_command};
use crate::etcd::ClusterOptions;
use crate::exact::{Keys, PATIENCE, default_scope};
use crate::link::Link;

/// Pairs of one process that run at once: each is six servers on a small machine, and mostly waits.
static TURNS: Semaphore = Semaphore::const_new(3);

/// What pair to start.
#[derive(Clone, Debug, Default)]
pub struct PairOptions {
    /// The etcd of the primary.
    pub primary_etcd: ClusterOptions,
    /// The etcd of the standby.
    pub standby_etcd: ClusterOptions,
    /// The control plane of the primary.
    pub primary: PlaneOptions,
    /// The control plane of the standby. Another network than the primary's, unless a test says otherwise.
    pub standby: PlaneOptions,
}

impl PairOptions {
    /// Two newest control planes, each with networks of its own.
    pub fn new() -> PairOptions {
        let standby = PlaneOptions {
            service_cidr: "10.97.0.0/16".to_owned(),
            advertise_address: "192.0.2.2".to_owned(),
            ..PlaneOptions::default()
        };
        PairOptions { standby, ..PairOptions::default() }
    }
}

/// A live primary and a live standby.
#[derive(Debug)]
pub struct KubePair {
    /// The control plane that is read.
    pub primary: ControlPlane,
    /// The control plane that is written.
    pub standby: ControlPlane,
    /// Their etcds.
    pub link: Link,
    _turn: SemaphorePermit<'static>,
}

impl KubePair {
    /// Starts all but the daemon.
    pub async fn start(options: PairOptions) -> Result<KubePair> {
        let turn = TURNS.acquire().await.context("nobody closes it")?;
        let link = Link::start(options.primary_etcd, options.standby_etcd).await?;
        let (primary, standby) = tokio::try_join!(
            ControlPlane::start("primary", &link.primary, options.primary),
            ControlPlane::start("standby", &link.standby, options.standby),
        )?;
        Ok(KubePair { primary, standby, link, _turn: turn })
    }

    /// Adds the last lines of all logs to an error.
    pub fn explain<T>(&self, daemon: Option<&Daemon>, outcome: Result<T>) -> Result<T> {
        outcome.map_err(|error| {
            let daemon = daemon.map_or_else(String::new, Daemon::tail);
            anyhow!("{error:#}\n--- etcd-sync ---\n{daemon}\n{}{}", self.primary.tail(), self.standby.tail())
        })
    }

    /// Starts a daemon and waits until its first sync, or its resumption, is done.
    pub async fn sync(&self, more: &[&str]) -> Result<Daemon> {
        let daemon = self.daemon(more)?;
        let done = daemon.wait_line("Start Sync update", PATIENCE).await.map(drop);
        self.explain(None, done)?;
        Ok(daemon)
    }

    /// Starts a daemon.
    pub fn daemon(&self, more: &[&str]) -> Result<Daemon> {
        Daemon::start(&self.flags(more)?, &[])
    }

    /// The flags that name both clusters and the encryption, and these.
    pub fn flags(&self, more: &[&str]) -> Result<Vec<String>> {
        let mut flags = self.link.flags(more);
        if self.primary.options().encryption.is_some() {
            flags.push(format!("--encryption-config={}", self.primary.encryption_file()?.display()));
        }
        Ok(flags)
    }

    /// Waits until the standby has everything the primary has at this moment.
    pub async fn caught_up(&self) -> Result<()> {
        let head = self.link.primary.revision().await?;
        self.link.await_passed(head, PATIENCE).await
    }

    /// The report of `etcd-sync check`.
    pub async fn check(&self, more: &[&str]) -> Result<Value> {
        let mut args = vec!["check".to_owned()];
        args.extend(self.flags(more)?);
        args.extend(["-o".to_owned(), "json".to_owned(), "--limit=0".to_owned()]);
        let output = run_command(&args).await?;
        serde_json::from_str(&output.stdout).with_context(|| format!("no report: {}", output.stderr))
    }

    /// Waits until `etcd-sync check` finds nothing missed and nothing surplus, and every object in scope has the same UID
    /// at both API servers. Nobody may be writing to the primary but its own controllers.
    pub async fn await_same(&self, timeout: Duration) -> Result<()> {
        self.await_same_but(timeout, |_| false).await
    }

    /// [`KubePair::await_same`], where the standby may have made more of its own objects with these keys.
    pub async fn await_same_but(&self, timeout: Duration, may_be_local: impl Fn(&str) -> bool) -> Result<()> {
        await_until("both API servers serve the same objects", timeout, || async {
            let report = self.check(&[]).await?;
            let missed = strings(&report["localMissedKeys"]);
            let details = report["details"].as_array().context("a report has details")?.iter();
            let surplus = details.filter(|one| one["difference"] == "surplus");
            let surplus =
                surplus.filter(|one| one["why"] != "local" || !one["key"].as_str().is_some_and(&may_be_local));
            let surplus: Vec<&Value> = surplus.collect();
            let differences = self.identity_differences(&may_be_local).await?;
            let same = missed.is_empty() && surplus.is_empty() && differences.is_empty();
            Ok((!same).then(|| format!("check: missed {missed:?}, surplus {surplus:?}; served: {differences:?}")))
        })
        .await
    }

    /// What the API servers serve differently, by name and UID; keys that `may_be_local` may be on the standby only.
    async fn identity_differences(&self, may_be_local: impl Fn(&str) -> bool) -> Result<Vec<String>> {
        let scope = default_scope()?;
        let (mut primary, mut standby) =
            tokio::try_join!(self.primary.api().identities(), self.standby.api().identities())?;
        primary.retain(|key, _| scope.in_scope(key.as_bytes()));
        standby.retain(|key, _| scope.in_scope(key.as_bytes()));
        let mut differences = Vec::new();
        for (key, uid) in &primary {
            match standby.get(key) {
                Some(other) if other == uid => {}
                Some(_) => differences.push(format!("{key} has another UID")),
                None => differences.push(format!("{key} is missed")),
            }
        }
        let surplus = standby.keys().filter(|key| !primary.contains_key(*key) && !may_be_local(key));
        differences.extend(surplus.map(|key| format!("{key} is surplus")));
        Ok(differences)
    }

    /// Every key of the standby that no synchronization may touch, with its value.
    pub async fn out_of_scope(&self) -> Result<Keys> {
        let scope = default_scope()?;
        let mut keys = self.standby_keys().await?;
        keys.retain(|key, _| !scope.in_scope(key));
        Ok(keys)
    }

    /// Every change of an object that a daemon has made on the standby since `from`: they share their revision with the
    /// link's own marks.
    pub async fn synchronized(&self, from: Revision) -> Result<Vec<Event>> {
        let history = self.link.standby_history(from).await?;
        let (marks, objects): (Vec<_>, Vec<_>) =
            history.into_iter().partition(|event| event.key().starts_with(b"/etcd-sync/"));
        let ours: BTreeSet<Revision> = marks.iter().map(Event::revision).collect();
        Ok(objects.into_iter().filter(|event| ours.contains(&event.revision())).collect())
    }

    /// Everything below the standby's `/registry/`.
    pub async fn standby_keys(&self) -> Result<Keys> {
        dump(&self.link.standby.store(Side::Standby)?, &KeyRange::prefix(b"/registry/"), 0).await
    }

    /// Waits until nothing in scope was written to the standby for this long.
    pub async fn await_quiet(&self, scope: &Scope, quiet: Duration, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        loop {
            let before = self.in_scope_revisions(scope).await?;
            tokio::time::sleep(quiet).await;
            let after = self.in_scope_revisions(scope).await?;
            if before == after {
                return Ok(());
            }
            let changed = after.iter().filter(|(key, at)| before.get(*key) != Some(at)).map(|(key, _)| printable(key));
            let changed: Vec<String> = changed.take(10).collect();
            ensure!(Instant::now() < deadline, "the standby never becomes quiet; changed last: {changed:?}");
        }
    }

    async fn in_scope_revisions(&self, scope: &Scope) -> Result<BTreeMap<Bytes, Revision>> {
        let mut keys = self.standby_keys().await?;
        keys.retain(|key, _| scope.in_scope(key));
        Ok(keys.into_iter().map(|(key, kv)| (key, kv.mod_revision)).collect())
    }

    /// Fails when the standby's garbage collector has deleted anything of these namespaces.
    pub fn nothing_collected(&self, namespaces: &[&str]) -> Result<()> {
        let events = self.standby.audit()?;
        let taken: Vec<_> = events
            .iter()
            .filter(|event| event.is_collected() && namespaces.contains(&event.namespace.as_str()))
            .map(|event| format!("{} {}/{}", event.resource, event.namespace, event.name))
            .collect();
        if !taken.is_empty() {
            bail!(
                "the standby's garbage collector deleted {} objects: {:?}",
                taken.len(),
                &taken[..taken.len().min(10)]
            );
        }
        Ok(())
    }
}

fn strings(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}
