//! Random faults, one after the other, with load: after each the link is exact, or paused with the true reason; nothing that only the
//! standby has is lost without the operator's word. Five rounds in `make test`, thirty in `make soak`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use etcd_sync_core::etcd::kv::{KeyRange, KeyValue};
use etcd_sync_core::etcd::request::{Op, Txn};
use etcd_sync_core::link::question::{Question, Topic};
use etcd_sync_core::link::side::Sides;
use etcd_sync_integration::client::Client;
use etcd_sync_integration::compare::{await_until, dump};
use etcd_sync_integration::daemon::{Daemon, run_command};
use etcd_sync_integration::data::Random;
use etcd_sync_integration::etcd::ClusterOptions;
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::link::{Link, registry};
use etcd_sync_integration::soak::rounds;
use etcd_sync_integration::toxiproxy::{NetworkProfile, Toxiproxy};
use etcd_sync_store::Side;
use tempfile::TempDir;

const KEYS: usize = 300;

/// Room for all rounds; whoever fills it does so in seconds.
const QUOTA_BYTES: u64 = 256 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    KillDaemon,
    KillPrimary,
    FreezePrimary,
    RestorePrimary { bumped: bool, away: bool },
    RestoreStandby,
    Compact,
    CutWay { side: Side, silent: bool },
    FillStandby,
}

impl Fault {
    /// Each kind, in a random variant and order.
    fn deck(random: &mut Random) -> Vec<Fault> {
        let side = if random.one_in(2) { Side::Primary } else { Side::Standby };
        let mut others = vec![
            Fault::KillDaemon,
            Fault::KillPrimary,
            Fault::FreezePrimary,
            Fault::Compact,
            Fault::RestoreStandby,
            Fault::CutWay { side, silent: random.one_in(2) },
            Fault::FillStandby,
            Fault::RestorePrimary { bumped: random.one_in(2), away: random.one_in(2) },
        ];
        let mut deck = Vec::new();
        while !others.is_empty() {
            deck.push(others.swap_remove(random.range(0..others.len())));
        }
        deck
    }
}

/// Writes, in and out of scope, until it is dropped; what fails is not written.
struct Load {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Load {
    fn start(client: Client, seed: u64) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let wanted = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let (mut random, mut serial) = (Random::new(seed), seed << 20);
            let mut pace = tokio::time::interval(Duration::from_millis(10));
            while !wanted.load(Ordering::Relaxed) {
                pace.tick().await;
                serial += 1;
                let name = random.range(0..KEYS);
                let key = Bytes::from(format!("/registry/configmaps/apps/c-{name:04}"));
                let lease = Bytes::from_static(b"/registry/leases/kube-node-lease/node-1");
                let value = Bytes::from(format!("{serial}"));
                let op = match random.range(0..10) {
                    0 => Op::Delete { key },
                    1..4 => Op::Put { key: lease, value, lease: 0 },
                    _ => Op::Put { key, value, lease: 0 },
                };
                let _ = client.txn(Txn { success: vec![op], ..Txn::default() }).await;
            }
        });
        Load { stop, task }
    }

    async fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.context("the load panicked")
    }
}

struct Rounds {
    link: Link,
    ways: Sides<Toxiproxy>,
    folder: TempDir,
    daemon: Daemon,
    random: Random,
    answers: usize,
}

#[tokio::test]
async fn after_each_fault_it_is_exact_or_says_why_not() -> Result<()> {
    let seed = match std::env::var("ETCD_SYNC_SEED") {
        Ok(seed) => seed.parse().context("ETCD_SYNC_SEED is not a number")?,
        Err(_) => u64::from(std::process::id()) << 32 | u64::from(std::time::UNIX_EPOCH.elapsed()?.subsec_nanos()),
    };
    println!("ETCD_SYNC_SEED={seed}");
    let standby = ClusterOptions { quota_bytes: Some(QUOTA_BYTES), ..ClusterOptions::default() };
    let link = Link::start(ClusterOptions::default(), standby).await?;
    let ways = Sides {
        primary: Toxiproxy::before(&link.primary, NetworkProfile::NEAR).await?,
        standby: Toxiproxy::before(&link.standby, NetworkProfile::NEAR).await?,
    };
    for name in 0..KEYS {
        link.primary.put(format!("/registry/configmaps/apps/c-{name:04}"), "first").await?;
    }
    let daemon = daemon(&link, &ways)?;
    link.await_equal(PATIENCE).await?;
    let (folder, random) = (tempfile::tempdir()?, Random::new(seed));
    let mut rounds_left = Rounds { link, ways, folder, daemon, random, answers: 0 };
    // The first is the worst one, so that no run goes without it.
    let mut deck = vec![Fault::RestorePrimary { bumped: false, away: false }];
    for round in 0..rounds(5, 30) {
        if deck.is_empty() {
            deck = Fault::deck(&mut rounds_left.random);
        }
        let Some(fault) = deck.pop() else { break };
        let name = format!("round {round}: {fault:?}, ETCD_SYNC_SEED={seed}");
        println!("{name}");
        rounds_left.round(round, fault).await.context(name)?;
    }
    ensure!(rounds_left.answers > 0, "nothing was asked");
    Ok(())
}

/// Reaches both clusters over ways that can be cut.
fn daemon(link: &Link, ways: &Sides<Toxiproxy>) -> Result<Daemon> {
    let ways = [(Side::Primary, &ways.primary), (Side::Standby, &ways.standby)];
    Daemon::start(&link.flags_over(&ways, &[]), &[])
}

impl Rounds {
    async fn round(&mut self, round: usize, fault: Fault) -> Result<()> {
        let snapshot = self.folder.path().join(format!("snapshot-{round}.db"));
        match fault {
            Fault::RestoreStandby => self.link.standby.snapshot_save(&snapshot).await?,
            _ => self.link.primary.snapshot_save(&snapshot).await?,
        }
        let load = Load::start(self.link.primary.client(), self.random.range(1..1_000_000) as u64);
        let from = self.link.primary.revision().await?;
        // After the backup something is written and mirrored that the backup lacks.
        self.link.await_passed(from + 50, PATIENCE).await?;
        let newest = format!("/registry/secrets/apps/only-{round}");
        self.link.await_passed(self.link.primary.put(&newest, "only here").await?, PATIENCE).await?;
        load.stop().await?;
        self.link.await_equal(PATIENCE).await?;
        let before = self.mirrored().await?;

        let load = self.strike(fault, &snapshot).await?;
        let asked = self.await_outcome(fault, load).await?;
        match fault {
            Fault::RestorePrimary { .. } | Fault::RestoreStandby => {
                let topic = if fault == Fault::RestoreStandby { Topic::StandbyRestored } else { Topic::OtherHistory };
                ensure!(asked == Some(topic), "asked {asked:?}\n{}", self.daemon.tail());
            }
            _ => ensure!(asked.is_none(), "asked {asked:?}\n{}", self.daemon.tail()),
        }
        if let Fault::RestorePrimary { .. } = fault {
            ensure!(self.mirrored().await? == before, "something was taken away without a word");
        }
        if asked.is_some() {
            self.answer(round).await?;
        }
        self.link.await_equal(PATIENCE).await.with_context(|| self.daemon.tail())
    }

    /// Does it. Gives the load that runs on.
    async fn strike(&mut self, fault: Fault, snapshot: &std::path::Path) -> Result<Load> {
        let seed = self.random.range(1..1_000_000) as u64;
        match fault {
            Fault::KillDaemon => {
                self.daemon.kill()?;
                self.link.expire_leader().await?;
                self.daemon = daemon(&self.link, &self.ways)?;
            }
            Fault::KillPrimary => {
                self.link.primary.kill_all()?;
                self.link.primary.restart_all().await?;
            }
            Fault::FreezePrimary => {
                self.link.primary.pause_member(0)?;
                tokio::time::sleep(Duration::from_millis(self.random.range(200..4_000) as u64)).await;
                self.link.primary.resume_member(0)?;
            }
            Fault::CutWay { side, silent } => {
                let way = self.ways.get(side);
                if silent {
                    way.silence().await?
                } else {
                    way.close().await?
                }
                tokio::time::sleep(Duration::from_millis(self.random.range(200..12_000) as u64)).await;
                way.open().await?;
            }
            Fault::FillStandby => self.fill_standby().await?,
            Fault::Compact => self.link.primary.compact(self.link.primary.revision().await?).await?,
            Fault::RestorePrimary { bumped, away } => {
                if away {
                    self.daemon.kill()?;
                }
                let flags: &[&str] = if bumped { &["--bump-revision=1000000000", "--mark-compacted"] } else { &[] };
                self.link.primary.restore_in_place_with(snapshot, flags).await?;
                if away {
                    self.link.expire_leader().await?;
                    self.daemon = daemon(&self.link, &self.ways)?;
                }
            }
            Fault::RestoreStandby => {
                self.daemon.kill()?;
                self.link.standby.restore_in_place(snapshot).await?;
                self.link.expire_leader().await?;
                self.daemon = daemon(&self.link, &self.ways)?;
            }
        }
        Ok(Load::start(self.link.primary.client(), seed))
    }

    /// Somebody else fills the standby's etcd. Replication says so, with load running, until there is room again.
    async fn fill_standby(&self) -> Result<()> {
        let load = Load::start(self.link.primary.client(), 1);
        let (standby, junk) = (&self.link.standby, "j".repeat(1 << 20));
        let mut filled = 0;
        while standby.put(format!("/junk/{filled}"), &junk).await.is_ok() {
            filled += 1;
        }
        ensure!(standby.etcdctl(&["alarm", "list"]).await?.contains("NOSPACE"), "{filled} MiB, and no alarm");
        let true_reason = |text: &str| text.contains("NOSPACE") || text.contains("quota");
        await_until("the link says that the standby is full", PATIENCE, || async {
            let (status, text) = self.daemon.http("/readyz").await?;
            Ok((status != 503 || !true_reason(&text)).then(|| format!("{status} {text}")))
        })
        .await?;
        load.stop().await?;
        standby.make_space("/junk/").await
    }

    /// With load running: the topic of the question that stands, or `None` when the link goes on.
    async fn await_outcome(&self, fault: Fault, load: Load) -> Result<Option<Topic>> {
        let target = self.link.primary.revision().await? + 50;
        let is_restore = matches!(fault, Fault::RestorePrimary { .. } | Fault::RestoreStandby);
        await_until("exact, or paused with a question", PATIENCE, || async {
            let is_asked = self.question().await?.is_some();
            let checkpoint = self.link.checkpoint().await?.map_or(0, |checkpoint| checkpoint.revision);
            let goes_on = !is_restore && checkpoint >= target;
            Ok((!is_asked && !goes_on).then(|| format!("at {checkpoint} of {target}")))
        })
        .await
        .with_context(|| self.daemon.tail())?;
        load.stop().await?;
        Ok(self.question().await?.map(|question| question.topic))
    }

    async fn answer(&mut self, round: usize) -> Result<()> {
        self.answers += 1;
        let file = self.folder.path().join(format!("saved-{round}.jsonl"));
        let mut command = vec!["accept".to_owned(), "--yes".to_owned(), format!("--backup={}", file.display())];
        command.extend(self.link.flags(&[]));
        let output = run_command(&command).await?;
        ensure!(output.code == Some(0), "{output:?}");
        Ok(())
    }

    async fn question(&self) -> Result<Option<Question>> {
        let found = self.link.standby.get(&self.link.keys.question).await?;
        Ok(found.map(|kv| Question::decode(&kv.value)).transpose()?)
    }

    async fn mirrored(&self) -> Result<BTreeMap<Bytes, KeyValue>> {
        let range: KeyRange = registry();
        dump(&self.link.standby.client(), &range, 0).await
    }
}
