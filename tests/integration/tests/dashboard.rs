//! The dashboard in a real browser: tests/e2e-web/dashboard.mjs looks and clicks, this side plants and heals what it sees.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use etcd_sync_core::etcd::kv::printable;
use etcd_sync_integration::compare::await_until;
use etcd_sync_integration::daemon::Daemon;
use etcd_sync_integration::data;
use etcd_sync_integration::etcd::ClusterOptions;
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::link::{Link, config_keys};
use etcd_sync_integration::load::load;
use etcd_sync_store::Side;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// Longest part of the browser's story between two words of it.
const STEP: Duration = Duration::from_secs(180);
const SURPLUS: &str = "/registry/secrets/team-b/left-behind";
const TOKEN: &str = "a token of this test";

/// The script in the browser; dropping it kills it, and the browser with it.
struct Browser {
    child: Child,
    says: Lines<BufReader<ChildStdout>>,
    input: ChildStdin,
}

impl Browser {
    fn start(args: &[String]) -> Result<Browser> {
        let folder = repository().join("tests/e2e-web");
        ensure!(folder.join("node_modules").is_dir(), "the browser's test is not installed: run `make web` first");
        let mut command = Command::new("node");
        command.arg("dashboard.mjs").args(args).current_dir(folder).kill_on_drop(true);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("start node")?;
        let says = BufReader::new(child.stdout.take().context("its output was asked for")?).lines();
        let input = child.stdin.take().context("its input was asked for")?;
        Ok(Browser { child, says, input })
    }

    /// Waits for the end of a step.
    async fn reached(&mut self, step: &str) -> Result<()> {
        let line = tokio::time::timeout(STEP, self.says.next_line()).await;
        let Some(line) = line.with_context(|| format!("the browser does not come to {step:?}"))?? else {
            bail!("the browser's script ended before {step:?}, its words are above");
        };
        let said: Value = serde_json::from_str(&line).with_context(|| format!("the script says {line:?}"))?;
        ensure!(said["step"] == step, "the script says {line}, not {step:?}");
        Ok(())
    }

    /// Says that it may go on.
    async fn go(&mut self, word: &str) -> Result<()> {
        self.input.write_all(format!("{word}\n").as_bytes()).await.with_context(|| format!("say {word:?}"))
    }

    async fn ended(mut self) -> Result<()> {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.context("the browser does not end")??;
        ensure!(status.success(), "the browser's script ended with {status}");
        Ok(())
    }
}

#[tokio::test]
async fn a_browser_sees_differences_come_and_go() -> Result<()> {
    let link = Link::start(ClusterOptions::default(), ClusterOptions::default()).await?;
    load(&link.primary.store(Side::Primary)?, data::kubernetes(1, 300), 4).await?;
    let keys = config_keys(2);
    for key in &keys {
        link.primary.put(key, config_map(&printable(key))).await?;
    }
    let daemon = link.daemon(&[])?;
    link.await_equal(PATIENCE).await?;

    // So slow that the progress can be seen, and values only when they are asked for.
    let flags = ["--check-interval=1s", "--deep-check-interval=0", "--check-keys-per-second=500"];
    let monitor = link.monitor(&flags)?;
    let scratch = tempfile::tempdir()?;
    let token_file = scratch.path().join("token");
    std::fs::write(&token_file, TOKEN)?;
    let token_flag = format!("--token-file={}", token_file.display());
    let guarded = link.monitor(&[&flags[..], &[&token_flag]].concat())?;
    for monitor in [&monitor, &guarded] {
        monitor.wait_line("check: consistent", PATIENCE).await?;
    }

    let mut browser = Browser::start(&[
        format!("--url={}", url(&monitor)),
        format!("--login-url={}", url(&guarded)),
        format!("--token={TOKEN}"),
        format!("--screenshots={}", screenshots(scratch.path()).display()),
    ])?;
    browser.reached("opened").await?;
    ensure!(daemon.terminate(PATIENCE).await?.success(), "the daemon did not end well");
    browser.go("stopped").await?;

    browser.reached("stopped-seen").await?;
    link.standby.delete(&keys[0]).await?;
    link.standby.put(&keys[1], config_map("changed on the standby")).await?;
    link.standby.put(SURPLUS, r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"left-behind"}}"#).await?;
    let planted = json!({
        "missed": printable(&keys[0]), "mismatched": printable(&keys[1]),
        "surplus": SURPLUS, "surplusNamespace": "team-b", "surplusResource": "secrets",
    });
    browser.go(&format!("planted {planted}")).await?;

    browser.reached("checked").await?;
    let _daemon = link.daemon(&[])?;
    link.standby.delete(SURPLUS).await?;
    // Its next change brings a value that was changed on the standby back.
    link.primary.put(&keys[1], config_map("changed on the primary")).await?;
    link.await_caught_up(PATIENCE).await?;
    await_until("the daemon puts the missed key back", PATIENCE, || async {
        let difference = link.difference().await?;
        Ok((!difference.is_empty()).then(|| difference.to_string()))
    })
    .await?;
    browser.go("healed").await?;

    browser.reached("healed-seen").await?;
    link.primary.kill_member(0)?;
    browser.go("primary-away").await?;
    browser.reached("primary-away-seen").await?;
    link.primary.restart_member(0).await?;
    browser.go("primary-back").await?;

    browser.reached("primary-back-seen").await?;
    // Its connections stay open: the page has to notice the silence.
    monitor.pause()?;
    browser.go("monitor-away").await?;
    browser.reached("monitor-away-seen").await?;
    monitor.resume()?;
    browser.go("monitor-back").await?;

    browser.reached("done").await?;
    browser.ended().await
}

fn config_map(name: &str) -> String {
    let metadata = json!({"name": name, "namespace": "team-a", "uid": "5c1d"});
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}).to_string()
}

fn url(monitor: &Daemon) -> String {
    format!("http://127.0.0.1:{}/", monitor.port())
}

/// Where pictures go: into the documents only when somebody wants them renewed.
fn screenshots(otherwise: &Path) -> PathBuf {
    match std::env::var_os("UPDATE_DOCS") {
        Some(wanted) if wanted == "1" => repository().join("docs/images"),
        _ => otherwise.to_owned(),
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
