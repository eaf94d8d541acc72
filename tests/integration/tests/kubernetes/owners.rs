//! Owners come before their dependents: the standby's garbage collector finds nothing to delete.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use etcd_sync_integration::compare::await_true;
use etcd_sync_integration::etcd::{Cluster, ClusterOptions};
use etcd_sync_integration::exact::PATIENCE;
use etcd_sync_integration::kube::objects::{
    APPS, config_map, create_crds, create_families, custom, key_of, namespace, owned_by,
};
use etcd_sync_integration::kube::{ControlPlane, KubePair, PairOptions, PlaneOptions, path};
use etcd_sync_integration::process::Process;
use etcd_sync_integration::tools::EtcdVersion;
use serde_json::{Value, json};

use crate::settle;

const OWNERS: usize = 200;
/// Large ConfigMaps, see [`ballast`].
const BALLAST: usize = 60;
const BALLAST_BYTES: usize = 800_000;
/// Never synchronized.
const SCRATCH: &str = "default";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_dependent_is_lost() -> Result<()> {
    let pair = KubePair::start(PairOptions::new()).await?;
    create_crds(pair.primary.api()).await?;
    let family = prepare(&pair, OWNERS).await?;
    let set = [family.clone(), ballast(&pair).await?].concat();
    ready_to_collect(&pair.standby).await?;
    let mirrored = Mirrored::start(&pair, &set).await?;

    let daemon = pair.sync(&["--checkpoint-interval=200ms"]).await?;
    let outcome = async {
        complete(&pair, &family).await.context("right after the first sync")?;
        tokio::time::sleep(settle()?).await;
        pair.caught_up().await?;
        complete(&pair, &family).await.context("after the standby's controllers had their time")
    };
    pair.explain(Some(&daemon), outcome.await)?;
    mirrored.report(&family).await
}

/// Custom resources can be stored as CBOR, behind a gate.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_dependent_is_lost_in_cbor() -> Result<()> {
    let mut options = PairOptions::new();
    for plane in [&mut options.primary, &mut options.standby] {
        plane.feature_gates = "CBORServingAndStorage=true".to_owned();
    }
    let pair = KubePair::start(options).await?;
    create_crds(pair.primary.api()).await?;
    let family = prepare(&pair, OWNERS / 4).await?;
    let stored = pair.link.primary.get(key_of(&family[0])?).await?.context("the primary has it")?;
    ensure!(stored.value.starts_with(&[0xd9, 0xd9, 0xf7]), "the API server stored no CBOR");
    ballast(&pair).await?;
    ready_to_collect(&pair.standby).await?;
    let daemon = pair.sync(&[]).await?;
    let outcome = async {
        tokio::time::sleep(settle()? / 6).await;
        complete(&pair, &family).await
    };
    pair.explain(Some(&daemon), outcome.await)
}

/// The namespace and the families on the primary.
pub async fn prepare(pair: &KubePair, owners: usize) -> Result<Vec<Value>> {
    pair.primary.api().create(&namespace(APPS)).await?;
    create_families(pair.primary.api(), 0..owners).await
}

/// Large ConfigMaps that keep a copy busy between the dependents and their owners.
pub async fn ballast(pair: &KubePair) -> Result<Vec<Value>> {
    let objects: Vec<Value> = (0..BALLAST)
        .map(|number| {
            let mut object = config_map(APPS, &format!("zz-ballast-{number}"), &[]);
            object["data"]["text"] = json!("x".repeat(BALLAST_BYTES));
            object
        })
        .collect();
    pair.primary.api().create_all(&objects).await
}

/// Fails when one is not [`present`], or was ever collected.
pub async fn complete(pair: &KubePair, family: &[Value]) -> Result<()> {
    pair.nothing_collected(&[APPS])?;
    present(pair, family).await
}

/// Fails unless the standby serves every object with its UID and the check misses none.
pub async fn present(pair: &KubePair, family: &[Value]) -> Result<()> {
    let report = pair.check(&[]).await?;
    ensure!(report["localMissedKeys"] == json!([]), "missed: {}", report["localMissedKeys"]);
    let served = pair.standby.api().identities().await?;
    for object in family {
        let key = String::from_utf8(key_of(object)?.to_vec())?;
        let uid = object["metadata"]["uid"].as_str();
        ensure!(served.get(&key).map(String::as_str) == uid, "{key} is absent or another one");
    }
    Ok(())
}

/// Makes the CRDs known and waits until the garbage collector watches both kinds and deletes what has no owner.
pub async fn ready_to_collect(plane: &ControlPlane) -> Result<()> {
    // A running collector learns of new kinds every 30 s; a new one at its start.
    plane.kill_controllers()?;
    create_crds(plane.api()).await?;
    plane.start_controllers()?;
    let mut absent = custom("Widget", SCRATCH, "absent", &[]);
    absent["metadata"]["uid"] = json!("00000000-0000-4000-8000-000000000000");
    let owner = owned_by(&absent);
    for orphan in [
        custom("Apple", SCRATCH, "orphan", std::slice::from_ref(&owner)),
        custom("Widget", SCRATCH, "orphan", std::slice::from_ref(&owner)),
        config_map(SCRATCH, "orphan", std::slice::from_ref(&owner)),
    ] {
        let orphan = path(&plane.api().create(&orphan).await?)?;
        let gone = || async { Ok(plane.api().get(&orphan).await?.is_none()) };
        await_true("the garbage collector works", PATIENCE, gone).await?;
    }
    Ok(())
}

/// A third control plane, which gets the same objects through `etcdctl make-mirror`.
struct Mirrored {
    plane: ControlPlane,
    etcd: Cluster,
    // Only the families lie in it: all of /registry would break the standby in other ways too.
    _source: Cluster,
    _mirror: Process,
    begun: Instant,
}

const END_OF_SET: &[u8] = b"/registry/zzz-end-of-set";

impl Mirrored {
    async fn start(pair: &KubePair, set: &[Value]) -> Result<Mirrored> {
        let source = Cluster::start(ClusterOptions::default()).await?;
        let primary = pair.link.primary.client();
        let namespace = key_of(&namespace(APPS))?;
        for key in set.iter().map(key_of).chain([Ok(namespace)]) {
            let (found, _) = primary.get(&key?).await?;
            let found = found.context("the primary has all")?;
            source.put(&found.key, &found.value).await?;
        }
        source.put(END_OF_SET, "").await?;
        let etcd = Cluster::start(ClusterOptions::default()).await?;
        let plane = ControlPlane::start("mirrored", &etcd, PlaneOptions::default()).await?;
        ready_to_collect(&plane).await?;

        let mut command = std::process::Command::new(EtcdVersion::default().program("etcdctl")?);
        command.env_clear().args(["make-mirror", "--prefix=/registry/", "--endpoints", &source.endpoints().join(",")]);
        // The destination without its scheme, as the tool wants it.
        command.arg(etcd.endpoint(0).trim_start_matches("http://"));
        command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
        let mirror = Process::spawn("etcdctl make-mirror", command)?;
        let arrived = || async { Ok(etcd.get(END_OF_SET).await?.is_some()) };
        await_true("make-mirror has copied everything", PATIENCE, arrived).await?;
        Ok(Mirrored { plane, etcd, _source: source, _mirror: mirror, begun: Instant::now() })
    }

    /// Prints what is left. Its losses are measured, not demanded.
    async fn report(&self, family: &[Value]) -> Result<()> {
        tokio::time::sleep(Duration::from_secs(10).saturating_sub(self.begun.elapsed())).await;
        let mut lost = 0;
        for object in family {
            lost += usize::from(self.etcd.get(key_of(object)?).await?.is_none());
        }
        let collected = self.plane.audit()?.into_iter().filter(|event| event.is_collected() && event.namespace == APPS);
        let (dependents, collected) = (family.len() - OWNERS, collected.count());
        println!(
            "etcdctl make-mirror: {lost} of {dependents} dependents lost ({collected} collected); etcd-sync: none"
        );
        Ok(())
    }
}
