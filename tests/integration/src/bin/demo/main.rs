//! `make demo`: two real etcds on this machine, a first sync, a SIGKILL under load, deletions and a compaction while
//! nobody synchronizes, and the proof that nothing was lost. Ends by itself; exit code 0 only when everything held.

mod facts;
mod screen;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use etcd_sync_integration::compare::{await_true, dump};
use etcd_sync_integration::daemon::{Daemon, Output, run_command};
use etcd_sync_integration::data;
use etcd_sync_integration::etcd::ClusterOptions;
use etcd_sync_integration::link::{Link, registry};
use etcd_sync_integration::load::{Writer, WriterOptions, load};
use etcd_sync_store::Side;

use facts::{Facts, Sorted};
use screen::Screen;

/// Objects on the primary.
const OBJECTS: usize = 6_000;
/// Keys the writer changes all the time.
const BUSY_KEYS: usize = 300;
/// Keys deleted, and keys changed, while nobody synchronizes.
const DELETED: usize = 200;
const CHANGED: usize = 100;
/// Longest wait for anything.
const WAIT: Duration = Duration::from_secs(60);
/// A leader that was killed blocks the next one for so long; the program takes no less.
const LEADER_TTL: &str = "5s";

const LEADING: &str = "Acquired leader lease";
const STREAMING: &str = "Start Sync update";
const RESYNC: &str = "resync by difference begins";

#[tokio::main]
async fn main() -> ExitCode {
    let mut screen = Screen::new();
    match story(&mut screen).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            screen.failed(&error);
            ExitCode::FAILURE
        }
    }
}

async fn story(screen: &mut Screen) -> Result<()> {
    screen.step("Start two etcds: a primary, and a standby that is alive and has keys of its own");
    let link = Link::start(ClusterOptions::default(), ClusterOptions::default()).await?;
    screen.say(format!("primary {}, standby {}", link.primary.endpoint(0), link.standby.endpoint(0)));

    screen.step("Fill the primary as a Kubernetes management cluster would, and put local keys on the standby");
    let items = data::kubernetes(2_024, OBJECTS);
    let sorted = Sorted::new(&items)?;
    let loaded = load(&link.primary.store(Side::Primary)?, items, 1).await?;
    let mut facts = Facts { loaded: loaded.keys, ..Facts::default() };
    facts.put_local(&link, "before the first sync", 4).await?;
    screen.say(format!(
        "primary: {} keys, {:.1} MiB, {} of them in scope; standby: {} local keys",
        loaded.keys,
        loaded.bytes as f64 / f64::from(1 << 20),
        sorted.in_scope.len(),
        facts.local.len()
    ));

    screen.step("etcd-sync plan: what a first sync would do, before anything is written");
    let plan = command(&link, "plan", &["--limit=0"]).await?;
    ensure!(plan.code == Some(0), "plan failed: {}", plan.stderr);
    facts.read_plan(&command(&link, "plan", &["-o", "json", "--limit=1"]).await?)?;
    let lines: Vec<&str> = plan.stdout.lines().filter(|line| !line.trim_start().starts_with('/')).collect();
    screen.quote(&lines, 7);

    screen.step("etcd-sync run: the first sync");
    let first = daemon(&link, "replica-1")?;
    let since = Instant::now();
    first.wait_line(STREAMING, WAIT).await?;
    facts.first_sync = since.elapsed();
    screen.log(&first, &[LEADING, "first sync begins", "all values are copied", STREAMING]);
    let missed = link.difference().await?.missed.len();
    ensure!(missed == 0, "{missed} keys are missed after the first sync");
    facts.first_sync_keys = sorted.in_scope.len() - missed;
    screen.say(format!("{} keys in {:.2} s", facts.first_sync_keys, facts.first_sync.as_secs_f64()));

    screen.step("Change the primary all the time, and kill the synchronizer in the middle with SIGKILL");
    let [busy, doomed, changed] = facts::choose(&sorted.in_scope, [BUSY_KEYS, DELETED, CHANGED])?;
    let options = WriterOptions { per_second: 300.0, ..WriterOptions::new(busy) };
    let writer = Writer::start(link.primary.store(Side::Primary)?, options);
    let begin = link.checkpoint().await?.context("no record after the first sync")?.revision;
    await_true("300 changes are synchronized", WAIT, || async {
        Ok(link.checkpoint().await?.is_some_and(|checkpoint| checkpoint.revision >= begin + 300))
    })
    .await?;
    first.kill()?;
    facts.kills += 1;
    let record = link.checkpoint().await?.context("the record is gone")?.revision;
    screen.say(format!("{} changes followed; killed; the standby's record says revision {record}", record - begin));

    screen.step("While nobody synchronizes: delete and change keys, then compact the primary to its head");
    let before = dump(&link.standby.store(Side::Standby)?, &registry(), 0).await?;
    facts.doomed = doomed.into_iter().filter(|key| before.contains_key(key)).collect();
    for key in &facts.doomed {
        link.primary.delete(key).await?;
    }
    for (number, key) in changed.iter().enumerate() {
        link.primary.put(key, format!("changed while nobody looked, {number}")).await?;
    }
    facts.put_local(&link, "while nobody synchronizes", 2).await?;
    let head = link.primary.revision().await?;
    ensure!(record < head, "the record is at the head: there was nothing to lose");
    link.primary.compact(head).await?;
    screen.say(format!(
        "{} keys deleted, {} changed, 2 more local keys on the standby",
        facts.doomed.len(),
        changed.len()
    ));
    screen.say(format!("compacted at {head}: the history from {record} to {head} is gone forever"));

    screen.step("etcd-sync run again: it must find the difference without that history");
    let since = Instant::now();
    let second = daemon(&link, "replica-2")?;
    second.wait_line(LEADING, WAIT).await?;
    facts.waited = since.elapsed();
    second.wait_line(RESYNC, WAIT).await?;
    let mark = second.lines().iter().position(|line| line.contains(RESYNC)).unwrap_or_default();
    second.wait_line_from(mark, STREAMING, WAIT).await?;
    facts.resync = since.elapsed() - facts.waited;
    facts.kills_survived += 1;
    screen.log_from(&second, 0, &[LEADING]);
    screen.log_from(&second, mark, &[RESYNC, "counted what", "all values are copied", STREAMING]);
    screen.say(format!(
        "waited {:.1} s for the dead leader's lease ({LEADER_TTL}), then {:.2} s until it streamed again",
        facts.waited.as_secs_f64(),
        facts.resync.as_secs_f64()
    ));

    screen.step("Stop the changes, let the standby catch up, and check the link");
    let mark = writer.transactions();
    await_true("the writer goes on", WAIT, || {
        let more = writer.transactions() >= mark + 100;
        async move { Ok(more) }
    })
    .await?;
    facts.written = writer.stop().await?;
    let since = Instant::now();
    link.await_caught_up(WAIT).await?;
    facts.level = since.elapsed();
    let status = command(&link, "status", &[]).await?;
    screen.say(format!("level {} ms after the last change; etcd-sync status:", facts.level.as_millis()));
    screen.quote(&status.stdout.lines().collect::<Vec<_>>(), usize::MAX);
    ensure!(status.code == Some(0), "status says that the link does not move (exit code {:?})", status.code);

    screen.step("etcd-sync check --deep: every key and every value of both clusters, compared at one moment");
    let check = command(&link, "check", &["--deep", "--limit=10"]).await?;
    screen.quote(&check.stdout.lines().collect::<Vec<_>>(), usize::MAX);
    facts.read_check(&command(&link, "check", &["--deep", "-o", "json"]).await?)?;
    let (surplus, local) = (facts.reported("surplus"), facts.reported_local());
    let code = check.code.context("check was ended by a signal")?;
    screen.say(format!("{local} of the {surplus} surplus keys were made on the standby; exit code {code}"));

    screen.step("Ask both etcds once more without etcd-sync, and end");
    facts.look(&link, &sorted, &before).await?;
    let ended = second.terminate(WAIT).await?;
    ensure!(ended.success(), "the synchronizer did not stop cleanly: {ended}");
    screen.say(format!(
        "plain reads: {} keys in scope, {} missed, {} with another value, {} surplus of unknown origin; stopped ({ended})",
        facts.in_scope_now, facts.missed, facts.mismatched, facts.surplus_not_local
    ));
    screen.summary(&facts);
    facts.verdict()
}

fn daemon(link: &Link, holder: &str) -> Result<Daemon> {
    link.daemon(&[&format!("--holder={holder}"), &format!("--leader-ttl={LEADER_TTL}")])
}

async fn command(link: &Link, name: &str, more: &[&str]) -> Result<Output> {
    let mut args = vec![name.to_owned()];
    args.extend(link.flags(more));
    run_command(&args).await
}
