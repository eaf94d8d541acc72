//! The alerts of the chart and the page that explains them, beside what the programs really export.

mod docs;
mod rules;

use std::path::{Path, PathBuf};

use anyhow::Result;
use etcd_sync_core::link::state::ROLE_PRIMARY;
use etcd_sync_integration::compare::await_until;
use etcd_sync_integration::daemon::Daemon;
use etcd_sync_integration::etcd::ClusterOptions;
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::exposition::Exposition;
use etcd_sync_integration::link::{Link, await_ready, config_keys};
use tokio::sync::OnceCell;

/// What both programs export, over a time in which they know everything and one in which they know nothing.
#[derive(Default)]
struct Exported {
    monitor: Exposition,
    daemon: Exposition,
    /// As they came.
    pages: Vec<String>,
}

/// The same for all tests of this program.
async fn exported() -> Result<&'static Exported> {
    static EXPORTED: OnceCell<Exported> = OnceCell::const_new();
    EXPORTED.get_or_try_init(scrape).await
}

async fn scrape() -> Result<Exported> {
    let link = Link::start(ClusterOptions::default(), ClusterOptions::default()).await?;
    link.primary.put(&config_keys(1)[0], b"1").await?;
    let mut exported = Exported::default();
    let monitor = link.monitor(&["--check-interval=1s"])?;
    exported.monitor.add(&page(&monitor).await?)?;
    let leader = link.daemon(&[])?;
    leader.wait_line("Start Sync update", PATIENCE).await?;
    let candidate = link.daemon(&[])?;
    await_ready(&candidate, 200, "", PATIENCE).await?;
    // Something that is filtered, so that the reason is counted.
    link.primary.put(b"/registry/pods/apps/cluster-local", b"1").await?;
    await_above(&leader, "etcd_sync_skipped_total").await?;
    await_above(&monitor, "etcd_sync_monitor_checked_keys").await?;
    for daemon in [&leader, &candidate] {
        let page = page(daemon).await?;
        exported.daemon.add(&page)?;
        exported.pages.push(page);
    }
    let known = page(&monitor).await?;
    exported.monitor.add(&known)?;
    exported.pages.push(known);
    // What silences the alerts of a running link.
    link.standby.put(&link.keys.role, ROLE_PRIMARY).await?;
    await_above(&monitor, "etcd_sync_monitor_role{role=\"primary\"}").await?;
    link.standby.kill_all()?;
    await_until("the standby is seen as away", PATIENCE, || async {
        let up = monitor.metric("etcd_sync_monitor_reachable{side=\"standby\"}").await;
        Ok((up != Some(0.0)).then(|| format!("{up:?}")))
    })
    .await?;
    let unknown = page(&monitor).await?;
    exported.monitor.add(&unknown)?;
    exported.pages.push(unknown);
    Ok(exported)
}

/// Waits for the page.
async fn page(program: &Daemon) -> Result<String> {
    await_until("it answers", PATIENCE, || async {
        Ok(program.http("/metrics").await.err().map(|error| error.to_string()))
    })
    .await?;
    Ok(program.http("/metrics").await?.1)
}

async fn await_above(program: &Daemon, metric: &str) -> Result<()> {
    await_until(&format!("{metric} is above 0"), PATIENCE, || async {
        let value = program.metric(metric).await;
        Ok((!value.is_some_and(|value| value > 0.0)).then(|| format!("{value:?}")))
    })
    .await
}

/// A file of the repository.
fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}
