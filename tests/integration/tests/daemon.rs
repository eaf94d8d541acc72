//! What the daemon tells: health, metrics, log; and what it never tells, which is values.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use etcd_sync_integration::compare::await_until;
use etcd_sync_integration::daemon::Daemon;
use etcd_sync_integration::data;
use etcd_sync_integration::etcd::{ClusterOptions, PASSWORD};
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::link::{Link, await_ready, config_keys};
use etcd_sync_integration::load::load;
use etcd_sync_store::Side;

#[tokio::test]
async fn ready_means_caught_up_or_standing_by() -> Result<()> {
    let link = Link::start(ClusterOptions::default(), ClusterOptions::default()).await?;
    load(&link.primary.store(Side::Primary)?, data::kubernetes(1, 4000), 4).await?;
    let leader = link.daemon(&["--transactions-in-flight=1"])?;
    let copied = async || Ok(link.standby.get(&link.keys.copied).await?.is_some());
    leader.run_in_slices("the first sync has begun", copied).await?;
    // The copy is stopped for a moment, so that it can be checked.
    link.standby.pause_member(0)?;
    leader.resume()?;
    await_ready(&leader, 503, "first-sync under way: ", PATIENCE).await?;
    assert_eq!(leader.metric("etcd_sync_phase{phase=\"first-sync\"}").await, Some(1.0));
    assert!(leader.metric("etcd_sync_lag_revisions").await.is_some_and(f64::is_nan), "there is no lag before a copy");
    assert_eq!(leader.http("/healthz").await?, (200, "ok\n".to_owned()));
    link.standby.resume_member(0)?;
    await_ready(&leader, 200, "caught up with the primary", PATIENCE).await?;
    link.await_equal(PATIENCE).await?;
    assert_eq!(leader.metric("etcd_sync_phase{phase=\"streaming\"}").await, Some(1.0));

    let candidate = link.daemon(&[])?;
    await_ready(&candidate, 200, "standing by: another replica is the leader", PATIENCE).await?;
    assert_eq!(candidate.http("/healthz").await?.0, 200);
    assert_eq!(candidate.metric("etcd_sync_role{role=\"candidate\"}").await, Some(1.0));
    assert_eq!(candidate.metric("etcd_sync_role{role=\"leader\"}").await, Some(0.0));
    assert_eq!(leader.http("/nowhere").await?.0, 404);
    Ok(())
}

/// The words that scripts look for.
#[tokio::test]
async fn the_log_holds_the_contract_texts() -> Result<()> {
    let link = Link::start(ClusterOptions::default(), ClusterOptions::default()).await?;
    let object = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","uid":"u"}}"#;
    link.primary.put(&config_keys(1)[0], object).await?;
    let daemon = link.daemon(&[])?;
    for text in ["Acquired leader lease", "Start Sync update"] {
        let line = daemon.wait_line(text, PATIENCE).await?;
        assert!(line.contains(" INFO "), "{line}");
    }
    link.await_equal(PATIENCE).await?;
    let told = daemon.lines().iter().filter(|line| line.contains("/registry/")).count();
    assert_eq!(told, 0, "keys are told only with --detail");
    Ok(())
}

/// The metrics that the program's source describes.
fn described() -> BTreeSet<&'static str> {
    let source = include_str!("../../../etcd-sync/src/daemon/metrics.rs");
    let quoted = source.split('"').filter(|text| text.starts_with("etcd_sync_"));
    quoted.filter(|text| text.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase())).collect()
}

/// Differences of a metric since a moment.
struct Since<'a> {
    daemon: &'a Daemon,
    before: String,
}

impl Since<'_> {
    async fn now(daemon: &Daemon) -> Result<Since<'_>> {
        Ok(Since { daemon, before: daemon.http("/metrics").await?.1 })
    }

    async fn grown(&self, name: &str) -> Result<f64> {
        let value = |page: &str| {
            let series =
                page.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse::<f64>().ok());
            series.sum::<f64>()
        };
        Ok(value(&self.daemon.http("/metrics").await?.1) - value(&self.before))
    }
}

#[tokio::test]
async fn metrics_are_described_and_exact() -> Result<()> {
    let link = Link::start(ClusterOptions::default(), ClusterOptions::default()).await?;
    let keys = config_keys(10);
    for key in &keys {
        link.primary.put(key, "first").await?;
    }
    let daemon = link.daemon(&["--checkpoint-interval=100ms"])?;
    link.await_equal(PATIENCE).await?;
    await_ready(&daemon, 200, "caught up", PATIENCE).await?;
    assert_eq!(daemon.metric("etcd_sync_puts_total").await, Some(10.0));
    assert_eq!(daemon.metric("etcd_sync_copy_keys_expected").await, Some(10.0));
    assert_eq!(daemon.metric("etcd_sync_copy_keys_done").await, Some(10.0));

    let since = Since::now(&daemon).await?;
    let mut bytes = 0;
    for key in &keys[..5] {
        link.primary.put(key, "a longer value").await?;
        bytes += key.len() + "a longer value".len();
    }
    for key in &keys[5..7] {
        link.primary.delete(key).await?;
        bytes += key.len();
    }
    for i in 0..3 {
        link.primary.put(format!("/registry/secrets/kube-system/{i}"), "excluded").await?;
    }
    for i in 0..4 {
        link.primary.put(format!("/registry/pods/team-a/{i}"), "local").await?;
    }
    // A key that comes to hang on a lease leaves the scope, and its copy goes.
    let lease = link.primary.etcdctl(&["lease", "grant", "600"]).await?;
    let lease = lease.split(' ').nth(1).context("a lease id")?.to_owned();
    let leased = std::str::from_utf8(&keys[9])?;
    link.primary.etcdctl(&["put", &format!("--lease={lease}"), leased, "bound"]).await?;
    bytes += leased.len();
    link.primary.put("elsewhere", "not even seen").await?;
    link.await_caught_up(PATIENCE).await?;
    assert!(link.standby.get(leased).await?.is_none(), "the copy of a key on a lease is still there");

    let counts = [
        ("etcd_sync_events_total", 15),
        ("etcd_sync_puts_total", 5),
        ("etcd_sync_deletes_total", 3),
        ("etcd_sync_skipped_total{reason=\"excluded_namespace\"}", 3),
        ("etcd_sync_skipped_total{reason=\"cluster_local\"}", 4),
        ("etcd_sync_skipped_total{reason=\"lease_bound\"}", 1),
        ("etcd_sync_written_bytes_total", bytes),
        ("etcd_sync_too_large_total", 0),
        ("etcd_sync_kept_local_total", 0),
        ("etcd_sync_unknown_origin_total", 0),
    ];
    for (name, expected) in counts {
        assert_eq!(since.grown(name).await?, expected as f64, "{name}");
    }
    assert!((1.0..=30.0).contains(&since.grown("etcd_sync_transactions_total").await?));
    let head = link.primary.revision().await? as f64;
    assert_eq!(daemon.metric("etcd_sync_checkpoint_revision").await, Some(head));
    await_until("the lag is nothing", PATIENCE, || async {
        let lag = (daemon.metric("etcd_sync_lag_revisions").await, daemon.metric("etcd_sync_lag_seconds").await);
        Ok((!matches!(lag, (Some(0.0), Some(0.0..2.0)))).then(|| format!("{lag:?}")))
    })
    .await?;
    // Nothing is compacted yet, and then nearly everything.
    await_headroom(&daemon, head).await?;
    link.primary.compact(head as i64 - 3).await?;
    await_headroom(&daemon, 3.0).await?;

    // A local key, kept although the primary deletes its own.
    link.standby.put("/registry/configmaps/team-b/local", "local").await?;
    await_until("the local key is on record", PATIENCE, || async {
        let local = daemon.metric("etcd_sync_local_keys").await;
        Ok((local != Some(1.0)).then(|| format!("{local:?}")))
    })
    .await?;

    let (status, page) = daemon.http("/metrics").await?;
    assert_eq!(status, 200);
    let described = described();
    ensure!(described.len() >= 20, "the source was not understood: {described:?}");
    for name in described {
        let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
        ensure!(page.contains(&format!("# HELP {name} ")), "no HELP of {name}");
        ensure!(page.contains(&format!("# TYPE {name} {kind}\n")), "{name} is no {kind}");
        ensure!(daemon.metric(name).await.is_some(), "{name} has no value");
    }
    Ok(())
}

async fn await_headroom(daemon: &Daemon, revisions: f64) -> Result<()> {
    await_until("the headroom is known", PATIENCE, || async {
        let found = daemon.metric("etcd_sync_history_headroom_revisions").await;
        Ok((found != Some(revisions)).then(|| format!("{found:?}")))
    })
    .await
}

/// The forms in which bytes leak: as they are, and as Rust prints lists of them.
fn leaks(text: &str, secret: &str) -> bool {
    let list: Vec<String> = secret.bytes().map(|byte| byte.to_string()).collect();
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    // A print that was cut short at either end.
    let inside = secret.len() > 12 && text.contains(&secret[4..12]);
    text.contains(secret) || inside || text.contains(&list.join(", ")) || text.to_ascii_lowercase().contains(&hex)
}

const SECRET: &str = "Zq8-the-value-of-a-secret-Xw3";

/// Values of all kinds go through everything a daemon does, at the most talkative log level.
async fn no_value_leaks(format: &str) -> Result<()> {
    let large = ClusterOptions { extra_args: vec!["--max-request-bytes=8388608".to_owned()], ..Default::default() };
    let standby = ClusterOptions { auth: true, ..Default::default() };
    let link = Link::start(large, standby).await?;
    let keys = config_keys(6);
    for key in &keys {
        link.primary.put(key, format!("copied {SECRET}")).await?;
    }
    link.primary.put("/registry/secrets/kube-system/out", SECRET).await?;
    // Bytes that are no text, and a value that the standby does not take.
    link.primary.put(&keys[1], [b"\0\xff", SECRET.as_bytes()].concat()).await?;
    link.primary.put("/registry/configmaps/team-a/huge", SECRET.repeat(100_000)).await?;
    link.standby.put("/registry/configmaps/team-b/local", SECRET).await?;
    let flags = ["--detail", "--log-level=trace", &format!("--log-format={format}"), "--checkpoint-interval=100ms"];
    let daemon = link.daemon(&flags)?;
    let line = daemon.wait_line("does not fit a transaction of the standby", PATIENCE).await?;
    ensure!(line.contains("2900000") && line.contains("team-a/huge"), "{line}");
    daemon.wait_line("Start Sync update", PATIENCE).await?;
    link.primary.put(&keys[2], format!("streamed {SECRET}")).await?;
    link.primary.delete(&keys[3]).await?;
    link.await_caught_up(PATIENCE).await?;
    let mut pages = Vec::new();
    for path in ["/healthz", "/readyz", "/metrics", "/nowhere"] {
        pages.push(daemon.http(path).await?.1);
    }
    // Errors, too: of a standby that goes away in the middle of writing, and of its end.
    link.standby.kill_member(0)?;
    link.primary.put(&keys[4], format!("refused {SECRET}")).await?;
    daemon.wait_line("cannot connect to the standby etcd", PATIENCE).await?;
    pages.push(daemon.http("/readyz").await?.1);
    link.standby.restart_member(0).await?;
    link.await_caught_up(PATIENCE).await?;
    assert_eq!(link.difference().await?.missed.len(), 1, "only the huge one");
    link.standby.put(&link.keys.role, "primary").await?;
    daemon.wait_line("paused: ", PATIENCE).await?;
    assert!(daemon.terminate(PATIENCE).await?.success());

    let lines = daemon.lines();
    let details = lines.iter().filter(|line| line.contains("settings-000"));
    ensure!(details.count() >= keys.len(), "--detail tells of no key:\n{}", daemon.tail());
    for (key, what) in [(&keys[2], "put"), (&keys[3], "deleted")] {
        let key = std::str::from_utf8(key)?;
        ensure!(lines.iter().any(|line| line.contains(key) && line.contains(what)), "nothing says {key} was {what}");
    }
    ensure!(lines.len() > 200, "the level trace tells only {} lines", lines.len());
    for text in lines.iter().chain(&pages) {
        ensure!(!leaks(text, SECRET) && !leaks(text, PASSWORD), "a value is in: {}", &text[..text.len().min(300)]);
    }
    if format == "json" {
        for line in &lines {
            let parsed: serde_json::Value = serde_json::from_str(line).with_context(|| line.clone())?;
            let text = |field: &str| parsed[field].as_str().map(str::to_owned);
            ensure!(text("timestamp").is_some() && text("level").is_some(), "{line}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn no_value_leaks_into_text() -> Result<()> {
    no_value_leaks("text").await
}

#[tokio::test]
async fn no_value_leaks_into_json_and_every_line_parses() -> Result<()> {
    no_value_leaks("json").await
}
