//! Clusters that do not fit together are not synchronized: nothing is written until they do.

use anyhow::{Context, Result, ensure};
use etcd_sync_integration::compare::await_until;
use etcd_sync_integration::daemon::{Daemon, Output, run_command};
use etcd_sync_integration::etcd::ClusterOptions;
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::kube::{KubePair, PairOptions};
use etcd_sync_integration::link::{Link, await_ready, config_keys};
use serde_json::{Value, json};

const SECRET: &str = "/registry/secrets/team-a/password";
const OWN_SECRET: &str = "/registry/secrets/kube-system/own";
const KUBE_SYSTEM: &str = "namespaces/kube-system";

/// Two etcds that look like Kubernetes, and something to synchronize.
async fn kubernetes(standby_prefix: &str) -> Result<Link> {
    let link = Link::start(ClusterOptions::default(), ClusterOptions::default()).await?;
    link.primary.put(format!("/registry/{KUBE_SYSTEM}"), "1").await?;
    link.standby.put(format!("{standby_prefix}{KUBE_SYSTEM}"), "2").await?;
    for key in config_keys(10) {
        link.primary.put(key, "first").await?;
    }
    Ok(link)
}

/// What an API server with this key would have stored. Nobody can decrypt it.
fn encrypted(key: &str) -> String {
    format!("k8s:enc:aescbc:v1:{key}:nothing that can be decrypted")
}

async fn plan(link: &Link, more: &[&str]) -> Result<(Output, Value)> {
    let mut args = vec!["plan".to_owned(), "-o=json".to_owned()];
    args.extend(link.flags(more));
    let output = run_command(&args).await?;
    let plan: Value = serde_json::from_str(&output.stdout).with_context(|| format!("no plan: {}", output.stderr))?;
    Ok((output, plan["preflight"].clone()))
}

/// All findings of one check: (level, evidence).
fn found(findings: &Value, check: &str) -> Vec<(String, String)> {
    let all = findings.as_array().into_iter().flatten().filter(|finding| finding["check"] == check);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    all.map(|finding| (text(&finding["level"]), text(&finding["evidence"]))).collect()
}

/// Waits until the daemon is paused for this reason; nothing may have been written but the condition.
async fn await_held(link: &Link, daemon: &Daemon, text: &str) -> Result<String> {
    await_ready(daemon, 503, text, PATIENCE).await?;
    let line = daemon.wait_line(text, PATIENCE).await?;
    ensure!(line.contains("ERROR") && line.contains("reason=\"preflight\""), "{line}");
    ensure!(link.standby.get(&link.keys.role).await?.is_none(), "a link that never ran has a role");
    ensure!(link.checkpoint().await?.is_none(), "a link that never ran has a checkpoint");
    let difference = link.difference().await?;
    ensure!(difference.missed.len() >= 10, "something was copied: {difference}");
    await_until("the condition is recorded", PATIENCE, || async {
        let condition = link.standby.get(&link.keys.condition).await?;
        Ok(condition.is_none().then(|| "no condition".to_owned()))
    })
    .await?;
    Ok(line)
}

#[tokio::test]
async fn encryption_with_other_keys_is_refused_until_the_standby_has_the_same() -> Result<()> {
    let link = kubernetes("/registry/").await?;
    link.primary.put(SECRET, encrypted("key-1")).await?;
    link.standby.put(OWN_SECRET, encrypted("key-of-the-standby")).await?;
    let (output, findings) = plan(&link, &[]).await?;
    assert_eq!(output.code, Some(1), "{output:?}");
    let encryption = found(&findings, "encryption");
    assert!(encryption.len() == 1 && encryption[0].0 == "fail", "{encryption:?}");

    // Not even the operator's word makes different names the same.
    let daemon = link.daemon(&["--allow-unproved-encryption"])?;
    let line = await_held(&link, &daemon, "secrets are encrypted differently").await?;
    for part in ["key-1", "key-of-the-standby", "--encryption-config"] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    assert!(!line.contains("nothing that can be decrypted"), "a value is shown: {line}");

    // Fixed: the same daemon checks again by itself. These values cannot be decrypted, so that it goes no further than this.
    link.standby.put(OWN_SECRET, encrypted("key-1")).await?;
    daemon.wait_line("preflight passed", PATIENCE).await?;
    assert!(daemon.lines().iter().any(|line| line.contains("WARN") && line.contains("accepted")), "{}", daemon.tail());
    Ok(())
}

#[tokio::test]
async fn equal_names_of_keys_prove_nothing_without_the_config() -> Result<()> {
    let link = kubernetes("/registry/").await?;
    link.primary.put(SECRET, encrypted("key-1")).await?;
    link.standby.put(OWN_SECRET, encrypted("key-1")).await?;
    let daemon = link.daemon(&[])?;
    let line = await_held(&link, &daemon, "same names do not prove the same key").await?;
    assert!(line.contains("--encryption-config") && line.contains("--allow-unproved-encryption"), "{line}");
    assert!(daemon.terminate(PATIENCE).await?.success());
    let daemon = link.daemon(&["--allow-unproved-encryption"])?;
    daemon.wait_line("preflight passed", PATIENCE).await.map(drop)
}

const KEY_1: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const KEY_2: &str = "/wECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// An EncryptionConfiguration for Secrets with this key.
fn config(secret: &str) -> String {
    format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  \
         providers:\n  - secretbox: {{keys: [{{name: key-1, secret: {secret}}}]}}\n  - identity: {{}}\n"
    )
}

/// The configs name their keys alike, and the keys differ: only opening values shows it.
#[tokio::test]
async fn control_planes_with_other_keys_are_held_until_the_standby_has_the_right_one() -> Result<()> {
    let mut options = PairOptions::new();
    options.primary.encryption = Some(config(KEY_1));
    options.standby.encryption = Some(config(KEY_2));
    let pair = KubePair::start(options).await?;
    let secret = |namespace: &str, name: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace},
               "stringData": {"password": "hunter2"}})
    };
    pair.primary
        .api()
        .create(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team-a"}}))
        .await?;
    pair.primary.api().create(&secret("team-a", "password")).await?;
    pair.standby.api().create(&secret("kube-system", "own")).await?;

    // With the primary's config: its values open, the standby's own does not.
    let before = pair.standby_keys().await?.into_keys().filter(|key| key.starts_with(b"/registry/secrets/")).count();
    let daemon = pair.daemon(&[])?;
    let held = daemon.wait_line("not the one of this standby's API server", PATIENCE).await;
    let line = pair.explain(Some(&daemon), held)?;
    ensure!(line.contains("reason=\"preflight\"") && line.contains("/registry/secrets/kube-system/own"), "{line}");
    ensure!(!line.contains("hunter2") && !line.contains(KEY_1), "{line}");
    let after = pair.standby_keys().await?.into_keys().filter(|key| key.starts_with(b"/registry/secrets/")).count();
    ensure!(before == after && pair.link.checkpoint().await?.is_none(), "something was written");

    // Both API servers are asked, with a token and without one.
    let folder = tempfile::tempdir()?;
    let token = pair.standby.api().token("kube-system", "default").await?;
    std::fs::write(folder.path().join("token"), &token)?;
    std::fs::copy(pair.standby.authority_file(), folder.path().join("ca.crt"))?;
    let reach = [
        format!("--active-cluster-vip={}", pair.primary.address()),
        format!("--active-cluster-cacert={}", pair.primary.authority_file().display()),
        format!("--standby-api-server=https://{}", pair.standby.address()),
        format!("--standby-api-token-file={}", folder.path().join("token").display()),
    ];
    let reach: Vec<&str> = reach.iter().map(String::as_str).collect();
    let (_, findings) = plan(&pair.link, &reach).await?;
    let versions = found(&findings, "api-versions");
    ensure!(versions.len() == 1 && versions[0].0 == "pass" && versions[0].1.contains("Kubernetes v1."), "{versions:?}");
    std::fs::write(folder.path().join("token"), "not a token")?;
    let (_, findings) = plan(&pair.link, &reach).await?;
    let versions = found(&findings, "api-versions");
    ensure!(versions.len() == 1 && versions[0].0 == "warn" && versions[0].1.contains("401"), "{versions:?}");
    ensure!(!findings.to_string().contains(&token), "a token is shown");

    // Fixed as an operator would: the standby's API server gets the primary's file, and writes its own values again.
    std::fs::copy(pair.primary.encryption_file()?, pair.standby.encryption_file()?)?;
    pair.standby.kill_apiserver()?;
    pair.link.standby.etcdctl(&["del", "/registry/secrets/kube-system/own"]).await?;
    pair.standby.start_apiserver().await?;
    pair.standby.api().create(&secret("kube-system", "own")).await?;
    let synced = daemon.wait_line("Start Sync update", PATIENCE).await;
    pair.explain(Some(&daemon), synced)?;
    let copied = pair.standby.api().need("/api/v1/namespaces/team-a/secrets/password").await?;
    ensure!(copied["data"]["password"] == "aHVudGVyMg==", "{copied}");
    Ok(())
}

/// Excluded namespaces and thousands of keys lie in front of the one that tells.
#[tokio::test]
async fn the_telling_values_are_found_among_many() -> Result<()> {
    let link = kubernetes("/registry/").await?;
    for namespace in ["cert-manager", "cpaas-system", "default", "kube-system"] {
        for name in 0..5 {
            link.primary.put(format!("/registry/secrets/{namespace}/{name}"), "plain").await?;
        }
    }
    link.primary.put(SECRET, encrypted("key-1")).await?;
    // Not to be synchronized, so no reason to stop.
    link.primary.put("/registry/leases/kube-system/l", encrypted("other")).await?;
    for team in 0..30 {
        link.standby.put(format!("/registry/secrets/a-team-{team}/s"), encrypted("key-1")).await?;
    }
    link.standby.put(OWN_SECRET, encrypted("key-1")).await?;
    link.standby.put("/registry/secrets/kube-public/odd", encrypted("key-2")).await?;
    let (_, findings) = plan(&link, &[]).await?;
    let encryption = found(&findings, "encryption");
    assert_eq!(encryption.len(), 1, "{encryption:?}");
    assert!(encryption[0].1.contains("primary's secrets are encrypted with aescbc key key-1"), "{encryption:?}");
    Ok(())
}

#[tokio::test]
async fn another_prefix_is_refused_and_named() -> Result<()> {
    let link = kubernetes("/kubernetes.io/").await?;
    let daemon = link.daemon(&[])?;
    let line = await_held(&link, &daemon, "below /registry/, the standby's below /kubernetes.io/").await?;
    assert!(line.contains("--etcd-prefix"), "{line}");
    let mut args = vec!["plan".to_owned()];
    args.extend(link.flags(&[]));
    let plan = run_command(&args).await?;
    assert!(plan.stdout.starts_with("Preflight\n") && plan.stdout.contains("fail  prefix"), "{plan:?}");
    assert_eq!(plan.code, Some(1));
    Ok(())
}

#[tokio::test]
async fn a_bare_standby_and_api_servers_that_do_not_answer_are_only_warned_of() -> Result<()> {
    let link = Link::start(ClusterOptions::default(), ClusterOptions::default()).await?;
    link.primary.put(format!("/registry/{KUBE_SYSTEM}"), "1").await?;
    for key in config_keys(10) {
        link.primary.put(key, "first").await?;
    }
    // A port that nobody listens on: that of an etcd is taken, the next one need not be.
    let flags = ["--active-cluster-vip=127.0.0.1:1", "--standby-api-server=https://127.0.0.1:1"];
    let (output, findings) = plan(&link, &flags).await?;
    assert_eq!(output.code, Some(0), "{output:?}");
    let (prefix, versions) = (found(&findings, "prefix"), found(&findings, "api-versions"));
    assert!(prefix.len() == 1 && prefix[0].0 == "warn" && prefix[0].1.contains("no Kubernetes"), "{prefix:?}");
    assert!(versions.len() == 2 && versions.iter().all(|(level, _)| level == "warn"), "{versions:?}");
    let daemon = link.daemon(&flags)?;
    link.await_equal(PATIENCE).await.with_context(|| daemon.tail())?;
    let warned = daemon.lines().iter().filter(|line| line.contains("WARN") && line.contains("preflight: ")).count();
    assert_eq!(warned, 3, "{}", daemon.tail());
    Ok(())
}
