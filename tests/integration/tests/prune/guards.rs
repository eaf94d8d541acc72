//! Refusals: too many keys, the wrong cluster, a file that cannot be written or trusted.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use etcd_sync_core::link::state::ROLE_PRIMARY;
use etcd_sync_core::scope::STATE_ROOT;
use etcd_sync_integration::etcd::ClusterOptions;
use etcd_sync_integration::exact::put_all;
use etcd_sync_integration::link::Link;
use etcd_sync_integration::tools;

use super::{held, json_of, link, plant, run};

fn many(count: usize) -> Vec<Bytes> {
    (0..count).map(|i| Bytes::from(format!("/registry/configmaps/apps/surplus-{i:04}"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_keys_need_accept_deletions() -> Result<()> {
    let link = link(2).await?;
    put_all(&link.standby, &many(101)).await?;
    let before = held(&link).await?;
    let folder = tempfile::tempdir()?;
    let backup = format!("--backup={}", folder.path().join("saved").display());
    for flags in
        [&["--yes"][..], &["--dry-run"], &["--yes", "--accept-deletions=100"], &["--yes", "--deletion-limit=99"]]
    {
        let output = run(&link, "prune", &[flags, &[&backup]].concat()).await?;
        assert_eq!(output.code, Some(1), "{}", output.stderr);
        ensure!(output.stderr.contains("then give --accept-deletions 101"), "{}", output.stderr);
        ensure!(output.stdout.contains("… and 1 more (--limit 0 shows all)"), "{}", output.stdout);
    }
    ensure!(held(&link).await? == before, "something was deleted");
    let output = run(&link, "prune", &["--yes", "--accept-deletions=101", "-o", "json", &backup]).await?;
    assert_eq!((output.code, &json_of(&output)?["result"]["deleted"]), (Some(0), &101.into()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_standby_is_written_to() -> Result<()> {
    let untouched = Link::start(ClusterOptions::default(), ClusterOptions::default()).await?;
    let output = run(&untouched, "prune", &["--yes"]).await?;
    ensure!(output.code == Some(1) && output.stderr.contains("nothing was ever synchronized"), "{}", output.stderr);

    let (other, link) = tokio::try_join!(link(2), link(2))?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("saved").display().to_string();
    let backup = format!("--backup={file}");
    plant(&link).await?;
    assert_eq!(run(&link, "prune", &["--yes", &backup]).await?.code, Some(0));
    let before = held(&link).await?;

    let output = run(&untouched, "restore", &["--yes", &file]).await?;
    ensure!(output.code == Some(1) && output.stderr.contains("no role at all"), "{}", output.stderr);
    // A standby, but another one.
    let output = run(&other, "restore", &["--yes", &file]).await?;
    ensure!(output.code == Some(1) && output.stderr.contains("give --accept-other-cluster"), "{}", output.stderr);
    ensure!(held(&other).await?.len() == 2, "put back into another cluster");
    let output = run(&other, "restore", &["--yes", "--accept-other-cluster", &file]).await?;
    ensure!(output.code == Some(0) && held(&other).await?.len() == 8, "{}{}", output.stdout, output.stderr);

    link.standby.put(&link.keys.role, ROLE_PRIMARY).await?;
    for (command, flags) in [("prune", ["--yes", &backup]), ("restore", ["--yes", &file])] {
        let output = run(&link, command, &flags).await?;
        ensure!(output.code == Some(1) && output.stderr.contains("it was promoted"), "{command}: {}", output.stderr);
    }
    ensure!(held(&link).await? == before, "a promoted cluster was written to");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_deleted_without_a_place_to_save_it() -> Result<()> {
    let link = link(2).await?;
    plant(&link).await?;
    let before = held(&link).await?;
    let folder = tempfile::tempdir()?;
    let taken = folder.path().join("taken");
    std::fs::write(&taken, "somebody's")?;
    for path in [folder.path().join("no-such-folder/saved"), taken.clone(), folder.path().to_owned()] {
        let output = run(&link, "prune", &["--yes", &format!("--backup={}", path.display())]).await?;
        ensure!(output.code == Some(2) && output.stderr.contains("nothing was deleted"), "{}", output.stderr);
    }
    assert_eq!(std::fs::read_to_string(&taken)?, "somebody's");

    // A file that may not grow beyond 1 KiB stands for a full disk.
    let full = folder.path().join("full");
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; ulimit -f 1; exec \"$0\" \"$@\""]).arg(tools::etcd_sync()?).arg("prune");
    command.args(link.flags(&["--yes", &format!("--backup={}", full.display())])).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(2) && stderr.contains("nothing was deleted"), "{stderr}");
    ensure!(!full.exists(), "half a file was left");
    ensure!(held(&link).await? == before, "something was deleted");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_whole_file_is_put_back() -> Result<()> {
    let link = link(2).await?;
    plant(&link).await?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("saved");
    let file = path.display().to_string();
    assert_eq!(run(&link, "prune", &["--yes", &format!("--backup={file}")]).await?.code, Some(0));
    let before = held(&link).await?;
    let whole = std::fs::read(&path)?;
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    let last_line = whole[..whole.len() - 1].iter().rposition(|&byte| byte == b'\n').context("one line")?;
    for (damaged, why) in [
        (&whole[..whole.len() / 2], "cut off"),
        (&whole[..last_line + 1], "cut off"),
        (&whole[..0], "no file of saved keys"),
        (&flipped, ""),
    ] {
        std::fs::write(&path, damaged)?;
        let output = run(&link, "restore", &["--yes", &file]).await?;
        ensure!(output.code == Some(2) && output.stderr.contains(why), "{}", output.stderr);
    }
    ensure!(held(&link).await? == before, "a damaged file was put back");

    std::fs::write(&path, &whole)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644))?;
    let output = run(&link, "restore", &["--dry-run", &file]).await?;
    ensure!(output.code == Some(0) && output.stderr.contains("others may read the values"), "{}", output.stderr);

    // One is in the way with another value, one with the same, one is on the primary, three are absent.
    let key = |number: usize| format!("/registry/configmaps/apps/surplus-{number}");
    link.standby.put(key(0), "another").await?;
    link.standby.put(key(1), [super::SECRET.as_bytes(), b"\x00\xfe", key(1).as_bytes()].concat()).await?;
    link.primary.put(key(2), "the primary's").await?;
    let output = run(&link, "restore", &["--yes", &file, "-o", "json"]).await?;
    assert_eq!(output.code, Some(1));
    let report = json_of(&output)?;
    let counts: Vec<String> = report["result"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|state| format!("{} {}", state["state"].as_str().unwrap_or_default(), state["count"]))
        .collect();
    assert_eq!(counts, ["put-back 3", "same 1", "differs 1", "on-primary 1"]);
    assert_eq!(link.standby.get(key(0)).await?.map(|kv| kv.value), Some(Bytes::from_static(b"another")));
    ensure!(link.standby.get(key(2)).await?.is_none());
    let state = held(&link).await?;
    ensure!(state.iter().all(|(key, _)| !key.starts_with(STATE_ROOT)));
    Ok(())
}
