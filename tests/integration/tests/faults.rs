//! Full disks, lost majorities and a primary that is away: the daemon says what is wrong, waits, and goes on by itself.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use etcd_sync_integration::compare::{await_true, await_until};
use etcd_sync_integration::daemon::Daemon;
use etcd_sync_integration::data::Item;
use etcd_sync_integration::etcd::ClusterOptions;
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::link::{Link, await_ready, config_keys};
use etcd_sync_integration::load::{Writer, WriterOptions, load};
use etcd_sync_integration::tools::EtcdVersion;

/// Longest end of a process that waits for nobody; one that waits for a member that hangs does not end.
const HANGS: Duration = Duration::from_secs(20);

const KIB: usize = 1024;

/// Streams into etcd's own limit.
const NO_RESERVE: &[&str] = &["--standby-quota-reserve=0"];

/// Keys below `prefix` that fill `mib` MiB.
fn junk(prefix: &str, mib: usize) -> Vec<Item> {
    (0..mib * 16).map(|i| (format!("{prefix}{i:04}").into_bytes(), vec![b'x'; 64 * KIB])).collect()
}

/// A standby whose quota is nearly used up by something else, and a primary with more than there is room for.
async fn crowded() -> Result<Link> {
    let standby = ClusterOptions { quota_bytes: Some(16 << 20), ..Default::default() };
    let link = Link::start(ClusterOptions::default(), standby).await?;
    load(&link.standby.client(), junk("/junk/", 9), 1).await?;
    link.primary.put(&config_keys(1)[0], "first").await?;
    Ok(link)
}

async fn await_nospace(link: &Link, daemon: &Daemon) -> Result<()> {
    let text = "the standby etcd is out of space (alarm NOSPACE)";
    // etcd looks at its size a little late: the write that is refused comes after the burst that was too much.
    let options = WriterOptions { per_second: 20.0, delete_percent: 0, ..WriterOptions::new(config_keys(1)) };
    let _writer = Writer::start(link.primary.client(), options);
    await_ready(daemon, 503, text, PATIENCE).await?;
    let line = daemon.wait_line(text, PATIENCE).await?;
    for part in ["ERROR", "compact it", "etcdctl defrag", "etcdctl alarm disarm", "--quota-backend-bytes"] {
        ensure!(line.contains(part), "{part} is not in {line}");
    }
    assert_eq!(daemon.metric("etcd_sync_paused").await, Some(1.0));
    assert!(daemon.lines().iter().all(|line| !line.contains("no quorum")), "{}", daemon.tail());
    Ok(())
}

#[tokio::test]
async fn a_full_standby_is_waited_for_while_streaming() -> Result<()> {
    let link = crowded().await?;
    let daemon = link.daemon(NO_RESERVE)?;
    link.await_equal(PATIENCE).await?;
    load(&link.primary.client(), junk("/registry/configmaps/team-a/big-", 9), 1).await?;
    await_nospace(&link, &daemon).await?;
    assert!(link.standby.etcdctl(&["alarm", "list"]).await?.contains("NOSPACE"));
    let (status, _) = daemon.http("/healthz").await?;
    assert_eq!((status, daemon.exited()?), (200, None));
    link.primary.put(&config_keys(2)[1], "has to wait").await?;
    assert!(!link.difference().await?.is_empty(), "there was room after all");

    link.standby.make_space("/junk/").await?;
    link.await_equal(PATIENCE).await?;
    await_ready(&daemon, 200, "caught up", PATIENCE).await?;
    assert_eq!(daemon.metric("etcd_sync_paused").await, Some(0.0));
    Ok(())
}

/// The primary grows after the first sync: replication stops before the standby's etcd refuses every write, also those of its API
/// server, and goes on by itself when there is room.
#[tokio::test]
async fn a_standby_keeps_room_for_itself() -> Result<()> {
    let standby = ClusterOptions { quota_bytes: Some(32 << 20), ..Default::default() };
    let link = Link::start(ClusterOptions::default(), standby).await?;
    load(&link.standby.client(), junk("/junk/", 24), 1).await?;
    link.primary.put(&config_keys(1)[0], "first").await?;
    let daemon = link.daemon(&[])?;
    link.await_equal(PATIENCE).await?;
    let (per_second, value_bytes) = (8.0, 64 * KIB..64 * KIB + 1);
    let options = WriterOptions { per_second, value_bytes, delete_percent: 0, ..WriterOptions::new(config_keys(100)) };
    let writer = Writer::start(link.primary.client(), options);
    let text = "less than 10% of its quota left (--standby-quota-reserve)";
    await_ready(&daemon, 503, text, PATIENCE).await?;
    let line = daemon.wait_line(text, PATIENCE).await?;
    for part in ["ERROR", "reason=\"quota_reserve\"", "etcdctl defrag", "--quota-backend-bytes"] {
        ensure!(line.contains(part), "{part} is not in {line}");
    }
    assert_eq!(daemon.metric("etcd_sync_paused").await, Some(1.0));
    let status = link.run("status", &["--output=json"]).await?;
    assert!(status.stdout.contains(text), "{status:?}");
    // Nor does one that starts now write anything. The standby's API server goes on.
    assert!(daemon.terminate(PATIENCE).await?.success());
    let before = link.synchronized_state().await?;
    let daemon = link.daemon(&[])?;
    await_ready(&daemon, 503, text, PATIENCE).await?;
    assert_eq!(link.synchronized_state().await?, before);
    link.standby.put("/registry/events/own", "written").await?;
    assert_eq!(link.standby.etcdctl(&["alarm", "list"]).await?.trim(), "");
    assert_eq!(writer.stop().await?.errors, 0);
    link.primary.put(&config_keys(101)[100], "has to wait").await?;
    assert!(!link.difference().await?.is_empty(), "there was room after all");

    link.standby.make_space("/junk/").await?;
    link.await_equal(PATIENCE).await.with_context(|| daemon.tail())?;
    await_ready(&daemon, 200, "caught up", PATIENCE).await?;
    assert_eq!(daemon.metric("etcd_sync_paused").await, Some(0.0));
    let told = daemon.lines().iter().filter(|line| line.contains(text)).count();
    assert_eq!(told, 1, "told once: {}", daemon.tail());
    Ok(())
}

#[tokio::test]
async fn a_standby_that_does_not_tell_its_quota_is_not_judged() -> Result<()> {
    let standby = ClusterOptions { version: EtcdVersion::V3_5, ..Default::default() };
    let link = Link::start(ClusterOptions::default(), standby).await?;
    link.primary.put(&config_keys(1)[0], "first").await?;
    let daemon = link.daemon(&[])?;
    daemon.wait_line("does not tell its quota", PATIENCE).await?;
    link.await_equal(PATIENCE).await
}

/// In the first sync, and with a daemon that starts while the alarm is on: it cannot even become leader then.
#[tokio::test]
async fn a_full_standby_is_waited_for_in_the_first_sync_and_at_the_start() -> Result<()> {
    let link = crowded().await?;
    load(&link.primary.client(), junk("/registry/configmaps/team-a/big-", 9), 1).await?;
    let daemon = link.daemon(NO_RESERVE)?;
    await_nospace(&link, &daemon).await?;
    assert!(daemon.terminate(PATIENCE).await?.success());
    let daemon = link.daemon(NO_RESERVE)?;
    await_nospace(&link, &daemon).await?;
    link.standby.make_space("/junk/").await?;
    link.await_equal(PATIENCE).await?;
    assert_eq!(daemon.metric("etcd_sync_paused").await, Some(0.0));
    Ok(())
}

#[tokio::test]
async fn a_standby_without_a_majority_is_waited_for() -> Result<()> {
    let link = Link::start(ClusterOptions::default(), ClusterOptions::three()).await?;
    let keys = config_keys(50);
    for key in &keys {
        link.primary.put(key, "first").await?;
    }
    let daemon = link.daemon(&[])?;
    link.await_equal(PATIENCE).await?;
    let mark = daemon.mark();
    link.standby.kill_member(0)?;
    link.standby.kill_member(1)?;
    for key in &keys {
        link.primary.put(key, "second").await?;
    }
    let line = daemon.wait_line_from(mark, "has no quorum", PATIENCE).await?;
    ensure!(line.contains("standby") && line.contains("bring back a majority of its members"), "{line}");
    let (status, _) = daemon.http("/healthz").await?;
    assert_eq!((status, daemon.exited()?), (200, None));
    await_until("/readyz tells of trouble", PATIENCE, || async {
        let (status, body) = daemon.http("/readyz").await?;
        Ok((status != 503).then_some(body))
    })
    .await?;
    link.standby.restart_member(1).await?;
    link.await_equal(PATIENCE).await?;
    await_ready(&daemon, 200, "caught up", PATIENCE).await?;
    assert!(daemon.lines().iter().all(|line| !line.contains("NOSPACE")), "{}", daemon.tail());
    Ok(())
}

/// A member that answers nothing blocks neither the start nor the end, and no replica calls itself a candidate before it is one.
#[tokio::test]
async fn a_standby_that_hangs_is_waited_for_and_left_at_once() -> Result<()> {
    let link = Link::start(ClusterOptions::default(), ClusterOptions::three()).await?;
    link.primary.put(&config_keys(1)[0], "first").await?;
    link.standby.pause_member(2)?;
    // Was it the leader, the others need a moment to elect another.
    await_true("the others agree", PATIENCE, || async {
        Ok(link.standby.healthy(0).await && link.standby.healthy(1).await)
    })
    .await?;
    // A machine that stalls delays one start, a request that waits for the member each.
    let (mut starts, mut daemon) = (Vec::new(), link.daemon(&[])?);
    loop {
        let started = Instant::now();
        daemon.wait_line("Start Sync update", PATIENCE).await?;
        starts.push(started.elapsed());
        if started.elapsed() < Duration::from_secs(5) {
            break;
        }
        ensure!(starts.len() < 3, "one of three members delayed the start: {starts:?}");
        daemon.terminate(PATIENCE).await?;
        daemon = link.daemon(&[])?;
    }

    for member in 0..2 {
        link.standby.pause_member(member)?;
    }
    let started = Instant::now();
    assert_eq!(daemon.terminate(PATIENCE).await?.code(), Some(0), "{}", daemon.tail());
    let elapsed = started.elapsed();
    ensure!(elapsed < HANGS, "the leader took {elapsed:?} to end");

    let daemon = link.daemon(&[])?;
    await_ready(&daemon, 503, "connecting", PATIENCE).await?;
    // The first request has given up by then, and said why.
    await_until("/readyz says what is wrong", PATIENCE, || async {
        let (status, body) = daemon.http("/readyz").await?;
        ensure!(status == 503, "{status}: {body}");
        Ok((!body.contains("the standby etcd")).then_some(body))
    })
    .await?;
    let started = Instant::now();
    assert_eq!(daemon.terminate(PATIENCE).await?.code(), Some(0), "{}", daemon.tail());
    let elapsed = started.elapsed();
    ensure!(elapsed < HANGS, "{elapsed:?} to end while it was no candidate yet");
    Ok(())
}

/// A link that has caught up that calls itself not ready early.
async fn impatient(keys: &[Bytes]) -> Result<(Link, Daemon)> {
    let link = Link::start(ClusterOptions::default(), ClusterOptions::default()).await?;
    link.primary.put(&keys[0], "first").await?;
    let daemon = link.daemon(&["--ready-lag=3s"])?;
    link.await_equal(PATIENCE).await?;
    await_ready(&daemon, 200, "caught up", PATIENCE).await?;
    await_small_lag(&daemon).await?;
    Ok((link, daemon))
}

async fn await_small_lag(daemon: &Daemon) -> Result<()> {
    await_until("the lag is small", PATIENCE, || async {
        let lag = daemon.metric("etcd_sync_lag_seconds").await;
        Ok((!lag.is_some_and(|lag| lag < 3.0)).then(|| format!("{lag:?}")))
    })
    .await
}

/// The lag tells how long the primary has been away, and rises all the time.
async fn await_lag(daemon: &Daemon, seconds: f64) -> Result<()> {
    let seen = std::sync::Mutex::new(0.0);
    await_until("the lag grows", PATIENCE, || async {
        let lag = daemon.metric("etcd_sync_lag_seconds").await.unwrap_or(f64::NAN);
        // NaN would be "unknown": whoever watches an outage wants a number.
        ensure!(!lag.is_nan(), "the lag is not told");
        let mut seen = seen.lock().expect("no panic while it is held");
        assert!(lag >= *seen, "the lag fell from {seen} to {lag} while nothing was received");
        *seen = lag;
        Ok((lag < seconds).then(|| format!("{lag} s")))
    })
    .await
}

#[tokio::test]
async fn a_primary_that_hangs_is_waited_for() -> Result<()> {
    let keys = config_keys(20);
    let (link, daemon) = impatient(&keys).await?;
    link.primary.pause_member(0)?;
    await_ready(&daemon, 503, "s behind the primary", PATIENCE).await?;
    await_lag(&daemon, 8.0).await?;
    assert_eq!(daemon.exited()?, None);
    link.primary.resume_member(0)?;
    for key in &keys {
        link.primary.put(key, "second").await?;
    }
    link.await_equal(PATIENCE).await?;
    await_ready(&daemon, 200, "caught up", PATIENCE).await?;
    await_small_lag(&daemon).await?;
    Ok(())
}

#[tokio::test]
async fn a_primary_that_was_killed_and_comes_back_is_followed_on() -> Result<()> {
    let keys = config_keys(20);
    let (link, daemon) = impatient(&keys).await?;
    let options = WriterOptions { per_second: 200.0, ..WriterOptions::new(keys.clone()) };
    let writer = Writer::start(link.primary.client(), options);
    await_true("something is written", PATIENCE, || async { Ok(writer.transactions() > 100) }).await?;
    link.primary.kill_member(0)?;
    await_ready(&daemon, 503, "s behind the primary", PATIENCE).await?;
    let line = daemon.wait_line("cannot connect to the primary etcd", PATIENCE).await?;
    ensure!(line.contains("WARN") && line.contains(&link.primary.endpoint(0)), "{line}");
    link.primary.restart_member(0).await?;
    let before = writer.transactions();
    await_true("writing goes on", PATIENCE, || async { Ok(writer.transactions() > before + 100) }).await?;
    writer.stop().await?;
    link.await_equal(PATIENCE).await?;
    await_ready(&daemon, 200, "caught up", PATIENCE).await?;
    // The history went on, so no copy was needed.
    let copies = daemon.lines().iter().filter(|line| line.contains("sync begins") || line.contains("resync")).count();
    assert_eq!(copies, 1, "{}", daemon.tail());
    Ok(())
}

/// A copy is expensive: a primary that is away for a moment does not make it start again.
#[tokio::test]
async fn a_primary_that_comes_back_in_the_middle_of_a_copy_is_waited_for() -> Result<()> {
    let link = Link::start(ClusterOptions::default(), ClusterOptions::default()).await?;
    let keys = (0..20_000).map(|i| (format!("/registry/configmaps/team-a/c-{i:05}").into_bytes(), vec![b'x'; 1_000]));
    load(&link.primary.client(), keys.collect(), 4).await?;
    let daemon = link.daemon(&["--transactions-in-flight=1"])?;
    // It is stopped until the primary is gone: most pages are still to be read.
    let copied = async || Ok(link.standby.get(&link.keys.copied).await?.is_some());
    daemon.run_in_slices("something is copied", copied).await?;
    link.primary.kill_member(0)?;
    daemon.resume()?;
    daemon.wait_line("a read failed and is tried again", PATIENCE).await?;
    link.primary.restart_member(0).await?;
    link.await_equal(PATIENCE).await?;
    let again = daemon.lines().iter().any(|line| line.contains("beginning again"));
    assert!(!again, "the copy started again: {}", daemon.tail());
    Ok(())
}
