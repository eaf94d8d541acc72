//! The journal: every run in the standby's etcd, with a copy in a local file.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use etcd_sync_core::etcd::kv::{KeyRange, KeyValue, Revision, printable, successor};
use etcd_sync_core::etcd::request::{Compare, Op, ReadRange, Txn};
use etcd_sync_core::link::state::StateKeys;
use etcd_sync_operations::procedure::{Command, Outcome, Run, State, Step, StepRecord};
use etcd_sync_program::now_ms;
use etcd_sync_store::{Etcd, WriteError};
use serde_json::Value;
use tracing::warn;

/// How often an entry is written whose outcome is unknown, and the pause in between.
const TRIES: usize = 10;
const PAUSE: Duration = Duration::from_millis(500);

/// Entries read at once.
const PAGE: i64 = 50;

/// A run, and its place in the standby's etcd. Whoever writes must have read the entry as it is: two commands that go on
/// with the same run stop each other, and nothing is done by both.
#[derive(Debug)]
pub struct Journal {
    etcd: Etcd,
    keys: StateKeys,
    folder: Option<PathBuf>,
    run: Run,
    mod_revision: Revision,
}

impl Journal {
    /// The run that is not finished, if there is one.
    ///
    /// # Errors
    /// The standby cannot be read, or the entry is another version's.
    pub async fn open(etcd: &Etcd, keys: &StateKeys, folder: Option<&Path>) -> Result<Option<Journal>> {
        let Some(open) = etcd.get(&keys.open_run).await.context("the journal cannot be read")?.0 else {
            return Ok(None);
        };
        let id = printable(&open.value);
        let entry = etcd.get(&keys.journal_entry(&id)).await.context("the journal cannot be read")?.0;
        let Some(entry) = entry else {
            bail!(
                "the journal has no entry for the run {id} that is not finished: somebody deleted it; look at the state of both \
                 clusters with `etcd-sync status`, then delete {} on the standby",
                printable(&keys.open_run)
            );
        };
        let run = Run::decode(&entry.value)?;
        let (etcd, keys, folder) = (etcd.clone(), keys.clone(), folder.map(Path::to_owned));
        Ok(Some(Journal { etcd, keys, folder, run, mod_revision: entry.mod_revision }))
    }

    /// Begins a run. There must be no other one.
    ///
    /// # Errors
    /// Another run has begun meanwhile, or the standby cannot be written.
    pub async fn begin(etcd: &Etcd, keys: &StateKeys, folder: Option<&Path>, run: Run) -> Result<Journal> {
        let (etcd, keys, folder) = (etcd.clone(), keys.clone(), folder.map(Path::to_owned));
        let mut journal = Journal { etcd, keys, folder, run, mod_revision: 0 };
        journal.save().await?;
        Ok(journal)
    }

    /// All runs, oldest first. An entry that cannot be read is skipped, with a warning.
    ///
    /// # Errors
    /// The standby cannot be read.
    pub async fn all(etcd: &Etcd, keys: &StateKeys) -> Result<Vec<Run>> {
        let (mut range, mut runs) = (KeyRange::prefix(&keys.journal_prefix), Vec::new());
        loop {
            let request = ReadRange { range: range.clone(), limit: PAGE, keys_only: false, revision: 0 };
            let page = etcd.read(request).await.context("the journal cannot be read")?;
            let read = |kv: &KeyValue| match Run::decode(&kv.value) {
                Ok(run) => Some(run),
                Err(error) => {
                    warn!(entry = printable(&kv.key), %error, "an entry of the journal is skipped");
                    None
                }
            };
            runs.extend(page.kvs.iter().filter_map(read));
            match page.kvs.last() {
                Some(last) if page.more => range = range.from(successor(&last.key)),
                _ => return Ok(runs),
            }
        }
    }

    /// The run as it is written.
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// Changes the run and writes it.
    ///
    /// # Errors
    /// Somebody else has changed it, or the standby cannot be written.
    pub async fn change(&mut self, change: impl FnOnce(&mut Run)) -> Result<()> {
        change(&mut self.run);
        self.save().await
    }

    /// A step begins.
    ///
    /// # Errors
    /// As [`Journal::change`].
    pub async fn step(&mut self, step: Step) -> Result<()> {
        self.change(|run| run.begin(step, now_ms())).await
    }

    /// The step under way must know this if it is begun again.
    ///
    /// # Errors
    /// As [`Journal::change`].
    pub async fn note(&mut self, note: Value) -> Result<()> {
        self.change(|run| run.set_note(note)).await
    }

    /// The step under way has ended; gives its entry.
    ///
    /// # Errors
    /// As [`Journal::change`].
    pub async fn ended(&mut self, outcome: Outcome) -> Result<StepRecord> {
        self.change(|run| run.end(outcome, now_ms())).await?;
        self.run.steps.last().cloned().context("a step was begun before")
    }

    /// Gives the run up.
    ///
    /// # Errors
    /// As [`Journal::change`].
    pub async fn abandon(&mut self) -> Result<()> {
        self.change(|run| run.state = State::Abandoned).await
    }

    async fn save(&mut self) -> Result<()> {
        self.copy();
        let (key, value) = (self.keys.journal_entry(&self.run.id), self.run.encode());
        let open_run = self.keys.open_run.clone();
        let id = self.run.id.clone().into_bytes().into();
        let mut compares = vec![Compare::ModRevision { key: key.clone(), revision: self.mod_revision }];
        compares.push(match self.mod_revision {
            0 => Compare::CreateRevision { key: open_run.clone(), revision: 0 },
            _ => Compare::Value { key: open_run.clone(), value: id },
        });
        let mut success = vec![Op::Put { key: key.clone(), value: value.clone(), lease: 0 }];
        match (self.mod_revision, self.run.state) {
            (0, _) => success.push(Op::Put { key: open_run, value: self.run.id.clone().into_bytes().into(), lease: 0 }),
            (_, State::Open) => {}
            (_, State::Completed | State::Abandoned) => success.push(Op::Delete { key: open_run }),
        }
        let txn = Txn { compares, success, failure: vec![Op::Get { key }] };
        let mut tries = 1;
        loop {
            let failure = match self.etcd.txn(txn.clone()).await {
                Ok(reply) if reply.succeeded => {
                    self.mod_revision = reply.revision;
                    return Ok(());
                }
                Ok(reply) => {
                    let found = reply.gets.into_iter().flatten().next();
                    // One that was sent before was applied after all.
                    if let Some(found) = found.filter(|found| found.value == value) {
                        self.mod_revision = found.mod_revision;
                        return Ok(());
                    }
                    bail!(
                        "somebody else goes on with run {} of this link, or has begun another one: this command stops here; \
                         see `etcd-sync journal`",
                        self.run.id
                    );
                }
                Err(WriteError::NotApplied(error) | WriteError::Unknown(error)) => error,
            };
            if tries == TRIES || !failure.is_transient() {
                let stopped = "the journal cannot be written: stopped; give the same command again to go on";
                return Err(failure).context(stopped);
            }
            tries += 1;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The copy is for people whose standby is gone, too: it must not stop anything.
    fn copy(&mut self) {
        let Some(folder) = &self.folder else { return };
        if let Err(error) = write_copy(folder, &self.run) {
            warn!(folder = %folder.display(), %error, "no copy of the journal is written (--journal-folder)");
            self.folder = None;
        }
    }
}

/// The name of a new run: the time, to the millisecond, then something of this process.
pub fn new_id() -> String {
    let now = SystemTime::now();
    let millis = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.subsec_millis());
    let time = humantime::format_rfc3339_seconds(now).to_string().replace([':', '-'], "");
    format!("{time}-{millis:03x}{:x}", std::process::id() & 0xf)
}

/// The file of a run's copy.
pub fn copy_path(folder: &Path, run: &Run) -> PathBuf {
    folder.join(format!("{}-{}-{}.json", Command::name(run.command), run.link, run.id))
}

fn write_copy(folder: &Path, run: &Run) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let path = copy_path(folder, run);
    let beside = path.with_extension("tmp");
    // Keys are named in it.
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    serde_json::to_writer_pretty(&mut file, run)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    std::fs::rename(&beside, &path)?;
    Ok(())
}
