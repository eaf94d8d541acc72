//! A value that the standby's etcd refuses because of its `--max-request-bytes`: everybody says so, and how it comes right.

use anyhow::{Context, Result, ensure};
use etcd_sync_integration::compare::await_until;
use etcd_sync_integration::etcd::ClusterOptions;
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::link::{Link, await_ready, config_keys};
use serde_json::Value;

const KEY: &str = "/registry/configmaps/team-a/large";
const STREAMED: &str = "/registry/configmaps/team-a/later";

/// What all of them say: the key, its size, the limit and the two ways out.
const TOLD: [&str; 5] = [KEY, "100000", "--max-request-bytes", "116384", "--exclude-key"];

fn tells(who: &str, text: &str) -> Result<()> {
    // Lines are broken at 80 columns.
    let plain = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let lacks: Vec<&str> = TOLD.into_iter().filter(|part| !plain.contains(part)).collect();
    ensure!(lacks.is_empty(), "{who} does not say {lacks:?}:\n{text}");
    ensure!(!plain.contains("within seconds"), "{who} says that it comes by itself:\n{text}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_its_size_and_the_way_out_are_named_everywhere() -> Result<()> {
    let small = ClusterOptions { extra_args: vec!["--max-request-bytes=65536".to_owned()], ..Default::default() };
    let mut link = Link::start(ClusterOptions::default(), small).await?;
    for key in config_keys(10) {
        link.primary.put(key, "first").await?;
    }
    link.primary.put(KEY, "x".repeat(100_000)).await?;
    let daemon = link.daemon(&["--checkpoint-interval=100ms"])?;
    daemon.wait_line("Start Sync update", PATIENCE).await?;
    link.await_caught_up(PATIENCE).await?;

    let log = daemon.wait_line("does not fit a transaction of the standby", PATIENCE).await?;
    tells("the log", &log)?;
    // The record is written a moment after the copy.
    await_until("check tells", PATIENCE, || async {
        let output = link.run("check", &[]).await?;
        ensure!(output.code == Some(1) && output.stdout.contains("LOCAL ETCD missed keys: 1\n"), "{output:?}");
        Ok(tells("check", &output.stdout).err().map(|error| error.to_string()))
    })
    .await?;
    tells("preflight", &link.run("preflight", &[]).await?.stdout)?;
    let monitor = link.monitor(&["--check-interval=1s"])?;
    await_ready(&monitor, 200, "answering", PATIENCE).await?;
    let (_, body) = monitor.http("/check?format=json").await?;
    let document: Value = serde_json::from_str(&body)?;
    let detail = &document["details"][0];
    ensure!(detail["why"] == "too-large" && document["localMissedKeys"][0] == KEY, "{body}");
    tells("the page", &detail.to_string())?;
    tells("/check", &monitor.http("/check").await?.1)?;

    // In a stream as well, and what comes after it goes on.
    link.primary.put(STREAMED, "y".repeat(90_000)).await?;
    link.primary.put(&config_keys(1)[0], "second").await?;
    link.await_caught_up(PATIENCE).await?;
    await_until("both are named", PATIENCE, || async {
        let text = link.run("check", &[]).await?.stdout;
        let named = text.contains(&format!("{STREAMED}  (90000 bytes: too large"));
        Ok((!named || tells("check", &text).is_err()).then_some(text))
    })
    .await?;

    // One becomes smaller on the primary. Missed later for another reason, it is not said to be too large.
    link.primary.put(STREAMED, "smaller").await?;
    link.await_caught_up(PATIENCE).await?;
    ensure!(daemon.terminate(PATIENCE).await?.success());
    link.standby.delete(STREAMED).await?;
    let text = link.run("check", &[]).await?.stdout;
    let line = text.lines().find(|line| line.contains(STREAMED)).context("it is missed")?;
    ensure!(!line.contains("too large"), "{line}");

    // As they say: a larger limit, and a new start.
    link.standby.restart_with(&["--max-request-bytes=120000"]).await?;
    let _daemon = link.daemon(&["--checkpoint-interval=100ms"])?;
    await_until("both sides hold the same", PATIENCE, || async {
        let difference = link.difference().await?;
        Ok((!difference.is_empty()).then(|| difference.to_string()))
    })
    .await?;
    let output = link.run("check", &["--deep"]).await?;
    ensure!(output.code == Some(0), "{output:?}");
    Ok(())
}
