//! Only one synchronizer writes at a time, none writes to a promoted standby, and a leader that goes is replaced.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use etcd_sync_core::etcd::kv::{Event, Revision};
use etcd_sync_core::link::state::{Checkpoint, ROLE_PRIMARY};
use etcd_sync_core::scope::STATE_ROOT;
use etcd_sync_integration::compare::await_until;
use etcd_sync_integration::daemon::Daemon;
use etcd_sync_integration::etcd::ClusterOptions;
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::link::{Link, await_ready, config_keys};
use etcd_sync_integration::load::{Writer, WriterOptions};
use etcd_sync_store::Side;

const LEADS: &str = "Acquired leader lease";
/// Where the end of a lease is waited for. Twice the shortest that there is: a machine may stall.
const FLAGS: &[&str] = &["--leader-ttl=10s"];
/// The longest that there is, so that waiting for its end cannot pass for a hand-over.
const LONG: &[&str] = &["--leader-ttl=60s"];
/// Longest hand-over: less than that.
const HANDED_OVER: Duration = Duration::from_secs(45);

/// A link in use: some data, a writer on the primary, a leader that has caught up, and a candidate that waits.
struct Fixture {
    link: Link,
    writer: Writer,
    leader: Daemon,
    candidate: Daemon,
}

impl Fixture {
    async fn start() -> Result<Fixture> {
        let link = Link::start(ClusterOptions::default(), ClusterOptions::default()).await?;
        let keys = config_keys(40);
        for key in &keys {
            link.primary.put(key, "first").await?;
        }
        let writer = Writer::start(
            link.primary.client(),
            WriterOptions { per_second: 200.0, changes_per_txn: 3, ..WriterOptions::new(keys) },
        );
        let leader = link.daemon(FLAGS)?;
        leader.wait_line(LEADS, PATIENCE).await?;
        let candidate = link.daemon(FLAGS)?;
        candidate.wait_line("waiting behind another leader", PATIENCE).await?;
        leader.wait_line("Start Sync update", PATIENCE).await?;
        Ok(Fixture { link, writer, leader, candidate })
    }

    /// Waits until a record of this epoch stands.
    async fn await_epoch(&self, epoch: Revision) -> Result<()> {
        await_until("the new leader's epoch is in the checkpoint", PATIENCE, || async {
            let found = self.link.checkpoint().await?.context("there is a checkpoint")?.epoch;
            Ok((found != epoch).then(|| format!("epoch {found}, not {epoch}")))
        })
        .await
    }

    /// Stops writing, waits until both sides are equal, and reads every record there ever was.
    async fn end(self) -> Result<Vec<(Revision, Checkpoint)>> {
        ensure!(self.writer.stop().await?.errors == 0, "the writer had trouble");
        self.link.await_equal(PATIENCE).await?;
        let history = self.link.standby_history(1).await?;
        let records = self.link.checkpoints(&history)?;
        assert_one_writer(&records);
        Ok(records)
    }
}

/// Epochs never go back, and no record is skipped, repeated or forked.
fn assert_one_writer(records: &[(Revision, Checkpoint)]) {
    for [(_, before), (revision, after)] in records.array_windows() {
        assert!(after.epoch >= before.epoch, "at {revision}: epoch {} after {}", after.epoch, before.epoch);
        assert_eq!(after.writes, before.writes + 1, "at {revision}");
        assert!(after.revision >= before.revision, "at {revision}: {after:?} after {before:?}");
    }
}

fn epochs(records: &[(Revision, Checkpoint)]) -> Vec<Revision> {
    let mut epochs: Vec<Revision> = records.iter().map(|(_, record)| record.epoch).collect();
    epochs.dedup();
    epochs
}

/// The epoch a daemon's log line of its election names.
fn epoch_of(line: &str) -> Result<Revision> {
    let text = line.split_once("epoch=").context("the line names an epoch")?.1;
    Ok(text.split_whitespace().next().unwrap_or_default().parse()?)
}

#[tokio::test]
async fn of_two_daemons_one_writes_and_the_other_takes_over_when_it_is_killed() -> Result<()> {
    let fixture = Fixture::start().await?;
    let first = epoch_of(&fixture.leader.wait_line(LEADS, PATIENCE).await?)?;
    await_until("the link works for a while", PATIENCE, || async {
        let writes = fixture.link.checkpoint().await?.context("there is a checkpoint")?.writes;
        Ok((writes < 30).then(|| format!("{writes} records")))
    })
    .await?;
    assert!(!fixture.candidate.lines().iter().any(|line| line.contains(LEADS)), "two leaders");
    let candidates = fixture.link.candidates().await?;
    assert_eq!(candidates.len(), 2);
    assert_eq!(candidates[0].create_revision, first);

    let killed = Instant::now();
    fixture.leader.kill()?;
    let second = epoch_of(&fixture.candidate.wait_line(LEADS, PATIENCE).await?)?;
    println!("took over {:?} after SIGKILL", killed.elapsed());
    assert!(second > first);
    fixture.await_epoch(second).await?;

    let old = fixture.link.daemon(FLAGS)?;
    old.wait_line("waiting behind another leader", PATIENCE).await?;
    let records = fixture.end().await?;
    assert_eq!(epochs(&records), [first, second]);
    assert!(records.iter().filter(|(_, record)| record.epoch == first).count() > 20, "the first leader did little");
    Ok(())
}

#[tokio::test]
async fn a_paused_leader_commits_nothing_when_it_resumes() -> Result<()> {
    let fixture = Fixture::start().await?;
    let first = epoch_of(&fixture.leader.wait_line(LEADS, PATIENCE).await?)?;
    fixture.leader.pause()?;
    let second = epoch_of(&fixture.candidate.wait_line(LEADS, PATIENCE).await?)?;
    fixture.await_epoch(second).await?;
    let mark = fixture.leader.mark();
    fixture.leader.resume()?;
    fixture.leader.wait_line_from(mark, "no longer the leader", PATIENCE).await?;
    fixture.leader.wait_line_from(mark, "waiting behind another leader", PATIENCE).await?;
    await_ready(&fixture.leader, 200, "standing by", PATIENCE).await?;
    assert_eq!(fixture.leader.metric("etcd_sync_role{role=\"candidate\"}").await, Some(1.0));
    // It is a candidate in earnest: it leads again when the other goes.
    let mark = fixture.leader.mark();
    assert!(fixture.candidate.terminate(PATIENCE).await?.success());
    let third = epoch_of(&fixture.leader.wait_line_from(mark, LEADS, PATIENCE).await?)?;
    fixture.await_epoch(third).await?;
    assert_eq!(epochs(&fixture.end().await?), [first, second, third]);
    Ok(())
}

/// The lease lives on, so only the fence can tell this leader that its key, and with it its epoch, is gone.
#[tokio::test]
async fn a_leader_whose_key_is_deleted_commits_nothing_more_in_its_epoch() -> Result<()> {
    let link = Link::start(ClusterOptions::default(), ClusterOptions::default()).await?;
    let keys = config_keys(40);
    link.primary.put(&keys[0], "first").await?;
    let options = WriterOptions { per_second: 200.0, ..WriterOptions::new(keys) };
    let writer = Writer::start(link.primary.client(), options);
    let daemon = link.daemon(LONG)?;
    let first = epoch_of(&daemon.wait_line(LEADS, PATIENCE).await?)?;
    daemon.wait_line("Start Sync update", PATIENCE).await?;
    let mark = daemon.mark();
    let deleted = link.standby.delete(&link.candidates().await?[0].key).await?;
    daemon.wait_line_from(mark, "no longer the leader", PATIENCE).await?;
    let second = epoch_of(&daemon.wait_line_from(mark, LEADS, PATIENCE).await?)?;
    writer.stop().await?;
    link.await_equal(PATIENCE).await?;
    let records = link.checkpoints(&link.standby_history(1).await?)?;
    assert_one_writer(&records);
    assert_eq!(epochs(&records), [first, second]);
    let late = records.iter().filter(|(revision, record)| *revision > deleted && record.epoch == first);
    assert_eq!(late.count(), 0, "records of an epoch that was over");
    Ok(())
}

#[tokio::test]
async fn a_leader_asked_to_stop_hands_over_at_once() -> Result<()> {
    let link = Link::start(ClusterOptions::default(), ClusterOptions::default()).await?;
    let keys = config_keys(40);
    link.primary.put(&keys[0], "first").await?;
    let options = WriterOptions { per_second: 200.0, ..WriterOptions::new(keys) };
    let writer = Writer::start(link.primary.client(), options);
    let leader = link.daemon(LONG)?;
    leader.wait_line("Start Sync update", PATIENCE).await?;
    let candidate = link.daemon(LONG)?;
    candidate.wait_line("waiting behind another leader", PATIENCE).await?;
    let leader_key = link.candidates().await?[0].key.clone();

    let asked = Instant::now();
    let status = leader.terminate(PATIENCE).await?;
    let ended = asked.elapsed();
    assert!(link.standby.get(&leader_key).await?.is_none(), "the leader's key is still there");
    candidate.wait_line(LEADS, HANDED_OVER.saturating_sub(asked.elapsed())).await?;
    println!("ended after {ended:?}, the other led after {:?}", asked.elapsed());
    assert_eq!(status.code(), Some(0), "{}", leader.tail());
    assert!(leader.lines().last().is_some_and(|line| line.contains("stopped")), "{}", leader.tail());

    writer.stop().await?;
    link.await_equal(PATIENCE).await?;
    let records = link.checkpoints(&link.standby_history(1).await?)?;
    assert_one_writer(&records);
    assert_eq!(epochs(&records).len(), 2);
    Ok(())
}

/// Rolling restarts end candidates too: the next in line must not wait for the lease of one that is gone.
#[tokio::test]
async fn a_candidate_asked_to_stop_leaves_nothing_in_the_way() -> Result<()> {
    let link = Link::start(ClusterOptions::default(), ClusterOptions::default()).await?;
    link.primary.put(&config_keys(1)[0], "first").await?;
    let leader = link.daemon(LONG)?;
    leader.wait_line(LEADS, PATIENCE).await?;
    let candidates = [link.daemon(LONG)?, link.daemon(LONG)?];
    for candidate in &candidates {
        candidate.wait_line("waiting behind another leader", PATIENCE).await?;
    }
    let [gone, next] = candidates;
    assert_eq!(gone.terminate(PATIENCE).await?.code(), Some(0));
    assert_eq!(link.candidates().await?.len(), 2);
    let asked = Instant::now();
    leader.terminate(PATIENCE).await?;
    next.wait_line(LEADS, HANDED_OVER.saturating_sub(asked.elapsed())).await?;
    Ok(())
}

/// Keys of a history that are neither the election's nor the role.
fn written(link: &Link, history: &[Event]) -> Vec<String> {
    let election = |event: &&Event| !event.key().starts_with(&link.keys.leader_prefix);
    history.iter().filter(election).map(|event| etcd_sync_core::etcd::kv::printable(event.key())).collect()
}

#[tokio::test]
async fn after_a_promotion_nothing_is_written_any_more() -> Result<()> {
    let fixture = Fixture::start().await?;
    let leader_mark = fixture.leader.mark();
    let promoted = fixture.link.standby.put(&fixture.link.keys.role, ROLE_PRIMARY).await?;
    let line = fixture.leader.wait_line_from(leader_mark, "it was promoted", PATIENCE).await?;
    assert!(line.contains("ERROR") && line.contains("reason=\"promoted\""), "{line}");
    await_ready(&fixture.leader, 503, "it was promoted", PATIENCE).await?;
    assert_eq!(fixture.leader.metric("etcd_sync_paused").await, Some(1.0));
    // It tried once more, from a fresh look at the role, and was refused.
    fixture.leader.wait_line_from(leader_mark, "serves users now", PATIENCE).await?;
    let (status, _) = fixture.leader.http("/healthz").await?;
    assert_eq!(status, 200);
    // The candidate becomes leader, and is as harmless.
    fixture.leader.kill()?;
    fixture.candidate.wait_line(LEADS, PATIENCE).await?;
    await_ready(&fixture.candidate, 503, "it was promoted", PATIENCE).await?;
    assert_eq!((fixture.leader.exited()?.is_some(), fixture.candidate.exited()?), (true, None));

    assert!(fixture.writer.stop().await?.transactions > 0);
    let history = fixture.link.standby_history(promoted + 1).await?;
    assert_eq!(written(&fixture.link, &history), Vec::<String>::new());
    assert!(!fixture.link.difference().await?.is_empty(), "the primary wrote nothing that could have been copied");
    Ok(())
}

#[tokio::test]
async fn a_daemon_started_against_a_promoted_standby_writes_nothing() -> Result<()> {
    let link = Link::start(ClusterOptions::default(), ClusterOptions::default()).await?;
    link.primary.put("/registry/configmaps/team-a/new", "1").await?;
    let promoted = link.standby.put(&link.keys.role, ROLE_PRIMARY).await?;
    let daemon = link.daemon(FLAGS)?;
    await_ready(&daemon, 503, "it was promoted and serves users now", PATIENCE).await?;
    daemon.wait_line("paused: the role of this standby is", PATIENCE).await?;
    assert!(daemon.terminate(PATIENCE).await?.success(), "{}", daemon.tail());
    let history = link.standby_history(promoted + 1).await?;
    assert_eq!(written(&link, &history), Vec::<String>::new());
    assert!(!history.is_empty(), "it took part in no election");
    Ok(())
}

#[tokio::test]
async fn nothing_is_read_from_a_standby() -> Result<()> {
    let link = Link::start(ClusterOptions::default(), ClusterOptions::default()).await?;
    link.primary.put("/registry/configmaps/team-a/new", "1").await?;
    link.primary.put("/etcd-sync/other/role", "standby").await?;
    let daemon = link.daemon(FLAGS)?;
    await_ready(&daemon, 503, "the primary is itself a standby (link other)", PATIENCE).await?;
    let line = daemon.wait_line("itself a standby", PATIENCE).await?;
    assert!(line.contains("--primary-endpoints") && line.contains("reason=\"primary_is_standby\""), "{line}");
    let history = link.standby_history(1).await?;
    let others = history.iter().filter(|event| !event.key().starts_with(STATE_ROOT)).count();
    assert_eq!((others, link.checkpoint().await?), (0, None));
    // The way out: it is a standby no longer.
    link.primary.put("/etcd-sync/other/role", ROLE_PRIMARY).await?;
    link.await_equal(PATIENCE).await
}

/// Another name for the link must not make a cluster that serves users a standby again.
#[tokio::test]
async fn a_standby_promoted_on_another_link_is_not_written() -> Result<()> {
    let link = Link::start(ClusterOptions::default(), ClusterOptions::default()).await?;
    link.primary.put("/registry/configmaps/team-a/new", "1").await?;
    for role in ["primary", "demoted:0123456789abcdef"] {
        let promoted = link.standby.put("/etcd-sync/other/role", role).await?;
        let daemon = link.daemon(FLAGS)?;
        await_ready(&daemon, 503, "this cluster is no standby on its link other", PATIENCE).await?;
        let line = daemon.wait_line("no standby on its link", PATIENCE).await?;
        assert!(line.contains("--link") && line.contains("reason=\"promoted_elsewhere\""), "{line}");
        assert!(daemon.terminate(PATIENCE).await?.success(), "{}", daemon.tail());
        let history = link.standby_history(promoted + 1).await?;
        let others = history.iter().filter(|event| !event.key().starts_with(STATE_ROOT)).count();
        assert_eq!((others, link.checkpoint().await?), (0, None));
    }
    // A standby on one link may be one on another, too, with other keys.
    link.standby.put("/etcd-sync/other/role", "standby").await?;
    link.standby.put("/etcd-sync/other/scope", r#"{"format":1,"prefixes":["/other/"]}"#).await?;
    let _daemon = link.daemon(FLAGS)?;
    link.await_equal(PATIENCE).await
}

/// Two clusters that are each other's primary, their synchronizers started at the same time: at most one of them goes on, and nobody
/// writes forever.
#[tokio::test]
async fn a_ring_of_two_that_start_at_once_comes_to_rest() -> Result<()> {
    let link = Link::start(ClusterOptions::default(), ClusterOptions::default()).await?;
    for cluster in [&link.primary, &link.standby] {
        cluster.put("/registry/configmaps/apps/one", "one").await?;
    }
    let back = [link.standby.flags(Side::Primary), link.primary.flags(Side::Standby)].concat();
    let daemons = [link.daemon(&[])?, Daemon::start(&back, &[])?];
    let refused = "the primary is itself a standby";
    await_until("one of them is refused", PATIENCE, || async {
        let (mut bodies, mut any) = (Vec::new(), false);
        for daemon in &daemons {
            let (_, body) = daemon.http("/readyz").await?;
            any |= body.contains(refused);
            bodies.push(body);
        }
        Ok((!any).then(|| bodies.join("; ")))
    })
    .await?;
    // Whoever goes on streams; then nothing but elections and progress is written.
    link.primary.put("/registry/configmaps/apps/one", "two").await?;
    let before = (link.primary.revision().await?, link.standby.revision().await?);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let after = (link.primary.revision().await?, link.standby.revision().await?);
    ensure!(after.0 - before.0 < 60 && after.1 - before.1 < 60, "from {before:?} to {after:?} in 3 s");
    Ok(())
}

/// Nothing ends the session: it has to look.
#[tokio::test]
async fn a_primary_that_becomes_a_standby_is_noticed_while_streaming() -> Result<()> {
    let link = Link::start(ClusterOptions::default(), ClusterOptions::default()).await?;
    link.primary.put("/registry/configmaps/apps/one", "one").await?;
    let daemon = link.daemon(&[])?;
    link.await_equal(PATIENCE).await?;
    link.primary.put("/etcd-sync/other/role", "standby").await?;
    await_ready(&daemon, 503, "the primary is itself a standby (link other)", PATIENCE).await?;
    link.primary.put("/registry/configmaps/apps/one", "two").await?;
    assert!(!link.difference().await?.is_empty(), "it streams on");
    link.primary.delete("/etcd-sync/other/role").await?;
    link.await_equal(PATIENCE).await
}

const SECOND: &str = "--link=second";

/// Two links with the same keys would delete each other's: the second is refused, and goes on when the first is gone.
#[tokio::test]
async fn of_two_links_with_the_same_keys_the_second_is_refused() -> Result<()> {
    let link = Link::start(ClusterOptions::default(), ClusterOptions::default()).await?;
    link.primary.put("/registry/configmaps/apps/one", "one").await?;
    let first = link.daemon(&[])?;
    link.await_equal(PATIENCE).await?;
    let second = link.daemon(&[SECOND, "--prefix=/registry/configmaps/"])?;
    let refused = "below /registry/configmaps/ by its link default already";
    await_ready(&second, 503, refused, PATIENCE).await?;
    let line = second.wait_line(refused, PATIENCE).await?;
    assert!(line.contains("ERROR") && line.contains("etcdctl del --prefix /etcd-sync/default/"), "{line}");
    for key in ["role", "scope", "checkpoint"] {
        assert!(link.standby.get(format!("/etcd-sync/second/{key}")).await?.is_none(), "{key}");
    }
    let plan = link.run("plan", &[SECOND]).await?;
    assert!(plan.stdout.contains("by its link default already"), "{plan:?}");
    // The first one does not care, not even when it starts again.
    assert!(first.terminate(PATIENCE).await?.success());
    let first = link.daemon(&["--exclude-namespace=other"])?;
    link.primary.put("/registry/configmaps/apps/one", "two").await?;
    link.await_equal(PATIENCE).await?;

    assert!(first.terminate(PATIENCE).await?.success());
    link.standby.etcdctl(&["del", "--prefix", "/etcd-sync/default/"]).await?;
    second.wait_line("Start Sync update", PATIENCE).await?;
    Ok(())
}

#[tokio::test]
async fn two_links_with_other_keys_run_side_by_side() -> Result<()> {
    let link = Link::start(ClusterOptions::default(), ClusterOptions::default()).await?;
    link.primary.put("/registry/configmaps/apps/one", "one").await?;
    link.primary.put("/other/configmaps/apps/one", "one").await?;
    let daemons = [link.daemon(&[])?, link.daemon(&[SECOND, "--prefix=/other/"])?];
    for daemon in &daemons {
        daemon.wait_line("Start Sync update", PATIENCE).await?;
    }
    let [first, second] = daemons;
    // One that takes the other's keys in later is refused, not the other.
    assert!(second.terminate(PATIENCE).await?.success());
    let second = link.daemon(&[SECOND, "--prefix=/other/", "--prefix=/registry/"])?;
    await_ready(&second, 503, "below /registry/ by its link default already", PATIENCE).await?;
    assert!(first.terminate(PATIENCE).await?.success());
    let first = link.daemon(&["--deletion-limit-count=7"])?;
    first.wait_line("Start Sync update", PATIENCE).await?;
    Ok(())
}

/// Each looks before the other has written anything.
#[tokio::test]
async fn of_two_links_with_the_same_keys_that_start_at_once_one_goes_on() -> Result<()> {
    let link = Link::start(ClusterOptions::default(), ClusterOptions::default()).await?;
    link.primary.put("/registry/configmaps/apps/one", "one").await?;
    let daemons = [link.daemon(&[])?, link.daemon(&[SECOND])?];
    await_until("one goes on and one is refused", PATIENCE, || async {
        let mut bodies = Vec::new();
        for daemon in &daemons {
            bodies.push(daemon.http("/readyz").await?.1);
        }
        let refused = bodies.iter().filter(|body| body.contains("already: two links")).count();
        let ready = bodies.iter().filter(|body| body.contains("caught up")).count();
        Ok(((refused, ready) != (1, 1)).then(|| bodies.join("; ")))
    })
    .await
}

/// A link of an earlier version: nobody knows which keys it has.
#[tokio::test]
async fn a_new_link_beside_one_without_a_scope_is_refused() -> Result<()> {
    let link = Link::start(ClusterOptions::default(), ClusterOptions::default()).await?;
    link.primary.put("/registry/configmaps/apps/one", "one").await?;
    link.standby.put("/etcd-sync/other/role", "standby").await?;
    let daemon = link.daemon(&[])?;
    await_ready(&daemon, 503, "the standby's link other has no record of its prefixes", PATIENCE).await?;
    assert!(link.standby.get(&link.keys.role).await?.is_none());
    link.standby.put("/etcd-sync/other/scope", r#"{"format":1,"prefixes":["/other/"]}"#).await?;
    link.await_equal(PATIENCE).await
}
