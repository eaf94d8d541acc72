//! `etcd-sync prune`: deletes surplus keys of the standby, each of them saved in a file before.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Error, Result};
use bytes::Bytes;
use etcd_sync_core::compare::check::{Difference, Finding, Report, SurplusReason};
use etcd_sync_core::etcd::kv::{Revision, from_printable, printable};
use etcd_sync_core::link::state::{Checkpoint, Phase, cluster_id_text};
use etcd_sync_core::scope::content;
use etcd_sync_core::scope::{Decision, Scope};
use etcd_sync_kms::Encryption;
use etcd_sync_operations::prune::{Candidate, Fate, Outcome as Done, Plan, PlannedAt, deletion, standby};
use etcd_sync_operations::saved::{FORMAT, Head, What, file_name};
use etcd_sync_program::args::TableOutput;
use etcd_sync_program::config::{Config, PruneConfig};
use etcd_sync_store::WriteError;
use etcd_sync_store::link::pair::Pair;
use etcd_sync_store::link::record::Record;
use futures_util::stream::{StreamExt, TryStreamExt, iter};
use serde_json::{Value, json};

use super::primary::on_primary;
use crate::facts::comparison::compare;
use crate::operations::saved_file::Saving;
use crate::output::confirm;
use crate::output::{Outcome, print, print_json, refused};

/// Values read at once: each is at most 1.5 MiB.
const READS_AT_ONCE: usize = 16;

/// Deletions under way at once.
const DELETES_AT_ONCE: usize = 8;

/// How often a deletion is tried whose outcome is unknown, and the pause in between.
const TRIES: usize = 5;
const PAUSE: Duration = Duration::from_millis(500);

/// Plans, asks, saves, deletes. Exit code 1: refused, or something of the plan stays.
pub async fn run(config: Config, options: PruneConfig) -> Result<Outcome> {
    if options.in_pod && options.backup.is_none() && !options.dry_run {
        return Ok(refused(
            "nothing was deleted: this runs in a pod, and a file that is made here goes with it; give --backup FILE on a volume \
             that stays, or run `etcd-sync prune` on a machine whose files stay",
        ));
    }
    let pair = config.pair()?;
    let encryption = config.encryption()?;
    let record = Record::read(&pair.standby, &pair.keys).await.context("the standby's record cannot be read")?;
    let checkpoint = record.checkpoint()?;
    if let Some(reason) = unfit(&record, checkpoint.as_ref(), &config.link) {
        return Ok(refused(&reason));
    }
    let cannot = "could not tell which keys are surplus";
    let report = compare(&pair, &config.scope, &encryption, false, options.timeout, cannot).await?;
    // The comparison took its time: it may have been promoted or paused meanwhile.
    let record = Record::read(&pair.standby, &pair.keys).await.context("the standby's record cannot be read")?;
    let reason = report.at.paused.as_deref().map(paused).or_else(|| unfit(&record, checkpoint.as_ref(), &config.link));
    if let Some(reason) = reason {
        return Ok(refused(&reason));
    }
    let candidates = look_up(&pair, &encryption, &config.scope, &report).await?;
    let at = PlannedAt {
        link: config.link.clone(),
        primary_revision: report.at.primary_revision,
        standby_revision: report.at.standby_revision,
        surplus: report.surplus.count,
        now_s: i64::try_from(unix_time().as_secs()).unwrap_or(i64::MAX),
    };
    let plan = Plan::new(candidates, &options.selection, &config.scope, at);
    if options.output == TableOutput::Table {
        print(&plan.text(options.limit.unwrap_or(usize::MAX)));
    }
    let tell = |refused: Option<&str>, error: Option<&Error>, done: Option<Value>| {
        if options.output == TableOutput::Json {
            let error = error.map(|error| format!("{error:#}"));
            print_json(&json!({ "plan": plan.json(), "refused": refused, "error": error, "result": done }));
        }
    };
    let may = match plan.count() {
        0 => Ok(()),
        count => permitted(&options, count)?,
    };
    if let Err(reason) = may {
        tell(Some(&reason), None, None);
        return Ok(refused(&format!("nothing was deleted: {reason}")));
    }
    if options.dry_run || plan.count() == 0 {
        tell(None, None, None);
        return Ok(Outcome::Success);
    }
    let mut done = Done::default();
    let (file, outcome) = match execute(&pair, &config, &options, &plan, &mut done).await {
        Ok(file) => (file, Ok(())),
        Err((file, error)) => (file, Err(error)),
    };
    let file = file.map(|file| file.display().to_string());
    tell(None, outcome.as_ref().err(), Some(done.json(file.as_deref())));
    if options.output == TableOutput::Table {
        print(&done.text(file.as_deref()));
    }
    outcome?;
    Ok(if done.is_complete() { Outcome::Success } else { Outcome::Differences })
}

/// Why nothing can be pruned here at all.
fn unfit(record: &Record, checkpoint: Option<&Checkpoint>, link: &str) -> Option<String> {
    let Some(checkpoint) = checkpoint else {
        return Some(format!(
            "nothing was ever synchronized into this standby by link {link}: check --standby-endpoints and --link"
        ));
    };
    if let Err(role) = standby(record.role.as_ref().map(|role| &role.value[..])) {
        return Some(role.to_string());
    }
    if let Some(condition) = &record.condition {
        return Some(paused(&condition.paused));
    }
    let first_sync = checkpoint.phase == Phase::FirstSync;
    first_sync.then(|| {
        "the first sync is not complete: what only the standby has is known when `etcd-sync status` says streaming"
            .into()
    })
}

/// What pauses the synchronizer stops a prune too: what it does not trust cannot show which keys are surplus.
fn paused(why: &str) -> String {
    format!(
        "nothing was deleted: replication is paused, and which keys are surplus is certain only when it is not (a running `etcd-sync run` \
         clears this state as soon as its reason is gone): {why}"
    )
}

/// Whether the plan may be carried out; else the reason. Asks, if it has to.
fn permitted(options: &PruneConfig, count: u64) -> Result<Result<(), String>> {
    let limit = options.deletion_limit;
    if count > limit.max(options.accepted.unwrap_or(0)) {
        return Ok(Err(format!(
            "{count} keys are more than --deletion-limit {limit}: look at the plan, then give --accept-deletions {count}"
        )));
    }
    if options.dry_run {
        return Ok(Ok(()));
    }
    confirm(count, "delete them", options.yes, options.output)
}

/// Reads the surplus keys, with their values for as long as it takes to read their headers.
async fn look_up(pair: &Pair, encryption: &Encryption, scope: &Scope, report: &Report) -> Result<Vec<Candidate>> {
    let standby = &pair.standby;
    let read = |finding: &Finding| {
        let reason = match finding.difference {
            Difference::Surplus(reason) => reason,
            _ => SurplusReason::Leftover,
        };
        let key = from_printable(&finding.key);
        async move {
            let Some(key) = key else { return anyhow::Ok(None) };
            let (Some(kv), _) = standby.get(&key).await? else { return Ok(None) };
            if scope.decide_kv(&kv) != Decision::InScope {
                return Ok(None);
            }
            encryption.unwrap_keys(std::slice::from_ref(&kv)).await;
            let header = scope.split(&kv.key).and_then(|_| content::header(&encryption.keyring, &kv));
            Ok(Some(Candidate::new(&kv, reason, header.as_ref())))
        }
    };
    let reads = iter(&report.surplus.first).map(read).buffered(READS_AT_ONCE);
    reads.try_filter_map(|found| async { Ok(found) }).try_collect().await.context("the surplus keys cannot be read")
}

/// Saves, then deletes. Gives the file if there is one, also with an error.
async fn execute(
    pair: &Pair,
    config: &Config,
    options: &PruneConfig,
    plan: &Plan,
    done: &mut Done,
) -> Result<Option<PathBuf>, (Option<PathBuf>, Error)> {
    let now = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
    let path = options.backup.clone().unwrap_or_else(|| file_name(What::Prune, &config.link, &now).into());
    let saved = save(pair, &config.link, &path, now, plan, done).await.map_err(|error| (None, error))?;
    if saved.is_empty() {
        return Ok(None);
    }
    let failed = AtomicBool::new(false);
    let delete = |(key, mod_revision): (Bytes, Revision)| {
        let failed = &failed;
        async move {
            if failed.load(Ordering::Relaxed) {
                return None;
            }
            let fate = delete(pair, &config.scope, &key, mod_revision).await;
            failed.fetch_or(fate.is_err(), Ordering::Relaxed);
            Some((key, fate))
        }
    };
    let mut deletions = iter(saved).map(delete).buffered(DELETES_AT_ONCE);
    let mut first_error = None;
    while let Some(deleted) = deletions.next().await {
        match deleted {
            Some((key, Ok(fate))) => {
                if config.log.detail {
                    tracing::info!(key = %printable(&key), ?fate, "pruned");
                }
                done.add(&key, fate);
            }
            Some((_, Err(error))) => first_error = first_error.or(Some(error)),
            None => {}
        }
    }
    let Some(error) = first_error else { return Ok(Some(path)) };
    let told = format!(
        "stopped in the middle, with {} keys deleted; all that may be gone are saved in {}; another `etcd-sync prune` goes on",
        done.count(Fate::Deleted),
        path.display()
    );
    Err((Some(path), error.context(told)))
}

/// Saves the keys that are still as they were planned, and gives them with the revision saved.
async fn save(
    pair: &Pair,
    link: &str,
    path: &Path,
    at: String,
    plan: &Plan,
    done: &mut Done,
) -> Result<Vec<(Bytes, Revision)>> {
    let identity = pair.standby.identity().await?;
    let head = Head {
        etcd_sync_saved_keys: FORMAT,
        what: What::Prune,
        link: link.to_owned(),
        cluster: cluster_id_text(identity.cluster_id),
        revision: identity.revision,
        at,
        keys: plan.count(),
    };
    let mut file = Saving::create(path, &head)?;
    let planned = plan.selected.iter().map(|row| &row.candidate);
    let read = |planned: &'_ Candidate| {
        let planned = planned.clone();
        async move {
            let read = pair.standby.get(&planned.key).await;
            (planned, read)
        }
    };
    let mut reads = iter(planned).map(read).buffered(READS_AT_ONCE);
    let mut saved = Vec::new();
    while let Some((planned, read)) = reads.next().await {
        match read.context("a key cannot be read: nothing was deleted")?.0 {
            None => done.add(&planned.key, Fate::Gone),
            Some(kv) if kv.mod_revision != planned.mod_revision => done.add(&planned.key, Fate::Changed),
            Some(kv) => {
                file.add(&kv)?;
                saved.push((planned.key.clone(), kv.mod_revision));
            }
        }
    }
    if !saved.is_empty() {
        file.finish()?;
    }
    Ok(saved)
}

/// Deletes a key as it was saved, unless the primary has it now.
async fn delete(pair: &Pair, scope: &Scope, key: &Bytes, mod_revision: Revision) -> Result<Fate> {
    if on_primary(&pair.primary, scope, key).await? {
        return Ok(Fate::OnPrimary);
    }
    let (mut tries, mut sent) = (1, false);
    loop {
        let error = match pair.standby.txn(deletion(&pair.keys, key, mod_revision)).await {
            Ok(reply) => {
                // An earlier one may have been applied late.
                let fate = Fate::of(&reply)?;
                return Ok(if sent && fate == Fate::Gone { Fate::Deleted } else { fate });
            }
            Err(WriteError::NotApplied(error)) => error,
            Err(WriteError::Unknown(error)) => {
                sent = true;
                error
            }
        };
        // Nothing is claimed before the key was read again; what is left is tried with the same guard.
        match pair.standby.get(key).await?.0 {
            None if sent => return Ok(Fate::Deleted),
            None => return Ok(Fate::Gone),
            Some(kv) if kv.mod_revision != mod_revision => return Ok(Fate::Changed),
            Some(_) if tries < TRIES && error.is_transient() => tries += 1,
            Some(_) => return Err(error.into()),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn unix_time() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
