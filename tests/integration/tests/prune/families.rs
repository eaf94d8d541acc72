//! What is put back together, also when it is encrypted.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use etcd_sync_core::etcd::kv::Revision;
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::kms_plugin::KmsPlugin;
use etcd_sync_integration::link::Link;
use etcd_sync_integration::terminal::Terminal;
use serde_json::json;

use super::{SECRET, json_of, link, run};

/// An owner and two that it owns, which come before it in the order of keys.
const FAMILY: [(&str, bool); 3] = [
    ("/registry/configmaps/apps/a", true),
    ("/registry/configmaps/apps/b", true),
    ("/registry/configmaps/apps/owner", false),
];

fn object(key: &str, owned: bool) -> Result<Vec<u8>> {
    let name = key.rsplit('/').next().context("a key has parts")?;
    let owner = json!({ "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": "uid-owner" });
    let owners = if owned { json!([owner]) } else { json!([]) };
    let metadata =
        json!({ "name": name, "namespace": "apps", "uid": format!("uid-{name}"), "ownerReferences": owners });
    let whole = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": { "a": SECRET } });
    Ok(serde_json::to_vec(&whole)?)
}

async fn revisions(link: &Link) -> Result<Vec<Option<Revision>>> {
    let mut found = Vec::new();
    for (key, _) in FAMILY {
        found.push(link.standby.get(key).await?.map(|kv| kv.mod_revision));
    }
    Ok(found)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_family_encrypted_by_a_kms_comes_back_as_one() -> Result<()> {
    let link = link(2).await?;
    let folder = tempfile::tempdir()?;
    let plugin = KmsPlugin::start(folder.path())?;
    for (key, owned) in FAMILY {
        link.standby.put(key, plugin.encrypt(key.as_bytes(), &object(key, owned)?)?).await?;
    }
    let config = folder.path().join("encryption.yaml");
    std::fs::write(&config, plugin.config(&["*.*"]))?;
    let opens = format!("--encryption-config={}", config.display());
    let file = folder.path().join("saved").display().to_string();
    let output = run(&link, "prune", &["--yes", &format!("--backup={file}"), &opens]).await?;
    ensure!(output.code == Some(0) && output.stdout.contains("owns 2 of"), "{}{}", output.stdout, output.stderr);
    assert_eq!(revisions(&link).await?, [None, None, None]);

    let closed = run(&link, "restore", &["--dry-run", &file]).await?;
    ensure!(closed.stdout.contains("Note: 3 of these are encrypted"), "{}", closed.stdout);
    let closed = json_of(&run(&link, "restore", &["--dry-run", "-o", "json", &file]).await?)?;
    assert_eq!(closed["closed"], 3);

    let output = run(&link, "restore", &["--yes", &file, &opens]).await?;
    ensure!(output.code == Some(0) && !output.stdout.contains("Note"), "{}{}", output.stdout, output.stderr);
    let [a, b, owner] = revisions(&link).await?[..] else { unreachable!("three keys") };
    ensure!(a.is_some() && a == b && a == owner, "not in one transaction: {a:?} {b:?} {owner:?}");
    Ok(())
}

/// Nobody heals what is the standby's own: what nobody can open is watched as if it were owned.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_decrypted_is_checked_again() -> Result<()> {
    let link = link(2).await?;
    let folder = tempfile::tempdir()?;
    let plugin = KmsPlugin::start(folder.path())?;
    let key = FAMILY[0].0;
    link.standby.put(key, plugin.encrypt(key.as_bytes(), &object(key, true)?)?).await?;
    let file = folder.path().join("saved").display().to_string();
    let output = run(&link, "prune", &["--yes", &format!("--backup={file}")]).await?;
    ensure!(output.code == Some(0), "{}{}", output.stdout, output.stderr);
    let flags = ["--yes", &file];
    let restoring = run(&link, "restore", &flags);
    // As the collector does.
    let collecting = async {
        let there = || async { Ok(link.standby.get(key).await?.is_some()) };
        etcd_sync_integration::compare::await_true("it is put back", PATIENCE, there).await?;
        link.standby.delete(key).await
    };
    let (output, collected) = tokio::join!(restoring, collecting);
    let (output, collected) = (output?, collected?);
    ensure!(output.code == Some(0) && output.stderr.contains("putting back"), "{}{}", output.stdout, output.stderr);
    let back = link.standby.get(key).await?.map(|kv| kv.create_revision);
    ensure!(back > Some(collected), "deleted at {collected}, and now {back:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_primary_has_got_is_not_part_of_its_family() -> Result<()> {
    let link = link(2).await?;
    for (key, owned) in FAMILY {
        link.standby.put(key, object(key, owned)?).await?;
    }
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("saved").display().to_string();
    let output = run(&link, "prune", &["--yes", &format!("--backup={file}")]).await?;
    ensure!(output.code == Some(0), "{}{}", output.stdout, output.stderr);
    let mut args = vec!["restore".to_owned()];
    args.extend(link.flags(&[&file]));
    let mut terminal = Terminal::start(&args)?;
    terminal.wait_for("Type the number of keys (3) to put them back", PATIENCE).await?;
    link.primary.put(FAMILY[0].0, Bytes::from_static(b"the primary's")).await?;
    terminal.type_line("3")?;
    let (status, shown) = terminal.wait(PATIENCE).await?;
    assert_eq!(status.code(), Some(1), "{shown}");
    ensure!(shown.contains("1  left alone: the primary has it") && shown.contains("2  put back"), "{shown}");
    let [a, b, owner] = revisions(&link).await?[..] else { unreachable!("three keys") };
    ensure!(a.is_none() && b.is_some() && b == owner, "{a:?} {b:?} {owner:?}");
    Ok(())
}
