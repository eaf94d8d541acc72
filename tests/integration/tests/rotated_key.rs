//! The API servers' keys are rotated while the synchronizer runs, and its file follows later: it waits quietly, and goes on by itself.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aws_lc_rs::cipher::{AES_256, DecryptionContext, PaddedBlockEncryptingKey, UnboundCipherKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use etcd_sync_integration::compare::{await_true, await_until};
use etcd_sync_integration::daemon::Daemon;
use etcd_sync_integration::etcd::ClusterOptions;
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::link::{Link, await_ready, config_keys};

/// More than two tries of a paused link, which come every five seconds.
const SEVERAL_TRIES: Duration = Duration::from_secs(12);

const LOCKED: &str = "cannot be decrypted";

/// The key of this number, for tests only.
fn secret(number: u8) -> [u8; 32] {
    [number; 32]
}

/// Writes the file of the API servers with the keys of these numbers, as one renames it into place.
fn write_config(file: &Path, numbers: &[u8]) -> Result<()> {
    let keys =
        numbers.iter().map(|&number| format!("{{name: key-{number}, secret: {}}}", STANDARD.encode(secret(number))));
    let keys = keys.collect::<Vec<_>>().join(", ");
    let text = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  \
         providers:\n  - aescbc: {{keys: [{keys}]}}\n  - identity: {{}}\n"
    );
    let new = file.with_extension("new");
    std::fs::write(&new, text)?;
    std::fs::rename(new, file).context("put the file in place")
}

/// What an API server stores for a Secret, encrypted with the key of this number.
fn encrypted(number: u8, name: &str) -> Result<Vec<u8>> {
    let mut object = format!(
        "{{\"apiVersion\":\"v1\",\"kind\":\"Secret\",\"metadata\":{{\"name\":\"{name}\",\"namespace\":\"team-a\",\"uid\":\"{name}\"}}}}"
    )
    .into_bytes();
    let key = UnboundCipherKey::new(&AES_256, &secret(number)).ok().context("a key")?;
    let key = PaddedBlockEncryptingKey::cbc_pkcs7(key).ok().context("a cipher")?;
    let DecryptionContext::Iv128(iv) = key.encrypt(&mut object).ok().context("it is encrypted")? else {
        anyhow::bail!("CBC has an IV")
    };
    Ok([format!("k8s:enc:aescbc:v1:key-{number}:").as_bytes(), iv.as_ref(), &object[..]].concat())
}

fn name(secret: &str) -> String {
    format!("/registry/secrets/team-a/{secret}")
}

fn pauses(daemon: &Daemon) -> usize {
    daemon.lines().iter().filter(|line| line.contains("paused: ")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_encrypted_with_a_new_key_pauses_quietly_until_the_file_has_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("encryption-provider.conf");
    let flag = format!("--encryption-config={}", file.display());
    write_config(&file, &[1])?;
    let link = Link::start(ClusterOptions::default(), ClusterOptions::default()).await?;
    link.primary.put(name("old"), encrypted(1, "old")?).await?;
    for key in config_keys(10) {
        link.primary.put(key, "first").await?;
    }
    let daemon = link.daemon(&["--checkpoint-interval=100ms", &flag])?;
    daemon.wait_line("Start Sync update", PATIENCE).await?;
    link.await_caught_up(PATIENCE).await?;

    link.primary.put(name("new"), encrypted(2, "new")?).await?;
    link.primary.put(&config_keys(1)[0], "second").await?;
    await_ready(&daemon, 503, LOCKED, PATIENCE).await?;
    await_until("the condition is recorded", PATIENCE, || async {
        let condition = link.standby.get(&link.keys.condition).await?;
        Ok(condition.is_none().then(|| "no condition".to_owned()))
    })
    .await?;
    // Several tries: no line, no write, and never for a moment as if all were well.
    let (lines, revision) = (daemon.mark(), link.standby.revision().await?);
    let quiet = async {
        loop {
            let (status, body) = daemon.http("/readyz").await?;
            ensure!(status == 503 && body.contains(LOCKED) && body.contains("key-2"), "{status}: {body}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if let Ok(ended) = tokio::time::timeout(SEVERAL_TRIES, quiet).await {
        return ended;
    }
    ensure!(daemon.mark() == lines && pauses(&daemon) == 1, "{}", daemon.tail());
    ensure!(link.standby.revision().await? == revision, "the standby was written while paused");

    // A file that is broken for a while says so, and is waited for likewise.
    std::fs::write(&file, "nonsense")?;
    await_ready(&daemon, 503, "--encryption-config", PATIENCE).await?;
    write_config(&file, &[2, 1])?;
    await_ready(&daemon, 200, "", PATIENCE).await?;
    link.await_equal(PATIENCE).await?;
    ensure!(link.standby.get(&link.keys.condition).await?.is_none(), "the condition stays");
    let output = link.run("check", &["--deep", &flag]).await?;
    ensure!(output.code == Some(0), "{output:?}");

    // A file that was renewed in time pauses nothing.
    let paused = pauses(&daemon);
    write_config(&file, &[3, 2, 1])?;
    link.primary.put(name("newest"), encrypted(3, "newest")?).await?;
    link.await_equal(PATIENCE).await?;
    ensure!(pauses(&daemon) == paused, "{}", daemon.tail());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_sync_waits_likewise_also_for_a_value_that_goes_away() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("encryption-provider.conf");
    let flag = format!("--encryption-config={}", file.display());
    write_config(&file, &[1])?;
    let link = Link::start(ClusterOptions::default(), ClusterOptions::default()).await?;
    // More than the preflight looks into.
    for number in 0..600 {
        let secret = format!("s{number:03}");
        link.primary.put(name(&secret), encrypted(if number == 300 { 2 } else { 1 }, &secret)?).await?;
    }
    let daemon = link.daemon(&["--checkpoint-interval=100ms", &flag])?;
    await_ready(&daemon, 503, LOCKED, PATIENCE).await?;
    daemon.wait_line("reason=\"undecryptable_value\"", PATIENCE).await?;
    link.primary.delete(name("s300")).await?;
    await_ready(&daemon, 200, "", PATIENCE).await?;
    link.await_equal(PATIENCE).await?;
    ensure!(pauses(&daemon) == 1, "{}", daemon.tail());
    Ok(())
}

/// The old key left the file before everything was written again with the new one, and the primary keeps no history of the value.
#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_is_to_be_put_back_waits_for_its_key_likewise() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("encryption-provider.conf");
    let flag = format!("--encryption-config={}", file.display());
    write_config(&file, &[1])?;
    let link = Link::start(ClusterOptions::default(), ClusterOptions::default()).await?;
    link.primary.put(name("old"), encrypted(1, "old")?).await?;
    let flags = ["--checkpoint-interval=100ms", &flag];
    let daemon = link.daemon(&flags)?;
    daemon.wait_line("Start Sync update", PATIENCE).await?;
    link.primary.put(&config_keys(1)[0], "later").await?;
    link.await_equal(PATIENCE).await?;
    ensure!(daemon.terminate(PATIENCE).await?.success());
    link.primary.compact(link.primary.revision().await?).await?;
    write_config(&file, &[2])?;
    let daemon = link.daemon(&flags)?;
    await_ready(&daemon, 200, "", PATIENCE).await?;
    link.standby.delete(name("old")).await?;
    await_ready(&daemon, 503, LOCKED, PATIENCE).await?;
    let lines = daemon.mark();
    if let Ok(line) = daemon.wait_line_from(lines, "Start Sync update", SEVERAL_TRIES).await {
        anyhow::bail!("it began again: {line}");
    }
    ensure!(pauses(&daemon) == 1, "{}", daemon.tail());
    write_config(&file, &[2, 1])?;
    await_true("it is put back", PATIENCE, || async { Ok(link.difference().await?.is_empty()) }).await?;
    await_ready(&daemon, 200, "", PATIENCE).await
}
