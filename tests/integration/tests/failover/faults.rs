//! The standby is full or has no quorum, or the journal's copy cannot be written: nothing half done, and a run that goes on.

use std::time::Duration;

use anyhow::{Result, ensure};
use etcd_sync_core::etcd::request::{Op, Txn};
use etcd_sync_integration::etcd::Cluster;
use etcd_sync_operations::procedure::State;
use etcd_sync_store::Side;

use super::flags::DnsFixture;
use super::*;

/// A command gives up on a standby that does not answer, in the end.
const STUBBORN: Duration = Duration::from_secs(240);

/// Two equal clusters, with a standby that is soon full.
async fn small(standby: ClusterOptions) -> Result<(Link, Daemon)> {
    let link = Link::start(ClusterOptions::default(), standby).await?;
    for key in config_keys(40) {
        link.primary.put(&key, "first").await?;
    }
    let daemon = link.daemon(&[])?;
    link.await_caught_up(PATIENCE).await?;
    Ok((link, daemon))
}

fn small_quota() -> ClusterOptions {
    ClusterOptions { quota_bytes: Some(16 << 20), ..ClusterOptions::default() }
}

/// Writes until the alarm is on.
async fn fill(cluster: &Cluster) -> Result<()> {
    let client = cluster.client();
    for i in 0..1_000 {
        let put = Op::Put { key: format!("/junk/{i:04}").into(), value: vec![b'x'; 256 << 10].into(), lease: 0 };
        if client.txn(Txn { success: vec![put], ..Txn::default() }).await.is_err() {
            break;
        }
    }
    let alarms = cluster.etcdctl(&["alarm", "list"]).await?;
    ensure!(alarms.contains("NOSPACE"), "{alarms}");
    Ok(())
}

/// What the message tells the operator to do.
async fn make_space(cluster: &Cluster) -> Result<()> {
    cluster.etcdctl(&["del", "--prefix", "/junk/"]).await?;
    cluster.compact(cluster.revision().await?).await?;
    cluster.etcdctl(&["defrag"]).await?;
    cluster.etcdctl(&["alarm", "disarm"]).await?;
    Ok(())
}

/// Told to whoever reads it: what is wrong, and what to do.
fn ensure_says_full(output: &Output) -> Result<()> {
    let said = format!("{}{}", output.stdout, output.stderr);
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in ["out of space (alarm NOSPACE)", "etcdctl defrag", "etcdctl alarm disarm"] {
        ensure!(said.contains(part), "no {part:?} in {output:?}");
    }
    Ok(())
}

/// A switchover that waits for the file it names before it goes on behind the stop of the writers.
fn waiting(link: &Link, folder: &Path) -> (Vec<String>, std::path::PathBuf) {
    let go = folder.join("go-on");
    let stop = format!("--stop-writers-command=until [ -e {} ]; do sleep 0.1; done", go.display());
    (command(link, "switchover", folder, &["--yes", &stop]), go)
}

#[tokio::test]
async fn a_switchover_whose_standby_is_full_stops_and_goes_on() -> Result<()> {
    let (link, daemon) = small(small_quota()).await?;
    let folder = tempfile::tempdir()?;
    let (args, go) = waiting(&link, folder.path());
    let called = args.clone();
    let switchover = tokio::spawn(async move { run_command_with(&called, &[], STUBBORN).await });
    await_step(&link, Step::StopWriters, false).await?;
    fill(&link.standby).await?;
    std::fs::write(&go, "")?;
    let output = switchover.await??;
    ensure!(output.code == Some(2) && output.stderr.contains("give the same command again to go on"), "{output:?}");
    ensure_says_full(&output)?;
    ensure!(role(&link.standby, &link).await? == "standby", "{output:?}");
    // Once more, with the alarm still on: it is seen before anything is done.
    let before = link.synchronized_state().await?;
    let output = run_command_with(&args, &[], STUBBORN).await?;
    ensure!(output.code == Some(1) && output.stderr.contains("nothing more was changed"), "{output:?}");
    ensure_says_full(&output)?;
    ensure!(role(&link.standby, &link).await? == "standby" && link.synchronized_state().await? == before);

    make_space(&link.standby).await?;
    let output = run_command_with(&args, &[], STUBBORN).await?;
    ensure!(output.code == Some(0), "{output:?}");
    ensure!(role(&link.standby, &link).await? == "primary");
    let runs = journal(&link).await?;
    ensure!(runs.len() == 1 && runs[0].state == State::Completed && runs[0].nothing_lost(), "{runs:?}");
    let shown = run(&link, "journal", folder.path(), &[&runs[0].id]).await?;
    ensure!(shown.stdout.contains("interrupted") && shown.stdout.contains("went on"), "{shown:?}");
    drop(daemon);
    Ok(())
}

#[tokio::test]
async fn a_failover_to_a_full_standby_is_refused_and_one_that_fills_up_behind_the_promotion_goes_on() -> Result<()> {
    let (link, daemon) = small(small_quota()).await?;
    let dns = DnsFixture::new().await?;
    daemon.terminate(PATIENCE).await?;
    link.primary.kill_all()?;
    fill(&link.standby).await?;
    let before = link.synchronized_state().await?;
    let flags = dns.flags("10.0.0.2", false, true);
    let output = dns.failover(&link, &flags).await?;
    ensure!(output.code == Some(1) && output.stderr.contains("the preflight failed (alarms)"), "{output:?}");
    ensure_says_full(&output)?;
    // Who insists gets no further than the journal.
    let mut insists = flags.clone();
    insists.push("--accept=alarms".to_owned());
    let output = dns.failover(&link, &insists).await?;
    ensure!(output.code == Some(2), "{output:?}");
    ensure_says_full(&output)?;
    ensure!(link.synchronized_state().await? == before && journal(&link).await?.is_empty());
    ensure!(role(&link.standby, &link).await? == "standby");

    make_space(&link.standby).await?;
    let output = dns.failover(&link, &flags).await?;
    ensure!(output.code == Some(1) && output.stdout.contains("stopped at dns-switch"), "{output:?}");
    ensure!(role(&link.standby, &link).await? == "primary");
    fill(&link.standby).await?;
    let flags = dns.flags("10.0.0.2", true, true);
    let output = dns.failover(&link, &flags).await?;
    ensure!(output.code == Some(2), "{output:?}");
    ensure_says_full(&output)?;
    ensure!(dns.bind.count_lines("adding an RR at 'global.example.test'") == 0, "what is not journaled was done");
    make_space(&link.standby).await?;
    let output = dns.failover(&link, &flags).await?;
    ensure!(output.code == Some(0), "{output:?}");
    let runs = journal(&link).await?;
    ensure!(runs.len() == 1 && runs[0].state == State::Completed, "{runs:?}");
    ensure!(runs[0].steps.iter().filter(|record| record.step == Step::Promote).count() == 1, "{runs:?}");
    Ok(())
}

#[tokio::test]
async fn a_standby_without_a_quorum_stops_a_run_and_it_goes_on() -> Result<()> {
    let (link, daemon) = small(ClusterOptions::three()).await?;
    let folder = tempfile::tempdir()?;
    let (args, go) = waiting(&link, folder.path());
    let called = args.clone();
    let switchover = tokio::spawn(async move { run_command_with(&called, &[], STUBBORN).await });
    await_step(&link, Step::StopWriters, false).await?;
    link.standby.kill_member(0)?;
    link.standby.kill_member(1)?;
    std::fs::write(&go, "")?;
    let output = switchover.await??;
    let alone = |output: &Output| {
        let said = format!("{}{}", output.stdout, output.stderr);
        output.code == Some(2) && said.contains("no quorum") && said.contains("bring back a majority of its members")
    };
    ensure!(alone(&output) && output.stderr.contains("give the same command again to go on"), "{output:?}");
    for name in ["switchover", "failover"] {
        let again = command(&link, name, folder.path(), &["--yes"]);
        let output = run_command_with(&again, &[], STUBBORN).await?;
        ensure!(alone(&output), "{output:?}");
    }
    link.standby.restart_members(&[0, 1]).await?;
    ensure!(role(&link.standby, &link).await? == "standby");
    let output = run_command_with(&args, &[], STUBBORN).await?;
    ensure!(output.code == Some(0), "{output:?}");
    ensure!(role(&link.standby, &link).await? == "primary");
    let runs = journal(&link).await?;
    ensure!(runs.len() == 1 && runs[0].state == State::Completed && runs[0].nothing_lost(), "{runs:?}");
    drop(daemon);
    Ok(())
}

/// The copy on this machine is for people whose standby is gone, too: it must not stop anything.
#[tokio::test]
async fn a_journal_folder_that_cannot_be_written_stops_no_run() -> Result<()> {
    let (link, _daemon) = caught_up().await?;
    let folder = tempfile::tempdir()?;
    let (file, copies) = (folder.path().join("a-file"), folder.path().join("copies"));
    std::fs::write(&file, "")?;
    // In the middle of the run the folder becomes a file.
    let stop = format!("--stop-writers-command=rm -r '{0}' && touch '{0}'", copies.display());
    let warned = |output: &Output| output.stderr.matches("no copy of the journal is written").count();
    let output = run(&link, "switchover", &copies, &["--yes", &stop]).await?;
    ensure!(output.code == Some(0) && warned(&output) == 1 && copies.is_file(), "{output:?}");
    ensure!(output.stderr.contains("--journal-folder") && !output.stdout.contains("Journal "), "{output:?}");
    ensure!(journal(&link).await?[0].state == State::Completed);

    let mut args = vec!["rejoin".to_owned(), "--yes".to_owned()];
    args.extend(link.standby.flags(Side::Primary));
    args.extend(link.primary.flags(Side::Standby));
    args.push(format!("--backup={}", folder.path().join("rejoin.jsonl").display()));
    args.push(format!("--journal-folder={}", file.display()));
    let output = run_command_with(&args, &[], PATIENCE).await?;
    ensure!(output.code == Some(0) && warned(&output) == 1, "{output:?}");
    Ok(())
}

#[tokio::test]
async fn a_failover_needs_no_journal_folder() -> Result<()> {
    let (link, _daemon) = caught_up().await?;
    link.primary.kill_all()?;
    // Nobody can make a folder there, not even root.
    let output = run(&link, "failover", Path::new("/proc/etcd-sync"), &["--yes", "--accept-unchecked"]).await?;
    ensure!(output.code == Some(0), "{output:?}");
    ensure!(output.stderr.matches("no copy of the journal is written").count() == 1, "{output:?}");
    ensure!(journal(&link).await?[0].state == State::Completed && role(&link.standby, &link).await? == "primary");
    Ok(())
}
