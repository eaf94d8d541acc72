//! What is still written on the old primary while it becomes a standby: its API servers may be up, and somebody may use them.
//! Its own history tells all of it, also what the copy overwrites at once.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use etcd_sync_core::etcd::kv::{Event, KeyRange, KeyValue, Revision};
use etcd_sync_core::link::state::StateKeys;
use etcd_sync_core::scope::{Decision, Scope};
use etcd_sync_operations::saved::{FORMAT, Head, What};
use etcd_sync_store::{Etcd, WatchError, WatchMessage};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Duration, sleep, timeout};
use tracing::warn;

use super::Rejoin;
use crate::operations::saved_file::Saving;

const PAUSE: Duration = Duration::from_millis(500);

/// How long the last of it may take to be told.
const END_LIMIT: Duration = Duration::from_secs(30);

/// Second files of one name at most.
const FILES_MAX: u32 = 99;

/// What was written there by others than a synchronizer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Followed {
    /// The file, if anything was.
    pub file: Option<PathBuf>,
    /// Values in it.
    pub written: u64,
    /// Keys that were deleted.
    pub deleted: u64,
    /// The revisions between which nothing can be told: compacted before they were read.
    pub untold: Option<(Revision, Revision)>,
}

/// Saves what others write.
#[derive(Debug)]
pub struct Follower {
    task: JoinHandle<Result<Followed>>,
    until: watch::Sender<Revision>,
}

impl Follower {
    /// Follows while `work` is done, and then until everything up to the revision that `end` gives was told. What cannot be
    /// saved ends the work: it would overwrite it.
    ///
    /// # Errors
    /// What was written cannot be told, or not be saved. The work was dropped, or had ended.
    pub async fn during<T>(
        mut self,
        work: impl Future<Output = T>,
        end: impl AsyncFnOnce() -> Result<Revision>,
    ) -> Result<(T, Followed)> {
        let done = tokio::select! {
            done = work => done,
            ended = &mut self.task => {
                let error = joined(ended).err().context("it was not asked to end")?;
                return Err(error.context("what is written here meanwhile cannot be saved, so the copy was stopped"));
            }
        };
        self.until.send_replace(end().await?);
        match timeout(END_LIMIT, &mut self.task).await {
            Ok(ended) => Ok((done, joined(ended)?)),
            Err(_) => bail!("what was written here meanwhile cannot be told: the old primary does not answer"),
        }
    }
}

fn joined<T>(ended: Result<Result<T>, JoinError>) -> Result<T> {
    match ended {
        Ok(told) => told,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

impl Rejoin<'_> {
    /// Follows the old primary's history from a revision on. `path` is the file of the keys saved before.
    pub fn follow(&self, path: &Path, cluster: &str, from: Revision) -> Follower {
        let (until, receiver) = watch::channel(Revision::MAX);
        let covering = self.config.scope.covering_range();
        // The synchronizer's marks tell its own revisions from others'.
        let root = KeyRange::prefix(&self.pair.keys.root);
        let end = if covering.end.is_empty() { covering.end } else { covering.end.max(root.end) };
        let work = Work {
            etcd: self.pair.standby.clone(),
            range: KeyRange { start: covering.start.min(root.start), end },
            scope: std::sync::Arc::clone(&self.config.scope),
            keys: self.pair.keys.clone(),
            path: path.to_owned(),
            head: Head {
                etcd_sync_saved_keys: FORMAT,
                what: What::Rejoin,
                link: self.config.link.clone(),
                cluster: cluster.to_owned(),
                revision: from,
                at: humantime::format_rfc3339_millis(std::time::SystemTime::now()).to_string(),
                keys: 0,
            },
            file: None,
            group: Vec::new(),
            group_is_ours: false,
            told: from - 1,
            followed: Followed::default(),
        };
        Follower { task: tokio::spawn(work.run(receiver)), until }
    }
}

struct Work {
    etcd: Etcd,
    range: KeyRange,
    scope: std::sync::Arc<Scope>,
    keys: StateKeys,
    path: PathBuf,
    head: Head,
    file: Option<Saving>,
    /// What the revision being looked at did.
    group: Vec<Event>,
    group_is_ours: bool,
    /// Everything up to here was looked at.
    told: Revision,
    followed: Followed,
}

impl Work {
    async fn run(mut self, mut until: watch::Receiver<Revision>) -> Result<Followed> {
        let wanted = until.clone();
        while self.told < *wanted.borrow() {
            let ended = tokio::select! {
                ended = self.watch(&wanted) => ended?,
                // The one who waits is gone.
                changed = until.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => break,
                },
            };
            // A revision received in parts is received again.
            self.group.clear();
            self.group_is_ours = false;
            match ended {
                None => {}
                Some(WatchError::Compacted { compact_revision, .. }) => {
                    let (from, _) = self.followed.untold.unwrap_or((self.told, 0));
                    self.followed.untold = Some((from, compact_revision + 1));
                    self.told = self.told.max(compact_revision);
                }
                Some(error) => {
                    warn!(%error, "the old primary's history cannot be followed just now");
                    sleep(PAUSE).await;
                }
            }
        }
        if let Some(file) = self.file.take() {
            file.finish()?;
        }
        Ok(self.followed)
    }

    /// Reads on until everything wanted was told, or the watch ends.
    async fn watch(&mut self, until: &watch::Receiver<Revision>) -> Result<Option<WatchError>> {
        let mut watch = match self.etcd.watch(self.range.clone(), self.told + 1).await {
            Ok(watch) => watch,
            Err(error) => return Ok(Some(error)),
        };
        while self.told < *until.borrow() {
            match watch.next().await {
                Ok(WatchMessage::Events { events, complete }) => {
                    for event in events {
                        if self.group.first().is_some_and(|first| first.revision() != event.revision()) {
                            self.close()?;
                        }
                        self.group_is_ours |= self.keys.marks_own_revision(event.key());
                        self.group.push(event);
                    }
                    if complete {
                        self.close()?;
                    }
                }
                Ok(WatchMessage::Progress { revision }) => self.told = self.told.max(revision),
                Err(error) => return Ok(Some(error)),
            }
        }
        Ok(None)
    }

    /// Saves what one whole revision wrote, unless a synchronizer did.
    fn close(&mut self) -> Result<()> {
        let ours = std::mem::take(&mut self.group_is_ours);
        for event in std::mem::take(&mut self.group) {
            self.told = self.told.max(event.revision());
            match event {
                _ if ours => {}
                Event::Put(kv) if self.scope.decide_kv(&kv) == Decision::InScope => {
                    self.followed.written += 1;
                    self.save(&kv)?;
                }
                Event::Delete { key, .. } if self.scope.in_scope(&key) => self.followed.deleted += 1,
                _ => {}
            }
        }
        if let Some(file) = &mut self.file {
            file.sync()?;
        }
        Ok(())
    }

    fn save(&mut self, kv: &KeyValue) -> Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let (path, file) = later(&self.path, &self.head)?;
                self.followed.file = Some(path);
                none.insert(file)
            }
        };
        file.add(kv)
    }
}

/// A file beside the one of the keys saved before.
fn later(path: &Path, head: &Head) -> Result<(PathBuf, Saving)> {
    let mut made = None;
    for number in 1..=FILES_MAX {
        let mut name = path.as_os_str().to_owned();
        name.push(if number == 1 { ".later".to_owned() } else { format!(".later{number}") });
        let name = PathBuf::from(name);
        if !name.exists() {
            made = Some((name.clone(), Saving::create(&name, head)?.kept()));
            break;
        }
    }
    made.with_context(|| format!("there are {FILES_MAX} files beside {} already", path.display()))
}
