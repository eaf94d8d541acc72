//! Members of one etcd that hold different data are found, and what cannot be asked is said.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use etcd_sync_core::link::members::Agreement;
use etcd_sync_integration::compare::await_until;
use etcd_sync_integration::etcd::{Cluster, ClusterOptions};
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::link::{Link, config_keys};
use etcd_sync_integration::toxiproxy::{NetworkProfile, Toxiproxy};
use etcd_sync_store::{Auth, Etcd, Options, Side};
use serde_json::Value;

/// A path that changes nothing but the address.
const WIDE: NetworkProfile = NetworkProfile { round_trip: Duration::ZERO, bytes_per_second: 100_000_000 };

/// A snapshot of a cluster of its own that holds these values of the same keys, one revision each.
async fn snapshot(folder: &Path, name: &str, values: &[&str]) -> Result<std::path::PathBuf> {
    let cluster = Cluster::start(ClusterOptions::default()).await?;
    for (key, value) in config_keys(values.len()).iter().zip(values) {
        cluster.put(key, value).await?;
    }
    let path = folder.join(name);
    cluster.snapshot_save(&path).await?;
    Ok(path)
}

/// Makes the last member of three hold another value than the others, at the same revision.
async fn part(cluster: &Cluster) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (same, other) =
        tokio::try_join!(snapshot(folder.path(), "same", &["a", "b"]), snapshot(folder.path(), "other", &["a", "X"]))?;
    cluster.restore_apart(&[&same, &same, &other]).await
}

fn store(endpoints: Vec<String>) -> Result<Etcd> {
    Etcd::new(Options::new(Side::Primary, endpoints)).context("a client")
}

fn agree(asked: usize) -> Agreement {
    Agreement::Agree { asked, not_asked: Vec::new() }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_agree_are_all_asked_through_one_endpoint_also_after_a_compaction() -> Result<()> {
    let cluster = Cluster::start(ClusterOptions::three()).await?;
    for key in config_keys(20) {
        cluster.put(&key, "first").await?;
        cluster.put(&key, "second").await?;
    }
    let etcd = store(vec![cluster.endpoint(1)])?;
    assert_eq!(etcd.members_agree().await?, agree(3));
    cluster.compact(cluster.revision().await? - 5).await?;
    assert_eq!(etcd.members_agree().await?, agree(3));

    // While one is away the others are compared, and it is named.
    cluster.kill_member(2)?;
    let away = cluster.endpoint(2);
    // It may have been the leader: until there is another one, none can be asked.
    await_until("the two that are left agree", PATIENCE, || async {
        Ok(match etcd.members_agree().await? {
            Agreement::Agree { asked: 2, not_asked } if not_asked.len() == 1 && not_asked[0].0 == away => None,
            Agreement::Disagree { .. } => anyhow::bail!("they disagree"),
            other => Some(format!("{other:?}")),
        })
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn compactions_and_writes_meanwhile_raise_no_alarm() -> Result<()> {
    let cluster = Cluster::start(ClusterOptions::three()).await?;
    let etcd = cluster.store(Side::Primary)?;
    let keys = config_keys(50);
    let busy = async {
        for round in 0.. {
            for key in &keys {
                cluster.put(key, round.to_string()).await?;
            }
            cluster.compact(cluster.revision().await? - 7).await?;
        }
        anyhow::Ok(())
    };
    let look = async {
        for _ in 0..8 {
            let agreement = etcd.members_agree().await?;
            ensure!(!matches!(agreement, Agreement::Disagree { .. }), "{agreement:?}");
        }
        Ok(())
    };
    tokio::select! {
        looked = look => looked,
        busy = busy => busy,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hides_the_members_is_said_and_never_bypassed() -> Result<()> {
    let cluster = Cluster::start(ClusterOptions::three()).await?;
    part(&cluster).await?;
    // A load balancer: what it hides may be closed for us, or be another network.
    let port = |index| -> Result<u16> {
        let endpoint: String = cluster.endpoint(index);
        Ok(endpoint.rsplit(':').next().context("a port")?.parse()?)
    };
    let balancer = Toxiproxy::start(port(0)?, WIDE).await?;
    let etcd = store(vec![format!("http://127.0.0.1:{}", balancer.port())])?;
    let Agreement::NotAsked(why) = etcd.members_agree().await? else { anyhow::bail!("members were asked") };
    ensure!(why.contains("load balancer"), "{why}");

    // Each member behind an address of its own is as good as its own.
    let another = Toxiproxy::start(port(2)?, WIDE).await?;
    let ways = [&balancer, &another].map(|way| format!("http://127.0.0.1:{}", way.port()));
    let agreement = store(ways.to_vec())?.members_agree().await?;
    // They come in the order of the member list.
    let Agreement::Disagree { majority, mut odd } = agreement else { anyhow::bail!("{agreement:?}") };
    odd.sort_unstable_by_key(|way| *way != ways[0]);
    assert_eq!((majority, odd), (Vec::new(), ways.to_vec()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_role_root_nothing_fails() -> Result<()> {
    let cluster = Cluster::start(ClusterOptions { auth: true, ..ClusterOptions::three() }).await?;
    assert_eq!(cluster.store(Side::Primary)?.members_agree().await?, agree(3));
    for args in [
        &["role", "add", "reader"][..],
        &["role", "grant-permission", "reader", "read", "", "--prefix"],
        &["user", "add", "reader:secret"],
        &["user", "grant-role", "reader", "reader"],
    ] {
        cluster.etcdctl(args).await?;
    }
    let password = tempfile::NamedTempFile::new()?;
    std::fs::write(password.path(), "secret")?;
    let auth = Some(Auth { user: "reader".into(), password_file: password.path().to_owned() });
    let etcd = Etcd::new(Options { auth, ..Options::new(Side::Primary, cluster.endpoints()) })?;
    let Agreement::NotAsked(why) = etcd.members_agree().await? else { anyhow::bail!("they were asked") };
    ensure!(why.contains("role root"), "{why}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_counts_other_revisions_is_odd() -> Result<()> {
    let cluster = Cluster::start(ClusterOptions::three()).await?;
    let folder = tempfile::tempdir()?;
    let (same, other) = tokio::try_join!(
        snapshot(folder.path(), "same", &["a", "b", "c"]),
        snapshot(folder.path(), "other", &["a", "b"])
    )?;
    cluster.restore_apart(&[&same, &other, &same]).await?;
    let agreement = cluster.store(Side::Primary)?.members_agree().await?;
    let Agreement::Disagree { mut majority, odd } = agreement else { anyhow::bail!("{agreement:?}") };
    majority.sort_unstable();
    let mut expected = [cluster.endpoint(0), cluster.endpoint(2)];
    expected.sort_unstable();
    assert_eq!((&majority[..], odd), (&expected[..], vec![cluster.endpoint(1)]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn preflight_drill_and_monitor_name_the_odd_member() -> Result<()> {
    let three = ClusterOptions { extra_args: vec!["--strict-reconfig-check=false".into()], ..ClusterOptions::three() };
    let mut link = Link::start(three, ClusterOptions::default()).await?;
    part(&link.primary).await?;
    let (odd, right) = (link.primary.endpoint(2), link.primary.endpoint(0));
    for command in ["preflight", "drill"] {
        let output = link.run(command, &["-o=json"]).await?;
        let document: Value = serde_json::from_str(&output.stdout).with_context(|| format!("{output:?}"))?;
        let findings = match command {
            "preflight" => &document["findings"],
            _ => &document["drill"]["parts"][0]["trials"],
        };
        let found = findings.as_array().context("findings")?;
        let text = found.iter().find(|one| one["check"] == "members" || one["name"] == "members").context("no row")?;
        ensure!(text["level"] == "fail", "{command}: {text}");
        let text = text.to_string();
        ensure!(text.contains(&format!("{odd} differs from the majority")) && text.contains(&right), "{text}");
    }
    // A failover is not stopped by it: the primary is gone, and its members with it.
    let output = link.run("preflight", &["-o=json", "--for=failover"]).await?;
    let document: Value = serde_json::from_str(&output.stdout)?;
    let found = document["findings"].as_array().context("findings")?;
    let text = found.iter().find(|one| one["check"] == "members").context("no row")?;
    ensure!(text["level"] == "pass" && text["evidence"].to_string().contains("one member"), "{text}");

    let monitor = link.monitor(&["--members-check-interval=1s"])?;
    let shows = async |line: &str| {
        await_until(&format!("the monitor shows {line}"), PATIENCE, || async {
            let (_, page) = monitor.http("/metrics").await?;
            Ok((!page.lines().any(|one| one == line)).then_some(page))
        })
        .await
    };
    shows("etcd_sync_monitor_members_agree{side=\"primary\"} 0").await?;
    shows("etcd_sync_monitor_members_agree{side=\"standby\"} 1").await?;
    let line = monitor.wait_line("do not hold the same", PATIENCE).await?;
    ensure!(line.contains("ERROR") && line.contains(&odd), "{line}");

    // As docs/troubleshooting.md says: out of the cluster, and in again without its data.
    // The new one gets its data from the leader, which must not be the odd one: that one comes back as a follower.
    link.primary.kill_member(2)?;
    for index in [0, 1] {
        await_until("the others have a leader", PATIENCE, || async {
            Ok((!link.primary.healthy(index).await).then(|| format!("member {index} serves nothing")))
        })
        .await?;
    }
    link.primary.restart_member(2).await?;
    link.primary.replace_member(2).await?;
    shows("etcd_sync_monitor_members_agree{side=\"primary\"} 1").await
}
