//! `etcd-sync check` and `plan` with the real program: exact under load, through compaction, and honest when it cannot tell.

use anyhow::{Context, Result};
use bytes::Bytes;
use etcd_sync_integration::daemon::{Daemon, Output, run_command};
use etcd_sync_integration::data::Item;
use etcd_sync_integration::etcd::{Cluster, ClusterOptions};
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::link::Link;
use etcd_sync_integration::load::{Writer, WriterOptions, load};
use etcd_sync_integration::soak::rounds;
use etcd_sync_store::Side;
use serde_json::{Value, json};

/// Checks in a row without a false alarm.
fn checks() -> usize {
    rounds(100, 1_000)
}

fn key(number: usize) -> Bytes {
    format!("/registry/configmaps/apps/c{number:04}").into()
}

async fn link(keys: usize) -> Result<(Link, Daemon)> {
    let link = Link::start(ClusterOptions::default(), ClusterOptions::default()).await?;
    let items: Vec<Item> = (0..keys).map(|number| (key(number).to_vec(), vec![b'v'; 300])).collect();
    load(&link.primary.client(), items, 4).await?;
    // On a slow moment it may fall behind a compaction; then it deletes what the writer has deleted since.
    let daemon = link.daemon(&["--checkpoint-interval=100ms", "--deletion-limit-percent=100"])?;
    daemon.wait_line("Start Sync update", PATIENCE).await?;
    Ok((link, daemon))
}

async fn check(link: &Link, more: &[&str]) -> Result<Output> {
    let mut args = vec!["check".to_owned()];
    args.extend(link.flags(more));
    run_command(&args).await
}

fn report(output: &Output) -> Result<Value> {
    serde_json::from_str(&output.stdout).with_context(|| format!("no report: {}", output.stderr))
}

/// Changes random keys of the link's data, a thousand a second.
fn writer(link: &Link, keys: usize) -> Result<Writer> {
    let options = WriterOptions::busy((0..keys).map(key).collect());
    Ok(Writer::start(link.primary.client(), options))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_checks_under_load_raise_no_alarm() -> Result<()> {
    let (link, _daemon) = link(2_000).await?;
    let writer = writer(&link, 2_000)?;
    let mut revisions = std::collections::BTreeSet::new();
    for round in 0..checks() {
        let deep: &[&str] = if round % 2 == 0 { &["-o", "json", "--deep"] } else { &["-o", "json"] };
        let output = check(&link, deep).await?;
        let report = report(&output)?;
        assert_eq!((output.code, &report["consistent"]), (Some(0), &json!(true)), "round {round}: {report:#}");
        assert_eq!(report["basis"], "checkpoint");
        revisions.insert(report["primaryRevision"].as_i64());
    }
    let written = writer.stop().await?;
    assert!(written.transactions > 1_000, "the load was no load: {written:?}");
    assert!(revisions.len() > checks() / 2, "the checks saw only {} moments", revisions.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_are_right_while_both_sides_are_compacted() -> Result<()> {
    let (link, daemon) = link(2_000).await?;
    let writer = writer(&link, 2_000)?;
    for round in 0..20 {
        let (primary, standby) = tokio::try_join!(link.primary.revision(), link.standby.revision())?;
        let compact = async {
            link.primary.compact(primary).await?;
            link.standby.compact(standby).await
        };
        let flags = ["-o", "json", "--deep"];
        let (output, compacted) = tokio::join!(check(&link, &flags), compact);
        compacted?;
        let output = output?;
        assert_eq!(output.code, Some(0), "round {round}: {}{}", output.stdout, output.stderr);
    }
    writer.stop().await?;
    assert_eq!(daemon.exited()?, None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn planted_differences_are_named_exactly() -> Result<()> {
    let (link, daemon) = link(50).await?;
    link.await_caught_up(PATIENCE).await?;
    daemon.terminate(PATIENCE).await?;
    link.standby.delete(&key(7)).await?;
    link.standby.put(&key(8), b"another value").await?;
    link.standby.put(b"/registry/configmaps/apps/only-here", b"1").await?;
    link.standby.put(b"/registry/configmaps/kube-system/not-in-scope", b"1").await?;
    link.primary.put(b"/registry/pods/apps/cluster-local", b"1").await?;

    let text = check(&link, &["--deep"]).await?;
    assert_eq!(text.code, Some(1), "{}", text.stderr);
    for line in [
        "NOT CONSISTENT: ",
        "LOCAL ETCD missed keys: 1\n  /registry/configmaps/apps/c0007\n",
        "LOCAL ETCD surplus keys: 1\n  /registry/configmaps/apps/only-here",
        "LOCAL ETCD mismatched keys: 1\n  /registry/configmaps/apps/c0008  (",
    ] {
        assert!(text.stdout.contains(line), "{line:?} is not in:\n{}", text.stdout);
    }
    let report = report(&check(&link, &["-o", "json"]).await?)?;
    assert_eq!(report["localMissedKeys"], json!(["/registry/configmaps/apps/c0007"]));
    assert_eq!(report["localSurplusKeys"], json!(["/registry/configmaps/apps/only-here"]));
    assert_eq!(report["mismatched"], 0);
    assert!(!text.stdout.contains("another value"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_synchronizer_the_newest_revisions_are_compared() -> Result<()> {
    let (link, daemon) = link(50).await?;
    link.await_caught_up(PATIENCE).await?;
    daemon.terminate(PATIENCE).await?;
    link.primary.put(&key(99), b"written while nobody synchronizes").await?;
    link.primary.compact(link.primary.revision().await?).await?;
    let output = check(&link, &["-o", "json"]).await?;
    let report = report(&output)?;
    assert_eq!((output.code, &report["basis"]), (Some(1), &json!("head")));
    assert_eq!(report["localMissedKeys"], json!(["/registry/configmaps/apps/c0099"]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_when_it_cannot_tell() -> Result<()> {
    let untouched = Link::start(ClusterOptions::default(), ClusterOptions::default()).await?;
    let output = check(&untouched, &[]).await?;
    assert_eq!((output.code, output.stdout.as_str()), (Some(2), ""));
    assert!(output.stderr.contains("nothing was ever synchronized"), "{}", output.stderr);

    let (link, _daemon) = link(10).await?;
    let unrelated = Cluster::start(ClusterOptions::default()).await?;
    let mut args = vec!["check".to_owned()];
    args.extend(unrelated.flags(Side::Primary));
    args.extend(link.standby.flags(Side::Standby));
    let output = run_command(&args).await?;
    assert_eq!(output.code, Some(2));
    assert!(output.stderr.contains("was synchronized from cluster"), "{}", output.stderr);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_tells_every_outcome_and_writes_nothing() -> Result<()> {
    let (link, daemon) = link(50).await?;
    link.await_caught_up(PATIENCE).await?;
    daemon.terminate(PATIENCE).await?;
    link.standby.put(b"/registry/configmaps/apps/only-here", b"1").await?;
    link.primary.put(&key(1), b"changed").await?;
    link.primary.put(&key(100), b"new").await?;
    link.primary.delete(&key(2)).await?;
    link.primary.put(b"/registry/pods/apps/p", b"1").await?;
    link.primary.put(b"/registry/configmaps/kube-system/c", b"1").await?;
    let before = link.standby.revision().await?;
    let mut args = vec!["plan".to_owned()];
    args.extend(link.flags(&["-o", "json"]));
    let output = run_command(&args).await?;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let plan: Value = serde_json::from_str(&output.stdout)?;
    let keys = |outcome: &str| {
        let groups = plan["groups"].as_array().into_iter().flatten();
        groups
            .filter(|group| group["outcome"] == outcome)
            .flat_map(|group| group["keys"].as_array().cloned())
            .flatten()
            .collect::<Vec<_>>()
    };
    assert_eq!(keys("create"), [json!("/registry/configmaps/apps/c0100")]);
    assert_eq!(keys("overwrite"), [json!("/registry/configmaps/apps/c0001")]);
    assert_eq!(keys("delete"), [json!("/registry/configmaps/apps/c0002")]);
    assert_eq!(keys("keep-local"), [json!("/registry/configmaps/apps/only-here")]);
    assert_eq!(keys("filtered").len(), 2);
    assert_eq!(link.standby.revision().await?, before, "a plan wrote something");
    Ok(())
}
