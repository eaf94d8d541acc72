//! The harness itself: what the other tests stand on must hold first.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use etcd_sync_core::etcd::kv::KeyRange;
use etcd_sync_integration::compare::{Difference, await_true, dump};
use etcd_sync_integration::daemon::Daemon;
use etcd_sync_integration::data;
use etcd_sync_integration::etcd::{Cluster, ClusterOptions};
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::load::{Writer, WriterOptions, load};
use etcd_sync_integration::tools::EtcdVersion;
use etcd_sync_store::{Etcd, Side};

fn registry() -> KeyRange {
    KeyRange::prefix(b"/registry/")
}

#[tokio::test]
async fn a_secured_cluster_of_three_survives_a_member() -> Result<()> {
    let cluster = Cluster::start(ClusterOptions::three().secured()).await?;
    let revision = cluster.put("/registry/a", "one").await?;
    assert_eq!(cluster.revision().await?, revision);
    for member in 0..3 {
        cluster.kill_member(member)?;
        assert!(!cluster.healthy(member).await);
        await_true("the others serve", PATIENCE, || async {
            Ok(cluster.put("/registry/a", format!("without {member}")).await.is_ok())
        })
        .await?;
        cluster.restart_member(member).await?;
    }
    let found = cluster.get("/registry/a").await?.expect("the key is there");
    assert_eq!(found.value, "without 2");
    cluster.delete("/registry/a").await?;
    assert!(cluster.get("/registry/a").await?.is_none());
    assert!(cluster.etcdctl(&["endpoint", "health"]).await.is_ok());
    Ok(())
}

#[tokio::test]
async fn a_secured_cluster_refuses_unknown_clients() -> Result<()> {
    let cluster = Cluster::start(ClusterOptions { version: EtcdVersion::V3_5, ..Default::default() }.secured()).await?;
    let flags = cluster.flags(Side::Standby).join(" ");
    for flag in ["endpoints=https://", "cacert=", "cert=", "key=", "user=", "password-file="] {
        assert!(flags.contains(&format!("--standby-{flag}")), "{flags}");
    }
    let mut options = cluster.store_options(Side::Standby);
    options.auth = None;
    let unknown = Etcd::new(options)?;
    assert!(unknown.get(b"a").await.is_err(), "without a password etcd answered");
    Ok(())
}

#[tokio::test]
async fn a_paused_member_answers_again_when_resumed() -> Result<()> {
    let cluster = Cluster::start(ClusterOptions::three()).await?;
    cluster.put("a", "1").await?;
    cluster.pause_member(1)?;
    assert!(!cluster.healthy(1).await);
    cluster.resume_member(1)?;
    await_true("the member is healthy", PATIENCE, || async { Ok(cluster.healthy(1).await) }).await
}

#[tokio::test]
async fn a_snapshot_restores_elsewhere_and_in_place() -> Result<()> {
    let cluster = Cluster::start(ClusterOptions { tls: true, auth: true, ..Default::default() }).await?;
    cluster.put("a", "before").await?;
    let revision = cluster.revision().await?;
    let folder = tempfile::tempdir()?;
    let snapshot = folder.path().join("snapshot.db");
    cluster.snapshot_save(&snapshot).await?;
    cluster.put("a", "after").await?;

    let elsewhere = Cluster::restore(&snapshot, ClusterOptions::three().secured()).await?;
    assert_eq!(elsewhere.get("a").await?.expect("restored").value, "before");
    assert_ne!(cluster_id(&elsewhere).await?, cluster_id(&cluster).await?);

    let id = cluster_id(&cluster).await?;
    cluster.restore_in_place(&snapshot).await?;
    assert_eq!(cluster.get("a").await?.expect("restored").value, "before");
    assert_eq!(cluster.revision().await?, revision);
    assert_eq!(cluster_id(&cluster).await?, id);
    Ok(())
}

#[tokio::test]
async fn a_compaction_and_a_full_disk_can_be_had() -> Result<()> {
    let cluster = Cluster::start(ClusterOptions { quota_bytes: Some(4 << 20), ..Default::default() }).await?;
    let first = cluster.put("a", "1").await?;
    let last = cluster.put("a", "2").await?;
    cluster.compact(last).await?;
    let store = cluster.store(Side::Primary)?;
    assert!(dump(&store, &KeyRange::prefix(b"a"), first).await.is_err(), "the revision is compacted");
    let mut written = 0;
    while cluster.put(format!("big-{written}"), vec![b'x'; 1 << 20]).await.is_ok() {
        written += 1;
        ensure!(written < 20, "the quota does not hold");
    }
    assert!(cluster.etcdctl(&["alarm", "list"]).await?.contains("NOSPACE"));
    assert!(cluster.healthy(0).await, "reads go on");
    Ok(())
}

#[tokio::test]
async fn loading_and_dumping_agree_at_a_revision() -> Result<()> {
    let cluster = Cluster::start(ClusterOptions::default()).await?;
    let store = cluster.store(Side::Primary)?;
    let items = data::kubernetes(42, 5000);
    let expected: BTreeMap<Bytes, Bytes> = items.iter().cloned().map(|(k, v)| (k.into(), v.into())).collect();
    let loaded = load(&store, items, 4).await?;
    println!(
        "loaded {} keys, {} bytes, {} transactions in {:?}",
        loaded.keys, loaded.bytes, loaded.transactions, loaded.elapsed
    );
    assert_eq!(loaded.keys, 5000);
    let revision = cluster.revision().await?;
    let before = dump(&store, &registry(), 0).await?;
    assert_eq!(before.len(), expected.len());
    assert!(before.iter().all(|(key, kv)| expected.get(key) == Some(&kv.value)));

    let keys: Vec<Bytes> = expected.keys().take(50).cloned().collect();
    let options = WriterOptions { per_second: 0.0, changes_per_txn: 4, ..WriterOptions::new(keys) };
    let writer = Writer::start(store.clone(), options);
    await_true("the writer has written", PATIENCE, || async { Ok(writer.transactions() >= 50) }).await?;
    let written = writer.stop().await?;
    assert!(written.puts > 50 && written.deletes > 5 && written.errors == 0, "{written:?}");

    assert!(Difference::between(&before, &dump(&store, &registry(), revision).await?).is_empty());
    let now = Difference::between(&before, &dump(&store, &registry(), 0).await?);
    assert!(!now.mismatched.is_empty() && now.surplus.is_empty(), "{now}");
    Ok(())
}

#[tokio::test]
async fn a_daemon_is_watched_paused_and_ended() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let program = folder.path().join("program");
    let script =
        "#!/bin/bash\ntrap 'echo bye >&2; exit 7' TERM\necho \"hello $1 $WORD\" >&2\nwhile true; do sleep 0.02; done\n";
    std::fs::write(&program, script)?;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;

    let daemon = Daemon::start_program(&program, &[], &[("WORD", "world")])?;
    assert_eq!(daemon.wait_line("hello", PATIENCE).await?, "hello run world");
    let mark = daemon.mark();
    assert!(daemon.wait_line_from(mark, "hello", Duration::from_millis(60)).await.is_err());
    daemon.pause()?;
    assert!(daemon.terminate(Duration::from_millis(100)).await.is_err(), "a paused process cannot end");
    daemon.resume()?;
    assert_eq!(daemon.wait(PATIENCE).await?.code(), Some(7));
    assert_eq!(daemon.wait_line_from(mark, "bye", PATIENCE).await?, "bye");
    assert_eq!(std::fs::read_to_string(daemon.log_file())?, "hello run world\nbye\n");
    let started = Instant::now();
    assert!(daemon.wait_line("never", PATIENCE).await.is_err());
    assert!(started.elapsed() < PATIENCE / 2, "the end of the process ends the wait");
    Ok(())
}

#[tokio::test]
async fn a_panic_leaves_nothing_behind() -> Result<()> {
    let cluster = Cluster::start(ClusterOptions::three()).await?;
    let folder = cluster.data_dir(0).parent().expect("a folder").to_owned();
    let endpoint = cluster.endpoint(0);
    let outcome = tokio::spawn(async move {
        let _cluster = cluster;
        panic!("on purpose");
    });
    assert!(outcome.await.is_err());
    assert!(!folder.exists());
    let address = endpoint.trim_start_matches("http://").to_owned();
    assert!(std::net::TcpStream::connect(address).is_err(), "a member still listens");
    Ok(())
}

async fn cluster_id(cluster: &Cluster) -> Result<String> {
    let status: serde_json::Value =
        serde_json::from_str(&cluster.etcdctl_at(0, &["endpoint", "status", "-w", "json"]).await?)?;
    Ok(status[0]["Status"]["header"]["cluster_id"].to_string())
}
