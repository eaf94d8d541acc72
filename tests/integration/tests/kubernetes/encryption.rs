//! Encryption at rest: written by a real API server, read back through the standby's, and owners still come first.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::kms_plugin::KmsPlugin;
use etcd_sync_integration::kube::objects::{APPS, create_crds, create_families, key_of, namespace, secret};
use etcd_sync_integration::kube::{KubePair, PairOptions, path};
use serde_json::Value;

use crate::owners::{ballast, complete, ready_to_collect};

const OWNERS: usize = 48;
/// What the standby's collector gets: it deletes within two seconds what has no owner.
const TIME: Duration = Duration::from_secs(8);

const OLD_KEY: &str = "b2xkIG9sZCBvbGQgb2xkIG9sZCBvbGQgb2xkIG9sZC4=";
const NEW_KEY: &str = "bmV3IG5ldyBuZXcgbmV3IG5ldyBuZXcgbmV3IG5ldy4=";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aescbc_with_two_keys() -> Result<()> {
    rotated("aescbc").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aesgcm_with_two_keys() -> Result<()> {
    rotated("aesgcm").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secretbox_with_two_keys() -> Result<()> {
    rotated("secretbox").await
}

/// Encryption that is being switched off: new values are in clear, old ones are not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn identity_before_a_key() -> Result<()> {
    let old = configuration(&[&keys("aescbc", &[("old", OLD_KEY)])]);
    let new = configuration(&["identity: {}", &keys("aescbc", &[("old", OLD_KEY)])]);
    read_back(old, new, &["k8s:enc:aescbc:v1:old:", "k8s\0"]).await
}

/// The plugin of both API servers serves the daemon too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kms_v2() -> Result<()> {
    let folder = tempfile::tempdir().context("make a folder")?;
    let plugin = KmsPlugin::start(folder.path())?;
    let config = plugin.config(&["*.*"]);
    read_back(config.clone(), config, &["k8s:enc:kms:v2:test:"]).await
}

async fn rotated(provider: &str) -> Result<()> {
    let old = configuration(&[&keys(provider, &[("old", OLD_KEY)])]);
    let new = configuration(&[&keys(provider, &[("new", NEW_KEY), ("old", OLD_KEY)]), "identity: {}"]);
    let heads = ["old", "new"].map(|key| format!("k8s:enc:{provider}:v1:{key}:"));
    read_back(old, new, &[&heads[0], &heads[1]]).await
}

/// An EncryptionConfiguration for everything there is.
fn configuration(providers: &[&str]) -> String {
    let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n";
    let providers: String = providers.iter().map(|provider| format!("  - {provider}\n")).collect();
    format!("{head}- resources: ['*.*']\n  providers:\n{providers}")
}

fn keys(provider: &str, keys: &[(&str, &str)]) -> String {
    let keys: Vec<String> = keys.iter().map(|(name, key)| format!("{{name: {name}, secret: {key}}}")).collect();
    format!("{provider}: {{keys: [{}]}}", keys.join(", "))
}

/// Families are written with the old configuration, then more with the new one; the standby has the new one. Some Secrets
/// begin with each of `heads` on both sides, and everything is read back.
async fn read_back(old: String, new: String, heads: &[&str]) -> Result<()> {
    let mut options = PairOptions::new();
    (options.primary.encryption, options.standby.encryption) = (Some(old), Some(new.clone()));
    let pair = KubePair::start(options).await?;
    let primary = pair.primary.api();
    primary.create(&namespace(APPS)).await?;
    create_crds(primary).await?;
    let mut family = create_families(primary, 0..OWNERS / 2).await?;
    pair.primary.change_encryption(&new).await?;
    family.extend(create_families(primary, OWNERS / 2..OWNERS).await?);
    ballast(&pair).await?;
    ready_to_collect(&pair.standby).await?;

    let daemon = pair.sync(&[]).await?;
    let outcome = async {
        family.push(primary.create(&secret(APPS, "later", &[])).await?);
        tokio::time::sleep(TIME).await;
        pair.caught_up().await?;
        complete(&pair, &family).await?;
        pair.await_same(PATIENCE).await?;
        same_content(&pair, &family).await?;
        stored_as(&pair, &family, heads).await
    };
    pair.explain(Some(&daemon), outcome.await)
}

/// Both API servers decrypt the same Secrets.
async fn same_content(pair: &KubePair, family: &[Value]) -> Result<()> {
    for object in family.iter().filter(|object| object["kind"] == "Secret") {
        let path = path(object)?;
        let (one, other) = tokio::try_join!(pair.primary.api().need(&path), pair.standby.api().need(&path))?;
        ensure!(one["data"]["word"].is_string() && one["data"] == other["data"], "{path} differs");
    }
    Ok(())
}

/// The bytes are the primary's, and each head is in use.
async fn stored_as(pair: &KubePair, family: &[Value], heads: &[&str]) -> Result<()> {
    let (primary, standby) = (pair.link.primary.client(), pair.link.standby.client());
    let mut seen = vec![0; heads.len()];
    for object in family.iter().filter(|object| object["kind"] == "Secret") {
        let key = key_of(object)?;
        let (one, other) = (primary.get(&key).await?.0, standby.get(&key).await?.0);
        let (one, other) = (one.context("on the primary")?.value, other.context("on the standby")?.value);
        ensure!(one == other, "{} has other bytes", path(object)?);
        for (head, seen) in heads.iter().zip(&mut seen) {
            *seen += usize::from(one.starts_with(head.as_bytes()));
        }
    }
    ensure!(seen.iter().all(|&seen| seen > 0), "the API server stored otherwise: {heads:?} were seen {seen:?} times");
    Ok(())
}
