//! `etcd-sync-monitor` with the real programs: exact, shared, honest when it cannot tell, and read-only.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use etcd_sync_core::etcd::request::{Op, Txn};
use etcd_sync_core::link::state::ROLE_PRIMARY;
use etcd_sync_integration::compare::await_until;
use etcd_sync_integration::daemon::Daemon;
use etcd_sync_integration::data::Item;
use etcd_sync_integration::etcd::{Cluster, ClusterOptions};
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::link::{Link, await_ready};
use etcd_sync_integration::load::{Writer, WriterOptions, load};
use etcd_sync_integration::soak::rounds;
use etcd_sync_store::Side;
use serde_json::{Value, json};

/// Longest wait for a comparison while members die.
const ANSWER: Duration = Duration::from_secs(120);

/// Checks in a row without a false alarm.
fn checks() -> usize {
    rounds(300, 3_000)
}

fn key(number: usize) -> Bytes {
    format!("/registry/configmaps/apps/c{number:04}").into()
}

/// A link that has caught up with so many keys, its daemon, and its monitor, which checks only when asked.
async fn link(keys: usize, options: [ClusterOptions; 2]) -> Result<(Link, Daemon, Daemon)> {
    let [primary, standby] = options;
    let link = Link::start(primary, standby).await?;
    let items: Vec<Item> = (0..keys).map(|number| (key(number).to_vec(), vec![b'v'; 300])).collect();
    load(&link.primary.client(), items, 4).await?;
    // A machine too busy for a compaction every moment lets it fall behind: then it may delete what it must.
    let daemon = link.daemon(&["--checkpoint-interval=100ms", "--deletion-limit-percent=100"])?;
    daemon.wait_line("Start Sync update", PATIENCE).await?;
    let monitor = link.monitor(&["--check-interval=1d", "--deep-check-interval=0"])?;
    await_ready(&monitor, 200, "answering", PATIENCE).await?;
    Ok((link, daemon, monitor))
}

async fn small(keys: usize) -> Result<(Link, Daemon, Daemon)> {
    link(keys, [ClusterOptions::default(), ClusterOptions::default()]).await
}

/// `/check` with these parameters as JSON: the status and the document.
async fn check(monitor: &Daemon, parameters: &str) -> Result<(u16, Value)> {
    let path = format!("/check?format=json{parameters}");
    let (status, body) = monitor.http_with(&path, &[], ANSWER).await?;
    Ok((status, serde_json::from_str(&body).with_context(|| format!("{path}: {status} {body}"))?))
}

/// Changes random keys of the link's data, a thousand a second.
fn writer(link: &Link, keys: usize) -> Result<Writer> {
    let options = WriterOptions::busy((0..keys).map(key).collect());
    Ok(Writer::start(link.primary.client(), options))
}

/// Compacts all history of a cluster up to now.
async fn compact(cluster: &Cluster) -> Result<()> {
    // Something new, so that there is something to compact.
    let revision = cluster.put(b"/elsewhere", b"1").await?;
    cluster.compact(revision).await
}

#[tokio::test(flavor = "multi_thread")]
async fn planted_differences_are_named_exactly() -> Result<()> {
    let (link, daemon, monitor) = small(50).await?;
    link.await_caught_up(PATIENCE).await?;
    assert_eq!(check(&monitor, "&fail=1").await?.0, 200);
    daemon.terminate(PATIENCE).await?;
    link.standby.delete(&key(7)).await?;
    link.standby.put(&key(8), b"another value").await?;
    link.standby.put(b"/registry/configmaps/apps/only-here", b"1").await?;
    link.standby.put(b"/registry/configmaps/kube-system/not-in-scope", b"1").await?;
    link.primary.put(b"/registry/pods/apps/cluster-local", b"1").await?;
    link.standby.put(b"/registry/leases/apps/cluster-local", b"1").await?;

    let (status, text) = monitor.http_with("/check?deep=1", &[("Accept", "*/*")], PATIENCE).await?;
    assert_eq!(status, 200);
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("  #")).collect();
    assert!(lines[0].starts_with("NOT CONSISTENT: primary revision "), "{text}");
    assert!(lines[1].starts_with("No synchronizer is running: compared with "), "{text}");
    assert_eq!(
        lines[2..],
        [
            "LOCAL ETCD missed keys: 1",
            "  /registry/configmaps/apps/c0007",
            "LOCAL ETCD surplus keys: 1",
            "  /registry/configmaps/apps/only-here  (made on the standby)",
            "LOCAL ETCD mismatched keys: 1",
            "  /registry/configmaps/apps/c0008  (cannot be decoded)",
            "LOCAL ETCD keys with a status of their own: 0",
        ],
        "{text}"
    );
    let (status, report) = check(&monitor, "&deep=1").await?;
    assert_eq!((status, &report["consistent"], &report["complete"]), (200, &json!(false), &json!(false)));
    assert_eq!(report["localMissedKeys"], json!(["/registry/configmaps/apps/c0007"]));
    assert_eq!(report["localSurplusKeys"], json!(["/registry/configmaps/apps/only-here"]));
    assert_eq!(report["mismatchedKeys"], json!(["/registry/configmaps/apps/c0008"]));
    let missed = &report["details"][0];
    assert_eq!((&missed["difference"], &missed["resource"]), (&json!("missed"), &json!("configmaps")));
    assert_eq!((&missed["namespace"], &missed["name"]), (&json!("apps"), &json!("c0007")));
    assert!(missed["sinceMs"].as_u64().is_some_and(|since| since > 0), "{missed}");
    let (_, shallow) = check(&monitor, "").await?;
    assert_eq!((&shallow["mismatched"], &shallow["missed"]), (&json!(0), &json!(1)));

    assert_eq!(check(&monitor, "&fail=1").await?.0, 409);
    let (_, json) = monitor.http_with("/check", &[("Accept", "application/json")], PATIENCE).await?;
    assert_eq!(serde_json::from_str::<Value>(&json)?["missed"], 1);
    let (_, differences) = monitor.http("/api/differences?difference=mismatched").await?;
    assert!(differences.contains("c0008") && !differences.contains("c0007"), "{differences}");
    for (name, value) in [
        ("etcd_sync_monitor_missed_keys", 1.0),
        ("etcd_sync_monitor_surplus_keys", 1.0),
        ("etcd_sync_monitor_mismatched_keys", 1.0),
        ("local_target_keys_count", 50.0),
        ("remote_target_keys_count", 50.0),
    ] {
        assert_eq!(monitor.metric(name).await, Some(value), "{name}");
    }
    assert!(monitor.metric("etcd_sync_monitor_oldest_difference_seconds").await.is_some_and(|age| age > 0.0));
    let (_, state) = monitor.http("/api/state").await?;
    for page in [text, report.to_string(), differences, state, monitor.lines().join("\n")] {
        assert!(!page.contains("another value") && !page.contains("vvv"), "a value is shown: {page}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_in_a_row_under_load_raise_no_alarm_and_the_next_one_sees_a_deletion() -> Result<()> {
    let (link, daemon, monitor) = small(2_000).await?;
    let writer = writer(&link, 2_000)?;
    let mut revisions = BTreeSet::new();
    for round in 0..checks() {
        let (status, report) = check(&monitor, if round % 3 == 0 { "&deep=1" } else { "" }).await?;
        assert_eq!((status, &report["consistent"]), (200, &json!(true)), "round {round}: {report:#}");
        assert_eq!(report["basis"], "checkpoint");
        revisions.insert(report["primaryRevision"].as_i64());
    }
    let written = writer.stop().await?;
    assert!(written.transactions > 1_000, "the load was no load: {written:?}");
    assert!(revisions.len() > checks() / 2, "the checks saw only {} moments", revisions.len());

    link.await_caught_up(PATIENCE).await?;
    daemon.terminate(PATIENCE).await?;
    let left = link.standby.client();
    let left = etcd_sync_integration::compare::dump(&left, &etcd_sync_integration::link::registry(), 0).await?;
    let gone = left.keys().next().context("some keys are left")?;
    link.standby.delete(gone).await?;
    let (_, report) = check(&monitor, "").await?;
    assert_eq!(report["localMissedKeys"], json!([String::from_utf8_lossy(gone)]));
    assert_eq!(report["synchronizer"], json!(false));
    Ok(())
}

/// A hundred callers at once are answered by a few comparisons, each begun after its callers had called.
#[tokio::test(flavor = "multi_thread")]
async fn callers_share_comparisons() -> Result<()> {
    let (_link, _daemon, monitor) = small(200).await?;
    let calls = (0..100).map(|_| check(&monitor, ""));
    for answer in futures_util::future::join_all(calls).await {
        assert_eq!(answer?.1["consistent"], json!(true));
    }
    let done = monitor.metric("etcd_sync_monitor_checks_total").await.context("it counts")?;
    ensure!(done <= 50.0, "{done} comparisons for a hundred callers at once");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_verdict_is_right_while_both_sides_are_compacted_and_members_die() -> Result<()> {
    let three = ClusterOptions::three;
    let (link, _daemon, monitor) = link(2_000, [three(), three()]).await?;
    let writer = writer(&link, 2_000)?;
    let mut moments = BTreeSet::new();
    for round in 0..30 {
        let disturb = async {
            tokio::try_join!(compact(&link.primary), compact(&link.standby))?;
            let cluster = if round % 2 == 0 { &link.primary } else { &link.standby };
            if round % 5 == 0 {
                cluster.kill_member(round % 3)?;
                cluster.restart_member(round % 3).await?;
            }
            anyhow::Ok(())
        };
        let (report, disturbed) = tokio::join!(check(&monitor, "&deep=1"), disturb);
        disturbed?;
        let (status, report) = report?;
        // A cluster may be without a leader for longer than anybody waits: that is no verdict, but no wrong one either.
        if status != 503 {
            assert_eq!((status, &report["consistent"]), (200, &json!(true)), "round {round}: {report:#}");
        }
        println!("round {round}: {status}, {} moments in {} ms", report["moments"], report["tookMilliseconds"]);
        moments.insert(report["moments"].as_u64());
    }
    writer.stop().await?;
    assert!(moments.iter().any(|moments| *moments > Some(1)), "no comparison saw a compaction: {moments:?}");
    Ok(())
}

/// At the checkpoint's compaction in the middle of a comparison, planted differences are still named, all and only they.
#[tokio::test(flavor = "multi_thread")]
async fn planted_differences_survive_compactions_in_the_middle() -> Result<()> {
    let (link, daemon, _) = small(3_000).await?;
    link.await_caught_up(PATIENCE).await?;
    // Slow enough that the compactions fall into it.
    let monitor = link.monitor(&["--check-interval=1d", "--deep-check-interval=0", "--check-keys-per-second=700"])?;
    await_ready(&monitor, 200, "answering", PATIENCE).await?;
    daemon.terminate(PATIENCE).await?;
    let planted: Vec<String> =
        [3, 1_500, 2_999].map(|number| String::from_utf8_lossy(&key(number)).into_owned()).into();
    for key in &planted {
        link.standby.delete(key.as_bytes()).await?;
    }
    let checking = check(&monitor, "");
    tokio::pin!(checking);
    let (_, report) = loop {
        let compactions = async { tokio::try_join!(compact(&link.primary), compact(&link.standby)) };
        tokio::select! {
            report = &mut checking => break report?,
            compacted = compactions => compacted.map(drop)?,
        }
    };
    assert_eq!(report["localMissedKeys"], json!(planted));
    assert_eq!((&report["surplus"], &report["basis"]), (&json!(0), &json!("head")));
    assert!(report["moments"].as_u64() > Some(1), "no compaction fell into it: {report:#}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_is_compared_as_it_was() -> Result<()> {
    let (link, _daemon, monitor) = small(50).await?;
    link.await_caught_up(PATIENCE).await?;
    let surplus = b"/registry/configmaps/apps/made-before";
    link.standby.put(surplus, b"1").await?;
    link.standby.put(&link.keys.role, ROLE_PRIMARY).await?;
    // From here on it is its own cluster: nothing of this is a difference.
    link.standby.delete(&key(1)).await?;
    link.standby.put(b"/registry/configmaps/apps/made-after", b"1").await?;
    link.primary.put(b"/registry/configmaps/apps/too-late", b"1").await?;
    let (_, report) = check(&monitor, "").await?;
    assert_eq!((&report["basis"], &report["missed"]), (&json!("promotion"), &json!(0)), "{report:#}");
    assert_eq!(report["localSurplusKeys"], json!([String::from_utf8_lossy(surplus)]));
    let (_, text) = monitor.http("/check").await?;
    assert!(text.contains("This cluster was promoted: "), "{text}");

    let revision = link.standby.revision().await?;
    link.standby.compact(revision).await?;
    let (status, report) = check(&monitor, "").await?;
    assert_eq!(status, 503);
    assert!(report["error"].as_str().is_some_and(|error| error.contains("this cluster was promoted")), "{report}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_told_is_said_with_the_reason_and_ends_by_itself() -> Result<()> {
    let (link, _daemon, monitor) = small(50).await?;
    link.primary.kill_all()?;
    let (status, text) = monitor.http_with("/check", &[], PATIENCE).await?;
    assert_eq!(status, 503);
    assert!(text.starts_with("CANNOT TELL: ") && text.contains("primary"), "{text}");
    await_until("the primary is seen as away", PATIENCE, || async {
        let up = monitor.metric("etcd_sync_monitor_reachable{side=\"primary\"}").await;
        Ok((up != Some(0.0)).then(|| format!("{up:?}")))
    })
    .await?;
    // Whoever asks for the reason must still reach it.
    assert_eq!(monitor.http("/readyz").await?.0, 200);
    assert_eq!(monitor.http("/healthz").await?.0, 200);
    assert_eq!(monitor.metric("etcd_sync_monitor_reachable{side=\"standby\"}").await, Some(1.0));
    link.primary.restart_all().await?;
    await_until("it tells again", PATIENCE, || async {
        let (status, report) = check(&monitor, "").await?;
        Ok((status != 200 || report["consistent"] != true).then(|| report.to_string()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn differences_appear_and_heal_in_periodic_checks() -> Result<()> {
    let (link, daemon, _) = small(50).await?;
    link.await_caught_up(PATIENCE).await?;
    let monitor = link.monitor(&["--check-interval=1s"])?;
    daemon.terminate(PATIENCE).await?;
    link.standby.delete(&key(9)).await?;
    let missed = |count: f64| {
        let monitor = &monitor;
        await_until("the periodic check says so", PATIENCE, move || async move {
            let found = monitor.metric("etcd_sync_monitor_missed_keys").await;
            Ok((found != Some(count)).then(|| format!("{found:?} missed keys")))
        })
    };
    missed(1.0).await?;
    let _daemon = link.daemon(&[])?;
    missed(0.0).await?;
    let (_, state) = monitor.http("/api/state").await?;
    let state: Value = serde_json::from_str(&state)?;
    let results = state["results"].as_array().context("a history")?;
    assert!(results.iter().any(|result| result["missed"] == 1), "{results:?}");
    assert!(results.iter().any(|result| result["healed"] == 1), "{results:?}");
    assert_eq!(
        state["resources"][0],
        json!({"resource": "configmaps", "primary": 50, "standby": 50, "missed": 0, "surplus": 0, "mismatched": 0})
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_without_the_token_are_rejected() -> Result<()> {
    let (link, _daemon, _) = small(10).await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("token");
    std::fs::write(&file, "correct horse\n")?;
    let monitor = link.monitor(&[&format!("--token-file={}", file.display())])?;
    await_until("it listens", PATIENCE, || async {
        Ok(monitor.http("/readyz").await.is_err().then(|| "no answer".to_owned()))
    })
    .await?;
    for path in ["/check", "/metrics", "/api/state", "/api/events", "/api/differences", "/"] {
        assert_eq!(monitor.http(path).await?.0, 401, "{path}");
        assert_eq!(monitor.http_with(path, &[("Authorization", "Bearer wrong")], PATIENCE).await?.0, 401, "{path}");
    }
    let (status, page) = monitor.http_with("/", &[("Accept", "text/html")], PATIENCE).await?;
    assert!(status == 401 && page.contains("name=\"token\""), "{status} {page}");
    let right = [("Authorization", "Bearer correct horse")];
    assert_eq!(monitor.http_with("/check", &right, PATIENCE).await?.0, 200);
    for path in ["/healthz", "/assets/app.js"] {
        assert_eq!(monitor.http(path).await?.0, 200, "{path}");
    }
    assert!(!monitor.lines().join("\n").contains("horse"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ipv6_is_answered_as_curl_asks() -> Result<()> {
    let (link, _daemon, _) = small(10).await?;
    let monitor = Daemon::start_monitor("[::1]", &link.flags(&[]), &[])?;
    monitor.wait_line("serving /", PATIENCE).await?;
    let url = format!("http://[::1]:{}/check", monitor.port());
    let curl = tokio::process::Command::new("curl").args(["-g", "-sS", "-m", "60", &url]).output().await?;
    let text = String::from_utf8(curl.stdout)?;
    ensure!(curl.status.success(), "curl: {}", String::from_utf8_lossy(&curl.stderr));
    assert!(text.starts_with("CONSISTENT: "), "{text}");
    Ok(())
}

const READER: (&str, &str) = ("monitor", "reads only");

/// A user of a cluster that may read what is synchronized and the record, and nothing else.
async fn add_reader(cluster: &Cluster) -> Result<()> {
    let (user, password) = READER;
    cluster.etcdctl(&["role", "add", user]).await?;
    for prefix in ["/registry/", "/etcd-sync/"] {
        cluster.etcdctl(&["role", "grant-permission", user, "read", "--prefix=true", prefix]).await?;
    }
    cluster.etcdctl(&["user", "add", &format!("{user}:{password}")]).await?;
    cluster.etcdctl(&["user", "grant-role", user, user]).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn permission_to_read_is_all_it_needs() -> Result<()> {
    let secured = || ClusterOptions::default().secured();
    let link = Link::start(secured(), secured()).await?;
    let items: Vec<Item> = (0..50).map(|number| (key(number).to_vec(), b"v".to_vec())).collect();
    load(&link.primary.client(), items, 4).await?;
    let daemon = link.daemon(&[])?;
    daemon.wait_line("Start Sync update", PATIENCE).await?;
    add_reader(&link.primary).await?;
    add_reader(&link.standby).await?;

    let folder = tempfile::tempdir()?;
    let file = folder.path().join("password");
    std::fs::write(&file, READER.1)?;
    let users = ["--primary-user=", "--primary-password-file=", "--standby-user=", "--standby-password-file="];
    let mut flags = link.flags(&["--check-interval=1d"]);
    flags.retain(|flag| !users.iter().any(|user| flag.starts_with(user)));
    let values = [READER.0.to_owned(), file.display().to_string()];
    flags.extend(users.iter().zip(values.iter().cycle()).map(|(user, value)| format!("{user}{value}")));
    let monitor = Daemon::start_monitor("127.0.0.1", &flags, &[])?;
    await_ready(&monitor, 200, "answering", PATIENCE).await?;
    let (status, report) = check(&monitor, "&deep=1").await?;
    assert_eq!((status, &report["consistent"]), (200, &json!(true)), "{report:#}");
    link.standby.delete(&key(3)).await?;
    daemon.terminate(PATIENCE).await?;
    await_until("lag and headroom are known", PATIENCE, || async {
        let state: Value = serde_json::from_str(&monitor.http("/api/state").await?.1)?;
        let observed = &state["observed"];
        let known = observed["lag"]["revisions"].is_u64() && observed["headroom"]["revisions"].is_u64();
        Ok((!known).then(|| observed.to_string()))
    })
    .await?;

    for (cluster, side) in [(&link.primary, Side::Primary), (&link.standby, Side::Standby)] {
        let reader = cluster.client_as(Some(READER));
        assert_eq!(reader.get(&key(4)).await?.0.map(|kv| kv.value), Some(Bytes::from_static(b"v")));
        for op in [
            Op::Put { key: key(4), value: Bytes::new(), lease: 0 },
            Op::Delete { key: key(4) },
            Op::Put { key: link.keys.role.clone(), value: Bytes::new(), lease: 0 },
        ] {
            let refused = reader.txn(Txn { success: vec![op], ..Txn::default() }).await;
            let refused = refused.expect_err("a reader must not write").to_string();
            assert!(refused.contains("permission denied"), "{side}: {refused}");
        }
    }
    Ok(())
}

/// Without a verdict rather than with a wrong one: other scope flags than the synchronizer's, and another history.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_compared_is_not() -> Result<()> {
    let (link, daemon, _) = small(10).await?;
    link.await_caught_up(PATIENCE).await?;
    let monitor = link.monitor(&["--exclude-namespace=apps"])?;
    let (status, report) = check_of(&monitor).await?;
    assert_eq!(status, 503);
    assert!(report.contains("another scope"), "{report}");

    // The same cluster id and a later revision, but not the same history.
    let folder = tempfile::tempdir()?;
    let snapshot = folder.path().join("snapshot");
    link.primary.snapshot_save(&snapshot).await?;
    link.primary.put(key(3), b"later").await?;
    link.await_caught_up(PATIENCE).await?;
    daemon.terminate(PATIENCE).await?;
    link.primary.restore_in_place(&snapshot).await?;
    for round in 0..20 {
        link.primary.put(b"/registry/configmaps/apps/other", round.to_string()).await?;
    }
    let monitor = link.monitor(&[])?;
    let (status, report) = check_of(&monitor).await?;
    assert_eq!(status, 503, "{report}");
    assert!(report.contains("history") || report.contains("is cluster"), "{report}");
    Ok(())
}

async fn check_of(monitor: &Daemon) -> Result<(u16, String)> {
    await_ready(monitor, 200, "answering", PATIENCE).await?;
    monitor.http_with("/check", &[], PATIENCE).await
}

/// On the day the primary is lost, the last comparison is what there is.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_comparison_is_told_without_a_new_one_also_when_the_primary_is_gone() -> Result<()> {
    let (link, daemon, _) = small(20).await?;
    link.await_caught_up(PATIENCE).await?;
    daemon.terminate(PATIENCE).await?;
    link.standby.delete(&key(3)).await?;
    link.primary.kill_all()?;
    let monitor = link.monitor(&["--check-interval=1d", "--deep-check-interval=0", "--check-timeout=5s"])?;
    await_ready(&monitor, 200, "answering", PATIENCE).await?;
    let (status, none) = check(&monitor, "&last=1").await?;
    assert_eq!(status, 503, "{none}");
    assert!(
        none["error"].as_str().is_some_and(|error| error.contains("no comparison has ended with a verdict")),
        "{none}"
    );

    link.primary.restart_all().await?;
    let fresh = std::cell::RefCell::default();
    await_until("there is a verdict", PATIENCE, || async {
        fresh.replace(check(&monitor, "").await?);
        Ok((fresh.borrow().0 != 200).then(|| "none yet".to_owned()))
    })
    .await?;
    let fresh = fresh.into_inner();
    assert_eq!((fresh.0, &fresh.1["missed"]), (200, &json!(1)), "{:#}", fresh.1);
    let ended = fresh.1["endedMs"].as_u64().context("a report says when it ended")?;
    link.primary.kill_all()?;
    assert_eq!(check(&monitor, "").await?.0, 503);
    let (status, last) = check(&monitor, "&last=1").await?;
    assert_eq!((status, &last["localMissedKeys"]), (200, &fresh.1["localMissedKeys"]), "{last:#}");
    assert_eq!(last["endedMs"], ended);
    assert_eq!(check(&monitor, "&last=1&fail=1").await?.0, 409);
    assert_eq!(check(&monitor, "&last=1&deep=1").await?.0, 503, "no values were compared");
    let (_, text) = monitor.http("/check?last=1").await?;
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("NOT CONSISTENT: "), "{text}");
    assert!(lines[1].starts_with("This is the last comparison; it ended at 20"), "{text}");
    assert!(text.contains("LOCAL ETCD missed keys: 1\n  /registry/configmaps/apps/c0003\n"), "{text}");
    Ok(())
}
