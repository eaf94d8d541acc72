//! `etcd-sync prune` and `restore` with the real program: what is deleted is saved before, and comes back byte for byte.

mod changes;
mod families;
mod guards;
mod kill;
mod running_daemon;
mod trust;

use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use etcd_sync_integration::compare::dump;
use etcd_sync_integration::daemon::{Daemon, Output, run_command};
use etcd_sync_integration::etcd::ClusterOptions;
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::link::{Link, config_keys, registry};
use serde_json::{Value, json};

/// In every value of these tests, and in no output.
const SECRET: &str = "hunter2";

/// A link that has caught up, with `mirrored` keys; its daemon is stopped.
async fn link(mirrored: usize) -> Result<Link> {
    let (link, daemon) = running(mirrored).await?;
    daemon.terminate(PATIENCE).await?;
    Ok(link)
}

async fn running(mirrored: usize) -> Result<(Link, Daemon)> {
    started(Link::start(ClusterOptions::default(), ClusterOptions::default()).await?, mirrored).await
}

async fn started(link: Link, mirrored: usize) -> Result<(Link, Daemon)> {
    for key in config_keys(mirrored) {
        link.primary.put(&key, "mirrored").await?;
    }
    let daemon = link.daemon(&["--checkpoint-interval=100ms"])?;
    daemon.wait_line("Start Sync update", PATIENCE).await?;
    link.await_caught_up(PATIENCE).await?;
    Ok((link, daemon))
}

async fn run(link: &Link, command: &str, more: &[&str]) -> Result<Output> {
    let mut args = vec![command.to_owned()];
    args.extend(link.flags(more));
    let output = run_command(&args).await?;
    for text in [&output.stdout, &output.stderr] {
        ensure!(!text.contains(SECRET), "a value is in an output of {command}");
    }
    Ok(output)
}

fn json_of(output: &Output) -> Result<Value> {
    serde_json::from_str(&output.stdout).with_context(|| format!("no JSON: {}{}", output.stdout, output.stderr))
}

async fn held(link: &Link) -> Result<Vec<(Bytes, Bytes)>> {
    let all = dump(&link.standby.client(), &registry(), 0).await?;
    Ok(all.into_values().map(|kv| (kv.key, kv.value)).collect())
}

/// Plants surplus keys with odd bytes, and one of each that must never go.
async fn plant(link: &Link) -> Result<Vec<Bytes>> {
    let mut surplus = vec![Bytes::from_static(b"/registry/configmaps/apps/\xff\\odd\x00")];
    surplus.extend((0..5).map(|i| Bytes::from(format!("/registry/configmaps/apps/surplus-{i}"))));
    for key in &surplus {
        link.standby.put(key, [SECRET.as_bytes(), b"\x00\xfe", key].concat()).await?;
    }
    link.standby.put("/registry/configmaps/kube-system/own", SECRET).await?;
    link.standby.put("/registry/minions/own", SECRET).await?;
    Ok(surplus)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pruned_comes_back_byte_for_byte() -> Result<()> {
    let link = link(5).await?;
    let surplus = plant(&link).await?;
    let before = held(&link).await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("saved.jsonl");
    let backup = format!("--backup={}", file.display());

    let planned = run(&link, "prune", &["--dry-run"]).await?;
    assert_eq!(planned.code, Some(0), "{}", planned.stderr);
    ensure!(planned.stdout.contains("6 of 6 surplus keys of link default are selected"), "{}", planned.stdout);
    ensure!(planned.stdout.contains("/registry/configmaps/apps/\\xff\\\\odd\\x00\n"), "{}", planned.stdout);
    let unasked = run(&link, "prune", &[&backup]).await?;
    assert_eq!(unasked.code, Some(1));
    ensure!(unasked.stderr.contains("no terminal to ask on"), "{}", unasked.stderr);
    ensure!(held(&link).await? == before && !file.exists(), "something was done without a word");

    let pruned = run(&link, "prune", &[&backup, "--yes"]).await?;
    assert_eq!(pruned.code, Some(0), "{}{}", pruned.stdout, pruned.stderr);
    ensure!(pruned.stdout.contains("Deleted: 6 (saved in "), "{}", pruned.stdout);
    let left: Vec<_> = before.iter().filter(|(key, _)| !surplus.contains(key)).cloned().collect();
    ensure!(held(&link).await? == left, "not exactly the surplus keys are gone");
    assert_eq!(std::fs::metadata(&file)?.permissions().mode() & 0o7777, 0o600);
    let check = run(&link, "check", &[]).await?;
    assert_eq!(check.code, Some(0), "{}", check.stdout);

    let path = file.display().to_string();
    let planned = run(&link, "restore", &[&path, "--dry-run"]).await?;
    assert_eq!(planned.code, Some(0), "{}", planned.stderr);
    ensure!(planned.stdout.contains("6  to put back") && held(&link).await? == left, "{}", planned.stdout);
    let unasked = run(&link, "restore", &[&path]).await?;
    ensure!(unasked.code == Some(1) && held(&link).await? == left, "put back without a word");
    let restored = run(&link, "restore", &[&path, "--yes"]).await?;
    assert_eq!(restored.code, Some(0), "{}{}", restored.stdout, restored.stderr);
    ensure!(held(&link).await? == before, "not everything is back byte for byte");
    let again = json_of(&run(&link, "restore", &[&path, "--yes", "-o", "json"]).await?)?;
    assert_eq!(again["plan"], json!([{ "state": "same", "count": 6, "keys": again["plan"][0]["keys"] }]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_selected_goes() -> Result<()> {
    let link = link(2).await?;
    plant(&link).await?;
    link.standby.put("/registry/secrets/shop/a", SECRET).await?;
    link.standby.put("/registry/namespaces/shop", SECRET).await?;
    let folder = tempfile::tempdir()?;
    let backup = format!("--backup={}", folder.path().join("a").display());
    let odd = r"--key=/registry/configmaps/apps/\xff\\odd\x00";
    let output =
        run(&link, "prune", &[&backup, odd, "--key=/registry/configmaps/team-a/settings-0000", "--yes"]).await?;
    assert_eq!(output.code, Some(0), "{}{}", output.stdout, output.stderr);
    ensure!(output.stdout.contains("Not surplus, so not selected: /registry/configmaps/team-a/settings-0000"));
    ensure!(output.stdout.contains("Deleted: 1 "), "{}", output.stdout);
    let plan = json_of(&run(&link, "prune", &["--namespace=shop", "-o", "json", "--dry-run"]).await?)?;
    let keys: Vec<&Value> = plan["plan"]["keys"].as_array().into_iter().flatten().map(|key| &key["key"]).collect();
    assert_eq!(keys, [&json!("/registry/namespaces/shop"), &json!("/registry/secrets/shop/a")]);
    assert_eq!(plan["plan"]["warnings"][0]["kind"], "namespace");
    let backup = format!("--backup={}", folder.path().join("b").display());
    let output = run(&link, "prune", &[&backup, "--below=/registry/secrets/", "--yes", "-o", "json"]).await?;
    let report = json_of(&output)?;
    assert_eq!((&report["result"]["deleted"], &report["refused"]), (&json!(1), &json!(null)));
    // Nothing has an age here: these values are no objects.
    let report = json_of(&run(&link, "prune", &["--older-than=1h", "--yes", "-o", "json"]).await?)?;
    assert_eq!((&report["plan"]["selected"], &report["plan"]["ageUnknown"]), (&json!(0), &json!(6)));
    // Made while no daemon ran: on no record, and yet nobody takes them for mirrored.
    for (origin, count) in [("--origin=leftover", 0), ("--origin=local", 6), ("--origin=all", 6)] {
        let report = json_of(&run(&link, "prune", &[origin, "--dry-run", "-o", "json"]).await?)?;
        assert_eq!(report["plan"]["selected"], count, "{origin}");
    }
    Ok(())
}
