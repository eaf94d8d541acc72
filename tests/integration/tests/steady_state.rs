//! Steady state: every kind of change arrives, in order, whole, and exactly once, whatever dies meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use etcd_sync_core::etcd::kv::{Event, Revision, printable};
use etcd_sync_core::etcd::request::{Op, Txn};
use etcd_sync_core::link::state::Checkpoint;
use etcd_sync_integration::client::Client;
use etcd_sync_integration::compare::{Difference, await_true, dump};
use etcd_sync_integration::daemon::Daemon;
use etcd_sync_integration::data::Random;
use etcd_sync_integration::etcd::{Cluster, ClusterOptions};
use etcd_sync_integration::exact::{Keys, PATIENCE, default_scope, put_all, single};
use etcd_sync_integration::link::{Link, config_keys, history, registry};
use etcd_sync_integration::load::{Writer, WriterOptions};
use etcd_sync_integration::tools::EtcdVersion;

const SYNCED: &str = "Start Sync update";

#[tokio::test]
async fn every_kind_of_change_arrives() -> Result<()> {
    changes_arrive(EtcdVersion::V3_6).await
}

#[tokio::test]
async fn every_kind_of_change_arrives_3_5() -> Result<()> {
    changes_arrive(EtcdVersion::V3_5).await
}

async fn changes_arrive(version: EtcdVersion) -> Result<()> {
    let link = Link::start(single(version), single(version)).await?;
    put_all(&link.primary, &config_keys(50)).await?;
    let daemon = streaming(&link).await?;
    let client = link.primary.client();
    let begin = link.standby.revision().await? + 1;

    // Puts, overwrites, deletes, transactions of all three.
    let random = WriterOptions { per_second: 300.0, changes_per_txn: 8, ..WriterOptions::new(config_keys(300)) };
    let writer = Writer::start(client.clone(), random);
    await_true("the writer has written", PATIENCE, || async { Ok(writer.transactions() >= 200) }).await?;
    link.verify(&Keys::new()).await?;
    ensure!(writer.stop().await?.errors == 0);

    leases_stay_behind(&link, &client).await?;
    lives_are_kept_apart(&link, &daemon).await?;
    transactions_stay_whole(&link, &daemon, &client).await?;
    caught_up(&link).await?;

    // Nothing but the link's own marks and keys in scope was ever touched, leases included.
    for event in history(&link.standby.client(), begin).await? {
        let key = event.key();
        let expected = key.starts_with(b"/registry/configmaps/") || key.starts_with(b"/etcd-sync/default/");
        ensure!(expected, "the daemon wrote {}", printable(key));
        if let Event::Put(kv) = &event {
            ensure!(kv.lease == 0 || key.starts_with(&link.keys.leader_prefix), "{} has a lease", printable(key));
        }
    }
    Ok(())
}

async fn leases_stay_behind(link: &Link, client: &Client) -> Result<()> {
    let begin = link.standby.revision().await? + 1;
    let lease = grant(&link.primary).await?;
    let (never, later) = ("/registry/configmaps/apps/leased", "/registry/configmaps/apps/leased-later");
    put_leased(client, never.as_bytes(), lease).await?;
    link.primary.put(later, "plain").await?;
    caught_up(link).await?;
    ensure!(link.standby.get(later).await?.is_some());
    put_leased(client, later.as_bytes(), lease).await?;
    caught_up(link).await?;
    ensure!(link.standby.get(later).await?.is_none(), "a key that came to hang on a lease stayed");
    // Plain once more, it comes back.
    link.primary.put(later, "plain again").await?;
    caught_up(link).await?;
    ensure!(link.standby.get(later).await?.is_some_and(|kv| kv.value == "plain again"));
    let history = history(&link.standby.client(), begin).await?;
    ensure!(history.iter().all(|event| event.key() != never), "a key on a lease came over for a while");
    Ok(())
}

/// A delete and a create of one key are two lives, also when the daemon sees both at once.
async fn lives_are_kept_apart(link: &Link, daemon: &Daemon) -> Result<()> {
    let key = "/registry/configmaps/apps/reborn";
    link.primary.put(key, "first life").await?;
    link.primary.put(key, "first life, changed").await?;
    caught_up(link).await?;
    let first = link.standby.get(key).await?.context("it arrived")?;
    daemon.pause()?;
    // Something to be busy with, so that the lives come in one transaction if they can.
    put_all(&link.primary, &config_keys(20)).await?;
    link.primary.delete(key).await?;
    link.primary.put(key, "second life").await?;
    link.primary.delete(key).await?;
    link.primary.put(key, "third life").await?;
    daemon.resume()?;
    caught_up(link).await?;
    let third = link.standby.get(key).await?.context("it arrived again")?;
    ensure!(third.value == "third life");
    ensure!(third.create_revision == third.mod_revision && third.create_revision > first.mod_revision, "{third:?}");
    let lives = history(&link.standby.client(), first.mod_revision + 1).await?;
    let deaths = lives.iter().filter(|event| matches!(event, Event::Delete { .. }) && event.key() == key).count();
    // The second life began and ended unobserved: it may be missing here.
    ensure!((1..=2).contains(&deaths), "{deaths} deletions");
    Ok(())
}

/// Groups of twenty keys that the primary always changes together: no revision of the standby shows some of them changed,
/// and seven groups are more than a transaction holds.
async fn transactions_stay_whole(link: &Link, daemon: &Daemon, client: &Client) -> Result<()> {
    const KEYS: usize = 20;
    const GROUPS: usize = 9;
    let begin = link.standby.revision().await? + 1;
    for round in 0..60 {
        // Slowly, fast, and all at once.
        match round {
            10 => daemon.pause()?,
            40 => daemon.resume()?,
            0..10 => caught_up(link).await?,
            _ => {}
        }
        let put = |i| {
            let key = format!("/registry/configmaps/apps/atomic-{}-{i:02}", round % GROUPS).into();
            Op::Put { key, value: format!("round {round}").into(), lease: 0 }
        };
        client.txn(Txn { success: (0..KEYS).map(put).collect(), ..Txn::default() }).await?;
    }
    caught_up(link).await?;
    let mut groups: BTreeMap<(Revision, Bytes), Vec<Bytes>> = BTreeMap::new();
    for event in history(&link.standby.client(), begin).await? {
        if let Event::Put(kv) = event
            && kv.key.starts_with(b"/registry/configmaps/apps/atomic-")
        {
            let group = kv.key.slice(..kv.key.len() - 3);
            groups.entry((kv.mod_revision, group)).or_default().push(kv.value);
        }
    }
    ensure!(groups.len() > 10, "only {} groups: nothing was seen of the slow ones", groups.len());
    for ((revision, _), values) in &groups {
        let same = values.iter().collect::<BTreeSet<_>>().len() == 1;
        ensure!(same && values.len() == KEYS, "revision {revision} of the standby shows a part of a transaction");
    }
    Ok(())
}

#[tokio::test]
async fn goes_on_while_members_die() -> Result<()> {
    survives_members(EtcdVersion::V3_6).await
}

#[tokio::test]
async fn goes_on_while_members_die_3_5() -> Result<()> {
    survives_members(EtcdVersion::V3_5).await
}

async fn survives_members(version: EtcdVersion) -> Result<()> {
    let three = ClusterOptions { version, ..ClusterOptions::three() };
    let link = Link::start(three.clone(), three).await?;
    put_all(&link.primary, &config_keys(20)).await?;
    let daemon = streaming(&link).await?;
    let random = WriterOptions { per_second: 60.0, changes_per_txn: 4, ..WriterOptions::new(config_keys(200)) };
    let writer = Writer::start(link.primary.client(), random);
    // Each in turn: whichever the daemon uses is among them.
    for member in 0..3 {
        link.primary.kill_member(member)?;
        link.standby.kill_member(member)?;
        let before = writer.transactions();
        await_true("the primary takes writes again", PATIENCE, || async { Ok(writer.transactions() > before + 20) })
            .await?;
        let head = link.primary.revision().await?;
        link.await_passed(head, PATIENCE)
            .await
            .with_context(|| format!("without member {member}: {}", daemon.tail()))?;
        tokio::try_join!(link.primary.restart_member(member), link.standby.restart_member(member))?;
    }
    writer.stop().await?;
    caught_up(&link).await?;
    ensure!(daemon.exited()?.is_none(), "the daemon ended");
    let leads = daemon.lines().iter().filter(|line| line.contains("Acquired leader lease")).count();
    ensure!(leads == 1, "it lost its leadership over one dead member:\n{}", daemon.tail());
    Ok(())
}

/// Revisions of 5,000 changes, far more than a transaction holds: puts in one transaction of a primary that allows it, a
/// deletion by prefix, the end of a lease.
#[tokio::test]
async fn huge_revisions_arrive_whole() -> Result<()> {
    let link = Link::start(huge_primary(), single(EtcdVersion::V3_6)).await?;
    put_all(&link.primary, &config_keys(5)).await?;
    let daemon = streaming(&link).await?;
    let client = link.primary.client();
    let begin = link.standby.revision().await? + 1;
    let written = put_at_once(&client, 1000, "one").await?;
    caught_up(&link).await?;
    let lease = grant(&link.primary).await?;
    let leased = |i: usize| Op::Put { key: huge_key(2000 + i), value: "leased".into(), lease };
    client.txn(Txn { success: (0..1000).map(leased).collect(), ..Txn::default() }).await?;
    let gone = link.primary.etcdctl(&["del", "--prefix", "/registry/configmaps/huge/k-0"]).await?;
    ensure!(gone.trim() == "1000", "{gone}");
    caught_up(&link).await?;
    link.primary.etcdctl(&["lease", "revoke", &format!("{lease:x}")]).await?;
    caught_up(&link).await?;
    put_all(&link.primary, &config_keys(7)).await?;
    caught_up(&link).await?;

    let events = history(&link.standby.client(), begin).await?;
    let (mut puts, mut deletes) = (0, 0);
    for event in events.iter().filter(|event| event.key().starts_with(b"/registry/configmaps/huge/")) {
        match event {
            Event::Put(_) => puts += 1,
            Event::Delete { .. } => deletes += 1,
        }
    }
    ensure!((puts, deletes) == (1000, 1000), "{puts} puts and {deletes} deletions of 1,000 each");
    let inside = link.checkpoints(&events)?.into_iter().filter(|(_, record)| record.offset > 0);
    ensure!(inside.clone().any(|(_, record)| record.revision == written), "the record never stood inside the revision");
    drop(daemon);
    Ok(())
}

/// Killed inside such a revision, the daemon goes on at the very change where it stopped.
#[tokio::test]
async fn a_kill_inside_a_huge_revision_leaves_no_trace() -> Result<()> {
    const KEYS: usize = 5000;
    let link = Link::start(huge_primary(), single(EtcdVersion::V3_6)).await?;
    put_all(&link.primary, &config_keys(5)).await?;
    let client = link.primary.client();
    let mut daemon = streaming(&link).await?;
    let begin = link.standby.revision().await? + 1;
    let mut inside = 0;
    for round in 0..6 {
        let deletes = round % 2 == 1;
        let kill = kill_inside(&link, &daemon);
        let write = async {
            match deletes {
                false => put_at_once(&client, KEYS, &format!("round {round}")).await,
                true => delete_prefix(&link.primary).await,
            }
        };
        let (revision, ()) = tokio::try_join!(write, kill)?;
        let record = link.checkpoint().await?.context("there is a record")?;
        inside += usize::from(record.revision == revision && record.offset > 0);
        link.expire_leader().await?;
        // It is a mass deletion, and on purpose.
        daemon = link.daemon(&["--brake-keys=0", "--brake-resource-keys=0"])?;
        caught_up(&link).await.with_context(|| format!("round {round}"))?;
    }
    ensure!(inside >= 2, "only {inside} of 6 kills fell into the revision");
    // Every key three times created and three times deleted, and nothing more.
    let mut puts: BTreeMap<Bytes, (usize, usize)> = BTreeMap::new();
    for event in history(&link.standby.client(), begin).await? {
        if event.key().starts_with(b"/registry/configmaps/huge/") {
            let count = puts.entry(event.key().clone()).or_default();
            match event {
                Event::Put(_) => count.0 += 1,
                Event::Delete { .. } => count.1 += 1,
            }
        }
    }
    ensure!(puts.len() == KEYS);
    let wrong = puts.iter().find(|(_, count)| **count != (3, 3));
    if let Some((key, count)) = wrong {
        bail!("{} was put and deleted {count:?} times instead of 3 and 3", printable(key));
    }
    let log = daemon.lines().join("\n");
    ensure!(!log.contains("resync"), "{log}");
    Ok(())
}

/// Up to the largest value that the primary takes, in a first sync and after it; what the standby cannot take is named.
#[tokio::test]
async fn values_near_the_limit_are_copied_or_named() -> Result<()> {
    let link = Link::start(single(EtcdVersion::V3_6), single(EtcdVersion::V3_6)).await?;
    let mut random = Random::new(9);
    let mut too_large = Vec::new();
    for when in ["before", "after"] {
        let key = |what: &str| format!("/registry/configmaps/apps/{when}-{what}");
        link.primary.put(key("large"), random.text(1_400_000)).await?;
        too_large.push(Bytes::from(key("largest")));
        let size = put_largest(&link.primary, &key("largest"), &mut random).await?;
        ensure!(size > 1_500_000, "the primary takes only {size} bytes");
        link.primary.put(key("small"), "one").await?;
        if when == "before" {
            let daemon = link.daemon(&[])?;
            daemon.wait_line(SYNCED, PATIENCE).await?;
            named_or_there(&link, &daemon, &too_large).await?;
            daemon.terminate(PATIENCE).await?;
        }
    }
    let daemon = link.daemon(&[])?;
    named_or_there(&link, &daemon, &too_large[1..]).await?;
    link.primary.put("/registry/configmaps/apps/afterwards", "still alive").await?;
    link.await_passed(link.primary.revision().await?, PATIENCE).await?;
    ensure!(link.standby.get("/registry/configmaps/apps/afterwards").await?.is_some());
    Ok(())
}

/// Each of `keys` is there with the primary's value, or the log of `daemon` names it; everything else is there.
async fn named_or_there(link: &Link, daemon: &Daemon, keys: &[Bytes]) -> Result<()> {
    link.await_passed(link.primary.revision().await?, PATIENCE).await?;
    let (primary, standby) = (link.primary.client(), link.standby.client());
    let difference =
        Difference::between(&dump(&primary, &registry(), 0).await?, &dump(&standby, &registry(), 0).await?);
    println!("after a value near the limit: {difference}");
    ensure!(difference.surplus.is_empty(), "{difference}");
    // A key that could not be overwritten keeps its old value.
    for key in difference.missed.iter().chain(&difference.mismatched) {
        let name = printable(key);
        let named = |line: &String| line.contains("does not fit a transaction") && line.contains(&name);
        // Named at the time it came; an earlier daemon has said so of earlier ones.
        ensure!(!keys.contains(key) || daemon.lines().iter().any(named), "{name} is missed and not named");
        ensure!(name.ends_with("-largest"), "{name} is missed");
    }
    Ok(())
}

#[tokio::test]
async fn odd_keys_arrive() -> Result<()> {
    let link = Link::start(single(EtcdVersion::V3_6), single(EtcdVersion::V3_6)).await?;
    let long = format!("/registry/configmaps/apps/{}", "x".repeat(1024));
    let odd: Vec<&[u8]> = vec![
        b"/registry/\x00",
        b"/registry/\xff",
        b"/registry/\xff\xff\xff",
        b"/registry/configmaps/apps/\x00zero\x00",
        b"/registry/configmaps/apps/\xc3\x28 not utf-8",
        b"/registry/configmaps/apps/a b\n\"'\\",
        b"/registry/configmaps//",
        b"/registry///",
        "/registry/configmaps/apps/größe-🦀".as_bytes(),
        long.as_bytes(),
    ];
    let scope = default_scope()?;
    ensure!(odd.iter().all(|key| scope.in_scope(key)), "the test asks for keys out of scope");
    // One half is there before the first sync.
    put_all(&link.primary, &odd[..5]).await?;
    let daemon = streaming(&link).await?;
    ensure!(link.verify(&Keys::new()).await?.keys.len() == 5);
    put_all(&link.primary, &odd).await?;
    link.primary.put("/registry/configmaps/apps/empty", "").await?;
    // Just outside of the prefix.
    put_all(&link.primary, &[&b"/registry"[..], b"/registry0", b"/registr\xff"]).await?;
    caught_up(&link).await?;
    ensure!(link.standby.get("/registry/configmaps/apps/empty").await?.is_some_and(|kv| kv.value.is_empty()));
    for outside in ["/registry", "/registry0"] {
        ensure!(link.standby.get(outside).await?.is_none(), "{outside} came over");
    }
    for key in &odd {
        link.primary.delete(key).await?;
    }
    caught_up(&link).await?;
    ensure!(link.verify(&Keys::new()).await?.keys.len() == 1);
    drop(daemon);
    Ok(())
}

async fn streaming(link: &Link) -> Result<Daemon> {
    let daemon = link.daemon(&[])?;
    daemon.wait_line(SYNCED, PATIENCE).await?;
    Ok(daemon)
}

/// Waits for the primary's present revision, then compares. The standby has nothing of its own in these tests.
async fn caught_up(link: &Link) -> Result<()> {
    link.await_passed(link.primary.revision().await?, PATIENCE).await?;
    link.verify(&Keys::new()).await.map(drop)
}

/// A primary whose transactions may hold any number of operations.
fn huge_primary() -> ClusterOptions {
    ClusterOptions { extra_args: vec!["--max-txn-ops=10000".to_owned()], ..single(EtcdVersion::V3_6) }
}

fn huge_key(i: usize) -> Bytes {
    format!("/registry/configmaps/huge/k-{i:04}").into()
}

/// One transaction, one revision.
async fn put_at_once(client: &Client, count: usize, value: &str) -> Result<Revision> {
    let put = |i| Op::Put { key: huge_key(i), value: format!("{value}, key {i}").into(), lease: 0 };
    Ok(client.txn(Txn { success: (0..count).map(put).collect(), ..Txn::default() }).await?.revision)
}

async fn delete_prefix(cluster: &Cluster) -> Result<Revision> {
    cluster.etcdctl(&["del", "--prefix", "/registry/configmaps/huge/"]).await?;
    cluster.revision().await
}

/// Kills the daemon as soon as the record stands inside a revision.
async fn kill_inside(link: &Link, daemon: &Daemon) -> Result<()> {
    let client = link.standby.client();
    let from = link.standby.revision().await? + 1;
    let mut watch = client.watch(etcd_sync_core::etcd::kv::KeyRange::prefix(&link.keys.checkpoint), from).await?;
    loop {
        let next = tokio::time::timeout(PATIENCE, watch.next()).await.context("the record does not move")?;
        for event in next? {
            let Event::Put(kv) = event else { continue };
            if Checkpoint::decode(&kv.value)?.offset > 0 {
                return daemon.kill();
            }
        }
    }
}

async fn grant(cluster: &Cluster) -> Result<i64> {
    let printed = cluster.etcdctl(&["lease", "grant", "600"]).await?;
    let id = printed.split(' ').nth(1).with_context(|| format!("no lease in {printed:?}"))?;
    i64::from_str_radix(id, 16).context("a lease's id is hexadecimal")
}

async fn put_leased(client: &Client, key: &[u8], lease: i64) -> Result<()> {
    let put = Op::Put { key: Bytes::copy_from_slice(key), value: "leased".into(), lease };
    client.txn(Txn { success: vec![put], ..Txn::default() }).await?;
    Ok(())
}

/// Writes the largest value the cluster takes, found by halving with etcd's own limit as the upper end.
async fn put_largest(cluster: &Cluster, key: &str, random: &mut Random) -> Result<usize> {
    let (mut taken, mut refused) = (1_000_000, 1_600_000);
    while refused - taken > 1 {
        let middle = (taken + refused) / 2;
        match cluster.put(key, random.text(middle)).await {
            Ok(_) => taken = middle,
            Err(_) => refused = middle,
        }
    }
    Ok(taken)
}
