//! A namespace that ends on the primary ends on the standby, with all that is in it there, and nothing else does.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use bytes::Bytes;
use etcd_sync_core::etcd::kv::printable;
use etcd_sync_integration::compare::{await_true, await_until};
use etcd_sync_integration::exact::{Keys, PATIENCE};
use etcd_sync_integration::kube::objects::{APPS, config_map, create_crds, custom, namespace, secret};
use etcd_sync_integration::kube::{KubePair, PairOptions, path};
use serde_json::json;

use crate::workloads;

const KEPT: &str = "kept";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_namespace_disappears_alone() -> Result<()> {
    let pair = KubePair::start(PairOptions::new()).await?;
    let primary = pair.primary.api();
    primary.create_all(&[namespace(APPS), namespace(KEPT)]).await?;
    create_crds(primary).await?;
    workloads::create(&pair).await?;
    workloads::made_by_controllers(&pair).await?;
    for name in [APPS, KEPT] {
        let mut blocked = config_map(name, "blocked", &[]);
        blocked["metadata"]["finalizers"] = json!(["example.com/hold"]);
        primary.create_all(&[blocked, secret(name, "word", &[]), custom("Widget", name, "one", &[])]).await?;
    }

    let daemon = pair.sync(&[]).await?;
    let outcome = async {
        // Pods, CA and more that the standby's own controllers add.
        await_true("the standby's controllers act on the namespace", PATIENCE, || async {
            let keys = pair.standby_keys().await?;
            Ok(["/registry/pods/", "/registry/configmaps/"].iter().all(|kind| local(&keys, kind)))
        })
        .await?;
        let before = names(&pair.standby_keys().await?, |key| !inside(key, APPS));

        primary.delete(&path(&namespace(APPS))?).await?;
        // The finalizer keeps the namespace terminating on both sides until somebody lets go.
        let blocked = path(&config_map(APPS, "blocked", &[]))?;
        primary.patch(&blocked, &json!({"metadata": {"finalizers": null}})).await?;
        let place = path(&namespace(APPS))?;
        await_true("the primary has ended the namespace", PATIENCE, || async {
            Ok(primary.get(&place).await?.is_none())
        })
        .await?;
        pair.caught_up().await?;
        await_until("nothing of the namespace is left", PATIENCE, || async {
            let left = names(&pair.standby_keys().await?, |key| inside(key, APPS));
            Ok((!left.is_empty()).then(|| format!("{left:?}")))
        })
        .await?;

        let after = names(&pair.standby_keys().await?, |_| true);
        let lost: Vec<_> = before.difference(&after).collect();
        ensure!(lost.is_empty(), "the standby also lost {lost:?}");
        pair.await_same(PATIENCE).await
    };
    pair.explain(Some(&daemon), outcome.await)
}

/// Whether the key of an object names this namespace, or is the namespace.
fn inside(key: &[u8], namespace: &str) -> bool {
    key.split(|&byte| byte == b'/').any(|segment| segment == namespace.as_bytes())
}

fn local(keys: &Keys, kind: &str) -> bool {
    let begins = format!("{kind}{APPS}/");
    keys.keys().any(|key| key.starts_with(begins.as_bytes()) && (kind.contains("pods") || key.ends_with(b"ca.crt")))
}

/// Keys that stay until somebody deletes them: none that hang on a lease.
fn names(keys: &Keys, wanted: impl Fn(&Bytes) -> bool) -> BTreeSet<String> {
    keys.iter().filter(|(key, kv)| kv.lease == 0 && wanted(key)).map(|(key, _)| printable(key)).collect()
}
