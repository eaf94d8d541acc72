//! SIGKILL at any moment of a prune: what is gone is saved in a whole file, nothing else is gone, and another run goes on.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use etcd_sync_core::etcd::kv::{Event, KeyRange, Revision};
use etcd_sync_integration::client::Client;
use etcd_sync_integration::data::{self, Random};
use etcd_sync_integration::etcd::ClusterOptions;
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::link::Link;
use etcd_sync_integration::load::load;
use etcd_sync_integration::process::Process;
use etcd_sync_integration::saved_keys::whole;
use etcd_sync_integration::soak::rounds;
use etcd_sync_integration::tools;

use super::{held, link, run, started};

const KEYS: usize = 3_000;
/// Kills of the command.
fn kills() -> usize {
    rounds(16, 100)
}
const APPS: &[u8] = b"/registry/configmaps/apps/";

type Held = BTreeMap<Bytes, Bytes>;

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_loses_nothing() -> Result<()> {
    let seed = match std::env::var("ETCD_SYNC_SEED") {
        Ok(seed) => seed.parse().context("ETCD_SYNC_SEED is not a number")?,
        Err(_) => u64::from(std::process::id()) << 32 | u64::from(std::time::UNIX_EPOCH.elapsed()?.subsec_nanos()),
    };
    println!("ETCD_SYNC_SEED={seed}");
    let mut random = Random::new(seed);
    let link = link(20).await?;
    let client = link.standby.client();
    let items: Vec<data::Item> = (0..KEYS).map(|i| (name(i), random.text(400).into_bytes())).collect();
    load(&client, items, 4).await?;
    let whole: Held = held(&link).await?.into_iter().collect();
    let folder = tempfile::tempdir()?;
    let flag = "--accept-deletions=100000";

    let (mut in_the_middle, mut before_the_first) = (0, 0);
    for round in 0..kills() {
        let context = || format!("round {round}, ETCD_SYNC_SEED={seed}");
        let path = folder.path().join(format!("{round}"));
        let mut command = Command::new(tools::etcd_sync()?);
        command.arg("prune").args(link.flags(&["--yes", flag, &format!("--backup={}", path.display())]));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let had: Held = held(&link).await?.into_iter().collect();
        let from = link.standby.revision().await? + 1;
        let mut prune = Process::spawn("etcd-sync prune", command)?;
        if round % 3 == 0 {
            tokio::time::sleep(Duration::from_millis(random.range(0..500) as u64)).await;
        } else {
            let left = had.keys().filter(|key| key.starts_with(APPS)).count();
            deletions(&client, from, random.range(1..90).min(left)).await.with_context(context)?;
        }
        prune.kill()?;
        let now: Held = held(&link).await?.into_iter().collect();
        let saved = read(&path);
        let gone = had.len() - now.len();
        in_the_middle += usize::from(gone > 0);
        before_the_first += usize::from(gone == 0);
        for (key, value) in &had {
            match now.get(key) {
                Some(stays) => ensure!(stays == value, "a value changed"),
                None => ensure!(saved.get(key) == Some(value), "{key:?} is gone and not saved: {}", context()),
            }
        }
        ensure!(now.keys().all(|key| had.contains_key(key)));
        let mirrored = now.keys().filter(|key| key.starts_with(b"/registry/configmaps/team-a/")).count();
        assert_eq!(mirrored, 20, "a mirrored key is gone: {}", context());
    }
    println!("{in_the_middle} kills among the deletions, {before_the_first} before the first");
    ensure!(in_the_middle >= 3, "too few kills fell among the deletions");

    let path = folder.path().join("last");
    let output = run(&link, "prune", &["--yes", flag, &format!("--backup={}", path.display())]).await?;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert_eq!(held(&link).await?.len(), 20);
    for entry in std::fs::read_dir(folder.path())? {
        let path = entry?.path();
        if !read(&path).is_empty() {
            let output = run(&link, "restore", &["--yes", &path.display().to_string()]).await?;
            assert_eq!(output.code, Some(0), "{}{}", output.stdout, output.stderr);
        }
    }
    let back: Held = held(&link).await?.into_iter().collect();
    ensure!(back == whole, "not everything is back");
    Ok(())
}

/// Some deletions then have an unknown outcome.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_dies_in_the_middle_loses_nothing() -> Result<()> {
    let link = started(Link::start(ClusterOptions::default(), ClusterOptions::three()).await?, 20).await?.0;
    let client = link.standby.client();
    let items: Vec<data::Item> = (0..KEYS).map(|i| (name(i), vec![b'v'; 400])).collect();
    load(&client, items, 4).await?;
    let folder = tempfile::tempdir()?;
    for member in 0..3 {
        let had: Held = held(&link).await?.into_iter().collect();
        let from = link.standby.revision().await? + 1;
        let path = folder.path().join(format!("{member}"));
        let flags = ["--yes", "--accept-deletions=100000", &format!("--backup={}", path.display())];
        // A part of the keys each time.
        let prefix = format!("/registry/configmaps/apps/c-{}", ["00", "0", ""][member]);
        let below = format!("--below={prefix}");
        let flags = [&flags[..], &[&below]].concat();
        let prune = run(&link, "prune", &flags);
        let kill = async {
            // Fewer on a machine that let it end before this was looked at.
            let left = had.keys().filter(|key| key.starts_with(prefix.as_bytes())).count();
            deletions(&client, from, left.min(30)).await?;
            link.standby.kill_member(member)
        };
        let (output, killed) = tokio::join!(prune, kill);
        killed?;
        let output = output?;
        println!("member {member}: exit code {:?}, {}", output.code, output.stdout.lines().last().unwrap_or_default());
        ensure!(matches!(output.code, Some(0 | 2)), "{}{}", output.stdout, output.stderr);
        let now: Held = held(&link).await?.into_iter().collect();
        let saved = read(&path);
        ensure!(had.iter().all(|(key, value)| now.contains_key(key) || saved.get(key) == Some(value)));
        let told =
            output.stdout.lines().find_map(|line| line.strip_prefix("Deleted: ")?.split(' ').next()?.parse().ok());
        if output.code == Some(0) {
            assert_eq!(told, Some(had.len() - now.len()));
        }
        link.standby.restart_member(member).await?;
    }
    let path = folder.path().join("last");
    let flags = ["--yes", "--accept-deletions=100000", &format!("--backup={}", path.display())];
    let output = run(&link, "prune", &flags).await?;
    assert_eq!((output.code, held(&link).await?.len()), (Some(0), 20), "{}", output.stderr);
    Ok(())
}

fn name(number: usize) -> Vec<u8> {
    format!("/registry/configmaps/apps/c-{number:04}").into_bytes()
}

/// Waits until so many keys of the test were deleted.
async fn deletions(client: &Client, from: Revision, count: usize) -> Result<()> {
    let mut watch = client.watch(KeyRange::prefix(APPS), from).await?;
    let seeing = async {
        let mut seen = 0;
        while seen < count {
            let events = watch.next().await?;
            seen += events.iter().filter(|event| matches!(event, Event::Delete { .. })).count();
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, seeing).await.with_context(|| format!("{count} deletions never come"))?
}

/// What a whole file holds; nothing if it was cut off.
fn read(path: &Path) -> Held {
    whole(path).into_iter().collect()
}
