//! Two releases of Kubernetes and of etcd on the two sides.

use anyhow::Result;
use etcd_sync_integration::exact::{PATIENCE, single};
use etcd_sync_integration::kube::objects::create_crds;
use etcd_sync_integration::kube::{KubePair, PairOptions};
use etcd_sync_integration::tools::{EtcdVersion, KubernetesVersion};

use crate::owners::{complete, prepare, ready_to_collect};
use crate::{settle, workloads};

const OWNERS: usize = 24;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_primary_and_a_newer_standby() -> Result<()> {
    mixed((KubernetesVersion::V1_34, EtcdVersion::V3_5), (KubernetesVersion::V1_36, EtcdVersion::V3_6)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_primary_and_an_older_standby() -> Result<()> {
    mixed((KubernetesVersion::V1_36, EtcdVersion::V3_6), (KubernetesVersion::V1_34, EtcdVersion::V3_5)).await
}

async fn mixed(primary: (KubernetesVersion, EtcdVersion), standby: (KubernetesVersion, EtcdVersion)) -> Result<()> {
    let (primary_etcd, standby_etcd) = (single(primary.1), single(standby.1));
    let mut options = PairOptions { primary_etcd, standby_etcd, ..PairOptions::new() };
    (options.primary.version, options.standby.version) = (primary.0, standby.0);
    let pair = KubePair::start(options).await?;
    create_crds(pair.primary.api()).await?;
    let family = prepare(&pair, OWNERS).await?;
    ready_to_collect(&pair.standby).await?;
    workloads::create(&pair).await?;
    workloads::made_by_controllers(&pair).await?;

    let daemon = pair.sync(&[]).await?;
    let outcome = async {
        workloads::change(&pair).await?;
        tokio::time::sleep(settle()? / 4).await;
        pair.caught_up().await?;
        // A name with a hash of the template is not the same in both releases: the standby's controller may have made its
        // own before the primary's arrived, and then it is a local key.
        let hashed = |key: &str| key.contains("/controllerrevisions/") || key.contains("/replicasets/");
        pair.await_same_but(PATIENCE, hashed).await?;
        complete(&pair, &family).await?;
        workloads::only_status_differs(&pair, false).await.map(drop)
    };
    pair.explain(Some(&daemon), outcome.await)
}
