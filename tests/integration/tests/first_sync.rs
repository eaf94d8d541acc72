//! The first sync: it is complete and exact, takes nothing of the standby's own, and ends whatever the primary compacts.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use etcd_sync_core::etcd::kv::{KeyRange, KeyValue};
use etcd_sync_integration::compare::dump;
use etcd_sync_integration::daemon::Daemon;
use etcd_sync_integration::data;
use etcd_sync_integration::etcd::{Cluster, ClusterOptions};
use etcd_sync_integration::exact::{Keys, PATIENCE, default_scope, is_synchronized, put_all, single};
use etcd_sync_integration::link::Link;
use etcd_sync_integration::load::{Writer, WriterOptions, load};
use etcd_sync_integration::tools::EtcdVersion;
use etcd_sync_store::Side;

const SYNCED: &str = "Start Sync update";

/// What a standby has of its own: in scope, out of scope, and out of scope under names that the primary uses too.
const OWN_KEYS: [&str; 8] = [
    "/registry/configmaps/standby-team/settings",
    "/registry/platform.tkestack.io/machines/standby-m0",
    "/registry/configmaps/kube-system/kubeadm-config",
    "/registry/minions/192.168.10.1",
    "/registry/masterleases/192.168.10.1",
    "/registry/pods/standby-team/web-0",
    "/registry/secrets/cpaas-system/platform-token",
    "/registry/ranges/serviceips",
];

#[tokio::test]
async fn copies_the_scope_and_nothing_else() -> Result<()> {
    copies_the_scope_exactly(single(EtcdVersion::V3_6), 3000).await
}

#[tokio::test]
async fn copies_the_scope_and_nothing_else_3_5() -> Result<()> {
    copies_the_scope_exactly(single(EtcdVersion::V3_5), 3000).await
}

#[tokio::test]
async fn copies_between_secured_clusters() -> Result<()> {
    copies_the_scope_exactly(single(EtcdVersion::V3_6).secured(), 700).await
}

#[tokio::test]
async fn copies_between_secured_clusters_3_5() -> Result<()> {
    copies_the_scope_exactly(single(EtcdVersion::V3_5).secured(), 700).await
}

async fn copies_the_scope_exactly(options: ClusterOptions, keys: usize) -> Result<()> {
    let link = Link::start(options.clone(), options).await?;
    let items = data::kubernetes(11, keys);
    let scope = default_scope()?;
    let taken = |(key, value): &data::Item| {
        let (key, value) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        is_synchronized(&scope, &KeyValue { key, value, create_revision: 1, mod_revision: 1, lease: 0 })
    };
    let (inside, outside): (Vec<_>, Vec<_>) = items.iter().cloned().partition(taken);
    ensure!(inside.len() > keys / 3 && outside.len() > 80, "{} in scope, {} not", inside.len(), outside.len());
    load(&link.primary.client(), items, 4).await?;
    link.primary.put("compact_rev_key", "the primary's").await?;
    link.primary.put("/elsewhere/key", "the primary's").await?;

    let own = put_all(&link.standby, &OWN_KEYS).await?;
    let root = put_all(&link.standby, &["compact_rev_key"]).await?;
    // In scope on both sides: the primary's wins.
    let (shared, value) = inside.iter().find(|(key, _)| key.starts_with(b"/registry/configmaps/")).context("one")?;
    link.standby.put(shared, "the standby's").await?;

    let daemon = link.daemon(&[])?;
    daemon.wait_line("first sync begins", PATIENCE).await?;
    daemon.wait_line(SYNCED, PATIENCE).await?;
    link.await_passed(link.primary.revision().await?, PATIENCE).await?;
    let standby = link.verify(&own).await?;
    assert_eq!(standby.keys.len(), inside.len() + own.len());
    assert_eq!(standby.keys[&Bytes::copy_from_slice(shared)].value, *value);

    // Beyond /registry/ only the state of the link and of the standby was written.
    let everything = KeyRange { start: Bytes::from_static(b"\0"), end: Bytes::new() };
    let mut rest = dump(&link.standby.client(), &everything, 0).await?;
    rest.retain(|key, _| !key.starts_with(b"/registry/") && !key.starts_with(b"/etcd-sync/"));
    assert_eq!(rest, root);
    let log = daemon.lines().join("\n");
    assert!(!log.contains("ERROR"), "{log}");
    Ok(())
}

/// Everything right but one thing: the log names the wrong flag, and a fixed file ends the pause.
#[tokio::test]
async fn a_wrong_password_or_authority_is_named() -> Result<()> {
    let options = single(EtcdVersion::V3_6).secured();
    let link = Link::start(options.clone(), options).await?;
    link.primary.put("/registry/configmaps/apps/a", "one").await?;
    let folder = tempfile::tempdir()?;
    let flags = link.flags(&[]);
    let file_of = |flag: &str| -> Result<PathBuf> {
        let value = flags.iter().find_map(|given| given.strip_prefix(&format!("--{flag}=")));
        value.map(PathBuf::from).with_context(|| format!("no --{flag}"))
    };
    let replaced = |flag: &str, file: &std::path::Path| -> Vec<String> {
        let start = format!("--{flag}=");
        let swap = |given: &String| match given.starts_with(&start) {
            true => format!("{start}{}", file.display()),
            false => given.clone(),
        };
        flags.iter().map(swap).collect()
    };
    for side in [Side::Standby, Side::Primary] {
        let other = if side == Side::Primary { Side::Standby } else { Side::Primary };
        // The other cluster's authority is a good one, only not of this side.
        let flag = format!("{side}-cacert");
        let daemon = Daemon::start(&replaced(&flag, &file_of(&format!("{other}-cacert"))?), &[])?;
        let line = daemon.wait_line(&format!("--{flag}"), PATIENCE).await?;
        assert!(line.contains("not signed by"), "{line}");
        assert!(line.contains(&format!("the {side} etcd at")), "{line}");
        assert!(daemon.exited()?.is_none(), "it waits for the file to be fixed");
        drop(daemon);
        link.expire_leader().await?;

        let flag = format!("{side}-password-file");
        let wrong = folder.path().join(&flag);
        std::fs::write(&wrong, "not the password\n")?;
        let daemon = Daemon::start(&replaced(&flag, &wrong), &[])?;
        let line = daemon.wait_line(&format!("--{flag}"), PATIENCE).await?;
        assert!(line.contains(&format!("authentication failed at the {side} etcd at")), "{line}");
        assert!(!daemon.lines().iter().any(|line| line.contains("not the password")), "a password was logged");
        assert!(link.checkpoint().await?.is_none() && link.standby.get("/registry/configmaps/apps/a").await?.is_none());
        if side == Side::Primary {
            std::fs::copy(file_of(&flag)?, &wrong)?;
            daemon.wait_line(SYNCED, PATIENCE).await?;
            link.verify(&Keys::new()).await?;
        }
        drop(daemon);
        link.expire_leader().await?;
    }
    Ok(())
}

/// No snapshot lasts a second here, and the copy takes several.
#[tokio::test]
async fn ends_although_the_primary_is_compacted_all_the_time() -> Result<()> {
    const KEYS: usize = 30_000;
    let link = Link::start(single(EtcdVersion::V3_6), single(EtcdVersion::V3_6)).await?;
    let client = link.primary.client();
    let mut random = data::Random::new(5);
    let items: Vec<data::Item> = (0..KEYS)
        .map(|i| {
            (format!("/registry/configmaps/team-{:02}/c-{i}", i % 40).into_bytes(), random.text(1024).into_bytes())
        })
        .collect();
    let keys: Vec<Bytes> = items.iter().map(|(key, _)| Bytes::copy_from_slice(key)).collect();
    load(&client, items, 4).await?;
    let own = put_all(&link.standby, &OWN_KEYS).await?;

    let options =
        WriterOptions { per_second: 150.0, changes_per_txn: 5, delete_percent: 30, ..WriterOptions::new(keys) };
    let writer = Writer::start(client, options);
    let compactions = AtomicU64::new(0);
    let daemon = link.daemon(&["--transactions-in-flight=1"])?;
    let syncing = async {
        daemon.wait_line("first sync begins", PATIENCE).await?;
        let before = (compactions.load(Ordering::Relaxed), writer.transactions());
        // A slow daemon, however fast the machine: stopped most of the time until three compactions have passed it.
        let passed = async || {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Ok(compactions.load(Ordering::Relaxed) >= before.0 + 3)
        };
        daemon.run_in_slices("three compactions have passed", passed).await?;
        daemon.resume()?;
        daemon.wait_line(SYNCED, PATIENCE).await?;
        let compactions = compactions.load(Ordering::Relaxed) - before.0;
        let transactions = writer.transactions() - before.1;
        println!("{compactions} compactions and {transactions} transactions of the primary during the first sync");
        ensure!(compactions >= 2, "only {compactions} compactions during the first sync: the test proves nothing");
        ensure!(transactions > 20, "only {transactions} transactions during the first sync");
        // It goes on like that, and the daemon keeps up with it.
        link.await_passed(link.primary.revision().await?, PATIENCE).await
    };
    tokio::select! {
        synced = syncing => synced?,
        failed = compact_every_second(&link.primary, &compactions) => failed?,
    }
    let written = writer.stop().await?;
    ensure!(written.errors == 0, "{written:?}");
    link.await_passed(link.primary.revision().await?, PATIENCE).await?;
    link.verify(&own).await?;
    Ok(())
}

/// Values that no Kubernetes API server wrote: ten are named, all are counted and copied.
#[tokio::test]
async fn many_values_that_are_no_objects_are_few_lines() -> Result<()> {
    const KEYS: usize = 2_000;
    let link = Link::start(ClusterOptions::default(), ClusterOptions::default()).await?;
    let items =
        (0..KEYS).map(|i| (format!("/registry/configmaps/apps/c-{i}").into_bytes(), format!("{i}").into_bytes()));
    load(&link.primary.client(), items.collect(), 4).await?;
    let daemon = link.daemon(&[])?;
    daemon.wait_line(SYNCED, PATIENCE).await?;
    link.verify(&Keys::new()).await?;
    let lines: Vec<String> = daemon.lines().into_iter().filter(|line| line.contains("cannot be decoded")).collect();
    ensure!(lines.len() == 12, "{} lines:\n{}", lines.len(), daemon.tail());
    ensure!(lines[11].contains("count=1000"), "{}", lines[11]);
    assert_eq!(daemon.metric("etcd_sync_undecodable_total").await, Some(KEYS as f64));
    Ok(())
}

/// Compacts a cluster to its head every second, forever.
async fn compact_every_second(cluster: &Cluster, compactions: &AtomicU64) -> Result<()> {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    loop {
        second.tick().await;
        cluster.compact(cluster.revision().await?).await?;
        compactions.fetch_add(1, Ordering::Relaxed);
    }
}
